//! Take-over: what the preflight refuses, a kill at every step, and the old provider that comes back.

use std::time::Duration;

use anyhow::{Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, init_receiver};
use cvp_pair::signer::{ec, send_many};
use cvp_pair::wait;
use serde_json::{Value, json};

fn verdict<'a>(report: &'a Value, id: &str) -> &'a str {
    report["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|check| check["id"] == id)
        .and_then(|check| check["verdict"].as_str())
        .unwrap_or("absent")
}

/// Copied height, and the block there as both nodes answer it.
fn loaded(pair: &Pair) -> Result<(u64, Value)> {
    let rpc = pair.provider.rpc();
    send_many(&rpc, &ec()?, 10)?;
    let height = rpc.height()?;
    pair.wait_durable("global", height)?;
    Ok((height, rpc.call("block_getBlockByNumber", json!([height, false]))?))
}

fn goes_on(node: &Node, height: u64, block: &Value) -> Result<()> {
    let rpc = node.rpc();
    let found = rpc.call("block_getBlockByNumber", json!([height, false]))?;
    ensure!(found == *block, "block {height} was {block} and is {found}");
    let before = rpc.height()?;
    ensure!(before > height, "no take-over block above {height}");
    send_many(&rpc, &ec()?, 3)?;
    ensure!(rpc.height()? > before, "no block after the take-over");
    node.verify()
}

#[test]
fn a_living_provider_is_not_replaced() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    loaded(&pair)?;
    let (code, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(code == 6, "dry run: {code} {report}");
    ensure!(verdict(&report, "target-unreachable") == "fail", "{report}");
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 4, "upgrade: {code} {report}");
    ensure!(pair.receiver.status()?["role"] == "receiver");
    ensure!(
        pair.provider.json(&["upgrade"])?.0 == 4,
        "a provider must refuse upgrade"
    );
    Ok(())
}

#[test]
fn the_standby_takes_over_and_a_fresh_one_attaches() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(code == 0, "dry run: {code} {report}");
    ensure!(
        pair.receiver.status()?["role"] == "receiver",
        "a dry run changed the role"
    );
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "upgrade: {code} {report}");
    goes_on(&pair.receiver, height, &block)?;
    let status = pair.receiver.status()?;
    ensure!(
        status["role"] == "provider" && status["hostname"] == "node1",
        "{status}"
    );
    ensure!(status["incarnation"]["number"] == 2, "{status}");

    let peer = format!("node1 {}", pair.receiver.p2p());
    cvp_pair::node::cvp_ok(&[
        "certgen",
        &pair.directory.path().join("tls").to_string_lossy(),
        "--host",
        "cvp2",
        "--standby-for",
        "node1",
        "--ip",
        "127.0.0.1",
    ])?;
    let root = init_receiver(
        pair.directory.path(),
        "cvp2",
        &peer,
        pair.receiver.root(),
        &Setup::default(),
    )?;
    let mut fresh = Node::new(root);
    fresh.start()?;
    pair.receiver.wait_normal()?;
    cvp_pair::pair::wait_durable(&fresh, "global", pair.receiver.rpc().height()?)?;
    fresh.verify()
}

#[test]
fn an_old_provider_that_comes_back_is_fenced() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    ensure!(pair.receiver.json(&["upgrade"])?.0 == 0);
    goes_on(&pair.receiver, height, &block)?;
    // The first start may be refused its JSON-RPC port before or after the ready line: both are a fenced node.
    let _ = pair.provider.start();
    let fenced = pair.provider.root().join("system/cvp/fenced");
    wait::until("the old provider writes its fence", Duration::from_secs(10), || {
        Ok(if fenced.exists() {
            Ok(())
        } else {
            Err(pair.provider.log())
        })
    })?;
    let status = pair
        .provider
        .wait_status("status says fenced", Duration::from_secs(10), |s| {
            s["reasons"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|r| r["code"] == "fenced")
        })?;
    ensure!(status["normal"] == false);
    let own = status["namespaces"][0]["tip"].as_u64();
    ensure!(own == Some(height), "the fenced node made a block: {status}");
    wait::until("its JSON-RPC port is closed", Duration::from_secs(10), || {
        Ok(match std::net::TcpStream::connect(pair.provider.jsonrpc()) {
            Err(_) => Ok(()),
            Ok(_) => Err("it accepts".into()),
        })
    })
}

/// Every step of a promotion, as `upgrade` reports them.
fn steps() -> Result<Vec<String>> {
    let mut pair = Pair::start(&Setup::default())?;
    loaded(&pair)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "upgrade: {report}");
    let ids = report["steps"].as_array().into_iter().flatten();
    Ok(ids.filter_map(|step| step["id"].as_str().map(str::to_owned)).collect())
}

#[test]
fn a_kill_at_every_step_resumes_to_the_same_end() -> Result<()> {
    let steps = steps()?;
    ensure!(steps.len() >= 5, "steps: {steps:?}");
    for step in &steps {
        for moment in ["before", "after"] {
            let mut pair = Pair::init(&Setup::default())?;
            pair.receiver.environment = vec![("CVP_TEST_CRASH_AT".into(), format!("{step}:{moment}"))];
            pair.provider.start()?;
            pair.receiver.start()?;
            pair.provider.wait_normal()?;
            let (height, block) = loaded(&pair)?;
            pair.lose_provider()?;
            let _ = pair.receiver.command(&["upgrade"])?;
            pair.receiver.wait_end(Duration::from_secs(20))?;
            pair.receiver.environment.clear();
            pair.receiver.start()?;
            if *step == steps[0] && moment == "before" && pair.receiver.status()?["role"] == "receiver" {
                // Killed before anything was journaled: nothing has begun, so the operator runs it again.
                let (code, report) = pair.receiver.json(&["upgrade"])?;
                ensure!(code == 0, "{report}");
            }
            let end = pair
                .receiver
                .wait_status("the promotion is done", Duration::from_secs(20), |s| {
                    s["role"] == "provider" && s["hostname"] == "node1" && s["incarnation"]["number"] == 2
                })?;
            ensure!(end["fenced"] != true, "{end}");
            goes_on(&pair.receiver, height, &block)?;
            // The old provider, started at this moment, makes no block.
            let _ = pair.provider.start();
            let status = pair
                .provider
                .wait_status("the old provider is fenced", Duration::from_secs(10), |s| {
                    s["reasons"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .any(|r| r["code"] == "fenced")
                })?;
            ensure!(
                status["namespaces"][0]["tip"].as_u64() == Some(height),
                "{step}:{moment}: {status}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_receiver_without_the_providers_key_says_so() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    std::fs::remove_file(pair.receiver.root().join("namespaces/global/certs/certs/key.priv"))?;
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    loaded(&pair)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 4 && verdict(&report, "keys-match") == "fail", "{code} {report}");
    let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
    ensure!(code == 0, "{code} {report}");
    Ok(())
}
