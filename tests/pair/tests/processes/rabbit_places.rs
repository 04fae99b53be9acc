//! A broker's address that changes, at a real RabbitMQ: what was made at the old place stays there and is named, what others have at the new one
//! stays theirs, and who comes back removes what it left.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::broker::Broker;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::queues::{enable, inner, register};
use cvp_pair::wait;
use serde_json::{Value, json};

use crate::rabbit::{at_broker, broker_state, grow, quick_blocks};
use crate::rabbit_changes::{confirmed, node_at, unregister};

const WITHIN: Duration = Duration::from_secs(60);

/// Another text in the namespace's file of a node that does not run.
fn rewrite(node: &Node, from: &str, to: &str) -> Result<()> {
    let file = node.root().join("configuration/global/ns_static.toml");
    let text = std::fs::read_to_string(&file)?;
    let changed = text.replace(from, to);
    ensure!(changed != text, "no {from} in {text}");
    Ok(std::fs::write(&file, changed)?)
}

/// The node is started again with another address.
fn moved(node: &mut Node, from: &str, to: &str) -> Result<()> {
    node.stop()?;
    rewrite(node, &format!("\"{from}\""), &format!("\"{to}\""))?;
    node.start()?;
    broker_state(node, "connected").map(|_| ())
}

/// What a warning of `global` says.
fn warning(status: &Value, code: &str) -> Option<String> {
    let warnings = status["namespaces"][0]["warnings"].as_array()?;
    let found = warnings.iter().find(|warning| warning["code"] == code)?;
    found["message"].as_str().map(str::to_owned)
}

fn until_queue(broker: &Broker, vhost: &str, name: &str, there: bool) -> Result<()> {
    wait::until("the queue comes or goes", WITHIN, || {
        let is = broker.has_queue(vhost, name)?;
        Ok(if is == there {
            Ok(())
        } else {
            Err(format!("{name}: {is}"))
        })
    })
}

fn heights(ids: &[String]) -> Result<Vec<u64>> {
    ids.iter().map(|id| Ok(id.parse()?)).collect()
}

