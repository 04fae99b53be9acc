//! A benchmark that is interrupted, or killed, leaves no process and no directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cvp_pair::node::{binary, cvp};
use cvp_pair::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// A benchmark whose nodes serve; killed when dropped.
struct Bench {
    process: Child,
    runs: PathBuf,
    nodes: Vec<u32>,
}

impl Bench {
    /// Starts one that would take an hour, and waits until both of its nodes run.
    fn start(directory: &Path) -> Result<Bench> {
        let mut bench = Bench::spawn(directory, &["strong", "--seconds", "1200"])?;
        bench.nodes = wait::until("two nodes run", SOON, || {
            let roots = ["provider", "receiver"].map(|name| bench.runs.join(name));
            let nodes: Vec<u32> = roots.iter().filter_map(|root| holder(root)).collect();
            let ended = bench.process.try_wait()?;
            ensure!(ended.is_none(), "the benchmark ended: {ended:?}");
            Ok(if nodes.len() == 2 {
                Ok(nodes)
            } else {
                Err(format!("{nodes:?}"))
            })
        })?;
        Ok(bench)
    }

    fn spawn(directory: &Path, arguments: &[&str]) -> Result<Bench> {
        let process = Command::new(binary()?)
            .arg("bench")
            .args(arguments)
            .arg("--dir")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let runs = directory.join(format!("run-{}", process.id()));
        Ok(Bench {
            process,
            runs,
            nodes: Vec::new(),
        })
    }

    /// Sends it a signal, waits for its end, and answers its exit code.
    fn signal(&mut self, signal: Signal) -> Result<Option<i32>> {
        kill_process(Pid::from_child(&self.process), signal)?;
        let ended = wait::until("the benchmark ends", SOON, || {
            Ok(self.process.try_wait()?.ok_or_else(|| "it runs".to_owned()))
        })?;
        Ok(ended.code())
    }

    fn nodes_end(&self) -> Result<()> {
        wait::until("its nodes end", SOON, || {
            let alive: Vec<_> = self.nodes.iter().filter(|pid| is_alive(**pid)).collect();
            Ok(if alive.is_empty() {
                Ok(())
            } else {
                Err(format!("{alive:?} run"))
            })
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process that a root's lock names, once it serves.
fn holder(root: &Path) -> Option<u32> {
    root.join("hpc_1.ipc").exists().then_some(())?;
    std::fs::read_to_string(root.join("cvp.pid.lock"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// A dead process that nobody waited for is dead.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

/// What is in it beside the certificates.
fn left(directory: &Path) -> Result<Vec<String>> {
    let names = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.retain(|name| name != "tls");
    Ok(names)
}

#[test]
fn an_interrupted_benchmark_ends_its_nodes_and_removes_what_they_wrote() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut bench = Bench::start(directory.path())?;
        let ended = bench.signal(signal)?;
        ensure!(ended == Some(code), "{signal:?}: {ended:?}");
        bench.nodes_end()?;
        ensure!(left(directory.path())?.is_empty(), "{:?}", left(directory.path())?);
    }
    Ok(())
}

#[test]
fn a_chain_that_is_half_made_goes_with_the_benchmark_that_makes_it() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut bench = Bench::spawn(directory.path(), &["catch-up", "--size", "1024"])?;
    let making = bench.runs.join("chain-v2-1000000x1024/namespaces/global/data/log");
    wait::until("a chain is being made", SOON, || {
        Ok(making.exists().then_some(()).ok_or_else(|| "not yet".to_owned()))
    })?;
    ensure!(bench.signal(Signal::INT)? == Some(130));
    ensure!(left(directory.path())?.is_empty(), "{:?}", left(directory.path())?);
    Ok(())
}

#[test]
fn the_nodes_of_a_killed_benchmark_end_and_the_next_one_removes_what_they_wrote() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut killed = Bench::start(directory.path())?;
    killed.signal(Signal::KILL)?;
    killed.nodes_end()?;
    ensure!(killed.runs.exists());
    let mut next = Bench::start(directory.path())?;
    ensure!(!killed.runs.exists() && next.runs.exists());
    ensure!(next.signal(Signal::TERM)? == Some(143));
    Ok(())
}

#[test]
fn options_that_a_benchmark_would_not_heed_are_refused_before_it_runs() -> Result<()> {
    for (arguments, with) in [
        (&["live", "--size", "4096"][..], "catch-up"),
        (
            &["promote", "--bytes", "100000000"],
            "catch-up, partitions and strategy",
        ),
        (&["strategy", "--size", "4096"], "catch-up"),
        (&["strategy", "--svg", "/nowhere/figures.svg"], "name another file"),
    ] {
        let output = cvp(&[&["--json", "bench"], arguments].concat())?;
        let said: Value = serde_json::from_slice(&output.stderr).context("one object")?;
        let help = said["error"]["help"].as_str().unwrap_or_default();
        ensure!(
            output.status.code() == Some(2) && said["error"]["code"] == "usage" && help.contains(with),
            "{arguments:?}: {said}"
        );
    }
    Ok(())
}
