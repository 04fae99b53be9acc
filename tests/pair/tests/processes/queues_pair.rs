//! Message queues of a pair: a registration is on both nodes when its call returns, whoever is killed when, and a consumer goes on with the
//! standby without registering again.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cvp_pair::events::Events;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, wait_durable};
use cvp_pair::queues::{enable, inner, register};
use cvp_pair::wait;
use serde_json::{Value, json};

use crate::configuration::wait_equal;
use crate::namespaces::wait_running;
use crate::queues::{block_hash, blocks, cursor, grow};
use crate::takeover::fenced;

const WITHIN: Duration = Duration::from_secs(20);

pub fn names(node: &Node) -> Result<Value> {
    node.rpc().call("mq_getAllQueueNames", json!([]))
}

pub fn wait_names(node: &Node, wanted: &Value) -> Result<()> {
    wait::until(&format!("the queues are {wanted}"), WITHIN, || {
        let found = names(node)?;
        Ok(if found == *wanted {
            Ok(())
        } else {
            Err(found.to_string())
        })
    })
}

#[test]
fn a_consumer_goes_on_with_the_standby_without_registering_again() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    enable(&pair.provider, "global", "")?;
    pair.provider.start()?;
    // Registered before there was a standby, and while there is one.
    let exchanger = register(&pair.provider.rpc(), "early", 1)?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    wait_names(&pair.receiver, &json!(["early"]))?;
    register(&pair.provider.rpc(), "orders", 1)?;
    // Staged there durably when the call returned; shown once it heard of the commit.
    wait_names(&pair.receiver, &json!(["early", "orders"]))?;

    grow(&pair.provider.rpc(), 5)?;
    wait_durable(&pair.receiver, "global", 5)?;
    let held = pair.provider.rpc().height()?;
    wait_durable(&pair.receiver, "global", held)?;
    pair.provider.rpc().call("mq_ack", json!(["orders", "3"]))?;
    wait::until("the standby has the cursor", WITHIN, || {
        let found = cursor(&pair.receiver, "orders")?;
        Ok(if found == "3" { Ok(()) } else { Err(found) })
    })?;

    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
    ensure!(code == 0, "{report}");
    let (node, rpc) = (&pair.receiver, pair.receiver.rpc());
    ensure!(names(node)? == json!(["early", "orders"]));
    ensure!(rpc.call("mq_getExchangerName", json!([]))? == json!(exchanger));
    let events = Events::open(node.jsonrpc(), "global", "orders", None)?;
    let (mut told, mut last) = (0, String::new());
    for height in 4..=held + 1 {
        let mut event = events.next(WITHIN)?;
        if event.key == "MQException" {
            let body = &event.data["body"];
            ensure!(
                body["subType"] == "stateUpdate" && body["height"] == held + 1,
                "{event:?}"
            );
            (told, event) = (told + 1, events.next(WITHIN)?);
        }
        ensure!(event.height()? == height, "{event:?} where {height} was due");
        ensure!(event.data["body"]["hash"] == block_hash(&rpc, height)?, "{event:?}");
        last = event.id;
    }
    let done = rpc.call("mq_ack", json!(["orders", last]))?;
    ensure!(done == json!({"queueName": "orders", "cursor": last}), "{done}");
    ensure!(cursor(node, "orders")? == (held + 1).to_string());
    ensure!(told == 1, "told {told} times that heights may come again");
    let gone = inner(&rpc.call("mq_unRegister", json!(["early", exchanger, "", ""]))?)?;
    ensure!(gone["success"] == true, "{gone}");
    ensure!(names(node)? == json!(["orders"]));
    Ok(())
}

#[test]
fn a_queue_for_the_next_block_on_is_told_what_a_standby_makes_that_was_behind() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    enable(&pair.provider, "global", "")?;
    pair.provider.start()?;
    pair.receiver.start()?;
    grow(&pair.provider.rpc(), 3)?;
    wait_durable(&pair.receiver, "global", 3)?;
    let (code, answer) = pair
        .provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "1000"])?;
    ensure!(code == 0, "{answer}");
    grow(&pair.provider.rpc(), 40)?;
    let next = json!([{"queueName": "next", "routingKeys": ["MQBlock"], "fromBlock": ""}]);
    pair.provider.rpc().call("mq_register", next)?;
    let told = pair.provider.rpc().height()? + 2;
    grow(&pair.provider.rpc(), told)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
    ensure!(code == 0, "{report}");
    let (node, rpc) = (&pair.receiver, pair.receiver.rpc());
    // The block of the take-over.
    let first = rpc.height()?;
    ensure!(first < told, "the standby had all: {first} of {told}");
    grow(&rpc, first + 2)?;
    let events = Events::open(node.jsonrpc(), "global", "next", None)?;
    announced(&events, first)?;
    for height in first..=first + 2 {
        let event = events.next(WITHIN)?;
        ensure!(event.height()? == height, "{event:?} where {height} was due");
        ensure!(event.data["body"]["hash"] == block_hash(&rpc, height)?, "{event:?}");
    }
    Ok(())
}

