//! One node: its root directory, its process, and the commands an operator runs at it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::quiet::Quiet;
use crate::rpc::Rpc;
use crate::wait;

/// Time a node gets to print its ready line.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The `cvp` binary under test: `CVP_BIN`, else beside the test binary's directory.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CVP_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let path = test
        .parent()
        .and_then(Path::parent)
        .context("the test binary has no directory")?
        .join("cvp");
    ensure!(
        path.exists(),
        "{} is missing; build it: cargo build --release -p cvp",
        path.display()
    );
    Ok(path)
}

/// Runs `cvp` with `arguments` to its end.
pub fn cvp<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Result<Output> {
    let output = Command::new(binary()?)
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("CVP_ROOT")
        .output()?;
    Ok(output)
}

/// As [`cvp`], and fails with what was printed unless the exit code is 0.
pub fn cvp_ok<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Result<String> {
    let output = cvp(arguments)?;
    if !output.status.success() {
        bail!(
            "cvp {:?} ended with {}: {}{}",
            arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A root directory whose node runs or not.
pub struct Node {
    root: PathBuf,
    process: Option<Child>,
    jsonrpc: String,
    p2p: String,
    /// Working directory of the starts, with the root given relative to it; none: the whole path.
    pub started_in: Option<PathBuf>,
    /// The command in whose world the next start happens ([`crate::small_disk::SmallDisk::entry`]); none: in this process's own.
    pub inside: Vec<String>,
    /// Extra environment of the next start (crash points).
    pub environment: Vec<(String, String)>,
    /// Where the next start's stderr goes in place of the log that [`Node::log`] reads.
    pub stderr: Option<Stdio>,
    quiet: Quiet,
}

impl Node {
    /// A node over an initialised root, not started.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            process: None,
            jsonrpc: String::new(),
            p2p: String::new(),
            started_in: None,
            inside: Vec::new(),
            environment: Vec::new(),
            stderr: None,
            quiet: Quiet::default(),
        }
    }

    /// Warnings and errors that this test provokes: parts of lines. Any other in the node's log fails the test at its end.
    pub fn provokes(&self, parts: &[&str]) {
        self.quiet.provokes(parts);
    }

    /// Its root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Address of its peer-to-peer port, once started.
    pub fn p2p(&self) -> &str {
        &self.p2p
    }

    /// Client of its JSON-RPC port, once started.
    pub fn rpc(&self) -> Rpc {
        Rpc::new(&self.jsonrpc)
    }

    /// Address of its JSON-RPC port, once started.
    pub fn jsonrpc(&self) -> &str {
        &self.jsonrpc
    }

    /// Starts the process and waits for its ready line.
    pub fn start(&mut self) -> Result<()> {
        let ready = self.spawn()?;
        let line = ready
            .recv_timeout(READY_WITHIN)
            .with_context(|| format!("no ready line of {}: {}", self.root.display(), self.log()))?;
        let ready: Value =
            serde_json::from_str(&line).with_context(|| format!("ready line {line:?}; log: {}", self.log()))?;
        ensure!(ready["ready"] == true, "ready line {ready}");
        self.jsonrpc = ready["jsonrpc"].as_str().unwrap_or_default().to_owned();
        self.p2p = ready["p2p"].as_str().unwrap_or_default().to_owned();
        Ok(())
    }

    /// Starts the process and waits for it to end by itself (a crash point, a refused start); answers whether it ended well.
    pub fn run_to_end(&mut self, within: Duration) -> Result<std::process::ExitStatus> {
        let _ready = self.spawn()?;
        self.wait_end(within)
    }

    /// Whether the process was started and not waited for.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Waits for the running process to end.
    pub fn wait_end(&mut self, within: Duration) -> Result<std::process::ExitStatus> {
        let process = self.process.as_mut().context("the node does not run")?;
        let status = wait::until("the process ends", within, || {
            Ok(process.try_wait()?.ok_or_else(|| "it runs".to_owned()))
        })?;
        self.process = None;
        Ok(status)
    }

    fn spawn(&mut self) -> Result<mpsc::Receiver<String>> {
        ensure!(self.process.is_none(), "{} runs already", self.root.display());
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        self.quiet.logs |= self.stderr.is_none();
        if !self.environment.is_empty() {
            // Crash points say that they are set.
            self.provokes(&["cvp::crash_point"]);
        }
        let stderr = self.stderr.take().unwrap_or_else(|| log.into());
        let mut command = match self.inside.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary()?);
                command
            }
            None => Command::new(binary()?),
        };
        if let Some(directory) = &self.started_in {
            let root = self.root.strip_prefix(directory)?;
            let root = if root.as_os_str().is_empty() {
                Path::new(".")
            } else {
                root
            };
            command.current_dir(directory).arg("--root").arg(root);
        } else {
            command.arg("--root").arg(&self.root);
        }
        let mut process = command
            .args(["--json", "start"])
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()?;
        let stdout = process.stdout.take().context("no stdout")?;
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads on to the end, so that the node never blocks on a full pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        self.process = Some(process);
        Ok(receive)
    }

    /// Whether the process runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    fn log_path(&self) -> PathBuf {
        let name = self.root.file_name().unwrap_or_default().to_string_lossy();
        self.root.with_file_name(format!("{name}.stderr"))
    }

    /// What the node has written to stderr over all its lives.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until the log holds `text`.
    pub fn wait_log(&self, text: &str, within: Duration) -> Result<()> {
        wait::until(
            &format!("{text:?} in the log of {}", self.root.display()),
            within,
            || {
                let log = self.log();
                Ok(if log.contains(text) { Ok(()) } else { Err(tail(&log)) })
            },
        )
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let process = self.process.as_ref().context("the node does not run")?;
        let pid = rustix::process::Pid::from_child(process);
        rustix::process::kill_process(pid, signal)?;
        Ok(())
    }

    /// SIGKILL, and waits for the process to be gone.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(rustix::process::Signal::KILL)?;
        if let Some(mut process) = self.process.take() {
            process.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for a clean end.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(rustix::process::Signal::TERM)?;
        let status = self.wait_end(Duration::from_secs(10))?;
        ensure!(status.success(), "after SIGTERM: {status}; {}", tail(&self.log()));
        Ok(())
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> Result<()> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.signal(rustix::process::Signal::CONT)
    }

    /// Runs a command at this root.
    pub fn command(&self, arguments: &[&str]) -> Result<Output> {
        let root = self.root.to_string_lossy();
        let mut all = vec!["--root", root.as_ref()];
        all.extend_from_slice(arguments);
        cvp(&all)
    }

    /// Runs a command with `--json` and answers (exit code, JSON printed).
    pub fn json(&self, arguments: &[&str]) -> Result<(i32, Value)> {
        let mut all = vec!["--json"];
        all.extend_from_slice(arguments);
        let output = self.command(&all)?;
        let code = output.status.code().context("killed by a signal")?;
        let text = if output.stdout.is_empty() {
            &output.stderr
        } else {
            &output.stdout
        };
        let value = serde_json::from_slice(text)
            .with_context(|| format!("{arguments:?} printed {:?}", String::from_utf8_lossy(text)))?;
        Ok((code, value))
    }

    /// `status --json`.
    pub fn status(&self) -> Result<Value> {
        Ok(self.json(&["status"])?.1)
    }

    /// Waits until `status` satisfies `condition`.
    pub fn wait_status(&self, what: &str, within: Duration, condition: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(&format!("{what} ({})", self.root.display()), within, || {
            let status = self.status()?;
            Ok(if condition(&status) {
                Ok(status)
            } else {
                Err(status.to_string())
            })
        })
    }

    /// Waits until `status` is normal.
    pub fn wait_normal(&self) -> Result<Value> {
        self.wait_status("status is normal", Duration::from_secs(20), |s| s["normal"] == true)
    }

    /// `verify` must find nothing.
    pub fn verify(&self) -> Result<()> {
        let output = self.command(&["--json", "verify"])?;
        ensure!(
            output.status.success(),
            "verify: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        self.quiet.check(&self.log_path());
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
