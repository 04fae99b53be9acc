//! mq-sync strategies at work: the default makes every registration on both nodes, a third party's refuses or holds, one that traps gives way, and a
//! standby whose queues differ is aligned at the handshake.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use cvp_core::strategy::{MqSync, MqSyncStrategy, Native, trace};
use cvp_core::types::strategy::Fault;
use cvp_core::types::strategy::mq_sync::Action;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::plugins::{default_mq_strategy, edit, install_as, mq_example};
use cvp_pair::queues::{enable, inner, register};
use cvp_pair::wait;
use cvp_strategy::{Component, Runtime};
use serde_json::{Value, json};
use toml_edit::{Array, value};

use crate::configuration::wait_equal;
use crate::queues_pair::{names, wait_names};
use crate::traces::traces;

const SOON: Duration = Duration::from_secs(20);

/// Chooses the example for `global` of a node that does not run; it refuses the queue `secret`.
fn choose(node: &Node, component: &Path, mode: &str) -> Result<()> {
    install_as(node.root(), "doorman", "mq-strategy", component, "0.1.0")?;
    edit(node.root(), "global", |strategy| {
        strategy["mq-sync"]["id"] = value("doorman");
        strategy["mq-sync"]["settings"]["mode"] = value(mode);
        strategy["mq-sync"]["settings"]["refused"] = value(Array::from_iter(["secret"]));
    })
}

/// Both nodes with the example in this mode, and started.
fn with_example(mode: &str, more: &str) -> Result<Pair> {
    let component = mq_example()?;
    let mut pair = Pair::init(&Setup::default())?;
    enable(&pair.provider, "global", more)?;
    for node in [&pair.provider, &pair.receiver] {
        choose(node, &component, mode)?;
    }
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    Ok(pair)
}

fn try_register(node: &Node, queue: &str) -> Result<Value> {
    let wanted = json!([{"queueName": queue, "routingKeys": ["MQBlock"], "fromBlock": "1"}]);
    node.rpc().answer("mq_register", wanted)
}

fn unregister(node: &Node, queue: &str) -> Result<()> {
    let rpc = node.rpc();
    let exchanger = rpc.call("mq_getExchangerName", json!([]))?;
    let gone = inner(&rpc.call("mq_unRegister", json!([queue, exchanger, "", ""]))?)?;
    ensure!(gone["success"] == true, "{gone}");
    Ok(())
}

/// The mq-sync strategy of `global` as the status lists it.
fn strategy(status: &Value) -> Option<&Value> {
    let listed = status["namespaces"][0]["strategies"].as_array()?;
    listed.iter().find(|it| it["kind"] == "mq-sync")
}

/// How often the default replicated, applied and dropped in a trace, which replays natively and as a component.
fn replay(file: &Path, component: &Component<MqSync>) -> Result<[usize; 3]> {
    let (opening, calls) =
        trace::read::<MqSync>(&std::fs::read(file)?).map_err(|e| anyhow!("{}: {e}", file.display()))?;
    let fault = |fault: Fault| anyhow!("{}: {fault}", file.display());
    let native = Native::<cvp_mq_sync::Default, MqSync>::open(opening.role, &opening.namespace, &opening.settings);
    let wasm = component.open(opening.role, &opening.namespace, &opening.settings);
    let players: [(&str, MqSyncStrategy); 2] = [
        ("native", Box::new(native.map_err(fault)?)),
        ("WASM", Box::new(wasm.map_err(fault)?)),
    ];
    for (world, mut strategy) in players {
        trace::replay(&calls, &mut strategy).map_err(|other| anyhow!("{} in {world}: {other}", file.display()))?;
    }
    let mut seen = [0; 3];
    for action in calls.iter().filter_map(|call| call.answer.as_ref().ok()).flatten() {
        match action {
            Action::Replicate(_) => seen[0] += 1,
            Action::Apply(names) => seen[1] += names.len(),
            Action::Drop(names) => seen[2] += names.len(),
            other => return Err(anyhow!("{}: {other:?}", file.display())),
        }
    }
    Ok(seen)
}

