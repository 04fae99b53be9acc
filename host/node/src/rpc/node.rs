//! `node_get*`: what this node says of itself. The only answers that differ between a node and its standby.

use cvp_core::chain::node_hash;
use cvp_core::record::public_hash;
use cvp_core::types::NodeRole;
use serde::Serialize;

use super::Context;
use super::envelope::{Outcome, json};

/// Answers `method` (without its prefix), or None if the family has no such method.
pub fn answer(method: &str, context: &Context) -> Option<Outcome> {
    Some(match method {
        "getNodes" => nodes(context),
        "getNodeStates" => states(context),
        "getNodeHash" => json(&own_hash(context)),
        _ => return None,
    })
}

fn own_hash(context: &Context) -> String {
    node_hash(context.facts.hostname.as_str(), context.chain.namespace().as_str())
}

/// Status of a node: alive, or not known to be.
const ALIVE: u32 = 0;
const PENDING: u32 = 1;

#[derive(Serialize)]
struct NodeShape {
    id: u32,
    ip: String,
    port: String,
    namespace: String,
    hash: String,
    hostname: String,
    #[serde(rename = "isPrimary")]
    is_primary: bool,
    isvp: bool,
    #[serde(rename = "peerType")]
    peer_type: String,
    status: u32,
    delay: u64,
}

fn nodes(context: &Context) -> Outcome {
    let facts = &context.facts;
    let makes = context.makes_blocks();
    let namespace = context.chain.namespace();
    let role = facts.roles.get(namespace).copied();
    let reached = context.chain.reaches();
    let mut nodes = vec![NodeShape {
        id: 1,
        ip: facts.ip.clone(),
        port: facts.p2p_port.to_string(),
        namespace: context.chain.namespace().to_string(),
        hash: own_hash(context),
        hostname: facts.hostname.to_string(),
        is_primary: makes,
        isvp: makes,
        peer_type: role.unwrap_or(context.chain.options().role).as_str().to_uppercase(),
        status: 0,
        delay: 0,
    }];
    for (hostname, ip, port) in facts.vps.get(namespace).into_iter().flatten() {
        nodes.push(NodeShape {
            id: nodes.len() as u32 + 1,
            ip: ip.clone(),
            port: port.to_string(),
            namespace: namespace.to_string(),
            hash: node_hash(hostname.as_str(), namespace.as_str()),
            hostname: hostname.to_string(),
            is_primary: true,
            isvp: true,
            peer_type: NodeRole::Vp.as_str().to_uppercase(),
            status: if reached.as_ref() == Some(hostname) {
                ALIVE
            } else {
                PENDING
            },
            delay: 0,
        });
    }
    json(&nodes)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StateShape {
    id: u32,
    hostname: String,
    hash: String,
    status: &'static str,
    view: u64,
    epoch: u64,
    checkpoint: u64,
    block_height: u64,
    block_hash: String,
}

fn states(context: &Context) -> Outcome {
    let applied = context.chain.ledger().tips().applied;
    json(&[StateShape {
        id: 1,
        hostname: context.facts.hostname.to_string(),
        hash: own_hash(context),
        status: if context.makes_blocks() || context.chain.reaches().is_some() {
            "NORMAL"
        } else {
            "IDLE"
        },
        view: 0,
        epoch: 0,
        checkpoint: applied.height,
        block_height: applied.height,
        block_hash: hex::encode(public_hash(&applied)),
    }])
}
