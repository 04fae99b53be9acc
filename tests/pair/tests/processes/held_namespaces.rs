//! A namespace that cannot be taken over is held by the upgrade, with its reason, and another upgrade takes it over: never does a chain
//! go on without the block that records the take-over.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::{Node, cvp_ok};
use cvp_pair::pair::{Pair, Setup, init_receiver, wait_durable};
use cvp_pair::signer::{ec, send, settled, transfer};
use serde_json::{Value, json};

use crate::configuration::wait_equal;

const WITHIN: Duration = Duration::from_secs(30);

/// What makes a store and a file of the standby unusable, to be put back.
pub(crate) struct Broken {
    current: PathBuf,
    store: Vec<u8>,
}

impl Broken {
    pub(crate) fn mend(&self) -> Result<()> {
        Ok(std::fs::write(&self.current, &self.store)?)
    }
}

/// The state database of `namespace` cannot be opened at the next start.
pub(crate) fn break_store(node: &Node, namespace: &str) -> Result<Broken> {
    let current = node.root().join(format!("namespaces/{namespace}/data/state/CURRENT"));
    let store = std::fs::read(&current)?;
    node.provokes(&[
        &format!("namespace {namespace} does not run"),
        "the namespace is not taken over",
        "an upgrade was interrupted",
    ]);
    std::fs::write(&current, "broken")?;
    Ok(Broken { current, store })
}

pub(crate) fn one_block(node: &Node, namespace: &str) -> Result<u64> {
    let rpc = node.rpc().namespace(namespace);
    let hash = send(&rpc, transfer(&ec()?, 1, namespace))?;
    settled(&rpc, &hash)?;
    rpc.height()
}

pub(crate) fn held(report: &Value) -> Vec<String> {
    let held = report["held"].as_object().into_iter().flatten();
    held.map(|(name, _)| name.clone()).collect()
}

/// Names and codes of what the status says is held.
pub(crate) fn held_in_status(node: &Node) -> Result<Vec<(String, String)>> {
    let status = node.status()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let held = status["held"].as_array().into_iter().flatten();
    Ok(held.map(|one| (text(&one["name"]), text(&one["code"]))).collect())
}

fn check<'a>(report: &'a Value, id: &str) -> Result<&'a Value> {
    let mut checks = report["checks"].as_array().into_iter().flatten();
    checks
        .find(|check| check["id"] == id)
        .with_context(|| format!("no check {id} in {report}"))
}

/// A pair of three namespaces whose provider is gone, and whose standby cannot use two of them: the store of ns1, a file of ns2.
fn two_of_three_broken() -> Result<(Pair, Broken, u64)> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1", "ns2"],
        ..Setup::default()
    })?;
    pair.receiver.provokes(&["namespace ns2 does not run"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    let mut height = 0;
    for namespace in ["global", "ns1", "ns2"] {
        height = one_block(&pair.provider, namespace)?;
        wait_durable(&pair.receiver, namespace, height)?;
    }
    // Valid TOML that no node can start with: the provider runs on with what it has read.
    let file = pair.provider.root().join("configuration/ns2/ns_dynamic.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("\"SOLO\"", "\"RBFT\""))?;
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.receiver.stop()?;
    let broken = break_store(&pair.receiver, "ns1")?;
    pair.receiver.start()?;
    pair.lose_provider()?;
    Ok((pair, broken, height))
}

