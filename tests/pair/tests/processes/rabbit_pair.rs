//! A pair whose queues lie at a real RabbitMQ: the consumer, which knows nothing of either node, is told every block in order over a broker
//! that restarts, a provider that dies and a standby that takes its place.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cvp_pair::broker::Broker;
use cvp_pair::consumer::{Consumer, place};
use cvp_pair::dice::Dice;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, durable};
use cvp_pair::proxy::Proxy;
use cvp_pair::queues::{enable, inner, register};
use cvp_pair::rpc::Rpc;
use cvp_pair::signer::{ec, send, transfer};
use cvp_pair::wait;
use serde_json::{Value, json};

use crate::configuration::wait_equal;
use crate::queues::cursor;
use crate::rabbit::{WINDOW, at_broker, broker_state, credentials_show_nowhere, grow, quick_blocks};

const WITHIN: Duration = Duration::from_secs(240);

/// Queues, and the height of the chain at the end.
const QUEUES: usize = 50;
const BLOCKS: u64 = 2_000;

/// Heights that were told under another hash than the chain's, and events that came twice of a node's doing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    otherwise: usize,
    twice: usize,
}

/// What a queue was told: each height from 1 to `last` for the first time in order and with the chain's hash. Other hashes have only heights
/// that a stateUpdate announced, and come before it.
fn check(lines: &[Value], last: u64, hashes: &[Value], held: u64) -> Result<Told> {
    let (mut told, mut next, mut highest, mut announced) = (Told::default(), 1, 0, None);
    for line in lines {
        let again = line["redelivered"] == true;
        let body = &line["body"];
        if line["key"] == "MQException" {
            let height = body["height"].as_u64().context("no height")?;
            ensure!(body["subType"] == "stateUpdate" && height == held + 1, "{line}");
            ensure!(announced.is_none() || again, "announced twice: {line}");
            announced = Some(height);
            continue;
        }
        ensure!(line["key"] == "MQBlock" && line["type"] == "MQBlock", "{line}");
        let height: u64 = body["number"].as_str().context("no number")?.parse()?;
        if body["hash"] != hashes[height as usize] {
            ensure!(
                height > held,
                "block {height}, which both nodes held, has another hash: {line}"
            );
            ensure!(
                announced.is_none() || again,
                "another hash behind the announcement: {line}"
            );
            if height > highest && !again {
                ensure!(
                    height == highest + 1,
                    "block {height} came where {} was due",
                    highest + 1
                );
                told.otherwise += 1;
            }
        } else if height == next {
            next += 1;
        } else if height > next {
            bail!("block {height} came where {next} was due");
        } else if !again {
            told.twice += 1;
        }
        highest = highest.max(height);
    }
    ensure!(
        next > last,
        "the last block told is {}, the chain's is {last}",
        next - 1
    );
    ensure!(announced.is_some() || told.otherwise == 0, "nothing was announced");
    Ok(told)
}

/// The hashes of the chain, by height.
fn hashes(rpc: &Rpc, last: u64) -> Result<Vec<Value>> {
    let mut hashes = vec![Value::Null];
    for height in 1..=last {
        let block = rpc.call("block_getBlockByNumber", json!([height, true]))?;
        hashes.push(block["hash"].clone());
    }
    Ok(hashes)
}

/// Blocks that no standby has, told to every queue; then the provider is gone.
fn die_ahead(pair: &mut Pair, consumer: &Consumer, queues: &[String]) -> Result<()> {
    let rpc = pair.provider.rpc();
    pair.receiver.freeze()?;
    let signer = ec()?;
    let mut sent = rpc.height()?;
    for _ in 0..20 {
        send(&rpc, transfer(&signer, 1, ""))?;
        sent = rpc.height()?;
    }
    consumer.wait(queues, sent, WITHIN)?;
    // More is on its way to the broker when it dies.
    for _ in 0..20 {
        send(&rpc, transfer(&signer, 1, ""))?;
    }
    pair.provider.kill()?;
    pair.receiver.thaw()
}

