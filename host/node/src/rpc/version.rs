//! `version_get*`: what versions this node speaks. One table, the same on every node of a release.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Context;
use super::envelope::{Outcome, json};
use super::error::RpcError;
use super::params::Params;

/// The platform version that this node behaves as.
const PLATFORM: &str = "2.11.0";
/// Transaction versions whose texts and hashes the verifier knows.
const TX_VERSIONS: [&str; 16] = [
    "1.0", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "2.9", "3.0", "3.1", "3.4", "3.5", "3.6",
];
/// Version of blocks, encodings and consensus.
const ONE: &str = "1.0";

/// Answers `method` (without its prefix), or None if the family has no such method.
pub fn answer(method: &str, params: &Params, context: &Context) -> Option<Outcome> {
    Some(match method {
        "getVersions" => versions(),
        "getHyperchainVersionFromBin" => from_binary(params),
        "getSupportedVersionByHostname" => supported(params, context),
        _ => return None,
    })
}

#[derive(Serialize, Clone, Copy)]
struct Versions<T> {
    tx_version: T,
    block_version: T,
    encode_version: T,
    consensus_version: T,
    rbft_version: T,
    noxbft_version: T,
}

const RUNNING: Versions<&str> = Versions {
    tx_version: "3.6",
    block_version: ONE,
    encode_version: ONE,
    consensus_version: ONE,
    rbft_version: ONE,
    noxbft_version: ONE,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionResult {
    available_hyperchain_versions: BTreeMap<&'static str, Versions<&'static str>>,
    running_hyperchain_versions: BTreeMap<&'static str, Versions<&'static str>>,
}

fn versions() -> Outcome {
    let one = BTreeMap::from([(PLATFORM, RUNNING)]);
    json(&VersionResult {
        available_hyperchain_versions: one.clone(),
        running_hyperchain_versions: one,
    })
}

fn from_binary(params: &Params) -> Outcome {
    let asked = params.text(0, "version")?;
    if asked == PLATFORM {
        return json(&RUNNING);
    }
    let shown: String = asked.chars().take(40).collect();
    Err(RpcError::not_found(format!(
        "Not found version {shown}: this binary has {PLATFORM}"
    )))
}

fn supported(params: &Params, context: &Context) -> Outcome {
    let host = params.text(0, "hostname")?;
    // A standby answers for the node it stands by, whose blocks it holds: the same table.
    if !context.knows_host(host)? {
        let shown: String = host.chars().take(64).collect();
        return Err(RpcError::not_found(format!("Not found node {shown}")));
    }
    json(&Versions {
        tx_version: TX_VERSIONS.to_vec(),
        block_version: vec![ONE],
        encode_version: vec![ONE],
        consensus_version: vec![ONE],
        rbft_version: vec![ONE],
        noxbft_version: vec![ONE],
    })
}
