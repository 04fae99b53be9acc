//! What a strategy costs: one call of the embedded default, and its share of the processor while a standby catches up.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, anyhow};
use cvp_core::strategy::Strategy as _;
use cvp_core::types::strategy::chain_sync::{Event, KIND, View};
use cvp_core::types::strategy::{Fault, Role};

use super::report::{Series, quantile};
use super::{Bench, catch_up, nodes};
use crate::replication::strategies::Strategies;

/// Calls of a run.
const CALLS: usize = 100_000;
/// Calls before the clock starts.
const WARM_UP: usize = 10_000;
/// Record of the chain that is caught up with, bytes.
const RECORD_BYTES: u64 = 64 << 10;
/// Seconds of a copy, unless asked for otherwise.
const SECONDS: u64 = 20;

/// Runs the scenario.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let fault = |fault: Fault| anyhow!("{}: {}", fault.code, fault.text);
    let strategies = Strategies::new(&bench.scratch.0.join("cache"), &bench.scratch.0.join("plugins"))?;
    let mut instance = strategies.open_embedded(Role::Receiver).map_err(fault)?;
    let mut view = View::new(Role::Receiver, "global");
    let opened = Event::Opened {
        view: view.clone(),
        stored: Vec::new(),
    };
    instance.handle(vec![opened]).map_err(fault)?;
    let (mut middle, mut late) = (Series::default(), Series::default());
    for _ in 0..bench.options.runs {
        let mut samples = Vec::with_capacity(CALLS);
        for number in 0..WARM_UP + CALLS {
            view.now += 1;
            view.applied_batches += 1;
            let events = vec![Event::Progress(view.clone())];
            let begun = Instant::now();
            let actions = instance.handle(events).map_err(fault)?;
            let nanos = begun.elapsed().as_nanos() as f64;
            black_box(actions);
            if number >= WARM_UP {
                samples.push(nanos);
            }
        }
        middle.push(quantile(&mut samples, 0.5));
        late.push(quantile(&mut samples, 0.99));
    }
    bench.report.figure(KIND, "call_ns_p50", "ns", &middle);
    bench.report.figure(KIND, "call_ns_p99", "ns", &late);
    share(bench)
}

fn share(bench: &mut Bench<'_>) -> Result<()> {
    let made = catch_up::chain_of(bench, RECORD_BYTES)?;
    let tls = nodes::certificates(&bench.options.directory)?;
    let provider = nodes::Node::start(&made.root, None)?;
    let mut shares = Series::default();
    for number in 1..=bench.options.runs {
        bench.report.note(&format!(
            "strategies during catch-up: run {number} of {}",
            bench.options.runs
        ));
        let copied = catch_up::copy(&bench.scratch.0, &tls, &provider, &made, bench.seconds(SECONDS))?;
        shares.push(copied.strategy_share);
    }
    bench.report.figure(KIND, "cpu_share", "1", &shares);
    Ok(())
}
