//! Strong changes: from the operator's request to the answer that both disks hold the change, beside two fsyncs and one round trip.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Bench;
use super::nodes::{self, pause};
use super::overhead::{PairOfNodes, Standby};
use super::pipe::{Floor, PipeTls};
use super::report::{Series, quantile};
use crate::ipc::Request;

/// Seconds of a timed run, unless asked for otherwise.
const SECONDS: u64 = 10;
/// Changes before those that count.
const WARM_UP: usize = 10;
/// Between two changes, as operators make them: the standby has written the one before into its copy.
const BETWEEN: Duration = Duration::from_millis(20);

/// Runs the scenario.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let seconds = bench.seconds(SECONDS);
    let pipes = PipeTls::load(&nodes::certificates(&bench.options.directory)?)?;
    let mut series: [Series; 4] = Default::default();
    let pair = PairOfNodes::start(bench, Standby::CaughtUp, None)?;
    let mut operator = pair.provider.operator()?;
    let mut floor = Floor::start(&pipes, &bench.scratch.0.join("fsync"))?;
    let mut value = 1_000_000_000_u64;
    for number in 1..=bench.options.runs {
        bench
            .report
            .note(&format!("strong: run {number} of {}", bench.options.runs));
        let (mut changes, mut floors) = (Vec::new(), Vec::new());
        let (begun, mut made) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(seconds) || made <= WARM_UP {
            value += 1;
            let request = Request::ConfigSet {
                file: "dynamic.toml".into(),
                key: "cvp.max_rate".into(),
                value: value.to_string(),
                must_replicate: true,
            };
            let least = floor.sample(2)?;
            let asked = Instant::now();
            let answer = operator.call(&request, |_| ()).map_err(anyhow::Error::new)?;
            let took = asked.elapsed().as_secs_f64();
            ensure!(
                answer["replicated"] == true,
                "a change that is not on both disks: {answer}"
            );
            made += 1;
            if made > WARM_UP {
                changes.push(took);
                floors.push(least);
            }
            pause(BETWEEN);
        }
        bench.report.note(&format!("{} changes", changes.len()));
        series[0].push(quantile(&mut changes, 0.5));
        series[1].push(quantile(&mut changes, 0.99));
        series[2].push(quantile(&mut floors, 0.5));
        series[3].push(quantile(&mut floors, 0.99));
    }
    floor.end()?;
    pair.end()?;
    let [middle, late, floor_middle, floor_late] = &series;
    let reference = "two-fsync-rtt";
    bench
        .report
        .compared("config", "latency_p50", "s", middle, (reference, floor_middle));
    bench
        .report
        .compared("config", "latency_p99", "s", late, (reference, floor_late));
    Ok(())
}
