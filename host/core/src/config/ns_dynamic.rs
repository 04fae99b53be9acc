//! `<namespace>/ns_dynamic.toml`: what may change while the namespace runs.

use toml::Table;

use super::dynamic::{Remote, fallback_hostname, read_hosts};
use super::keys::Keys;
use super::log::{ModuleLevels, NAMESPACE_MODULES, read_modules};
use crate::types::{Hostname, NodeRole};

/// The keys of `ns_dynamic.toml` that we honour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NsDynamic {
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
    /// `[[nodes]]`: the nodes that make blocks; on a standby its provider, on an nvp those it may follow, in this order.
    pub nodes: Vec<Hostname>,
    /// `p2p.ip.remote.hosts`: where they are, beside what dynamic.toml says.
    pub remote_hosts: Vec<Remote>,
    /// `log.module.*`.
    pub log_modules: ModuleLevels,
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
        let nodes = read_nodes(keys);
        for (key, why) in [
            ("self.new", "a node joins no running chain yet"),
            ("self.trustNodes", "a chain has one node that makes blocks"),
        ] {
            let asked = keys.flag(key, false);
            keys.remark_when(asked, key, why);
        }
        for key in ["log.dump_interval", "log.max_log_size"] {
            let set = keys.raw(key).is_some();
            keys.remark_when(set, key, "one log serves all namespaces: set it in dynamic.toml");
        }
        Self {
            batch_size: keys.number("consensus.pool.batch_size", 500, 1, 100_000) as usize,
            pool_size: keys.number("consensus.pool.pool_size", 50_000, 1, 10_000_000) as usize,
            n: keys.number("self.n", 1, 0, 10_000),
            hostname,
            role,
            nodes,
            remote_hosts: read_hosts(keys),
            log_modules: read_modules(keys, &NAMESPACE_MODULES),
        }
    }
}

/// `[[nodes]]`: the VPs. With SOLO there is nobody to connect to.
fn read_nodes(keys: &mut Keys) -> Vec<Hostname> {
    let mut known: Vec<Hostname> = Vec::new();
    for table in keys.tables("nodes") {
        match check_node(&table) {
            Ok(hostname) if known.contains(&hostname) => {
                let what = format!("{hostname} stands there twice");
                keys.problem("nodes.hostname", what, "remove one of them");
            }
            Ok(hostname) => known.push(hostname),
            Err(what) => keys.problem("nodes", what, "write hostname = \"node1\" and score = 10"),
        }
    }
    known
}

fn check_node(table: &Table) -> Result<Hostname, String> {
    let name = table
        .get("hostname")
        .and_then(|v| v.as_str())
        .ok_or("an entry has no hostname")?;
    if let Some(score) = table
        .get("score")
        .filter(|score| score.as_integer().is_none_or(|s| s < 0))
    {
        return Err(format!("score {score} is not a whole number"));
    }
    Hostname::new(name).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (NsDynamic, usize, Vec<String>) {
        let mut keys = Keys::parse("global/ns_dynamic.toml", text);
        let read = NsDynamic::read(&mut keys);
        let (problems, remarks) = keys.finish();
        (
            read,
            problems.len(),
            remarks.into_iter().map(|remark| remark.key).collect(),
        )
    }

    #[test]
    fn bad_nodes_are_problems() {
        for bad in [
            "[[nodes]]\nscore = 1",
            "[[nodes]]\nhostname = \"a b\"",
            "[[nodes]]\nhostname = \"node1\"\nscore = -1",
            "[[nodes]]\nhostname = \"node1\"\n[[nodes]]\nhostname = \"node1\"",
            "[consensus]\nalgo = \"RBFT\"",
        ] {
            assert_eq!(read(bad).1, 1, "{bad}");
        }
        assert_eq!(read("[[nodes]]\nhostname = \"node1\"\nscore = 10").1, 0);
    }

    #[test]
    fn what_is_asked_for_and_not_done_is_named() {
        let quiet = read("[self]\nnew = false\ntrustNodes = false\n[log.module]\nconsensus = \"INFO\"");
        assert_eq!((quiet.1, quiet.2.len(), quiet.0.log_modules.len()), (0, 0, 1));
        let (_, problems, remarks) =
            read("[self]\nnew = true\n[log]\nmax_log_size = \"1gb\"\n[log.module]\nhvm = \"INFO\"");
        assert_eq!(problems, 0);
        assert_eq!(remarks, ["self.new", "log.max_log_size", "log.module.hvm"]);
    }
}
