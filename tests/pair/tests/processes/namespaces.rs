//! Namespaces that appear and disappear while the node runs: the standby follows without a command, and one that is broken is no business
//! of the others.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, wait_durable};
use cvp_pair::signer::{ec, send, settled, transfer, wait_shown};
use cvp_pair::wait;
use serde_json::{Value, json};

use crate::configuration::{files, wait_equal};
use crate::takeover::loaded;

const WITHIN: Duration = Duration::from_secs(30);

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for name in files(from)?.into_keys() {
        let target = to.join(&name);
        std::fs::create_dir_all(target.parent().context("no parent")?)?;
        // With its mode: keys are their owner's alone.
        std::fs::copy(from.join(name), target)?;
    }
    Ok(())
}

/// The files of a new namespace, made from those of `global`.
pub fn prepare(node: &Node, name: &str) -> Result<()> {
    for below in ["configuration/global", "namespaces/global/certs"] {
        copy_tree(
            &node.root().join(below),
            &node.root().join(below.replace("global", name)),
        )?;
    }
    Ok(())
}

/// The keys of a new namespace, as the operator brings them to the standby.
fn bring_keys(pair: &Pair, name: &str) -> Result<()> {
    let certs = format!("namespaces/{name}/certs");
    copy_tree(&pair.provider.root().join(&certs), &pair.receiver.root().join(&certs))
}

/// Exit code, first line of the output, and what went to stderr.
fn run(node: &Node, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = node.command(arguments)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let first = text(&output.stdout).lines().next().unwrap_or_default().to_owned();
    Ok((output.status.code(), first, text(&output.stderr).trim().to_owned()))
}

pub fn running(node: &Node) -> Result<String> {
    Ok(run(node, &["namespace", "list"])?.1)
}

pub fn wait_running(node: &Node, names: &str) -> Result<()> {
    wait::until(&format!("{names} run on {}", node.root().display()), WITHIN, || {
        let found = running(node)?;
        Ok(if found == names {
            Ok(())
        } else {
            Err(format!("{found} {}", node.status()?))
        })
    })
}

/// One more block in `namespace`, which the standby holds and shows.
pub fn flows(pair: &Pair, namespace: &str) -> Result<u64> {
    let (ours, theirs) = (
        pair.provider.rpc().namespace(namespace),
        pair.receiver.rpc().namespace(namespace),
    );
    let hash = send(&ours, transfer(&ec()?, 1, namespace))?;
    settled(&ours, &hash)?;
    let height = ours.height()?;
    wait_durable(&pair.receiver, namespace, height)?;
    wait_shown(&theirs, height, Duration::from_secs(10))?;
    Ok(height)
}

fn reason(status: &Value, code: &str) -> String {
    let reasons = status["reasons"].as_array().into_iter().flatten();
    let found = reasons.filter(|reason| reason["code"] == code);
    found.map(|reason| reason["message"].to_string()).collect()
}

pub fn own_entry(node: &Node, text: &str) -> Result<bool> {
    let list = std::fs::read_to_string(node.root().join("configuration/dynamic.toml"))?;
    Ok(list.contains(text))
}

#[test]
fn a_namespace_started_and_stopped_online_is_followed_without_a_command() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    let refused = run(&pair.provider, &["namespace", "start", "ns2"])?;
    ensure!(
        refused.0 == Some(4)
            && refused
                .2
                .contains("lacks ns_static.toml, ns_dynamic.toml, ns_genesis.toml"),
        "{refused:?}"
    );
    prepare(&pair.provider, "ns2")?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let started = run(&pair.provider, &["namespace", "start", "ns2", "--must-replicate"])?;
    ensure!(
        started.0 == Some(0) && started.1 == "successfully start namespace: \"ns2\"",
        "{started:?}"
    );
    ensure!(running(&pair.provider)? == "global,ns2");
    wait_running(&pair.receiver, "global,ns2")?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let height = flows(&pair, "ns2")?;
    flows(&pair, "global")?;
    let again = run(&pair.provider, &["namespace", "start", "ns2"])?;
    ensure!(again.0 == Some(4) && again.2 == "Error: namespace exist", "{again:?}");
    let running_yet = run(&pair.provider, &["namespace", "destroy", "ns2"])?;
    ensure!(running_yet.2 == "Error: namespace has not stopped", "{running_yet:?}");
    let on_standby = run(&pair.receiver, &["namespace", "stop", "ns2"])?;
    ensure!(on_standby.0 == Some(4), "{on_standby:?}");

    let stopped = run(&pair.provider, &["namespace", "stop", "ns2"])?;
    ensure!(
        stopped.0 == Some(0) && stopped.1 == "successfully stop namespace \"ns2\"",
        "{stopped:?}"
    );
    wait_running(&pair.receiver, "global")?;
    wait_equal(&pair.provider, &pair.receiver)?;
    for node in [&pair.provider, &pair.receiver] {
        ensure!(node.rpc().namespace("ns2").refused("block_getChainHeight", json!([]))? == -32010);
        ensure!(
            own_entry(node, "name = \"ns2\"\nstart = false")?,
            "{}",
            node.root().display()
        );
    }
    let twice = run(&pair.provider, &["namespace", "stop", "ns2"])?;
    ensure!(twice.2 == "Error: namespace \"ns2\" is not running", "{twice:?}");
    flows(&pair, "global")?;
    // Its chain goes on where it was.
    ensure!(run(&pair.provider, &["namespace", "start", "ns2"])?.0 == Some(0));
    wait_running(&pair.receiver, "global,ns2")?;
    ensure!(flows(&pair, "ns2")? > height);
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.receiver.verify()
}

