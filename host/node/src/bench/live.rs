//! The live tail at half the producer's largest rate: from a block's commit on the provider to the standby's durable acknowledgement.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::load::{Load, Pace, Wallet};
use super::nodes::{self, Node, pause};
use super::overhead::{OTHER_CORE, PairOfNodes, Standby, rate};
use super::pipe::{self, PipeTls};
use super::report::{Series, quantile};
use super::{Bench, chain};

/// Seconds of a timed run, unless asked for otherwise.
const SECONDS: u64 = 10;
/// Samples of the reference in each run.
const SAMPLES: usize = 500;

/// Runs the scenario.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let seconds = bench.seconds(SECONDS);
    let most = rate(bench, Standby::CaughtUp, None)?;
    let half = most / 2.0;
    bench.report.note(&format!(
        "the producer makes {most:.1} full blocks a second at most: half of that is offered"
    ));
    let pipes = PipeTls::load(&nodes::certificates(&bench.options.directory)?)?;
    let mut series: [Series; 6] = Default::default();
    for number in 1..=bench.options.runs {
        bench
            .report
            .note(&format!("live: run {number} of {}", bench.options.runs));
        let target = bench.scratch.0.join("fsync");
        let mut floor = pipe::fsync_and_round_trip(&pipes, &target, SAMPLES)?;
        let (took, block_bytes) = latencies(bench, half, seconds)?;
        let mut same_bytes = pipe::durable_blocks(&pipes, &target, block_bytes, SAMPLES)?;
        let middle_and_late = [took, both(&mut floor), both(&mut same_bytes)].concat();
        series
            .iter_mut()
            .zip(middle_and_late)
            .for_each(|(it, value)| it.push(value));
    }
    let [middle, late, floor_middle, floor_late, bytes_middle, bytes_late] = &series;
    for (metric, ours, floor, same_bytes) in [
        ("latency_p50", middle, floor_middle, bytes_middle),
        ("latency_p99", late, floor_late, bytes_late),
    ] {
        let report = &mut bench.report;
        report.compared("half-rate", metric, "s", ours, ("fsync-rtt", floor));
        report.compared("half-rate", metric, "s", ours, ("block-fsync-rtt", same_bytes));
    }
    Ok(())
}

/// p50 and p99.
fn both(samples: &mut [f64]) -> [f64; 2] {
    [quantile(samples, 0.5), quantile(samples, 0.99)]
}

/// p50 and p99, seconds, as the provider's own metrics have them; and the bytes of a block's record.
fn latencies(bench: &Bench<'_>, blocks_per_second: f64, seconds: u64) -> Result<([f64; 2], usize)> {
    let count = (blocks_per_second * seconds as f64).ceil() as usize;
    let requests = Wallet::funded()?.requests(count);
    let pair = PairOfNodes::start(bench, Standby::CaughtUp, None)?;
    let pace = Pace::Rate(blocks_per_second);
    let load = Load::start(&pair.provider.jsonrpc, requests, pace, OTHER_CORE)?;
    pause(Duration::from_secs(seconds));
    load.stop()?;
    let page = metrics(&pair.provider)?;
    let block_bytes = chain::record_bytes_mean(pair.provider.directory())?;
    pair.end()?;
    Ok(([summary(&page, "0.5")?, summary(&page, "0.99")?], block_bytes))
}

fn metrics(provider: &Node) -> Result<String> {
    let address = provider.status()?.metrics.context("the provider serves no metrics")?;
    super::load::get(&address, "/metrics")
}

/// A quantile of `cvp_receiver_ack_seconds`.
fn summary(page: &str, quantile: &str) -> Result<f64> {
    let wanted = format!("quantile=\"{quantile}\"");
    let line = page
        .lines()
        .find(|line| line.starts_with("cvp_receiver_ack_seconds{") && line.contains(&wanted));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value
        .context("no block was acknowledged")?
        .parse()
        .context("a metric that is no number")
}