/// The next event is the word that blocks from `height` on may come again with another hash; its id.
fn announced(events: &Events, height: u64) -> Result<String> {
    let event = events.next(WITHIN)?;
    let body = &event.data["body"];
    ensure!(
        event.key == "MQException" && body["subType"] == "stateUpdate" && body["height"] == height,
        "{event:?} where {height} was to be announced"
    );
    Ok(event.id)
}

#[test]
fn what_was_seen_of_a_lost_node_skips_no_block_that_its_standby_made_anew() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    enable(&pair.provider, "global", "")?;
    pair.provider.start()?;
    for queue in ["acker", "further", "silent"] {
        register(&pair.provider.rpc(), queue, 1)?;
    }
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    wait_names(&pair.receiver, &json!(["acker", "further", "silent"]))?;
    grow(&pair.provider.rpc(), 6)?;
    let held = pair.provider.rpc().height()?;
    wait_durable(&pair.receiver, "global", held)?;
    // More than the standby will ever have.
    pair.receiver.freeze()?;
    grow(&pair.provider.rpc(), held + 6)?;
    let seen = (held + 6).to_string();
    let events = Events::open(pair.provider.jsonrpc(), "global", "acker", None)?;
    blocks(&pair.provider.rpc(), &events, 1, held + 6)?;
    pair.provider.kill()?;
    pair.receiver.thaw()?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
    ensure!(code == 0, "{report}");
    let (node, rpc) = (&pair.receiver, pair.receiver.rpc());
    grow(&rpc, held + 10)?;
    let stream = |queue: &str, last: Option<&str>| Events::open(node.jsonrpc(), "global", queue, last);

    // A late word of what the lost node told counts up to what both chains have.
    let done = rpc.call("mq_ack", json!(["acker", seen]))?;
    ensure!(
        done["cursor"] == held.to_string().as_str() && done["note"].is_string(),
        "{done}"
    );
    let events = stream("acker", None)?;
    announced(&events, held + 1)?;
    blocks(&rpc, &events, held + 1, 9)?;

    // One consumer is further on the new chain; another one comes back with what it saw of the lost node.
    let events = stream("further", None)?;
    blocks(&rpc, &events, 1, held)?;
    announced(&events, held + 1)?;
    let mut last = String::new();
    for _ in 0..8 {
        last = events.next(WITHIN)?.id;
    }
    let done = rpc.call("mq_ack", json!(["further", last]))?;
    ensure!(done == json!({"queueName": "further", "cursor": last}), "{done}");
    let events = stream("further", Some(&seen))?;
    announced(&events, held + 1)?;
    blocks(&rpc, &events, held + 1, 9)?;

    // Nobody acknowledges: who comes back goes on where it was, each time.
    let events = stream("silent", None)?;
    blocks(&rpc, &events, 1, held)?;
    announced(&events, held + 1)?;
    let first = events.next(WITHIN)?;
    for _ in 0..2 {
        blocks(&rpc, &stream("silent", Some(&first.id))?, held + 2, 3)?;
    }
    Ok(())
}

