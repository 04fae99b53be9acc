//! `dynamic.toml`: what belongs to the whole node and may change while it runs.

use std::fmt;
use std::net::SocketAddr;

use toml::Table;

use super::keys::Keys;
use super::log::{ModuleLevels, SYSTEM_MODULES, read_modules};
use crate::types::{Hostname, Namespace};

/// Which end of the pair a node is (`cvp.node_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PairRole {
    /// The online node.
    Provider,
    /// The standby.
    Receiver,
}

impl PairRole {
    /// As configuration and status spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            PairRole::Provider => "provider",
            PairRole::Receiver => "receiver",
        }
    }
}

impl fmt::Display for PairRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One entry of `cvp.remote`: `"<hostname> <ip:port>"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remote {
    /// Name that the peer's certificate must carry.
    pub hostname: Hostname,
    /// `ip:port`, or a DNS name and a port.
    pub address: String,
}

/// `cvp.*`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CvpKeys {
    /// `cvp.enable`.
    pub enable: bool,
    /// `cvp.node_type`.
    pub node_type: PairRole,
    /// `cvp.remote`.
    pub remote: Vec<Remote>,
    /// `cvp.heartbeat`, milliseconds.
    pub heartbeat_ms: u64,
    /// `cvp.heartbeat_misses`: so many silent heartbeats end a session.
    pub heartbeat_misses: u32,
    /// `cvp.max_rate`, bytes a second; 0 is none.
    pub max_rate: u64,
    /// `cvp.retain_bytes`: what the standby lacks is kept for it beyond `ledger.keep_blocks` up to so many bytes a namespace.
    pub retain_bytes: u64,
    /// `cvp.strong_timeout`: how long a strong change waits for the standby, milliseconds.
    pub strong_timeout_ms: u64,
}

/// `log.*`: what the log's files and modules are at the next start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DynamicLog {
    /// `log.dump_interval`: a new file begins after it, milliseconds.
    pub dump_interval_ms: u64,
    /// `log.max_log_size`: a new file begins beyond it, bytes.
    pub file_bytes_max: u64,
    /// `log.module.*`.
    pub modules: ModuleLevels,
}

/// One `[[namespace]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceEntry {
    /// `name`.
    pub name: Namespace,
    /// `start`: runs when the node starts.
    pub start: bool,
}

/// The keys of `dynamic.toml` that we honour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dynamic {
    /// `self`: own hostname.
    pub hostname: Hostname,
    /// `port.jsonrpc`; 0 lets the system choose.
    pub jsonrpc_port: u16,
    /// `port.grpc`: the pair's port; 0 lets the system choose.
    pub p2p_port: u16,
    /// `p2p.ip.self.domain`.
    pub domain: String,
    /// `p2p.ip.self.addrs`: how each domain reaches this node.
    pub self_addresses: Vec<String>,
    /// `p2p.ip.remote.hosts`: where the other nodes of the chains are.
    pub remote_hosts: Vec<Remote>,
    /// `[[namespace]]`, `global` always among them.
    pub namespaces: Vec<NamespaceEntry>,
    /// `cvp.*`.
    pub cvp: CvpKeys,
    /// `log.*`.
    pub log: DynamicLog,
}

impl Dynamic {
    pub(super) fn read(keys: &mut Keys) -> Self {
        let name = keys.text("self", "node1");
        let hostname = Hostname::new(&name).unwrap_or_else(|error| {
            keys.problem("self", error.to_string(), "write the node's hostname");
            fallback_hostname()
        });
        Self {
            hostname,
            jsonrpc_port: keys.port("port.jsonrpc", 8081),
            p2p_port: keys.port("port.grpc", 50011),
            domain: keys.text("p2p.ip.self.domain", "domain1"),
            self_addresses: keys.texts("p2p.ip.self.addrs"),
            remote_hosts: read_hosts(keys),
            namespaces: read_namespaces(keys),
            cvp: read_cvp(keys),
            log: DynamicLog {
                dump_interval_ms: keys.duration_ms("log.dump_interval", 86_400_000, 60_000, 31_536_000_000),
                file_bytes_max: keys.bytes("log.max_log_size", 200 << 20, 64 << 10, 1 << 40),
                modules: read_modules(keys, &SYSTEM_MODULES),
            },
        }
    }
}

/// Stands in for a hostname that was refused, until the problem stops the start.
pub(super) fn fallback_hostname() -> Hostname {
    #[allow(clippy::unwrap_used)]
    // A constant that the name's own test covers.
    Hostname::new("node1").unwrap()
}

/// `p2p.ip.remote.hosts` of either file: `"<hostname> <ip:port>"`; a name may stand there more than once.
pub(super) fn read_hosts(keys: &mut Keys) -> Vec<Remote> {
    let mut hosts = Vec::new();
    for text in keys.texts("p2p.ip.remote.hosts") {
        match text.parse() {
            Ok(host) => hosts.push(host),
            Err(what) => keys.problem(
                "p2p.ip.remote.hosts",
                what,
                "write \"<hostname> <ip:port>\" such as \"node1 127.0.0.1:50011\"",
            ),
        }
    }
    hosts
}

