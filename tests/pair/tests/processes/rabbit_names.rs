//! Whose a name at a RabbitMQ is, and from when on it may be another namespace's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::broker::{Broker, USER};
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::queues::{enable, register};
use cvp_pair::wait;
use serde_json::json;

use crate::configuration::wait_equal;
use crate::rabbit::{at_broker, broker_state, grow, quick_blocks};
use crate::rabbit_changes::{confirmed, node_at, unregister};

const WITHIN: Duration = Duration::from_secs(60);

/// A pair with two namespaces at one broker.
fn with_two(broker: &Broker) -> Result<Pair> {
    let pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.provokes(&["cvp::mq::rabbit"]);
    for namespace in ["global", "ns1"] {
        enable(&pair.provider, namespace, &at_broker(broker))?;
    }
    quick_blocks(&pair.provider)?;
    Ok(pair)
}

#[test]
fn a_name_is_free_when_the_standby_knows_that_its_queue_is_gone_and_not_before() -> Result<()> {
    let broker = Broker::start()?;
    let mut pair = with_two(&broker)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    broker_state(&pair.provider, "connected")?;
    let (global, ns1) = (pair.provider.rpc(), pair.provider.rpc().namespace("ns1"));
    for rpc in [&global, &ns1] {
        grow(rpc, 2)?;
    }
    // The promoted node opens `global` first.
    let exchanger = register(&global, "orders", 1)?;
    confirmed(&pair.provider, 1, global.height()?)?;
    broker.freeze()?;
    unregister(&global, "orders", &exchanger)?;
    pair.receiver.freeze()?;
    broker.thaw()?;
    wait::until("the queue is removed", WITHIN, || {
        Ok(if broker.has_queue("/", "orders")? {
            Err("it is there".to_owned())
        } else {
            Ok(())
        })
    })?;
    let params = json!([{"queueName": "orders", "routingKeys": ["MQBlock"], "fromBlock": "1"}]);
    let refused = ns1.answer("mq_register", params.clone())?;
    pair.receiver.thaw()?;
    ensure!(
        refused["code"] == -32007 && refused["message"].to_string().contains("global"),
        "the standby would remove it still: {refused}"
    );
    wait::until("the name is free", WITHIN, || {
        let answer = ns1.answer("mq_register", params.clone())?;
        Ok(if answer["code"] == 0 {
            Ok(())
        } else {
            Err(answer.to_string())
        })
    })?;
    let height = grow(&ns1, 4)?;
    confirmed(&pair.provider, 1, height)?;
    pair.wait_durable("ns1", height)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    let node = &pair.receiver;
    broker_state(node, "connected")?;
    let tip = node.rpc().namespace("ns1").height()?;
    confirmed(node, 1, tip)?;
    let lie = broker.drain_at("/", "orders")?;
    ensure!(lie.first().is_some_and(|id| id == "1"), "{lie:?}");
    Ok(())
}

#[test]
fn the_names_of_a_namespace_whose_registry_is_gone_are_not_free_and_who_is_refused_is_told_what_to_do() -> Result<()> {
    let broker = Broker::start()?;
    let mut pair = with_two(&broker)?;
    let node = &mut pair.provider;
    node.start()?;
    broker_state(node, "connected")?;
    let ns1 = node.rpc().namespace("ns1");
    let exchanger = register(&ns1, "orders", 1)?;
    let height = grow(&ns1, 2)?;
    confirmed(node, 1, height)?;
    ensure!(!exchanger.is_empty());
    let (code, answer) = node.json(&["namespace", "stop", "ns1"])?;
    ensure!(code == 0, "{answer}");
    node.stop()?;
    let files = node.root().join("namespaces/ns1/data/mq");
    std::fs::remove_file(files.join("registry"))?;
    ensure!(files.join("cursors").exists());
    node.provokes(&["what it holds while it is stopped cannot be read"]);
    node.start()?;
    broker_state(node, "connected")?;
    let params = |name: &str| json!([{"queueName": name, "routingKeys": ["MQBlock"], "fromBlock": "1"}]);
    for name in ["orders", "fresh"] {
        let refused = node.rpc().answer("mq_register", params(name))?;
        let message = refused["message"].as_str().context("no message")?;
        ensure!(
            refused["code"] == -32007 && message.contains("ns1") && message.contains("embedded"),
            "{refused}"
        );
    }
    // As it says: what is there may stay there.
    node.stop()?;
    let file = node.root().join("configuration/ns1/ns_static.toml");
    let text = std::fs::read_to_string(&file)?.replace("type = \"rabbit\"", "type = \"embedded\"");
    std::fs::write(&file, text)?;
    node.start()?;
    broker_state(node, "connected")?;
    register(&node.rpc(), "fresh", 1)?;
    Ok(())
}

