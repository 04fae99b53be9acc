//! `<namespace>/ns_dynamic.toml`: what may change while the namespace runs.

use toml::Table;

use super::dynamic::fallback_hostname;
use super::keys::Keys;
use crate::types::{Hostname, NodeRole};

/// `consensus.algo`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// One node makes the blocks.
    Solo,
}

/// One `[[nodes]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NsNode {
    /// `hostname`.
    pub hostname: Hostname,
    /// `score`.
    pub score: u64,
}

/// The keys of `ns_dynamic.toml` that we honour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NsDynamic {
    /// `consensus.algo`.
    pub algorithm: Algorithm,
    /// `consensus.pool.batch_size`: transactions a block.
    pub batch_size: usize,
    /// `consensus.pool.pool_size`: transactions waiting.
    pub pool_size: usize,
    /// `self.n`: number of VPs connected.
    pub n: u64,
    /// `self.hostname`.
    pub hostname: Hostname,
    /// `self.type`.
    pub role: NodeRole,
    /// `[[nodes]]`: the VPs.
    pub nodes: Vec<NsNode>,
}

impl NsDynamic {
    pub(super) fn read(keys: &mut Keys) -> Self {
        let algo = keys.text("consensus.algo", "SOLO");
        if !algo.eq_ignore_ascii_case("solo") {
            keys.problem(
                "consensus.algo",
                format!("{algo:?} is not supported by this node yet"),
                "write \"SOLO\"",
            );
        }
        let kind = keys.text("self.type", "vp");
        let role = match kind.to_ascii_lowercase().as_str() {
            "vp" => NodeRole::Vp,
            "nvp" => NodeRole::Nvp,
            "cvp" => NodeRole::Cvp,
            _ => {
                let what = format!("{kind:?} is no type of node that this binary can be");
                keys.problem("self.type", what, "write \"vp\", \"nvp\" or \"cvp\"");
                NodeRole::Vp
            }
        };
        let name = keys.text("self.hostname", "node1");
        let hostname = Hostname::new(&name).unwrap_or_else(|error| {
            let help = "write the same name as `self` in dynamic.toml";
            keys.problem("self.hostname", error.to_string(), help);
            fallback_hostname()
        });
        Self {
            algorithm: Algorithm::Solo,
            batch_size: keys.number("consensus.pool.batch_size", 500, 1, 100_000) as usize,
            pool_size: keys.number("consensus.pool.pool_size", 50_000, 1, 10_000_000) as usize,
            n: keys.number("self.n", 1, 0, 10_000),
            hostname,
            role,
            nodes: read_nodes(keys),
        }
    }
}

fn read_nodes(keys: &mut Keys) -> Vec<NsNode> {
    let mut out: Vec<NsNode> = Vec::new();
    for table in keys.tables("nodes") {
        match read_node(&table) {
            Ok(node) if out.iter().any(|known| known.hostname == node.hostname) => {
                let what = format!("{} stands there twice", node.hostname);
                keys.problem("nodes.hostname", what, "remove one of them");
            }
            Ok(node) => out.push(node),
            Err(what) => keys.problem("nodes", what, "write hostname = \"node1\" and score = 10"),
        }
    }
    out
}

fn read_node(table: &Table) -> Result<NsNode, String> {
    let name = table
        .get("hostname")
        .and_then(|v| v.as_str())
        .ok_or("an entry has no hostname")?;
    let score = match table.get("score") {
        None => 10,
        Some(score) => score
            .as_integer()
            .and_then(|s| u64::try_from(s).ok())
            .ok_or_else(|| format!("score {score} is not a whole number"))?,
    };
    Ok(NsNode {
        hostname: Hostname::new(name).map_err(|error| error.to_string())?,
        score,
    })
}