#[test]
fn an_announcement_that_nobody_took_outlives_a_second_take_over() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    enable(&pair.provider, "global", "")?;
    pair.provider.provokes(&["this node is fenced"]);
    pair.provider.start()?;
    for queue in ["half", "silent"] {
        register(&pair.provider.rpc(), queue, 1)?;
    }
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    wait_names(&pair.receiver, &json!(["half", "silent"]))?;
    grow(&pair.provider.rpc(), 5)?;
    let held = pair.provider.rpc().height()?;
    wait_durable(&pair.receiver, "global", held)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
    ensure!(code == 0, "{report}");
    grow(&pair.receiver.rpc(), held + 4)?;
    // One consumer confirms the announcement, and nothing of what is behind it.
    let events = Events::open(pair.receiver.jsonrpc(), "global", "half", None)?;
    blocks(&pair.receiver.rpc(), &events, 1, held)?;
    let heard = announced(&events, held + 1)?;
    let done = pair.receiver.rpc().call("mq_ack", json!(["half", heard]))?;
    ensure!(done == json!({"queueName": "half", "cursor": heard}), "{done}");

    // The node that was lost comes back as the standby, and takes its place back.
    pair.provider.start()?;
    fenced(&pair.provider)?;
    pair.provider.stop()?;
    let peer = format!("node1 {}", pair.receiver.p2p());
    let (code, answer) = pair.provider.json(&["clear", "--yes", "--as-standby-of", &peer])?;
    ensure!(code == 0, "{answer}");
    pair.provider.start()?;
    pair.receiver.wait_normal()?;
    wait_names(&pair.provider, &json!(["half", "silent"]))?;
    pair.receiver.rpc().call("mq_ack", json!(["silent", "1"]))?;
    wait::until("the standby has the cursor", WITHIN, || {
        let found = cursor(&pair.provider, "silent")?;
        Ok(if found == "1" { Ok(()) } else { Err(found) })
    })?;
    let second = pair.receiver.rpc().height()?;
    wait_durable(&pair.provider, "global", second)?;
    pair.receiver.kill()?;
    wait::until("the first node takes its place back", WITHIN, || {
        let (code, report) = pair.provider.json(&["upgrade", "--allow-missing-keys"])?;
        Ok(if code == 0 { Ok(()) } else { Err(report.to_string()) })
    })?;
    let (node, rpc) = (&pair.provider, pair.provider.rpc());
    let events = Events::open(node.jsonrpc(), "global", "silent", None)?;
    blocks(&rpc, &events, 2, held - 1)?;
    announced(&events, held + 1)?;
    blocks(&rpc, &events, held + 1, second - held + 1)?;
    // Who heard of the first take-over hears of the second.
    let events = Events::open(node.jsonrpc(), "global", "half", None)?;
    blocks(&rpc, &events, held + 1, second - held)?;
    announced(&events, second + 1)?;
    blocks(&rpc, &events, second + 1, 1)
}

#[test]
fn ids_of_a_namespace_that_was_started_after_a_take_over_are_known_after_the_next_one() -> Result<()> {
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    enable(&pair.provider, "ns1", "")?;
    pair.provider.provokes(&["this node is fenced"]);
    pair.provider.start()?;
    register(&pair.provider.rpc().namespace("ns1"), "orders", 1)?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    grow(&pair.provider.rpc().namespace("ns1"), 4)?;
    let held = pair.provider.rpc().namespace("ns1").height()?;
    wait_durable(&pair.receiver, "ns1", held)?;
    let (code, answer) = pair.provider.json(&["namespace", "stop", "ns1"])?;
    ensure!(code == 0, "{answer}");
    wait_running(&pair.receiver, "global")?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
    ensure!(code == 0, "{report}");
    let (code, answer) = pair.receiver.json(&["namespace", "start", "ns1"])?;
    ensure!(code == 0, "{answer}");
    let rpc = pair.receiver.rpc().namespace("ns1");
    grow(&rpc, held + 3)?;
    let events = Events::open(pair.receiver.jsonrpc(), "ns1", "orders", None)?;
    blocks(&rpc, &events, 1, held)?;
    announced(&events, held + 1)?;
    let seen = [events.next(WITHIN)?.id, events.next(WITHIN)?.id];
    ensure!(seen[1].contains("@2-"), "{seen:?}");
    let second = rpc.height()?;

    pair.provider.start()?;
    fenced(&pair.provider)?;
    pair.provider.stop()?;
    let peer = format!("node1 {}", pair.receiver.p2p());
    let (code, answer) = pair.provider.json(&["clear", "--yes", "--as-standby-of", &peer])?;
    ensure!(code == 0, "{answer}");
    pair.provider.start()?;
    pair.receiver.wait_normal()?;
    wait_durable(&pair.provider, "ns1", second)?;
    pair.receiver.kill()?;
    wait::until("the first node takes its place back", WITHIN, || {
        let (code, report) = pair.provider.json(&["upgrade", "--allow-missing-keys"])?;
        Ok(if code == 0 { Ok(()) } else { Err(report.to_string()) })
    })?;
    let rpc = pair.provider.rpc().namespace("ns1");
    let events = Events::open(pair.provider.jsonrpc(), "ns1", "orders", Some(&seen[0]))?;
    blocks(&rpc, &events, held + 2, 1)?;
    let done = rpc.call("mq_ack", json!(["orders", seen[1]]))?;
    ensure!(done == json!({"queueName": "orders", "cursor": seen[1]}), "{done}");
    Ok(())
}

