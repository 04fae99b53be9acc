//! Plugin directories on running nodes: chosen by namespace, listed, checked, reset, replaced while they run, rolled back.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::{Node, cvp};
use cvp_pair::pair::{Pair, Setup, durable};
use cvp_pair::plugins::{choose, config_example, default_strategy, example, install};
use cvp_pair::signer::{ec, send_many};
use cvp_pair::wait;
use serde_json::Value;

/// Longest wait for a strategy to be loaded, restarted or given up: its backoff is 1 s and 2 s before the quarantine.
const SETTLES: Duration = Duration::from_secs(20);

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A pair whose ends both run the example for `namespace` in `mode`; started.
fn pair_with(setup: &Setup<'_>, namespace: &str, mode: &str) -> Result<Pair> {
    let component = example("")?;
    let mut pair = Pair::init(setup)?;
    for node in [&pair.provider, &pair.receiver] {
        install(node.root(), &component, "0.1.0")?;
        choose(node.root(), namespace, mode)?;
    }
    pair.provider.start()?;
    pair.receiver.start()?;
    Ok(pair)
}

/// The line of `plugin list` about a namespace.
fn listed(node: &Node, namespace: &str) -> Result<Value> {
    let (code, rows) = node.json(&["plugin", "list"])?;
    ensure!(code == 0, "plugin list: {code} {rows}");
    let mut rows = rows.as_array().context("no list")?.iter();
    rows.find(|row| row["namespace"] == namespace)
        .cloned()
        .with_context(|| format!("no line about {namespace}"))
}

fn wait_listed(node: &Node, what: &str, condition: impl Fn(&Value) -> bool) -> Result<Value> {
    wait::until(&format!("{what} ({})", node.root().display()), SETTLES, || {
        let row = listed(node, "global")?;
        Ok(if condition(&row) { Ok(row) } else { Err(row.to_string()) })
    })
}

#[test]
fn a_plugin_is_one_namespaces_choice() -> Result<()> {
    let setup = Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    };
    let pair = pair_with(&setup, "ns1", "pause")?;
    let rpc = pair.provider.rpc();
    let paused = |status: &Value| {
        let ns1 = status["namespaces"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|ns| ns["name"] == "ns1");
        ns1.is_some_and(|ns1| ns1["strategies"][0]["id"] == "pauser" && ns1["lag_blocks"].as_u64() > Some(0))
    };
    send_many(&rpc.namespace("ns1"), &ec()?, 3)?;
    send_many(&rpc, &ec()?, 3)?;
    pair.wait_durable("global", rpc.height()?)?;
    let status = pair.receiver.wait_status("ns1 is paused and lags", SETTLES, paused)?;
    ensure!(
        durable(&status, "ns1") == Some(0),
        "a paused stream carried blocks: {status}"
    );

    for node in [&pair.provider, &pair.receiver] {
        for (namespace, id, version) in [("global", "default", "1.0.0"), ("ns1", "pauser", "0.1.0")] {
            let row = listed(node, namespace)?;
            ensure!(
                row["id"] == id && row["running"] == id && row["version"] == version && row["state"] == "running",
                "{row}"
            );
            ensure!(
                row["kind"] == "chain-sync" && row["faults"] == 0 && row["problem"] == "",
                "{row}"
            );
        }
        let text = out(&node.command(&["plugin", "list"])?);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected = [
            ["namespace", "kind", "id", "version", "state", "faults"],
            ["global", "chain-sync", "default", "1.0.0", "running", "0"],
            ["global", "config-sync", "default", "1.0.0", "running", "0"],
            ["global", "index-check", "default", "1.0.0", "running", "0"],
            ["global", "mq-sync", "default", "1.0.0", "running", "0"],
            ["ns1", "chain-sync", "pauser", "0.1.0", "running", "0"],
            ["ns1", "config-sync", "default", "1.0.0", "running", "0"],
            ["ns1", "index-check", "default", "1.0.0", "running", "0"],
            ["ns1", "mq-sync", "default", "1.0.0", "running", "0"],
        ];
        ensure!(words == expected, "{text}");
    }
    Ok(())
}

