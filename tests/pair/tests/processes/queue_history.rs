//! Queues and a history that is not whole: a standby that began from a snapshot takes over, and what it does not have is said, not skipped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::events::Events;
use cvp_pair::pair::wait_durable;
use cvp_pair::queues::{enable, register};
use cvp_pair::wait;
use serde_json::{Value, json};

use crate::bootstrap::{fill, history_from, keep_blocks, pair_of, replace, wait_history};
use crate::queues::{blocks, cursor};
use crate::queues_pair::wait_names;

const WITHIN: Duration = Duration::from_secs(20);

/// Warnings of a namespace.
fn warnings(status: &Value) -> String {
    status["namespaces"][0]["warnings"].to_string()
}

#[test]
fn a_queue_whose_blocks_a_promoted_standby_does_not_have_is_told_which() -> Result<()> {
    let mut pair = pair_of(100)?;
    // What is not there is warned of when it is told.
    pair.provokes(&["are not on this node"]);
    let snapshot = "[strategy.chain-sync]\nsettings = { bootstrap_bytes_min = 0 }\n\n[strategy]\n";
    replace(&pair.receiver, "global/ns_static.toml", "[strategy]\n", snapshot)?;
    for node in [&pair.provider, &pair.receiver] {
        replace(node, "global/ns_static.toml", "backfill = true", "backfill = false")?;
    }
    enable(&pair.provider, "global", "")?;
    pair.provider.start()?;
    for queue in ["slow", "quick"] {
        register(&pair.provider.rpc(), queue, 1)?;
    }
    let height = fill(&pair.provider, 40)?;
    let rpc = pair.provider.rpc();
    rpc.call("mq_ack", json!(["slow", "3"]))?;
    rpc.call("mq_ack", json!(["quick", height.to_string()]))?;
    pair.receiver.start()?;
    wait_names(&pair.receiver, &json!(["quick", "slow"]))?;
    wait_durable(&pair.receiver, "global", height)?;
    for (queue, at) in [("slow", "3".to_owned()), ("quick", height.to_string())] {
        wait::until("the standby has the cursors", WITHIN, || {
            let found = cursor(&pair.receiver, queue)?;
            Ok(if found == at { Ok(()) } else { Err(found) })
        })?;
    }
    let from = history_from(&pair.receiver)?;
    ensure!(from > 10, "it has blocks from {from} on");
    let gap = format!("queue slow of blocks 4 to {}", from - 1);
    let warned = warnings(&pair.receiver.status()?);
    ensure!(
        warned.contains("queues-miss-blocks") && warned.contains(&gap),
        "{warned}"
    );
    pair.lose_provider()?;
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    let checks = report["checks"].as_array().context("no checks")?;
    let history = checks.iter().find(|check| check["id"] == "history-complete");
    let message = history.context("no check")?["message"].to_string();
    let named = format!("queue slow of global: 4 to {}", from - 1);
    ensure!(message.contains(&named) && !message.contains("quick"), "{message}");
    let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
    ensure!(code == 0, "{report}");

    let (node, rpc) = (&pair.receiver, pair.receiver.rpc());
    let (_, status) = node.json(&["mq", "status"])?;
    let missing = json!([{"queue": "slow", "from": 4, "to": from - 1}]);
    ensure!(status["mq"][0]["missing"] == missing, "{status}");
    let answer = rpc.answer(
        "mq_register",
        json!([{"queueName": "late", "routingKeys": ["MQBlock"], "fromBlock": 1}]),
    )?;
    let said = answer["message"].to_string();
    ensure!(
        answer["code"] == -32602 && said.contains(&format!("{from}, the first block")),
        "{answer}"
    );
    register(&rpc, "late", from)?;

    let word = |events: &Events| {
        let event = events.next(WITHIN)?;
        let body = &event.data["body"];
        let told = (&body["type"], &body["subType"], &body["height"], &body["toHeight"]);
        ensure!(
            told == (&json!("MQException"), &json!("recovery"), &json!(4), &json!(from - 1)),
            "{event:?} where the missing blocks were to be named"
        );
        Ok(event.id)
    };
    // Until it is confirmed it comes again; confirmed by itself it skips nothing.
    let mut told = String::new();
    for _ in 0..2 {
        let events = Events::open(node.jsonrpc(), "global", "slow", None)?;
        told = word(&events)?;
        blocks(&rpc, &events, from, height - from + 1)?;
    }
    let done = rpc.call("mq_ack", json!(["slow", told]))?;
    ensure!(done == json!({"queueName": "slow", "cursor": told}), "{done}");
    blocks(
        &rpc,
        &Events::open(node.jsonrpc(), "global", "slow", None)?,
        from,
        height - from + 1,
    )?;
    let warned = warnings(&node.status()?);
    ensure!(!warned.contains("queues-miss-blocks"), "{warned}");
    blocks(
        &rpc,
        &Events::open(node.jsonrpc(), "global", "late", None)?,
        from,
        height - from + 1,
    )
}

#[test]
fn a_node_that_starts_again_keeps_the_blocks_that_its_queues_were_not_told() -> Result<()> {
    let mut pair = pair_of(100)?;
    keep_blocks(&pair.provider, 5)?;
    enable(&pair.provider, "global", "")?;
    let node = &mut pair.provider;
    node.start()?;
    register(&node.rpc(), "slow", 1)?;
    let height = fill(node, 50)?;
    // Each start looks at what may go, before and after the queues are open.
    for _ in 0..3 {
        node.stop()?;
        node.start()?;
    }
    let events = Events::open(node.jsonrpc(), "global", "slow", None)?;
    blocks(&node.rpc(), &events, 1, height)?;
    node.rpc().call("mq_ack", json!(["slow", height.to_string()]))?;
    wait_history(node, "what was told goes", |from| from > 10).map(|_| ())
}
