//! Promotion: from the end of the preflight's network probes to the first new block, with chains of different lengths, and with many of
//! them. Beside it what so many fsyncs take.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::chain::{self, Made};
use super::nodes::{self, Node};
use super::report::Series;
use super::{Bench, pipe};
use crate::ipc::Request;

/// A case: its name, namespaces, blocks of all of them together.
const CASES: [(&str, u64, u64); 3] = [
    ("1000", 1, 1_000),
    ("1000000", 1, 1_000_000),
    ("100-namespaces", 100, 1_000),
];
/// Record of these chains, bytes: one transfer.
const RECORD_BYTES: u64 = 1 << 10;
/// What a promotion may take, where that is more than the milliseconds allowed: so many fsyncs of 4 KiB.
const FSYNCS: usize = 20;

/// Runs the scenario.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut first: Option<Series> = None;
    for (case, namespaces, blocks) in CASES {
        let made = match namespaces {
            1 => chain::chain(bench, blocks, RECORD_BYTES)?,
            many => chain::partitioned(bench, many, blocks, RECORD_BYTES)?,
        };
        let [mut promotion, mut probes, mut fsyncs]: [Series; 3] = Default::default();
        for number in 1..=bench.options.runs {
            let runs = bench.options.runs;
            bench.report.note(&format!("promote {case}: run {number} of {runs}"));
            fsyncs.push(pipe::fsyncs(&bench.scratch.0.join("fsync"), FSYNCS)? * 1e3);
            let root = bench.scratch.0.join(format!("receiver-{case}-{number}"));
            let (milliseconds, probe) = promote(bench, (&root, namespaces), &made)?;
            promotion.push(milliseconds);
            probes.push(probe);
        }
        let report = &mut bench.report;
        report.compared(case, "milliseconds", "ms", &promotion, ("20-fsyncs", &fsyncs));
        if let Some(first) = &first {
            report.compared(case, "milliseconds", "ms", &promotion, ("1000", first));
        }
        report.figure(case, "probe_milliseconds", "ms", &probes);
        first.get_or_insert(promotion);
    }
    Ok(())
}

/// A standby in `root` takes over. Its files stay until the scenario's end, as those of `partitions` do: a file system that looks for inodes
/// that were freed lately would be what is measured.
fn promote(bench: &Bench<'_>, (root, namespaces): (&Path, u64), made: &Made) -> Result<(f64, f64)> {
    let tls = nodes::certificates(&bench.options.directory)?;
    let provider = Node::start(&made.root, None)?;
    nodes::init_receiver_of(root, &tls, &provider, &chain::partitions(namespaces))?;
    let receiver = Node::start(root, None)?;
    receiver.wait("the copy is whole", |status| {
        status.normal && status.namespaces.iter().all(|ns| ns.durable >= made.tip)
    })?;
    provider.kill()?;
    let answer = upgrade(&receiver)?;
    let number = |name: &str| {
        answer[name]
            .as_f64()
            .with_context(|| format!("the upgrade tells no {name}: {answer}"))
    };
    let timed = (number("milliseconds")?, number("probe_milliseconds")?);
    let tips: Vec<u64> = receiver.status()?.namespaces.iter().map(|ns| ns.tip).collect();
    ensure!(
        tips.len() as u64 == namespaces && tips.iter().all(|tip| *tip == made.tip + 1),
        "the promoted node stands at {tips:?}, not one block above {}",
        made.tip
    );
    receiver.kill()?;
    Ok(timed)
}

/// Waits until the preflight takes the provider for dead, then promotes.
fn upgrade(receiver: &Node) -> Result<Value> {
    let request = |dry_run| Request::Upgrade {
        dry_run,
        allow_missing_keys: false,
        target_is_down: false,
        begin_anew: false,
    };
    let failed = |answer: &Value| {
        answer["checks"]
            .as_array()
            .is_some_and(|checks| checks.iter().any(|check| check["verdict"] == "fail"))
    };
    let begun = std::time::Instant::now();
    loop {
        let answer = receiver.ask(&request(true))?;
        if !failed(&answer) {
            break;
        }
        ensure!(begun.elapsed().as_secs() < 30, "the preflight does not pass: {answer}");
        nodes::pause(std::time::Duration::from_millis(100));
    }
    let answer = receiver.ask(&request(false))?;
    ensure!(answer["serving"].is_object(), "the upgrade did not end well: {answer}");
    Ok(answer)
}
