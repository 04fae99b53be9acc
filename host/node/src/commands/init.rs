//! `cvp init`: writes a ready root directory from the commented defaults.
//!
//! The directory is built beside its place and renamed there at the end, so a failed `init` leaves nothing half made.

mod files;

use std::path::{Path, PathBuf};

use cvp_core::config::{PairRole, Remote};
use cvp_core::types::{Hostname, Namespace, NodeRole};
use serde::Serialize;

use super::Context;
use super::output::print_note;
use crate::config::Root;
use crate::durable;
use crate::ipc::{Exit, Failure};

/// Ports that Linux, as it comes, gives to no outgoing connection (its range begins at 32,768), above those of well-known services.
const QUIET_PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Tries to find a free one there.
const PORT_TRIES: usize = 64;

/// Arguments of `init`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The new root directory.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Hostname of the node.
    #[arg(long, value_name = "NAME")]
    hostname: Hostname,
    /// The online node, or its standby.
    #[arg(long, value_name = "provider|receiver", value_parser = parse_role)]
    role: PairRole,
    /// The other end; a receiver needs it to dial.
    #[arg(long, value_name = "HOST IP:PORT")]
    peer: Option<Remote>,
    /// A VP that the nvp namespaces follow; given more than once, they are tried in this order.
    #[arg(long, value_name = "HOST IP:PORT")]
    follow: Vec<Remote>,
    /// A namespace beside global (or global itself, to give its role): NAME or NAME:vp, NAME:nvp, NAME:cvp.
    #[arg(long, value_name = "NAME[:ROLE]", value_parser = parse_namespace)]
    namespace: Vec<(Namespace, Option<NodeRole>)>,
    /// Port of JSON-RPC; 0 picks a free one now.
    #[arg(long, value_name = "N", default_value_t = 8081)]
    jsonrpc_port: u16,
    /// Port of the pair; 0 picks a free one now.
    #[arg(long, value_name = "N", default_value_t = 50011)]
    p2p_port: u16,
    /// Directory made by `cvp certgen`: this hostname's files are copied.
    #[arg(long, value_name = "DIR")]
    tls_from: Option<PathBuf>,
    /// Root directory whose genesis files are copied.
    #[arg(long, value_name = "ROOT")]
    genesis_from: Option<PathBuf>,
    /// Root directory whose node keys and certificates are copied.
    #[arg(long, value_name = "ROOT")]
    keys_from: Option<PathBuf>,
    /// No TLS between the pair; its port listens on 127.0.0.1 only.
    #[arg(long)]
    insecure: bool,
}

fn parse_role(text: &str) -> Result<PairRole, String> {
    match text.to_ascii_lowercase().as_str() {
        "provider" => Ok(PairRole::Provider),
        "receiver" => Ok(PairRole::Receiver),
        _ => Err("provider or receiver".to_owned()),
    }
}

fn parse_namespace(text: &str) -> Result<(Namespace, Option<NodeRole>), String> {
    let (name, role) = match text.split_once(':') {
        Some((name, role)) => (name, Some(role)),
        None => (text, None),
    };
    let role = match role.map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("vp") => Some(NodeRole::Vp),
        Some("nvp") => Some(NodeRole::Nvp),
        Some("cvp") => Some(NodeRole::Cvp),
        Some(other) => return Err(format!("{other:?} is not vp, nvp or cvp")),
    };
    Ok((Namespace::new(name).map_err(|e| e.to_string())?, role))
}

#[derive(Serialize)]
struct Made {
    root: PathBuf,
    hostname: String,
    role: &'static str,
    jsonrpc_port: u16,
    p2p_port: u16,
    notes: Vec<String>,
}

/// What is to be written, after all checks.
pub(super) struct Plan<'a> {
    arguments: &'a Arguments,
    namespaces: Vec<(Namespace, NodeRole)>,
    jsonrpc_port: u16,
    p2p_port: u16,
}

/// Runs `init`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    let (jsonrpc, p2p) = (arguments.jsonrpc_port, arguments.p2p_port);
    if jsonrpc == p2p && p2p != 0 {
        return Err(Failure::usage(
            format!("--jsonrpc-port and --p2p-port are both {p2p}"),
            "give each a port of its own, or 0 for a free one",
        ));
    }
    refuse_taken(directory)?;
    let (jsonrpc_port, p2p_port) = ports(arguments)?;
    let plan = Plan {
        arguments,
        namespaces: namespaces(arguments)?,
        jsonrpc_port,
        p2p_port,
    };
    let mut notes = Vec::new();
    let staging = Staging::make(directory)?;
    files::write(&staging.path, &plan, &mut notes)?;
    if arguments.role == PairRole::Receiver && arguments.peer.is_none() {
        notes.push(format!(
            "this standby has no peer yet and dials nobody: before the start write \"HOST IP:PORT\" of the provider into cvp.remote of {}",
            directory.join("configuration/dynamic.toml").display()
        ));
    }
    // The node itself would refuse what does not load: say it now.
    Root::new(&staging.path).load_whole()?;
    staging.install(directory)?;
    let made = Made {
        root: directory.clone(),
        hostname: arguments.hostname.to_string(),
        role: arguments.role.as_str(),
        jsonrpc_port,
        p2p_port,
        notes,
    };
    context.print(&made, |made| {
        let mut lines = vec![format!(
            "{} {} in {}: json-rpc port {}, p2p port {}",
            made.role,
            made.hostname,
            made.root.display(),
            made.jsonrpc_port,
            made.p2p_port
        )];
        lines.push(format!("start it with {}/start.sh", made.root.display()));
        lines.join("\n")
    });
    if !context.json {
        made.notes.iter().for_each(|note| print_note(&format!("note: {note}")));
    }
    Ok(Exit::Done)
}