#[test]
fn a_standby_that_was_away_follows_when_it_returns_and_takes_all_of_it_over() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    wait_equal(&pair.provider, &pair.receiver)?;
    flows(&pair, "ns1")?;
    pair.receiver.stop()?;
    prepare(&pair.provider, "ns2")?;
    bring_keys(&pair, "ns2")?;
    let local = pair.provider.command(&["namespace", "start", "ns2"])?;
    ensure!(
        String::from_utf8_lossy(&local.stdout).contains("no standby is attached"),
        "{local:?}"
    );
    let (exit, answer) = pair.provider.json(&["namespace", "stop", "ns1"])?;
    ensure!(exit == 0 && answer["answer"] == "local", "{answer}");
    let (exit, answer) = pair.provider.json(&["namespace", "start", "ns1", "--must-replicate"])?;
    ensure!(exit != 0, "{answer}");
    ensure!(running(&pair.provider)? == "global,ns2");
    pair.receiver.start()?;
    wait_running(&pair.receiver, "global,ns2")?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let (height, _) = loaded(&pair)?;
    let added = flows(&pair, "ns2")?;
    pair.lose_provider()?;
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(exit == 0, "{exit} {report}");
    ensure!(
        report["serving"]["namespaces"]["ns2"]["height"].as_u64() > Some(added),
        "{report}"
    );
    for again in [false, true] {
        if again {
            pair.receiver.stop()?;
            pair.receiver.start()?;
        }
        ensure!(running(&pair.receiver)? == "global,ns2");
        for (name, height) in [("global", height), ("ns2", added)] {
            let rpc = pair.receiver.rpc().namespace(name);
            let hash = send(&rpc, transfer(&ec()?, 1, "after"))?;
            settled(&rpc, &hash)?;
            ensure!(rpc.height()? > height + 1, "{name}");
        }
    }
    pair.receiver.verify()
}

#[test]
fn another_genesis_of_the_same_name_is_refused_and_both_are_named() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    pair.provokes(&["(genesis)", "namespace ns2 cannot be started here"]);
    // Prepared on the standby, with a genesis of its own: the others go on.
    for node in [&pair.provider, &pair.receiver] {
        prepare(node, "ns2")?;
    }
    let genesis = pair.receiver.root().join("configuration/ns2/ns_genesis.toml");
    let right = std::fs::read_to_string(&genesis)?;
    let account = "\"0x00000000000000000000000000000000000000aa\" = \"1\"";
    std::fs::write(
        &genesis,
        right.replace("[genesis.alloc]", &format!("[genesis.alloc]\n{account}")),
    )?;
    ensure!(run(&pair.provider, &["namespace", "start", "ns2"])?.0 == Some(0));
    let status = pair
        .receiver
        .wait_status("ns2 is held", WITHIN, |s| !reason(s, "namespace-held").is_empty())?;
    ensure!(
        reason(&status, "namespace-held").contains("on the provider (genesis)"),
        "{status}"
    );
    ensure!(
        status["held"][0]["name"] == "ns2" && !reason(&status, "namespaces-differ").is_empty(),
        "{status}"
    );
    pair.provider.wait_status("the provider says so too", WITHIN, |s| {
        !reason(s, "namespace-held").is_empty()
            && reason(s, "namespaces-differ").contains("ns2 runs on the provider alone")
    })?;
    flows(&pair, "global")?;
    // Both run it, with different geneses: no session at all.
    pair.receiver.stop()?;
    let list = pair.receiver.root().join("configuration/dynamic.toml");
    let text = std::fs::read_to_string(&list)?;
    ensure!(!text.contains("ns2"), "{text}");
    std::fs::write(&list, format!("{text}\n[[namespace]]\nname = \"ns2\"\nstart = true\n"))?;
    pair.receiver.start()?;
    for node in [&pair.provider, &pair.receiver] {
        let status = node.wait_status("refused", WITHIN, |s| !reason(s, "refused-genesis").is_empty())?;
        ensure!(reason(&status, "refused-genesis").contains("namespace ns2"), "{status}");
    }
    Ok(())
}

