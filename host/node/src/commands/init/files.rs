//! The files of a new root directory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cvp_core::config::{EditError, PairRole, Value, edit};
use cvp_core::types::{Namespace, NodeRole};

use super::super::certgen::node_certificate;
use super::Plan;
use crate::durable;
use crate::ipc::Failure;

const SYSTEM: &str = include_str!("../../../../../configuration/system.toml");
const DYNAMIC: &str = include_str!("../../../../../configuration/dynamic.toml");
const NS_STATIC: &str = include_str!("../../../../../configuration/global/ns_static.toml");
const NS_DYNAMIC: &str = include_str!("../../../../../configuration/global/ns_dynamic.toml");
const NS_GENESIS: &str = include_str!("../../../../../configuration/global/ns_genesis.toml");

/// Two lines: where the root is, and what runs there.
fn start_script() -> String {
    let binary = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("cvp"));
    format!(
        "#!/bin/sh
exec \"${{CVP_BIN:-{}}}\" --root \"$(dirname \"$0\")\" start \"$@\"
",
        binary.display()
    )
}

/// Writes everything below `root`.
pub(super) fn write(root: &Path, plan: &Plan<'_>, notes: &mut Vec<String>) -> Result<(), Failure> {
    let place = |file: &str, text: String, mode: u32| -> Result<(), Failure> {
        let path = root.join(file);
        if let Some(parent) = path.parent() {
            durable::create_directories(parent)?;
        }
        Ok(durable::replace(&path, text.as_bytes(), mode)?)
    };
    place("configuration/system.toml", system(plan)?, 0o644)?;
    place("configuration/dynamic.toml", dynamic(plan)?, 0o644)?;
    for (name, role) in &plan.namespaces {
        let at = |file: &str| format!("configuration/{name}/{file}");
        place(&at("ns_static.toml"), NS_STATIC.to_owned(), 0o644)?;
        place(&at("ns_dynamic.toml"), ns_dynamic(plan, *role)?, 0o644)?;
        place(&at("ns_genesis.toml"), genesis(plan, name)?, 0o644)?;
        node_keys(root, plan, name, notes)?;
    }
    if plan.arguments.genesis_from.is_none() {
        notes.push("development genesis: the keys of its accounts are public (--genesis-from copies yours)".to_owned());
    }
    for directory in ["system/cvp", "plugins", "logs", "tls"] {
        durable::create_directories(&root.join(directory))?;
    }
    tls(root, plan, notes)?;
    place("start.sh", start_script(), 0o755)
}

fn system(plan: &Plan<'_>) -> Result<String, Failure> {
    let mut text = SYSTEM.to_owned();
    if plan.arguments.insecure {
        text = set(&text, "p2p.enableTLS", Value::Flag(false))?;
        text = set(&text, "p2p.address", Value::Text("127.0.0.1".to_owned()))?;
    }
    // Several nodes on one machine are the usual first try: their metrics do not fight for one port.
    set(&text, "metrics.port", Value::Number(0))
}

fn dynamic(plan: &Plan<'_>) -> Result<String, Failure> {
    let arguments = plan.arguments;
    let remote = arguments.peer.as_ref().map(ToString::to_string).unwrap_or_default();
    let address = format!("domain1 127.0.0.1:{}", plan.p2p_port);
    let mut text = DYNAMIC.to_owned();
    for (key, value) in [
        ("self", Value::Text(arguments.hostname.to_string())),
        ("port.jsonrpc", Value::Number(plan.jsonrpc_port.into())),
        ("port.grpc", Value::Number(plan.p2p_port.into())),
        ("p2p.ip.self.addrs", Value::Texts(vec![address])),
        ("cvp.enable", Value::Flag(true)),
        ("cvp.node_type", Value::Text(arguments.role.as_str().to_owned())),
        ("cvp.remote", Value::Texts(vec![remote])),
    ] {
        text = set(&text, key, value)?;
    }
    if !arguments.follow.is_empty() {
        let hosts = arguments.follow.iter().map(ToString::to_string);
        text = set(&text, "p2p.ip.remote.hosts", Value::Texts(hosts.collect()))?;
    }
    for (name, _) in plan.namespaces.iter().filter(|(name, _)| name.as_str() != "global") {
        text.push_str(&format!("\n[[namespace]]\nname = \"{name}\"\nstart = true\n"));
    }
    Ok(text)
}