fn read_namespaces(keys: &mut Keys) -> Vec<NamespaceEntry> {
    let mut out: Vec<NamespaceEntry> = Vec::new();
    for table in keys.tables("namespace") {
        match read_namespace(&table) {
            Ok(entry) if out.iter().any(|known| known.name == entry.name) => keys.problem(
                "namespace.name",
                format!("{} stands there twice", entry.name),
                "remove one of them",
            ),
            Ok(entry) => out.push(entry),
            Err(what) => keys.problem(
                "namespace",
                what,
                "write name = \"<namespace>\" and start = true or false",
            ),
        }
    }
    match out.iter().find(|entry| entry.name.as_str() == "global") {
        Some(global) if global.start => {}
        _ => keys.problem(
            "namespace",
            "the namespace global is missing or has start = false",
            "add [[namespace]] with name = \"global\" and start = true: a node always runs it",
        ),
    }
    out
}

fn read_namespace(table: &Table) -> Result<NamespaceEntry, String> {
    let name = table
        .get("name")
        .and_then(|v| v.as_str())
        .ok_or_else(|| "an entry has no name".to_owned())?;
    let start = match table.get("start") {
        None => true,
        Some(value) => value
            .as_bool()
            .ok_or_else(|| format!("start of {name} is {value}, not true or false"))?,
    };
    Ok(NamespaceEntry {
        name: Namespace::new(name).map_err(|error| error.to_string())?,
        start,
    })
}

fn read_cvp(keys: &mut Keys) -> CvpKeys {
    let node_type = keys.text("cvp.node_type", "provider");
    let node_type = match node_type.to_ascii_lowercase().as_str() {
        "provider" => PairRole::Provider,
        "receiver" => PairRole::Receiver,
        _ => {
            keys.problem(
                "cvp.node_type",
                format!("{node_type:?} is no role"),
                "write \"provider\" (the online node) or \"receiver\" (the standby)",
            );
            PairRole::Provider
        }
    };
    let mut remote = Vec::new();
    for text in keys.texts("cvp.remote") {
        match text.parse() {
            Ok(one) => remote.push(one),
            Err(what) => keys.problem(
                "cvp.remote",
                what,
                "write \"<hostname> <ip:port>\" such as \"node1 127.0.0.1:50011\"",
            ),
        }
    }
    CvpKeys {
        enable: keys.flag("cvp.enable", false),
        node_type,
        remote,
        heartbeat_ms: keys.duration_ms("cvp.heartbeat", 500, 10, 60_000),
        heartbeat_misses: keys.number("cvp.heartbeat_misses", 5, 2, 1_000) as u32,
        max_rate: keys.bytes("cvp.max_rate", 0, 0, 1 << 50),
        retain_bytes: keys.bytes("cvp.retain_bytes", 8 << 30, 0, 1 << 50),
        strong_timeout_ms: keys.duration_ms("cvp.strong_timeout", 5_000, 100, 600_000),
    }
}

impl std::str::FromStr for Remote {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (Some(name), Some(address), None) = (words.next(), words.next(), words.next()) else {
            return Err(format!("{text:?} is not a hostname and an address"));
        };
        let hostname = Hostname::new(name).map_err(|error| error.to_string())?;
        let port_of_name = || {
            let (host, port) = address.rsplit_once(':')?;
            let plain = Hostname::new(host).is_ok();
            port.parse::<u16>().ok().filter(|_| plain)
        };
        if address.parse::<SocketAddr>().is_err() && port_of_name().is_none() {
            return Err(format!("{address:?} is not an address with a port"));
        }
        Ok(Self {
            hostname,
            address: address.to_owned(),
        })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.hostname, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Dynamic, Vec<super::super::Problem>) {
        let mut keys = Keys::parse("dynamic.toml", text);
        let dynamic = Dynamic::read(&mut keys);
        (dynamic, keys.finish().0)
    }

    #[test]
    fn a_plain_file_reads() {
        let (dynamic, problems) = read(
            "self = \"cvp\"\n[port]\njsonrpc = 8085\ngrpc = 0\n[[namespace]]\nname = \"global\"\n\
             [cvp]\nenable = true\nnode_type = \"Receiver\"\nremote = [\"node1 127.0.0.1:50011\", \"\"]\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(dynamic.cvp.node_type, PairRole::Receiver);
        assert_eq!(dynamic.cvp.remote[0].to_string(), "node1 127.0.0.1:50011");
        assert_eq!(dynamic.cvp.remote.len(), 1);
        assert_eq!(dynamic.cvp.heartbeat_ms, 500);
        assert_eq!(dynamic.p2p_port, 0);
    }

    #[test]
    fn each_wrong_value_is_a_problem() {
        for bad in [
            "self = \"a b\"\n[[namespace]]\nname = \"global\"",
            "[[namespace]]\nname = \"ns1\"",
            "[[namespace]]\nname = \"global\"\nstart = false",
            "[[namespace]]\nname = \"global\"\n[[namespace]]\nname = \"global\"",
            "[[namespace]]\nname = \"global\"\n[cvp]\nremote = [\"node1\"]",
            "[[namespace]]\nname = \"global\"\n[cvp]\nremote = [\"node1 1.2.3.4\"]",
            "[[namespace]]\nname = \"global\"\n[cvp]\nnode_type = \"both\"",
            "[[namespace]]\nname = \"global\"\n[cvp]\nheartbeat = \"0s\"",
            "[[namespace]]\nname = \"global\"\n[port]\njsonrpc = 70000",
        ] {
            assert_eq!(read(bad).1.len(), 1, "{bad}");
        }
    }
}
