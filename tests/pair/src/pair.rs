//! A provider `node1` and its receiver `cvp`, initialised as the manual says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::node::{Node, cvp_ok};
use crate::plugins::share_compiled;
use crate::ports;
use crate::wait;

/// Both nodes of a pair and the directory they live in.
pub struct Pair {
    /// The online node, `node1`.
    pub provider: Node,
    /// Its standby, `cvp`.
    pub receiver: Node,
    /// Everything of this pair; removed on drop, after the nodes have looked at their logs.
    pub directory: TempDir,
}

/// Options of a pair beyond the usual.
#[derive(Default)]
pub struct Setup<'a> {
    /// `--namespace` arguments of both nodes, beside `global`.
    pub namespaces: &'a [&'a str],
    /// `--insecure`: without TLS.
    pub insecure: bool,
}

impl Pair {
    /// Initialises both roots; starts nothing. The provider's ports are fixed by `init` (free when it ran), so the receiver can name them.
    pub fn init(setup: &Setup<'_>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("cvp").tempdir()?;
        let at = directory.path();
        certificates(at)?;
        let provider = init_node(at, "node1", "provider", None, setup)?;
        let peer = format!("node1 {}", configured_p2p(&provider)?);
        let receiver = init_receiver(at, "cvp", &peer, &provider, setup)?;
        Ok(Self {
            directory,
            provider: Node::new(provider),
            receiver: Node::new(receiver),
        })
    }

    /// Initialises and starts both, and waits until the provider's status is normal.
    pub fn start(setup: &Setup<'_>) -> Result<Self> {
        let mut pair = Self::init(setup)?;
        pair.provider.start()?;
        pair.receiver.start()?;
        pair.provider.wait_normal()?;
        Ok(pair)
    }

    /// [`Node::provokes`], on both.
    pub fn provokes(&self, parts: &[&str]) {
        self.provider.provokes(parts);
        self.receiver.provokes(parts);
    }

    /// SIGKILLs the provider, unless it died by itself, and waits until the preflight no longer takes it for alive (three heartbeats of
    /// silence).
    pub fn lose_provider(&mut self) -> Result<()> {
        if self.provider.is_running() {
            self.provider.kill()?;
        }
        wait::until(
            "the preflight takes the provider for dead",
            Duration::from_secs(10),
            || {
                let (_, report) = self.receiver.json(&["upgrade", "--dry-run"])?;
                let mut checks = report["checks"].as_array().into_iter().flatten();
                let alive = checks.any(|check| check["id"] == "target-unreachable" && check["verdict"] == "fail");
                Ok(if alive { Err(report.to_string()) } else { Ok(()) })
            },
        )
    }

    /// Waits until the receiver holds `height` of `namespace` durably, as its own status says.
    pub fn wait_durable(&self, namespace: &str, height: u64) -> Result<()> {
        wait_durable(&self.receiver, namespace, height)
    }
}

/// Waits until `node`'s status reports `height` of `namespace` as durable on the receiver.
pub fn wait_durable(node: &Node, namespace: &str, height: u64) -> Result<()> {
    let what = format!("durable height {height} of {namespace}");
    wait::until(&what, Duration::from_secs(60), || {
        let status = node.status()?;
        Ok(match durable(&status, namespace) {
            Some(found) if found >= height => Ok(()),
            _ => Err(status.to_string()),
        })
    })
}

/// The durable height of `namespace` in a status.
pub fn durable(status: &Value, namespace: &str) -> Option<u64> {
    status["namespaces"]
        .as_array()?
        .iter()
        .find(|entry| entry["name"] == namespace)?["durable"]
        .as_u64()
}

/// Makes `tls/` under `at` with certificates for node1 and for cvp (which may become node1).
pub fn certificates(at: &Path) -> Result<()> {
    let tls = at.join("tls").to_string_lossy().into_owned();
    cvp_ok(&["certgen", &tls, "--host", "node1", "--ip", "127.0.0.1"])?;
    cvp_ok(&[
        "certgen",
        &tls,
        "--host",
        "cvp",
        "--standby-for",
        "node1",
        "--ip",
        "127.0.0.1",
    ])?;
    Ok(())
}

/// `cvp init` of a receiver of `peer` ("node1 127.0.0.1:50011") that shares the provider's genesis and keys.
pub fn init_receiver(at: &Path, hostname: &str, peer: &str, provider: &Path, setup: &Setup<'_>) -> Result<PathBuf> {
    init_node(at, hostname, "receiver", Some((peer, provider)), setup)
}

/// `cvp init` under `at`, with the TLS set of `hostname`.
pub fn init_node(
    at: &Path,
    hostname: &str,
    role: &str,
    peer: Option<(&str, &Path)>,
    setup: &Setup<'_>,
) -> Result<PathBuf> {
    let root = at.join(hostname);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut arguments: Vec<String> = ["init", &text(&root), "--hostname", hostname, "--role", role]
        .map(str::to_owned)
        .to_vec();
    for flag in ["--jsonrpc-port", "--p2p-port"] {
        arguments.extend([flag.to_owned(), ports::free()?.to_string()]);
    }
    if setup.insecure {
        arguments.push("--insecure".to_owned());
    } else {
        arguments.extend(["--tls-from".to_owned(), text(&at.join("tls"))]);
    }
    if let Some((peer, provider)) = peer {
        for (flag, value) in [
            ("--peer", peer.to_owned()),
            ("--genesis-from", text(provider)),
            ("--keys-from", text(provider)),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
    }
    for namespace in setup.namespaces {
        arguments.extend(["--namespace".to_owned(), (*namespace).to_owned()]);
    }
    cvp_ok(&arguments)?;
    share_compiled(&root)?;
    Ok(root)
}

/// `127.0.0.1:<port.grpc>` of an initialised root.
pub fn configured_p2p(root: &Path) -> Result<String> {
    configured(root, "grpc")
}

/// `127.0.0.1:<port.jsonrpc>` of an initialised root.
pub fn configured_jsonrpc(root: &Path) -> Result<String> {
    configured(root, "jsonrpc")
}

fn configured(root: &Path, port: &str) -> Result<String> {
    let text = std::fs::read_to_string(root.join("configuration/dynamic.toml"))?;
    let dynamic: toml_edit::DocumentMut = text.parse()?;
    let port = dynamic["port"][port].as_integer().context("no port")?;
    Ok(format!("127.0.0.1:{port}"))
}