#[test]
fn the_default_decides_and_a_standby_that_differs_is_aligned_at_each_handshake() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    enable(&pair.provider, "global", "")?;
    for node in [&pair.provider, &pair.receiver] {
        edit(node.root(), "global", |strategy| strategy["trace"] = value("8mb"))?;
    }
    pair.provider.start()?;
    register(&pair.provider.rpc(), "early", 1)?;
    pair.receiver.start()?;
    wait_names(&pair.receiver, &json!(["early"]))?;
    wait_equal(&pair.provider, &pair.receiver)?;
    register(&pair.provider.rpc(), "orders", 1)?;
    wait_names(&pair.receiver, &json!(["early", "orders"]))?;
    for node in [&pair.provider, &pair.receiver] {
        let status = node.status()?;
        let listed = strategy(&status).context("no mq-sync in the status")?;
        ensure!(
            listed["id"] == "default" && listed["state"] == "running" && listed["faults"] == 0,
            "{listed}"
        );
    }

    pair.receiver.stop()?;
    unregister(&pair.provider, "early")?;
    register(&pair.provider.rpc(), "refunds", 1)?;
    pair.receiver.start()?;
    wait_names(&pair.receiver, &json!(["orders", "refunds"]))?;
    // One that comes back under its name is another registration.
    pair.receiver.stop()?;
    unregister(&pair.provider, "orders")?;
    register(&pair.provider.rpc(), "orders", 1)?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let registry = |node: &Node| std::fs::read(node.root().join("namespaces/global/data/mq/registry"));
    wait::until("both disks hold the same registry", SOON, || {
        let same = registry(&pair.provider)? == registry(&pair.receiver)?;
        Ok(if same { Ok(()) } else { Err("they differ".to_owned()) })
    })?;
    pair.receiver.wait_normal()?;
    pair.receiver.stop()?;
    pair.provider.stop()?;

    let component: Component<MqSync> = Runtime::new(None)?.load(&std::fs::read(default_mq_strategy()?)?)?;
    let mut seen = [0; 3];
    for node in [&pair.provider, &pair.receiver] {
        for file in traces(node.root(), "global/mq-sync")? {
            let more = replay(&file, &component)?;
            seen = [seen[0] + more[0], seen[1] + more[1], seen[2] + more[2]];
        }
    }
    ensure!(seen == [6, 3, 1], "replicated, applied and dropped: {seen:?}");
    Ok(())
}

#[test]
fn a_strategy_of_a_third_party_refuses_a_queue_by_its_name_and_nothing_changes() -> Result<()> {
    let mut pair = with_example("doorman", "")?;
    let refused = |pair: &Pair| -> Result<()> {
        let answer = try_register(&pair.provider, "secret")?;
        let message = answer["message"].as_str().unwrap_or_default();
        ensure!(
            answer["code"] == -32605 && message.contains("queue secret is on the doorman's list"),
            "{answer}"
        );
        Ok(())
    };
    refused(&pair)?;
    register(&pair.provider.rpc(), "orders", 1)?;
    wait_names(&pair.receiver, &json!(["orders"]))?;
    refused(&pair)?;
    for node in [&pair.provider, &pair.receiver] {
        ensure!(names(node)? == json!(["orders"]));
        let status = node.status()?;
        let listed = strategy(&status).context("no mq-sync in the status")?;
        ensure!(listed["id"] == "doorman" && listed["faults"] == 0, "{listed}");
    }
    // Without a standby as well; and one that is registered may go.
    pair.receiver.stop()?;
    refused(&pair)?;
    unregister(&pair.provider, "orders")?;
    ensure!(names(&pair.provider)? == json!([]));
    Ok(())
}

#[test]
fn a_strategy_that_traps_gives_way_and_the_registration_is_made() -> Result<()> {
    for mode in ["trap", "silent"] {
        let pair = with_example(mode, "")?;
        pair.provokes(&["run strategy", "(mq-sync)", "strategies differ"]);
        register(&pair.provider.rpc(), "orders", 1)?;
        wait_names(&pair.receiver, &json!(["orders"]))?;
        let status = pair.provider.status()?;
        let listed = strategy(&status).context("no mq-sync in the status")?;
        ensure!(listed["faults"].as_u64() > Some(0), "{mode}: {listed}");
    }
    Ok(())
}

