//! Strong changes: from the request to the answer that both disks hold the change, beside two fsyncs and one round trip. An operator's, of
//! a key, and a client's, of a message queue.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::Bench;
use super::load::Client;
use super::nodes::{self, Node, pause};
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
    let pipes = PipeTls::load(&nodes::certificates(&bench.options.directory)?)?;
    let pair = PairOfNodes::start_prepared(bench, Standby::CaughtUp, None, nodes::keep_queues)?;
    let mut floor = Floor::start(&pipes, &bench.scratch.0.join("fsync"))?;
    case(bench, &mut floor, "config", &mut keys(&pair.provider)?)?;
    case(bench, &mut floor, "queue", &mut queues(&pair.provider)?)?;
    floor.end()?;
    pair.end()
}

/// An operator sets a key.
fn keys(provider: &Node) -> Result<impl FnMut() -> Result<()>> {
    let mut operator = provider.operator()?;
    let mut value = 1_000_000_000_u64;
    Ok(move || {
        value += 1;
        let request = Request::ConfigSet {
            file: "dynamic.toml".into(),
            key: "cvp.max_rate".into(),
            value: value.to_string(),
            must_replicate: true,
        };
        let answer = operator.call(&request, |_| ()).map_err(anyhow::Error::new)?;
        ensure!(
            answer["replicated"] == true,
            "a change that is not on both disks: {answer}"
        );
        Ok(())
    })
}

/// A client registers a queue and unregisters it, in turn.
fn queues(provider: &Node) -> Result<impl FnMut() -> Result<()>> {
    let mut client = Client::open(&provider.jsonrpc)?;
    let exchanger = client.call("mq_getExchangerName", &json!([]))?["result"].clone();
    let mut registered = false;
    Ok(move || {
        let answer = if registered {
            client.call("mq_unRegister", &json!(["bench", exchanger, "", ""]))?
        } else {
            client.call(
                "mq_register",
                &json!([{"queueName": "bench", "routingKeys": ["MQBlock"]}]),
            )?
        };
        ensure!(answer["code"] == 0, "a queue was not changed: {answer}");
        registered = !registered;
        Ok(())
    })
}

/// Makes changes one by one, each after a sample of the floor.
fn case(bench: &mut Bench<'_>, floor: &mut Floor, name: &str, change: &mut impl FnMut() -> Result<()>) -> Result<()> {
    let seconds = bench.seconds(SECONDS);
    let mut series: [Series; 4] = Default::default();
    for number in 1..=bench.options.runs {
        let runs = bench.options.runs;
        bench.report.note(&format!("strong {name}: run {number} of {runs}"));
        let (mut changes, mut floors) = (Vec::new(), Vec::new());
        let (begun, mut made) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(seconds) || made <= WARM_UP {
            let least = floor.sample(2)?;
            let asked = Instant::now();
            change()?;
            let took = asked.elapsed().as_secs_f64();
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
    let [middle, late, floor_middle, floor_late] = &series;
    let reference = "two-fsync-rtt";
    bench
        .report
        .compared(name, "latency_p50", "s", middle, (reference, floor_middle));
    bench
        .report
        .compared(name, "latency_p99", "s", late, (reference, floor_late));
    Ok(())
}