/// Registers `orders`, or takes it out; the code of the answer, 0 for a good one, none where the node died.
fn change(node: &Node, take_out: bool) -> Result<Option<i64>> {
    let rpc = node.rpc();
    let exchanger = match rpc.call("mq_getExchangerName", json!([])) {
        Ok(name) => name,
        Err(_) => return Ok(None),
    };
    let answer = if take_out {
        rpc.answer("mq_unRegister", json!(["orders", exchanger, "", ""]))
    } else {
        rpc.answer(
            "mq_register",
            json!([{"queueName": "orders", "routingKeys": ["MQBlock"]}]),
        )
    };
    Ok(answer.ok().and_then(|answer| answer["code"].as_i64()))
}

/// A pair with the service on whose queues are `orders` alone, or none.
fn prepared(take_out: bool) -> Result<Pair> {
    let mut pair = Pair::init(&Setup::default())?;
    enable(&pair.provider, "global", "")?;
    if take_out {
        pair.provider.start()?;
        register(&pair.provider.rpc(), "orders", 1)?;
        pair.provider.stop()?;
    }
    Ok(pair)
}

fn started(pair: &mut Pair, take_out: bool) -> Result<()> {
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    wait_names(&pair.receiver, &before(take_out))
}

fn before(take_out: bool) -> Value {
    if take_out { json!(["orders"]) } else { json!([]) }
}

#[test]
fn a_provider_killed_at_any_moment_of_a_registration_agrees_with_its_standby_afterwards() -> Result<()> {
    for (point, counts) in [
        ("change:before-commit", false),
        ("change:committed", true),
        ("change:written", true),
        ("change:before-answer", true),
    ] {
        for take_out in [false, true] {
            let mut pair = prepared(take_out)?;
            pair.provider.environment = vec![("CVP_TEST_CRASH_AT".into(), point.into())];
            started(&mut pair, take_out)?;
            ensure!(
                change(&pair.provider, take_out)? != Some(0),
                "{point}: it died before it answered"
            );
            pair.provider.wait_end(WITHIN)?;
            pair.provider.environment.clear();
            pair.provider.start()?;
            wait_equal(&pair.provider, &pair.receiver)?;
            let wanted = before(take_out != counts);
            ensure!(
                names(&pair.provider)? == wanted,
                "{point} {take_out}: {}",
                names(&pair.provider)?
            );
            wait_names(&pair.receiver, &wanted).with_context(|| format!("{point} {take_out}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_receiver_killed_at_any_moment_of_a_registration_agrees_with_its_provider_afterwards() -> Result<()> {
    for point in [
        "change:before-stage",
        "change:staged",
        "change:before-apply",
        "change:applied",
    ] {
        for take_out in [false, true] {
            let mut pair = prepared(take_out)?;
            pair.receiver.environment = vec![("CVP_TEST_CRASH_AT".into(), point.into())];
            started(&mut pair, take_out)?;
            let answer = change(&pair.provider, take_out)?;
            pair.receiver.wait_end(WITHIN)?;
            let wanted = match answer {
                Some(0) => before(!take_out),
                Some(-32606) => before(take_out),
                other => bail!("{point} {take_out}: {other:?}"),
            };
            ensure!(names(&pair.provider)? == wanted, "{point} {take_out}: {answer:?}");
            pair.receiver.environment.clear();
            pair.receiver.start()?;
            wait_equal(&pair.provider, &pair.receiver)?;
            wait_names(&pair.receiver, &wanted).with_context(|| format!("{point} {take_out}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_registration_whose_client_may_have_been_answered_is_there_after_the_upgrade() -> Result<()> {
    for point in ["change:before-commit", "change:before-answer"] {
        let mut pair = prepared(false)?;
        pair.provider.environment = vec![("CVP_TEST_CRASH_AT".into(), point.into())];
        started(&mut pair, false)?;
        change(&pair.provider, false)?;
        pair.provider.wait_end(WITHIN)?;
        pair.lose_provider()?;
        let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
        let mut checks = report["checks"].as_array().into_iter().flatten();
        let named = "never settled: queue orders of global registered";
        ensure!(
            checks.any(|check| check["verdict"] == "warn" && check["message"].to_string().contains(named)),
            "{point}: {report}"
        );
        let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
        ensure!(code == 0, "{point}: {report}");
        ensure!(names(&pair.receiver)? == json!(["orders"]), "{point}");
    }
    Ok(())
}