#[test]
fn the_others_serve_and_another_upgrade_takes_over_what_was_held() -> Result<()> {
    let (mut pair, broken, height) = two_of_three_broken()?;
    let node = &mut pair.receiver;
    let (code, report) = node.json(&["upgrade", "--dry-run"])?;
    ensure!(code == 0, "dry run: {code} {report}");
    let backup = check(&report, "backup-complete")?;
    let said = backup["message"].as_str().unwrap_or_default();
    ensure!(
        backup["verdict"] == "warn" && said.contains("ns1: ") && said.contains("ns2: ") && said.contains("RBFT"),
        "{backup}"
    );
    let (code, report) = node.json(&["upgrade"])?;
    ensure!(code == 0 && held(&report) == ["ns1", "ns2"], "upgrade: {code} {report}");
    ensure!(
        report["serving"]["namespaces"]
            .as_object()
            .is_some_and(|names| names.len() == 1),
        "{report}"
    );
    let waiting = |names: &[&str]| -> Vec<(String, String)> {
        let held = names
            .iter()
            .map(|name| ((*name).to_owned(), "not-taken-over".to_owned()));
        held.collect()
    };
    ensure!(
        held_in_status(node)? == waiting(&["ns1", "ns2"]),
        "{:?}",
        node.status()?
    );
    one_block(node, "global")?;
    let (code, refused) = node.json(&["namespace", "start", "ns1"])?;
    ensure!(
        code == 4 && refused["error"]["code"] == "not-taken-over",
        "{code} {refused}"
    );
    // Still the same after a crash.
    node.kill()?;
    node.start()?;
    ensure!(
        held_in_status(node)? == waiting(&["ns1", "ns2"]),
        "{:?}",
        node.status()?
    );
    let (code, report) = node.json(&["upgrade", "--dry-run"])?;
    ensure!(
        code == 6 && check(&report, "held-namespaces")?["verdict"] == "fail",
        "{code} {report}"
    );
    ensure!(node.json(&["upgrade"])?.0 == 4);

    broken.mend()?;
    // A repaired store does not make blocks by itself, not even after a restart.
    node.stop()?;
    node.start()?;
    ensure!(
        held_in_status(node)? == waiting(&["ns1", "ns2"]),
        "{:?}",
        node.status()?
    );
    let (code, report) = node.json(&["upgrade"])?;
    ensure!(code == 0 && held(&report) == ["ns2"], "the second: {code} {report}");
    ensure!(
        report["serving"]["namespaces"]["ns1"]["height"] == height + 1,
        "{report}"
    );
    ensure!(held_in_status(node)? == waiting(&["ns2"]), "{:?}", node.status()?);
    one_block(node, "ns1")?;

    let file = node.root().join("configuration/ns2/ns_dynamic.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("\"RBFT\"", "\"SOLO\""))?;
    let (code, report) = node.json(&["upgrade"])?;
    ensure!(code == 0 && held(&report).is_empty(), "the third: {code} {report}");
    for namespace in ["global", "ns1", "ns2"] {
        one_block(node, namespace)?;
    }
    node.verify()?;
    let (code, refused) = node.json(&["upgrade"])?;
    ensure!(
        code == 4 && refused["error"]["code"] == "wrong-role",
        "{code} {refused}"
    );
    attaches(&pair)
}

/// A fresh standby copies all that was taken over, early or late.
fn attaches(pair: &Pair) -> Result<()> {
    let at = pair.directory.path();
    let tls = at.join("tls").to_string_lossy().into_owned();
    let names = ["--host", "cvp2", "--standby-for", "node1", "--ip", "127.0.0.1"];
    cvp_ok(&[&["certgen", tls.as_str()], names.as_slice()].concat())?;
    let peer = format!("node1 {}", pair.receiver.p2p());
    let setup = Setup {
        namespaces: &["ns1", "ns2"],
        ..Setup::default()
    };
    let mut fresh = Node::new(init_receiver(at, "cvp2", &peer, pair.receiver.root(), &setup)?);
    fresh.start()?;
    pair.receiver.wait_normal()?;
    for namespace in ["global", "ns1", "ns2"] {
        wait_durable(&fresh, namespace, one_block(&pair.receiver, namespace)?)?;
    }
    fresh.verify()
}

#[test]
fn a_kill_in_the_second_upgrade_ends_in_the_same_state() -> Result<()> {
    for point in ["identity", "configuration", "roles", "takeover", "takeover:after"] {
        let ended = killed_at(point);
        ended.map_err(|error| error.context(format!("killed at {point}")))?;
    }
    Ok(())
}

