//! What the tests of a take-over share: a loaded pair, a node that goes on, one that was fenced.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_core::record::parse;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, configured_jsonrpc};
use cvp_pair::signer::{ec, send_many};
use cvp_pair::wait;
use serde_json::{Value, json};

/// Steps of a promotion, in order.
pub const STEPS: [&str; 7] = [
    "fence",
    "identity",
    "configuration",
    "roles",
    "takeover",
    "serve",
    "done",
];

/// Copied height, and the block there as both nodes answer it.
pub fn loaded(pair: &Pair) -> Result<(u64, Value)> {
    let rpc = pair.provider.rpc();
    send_many(&rpc, &ec()?, 10)?;
    let height = rpc.height()?;
    pair.wait_durable("global", height)?;
    Ok((height, rpc.call("block_getBlockByNumber", json!([height, false]))?))
}

/// The promoted node has `block` at `height`, a take-over block above it, and makes more.
pub fn goes_on(node: &Node, height: u64, block: &Value) -> Result<()> {
    let rpc = node.rpc();
    let found = rpc.call("block_getBlockByNumber", json!([height, false]))?;
    ensure!(found == *block, "block {height} was {block} and is {found}");
    let before = rpc.height()?;
    ensure!(before > height, "no take-over block above {height}");
    send_many(&rpc, &ec()?, 3)?;
    ensure!(rpc.height()? > before, "no block after the take-over");
    node.verify()
}

/// Waits until the node says that it was fenced and its JSON-RPC port is closed; answers the height it stopped at.
pub fn fenced(node: &Node) -> Result<u64> {
    let status = node.wait_status("status says fenced", Duration::from_secs(15), |s| {
        let mut reasons = s["reasons"].as_array().into_iter().flatten();
        reasons.any(|reason| reason["code"] == "fenced")
    })?;
    ensure!(status["normal"] == false, "{status}");
    let port = configured_jsonrpc(node.root())?;
    wait::until("its JSON-RPC port is closed", Duration::from_secs(10), || {
        Ok(match std::net::TcpStream::connect(&port) {
            Err(_) => Ok(()),
            Ok(_) => Err("it accepts".into()),
        })
    })?;
    tip(node)
}

/// The node's own durable height.
pub fn tip(node: &Node) -> Result<u64> {
    let status = node.status()?;
    status["namespaces"][0]["tip"]
        .as_u64()
        .with_context(|| status.to_string())
}

/// Where a record lies on a node's disk.
pub struct Found {
    /// The segment file.
    pub segment: PathBuf,
    /// Where the record begins in it.
    pub offset: u64,
    /// The record as it is stored.
    pub bytes: Vec<u8>,
}

/// Finds the record at `height` of namespace `global` by walking the segments of a root.
pub fn find_record(root: &Path, height: u64) -> Result<Found> {
    let log = root.join("namespaces/global/data/log");
    for entry in std::fs::read_dir(&log)? {
        let segment = entry?.path();
        if segment.extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        let bytes = std::fs::read(&segment)?;
        // Records follow the header of 64 bytes back to back.
        let mut at = 64;
        while let Ok(record) = parse(bytes.get(at..).unwrap_or_default()) {
            if record.header().height == height {
                return Ok(Found {
                    offset: at as u64,
                    bytes: bytes[at..at + record.len()].to_vec(),
                    segment,
                });
            }
            at += record.len();
        }
    }
    anyhow::bail!("record {height} is not in {}", log.display())
}