#[test]
fn at_another_virtual_host_nothing_of_others_is_taken_and_what_stays_behind_is_named() -> Result<()> {
    let mut broker = Broker::start()?;
    broker.add_vhost("other")?;
    let mut pair = node_at(&broker)?;
    let node = &mut pair.provider;
    let (here, there) = (broker.url(), broker.url_of("other"));
    broker_state(node, "connected")?;
    let height = grow(&node.rpc(), 5)?;
    let mut exchanger = String::new();
    for queue in ["orders", "refunds", "gone"] {
        exchanger = register(&node.rpc(), queue, 1)?;
    }
    confirmed(node, 3, height)?;
    for queue in ["orders", "gone"] {
        broker.make_at("other", queue)?;
    }
    broker.end()?;
    broker_state(node, "unreachable")?;
    unregister(&node.rpc(), "gone", &exchanger)?;
    node.stop()?;
    rewrite(node, &format!("\"{here}\""), &format!("\"{there}\""))?;
    broker.begin()?;
    node.start()?;
    broker_state(node, "connected")?;
    let old = format!("127.0.0.1:{}/", broker.port());
    let status = node.wait_status("what stays behind is named", WITHIN, |status| {
        warning(status, "queues-left").is_some() && warning(status, "queue-refused").is_some()
    })?;
    let left = warning(&status, "queues-left").context("no warning")?;
    for queue in ["orders", "refunds", "gone"] {
        let named = format!("queue {queue} (exchange {exchanger}) at {old}");
        ensure!(left.contains(&named), "{left}");
        ensure!(broker.has_queue("/", queue)?, "{queue} was removed");
    }
    let refused = warning(&status, "queue-refused").context("no warning")?;
    ensure!(
        refused.contains("orders") && refused.contains("1 messages"),
        "{refused}"
    );
    // One that nobody has there goes on, with what was not confirmed yet.
    let tip = grow(&node.rpc(), height + 3)?;
    wait::until("the other queue is told everything", WITHIN, || {
        let (_, list) = node.json(&["mq", "list"])?;
        let mut rows = list["queues"].as_array().into_iter().flatten();
        let row = rows.find(|row| row["queue"] == "refunds").context("no queue")?;
        Ok(if row["cursor"] == tip.to_string().as_str() {
            Ok(())
        } else {
            Err(row.to_string())
        })
    })?;
    let told = heights(&broker.drain_at("other", "refunds")?)?;
    ensure!(told == (height + 1..=tip).collect::<Vec<_>>(), "{told:?}");
    // What was somebody else's is so still; when it was taken the queue is as good as any.
    ensure!(
        broker.drain_at("other", "gone")? == ["gone"],
        "removed for one that was unregistered"
    );
    ensure!(broker.drain_at("other", "orders")? == ["orders"]);
    confirmed(node, 2, tip)?;
    let told = heights(&broker.drain_at("other", "orders")?)?;
    ensure!(told == (height + 1..=tip).collect::<Vec<_>>(), "{told:?}");

    // Back: what was to be removed there is, and the rest goes on behind what lies there.
    moved(node, &there, &here)?;
    until_queue(&broker, "/", "gone", false)?;
    let last = grow(&node.rpc(), tip + 2)?;
    confirmed(node, 2, last)?;
    let lie = heights(&broker.drain_at("/", "orders")?)?;
    ensure!(lie == (1..=height).chain(tip + 1..=last).collect::<Vec<_>>(), "{lie:?}");
    let status = node.status()?;
    let left = warning(&status, "queues-left").context("no warning")?;
    ensure!(
        left.contains(&format!("{old}other")) && !left.contains("gone") && !left.contains(&format!("{old},")),
        "{left}"
    );
    // Another name of the same broker: with messages that nobody took, nothing is refused, removed or told twice.
    let more = grow(&node.rpc(), last + 2)?;
    confirmed(node, 2, more)?;
    moved(node, &here, &here.replace("127.0.0.1", "localhost"))?;
    let most = grow(&node.rpc(), more + 2)?;
    confirmed(node, 2, most)?;
    let lie = heights(&broker.drain_at("/", "orders")?)?;
    ensure!(lie == (last + 1..=most).collect::<Vec<_>>(), "{lie:?}");
    let status = node.status()?;
    ensure!(warning(&status, "queues-left").is_none(), "{status}");
    unregister(&node.rpc(), "orders", &exchanger)?;
    ensure!(!broker.has_queue("/", "orders")?);
    // Until somebody comes there again the node knows what it left.
    let (_, mq) = node.json(&["mq", "status"])?;
    let left = mq["mq"][0]["left"].as_array().context("nothing is left")?;
    ensure!(left.len() == 2, "{mq}");
    Ok(())
}

#[test]
fn what_is_unregistered_while_the_node_itself_carries_the_messages_is_removed_at_the_broker_later() -> Result<()> {
    let broker = Broker::start()?;
    let mut pair = node_at(&broker)?;
    let node = &mut pair.provider;
    broker_state(node, "connected")?;
    let exchanger = register(&node.rpc(), "orders", 1)?;
    register(&node.rpc(), "refunds", 1)?;
    let height = grow(&node.rpc(), 3)?;
    confirmed(node, 2, height)?;
    node.stop()?;
    rewrite(node, "type = \"rabbit\"", "type = \"embedded\"")?;
    node.start()?;
    unregister(&node.rpc(), "orders", &exchanger)?;
    // Registered anew and told something by the node: that is no reason to keep what lies there.
    register(&node.rpc(), "orders", 1)?;
    node.rpc().call("mq_ack", json!(["orders", "1"]))?;
    node.stop()?;
    node.start()?;
    ensure!(broker.has_queue("/", "orders")?);
    node.stop()?;
    rewrite(node, "type = \"embedded\"", "type = \"rabbit\"")?;
    node.start()?;
    node.wait_log("queue removed at the broker namespace=global queue=\"orders\"", WITHIN)?;
    confirmed(node, 2, height)?;
    let lie = heights(&broker.drain_at("/", "orders")?)?;
    ensure!(lie == (2..=height).collect::<Vec<_>>(), "{lie:?}");
    let lie = heights(&broker.drain_at("/", "refunds")?)?;
    ensure!(lie == (1..=height).collect::<Vec<_>>(), "{lie:?}");
    Ok(())
}

