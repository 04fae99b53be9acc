//! Peers made of core's codecs and TLS alone, with the pair's own certificates: they can say what no node says.
//!
//! They keep no state of a node and check nothing: the tests say each frame.

mod online;
mod standby;
mod wire;

pub use online::{Guise, Online};
pub use standby::{Standby, hello};
pub use wire::{Heard, TlsSet, Wire};

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use cvp_core::chain::{Genesis, genesis};
use cvp_core::config;
use cvp_core::record::parse;
use cvp_core::session::{NamespaceOffer, StrategyId};
use cvp_core::types::{Malformed, Namespace, NodeRole, Position};

/// Genesis of every namespace that the configuration of `root` names.
pub fn geneses(root: &Path) -> Result<BTreeMap<Namespace, Position>> {
    let loaded = config::load(&texts(&root.join("configuration"))?).map_err(|problems| anyhow!("{problems:?}"))?;
    let mut found = BTreeMap::new();
    for (namespace, ns) in loaded.config.namespaces {
        let nodes = ns.genesis.nodes.iter();
        let content = Genesis {
            ca_mode: ns.genesis.ca_mode.clone(),
            root_ca: ns.genesis.root_ca.clone(),
            alloc: ns.genesis.alloc.clone(),
            nodes: nodes
                .map(|node| (node.hostname.to_string(), node.certificate.clone()))
                .collect(),
        };
        let record = genesis(&namespace, &content).map_err(bad)?;
        found.insert(namespace, parse(&record).map_err(bad)?.position());
    }
    Ok(found)
}

/// The configuration below `directory`, by the names that core knows.
fn texts(directory: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().context("a file without name")?.to_string_lossy();
        if path.is_dir() {
            let below = texts(&path)?.into_iter();
            files.extend(below.map(|(file, text)| (format!("{name}/{file}"), text)));
        } else {
            files.insert(name.into_owned(), std::fs::read_to_string(&path)?);
        }
    }
    Ok(files)
}

/// What a peer offers of a namespace in its hello.
fn offer(namespace: &Namespace, role: NodeRole, genesis: Position, tip: Position) -> NamespaceOffer {
    NamespaceOffer {
        namespace: namespace.clone(),
        role,
        genesis: genesis.hash,
        tip,
        at_peer_tip: None,
        history_from: 0,
        strategies: vec![StrategyId {
            kind: "chain-sync".into(),
            id: "default".into(),
            version: "0.0.0".into(),
            sha256: [0; 32],
        }],
        index: None,
    }
}

fn bad(error: Malformed) -> anyhow::Error {
    anyhow!("{error}")
}
