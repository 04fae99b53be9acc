//! Message queues that are consumed from the node itself: nothing is lost, whatever ends; bad calls change nothing; a standby says no.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::consumer::place;
use cvp_pair::events::Events;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::queues::{enable, inner, register};
use cvp_pair::rpc::Rpc;
use cvp_pair::signer::{ec, send, transfer, wait_shown};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);

/// Makes blocks until the chain is at least `height` high.
pub fn grow(rpc: &Rpc, height: u64) -> Result<()> {
    let signer = ec()?;
    while rpc.height()? < height {
        let before = rpc.height()?;
        send(rpc, transfer(&signer, 1, ""))?;
        wait_shown(rpc, before + 1, WITHIN)?;
    }
    Ok(())
}

pub fn block_hash(rpc: &Rpc, height: u64) -> Result<Value> {
    Ok(rpc.call("block_getBlockByNumber", json!([height, true]))?["hash"].clone())
}

/// The next `count` events are the blocks from `from` on, each with the hash that the chain has there.
pub fn blocks(rpc: &Rpc, events: &Events, from: u64, count: u64) -> Result<()> {
    for height in from..from + count {
        let event = events.next(WITHIN)?;
        ensure!(
            (event.height()?, place(&event.id)) == (height, height.to_string().as_str()),
            "{event:?}"
        );
        ensure!(event.key == "MQBlock" && event.data["type"] == "MQBlock", "{event:?}");
        let hash = block_hash(rpc, height)?;
        ensure!(
            event.data["body"]["hash"] == hash,
            "{event:?}, and the chain has {hash}"
        );
    }
    Ok(())
}

