//! Which changes of the configuration must be on both nodes before they count: the host's floor, below which no strategy may go.

/// Keys of `dynamic.toml` that are strong, by their first names.
const DYNAMIC: [&str; 7] = [
    "namespace",
    "p2p.ip.remote",
    "cvp.strong_timeout",
    "cvp.max_rate",
    "cvp.retain_bytes",
    "log.module",
    "self",
];

/// Keys of `ns_static.toml` and `ns_dynamic.toml` that are strong.
const NAMESPACE: [&str; 8] = [
    "strategy",
    "p2p.ip.remote",
    "nodes",
    "self",
    "service",
    "database.indexdb.layer1.enable",
    "consensus.algo",
    "log.module",
];

/// Keys that each node keeps for itself, also over an upgrade: where it listens, what it is, where its files are.
const LOCAL: [(&str, &str); 17] = [
    ("dynamic.toml", "cvp.enable"),
    ("dynamic.toml", "cvp.node_type"),
    ("dynamic.toml", "cvp.remote"),
    ("dynamic.toml", "port"),
    ("dynamic.toml", "p2p.ip.self"),
    ("dynamic.toml", "log.dump_interval"),
    ("dynamic.toml", "log.max_log_size"),
    ("system.toml", "log.dump_file"),
    ("system.toml", "log.log_dir"),
    ("system.toml", "http"),
    ("system.toml", "metrics.port"),
    ("system.toml", "p2p.address"),
    ("system.toml", "p2p.ipc"),
    ("system.toml", "p2p.tls"),
    (NS_STATIC, "database.indexdb.mongodb"),
    (NS_STATIC, "database.indexdb.tempdb"),
    (NS_STATIC, "database.indexdb.layer2"),
];

/// Stands for the `ns_static.toml` of every namespace.
const NS_STATIC: &str = "ns_static.toml";

/// How a change of a key reaches the standby.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// Acknowledged only when both ends hold it durably.
    Strong,
    /// Carried by the next inventory, within about a second.
    Weak,
}

pub(super) fn is_below(key: &str, of: &str) -> bool {
    key.strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The weight that the host insists on, of `key` in `file` (relative to `configuration/`).
pub fn weight(file: &str, key: &str) -> Weight {
    let strong: &[&str] = match file {
        "dynamic.toml" => &DYNAMIC,
        "system.toml" => &["log.log_level"],
        _ => &NAMESPACE,
    };
    if strong.iter().any(|of| is_below(key, of)) {
        Weight::Strong
    } else {
        Weight::Weak
    }
}

/// The keys of `file` that a node keeps for itself; a name stands for all below it. `p2p.tls` stands for every key that begins so.
pub fn local_keys(file: &str) -> impl Iterator<Item = &'static str> + '_ {
    let name = match file.split_once('/') {
        Some((_, NS_STATIC)) => NS_STATIC,
        _ => file,
    };
    LOCAL.iter().filter(move |(of, _)| *of == name).map(|(_, key)| *key)
}

/// Whether a node keeps `key` of `file` for itself.
pub fn is_local(file: &str, key: &str) -> bool {
    local_keys(file).any(|of| is_below(key, of) || (of == "p2p.tls" && key.starts_with(of)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_strong_and_what_is_the_nodes_own_is_local() {
        for (file, key, strong, local) in [
            ("dynamic.toml", "cvp.max_rate", true, false),
            ("dynamic.toml", "cvp.max_rates", false, false),
            ("dynamic.toml", "cvp.enable", false, true),
            ("dynamic.toml", "cvp.heartbeat", false, false),
            ("dynamic.toml", "port.jsonrpc", false, true),
            ("dynamic.toml", "self", true, false),
            ("dynamic.toml", "log.module.cvp", true, false),
            ("global/ns_static.toml", "strategy.chain-sync.id", true, false),
            ("global/ns_static.toml", "ledger.keep_blocks", false, false),
            ("global/ns_static.toml", "database.indexdb.layer1.enable", true, false),
            ("ns1/ns_static.toml", "database.indexdb.mongodb.uri", false, true),
            ("ns1/ns_static.toml", "database.indexdb.layer2.active", false, true),
            ("ns1/ns_dynamic.toml", "database.indexdb.mongodb.uri", false, false),
            ("system.toml", "log.log_level", true, false),
            ("system.toml", "log.log_dir", false, true),
            ("system.toml", "p2p.tlsCert", false, true),
            ("system.toml", "p2p.enableTLS", false, false),
            ("system.toml", "http.address", false, true),
        ] {
            assert_eq!(weight(file, key) == Weight::Strong, strong, "{file} {key}");
            assert_eq!(is_local(file, key), local, "{file} {key}");
        }
    }
}
