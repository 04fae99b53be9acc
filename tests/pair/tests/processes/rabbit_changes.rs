//! What comes, goes and breaks at a real RabbitMQ: a name that is registered anew loses nothing, an exchange that is gone is made again, a broker
//! that refuses is left in peace, and two namespaces share no queue.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvp_pair::broker::{Broker, PASSWORD, USER};
use cvp_pair::consumer::Consumer;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::queues::{enable, inner, register};
use cvp_pair::rpc::Rpc;
use cvp_pair::wait;
use serde_json::{Value, json};

use crate::rabbit::{at_broker, broker_state, grow, quick_blocks};

const WITHIN: Duration = Duration::from_secs(60);

/// A node with its queues at `broker`, started; its blocks come every few milliseconds.
pub(crate) fn node_at(broker: &Broker) -> Result<Pair> {
    let mut pair = Pair::init(&Setup::default())?;
    enable(&pair.provider, "global", &at_broker(broker))?;
    // The broker refuses and goes away.
    pair.provider.provokes(&["cvp::mq::rabbit"]);
    quick_blocks(&pair.provider)?;
    pair.provider.start()?;
    Ok(pair)
}

/// Waits until every queue was told everything, up to `height`, by the node's own word.
pub(crate) fn confirmed(node: &Node, queues: usize, height: u64) -> Result<()> {
    wait::until("everything is confirmed", WITHIN, || {
        let (_, list) = node.json(&["mq", "list"])?;
        let rows: Vec<&Value> = list["queues"].as_array().into_iter().flatten().collect();
        let told = |row: &&&Value| row["cursor"] == height.to_string().as_str();
        let count = rows.iter().filter(told).count();
        Ok(if (rows.len(), count) == (queues, queues) {
            Ok(())
        } else {
            Err(format!("{count} of {}", rows.len()))
        })
    })
}

/// Each queue at the broker holds the blocks from `first` to `last`, once and in order.
fn lies_there(broker: &Broker, names: &[String], first: u64, last: u64) -> Result<()> {
    let wanted: Vec<String> = (first..=last).map(|height| height.to_string()).collect();
    let lie: BTreeMap<String, Vec<String>> = broker.drain(names)?;
    for (queue, ids) in lie {
        ensure!(ids == wanted, "{queue}: {} of {}: {ids:?}", ids.len(), wanted.len());
    }
    Ok(())
}

/// Calls one method a queue, all at once; how long each may take is the node's.
fn all_at_once(rpc: &Rpc, names: &[String], call: impl Fn(&Rpc, &str) -> Result<()> + Sync) -> Result<()> {
    let call = &call;
    std::thread::scope(|scope| {
        let calls: Vec<_> = names.iter().map(|name| scope.spawn(move || call(rpc, name))).collect();
        let ended = calls
            .into_iter()
            .map(|call| call.join().map_err(|_| anyhow::anyhow!("a thread died"))?);
        ended.collect::<Result<Vec<()>>>().map(|_| ())
    })
}

pub(crate) fn unregister(rpc: &Rpc, queue: &str, exchanger: &str) -> Result<()> {
    let gone = inner(&rpc.call("mq_unRegister", json!([queue, exchanger, "", ""]))?)?;
    ensure!(gone["success"] == true, "{queue}: {gone}");
    Ok(())
}

#[test]
fn a_name_that_is_registered_anew_while_the_broker_hangs_is_told_everything() -> Result<()> {
    let broker = Broker::start()?;
    let pair = node_at(&broker)?;
    let (node, rpc) = (&pair.provider, pair.provider.rpc());
    broker_state(node, "connected")?;
    let height = grow(&rpc, 60)?;
    let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    all_at_once(&rpc, &names, |rpc, name| register(rpc, name, 1).map(|_| ()))?;
    confirmed(node, names.len(), height)?;
    let exchanger = rpc.call("mq_getExchangerName", json!([]))?;
    let exchanger = exchanger.as_str().context("no exchange")?;
    broker.freeze()?;
    all_at_once(&rpc, &names, |rpc, name| unregister(rpc, name, exchanger))?;
    all_at_once(&rpc, &names, |rpc, name| register(rpc, name, 1).map(|_| ()))?;
    broker.thaw()?;
    confirmed(node, names.len(), height)?;
    lies_there(&broker, &names, 1, height)
}