/// A quarantine on one end is announced: both run the default, and both go back when it ends.
#[test]
fn a_reset_ends_the_quarantine() -> Result<()> {
    let component = example("")?;
    let mut pair = Pair::init(&Setup::default())?;
    pair.receiver
        .provokes(&["load strategy namespace=global", "run strategy namespace=global"]);
    for (node, mode) in [(&pair.provider, "pause"), (&pair.receiver, "trap")] {
        install(node.root(), &component, "0.1.0")?;
        choose(node.root(), "global", mode)?;
    }
    pair.provider.start()?;
    pair.receiver.start()?;
    let (provider, receiver) = (&pair.provider, &pair.receiver);
    for round in 0..2 {
        let row = wait_listed(receiver, "what traps is in quarantine", |row| {
            row["state"] == "quarantined"
        })?;
        ensure!(row["id"] == "pauser" && row["running"] == "default", "{row}");
        ensure!(
            row["faults"] == 3,
            "three faults a minute, and none of before a reset: {row}"
        );
        ensure!(
            row["problem"]
                .as_str()
                .is_some_and(|text| text.contains("told to trap")),
            "{row}"
        );
        let row = wait_listed(provider, "the other end runs the default", |row| {
            row["state"] == "default"
        })?;
        ensure!(
            row["id"] == "pauser" && row["running"] == "default" && row["faults"] == 0,
            "{row}"
        );
        let status = receiver.status()?;
        ensure!(
            status["reasons"].to_string().contains("strategy-quarantined"),
            "{status}"
        );

        // The embedded default copies.
        let rpc = pair.provider.rpc();
        send_many(&rpc, &ec()?, 3)?;
        pair.wait_durable("global", rpc.height()?)?;
        if round == 0 {
            let (exit, answer) = receiver.json(&["plugin", "reset", "pauser"])?;
            ensure!(exit == 0 && answer["reset"] == 1, "{exit} {answer}");
            wait_listed(receiver, "its faults are forgiven", |row| {
                row["faults"].as_u64() < Some(3)
            })?;
            wait_listed(provider, "the other end goes back as well", runs("0.1.0"))?;
        }
    }
    ensure!(
        !receiver.log().contains("roll back"),
        "a reset brings nothing to go back to"
    );
    // One that has no fault may be reset as well; one that nobody runs may not.
    let reset = provider.command(&["plugin", "reset", "pauser"])?;
    ensure!(
        code(&reset) == 0 && out(&reset).trim() == "pauser starts afresh",
        "{reset:?}"
    );
    let (exit, error) = provider.json(&["plugin", "reset", "absent"])?;
    ensure!(exit == 1 && error["error"]["code"] == "no-plugin", "{exit} {error}");
    Ok(())
}

fn runs(version: &'static str) -> impl Fn(&Value) -> bool {
    move |row| row["running"] == "pauser" && row["version"] == version && row["state"] == "running"
}

fn replace(pair: &Pair, component: &Path) -> Result<()> {
    for node in [&pair.provider, &pair.receiver] {
        install(node.root(), component, "0.2.0")?;
    }
    Ok(())
}

#[test]
fn a_changed_file_takes_over_and_an_early_fault_brings_the_old_one_back() -> Result<()> {
    let (second, broken) = (example("second")?, example("broken")?);
    let pair = pair_with(&Setup::default(), "global", "pause")?;
    pair.provokes(&["roll back to the strategy before"]);
    for node in [&pair.provider, &pair.receiver] {
        wait_listed(node, "the plugin runs", runs("0.1.0"))?;
    }
    pair.receiver
        .wait_status("a session stands", SETTLES, |s| s["peer"]["hostname"] == "node1")?;

    // This one opens as it should, and traps at its first tick, a second after it took over. Where it traps first, the other end follows.
    replace(&pair, &broken)?;
    let mut problems = String::new();
    for node in [&pair.provider, &pair.receiver] {
        let row = wait_listed(node, "the broken file is rolled back", |row| {
            runs("0.1.0")(row) && row["problem"].as_str().is_some_and(|text| text.contains("rolled back"))
        })?;
        ensure!(row["faults"] == 0, "the one before has no fault: {row}");
        problems.push_str(row["problem"].as_str().unwrap_or_default());
    }
    ensure!(problems.contains("broken on purpose"), "{problems}");
    replace(&pair, &second)?;
    for node in [&pair.provider, &pair.receiver] {
        let row = wait_listed(node, "the second version runs", runs("0.2.0"))?;
        ensure!(row["problem"] == "" && row["faults"] == 0, "{row}");
    }
    // Both ends run it, and it pauses as the first did.
    send_many(&pair.provider.rpc(), &ec()?, 3)?;
    let status = pair.provider.wait_status("the lag is seen", SETTLES, |status| {
        let global = &status["namespaces"][0];
        let strategy = &global["strategies"][0];
        global["lag_blocks"].as_u64() > Some(0) && strategy["version"] == "0.2.0" && strategy["state"] == "running"
    })?;
    ensure!(
        durable(&status, "global").unwrap_or(0) == 0,
        "a paused stream carried blocks: {status}"
    );
    Ok(())
}