#[test]
fn a_consumer_of_a_rabbitmq_misses_nothing_over_a_take_over_and_two_restarts_of_the_broker() -> Result<()> {
    let mut broker = Broker::start()?;
    let mut pair = Pair::init(&Setup::default())?;
    // The broker goes away, and the client library says so too.
    pair.provokes(&["cvp::mq::rabbit", "lapin"]);
    enable(&pair.provider, "global", &at_broker(&broker))?;
    quick_blocks(&pair.provider)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    broker_state(&pair.provider, "connected")?;
    let queues: Vec<String> = (0..QUEUES).map(|n| format!("queue{n}")).collect();
    let mut exchanger = String::new();
    for queue in &queues {
        exchanger = register(&pair.provider.rpc(), queue, 1)?;
    }
    let consumer = Consumer::start(&broker, pair.directory.path().join("consumed"), &queues)?;

    grow(&pair.provider.rpc(), BLOCKS / 4)?;
    broker.end()?;
    broker_state(&pair.provider, "unreachable")?;
    grow(&pair.provider.rpc(), BLOCKS / 3)?;
    broker.begin()?;
    broker_state(&pair.provider, "connected")?;
    let common = grow(&pair.provider.rpc(), BLOCKS / 2)?;
    pair.wait_durable("global", common)?;
    consumer.wait(&queues, common, WITHIN)?;

    die_ahead(&mut pair, &consumer, &queues)?;
    pair.lose_provider()?;
    // The second time: it goes before the upgrade and comes back behind it.
    broker.end()?;
    let held = durable(&pair.receiver.status()?, "global").context("no height")?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    let (node, rpc) = (&pair.receiver, pair.receiver.rpc());
    broker_state(node, "unreachable")?;
    broker.begin()?;
    broker_state(node, "connected")?;
    ensure!(rpc.call("mq_getExchangerName", json!([]))? == json!(exchanger));
    let last = grow(&rpc, BLOCKS)?;
    consumer.wait(&queues, last, WITHIN)?;

    let (seen, hashes) = (consumer.seen()?, hashes(&rpc, last)?);
    let mut all = Vec::new();
    for queue in &queues {
        let lines = &seen[queue];
        let other = lines.iter().find(|line| line["exchange"] != exchanger.as_str());
        ensure!(other.is_none(), "{queue}: of another exchange: {other:?}");
        let told = check(lines, last, &hashes, held).with_context(|| queue.clone())?;
        // The first restart of the broker and the take-over, each while a window was out.
        ensure!(told.twice <= 2 * WINDOW, "{queue}: {told:?}");
        all.push(told);
    }
    // The provider had told what the standby had not.
    ensure!(
        all.iter().any(|told| told.otherwise > 0),
        "nothing was told of a lost block: {all:?}"
    );
    unregister_all(&node.rpc(), &queues, &exchanger)?;
    credentials_show_nowhere(node)?;
    consumer.stop()
}

#[test]
fn a_take_over_in_the_middle_of_a_catch_up_repeats_one_window_at_most() -> Result<()> {
    let mut broker = Broker::start()?;
    // The line to the broker is what holds the catch-up up: without it all may be told before this test has looked.
    let line = Proxy::start(&format!("127.0.0.1:{}", broker.port()), Dice::new(1))?;
    let mut pair = Pair::init(&Setup::default())?;
    pair.provokes(&["cvp::mq::rabbit"]);
    let at_line = at_broker(&broker).replace(&format!("127.0.0.1:{}", broker.port()), line.address());
    ensure!(at_line.contains(line.address()), "{at_line}");
    enable(&pair.provider, "global", &at_line)?;
    quick_blocks(&pair.provider)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    broker_state(&pair.provider, "connected")?;
    let queues: Vec<String> = (0..QUEUES).map(|n| format!("queue{n}")).collect();
    let mut exchanger = String::new();
    for queue in &queues {
        exchanger = register(&pair.provider.rpc(), queue, 1)?;
    }
    broker.end()?;
    broker_state(&pair.provider, "unreachable")?;
    let common = grow(&pair.provider.rpc(), BLOCKS)?;
    pair.wait_durable("global", common)?;
    line.slow_to(4 << 20);
    broker.begin()?;
    let consumer = Consumer::start(&broker, pair.directory.path().join("consumed"), &queues)?;
    // Every queue has most of it still before it.
    wait::until("a queue is told the third window", WITHIN, || {
        let seen = consumer.seen()?;
        let longest = seen.values().map(Vec::len).max().unwrap_or_default();
        Ok(if longest > 2 * WINDOW {
            Ok(())
        } else {
            Err(longest.to_string())
        })
    })?;
    // Between two windows there is a moment in which nothing is: it dies when a consumer has what the standby does not know of.
    line.slow_to(32 << 10);
    wait::until("some of it is on its way", WITHIN, || {
        let seen = consumer.seen()?;
        for queue in &queues {
            let told = seen.get(queue).map_or(0, Vec::len);
            if told > cursor(&pair.receiver, queue)?.parse()? {
                return Ok(Ok(()));
            }
        }
        Ok(Err(format!("{} queues are told what the standby knows", queues.len())))
    })?;
    pair.provider.kill()?;
    line.slow_to(0);
    let told = consumer.seen()?.values().map(Vec::len).min().unwrap_or_default();
    ensure!(told < common as usize, "all of it was told when it died");
    pair.lose_provider()?;
    let held = durable(&pair.receiver.status()?, "global").context("no height")?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    let (node, rpc) = (&pair.receiver, pair.receiver.rpc());
    ensure!(rpc.call("mq_getExchangerName", json!([]))? == json!(exchanger));
    let last = grow(&rpc, common + 5)?;
    consumer.wait(&queues, last, WITHIN)?;
    let (seen, hashes) = (consumer.seen()?, hashes(&rpc, last)?);
    let mut all = Vec::new();
    for queue in &queues {
        let told = check(&seen[queue], last, &hashes, held).with_context(|| queue.clone())?;
        ensure!(told.twice <= WINDOW, "{queue}: {told:?}");
        all.push(told.twice);
    }
    ensure!(
        all.iter().any(|twice| *twice > 0),
        "nothing was on its way when it died"
    );
    credentials_show_nowhere(node)?;
    consumer.stop()
}

