//! Promotion: from the end of the preflight's network probes to the first new block, with chains of different lengths.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::chain::{self, Made};
use super::nodes::{self, Node};
use super::report::Series;
use super::{Bench, catch_up};
use crate::ipc::Request;

/// Blocks of the cases' chains.
const CASES: [u64; 2] = [1_000, 1_000_000];
/// Record of these chains, bytes: one transfer.
const RECORD_BYTES: u64 = 1 << 10;

/// Runs the scenario.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    for blocks in CASES {
        let made = chain::chain(&bench.options.directory, bench.report, blocks, RECORD_BYTES)?;
        let (mut promotion, mut probes) = (Series::default(), Series::default());
        for number in 1..=bench.options.runs {
            bench
                .report
                .note(&format!("promote {blocks}: run {number} of {}", bench.options.runs));
            let (milliseconds, probe) = promote(bench, &made)?;
            promotion.push(milliseconds);
            probes.push(probe);
        }
        let case = blocks.to_string();
        bench.report.figure(&case, "milliseconds", "ms", &promotion);
        bench.report.figure(&case, "probe_milliseconds", "ms", &probes);
    }
    Ok(())
}

fn promote(bench: &Bench<'_>, made: &Made) -> Result<(f64, f64)> {
    let tls = nodes::certificates(&bench.options.directory)?;
    let root = bench.scratch.0.join("receiver");
    let _ = std::fs::remove_dir_all(&root);
    let provider = Node::start(&made.root, None)?;
    nodes::init_receiver(&root, &tls, &provider)?;
    let receiver = Node::start(&root, None)?;
    receiver.wait("the copy is whole", |status| {
        status.normal && status.namespaces.first().is_some_and(|ns| ns.durable >= made.tip)
    })?;
    provider.kill()?;
    let answer = upgrade(&receiver)?;
    let number = |name: &str| {
        answer[name]
            .as_f64()
            .with_context(|| format!("the upgrade tells no {name}: {answer}"))
    };
    let timed = (number("milliseconds")?, number("probe_milliseconds")?);
    let height = catch_up::durable(&receiver).and_then(|_| super::overhead::tip(&receiver))?;
    ensure!(height == made.tip + 1, "the promoted node stands at {height}");
    receiver.kill()?;
    remove(&root)?;
    Ok(timed)
}

/// Waits until the preflight takes the provider for dead, then promotes.
fn upgrade(receiver: &Node) -> Result<Value> {
    let request = |dry_run| Request::Upgrade {
        dry_run,
        allow_missing_keys: false,
        target_is_down: false,
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

fn remove(root: &Path) -> Result<()> {
    std::fs::remove_dir_all(root).with_context(|| format!("remove {}", root.display()))
}
