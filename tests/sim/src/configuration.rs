//! The configuration of a simulated node: real files, read and edited by core as the node's are.

use std::collections::{BTreeMap, BTreeSet};

use cvp_core::config::{self, NodeConfig, PairRole, Value};
use cvp_core::types::Namespace;
use cvp_core::types::strategy::Role;

use crate::node::HEARTBEAT_MS;

/// Texts by path below `configuration/`.
pub type Files = BTreeMap<String, String>;

/// `cvp.retain_bytes` before anybody changed it: the default.
pub const RETAIN_BYTES: u64 = 8 << 30;

/// The namespace that operators start and stop.
pub const ONLINE: &str = "ns2";

/// `port.jsonrpc`, which each node keeps for itself.
pub fn port(role: Role) -> u16 {
    match role {
        Role::Provider => 8081,
        Role::Receiver => 9081,
    }
}

/// The files of a node at its first start. `remote` is what `cvp.remote` says; `online`: it starts [`ONLINE`] too; `indexed`: namespaces that
/// keep the data index.
pub fn files(
    hostname: &str,
    role: Role,
    namespaces: &[Namespace],
    remote: &str,
    (online, indexed): (bool, &[Namespace]),
) -> Files {
    let end = role;
    let (pair_role, role) = match role {
        Role::Provider => ("provider", "vp"),
        Role::Receiver => ("receiver", "cvp"),
    };
    let mut dynamic = format!(
        "# own hostname\nself = \"{hostname}\"\n\n[cvp]\nenable = true\nnode_type = \"{pair_role}\" # which end\n\
         remote = [\"{remote}\"]\nheartbeat = \"{HEARTBEAT_MS}ms\"\nstrong_timeout = \"2s\"\nretain_bytes = {RETAIN_BYTES}\n\n\
         [port]\njsonrpc = {}\n",
        port(end)
    );
    let mut files = Files::from([("system.toml".to_owned(), String::new())]);
    for name in namespaces {
        let start = online || name.as_str() != ONLINE;
        dynamic.push_str(&format!("\n[[namespace]]\nname = \"{name}\"\nstart = {start}\n"));
        let text = format!("[database.indexdb.layer1]\nenable = {}\n", indexed.contains(name));
        files.insert(format!("{name}/ns_static.toml"), text);
        files.insert(format!("{name}/ns_genesis.toml"), String::new());
        // A standby names its provider, a provider itself.
        let maker = remote
            .split(' ')
            .next()
            .filter(|name| !name.is_empty() && role == "cvp")
            .unwrap_or(hostname);
        let text = format!(
            "[self]\nn = 1\nhostname = \"{hostname}\" # as in dynamic.toml\ntype = \"{role}\"\n\n\
             [[nodes]]\nhostname = \"{maker}\"\nscore = 10\n"
        );
        files.insert(format!("{name}/ns_dynamic.toml"), text);
    }
    files.insert("dynamic.toml".to_owned(), dynamic);
    files
}

/// The node's configuration; `in_upgrade`: its files may name two hosts.
pub fn load(files: &Files, in_upgrade: bool) -> Result<NodeConfig, String> {
    let loaded = if in_upgrade {
        config::load_in_upgrade(files)
    } else {
        config::load(files)
    };
    let words = |problems: Vec<config::Problem>| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        problems.join("; ")
    };
    loaded.map(|loaded| loaded.config).map_err(words)
}

pub fn role(config: &NodeConfig) -> Role {
    match config.role() {
        PairRole::Provider => Role::Provider,
        PairRole::Receiver => Role::Receiver,
    }
}

/// The namespaces that a node's files start.
pub fn started(files: &Files) -> Result<BTreeSet<Namespace>, String> {
    let text = files.get("dynamic.toml").ok_or("dynamic.toml is missing")?;
    let entries = config::namespace_entries(text).map_err(|error| error.to_string())?;
    let started = entries.into_iter().filter(|(_, start)| *start);
    started
        .map(|(name, _)| Namespace::new(&name).map_err(|error| error.to_string()))
        .collect()
}

/// Whether the list starts a namespace, changed.
pub fn switched(text: &str, name: &Namespace, start: bool) -> Result<String, String> {
    config::put_namespace(text, name.as_str(), start).map_err(|error| error.to_string())
}

/// Whether the files switch a namespace's data index on.
pub fn is_indexed(files: &Files, namespace: &Namespace) -> bool {
    let text = files.get(&format!("{namespace}/ns_static.toml"));
    let value = text.map(|text| config::get(text, config::INDEX_SWITCH));
    matches!(value, Some(Ok(Some(value))) if value == "true")
}

/// One key of one file set: its new text.
pub fn edited(files: &Files, file: &str, key: &str, value: Value) -> Result<String, String> {
    let text = files.get(file).ok_or_else(|| format!("{file} is missing"))?;
    config::edit(text, key, value).map_err(|error| format!("{file}: {error}"))
}