#[test]
fn a_name_that_is_taken_again_at_once_is_told_everything() -> Result<()> {
    let broker = Broker::start()?;
    let pair = node_at(&broker)?;
    let (node, rpc) = (&pair.provider, pair.provider.rpc());
    broker_state(node, "connected")?;
    let height = grow(&rpc, 400)?;
    let first = height - 50;
    let names: Vec<String> = (0..12).map(|n| format!("s{n}")).collect();
    let exchanger = all_registered(&rpc, &names, first)?;
    for round in 0..3 {
        confirmed(node, names.len(), height)?;
        std::thread::scope(|scope| {
            let again = scope.spawn(|| {
                all_at_once(&rpc, &names, |rpc, name| {
                    // Until the name is free.
                    wait::until("the name is free", WITHIN, || {
                        let params = json!([{"queueName": name, "routingKeys": ["MQBlock"], "fromBlock": first}]);
                        let answer = rpc.answer("mq_register", params)?;
                        Ok(if answer["code"] == 0 {
                            Ok(())
                        } else {
                            Err(answer.to_string())
                        })
                    })
                })
            });
            all_at_once(&rpc, &names, |rpc, name| unregister(rpc, name, &exchanger))?;
            again.join().map_err(|_| anyhow::anyhow!("a thread died"))?
        })?;
        confirmed(node, names.len(), height)?;
        lies_there(&broker, &names, first, height).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

fn all_registered(rpc: &Rpc, names: &[String], first: u64) -> Result<String> {
    let mut exchanger = String::new();
    for name in names {
        exchanger = register(rpc, name, first)?;
    }
    Ok(exchanger)
}

#[test]
fn an_exchange_that_was_removed_at_the_broker_is_made_again() -> Result<()> {
    let broker = Broker::start()?;
    let pair = node_at(&broker)?;
    let (node, rpc) = (&pair.provider, pair.provider.rpc());
    broker_state(node, "connected")?;
    let names: Vec<String> = (0..3).map(|n| format!("queue{n}")).collect();
    let exchanger = all_registered(&rpc, &names, 1)?;
    let consumer = Consumer::start(&broker, pair.directory.path().join("consumed"), &names)?;
    let height = grow(&rpc, 3)?;
    consumer.wait(&names, height, WITHIN)?;

    broker.remove_exchange(&exchanger)?;
    let height = grow(&rpc, height + 3)?;
    consumer.wait(&names, height, WITHIN)?;
    ensure!(broker.has_exchange(&exchanger)?);
    broker_state(node, "connected")?;
    let lost = "the connection was lost";
    ensure!(!node.log().contains(lost), "the connection was needed for it");

    // And at once where somebody says that the broker is well.
    broker.remove_exchange(&exchanger)?;
    let height = grow(&rpc, height + 1)?;
    node.wait_status("the refused queues are named", WITHIN, |status| {
        let warnings = status["namespaces"][0]["warnings"].to_string();
        // A look may come when they stand again already.
        warnings.contains("3 queues are not delivered (queue0, queue1, queue2)")
            || broker.has_exchange(&exchanger).unwrap_or(false)
    })?;
    let told = inner(&rpc.call("mq_informNormal", json!([""]))?)?;
    ensure!(told["success"] == true, "{told}");
    consumer.wait(&names, height, WITHIN)?;
    ensure!(!node.log().contains("lapin"), "{}", node.log());
    consumer.stop()
}

#[test]
fn a_broker_that_refuses_the_exchange_is_asked_seldom_and_nothing_secret_is_said() -> Result<()> {
    let broker = Broker::start_with(
        "default_permissions.configure = nothing\ndefault_permissions.read = .*\ndefault_permissions.write = .*",
    )?;
    let pair = node_at(&broker)?;
    let (node, rpc) = (&pair.provider, pair.provider.rpc());
    broker_state(node, "connected")?;
    register(&rpc, "orders", 1)?;
    grow(&rpc, 3)?;
    let status = broker_state(node, "unreachable")?;
    let problem = status["namespaces"][0]["mq"]["problem"].to_string();
    ensure!(problem.contains("refused"), "{problem}");
    let told = inner(&rpc.call("mq_informNormal", json!([""]))?)?;
    ensure!(told["success"] == false, "{told}");
    // Long enough for a hundred attempts without a pause.
    let begun = Instant::now();
    wait::until("time passes", WITHIN, || {
        Ok(if begun.elapsed() > Duration::from_secs(12) {
            Ok(())
        } else {
            Err(String::new())
        })
    })?;
    let log = node.log();
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    ensure!(lines("connected to the broker") <= 1, "{log}");
    ensure!(lines("is not connected") <= 1, "{log}");
    ensure!(!log.contains(USER) && !log.contains(PASSWORD), "{log}");
    Ok(())
}

#[test]
fn two_namespaces_share_no_queue_of_a_broker() -> Result<()> {
    let mut broker = Broker::start()?;
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    let node = &mut pair.provider;
    for namespace in ["global", "ns1"] {
        enable(node, namespace, &at_broker(&broker))?;
    }
    node.provokes(&["cvp::mq::rabbit"]);
    quick_blocks(node)?;
    node.start()?;
    broker_state(node, "connected")?;
    let (global, ns1) = (node.rpc(), node.rpc().namespace("ns1"));
    let height = grow(&global, 3)?;
    let exchanger = register(&global, "orders", 1)?;
    let params = json!([{"queueName": "orders", "routingKeys": ["MQBlock"], "fromBlock": "1"}]);
    let refused = ns1.answer("mq_register", params.clone())?;
    ensure!(
        refused["code"] == -32007 && refused["message"].to_string().contains("global"),
        "{refused}"
    );
    register(&ns1, "refunds", 1)?;
    // Not while it lies at the broker either, and over a restart.
    broker.end()?;
    broker_state(node, "unreachable")?;
    unregister(&global, "orders", &exchanger)?;
    node.stop()?;
    node.start()?;
    let ns1 = node.rpc().namespace("ns1");
    ensure!(ns1.answer("mq_register", params.clone())?["code"] == -32007);
    broker.begin()?;
    broker_state(node, "connected")?;
    wait::until("the name is free", WITHIN, || {
        let answer = ns1.answer("mq_register", params.clone())?;
        Ok(if answer["code"] == 0 {
            Ok(())
        } else {
            Err(answer.to_string())
        })
    })?;
    let refused = node.rpc().refused("mq_register", params.clone())?;
    ensure!(refused == -32007, "{refused}");
    // A namespace that is stopped keeps its queues there, and their names, over a start of the node too.
    let (code, answer) = node.json(&["namespace", "stop", "ns1"])?;
    ensure!(code == 0, "{answer}");
    ensure!(node.rpc().refused("mq_register", params.clone())? == -32007);
    node.stop()?;
    node.start()?;
    broker_state(node, "connected")?;
    let refused = node.rpc().answer("mq_register", params)?;
    ensure!(
        refused["code"] == -32007 && refused["message"].to_string().contains("ns1"),
        "{refused}"
    );
    // And so it is not destroyed with them.
    let (code, refused) = node.json(&["namespace", "destroy", "ns1"])?;
    ensure!(
        code == 4 && refused["error"]["code"] == "queues-at-broker" && refused.to_string().contains("orders, refunds"),
        "{code}: {refused}"
    );
    let (code, answer) = node.json(&["namespace", "start", "ns1"])?;
    ensure!(code == 0, "{answer}");
    let ns1 = node.rpc().namespace("ns1");
    let exchanger = ns1.call("mq_getExchangerName", json!([]))?;
    for queue in ["orders", "refunds"] {
        unregister(&ns1, queue, exchanger.as_str().context("no name")?)?;
    }
    // They go there as soon as the namespace, just started, has its connection.
    wait::until("both queues go at the broker", WITHIN, || {
        let left = broker.has_queue("/", "orders")? || broker.has_queue("/", "refunds")?;
        Ok(if left { Err("they are there".to_owned()) } else { Ok(()) })
    })?;
    let (code, answer) = node.json(&["namespace", "stop", "ns1"])?;
    ensure!(code == 0, "{answer}");
    let (code, answer) = node.json(&["namespace", "destroy", "ns1"])?;
    ensure!(code == 0, "{answer}");
    register(&node.rpc(), "orders", 1)?;
    lies_there(&broker, &["orders".to_owned()], 1, height)
}

#[test]
fn an_exchange_that_was_deleted_while_the_broker_was_away_goes_when_it_is_back() -> Result<()> {
    let mut broker = Broker::start()?;
    let mut pair = node_at(&broker)?;
    let node = &mut pair.provider;
    broker_state(node, "connected")?;
    let exchanger = register(&node.rpc(), "orders", 1)?;
    ensure!(broker.has_exchange(&exchanger)?);
    unregister(&node.rpc(), "orders", &exchanger)?;
    broker.end()?;
    broker_state(node, "unreachable")?;
    let done = inner(&node.rpc().call("mq_deleteExchanger", json!([exchanger]))?)?;
    ensure!(done == json!({"success": true, "error": null}), "{done}");
    // What is to be removed outlives the node.
    node.kill()?;
    node.start()?;
    let fresh = register(&node.rpc(), "orders", 1)?;
    ensure!(fresh != exchanger);
    broker.begin()?;
    broker_state(node, "connected")?;
    wait::until("the old exchange is gone", WITHIN, || {
        let (old, new) = (broker.has_exchange(&exchanger)?, broker.has_exchange(&fresh)?);
        Ok(if (old, new) == (false, true) {
            Ok(())
        } else {
            Err(format!("old {old}, new {new}"))
        })
    })
}

#[test]
fn a_queue_of_somebody_else_is_never_removed() -> Result<()> {
    let mut broker = Broker::start()?;
    let mut pair = node_at(&broker)?;
    let node = &mut pair.provider;
    broker_state(node, "connected")?;
    // Of another kind than this node makes: it is refused, and not delivered.
    broker.make("theirs", true)?;
    let exchanger = register(&node.rpc(), "theirs", 1)?;
    node.wait_status("the queue is refused", WITHIN, |status| {
        status.to_string().contains("queue-refused")
    })?;
    unregister(&node.rpc(), "theirs", &exchanger)?;
    // Of the same kind, under a name that was registered and unregistered while the broker was away.
    broker.make("same", false)?;
    broker.end()?;
    broker_state(node, "unreachable")?;
    register(&node.rpc(), "same", 1)?;
    unregister(&node.rpc(), "same", &exchanger)?;
    node.stop()?;
    node.start()?;
    broker.begin()?;
    broker_state(node, "connected")?;
    // What is to be removed is removed before anything is made.
    register(&node.rpc(), "later", 1)?;
    let height = grow(&node.rpc(), 2)?;
    confirmed(node, 1, height)?;
    let names = ["same", "theirs"].map(str::to_owned);
    let lie = broker.drain(&names)?;
    ensure!(
        lie.iter().all(|(name, ids)| ids == std::slice::from_ref(name)),
        "{lie:?}"
    );
    // Its own it removes.
    unregister(&node.rpc(), "later", &exchanger)?;
    let gone = broker.drain(&["later".to_owned()])?;
    ensure!(gone["later"].is_empty(), "{gone:?}");
    Ok(())
}

#[test]
fn a_broker_that_blocks_publishers_is_named_as_that_for_as_long_as_it_does() -> Result<()> {
    let broker = Broker::start()?;
    let pair = node_at(&broker)?;
    let (node, rpc) = (&pair.provider, pair.provider.rpc());
    broker_state(node, "connected")?;
    register(&rpc, "orders", 1)?;
    confirmed(node, 1, grow(&rpc, 3)?)?;
    broker.control(&["set_vm_memory_high_watermark", "0.000001"])?;
    let mut height = rpc.height()?;
    // It looks at its memory every few seconds, and blocks who publishes then.
    wait::until("the block is named", WITHIN, || {
        height = grow(&rpc, height + 1)?;
        let warnings = node.status()?["namespaces"][0]["warnings"].to_string();
        let named = warnings.contains("queues-blocked") && warnings.contains("blocks publishers (low on memory)");
        Ok(if named { Ok(()) } else { Err(warnings) })
    })?;
    let told = inner(&rpc.call("mq_informNormal", json!([""]))?)?;
    ensure!(
        told["success"] == false && told.to_string().contains("blocks publishers"),
        "{told}"
    );
    let begun = Instant::now();
    register(&rpc, "later", 1)?;
    ensure!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // Longer than anything is waited for.
    wait::until("it is said all the time", WITHIN, || {
        height = grow(&rpc, height + 1)?;
        let status = node.status()?;
        let warnings: Vec<&str> = status["namespaces"][0]["warnings"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|warning| warning["code"].as_str())
            .filter(|code| code.starts_with("queue"))
            .collect();
        ensure!(
            warnings == ["queues-blocked"],
            "{warnings:?} after {:?}",
            begun.elapsed()
        );
        Ok(if begun.elapsed() > Duration::from_secs(40) {
            Ok(())
        } else {
            Err(String::new())
        })
    })?;
    broker.control(&["set_vm_memory_high_watermark", "0.4"])?;
    confirmed(node, 2, height)?;
    let status = node.status()?;
    ensure!(!status.to_string().contains("queues-blocked"), "{status}");
    lies_there(&broker, &["orders".to_owned(), "later".to_owned()], 1, height)?;
    for bad in ["confirms nothing", "the connection was lost"] {
        ensure!(!node.log().contains(bad), "{}", node.log());
    }
    Ok(())
}
