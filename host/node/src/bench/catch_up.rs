//! Catch-up: an empty standby copies a long chain. Beside it the same bytes through a bare TLS pipe into a durable file.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use cvp_core::config::Value as Setting;
use serde_json::Value;

use super::chain::{self, Made};
use super::nodes::{self, LOOK, Node, pause};
use super::pipe::{self, PipeTls, Writing};
use super::report::Series;
use super::{Bench, machine};
use crate::ipc::Request;

/// Seconds of a timed run, unless asked for otherwise.
const SECONDS: u64 = 20;
/// Bytes of the chain of a case.
const CHAIN_BYTES: u64 = 1 << 30;
/// The usual cases: name, bytes of a record.
const CASES: [(&str, u64); 3] = [("1KiB", 1 << 10), ("64KiB", 64 << 10), ("1MiB", 1 << 20)];

/// What one copy took.
pub struct Copied {
    pub bytes_per_second: f64,
    pub blocks_per_second: f64,
    pub resident_bytes_max: f64,
    /// The same when the first GiB was durable.
    pub resident_bytes_first: f64,
    /// Time in strategies by processor time, of both nodes together.
    pub strategy_share: f64,
}

/// The chain of a case: about 1 GiB, or as long as was asked for.
pub fn chain_of(bench: &Bench<'_>, record_bytes: u64) -> Result<Made> {
    let bytes = bench.options.bytes.unwrap_or(CHAIN_BYTES);
    let blocks = (bytes / record_bytes).clamp(16, bytes / CHAIN_BYTES.min(bytes) * 1_000_000);
    chain::chain(bench, blocks, record_bytes)
}

/// Runs the scenario.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let cases: Vec<(String, u64)> = match bench.options.size {
        Some(size) => vec![(size.to_string(), size)],
        None => CASES.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect(),
    };
    for (name, size) in cases {
        case(bench, &name, size)?;
    }
    Ok(())
}

fn case(bench: &mut Bench<'_>, name: &str, record_bytes: u64) -> Result<()> {
    let seconds = bench.seconds(SECONDS);
    let made = chain_of(bench, record_bytes)?;
    let tls = nodes::certificates(&bench.options.directory)?;
    let pipes = PipeTls::load(&tls)?;
    let files = made.segments()?;
    let target = bench.scratch.0.join("pipe");
    let provider = Node::start(&made.root, None)?;
    // Memory that was given back to the host is faulted in here, outside of every figure.
    pipe::copy(&pipes, &files, made.bytes, &target, Writing::Buffered, seconds)?;
    let mut series: [Series; 6] = Default::default();
    let [ours, blocks, resident, resident_first, buffered, direct] = &mut series;
    for number in 1..=bench.options.runs {
        bench
            .report
            .note(&format!("catch-up {name}: run {number} of {}", bench.options.runs));
        buffered.push(pipe::copy(
            &pipes,
            &files,
            made.bytes,
            &target,
            Writing::Buffered,
            seconds,
        )?);
        direct.push(pipe::copy(
            &pipes,
            &files,
            made.bytes,
            &target,
            Writing::Direct,
            seconds,
        )?);
        let copied = copy(&bench.scratch.0, &tls, &provider, &made, seconds)?;
        ours.push(copied.bytes_per_second);
        blocks.push(copied.blocks_per_second);
        resident.push(copied.resident_bytes_max);
        resident_first.push(copied.resident_bytes_first);
    }
    let [ours, blocks, resident, resident_first, buffered, direct] = &series;
    bench
        .report
        .compared(name, "bytes_per_second", "B/s", ours, ("tls-pipe-fsync", buffered));
    bench
        .report
        .compared(name, "bytes_per_second", "B/s", ours, ("tls-pipe-direct", direct));
    bench.report.figure(name, "blocks_per_second", "blocks/s", blocks);
    if made.bytes > CHAIN_BYTES + CHAIN_BYTES / 2 {
        let first = ("after 1 GiB", resident_first);
        bench
            .report
            .compared(name, "receiver_rss_bytes_max", "B", resident, first);
    } else {
        bench.report.figure(name, "receiver_rss_bytes_max", "B", resident);
    }
    Ok(())
}

/// A fresh standby copies `made` from its running provider, verified and durable, for `seconds` at most.
pub fn copy(scratch: &Path, tls: &Path, provider: &Node, made: &Made, seconds: u64) -> Result<Copied> {
    let root = scratch.join("receiver");
    let _ = std::fs::remove_dir_all(&root);
    nodes::init_receiver(&root, tls, provider)?;
    // It is the records that are copied here.
    nodes::configure(
        &root,
        "global/ns_static.toml",
        "strategy.chain-sync.settings.bootstrap_bytes_min",
        Setting::Number(i64::MAX),
    )?;
    let before = Used::of(provider)?;
    let receiver = Node::start(&root, None)?;
    let (first, begun) = first_progress(&receiver)?;
    let first_gib = (made.tip as f64 * (CHAIN_BYTES as f64 / made.bytes as f64).min(1.0)) as u64;
    let mut resident_bytes_first = None;
    let (durable, elapsed) = loop {
        let durable = durable(&receiver)?;
        if durable >= first_gib && resident_bytes_first.is_none() {
            resident_bytes_first = Some(machine::resident_bytes_max(receiver.pid())?);
        }
        let elapsed = begun.elapsed().as_secs_f64();
        if durable >= made.tip || elapsed >= seconds as f64 {
            break (durable, elapsed);
        }
        pause(LOOK);
    };
    let blocks = durable.saturating_sub(first) as f64;
    ensure!(
        blocks > 0.0 && elapsed > 0.0,
        "the copy was over before it could be measured: take a longer chain"
    );
    if durable >= made.tip {
        receiver.wait("the copy is normal", |status| status.normal)?;
    }
    let (ours, theirs) = (Used::of(&receiver)?, Used::of(provider)?);
    let processor = ours.processor + theirs.processor - before.processor;
    let strategies = ours.strategies + theirs.strategies - before.strategies;
    let copied = Copied {
        bytes_per_second: blocks / made.tip as f64 * made.bytes as f64 / elapsed,
        blocks_per_second: blocks / elapsed,
        resident_bytes_max: machine::resident_bytes_max(receiver.pid())?,
        resident_bytes_first: resident_bytes_first.unwrap_or_default(),
        strategy_share: if processor > 0.0 { strategies / processor } else { 0.0 },
    };
    receiver.kill()?;
    std::fs::remove_dir_all(&root)?;
    Ok(copied)
}

/// The receiver's durable height, without waiting for anything.
pub fn durable(receiver: &Node) -> Result<u64> {
    let status = receiver.status()?;
    Ok(status.namespaces.first().context("a node without namespaces")?.durable)
}

/// Waits for the first look at which the session streams; answers the durable height then.
fn first_progress(receiver: &Node) -> Result<(u64, Instant)> {
    let status = receiver.wait("the copy begins", |status| {
        status.peer.as_ref().is_some_and(|peer| peer.since.is_some())
    })?;
    let durable = status.namespaces.first().context("a node without namespaces")?.durable;
    Ok((durable, Instant::now()))
}

/// What a node used so far, seconds.
struct Used {
    processor: f64,
    strategies: f64,
}

impl Used {
    fn of(node: &Node) -> Result<Used> {
        let rows = node.ask(&Request::PluginList)?;
        let nanos = rows
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|row: &Value| row["nanoseconds"].as_f64());
        Ok(Used {
            processor: machine::processor_seconds(node.pid())?,
            strategies: nanos.sum::<f64>() / 1e9,
        })
    }
}