#[test]
fn a_component_is_checked_without_a_node() -> Result<()> {
    let component = example("")?;
    let file = component.to_string_lossy().into_owned();
    let directory = tempfile::tempdir()?;
    let check = |arguments: &[&str]| cvp(&[&["plugin", "check"], arguments].concat());
    let json = |arguments: &[&str]| -> Result<(i32, Value)> {
        let output = cvp(&[&["--json", "plugin", "check"], arguments].concat())?;
        Ok((code(&output), serde_json::from_slice(&output.stdout)?))
    };

    let good = check(&[&file])?;
    let text = out(&good);
    ensure!(
        code(&good) == 0 && text.starts_with("pauser 0.1.0 (chain-sync), "),
        "{good:?}"
    );
    ensure!(
        text.contains("\ngood: put it into plugins/pauser/plugin.wasm"),
        "{text}"
    );
    let (exit, report) = json(&[&file, "--settings", r#"{"mode":"pause"}"#])?;
    ensure!(
        exit == 0 && report["good"] == true && report["problems"] == serde_json::json!([]),
        "{exit} {report}"
    );
    ensure!(
        report["id"] == "pauser" && report["kind"] == "chain-sync" && report["version"] == "0.1.0",
        "{report}"
    );
    ensure!(report["sha256"] == cvp_pair::plugins::sha256(&component)?, "{report}");
    ensure!(report["bytes"] == std::fs::metadata(&component)?.len(), "{report}");
    ensure!(report["settings_schema"]["properties"]["mode"].is_object(), "{report}");
    ensure!(
        report["imports"].as_array().is_some_and(|imports| !imports.is_empty()),
        "{report}"
    );

    let embedded = default_strategy()?.to_string_lossy().into_owned();
    let text = out(&check(&[&embedded])?);
    ensure!(text.contains("\ngood, and the embedded one's"), "{text}");

    let other = config_example()?.to_string_lossy().into_owned();
    let text = out(&check(&[&other])?);
    ensure!(
        text.starts_with("careful 0.1.0 (config-sync), ") && text.contains("to use it for config-sync"),
        "{text}"
    );

    let (exit, report) = json(&[&file, "--settings", r#"{"mode":"sing"}"#])?;
    ensure!(
        exit == 1 && report["good"] == false && report["problems"][0]["code"] == "bad-settings",
        "{exit} {report}"
    );
    let bad = check(&[&file, "--settings", r#"{"mode":"sing"}"#])?;
    ensure!(
        code(&bad) == 1 && out(&bad).contains("\nbad: a node would not run it"),
        "{bad:?}"
    );

    // Half of it, nothing at all, and a directory whose manifest names other bytes.
    let half = directory.path().join("half.wasm");
    let bytes = std::fs::read(&component)?;
    std::fs::write(&half, &bytes[..bytes.len() / 2])?;
    let half = half.to_string_lossy().into_owned();
    let (exit, report) = json(&[&half])?;
    ensure!(
        exit == 1 && report["problems"][0]["code"] == "plugin-does-not-compile",
        "{exit} {report}"
    );
    ensure!(code(&check(&[&half])?) == 1);
    let absent = directory.path().join("absent.wasm").to_string_lossy().into_owned();
    let absent = check(&[&absent])?;
    let text = String::from_utf8_lossy(&absent.stderr).into_owned();
    ensure!(
        code(&absent) == 1 && text.starts_with("Error: cannot read ") && text.contains("; name a component"),
        "{absent:?}"
    );

    install(directory.path(), &component, "0.1.0")?;
    let plugin = directory.path().join("plugins/pauser").to_string_lossy().into_owned();
    ensure!(json(&[&plugin])?.0 == 0, "a plugin directory as it should be");
    std::fs::write(
        directory.path().join("plugins/pauser/plugin.wasm"),
        &bytes[..bytes.len() / 2],
    )?;
    let (exit, report) = json(&[&plugin])?;
    ensure!(
        exit == 1 && report["problems"][0]["code"] == "plugin-wrong-digest",
        "{exit} {report}"
    );
    Ok(())
}
