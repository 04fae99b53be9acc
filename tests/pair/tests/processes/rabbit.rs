//! Message queues at a real RabbitMQ, read with another client library: every block, in order, over everything that ends.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cvp_pair::broker::{Broker, PASSWORD, USER};
use cvp_pair::consumer::Consumer;
use cvp_pair::events::Events;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::queues::{enable, inner, register};
use cvp_pair::rpc::Rpc;
use cvp_pair::signer::{ec, send, settled, transfer};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);
/// Events that are published before their confirmations are awaited.
pub(crate) const WINDOW: usize = 256;

pub(crate) fn at_broker(broker: &Broker) -> String {
    format!(
        "[mq.broker]\ntype = \"rabbit\"\n[mq.rabbit]\nurl = \"{}\"",
        broker.url()
    )
}

/// Sends until the chain is at least `height` high, a block every few milliseconds; answers its height when all that was sent is in it.
pub(crate) fn grow(rpc: &Rpc, height: u64) -> Result<u64> {
    let (signer, begun) = (ec()?, Instant::now());
    let mut last = None;
    while rpc.height()? < height {
        last = Some(send(rpc, transfer(&signer, 1, ""))?);
        ensure!(
            begun.elapsed() < Duration::from_secs(300),
            "the chain does not grow to {height}"
        );
    }
    if let Some(last) = last {
        settled(rpc, &last)?;
    }
    rpc.height()
}

/// Blocks every few milliseconds.
pub(crate) fn quick_blocks(node: &Node) -> Result<()> {
    let file = node.root().join("configuration/global/ns_static.toml");
    let text = std::fs::read_to_string(&file)?;
    let quick = text.replacen("batch = \"0.5s\"", "batch = \"5ms\"", 1);
    ensure!(quick != text, "no batch time in {text}");
    Ok(std::fs::write(&file, quick)?)
}

/// The heights of a queue: each from 1 to `last` for the first time in order, with the chain's hash; answers how many came twice of
/// the node's doing.
fn check(lines: &[Value], last: u64, hashes: &[Value]) -> Result<usize> {
    let (mut next, mut twice) = (1, 0);
    for line in lines {
        ensure!(line["key"] == "MQBlock" && line["type"] == "MQBlock", "{line}");
        let height: u64 = line["body"]["number"].as_str().context("no number")?.parse()?;
        ensure!(
            line["body"]["hash"] == hashes[height as usize],
            "block {height} has another hash: {line}"
        );
        if height == next {
            next += 1;
        } else if height > next {
            bail!("block {height} came where {next} was due");
        } else if line["redelivered"] != true {
            twice += 1;
        }
    }
    ensure!(
        next > last,
        "the last block told is {}, the chain's is {last}",
        next - 1
    );
    Ok(twice)
}

pub(crate) fn broker_state(node: &Node, state: &str) -> Result<Value> {
    node.wait_status(&format!("the broker is {state}"), WITHIN, |status| {
        status["namespaces"][0]["mq"]["state"] == state
    })
}

pub(crate) fn credentials_show_nowhere(node: &Node) -> Result<()> {
    let mut said = node.log();
    for command in [
        &["status"][..],
        &["mq", "status"],
        &["mq", "list"],
        &["--json", "status"],
        &["config", "list"],
        &["--json", "config", "list", "global/ns_static.toml"],
        &["config", "get", "global/ns_static.toml", "mq.rabbit.url"],
        &["config", "get", "global/ns_static.toml", "mq"],
    ] {
        let output = node.command(command)?;
        said += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
    }
    ensure!(
        said.contains("127.0.0.1") && said.contains("amqp://***@"),
        "nothing was said"
    );
    for secret in [USER, PASSWORD] {
        let line = said.lines().find(|line| line.contains(secret));
        ensure!(line.is_none(), "{secret} in {line:?}");
    }
    Ok(())
}

#[test]
fn fifty_queues_miss_no_block_over_two_restarts_of_the_broker_and_a_kill() -> Result<()> {
    let mut broker = Broker::start()?;
    let mut pair = Pair::init(&Setup::default())?;
    let node = &mut pair.provider;
    enable(node, "global", &at_broker(&broker))?;
    // It goes away, and the client library says so too.
    node.provokes(&["cvp::mq::rabbit", "lapin"]);
    quick_blocks(node)?;
    node.start()?;
    broker_state(node, "connected")?;
    let queues: Vec<String> = (0..50).map(|n| format!("queue{n}")).collect();
    for queue in &queues {
        register(&node.rpc(), queue, 1)?;
    }
    let out = pair.directory.path().join("consumed");
    let consumer = Consumer::start(&broker, out, &queues)?;
    grow(&node.rpc(), 400)?;

    broker.end()?;
    broker_state(node, "unreachable")?;
    grow(&node.rpc(), 600)?;
    broker.begin()?;
    broker_state(node, "connected")?;
    grow(&node.rpc(), 1_000)?;

    node.kill()?;
    node.start()?;
    grow(&node.rpc(), 1_500)?;
    broker.end()?;
    broker.begin()?;
    let last = grow(&node.rpc(), 2_000)?;
    consumer.wait(&queues, last, Duration::from_secs(180))?;
    let mut hashes = vec![Value::Null];
    for height in 1..=last {
        let block = node.rpc().call("block_getBlockByNumber", json!([height, true]))?;
        hashes.push(block["hash"].clone());
    }
    let seen = consumer.seen()?;
    for queue in &queues {
        let twice = check(&seen[queue], last, &hashes).with_context(|| queue.clone())?;
        // Three times something ended while a window was out.
        ensure!(twice <= 3 * WINDOW, "{queue}: {twice} blocks came twice");
    }
    credentials_show_nowhere(node)?;
    consumer.stop()
}