#[test]
fn a_standby_that_hangs_or_goes_holds_no_catch_up_up() -> Result<()> {
    let mut broker = Broker::start()?;
    let mut pair = Pair::init(&Setup::default())?;
    pair.provokes(&["cvp::mq::rabbit"]);
    enable(&pair.provider, "global", &at_broker(&broker))?;
    quick_blocks(&pair.provider)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let queues = ["orders".to_owned()];
    register(&pair.provider.rpc(), "orders", 1)?;
    let consumer = Consumer::start(&broker, pair.directory.path().join("consumed"), &queues)?;
    broker.end()?;
    broker_state(&pair.provider, "unreachable")?;
    let height = grow(&pair.provider.rpc(), 1_000)?;
    pair.receiver.freeze()?;
    broker.begin()?;
    // Longer than the four windows at two seconds each, or for ever, it does not take.
    broker_state(&pair.provider, "connected")?;
    consumer.wait(&queues, height, Duration::from_secs(20))?;
    pair.receiver.kill()?;
    let height = grow(&pair.provider.rpc(), height + 300)?;
    consumer.wait(&queues, height, Duration::from_secs(20))?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let height = grow(&pair.provider.rpc(), height + 300)?;
    consumer.wait(&queues, height, Duration::from_secs(20))?;
    consumer.stop()
}

/// By the name of the exchange that the lost node had answered.
fn unregister_all(rpc: &Rpc, queues: &[String], exchanger: &str) -> Result<()> {
    for queue in queues {
        let gone = inner(&rpc.call("mq_unRegister", json!([queue, exchanger, "", ""]))?)?;
        ensure!(gone["success"] == true, "{queue}: {gone}");
    }
    wait::until("no queue is left", Duration::from_secs(10), || {
        let left = rpc.call("mq_getAllQueueNames", json!([]))?;
        Ok(if left == json!([]) {
            Ok(())
        } else {
            Err(left.to_string())
        })
    })
}

