//! Real nodes: processes of this binary in roots of their own, started, asked and ended.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cvp_core::config::Value as Setting;
use serde_json::Value;

use super::{interrupt, machine};
use crate::config::Root;
use crate::ipc::{self, Request, StatusView};

/// Time a node gets to serve: a provider of a long chain opens it first.
const READY_MAX: Duration = Duration::from_secs(120);
/// Time for anything else that must happen.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at a status.
pub const LOOK: Duration = Duration::from_millis(5);

/// Runs `cvp` to its end; fails with what it printed.
pub fn cvp<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    let command = command.args(arguments).stdin(Stdio::null()).env_remove("CVP_ROOT");
    let output = interrupt::output(command)?;
    let what: Vec<_> = arguments
        .iter()
        .map(|argument| argument.as_ref().to_string_lossy())
        .collect();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cvp {}: {said}", what.join(" "));
    Ok(())
}

/// The certificates of a pair in `directory/tls`, made once.
pub fn certificates(directory: &Path) -> Result<PathBuf> {
    let tls = directory.join("tls");
    let at = text(&tls);
    if !tls.join("cvp/tls_peer.cert").exists() {
        cvp(&["certgen", &at, "--host", "node1", "--ip", "127.0.0.1"])?;
        cvp(&[
            "certgen",
            &at,
            "--host",
            "cvp",
            "--standby-for",
            "node1",
            "--ip",
            "127.0.0.1",
        ])?;
    }
    Ok(tls)
}

/// A provider's root.
pub fn init_provider(root: &Path, tls: &Path) -> Result<()> {
    init_provider_of(root, tls, &[])
}

/// A provider's root with further namespaces.
pub fn init_provider_of(root: &Path, tls: &Path, namespaces: &[String]) -> Result<()> {
    let (at, from) = (text(root), text(tls));
    let mut arguments = vec![
        "init",
        &at,
        "--hostname",
        "node1",
        "--role",
        "provider",
        "--jsonrpc-port",
        "0",
        "--p2p-port",
        "0",
        "--tls-from",
        &from,
    ];
    arguments.extend(namespaces.iter().flat_map(|name| ["--namespace", name.as_str()]));
    cvp(&arguments)?;
    // Bodies of whole blocks, and a pool that holds a hundred of them.
    configure(
        root,
        "system.toml",
        "http.request.max_content_length",
        Setting::Text("16mb".into()),
    )
}

/// The root of `provider`'s receiver.
pub fn init_receiver(root: &Path, tls: &Path, provider: &Node) -> Result<()> {
    init_receiver_of(root, tls, provider, &[])
}

/// The root of `provider`'s receiver with further namespaces.
pub fn init_receiver_of(root: &Path, tls: &Path, provider: &Node, namespaces: &[String]) -> Result<()> {
    let peer = format!("node1 {}", provider.p2p);
    let (at, tls, from) = (text(root), text(tls), text(provider.root.directory()));
    let mut arguments = vec![
        "init",
        &at,
        "--hostname",
        "cvp",
        "--role",
        "receiver",
        "--peer",
        &peer,
        "--jsonrpc-port",
        "0",
        "--p2p-port",
        "0",
        "--tls-from",
        &tls,
        "--genesis-from",
        &from,
        "--keys-from",
        &from,
    ];
    arguments.extend(namespaces.iter().flat_map(|name| ["--namespace", name.as_str()]));
    cvp(&arguments)
}

/// Switches the message queues of `global` on.
pub fn keep_queues(root: &Path) -> Result<()> {
    let file = root.join("configuration/global/ns_static.toml");
    let mut file = std::fs::File::options().append(true).open(&file)?;
    Ok(file.write_all(b"\n[[service]]\nservice_name = \"MQ\"\n")?)
}

/// Sets a key of a root's configuration.
pub fn configure(root: &Path, file: &str, key: &str, value: Setting) -> Result<()> {
    Root::new(root).edit(file, key, value).map_err(anyhow::Error::new)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A running node; killed when dropped.
pub struct Node {
    process: Child,
    root: Root,
    /// Address of JSON-RPC.
    pub jsonrpc: String,
    /// Address of the pair's port.
    pub p2p: String,
}

impl Node {
    /// Starts the node of `root`, on processor `core` alone if given, and waits until it serves.
    pub fn start(root: &Path, core: Option<usize>) -> Result<Node> {
        let log = std::fs::File::create(root.join("bench.stderr")).context("make the node's log")?;
        let spawned = machine::on_core(core, || {
            let mut command = Command::new(std::env::current_exe()?);
            let command = command
                .arg("--root")
                .arg(root)
                // However this process ends, the pipe does with it.
                .args(["--json", "start", "--until-stdin-ends"])
                .env_remove("CVP_ROOT")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log);
            interrupt::spawn(command)
        });
        let mut process = spawned?.context("start a node")?;
        let stdout = process.stdout.take().context("a node without stdout")?;
        let mut node = Node {
            process,
            root: Root::new(root),
            jsonrpc: String::new(),
            p2p: String::new(),
        };
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let line = lines.recv_timeout(READY_MAX);
        let ready: Option<Value> = line.ok().and_then(|line| serde_json::from_str(&line).ok());
        let Some(ready) = ready.filter(|ready| ready["ready"] == true) else {
            bail!("the node of {} does not serve: {}", root.display(), node.log());
        };
        node.jsonrpc = ready["jsonrpc"].as_str().unwrap_or_default().to_owned();
        node.p2p = ready["p2p"].as_str().unwrap_or_default().to_owned();
        Ok(node)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its root.
    pub fn directory(&self) -> &Path {
        self.root.directory()
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.root.directory().join("bench.stderr")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    /// A connection to its operator's socket.
    pub fn operator(&self) -> Result<ipc::Connection> {
        ipc::Connection::open(self.root.directory(), &self.root.socket()).map_err(anyhow::Error::new)
    }

    /// Asks it.
    pub fn ask(&self, request: &Request) -> Result<Value> {
        self.operator()?.call(request, |_| ()).map_err(anyhow::Error::new)
    }

    /// Its status.
    pub fn status(&self) -> Result<StatusView> {
        Ok(serde_json::from_value(self.ask(&Request::Status)?)?)
    }

    /// Waits until its status satisfies `done`.
    pub fn wait(&self, what: &str, done: impl Fn(&StatusView) -> bool) -> Result<StatusView> {
        let begun = Instant::now();
        loop {
            let status = self.status()?;
            if done(&status) {
                return Ok(status);
            }
            let reasons: Vec<&str> = status.reasons.iter().map(|reason| reason.message.as_str()).collect();
            ensure!(
                begun.elapsed() < WAIT_MAX,
                "{what} does not come about: {}; {}",
                reasons.join("; "),
                self.log()
            );
            pause(LOOK);
        }
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), signal)?;
        Ok(())
    }

    /// SIGSTOP: it stands still and keeps its connections.
    pub fn freeze(&self) -> Result<()> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.reap()
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(mut self) -> Result<()> {
        self.signal(rustix::process::Signal::TERM)?;
        self.reap()
    }

    fn reap(&mut self) -> Result<()> {
        self.process.wait()?;
        interrupt::ended(self.pid());
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.reap();
    }
}

/// Waits a little; in a benchmark, where a look at a clock is the condition.
#[expect(clippy::disallowed_methods, reason = "this thread only waits for other processes")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