pub fn cursor(node: &Node, queue: &str) -> Result<String> {
    let (_, list) = node.json(&["mq", "list"])?;
    let mut rows = list["queues"].as_array().into_iter().flatten();
    let row = rows.find(|row| row["queue"] == queue);
    let row = row.with_context(|| format!("{queue} in {list}"))?;
    Ok(row["cursor"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn every_block_is_told_in_order_and_again_until_it_is_acknowledged() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    let node = &mut pair.provider;
    enable(node, "global", "")?;
    node.start()?;
    let exchanger = register(&node.rpc(), "orders", 1)?;
    ensure!(exchanger.starts_with("global_fa34664e_"), "{exchanger}");
    let watching = Events::open(node.jsonrpc(), "global", "orders", None)?;
    grow(&node.rpc(), 5)?;
    blocks(&node.rpc(), &watching, 1, 5)?;
    let told = node.rpc().call("mq_ack", json!(["orders", "3"]))?;
    ensure!(told["cursor"] == "3", "{told}");

    // Nothing but what was acknowledged is remembered, and that survives a kill.
    node.kill()?;
    watching.end(WITHIN)?;
    node.start()?;
    ensure!(cursor(node, "orders")? == "3");
    ensure!(node.rpc().call("mq_getExchangerName", json!([]))? == json!(exchanger));
    blocks(
        &node.rpc(),
        &Events::open(node.jsonrpc(), "global", "orders", None)?,
        4,
        2,
    )?;
    let resumed = Events::open(node.jsonrpc(), "global", "orders", Some("1"))?;
    blocks(&node.rpc(), &resumed, 2, 4)?;
    grow(&node.rpc(), 7)?;
    blocks(&node.rpc(), &resumed, 6, 2)?;
    // A number is an id, too.
    node.rpc().call("mq_ack", json!(["orders", 7]))?;

    let status = node.status()?;
    let mq = &status["namespaces"][0]["mq"];
    ensure!(
        (&mq["broker"], &mq["state"], &mq["queues"], &mq["behind"])
            == (&json!("embedded"), &json!("serving"), &json!(1), &json!(0)),
        "{mq}"
    );
    let gone = inner(
        &node
            .rpc()
            .call("mq_unRegister", json!(["orders", exchanger, "0x1", ""]))?,
    )?;
    ensure!(gone == json!({"count": 0, "success": true, "error": null}), "{gone}");
    resumed.end(WITHIN)?;
    let done = inner(&node.rpc().call("mq_deleteExchanger", json!([exchanger]))?)?;
    ensure!(done == json!({"success": true, "error": null}), "{done}");
    ensure!(node.rpc().call("mq_getExchangerName", json!([]))? != json!(exchanger));
    // The stop waits for no stream.
    register(&node.rpc(), "orders", 1)?;
    let open = Events::open(node.jsonrpc(), "global", "orders", None)?;
    open.next(WITHIN)?;
    node.stop()?;
    open.end(WITHIN)
}

#[test]
fn a_bad_call_has_its_code_and_changes_nothing() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    let node = &mut pair.provider;
    enable(node, "global", "")?;
    node.start()?;
    let rpc = node.rpc();
    let exchanger = register(&rpc, "orders", 1)?;
    let registry = node.root().join("namespaces/global/data/mq/registry");
    let before = (std::fs::read(&registry)?, node.json(&["mq", "list"])?);
    let long = "n".repeat(90_000);
    let of = |more: Value| {
        let mut object = json!({"queueName": "q", "routingKeys": ["MQBlock"]});
        more.as_object()
            .into_iter()
            .flatten()
            .for_each(|(key, value)| object[key] = value.clone());
        json!([object])
    };
    for (method, params, code) in [
        ("mq_register", json!([]), -32602),
        ("mq_register", json!(["q"]), -32602),
        ("mq_register", of(json!({"routingKeys": ["MQNonsense"]})), -32602),
        ("mq_register", of(json!({"routingKeys": ["SignedMQBlock"]})), -32602),
        ("mq_register", of(json!({"queueName": "orders"})), -32007),
        ("mq_register", of(json!({"queueName": long})), -32602),
        ("mq_register", of(json!({"fromBlock": "9", "toBlock": "8"})), -32602),
        ("mq_register", of(json!({"addresses": ["nonsense"]})), -32602),
        ("mq_register", of(json!({"topics": [[], [], [], [], []]})), -32602),
        ("mq_unRegister", json!(["orders"]), -32602),
        ("mq_unRegister", json!(["orders", "global_fa34664e_1"]), -32602),
        ("mq_unRegister", json!(["others", exchanger]), -32001),
        ("mq_deleteExchanger", json!([exchanger]), -32602),
        ("mq_informNormal", json!(["amqp://elsewhere/"]), -32602),
        ("mq_ack", json!(["others", "1"]), -32001),
        ("mq_ack", json!(["orders", "nonsense"]), -32602),
        ("mq_ack", json!(["orders", "1000"]), -32602),
        ("mq_nonsense", json!([]), -32601),
    ] {
        let answer = rpc.answer(method, params.clone())?;
        ensure!(answer["code"] == code, "{method} {params:.80}: {answer}");
        ensure!(answer.to_string().len() < 1_000, "{method}: a long answer");
    }
    // A name of a megabyte does not fit a body.
    let body = json!({"method": "mq_register", "params": of(json!({"queueName": "n".repeat(1 << 20)}))});
    ensure!(rpc.post(&body.to_string())?.contains("too large"));
    ensure!(before == (std::fs::read(&registry)?, node.json(&["mq", "list"])?));
    for (queue, last, status, code) in [("others", None, 404, -32001), ("orders", Some("nonsense"), 400, -32602)] {
        let refused = Events::refused(node.jsonrpc(), "global", queue, last)?;
        ensure!((refused.0, &refused.1["code"]) == (status, &json!(code)), "{refused:?}");
    }
    let refused = Events::refused(node.jsonrpc(), "nowhere", "orders", None)?;
    ensure!((refused.0, &refused.1["code"]) == (404, &json!(-32010)), "{refused:?}");
    Ok(())
}

#[test]
fn without_the_service_a_call_says_what_to_switch_on() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.provider.start()?;
    let rpc = pair.provider.rpc();
    ensure!(rpc.call("mq_getAllQueueNames", json!([]))? == json!([]));
    let answer = rpc.answer("mq_register", json!([{"queueName": "q", "routingKeys": ["MQBlock"]}]))?;
    ensure!(
        answer["code"] == -32601 && answer["message"].to_string().contains("service_name"),
        "{answer}"
    );
    let refused = Events::refused(pair.provider.jsonrpc(), "global", "q", None)?;
    ensure!((refused.0, &refused.1["code"]) == (404, &json!(-32601)), "{refused:?}");
    pair.provider.stop()?;
    enable(&pair.provider, "global", "[mq.broker]\ntype = \"kafka\"")?;
    ensure!(!pair.provider.run_to_end(WITHIN)?.success());
    ensure!(
        pair.provider.log().contains("not supported yet"),
        "{}",
        pair.provider.log()
    );
    Ok(())
}

#[test]
fn a_standby_registers_nothing_and_serves_no_stream() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    enable(&pair.provider, "global", "")?;
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    register(&pair.provider.rpc(), "orders", 1)?;
    let standby = pair.receiver.rpc();
    ensure!(standby.refused("mq_register", json!([{"queueName": "q", "routingKeys": ["MQBlock"]}]))? == -32023);
    ensure!(standby.refused("mq_ack", json!(["orders", "1"]))? == -32023);
    let refused = Events::refused(pair.receiver.jsonrpc(), "global", "orders", None)?;
    ensure!((refused.0, &refused.1["code"]) == (503, &json!(-32023)), "{refused:?}");
    // After its upgrade it does both.
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
    ensure!(code == 0, "{report}");
    let rpc = pair.receiver.rpc();
    register(&rpc, "later", 1)?;
    let events = Events::open(pair.receiver.jsonrpc(), "global", "later", None)?;
    blocks(&rpc, &events, 1, 1)
}