#[test]
fn what_was_unregistered_while_the_broker_was_away_is_removed_by_who_takes_over() -> Result<()> {
    let mut broker = Broker::start()?;
    let mut pair = Pair::init(&Setup::default())?;
    pair.provokes(&["cvp::mq::rabbit"]);
    enable(&pair.provider, "global", &at_broker(&broker))?;
    quick_blocks(&pair.provider)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    broker_state(&pair.provider, "connected")?;
    let exchanger = register(&pair.provider.rpc(), "orders", 1)?;
    let last = grow(&pair.provider.rpc(), 8)?;
    pair.wait_durable("global", last)?;
    let told = |node: &Node, height: u64| {
        wait::until("everything is confirmed", WITHIN, || {
            let at = cursor(node, "orders")?;
            Ok(if at == height.to_string() { Ok(()) } else { Err(at) })
        })
    };
    told(&pair.provider, last)?;
    broker.end()?;
    broker_state(&pair.provider, "unreachable")?;
    unregister_all(&pair.provider.rpc(), &["orders".to_owned()], &exchanger)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    // Registered anew before the broker is back.
    let (node, rpc) = (&pair.receiver, pair.receiver.rpc());
    register(&rpc, "orders", last - 1)?;
    broker.begin()?;
    broker_state(node, "connected")?;
    let tip = rpc.height()?;
    told(node, tip)?;
    let lie = broker.drain(&["orders".to_owned()])?;
    let heights: Vec<String> = lie["orders"].iter().map(|id| place(id).to_owned()).collect();
    let wanted: Vec<String> = (last - 1..=tip).map(|height| height.to_string()).collect();
    ensure!(heights == wanted, "{heights:?}");
    // The registry says no more that it is to be removed: the next to take over does nothing of it.
    let file = node.root().join("namespaces/global/data/mq/registry");
    wait::until("it is struck out of the registry", WITHIN, || {
        let bytes = std::fs::read(&file)?;
        let count = bytes.windows(6).filter(|name| name == b"orders").count();
        Ok(if count == 1 { Ok(()) } else { Err(count.to_string()) })
    })
}

#[test]
fn a_name_that_a_stopped_namespace_is_to_remove_stays_its_own_over_a_take_over() -> Result<()> {
    let mut broker = Broker::start()?;
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.provokes(&["cvp::mq::rabbit"]);
    for namespace in ["global", "ns1"] {
        enable(&pair.provider, namespace, &at_broker(&broker))?;
    }
    quick_blocks(&pair.provider)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    broker_state(&pair.provider, "connected")?;
    let ns1 = pair.provider.rpc().namespace("ns1");
    let queues = ["orders".to_owned()];
    let exchanger = register(&ns1, "orders", 1)?;
    for (namespace, rpc) in [("global", pair.provider.rpc()), ("ns1", ns1)] {
        let height = grow(&rpc, 2)?;
        pair.wait_durable(namespace, height)?;
    }
    broker.end()?;
    broker_state(&pair.provider, "unreachable")?;
    unregister_all(&pair.provider.rpc().namespace("ns1"), &queues, &exchanger)?;
    let (code, answer) = pair.provider.json(&["namespace", "stop", "ns1"])?;
    ensure!(code == 0, "{answer}");
    let params = json!([{"queueName": "orders", "routingKeys": ["MQBlock"], "fromBlock": "1"}]);
    ensure!(pair.provider.rpc().refused("mq_register", params.clone())? == -32007);
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    // It opened no queues of the namespace, and has no note of its own.
    let (node, rpc) = (&pair.receiver, pair.receiver.rpc());
    ensure!(rpc.refused("mq_register", params.clone())? == -32007);
    let (code, refused) = node.json(&["namespace", "destroy", "ns1"])?;
    ensure!(
        code == 4 && refused["error"]["code"] == "queues-at-broker" && refused.to_string().contains("orders"),
        "{code}: {refused}"
    );
    broker.begin()?;
    broker_state(node, "connected")?;
    ensure!(rpc.refused("mq_register", params.clone())? == -32007);
    let (code, answer) = node.json(&["namespace", "start", "ns1"])?;
    ensure!(code == 0, "{answer}");
    wait::until("the name is free", WITHIN, || {
        let answer = rpc.answer("mq_register", params.clone())?;
        Ok(if answer["code"] == 0 {
            Ok(())
        } else {
            Err(answer.to_string())
        })
    })?;
    // What is told under the name now stays, also when its namespace begins again.
    for action in ["stop", "start"] {
        let (code, answer) = node.json(&["namespace", action, "ns1"])?;
        ensure!(code == 0, "{answer}");
    }
    let tip = rpc.height()?;
    wait::until("everything is confirmed", WITHIN, || {
        let at = cursor(node, "orders")?;
        Ok(if at == tip.to_string() { Ok(()) } else { Err(at) })
    })?;
    let lie = broker.drain(&queues)?;
    let heights: Vec<&str> = lie["orders"].iter().map(|id| place(id)).collect();
    let wanted: Vec<String> = (1..=tip).map(|height| height.to_string()).collect();
    ensure!(heights == wanted, "{heights:?}");
    let (code, answer) = node.json(&["namespace", "stop", "ns1"])?;
    ensure!(code == 0, "{answer}");
    let (code, answer) = node.json(&["namespace", "destroy", "ns1"])?;
    ensure!(code == 0, "{answer}");
    Ok(())
}