#[test]
fn a_broken_namespace_stops_no_other() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1", "ns2"],
        ..Setup::default()
    })?;
    pair.provider
        .provokes(&["namespace ns1 does not run", "namespace ns2 does not run"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    flows(&pair, "ns1")?;
    pair.provider.stop()?;
    let root = pair.provider.root().to_owned();
    let (current, file) = (
        root.join("namespaces/ns1/data/state/CURRENT"),
        root.join("configuration/ns2/ns_dynamic.toml"),
    );
    let (store, text) = (std::fs::read(&current)?, std::fs::read_to_string(&file)?);
    std::fs::write(&current, "broken")?;
    std::fs::write(&file, text.replace("\"SOLO\"", "\"RBFT\""))?;
    pair.provider.start()?;
    ensure!(running(&pair.provider)? == "global");
    flows(&pair, "global")?;
    let status = pair.provider.wait_status("both are held", WITHIN, |s| {
        s["held"].as_array().is_some_and(|held| held.len() == 2) && !reason(s, "namespaces-differ").is_empty()
    })?;
    let held = reason(&status, "namespace-held");
    ensure!(
        held.contains("ns1 does not run") && held.contains("consensus.algo"),
        "{status}"
    );
    // The provider's configuration starts them: what the standby holds may be the only good copy, and stays open.
    let status = pair.receiver.wait_status("the standby names them", WITHIN, |s| {
        reason(s, "namespaces-differ").contains("ns1, ns2 runs on the receiver alone")
    })?;
    ensure!(running(&pair.receiver)? == "global,ns1,ns2", "{status}");
    std::fs::write(&current, store)?;
    std::fs::write(&file, text)?;
    for name in ["ns1", "ns2"] {
        let (exit, answer) = pair.provider.json(&["namespace", "start", name])?;
        ensure!(exit == 0 && answer["answer"] == "unchanged", "{answer}");
    }
    wait_equal(&pair.provider, &pair.receiver)?;
    flows(&pair, "ns1")?;
    pair.receiver.verify()
}

#[test]
fn a_stopped_namespace_is_destroyed_and_global_stops_the_node() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    wait_equal(&pair.provider, &pair.receiver)?;
    flows(&pair, "ns1")?;
    let never = run(&pair.provider, &["namespace", "destroy", "ns9"])?;
    ensure!(never.2 == "Error: namespace [ns9] not exists", "{never:?}");
    ensure!(run(&pair.provider, &["namespace", "stop", "ns1"])?.0 == Some(0));
    wait_running(&pair.receiver, "global")?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let gone = run(&pair.provider, &["namespace", "destroy", "ns1"])?;
    ensure!(
        gone.0 == Some(0) && gone.1 == "successufully destroy namespace \"ns1\"",
        "{gone:?}"
    );
    ensure!(!own_entry(&pair.provider, "ns1")? && own_entry(&pair.receiver, "name = \"ns1\"\nstart = false")?);
    let data = |node: &Node| node.root().join("namespaces/ns1/data");
    ensure!(!data(&pair.provider).exists() && data(&pair.receiver).is_dir());
    wait_equal(&pair.provider, &pair.receiver)?;
    let kept = run(&pair.provider, &["namespace", "destroy", "global"])?;
    ensure!(kept.0 == Some(4), "{kept:?}");
    let stopped = run(&pair.provider, &["namespace", "stop", "global"])?;
    ensure!(
        stopped.0 == Some(0) && stopped.1 == "successfully stop namespace \"global\"",
        "{stopped:?}"
    );
    let status = pair.provider.wait_end(Duration::from_secs(10))?;
    ensure!(status.success(), "{status}");
    pair.provider.start()?;
    flows(&pair, "global")?;
    Ok(())
}

#[test]
fn what_is_set_right_after_a_namespace_started_or_stopped_is_replicated() -> Result<()> {
    let pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    wait_equal(&pair.provider, &pair.receiver)?;
    for round in 0..10 {
        let command = if round % 2 == 0 { "stop" } else { "start" };
        let switched = run(&pair.provider, &["namespace", command, "ns1"])?;
        ensure!(switched.0 == Some(0), "{switched:?}");
        let value = (1_000 + round).to_string();
        let set = [
            "config",
            "set",
            "dynamic.toml",
            "cvp.max_rate",
            &value,
            "--must-replicate",
        ];
        let (exit, answer) = pair.provider.json(&set)?;
        ensure!(exit == 0 && answer["replicated"] == true, "{round} {exit} {answer}");
    }
    wait_equal(&pair.provider, &pair.receiver)
}