fn killed_at(point: &str) -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let height = one_block(&pair.provider, "ns1")?;
    wait_durable(&pair.receiver, "ns1", height)?;
    pair.lose_provider()?;
    let node = &mut pair.receiver;
    node.stop()?;
    let broken = break_store(node, "ns1")?;
    node.start()?;
    ensure!(held(&node.json(&["upgrade"])?.1) == ["ns1"]);
    node.stop()?;
    broken.mend()?;
    node.environment = vec![("CVP_TEST_CRASH_AT".into(), point.into())];
    node.start()?;
    let _ = node.command(&["upgrade"])?;
    node.wait_end(WITHIN)?;
    node.environment.clear();
    node.start()?;
    ensure!(held_in_status(node)?.is_empty(), "{:?}", node.status()?);
    let rpc = node.rpc().namespace("ns1");
    let next = rpc.call("block_getBlockByNumber", json!([height + 1, false]))?;
    ensure!(next["txcounts"] == "0x0", "no take-over block: {next}");
    ensure!(one_block(node, "ns1")? > height + 1);
    node.verify()
}

#[test]
fn one_that_breaks_in_the_middle_of_an_upgrade_keeps_no_other_from_serving() -> Result<()> {
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.receiver.environment = vec![("CVP_TEST_CRASH_AT".into(), "roles".into())];
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    for namespace in ["global", "ns1"] {
        wait_durable(&pair.receiver, namespace, one_block(&pair.provider, namespace)?)?;
    }
    pair.lose_provider()?;
    let node = &mut pair.receiver;
    let _ = node.command(&["upgrade"])?;
    node.wait_end(WITHIN)?;
    node.environment.clear();
    let broken = break_store(node, "ns1")?;
    node.start()?;
    ensure!(
        held_in_status(node)? == [("ns1".to_owned(), "not-taken-over".to_owned())],
        "{:?}",
        node.status()?
    );
    ensure!(node.status()?["role"] == "provider");
    one_block(node, "global")?;
    broken.mend()?;
    let (code, report) = node.json(&["upgrade"])?;
    ensure!(code == 0 && held(&report).is_empty(), "{code} {report}");
    one_block(node, "ns1")?;
    node.verify()
}

#[test]
fn a_namespace_that_was_stopped_takes_over_when_it_is_started() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let height = one_block(&pair.provider, "ns1")?;
    wait_durable(&pair.receiver, "ns1", height)?;
    let (code, answer) = pair.provider.json(&["namespace", "stop", "ns1"])?;
    ensure!(code == 0 && answer["replicated"] == true, "{code} {answer}");
    pair.lose_provider()?;
    let node = &pair.receiver;
    let (code, report) = node.json(&["upgrade"])?;
    ensure!(code == 0 && held(&report).is_empty(), "{code} {report}");
    let (code, answer) = node.json(&["namespace", "start", "ns1"])?;
    ensure!(code == 0, "{code} {answer}");
    let rpc = node.rpc().namespace("ns1");
    let first = rpc.call("block_getBlockByNumber", json!([height + 1, false]))?;
    ensure!(first["txcounts"] == "0x0", "no take-over block: {first}");
    ensure!(one_block(node, "ns1")? > height + 1);
    node.verify()
}

#[test]
fn what_was_held_may_be_destroyed_and_made_anew() -> Result<()> {
    let (pair, _, _) = two_of_three_broken()?;
    let node = &pair.receiver;
    ensure!(held(&node.json(&["upgrade"])?.1) == ["ns1", "ns2"]);
    for arguments in [["namespace", "stop", "ns1"], ["namespace", "destroy", "ns1"]] {
        let (code, answer) = node.json(&arguments)?;
        ensure!(code == 0, "{arguments:?}: {code} {answer}");
    }
    let (code, answer) = node.json(&["namespace", "start", "ns1"])?;
    ensure!(code == 0 && answer["running"] == true, "{code} {answer}");
    ensure!(one_block(node, "ns1")? == 1, "it begins anew");
    let status = node.wait_status("ns2 alone is held", WITHIN, |s| {
        s["held"].as_array().is_some_and(|held| held.len() == 1)
    })?;
    ensure!(status["held"][0]["name"] == "ns2", "{status}");
    Ok(())
}
