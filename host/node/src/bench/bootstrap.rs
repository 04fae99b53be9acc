//! Bootstrap: an empty standby copies the state of a provider that keeps little history. Beside it the same bytes, the state's own files,
//! through a bare TLS pipe into a durable file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cvp_core::config::Value as Setting;

use super::chain::{self, Made};
use super::nodes::{self, Node};
use super::pipe::{self, PipeTls, Writing};
use super::report::Series;
use super::{Bench, machine};

/// Seconds of a timed run, unless asked for otherwise.
const SECONDS: u64 = 60;
/// Accounts of the state, each paid once: about 100 bytes of the database each.
const ACCOUNTS: u64 = 2_000_000;
/// The case: what the history is made of.
const CASE: &str = "64KiB";

/// Runs the scenario.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let seconds = bench.seconds(SECONDS);
    let made = chain::accounts(bench, ACCOUNTS)?;
    let tls = nodes::certificates(&bench.options.directory)?;
    let pipes = PipeTls::load(&tls)?;
    let files = state_files(&made, &bench.scratch.0.join("tables"))?;
    let bytes = files
        .iter()
        .map(|path| Ok(path.metadata()?.len()))
        .sum::<Result<u64>>()?;
    let target = bench.scratch.0.join("pipe");
    let provider = Node::start(&made.root, None)?;
    // Memory that was given back to the host is faulted in here, outside of every figure.
    pipe::copy(&pipes, &files, bytes, &target, Writing::Buffered, seconds)?;
    let mut series: [Series; 5] = Default::default();
    let [ours, whole, resident, buffered, direct] = &mut series;
    for number in 1..=bench.options.runs {
        let runs = bench.options.runs;
        bench
            .report
            .note(&format!("bootstrap: run {number} of {runs}, {bytes} bytes of state"));
        buffered.push(pipe::copy(&pipes, &files, bytes, &target, Writing::Buffered, seconds)?);
        direct.push(pipe::copy(&pipes, &files, bytes, &target, Writing::Direct, seconds)?);
        // Each standby's files stay to the end: a file system that looks for inodes freed lately is not what is measured.
        let root = bench.scratch.0.join(format!("receiver-{number}"));
        nodes::init_receiver(&root, &tls, &provider)?;
        let settings = Setting::Number(0);
        nodes::configure(
            &root,
            "global/ns_static.toml",
            "strategy.chain-sync.settings.bootstrap_bytes_min",
            settings,
        )?;
        let receiver = Node::start(&root, None)?;
        let status = receiver.wait("the standby stands on a snapshot", |status| {
            status
                .namespaces
                .first()
                .is_some_and(|namespace| namespace.bootstrapped.is_some())
        })?;
        let stands = status.namespaces.first().and_then(|namespace| namespace.bootstrapped);
        let stands = stands.context("no snapshot")?;
        ensure!(
            stands.copy_seconds > 0.0,
            "the copy was over before it could be measured"
        );
        ours.push(stands.bytes as f64 / stands.copy_seconds);
        whole.push(stands.bytes as f64 / (stands.copy_seconds + stands.check_seconds));
        resident.push(machine::resident_bytes_max(receiver.pid())?);
        receiver.kill()?;
    }
    let [ours, whole, resident, buffered, direct] = &series;
    let report = &mut bench.report;
    report.compared(CASE, "bytes_per_second", "B/s", ours, ("tls-pipe-fsync", buffered));
    report.compared(CASE, "bytes_per_second", "B/s", ours, ("tls-pipe-direct", direct));
    report.compared(
        CASE,
        "bytes_per_second_checked",
        "B/s",
        whole,
        ("tls-pipe-fsync", buffered),
    );
    report.figure(CASE, "receiver_rss_bytes_max", "B", resident);
    Ok(())
}

/// The tables of the provider's state as they lie on its disk: second names of them in `links`, because the running provider puts tables
/// together and removes what it has put together.
fn state_files(made: &Made, links: &Path) -> Result<Vec<PathBuf>> {
    let state = made.root.join("namespaces/global/data/state");
    let entries = std::fs::read_dir(&state).with_context(|| format!("list {}", state.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
    paths.sort();
    ensure!(!paths.is_empty(), "the state has no tables yet");
    std::fs::create_dir_all(links)?;
    for path in &mut paths {
        let link = links.join(path.file_name().context("a table without a name")?);
        std::fs::hard_link(&path, &link).with_context(|| format!("link {}", path.display()))?;
        *path = link;
    }
    Ok(paths)
}