fn refuse_taken(directory: &Path) -> Result<(), Failure> {
    let taken = |what: &str, help: &str| {
        Err(Failure::refused(
            "not-empty",
            format!("{} {what}", directory.display()),
            help,
        ))
    };
    if Root::new(directory).exists() || directory.join("system/cvp").exists() {
        return taken(
            "holds a node already",
            "name another directory; a node's root is never overwritten",
        );
    }
    match std::fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            Some(_) => taken("is not empty", "name a new or empty directory"),
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => taken(&format!("cannot be read: {error}"), "name another directory"),
    }
}

fn namespaces(arguments: &Arguments) -> Result<Vec<(Namespace, NodeRole)>, Failure> {
    let receiver = arguments.role == PairRole::Receiver;
    let usual = if receiver { NodeRole::Cvp } else { NodeRole::Vp };
    let global = Namespace::new("global").map_err(|e| Failure::usage(e.to_string(), ""))?;
    let mut out = vec![(global, usual)];
    let own = arguments.follow.iter().find(|vp| vp.hostname == arguments.hostname);
    if let Some(own) = own {
        return Err(Failure::usage(
            format!("--follow names this node itself, {}", own.hostname),
            "name its VP",
        ));
    }
    for (name, role) in &arguments.namespace {
        let role = match role {
            // On a standby the role is its provider's business: here every namespace is a copy.
            Some(_) if receiver => NodeRole::Cvp,
            Some(NodeRole::Cvp) => {
                return Err(Failure::usage(
                    format!("{name}:cvp on a provider"),
                    "write vp or nvp, or --role receiver",
                ));
            }
            Some(role) => *role,
            None => usual,
        };
        match out.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = role,
            None => out.push((name.clone(), role)),
        }
    }
    let nvp = out.iter().find(|(_, role)| *role == NodeRole::Nvp);
    match (nvp, arguments.follow.first()) {
        (Some((name, _)), None) => {
            return Err(Failure::usage(
                format!("{name}:nvp follows a VP, and none is named"),
                "add --follow \"HOST IP:PORT\" of the node that makes its blocks",
            ));
        }
        (None, Some(vp)) => {
            return Err(Failure::usage(
                format!("--follow names {}, and no namespace is an nvp", vp.hostname),
                "write --namespace NAME:nvp",
            ));
        }
        _ => {}
    }
    Ok(out)
}

/// The two ports: free ones picked now where 0 was asked.
fn ports(arguments: &Arguments) -> Result<(u16, u16), Failure> {
    let mut held = Vec::new();
    let mut pick = |port: u16, other: u16| -> Result<u16, Failure> {
        if port != 0 {
            return Ok(port);
        }
        let refused = |error: std::io::Error| Failure::failed("no-port", format!("no free port: {error}"), "name one");
        let listener = free_port(other).map_err(refused)?;
        let port = listener.local_addr().map_err(refused)?.port();
        held.push(listener);
        Ok(port)
    };
    let (jsonrpc, p2p) = (arguments.jsonrpc_port, arguments.p2p_port);
    Ok((pick(jsonrpc, p2p)?, pick(p2p, jsonrpc)?))
}

/// A port beside `other` that is free now, and that the system gives to nobody before the node starts: from below its range for outgoing connections.
/// When tries there find none, any.
fn free_port(other: u16) -> std::io::Result<std::net::TcpListener> {
    let candidates = (0..PORT_TRIES).map(|_| rand::random_range(QUIET_PORTS));
    candidates
        .filter(|port| *port != other)
        .filter_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok())
        .next()
        .map_or_else(|| std::net::TcpListener::bind("127.0.0.1:0"), Ok)
}

/// The directory under work; removed unless it was installed.
struct Staging {
    path: PathBuf,
    installed: bool,
}

impl Staging {
    fn make(directory: &Path) -> Result<Self, Failure> {
        let name = directory.file_name().ok_or_else(|| {
            Failure::usage(
                format!("{} has no name", directory.display()),
                "name the new root directory",
            )
        })?;
        let parent = match directory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        durable::create_directories(parent)?;
        let path = parent.join(format!(".{}.{}.init", name.to_string_lossy(), std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        durable::create_directories(&path)?;
        Ok(Self { path, installed: false })
    }

    fn install(mut self, directory: &Path) -> Result<(), Failure> {
        std::fs::rename(&self.path, directory).map_err(|error| {
            Failure::failed(
                "disk",
                format!("cannot make {}: {error}", directory.display()),
                "check the place and its permissions",
            )
        })?;
        self.installed = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.installed {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