#[test]
fn a_stopped_namespace_whose_address_was_changed_keeps_its_names_where_its_queues_are() -> Result<()> {
    let broker = Broker::start()?;
    broker.add_vhost("other")?;
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
    let height = grow(&ns1, 3)?;
    let exchanger = register(&ns1, "orders", 1)?;
    confirmed(node, 1, height)?;
    let there = broker.url_of("other");
    let (code, answer) = node.json(&["config", "set", "ns1/ns_static.toml", "mq.rabbit.url", &there])?;
    ensure!(code == 0, "{answer}");
    let (code, answer) = node.json(&["namespace", "stop", "ns1"])?;
    ensure!(code == 0, "{answer}");
    let params = json!([{"queueName": "orders", "routingKeys": ["MQBlock"], "fromBlock": "1"}]);
    let refused = global.answer("mq_register", params)?;
    ensure!(
        refused["code"] == -32007 && refused["message"].to_string().contains("ns1"),
        "{refused}"
    );
    broker.make_at("other", "orders")?;
    let (code, answer) = node.json(&["namespace", "start", "ns1"])?;
    ensure!(code == 0, "{answer}");
    node.wait_log("queue orders (exchange", WITHIN)?;
    // One that is not its own there it does not remove, and is told of nothing.
    let gone = inner(&ns1.call("mq_unRegister", json!(["orders", exchanger, "", ""]))?)?;
    ensure!(gone["success"] == true, "{gone}");
    ensure!(broker.drain_at("other", "orders")? == ["orders"]);
    let lie = heights(&broker.drain_at("/", "orders")?)?;
    ensure!(lie == (1..=height).collect::<Vec<_>>(), "{lie:?}");
    Ok(())
}

#[test]
fn in_a_virtual_host_that_was_made_anew_a_queue_of_the_same_name_is_somebody_elses() -> Result<()> {
    let mut broker = Broker::start()?;
    broker.add_vhost("other")?;
    let mut pair = node_at(&broker)?;
    let node = &mut pair.provider;
    moved(node, &broker.url(), &broker.url_of("other"))?;
    let height = grow(&node.rpc(), 3)?;
    let mut exchanger = String::new();
    for queue in ["orders", "refunds", "gone"] {
        exchanger = register(&node.rpc(), queue, 1)?;
    }
    confirmed(node, 3, height)?;
    broker.end()?;
    broker_state(node, "unreachable")?;
    unregister(&node.rpc(), "gone", &exchanger)?;
    node.stop()?;
    broker.begin()?;
    broker.control(&["delete_vhost", "other"])?;
    broker.add_vhost("other")?;
    for queue in ["orders", "gone"] {
        broker.make_at("other", queue)?;
    }
    node.start()?;
    broker_state(node, "connected")?;
    let status = node.wait_status("the queue is refused", WITHIN, |status| {
        warning(status, "queue-refused").is_some()
    })?;
    let refused = warning(&status, "queue-refused").context("no warning")?;
    ensure!(
        refused.contains("queue orders") && refused.contains("1 messages"),
        "{refused}"
    );
    // What is free is made anew.
    let tip = grow(&node.rpc(), height + 2)?;
    until_queue(&broker, "other", "refunds", true)?;
    unregister(&node.rpc(), "orders", &exchanger)?;
    confirmed(node, 1, tip)?;
    let told = heights(&broker.drain_at("other", "refunds")?)?;
    ensure!(told == (height + 1..=tip).collect::<Vec<_>>(), "{told:?}");
    for queue in ["orders", "gone"] {
        ensure!(broker.drain_at("other", queue)? == [queue], "{queue}");
    }
    // And its own it removes.
    unregister(&node.rpc(), "refunds", &exchanger)?;
    until_queue(&broker, "other", "refunds", false)
}