#[test]
fn a_broker_that_is_away_holds_up_nothing_and_is_told_everything_when_it_comes() -> Result<()> {
    let mut broker = Broker::start()?;
    broker.end()?;
    let mut pair = Pair::init(&Setup::default())?;
    let node = &mut pair.provider;
    enable(node, "global", &at_broker(&broker))?;
    // It goes away, and the client library says so too.
    node.provokes(&["cvp::mq::rabbit", "lapin"]);
    quick_blocks(node)?;
    node.start()?;
    let rpc = node.rpc();
    let status = broker_state(node, "unreachable")?;
    let warning = &status["namespaces"][0]["warnings"];
    ensure!(warning.to_string().contains("queues-unreachable"), "{warning}");
    let exchanger = register(&rpc, "orders", 1)?;
    let last = grow(&rpc, 20)?;
    let told = inner(&rpc.call("mq_informNormal", json!([""]))?)?;
    ensure!(told["success"] == false && told["error"].is_string(), "{told}");

    broker.begin()?;
    let told = inner(&rpc.call("mq_informNormal", json!([broker.url()]))?)?;
    ensure!(told == json!({"success": true, "error": null}), "{told}");
    ensure!(rpc.refused("mq_informNormal", json!(["amqp://elsewhere/"]))? == -32602);
    let names = ["orders".to_owned()];
    let consumer = Consumer::start(&broker, pair.directory.path().join("consumed"), &names)?;
    consumer.wait(&names, last, WITHIN)?;
    consumer.stop()?;
    // The node itself serves no stream of what a broker carries.
    let refused = Events::refused(node.jsonrpc(), "global", "orders", None)?;
    ensure!((refused.0, &refused.1["code"]) == (404, &json!(-32601)), "{refused:?}");

    let height = grow(&rpc, last + 3)?;
    let named = height.to_string();
    node.wait_status("everything is confirmed", WITHIN, |_| {
        let list = node.json(&["mq", "list"]);
        list.is_ok_and(|(_, list)| list["queues"][0]["cursor"] == named.as_str())
    })?;
    let gone = inner(&rpc.call("mq_unRegister", json!(["orders", exchanger, "", ""]))?)?;
    ensure!(
        gone == json!({"count": height - last, "success": true, "error": null}),
        "{gone}, of {height} after {last}"
    );
    inner(&rpc.call("mq_deleteExchanger", json!([exchanger]))?)?;
    // A queue of that name begins anew.
    register(&rpc, "orders", 1)?;
    let again = Consumer::start(&broker, pair.directory.path().join("again"), &names)?;
    again.wait(&names, height, WITHIN)?;
    ensure!(again.seen()?["orders"][0]["id"] == "1");
    credentials_show_nowhere(node)
}

#[test]
fn a_queue_that_went_while_the_broker_was_away_is_removed_there_when_it_is_back() -> Result<()> {
    let mut broker = Broker::start()?;
    let mut pair = Pair::init(&Setup::default())?;
    let node = &mut pair.provider;
    enable(node, "global", &at_broker(&broker))?;
    // It goes away, and the client library says so too.
    node.provokes(&["cvp::mq::rabbit", "lapin"]);
    node.start()?;
    broker_state(node, "connected")?;
    let exchanger = register(&node.rpc(), "orders", 1)?;
    register(&node.rpc(), "gone", 1)?;
    let height = grow(&node.rpc(), 3)?;
    // Nobody takes them: they lie at the broker.
    node.wait_status("everything is confirmed", WITHIN, |_| {
        let list = node.json(&["mq", "list"]);
        let confirmed = |queue: &Value| queue["cursor"] == height.to_string().as_str();
        list.is_ok_and(|(_, list)| {
            let queues = list["queues"].as_array().into_iter().flatten();
            queues.filter(|queue| confirmed(queue)).count() == 2
        })
    })?;
    broker.end()?;
    broker_state(node, "unreachable")?;
    for queue in ["orders", "gone"] {
        let answer = inner(&node.rpc().call("mq_unRegister", json!([queue, exchanger, "", ""]))?)?;
        ensure!(answer["success"] == true, "{answer}");
    }
    // What is to be removed outlives the node.
    node.kill()?;
    node.start()?;
    register(&node.rpc(), "orders", 1)?;
    broker.begin()?;
    node.wait_log("queue removed at the broker namespace=global queue=\"gone\"", WITHIN)?;
    let names = ["orders".to_owned()];
    let consumer = Consumer::start(&broker, pair.directory.path().join("consumed"), &names)?;
    consumer.wait(&names, height, WITHIN)?;
    let seen = consumer.seen()?;
    let ids: Vec<&str> = seen["orders"].iter().filter_map(|line| line["id"].as_str()).collect();
    let each: Vec<String> = (1..=height).map(|height| height.to_string()).collect();
    ensure!(ids == each, "what lay there was told again, or nothing anew: {ids:?}");
    consumer.stop()
}