#[test]
fn a_strategy_that_takes_nothing_of_the_providers_gives_way_and_the_standby_has_every_queue() -> Result<()> {
    let component = mq_example()?;
    let mut pair = Pair::init(&Setup::default())?;
    pair.provokes(&["run strategy", "(mq-sync)", "strategies differ"]);
    enable(&pair.provider, "global", "")?;
    for node in [&pair.provider, &pair.receiver] {
        choose(node, &component, "deaf")?;
    }
    pair.provider.start()?;
    register(&pair.provider.rpc(), "early", 1)?;
    pair.receiver.start()?;
    wait_names(&pair.receiver, &json!(["early"]))?;
    let status = pair.receiver.status()?;
    let listed = strategy(&status).context("no mq-sync in the status")?;
    ensure!(listed["refused"].as_u64() > Some(0), "{listed}");
    Ok(())
}

#[test]
fn a_registration_that_is_held_for_a_broker_that_stays_away_fails_and_changes_nothing() -> Result<()> {
    let away = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let broker = format!("[mq.broker]\ntype = \"rabbit\"\n[mq.rabbit]\nurl = \"amqp://guest:guest@{away}/\"\n");
    let pair = with_example("doorman", &broker)?;
    pair.provokes(&["is not connected"]);
    let answer = try_register(&pair.provider, "orders")?;
    let message = answer["message"].as_str().unwrap_or_default();
    ensure!(
        answer["code"] == -32605 && message.contains("queue-held") && message.contains("broker is not reachable"),
        "{answer}"
    );
    for node in [&pair.provider, &pair.receiver] {
        ensure!(names(node)? == json!([]));
    }
    Ok(())
}

#[test]
fn the_command_line_knows_the_kind_mq_sync() -> Result<()> {
    for (component, id) in [(mq_example()?, "doorman"), (default_mq_strategy()?, "default")] {
        let file = component.to_string_lossy().into_owned();
        let output = cvp_pair::node::cvp(&["--json", "plugin", "check", &file])?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(
            output.status.success() && report["kind"] == "mq-sync" && report["id"] == id,
            "{report}"
        );
    }
    Ok(())
}

#[test]
fn a_copy_that_cannot_be_read_is_named_and_written_anew_at_the_next_handshake() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.provokes(&["cannot be read", "not told to the standby"]);
    enable(&pair.provider, "global", "")?;
    pair.provider.start()?;
    pair.receiver.start()?;
    register(&pair.provider.rpc(), "orders", 1)?;
    wait_names(&pair.receiver, &json!(["orders"]))?;
    pair.receiver.wait_normal()?;
    pair.receiver.stop()?;
    pair.provider.stop()?;
    let registry = |node: &Node| node.root().join("namespaces/global/data/mq/registry");
    let good = std::fs::read(registry(&pair.receiver))?;
    for damage in ["registry", "cursors", "missing"] {
        let file = registry(&pair.receiver);
        let cursors = file.with_file_name("cursors");
        match damage {
            "registry" => std::fs::write(&file, &good[..good.len() - 1])?,
            "cursors" => std::fs::write(&cursors, "x")?,
            _ => std::fs::remove_file(&file)?,
        }
        ensure!(cursors.exists(), "without cursors there is nothing to miss");
        pair.receiver.start()?;
        let node = &pair.receiver;
        let output = node.command(&["mq", "list"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1) && said.contains("Error: the copy of the message queues of global"),
            "{damage}: {output:?}"
        );
        let status = node.status()?;
        let warnings = status["namespaces"][0]["warnings"].to_string();
        ensure!(warnings.contains("queues-failed"), "{damage}: {warnings}");
        ensure!(node.rpc().answer("mq_getAllQueueNames", json!([]))?["code"] != 0);
        let (_, report) = node.json(&["upgrade", "--dry-run"])?;
        ensure!(
            report.to_string().contains("but for message queues: global"),
            "{damage}: {report}"
        );
        pair.provider.start()?;
        wait::until("the copy is written anew", SOON, || {
            let (code, list) = pair.receiver.json(&["mq", "list"])?;
            Ok(if code == 0 && list["queues"][0]["queue"] == "orders" {
                Ok(())
            } else {
                Err(format!("{damage}: {code}: {list}"))
            })
        })?;
        pair.receiver.wait_normal()?;
        ensure!(names(&pair.receiver)? == json!(["orders"]));
        wait::until("both disks hold the same registry", SOON, || {
            let same = std::fs::read(&file)? == std::fs::read(registry(&pair.provider))?;
            Ok(if same && cursors.exists() {
                Ok(())
            } else {
                Err("they differ".to_owned())
            })
        })?;
        pair.receiver.stop()?;
        pair.provider.stop()?;
    }
    Ok(())
}
