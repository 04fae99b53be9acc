//! Partitions: the same bytes in one namespace, in ten, in a hundred; an empty standby copies them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cvp_core::config::Value as Setting;

use super::chain::{self, Made, partitions};
use super::nodes::{self, Node, pause};
use super::report::Series;
use super::{Bench, machine, scratch};
use crate::ipc::Request;

/// Seconds of a timed run, unless asked for otherwise.
const SECONDS: u64 = 60;
/// Bytes of all chains together, unless asked for otherwise.
const BYTES: u64 = 1 << 30;
/// Bytes of a record.
const RECORD_BYTES: u64 = 64 << 10;
/// Between two looks: a status of a hundred namespaces costs what the copy needs, so there are few until the end is near.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(400));
/// From the attach to the lifting of the rate: what a start leaves to do is no part of the copy.
const SETTLE: Duration = Duration::from_secs(2);
/// Namespaces of a case.
const CASES: [u64; 3] = [1, 10, 100];
/// File and key of the rate that holds the chains back while the pair attaches.
const RATE: (&str, &str) = ("dynamic.toml", "cvp.max_rate");
/// What a pair says whose chains are held back.
const HELD_BACK: [&str; 2] = ["catching-up", "rate-limited"];

/// What one copy took.
struct Copied {
    bytes_per_second: f64,
    attach_seconds: f64,
    resident_bytes_max: f64,
}

/// Runs the scenario.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let blocks = bench.options.bytes.unwrap_or(BYTES).div_ceil(RECORD_BYTES);
    let made: Vec<Made> = CASES
        .iter()
        .map(|count| chain::partitioned(bench, *count, blocks.max(2 * count), RECORD_BYTES))
        .collect::<Result<_>>()?;
    let mut rates: [Series; 3] = Default::default();
    let mut others: [[Series; 2]; 3] = Default::default();
    for number in 1..=bench.options.runs {
        // The cases in turn, so that what the machine does meanwhile falls on all of them.
        for (at, (count, made)) in CASES.iter().zip(&made).enumerate() {
            let runs = bench.options.runs;
            bench
                .report
                .note(&format!("partitions {count}: run {number} of {runs}"));
            let root = bench.scratch.0.join(format!("receiver-{count}-{number}"));
            let copied = copy(bench, root, *count, made)?;
            rates[at].push(copied.bytes_per_second);
            others[at][0].push(copied.attach_seconds);
            others[at][1].push(copied.resident_bytes_max);
        }
    }
    let [one, ..] = &rates;
    for ((count, rate), [attach, memory]) in CASES.iter().zip(&rates).zip(&others) {
        let case = count.to_string();
        bench
            .report
            .compared(&case, "bytes_per_second", "B/s", rate, ("1", one));
        bench.report.figure(&case, "attach_seconds", "s", attach);
        bench.report.figure(&case, "receiver_rss_bytes_max", "B", memory);
    }
    Ok(())
}

/// A fresh standby: seconds from its start until the configuration is copied, with the chains held back by a rate of a byte a second; bytes a second from the moment the rate is lifted, a while later, until all is durable; and its memory. Its files stay until the scenario's end, the long
/// ones empty: a file system that looks whether an inode was freed lately (ext4 without a journal) takes a tenth of the processor for the
/// thousand files of the next standby otherwise, and a virtual machine's host as much for memory that it has not given yet.
fn copy(bench: &Bench<'_>, root: PathBuf, count: u64, made: &Made) -> Result<Copied> {
    let seconds = bench.seconds(SECONDS);
    let tls = nodes::certificates(&bench.options.directory)?;
    // The chain is used again: whatever this run comes to, the next one sets it anew.
    nodes::configure(&made.root, RATE.0, RATE.1, Setting::Number(1))?;
    let provider = Node::start(&made.root, None)?;
    let namespaces = partitions(count);
    nodes::init_receiver_of(&root, &tls, &provider, &namespaces)?;
    for namespace in namespaces.iter().map(String::as_str).chain(["global"]) {
        let (file, key) = (
            format!("{namespace}/ns_static.toml"),
            "strategy.chain-sync.settings.bootstrap_bytes_min",
        );
        nodes::configure(&root, &file, key, Setting::Number(i64::MAX))?;
    }
    let started = Instant::now();
    let receiver = Node::start(&root, None)?;
    receiver.wait("the configuration is copied", |status| {
        status.peer.as_ref().is_some_and(|peer| peer.since.is_some())
            && status.reasons.iter().all(|reason| HELD_BACK.contains(&&*reason.code))
    })?;
    let attach_seconds = started.elapsed().as_secs_f64();
    pause(SETTLE);
    let durable = |node: &Node| -> Result<u64> { Ok(node.status()?.namespaces.iter().map(|n| n.durable).sum()) };
    let first = durable(&receiver)?;
    let all = made.tip * count;
    let begun = Instant::now();
    lift(&provider)?;
    let (reached, elapsed) = loop {
        let (reached, elapsed) = (durable(&receiver)?, begun.elapsed().as_secs_f64());
        if reached >= all || elapsed >= seconds as f64 {
            break (reached, elapsed);
        }
        // Half of what is left at this pace.
        let left = (all - reached) as f64 / (reached - first).max(1) as f64 * elapsed;
        pause(Duration::from_secs_f64(left / 2.0).clamp(LOOKS.0, LOOKS.1));
    };
    let copied = Copied {
        bytes_per_second: (reached - first) as f64 / all as f64 * made.bytes as f64 / elapsed,
        attach_seconds,
        resident_bytes_max: machine::resident_bytes_max(receiver.pid())?,
    };
    receiver.kill()?;
    provider.stop()?;
    scratch::empty_long_files(&root)?;
    Ok(copied)
}

/// Lets the chains go, on both ends.
fn lift(provider: &Node) -> Result<()> {
    let answer = provider.ask(&Request::ConfigSet {
        file: RATE.0.into(),
        key: RATE.1.into(),
        value: "0".into(),
        must_replicate: true,
    })?;
    ensure!(answer["replicated"] == true, "the rate was not lifted: {answer}");
    Ok(())
}