fn ns_dynamic(plan: &Plan<'_>, role: NodeRole) -> Result<String, Failure> {
    let own = plan.arguments.hostname.to_string();
    let text = set(NS_DYNAMIC, "self.hostname", Value::Text(own.clone()))?;
    let text = set(&text, "self.type", Value::Text(role.as_str().to_owned()))?;
    let maker = match (plan.arguments.role, &plan.arguments.peer) {
        (PairRole::Receiver, Some(peer)) => peer.hostname.to_string(),
        _ => own,
    };
    let mut makers = vec![maker];
    if role == NodeRole::Nvp {
        makers.clear();
        for vp in plan.arguments.follow.iter().map(|vp| vp.hostname.to_string()) {
            if !makers.contains(&vp) {
                makers.push(vp);
            }
        }
    }
    let entries = makers.iter().map(|maker| format!("[[nodes]]\nhostname = \"{maker}\""));
    let entries: Vec<String> = entries.collect();
    // The only entry of the default's list of nodes; its score follows.
    Ok(text.replace("[[nodes]]\nhostname = \"node1\"", &entries.join("\nscore = 10\n\n")))
}

fn genesis(plan: &Plan<'_>, name: &Namespace) -> Result<String, Failure> {
    match &plan.arguments.genesis_from {
        None => Ok(NS_GENESIS.to_owned()),
        Some(from) => read(&from.join("configuration").join(name.as_str()).join("ns_genesis.toml")),
    }
}

/// Key and certificate of the node in a namespace: new on a provider, or the operator's copy of another root's.
fn node_keys(root: &Path, plan: &Plan<'_>, name: &Namespace, notes: &mut Vec<String>) -> Result<(), Failure> {
    let below = Path::new("namespaces").join(name.as_str());
    for directory in ["certs/CA", "certs/certs", "data"] {
        durable::create_directories(&root.join(&below).join(directory))?;
    }
    let place = root.join(&below).join("certs/certs");
    if let Some(from) = &plan.arguments.keys_from {
        for inner in ["certs/CA", "certs/certs"] {
            copy_files(&from.join(&below).join(inner), &root.join(&below).join(inner))?;
        }
        if !place.join("key.priv").is_file() {
            return Err(Failure::failed(
                "no-keys",
                format!("{} has no key.priv of {name}", from.display()),
                "name the provider's root with --keys-from",
            ));
        }
    } else if plan.arguments.role == PairRole::Provider {
        let hostname = &plan.arguments.hostname;
        let (key, certificate) = node_certificate(hostname)?;
        durable::replace(&place.join("key.priv"), key.as_bytes(), 0o600)?;
        durable::replace(&place.join(format!("{hostname}.cert")), certificate.as_bytes(), 0o644)?;
    } else {
        notes.push(format!(
            "copy the provider's {}/certs/certs/key.priv and certificate here before an upgrade (--keys-from)",
            below.display()
        ));
    }
    Ok(())
}

/// The TLS set of this hostname, or a note that it is missing.
fn tls(root: &Path, plan: &Plan<'_>, notes: &mut Vec<String>) -> Result<(), Failure> {
    let Some(from) = &plan.arguments.tls_from else {
        if !plan.arguments.insecure {
            notes.push("put tlsca.ca, tls_peer.cert and tls_peer.priv into tls/ before the start (--tls-from; `cvp certgen` makes them)".to_owned());
        }
        return Ok(());
    };
    let own = from.join(plan.arguments.hostname.as_str());
    // Operators may share one set between both nodes: then the files stand in the directory itself.
    let source = if own.is_dir() { own } else { from.clone() };
    if !source.join("tls_peer.cert").is_file() {
        let name = &plan.arguments.hostname;
        let standby = match (plan.arguments.role, &plan.arguments.peer) {
            (PairRole::Receiver, Some(peer)) => format!(" --standby-for {}", peer.hostname),
            _ => String::new(),
        };
        return Err(Failure::failed(
            "no-certificate",
            format!("{} holds no TLS certificate of {name}", from.display()),
            format!("run `cvp certgen {} --host {name}{standby}`", from.display()),
        ));
    }
    for (file, mode) in [("tlsca.ca", 0o644), ("tls_peer.cert", 0o644), ("tls_peer.priv", 0o600)] {
        let text = read(&source.join(file))?;
        durable::replace(&root.join("tls").join(file), text.as_bytes(), mode)?;
    }
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> Result<(), Failure> {
    let entries = match std::fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(from, &error)),
    };
    for entry in entries {
        let path: PathBuf = entry.map_err(|e| unreadable(from, &e))?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else {
            continue;
        };
        let bytes = std::fs::read(&path).map_err(|e| unreadable(&path, &e))?;
        let metadata = std::fs::metadata(&path).map_err(|e| unreadable(&path, &e))?;
        let secret = path.extension().is_some_and(|e| e == "priv");
        let mode = if secret {
            0o600
        } else {
            metadata.permissions().mode() & 0o777
        };
        durable::replace(&to.join(name), &bytes, mode)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(
        "unreadable",
        format!("cannot read {}: {error}", path.display()),
        "check the path and its permissions",
    )
}

fn set(text: &str, key: &str, value: Value) -> Result<String, Failure> {
    edit(text, key, value).map_err(|error: EditError| Failure::failed("internal", error.to_string(), "report it"))
}