#[test]
fn the_names_of_what_a_namespace_left_at_a_broker_are_not_free_while_the_node_itself_carries_its_messages() -> Result<()>
{
    let broker = Broker::start()?;
    let mut pair = with_two(&broker)?;
    let node = &mut pair.provider;
    node.start()?;
    broker_state(node, "connected")?;
    let ns1 = node.rpc().namespace("ns1");
    let height = grow(&ns1, 2)?;
    let exchanger = register(&ns1, "gone", 1)?;
    register(&ns1, "stays", 1)?;
    confirmed(node, 2, height)?;
    for name in ["gone", "stays"] {
        broker.drain_at("/", name)?;
    }
    let file = node.root().join("configuration/ns1/ns_static.toml");
    let rabbit = std::fs::read_to_string(&file)?;
    node.stop()?;
    std::fs::write(&file, rabbit.replace("type = \"rabbit\"", "type = \"embedded\""))?;
    node.start()?;
    broker_state(node, "connected")?;
    unregister(&ns1, "gone", &exchanger)?;
    let params = |name: &str| json!([{"queueName": name, "routingKeys": ["MQBlock"], "fromBlock": "1"}]);
    for name in ["gone", "stays"] {
        let refused = node.rpc().answer("mq_register", params(name))?;
        let message = refused["message"].as_str().context("no message")?;
        ensure!(
            refused["code"] == -32007 && message.contains("ns1") && message.contains("unregister"),
            "{refused}"
        );
    }
    node.stop()?;
    std::fs::write(&file, &rabbit)?;
    node.start()?;
    wait::until("the name is free", WITHIN, || {
        let answer = node.rpc().answer("mq_register", params("gone"))?;
        Ok(if answer["code"] == 0 {
            Ok(())
        } else {
            Err(answer.to_string())
        })
    })?;
    let refused = node.rpc().answer("mq_register", params("stays"))?;
    ensure!(refused["code"] == -32007, "{refused}");
    Ok(())
}

#[test]
fn a_queue_that_was_half_made_when_the_node_ended_goes_when_it_is_unregistered() -> Result<()> {
    // Queues and the exchange may be made, and the seals, whose names have a dot, may not: every making ends before its last step.
    let mut broker = Broker::start_with(
        "default_permissions.configure = ^[^.]*$\ndefault_permissions.read = .*\ndefault_permissions.write = .*",
    )?;
    let mut pair = node_at(&broker)?;
    let node = &mut pair.provider;
    broker_state(node, "connected")?;
    let height = grow(&node.rpc(), 2)?;
    let names = ["half", "filled"];
    for name in names {
        register(&node.rpc(), name, 1)?;
        ensure!(broker.has_queue("/", name)?, "{name}: {}", node.log());
    }
    node.kill()?;
    // What somebody puts into one meanwhile is not the node's to remove.
    broker.make("filled", false)?;
    broker.end()?;
    node.start()?;
    broker_state(node, "unreachable")?;
    let exchanger = node.rpc().call("mq_getExchangerName", json!([]))?;
    for name in names {
        unregister(&node.rpc(), name, exchanger.as_str().context("no name")?)?;
    }
    broker.begin()?;
    wait::until("the half made queue goes", WITHIN, || {
        Ok(if broker.has_queue("/", "half")? {
            Err(node.log())
        } else {
            Ok(())
        })
    })?;
    wait::until("the other one is left", WITHIN, || {
        let log = node.log();
        Ok(if log.contains("is somebody else's and stays at the broker") {
            Ok(())
        } else {
            Err(log)
        })
    })?;
    ensure!(broker.drain_at("/", "filled")? == ["filled"], "{}", node.log());
    // The name is free, and what is made whole goes whole.
    broker.control(&["set_permissions", "-p", "/", USER, ".*", ".*", ".*"])?;
    broker.remove_queue("/", "filled")?;
    let exchanger = register(&node.rpc(), "filled", 1)?;
    confirmed(node, 1, height)?;
    unregister(&node.rpc(), "filled", &exchanger)?;
    wait::until("the whole one goes", WITHIN, || {
        Ok(if broker.has_queue("/", "filled")? {
            Err(node.log())
        } else {
            Ok(())
        })
    })
}
