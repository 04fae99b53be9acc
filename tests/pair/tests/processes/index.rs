//! The data index of a pair: one switch or no pair; a backend that does not answer is a warning on both nodes for as long as it does not.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::plugins::{default_strategy, edit, index_example, install_as};
use serde_json::Value;
use toml_edit::{DocumentMut, value};

use crate::takeover::{goes_on, loaded};

const SOON: Duration = Duration::from_secs(20);

/// What an address is logged into with, and what must be seen nowhere.
const SECRET: &str = "hunter2";

/// Lines of a log that these tests provoke.
const NO_BACKEND: &str = "the index backend does not answer";
const SWITCH: &str = "database.indexdb.layer1.enable is";

/// Edits the index of a namespace of a node that does not run.
fn set_index(node: &Node, namespace: &str, enable: bool, uri: Option<&str>) -> Result<()> {
    let file = node.root().join(format!("configuration/{namespace}/ns_static.toml"));
    let mut text: DocumentMut = std::fs::read_to_string(&file)?.parse()?;
    let index = &mut text["database"]["indexdb"];
    index["layer1"]["enable"] = value(enable);
    if let Some(uri) = uri {
        index["mongodb"]["uri"] = value(uri);
    }
    Ok(std::fs::write(file, text.to_string())?)
}

/// A port of this machine where nobody listens, and its address with a password.
fn dead_backend() -> Result<(std::net::SocketAddr, String)> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let uri = format!("mongodb://cvp:{SECRET}@{address}/?w=1&journal=true");
    Ok((address, uri))
}

/// What the index-check strategy of `global` warns of.
fn warnings(status: &Value) -> Vec<&str> {
    let of = |entry: &&Value| entry["name"] == "global";
    let entry = status["namespaces"].as_array().into_iter().flatten().find(of);
    let warnings = entry
        .and_then(|entry| entry["warnings"].as_array())
        .into_iter()
        .flatten();
    let index = warnings.filter(|warning| warning["code"] == "index-check");
    index.filter_map(|warning| warning["message"].as_str()).collect()
}

fn warns(status: &Value, words: &str) -> bool {
    warnings(status).iter().any(|text| text.contains(words))
}

fn wait_warned(node: &Node, words: &str) -> Result<Value> {
    node.wait_status(&format!("a normal pair and the warning {words:?}"), SOON, |status| {
        status["normal"] == true && warns(status, words)
    })
}

fn wait_silent(node: &Node) -> Result<Value> {
    node.wait_status("a normal pair without a warning of its index", SOON, |status| {
        status["normal"] == true && warnings(status).is_empty()
    })
}

fn wait_refused(node: &Node, code: &str, text: &str) -> Result<()> {
    let words = text.to_owned();
    node.wait_status(&format!("{code}: {text}"), SOON, move |status| {
        let reasons = status["reasons"].as_array().into_iter().flatten();
        let named = |reason: &Value| {
            reason["message"]
                .as_str()
                .is_some_and(|message| message.contains(&words))
        };
        reasons
            .into_iter()
            .any(|reason| reason["code"] == code && named(reason))
    })?;
    node.wait_log(text, SOON)
}

fn check<'a>(report: &'a Value, id: &str) -> Result<(&'a str, &'a str)> {
    let checks = report["checks"].as_array().into_iter().flatten();
    let found = checks
        .into_iter()
        .find(|check| check["id"] == id)
        .context("no such check")?;
    let text = |name: &str| found[name].as_str().unwrap_or_default();
    Ok((text("verdict"), text("message")))
}

#[test]
fn another_index_switch_is_refused_with_the_namespace_and_both_values() -> Result<()> {
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.provokes(&[NO_BACKEND, SWITCH]);
    set_index(&pair.provider, "ns1", true, None)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    let text = "namespace ns1: database.indexdb.layer1.enable is false on the standby, true on the provider";
    for node in [&pair.provider, &pair.receiver] {
        wait_refused(node, "refused-index-switch", text)?;
        let told = node.command(&["status"])?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        ensure!(
            told.contains(text) && told.contains("set it to the same value in ns_static.toml on both nodes"),
            "{told}"
        );
    }
    let status = pair.receiver.status()?;
    ensure!(status["peer"]["since"].is_null(), "a session came about: {status}");
    // The operator corrects it.
    pair.receiver.stop()?;
    set_index(&pair.receiver, "ns1", true, None)?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    pair.receiver.wait_normal()?;
    Ok(())
}

#[test]
fn an_index_backend_that_does_not_answer_is_warned_of_on_both_nodes_until_it_does() -> Result<()> {
    let provider_backend = TcpListener::bind("127.0.0.1:0")?;
    let (address, uri) = dead_backend()?;
    let mut pair = Pair::init(&Setup::default())?;
    pair.provokes(&[NO_BACKEND]);
    let living = format!("mongodb://cvp:{SECRET}@{}", provider_backend.local_addr()?);
    set_index(&pair.provider, "global", true, Some(&living))?;
    set_index(&pair.receiver, "global", true, Some(&uri))?;
    pair.provider.start()?;
    pair.receiver.start()?;
    let words = format!("the index backend of the receiver does not answer ({address}: connection refused)");
    let mut seen = Vec::new();
    for node in [&pair.provider, &pair.receiver] {
        seen.push(wait_warned(node, &words)?.to_string());
        seen.push(String::from_utf8(node.command(&["status"])?.stdout)?);
    }
    ensure!(seen[1].contains(&words) && seen[3].contains(&words), "{seen:?}");
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    let (verdict, message) = check(&report, "index-health")?;
    let down = format!("global: the index backend does not answer ({address}: connection refused)");
    ensure!((verdict, message) == ("warn", &down), "{report}");
    seen.push(report.to_string());

    let backend = TcpListener::bind(address)?;
    for node in [&pair.provider, &pair.receiver] {
        seen.push(wait_silent(node)?.to_string());
    }
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    let (verdict, message) = check(&report, "index-health")?;
    ensure!(
        verdict == "pass" && message.contains(&format!("{address} answers")),
        "{report}"
    );
    drop(backend);
    for node in [&pair.provider, &pair.receiver] {
        wait_warned(node, &words)?;
    }

    // The standby keeps its own backend when it takes over.
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "upgrade: {code} {report}");
    seen.push(report.to_string());
    let promoted = std::fs::read_to_string(pair.receiver.root().join("configuration/global/ns_static.toml"))?;
    ensure!(promoted.contains(&uri), "{promoted}");
    goes_on(&pair.receiver, height, &block)?;
    seen.extend([pair.provider.log(), pair.receiver.log()]);
    for text in seen {
        ensure!(!text.contains(SECRET), "a password is shown: {text}");
    }
    Ok(())
}

#[test]
fn an_index_switch_that_changes_online_waits_for_the_next_start_of_both_nodes() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    pair.provokes(&[NO_BACKEND, SWITCH]);
    pair.receiver.wait_normal()?;
    let key = "database.indexdb.layer1.enable";
    let (code, answer) = pair
        .provider
        .json(&["config", "set", "global/ns_static.toml", key, "true"])?;
    ensure!(
        code == 0 && answer["replicated"] == true && answer["takes_effect"] == "restart",
        "{code} {answer}"
    );
    for node in [&pair.provider, &pair.receiver] {
        wait_warned(node, &format!("{key} is true on the provider after its next start"))?;
    }
    set_index(&pair.receiver, "global", true, None)?;
    for node in [&pair.provider, &pair.receiver] {
        wait_warned(node, &format!("{key} is true on both nodes after their next start"))?;
    }
    pair.provider.stop()?;
    pair.provider.start()?;
    let text = format!("namespace global: {key} is false on the standby, true on the provider");
    for node in [&pair.provider, &pair.receiver] {
        wait_refused(node, "refused-index-switch", &text)?;
    }
    pair.receiver.stop()?;
    pair.receiver.start()?;
    for node in [&pair.provider, &pair.receiver] {
        node.wait_normal()?;
    }
    Ok(())
}

#[test]
fn an_index_strategy_of_a_third_party_may_refuse_and_one_that_says_nothing_gives_way() -> Result<()> {
    let component = index_example()?;
    let (address, uri) = dead_backend()?;
    let mut pair = Pair::init(&Setup::default())?;
    pair.provokes(&[NO_BACKEND, "(index-check)", "run strategy", "strategies differ"]);
    for node in [&pair.provider, &pair.receiver] {
        set_index(node, "global", true, Some(&uri))?;
    }
    let choose = |node: &Node, mode: &str| {
        install_as(node.root(), "strict", "index-strategy", &component, "0.1.0")?;
        edit(node.root(), "global", |strategy| {
            strategy["index-check"]["id"] = value("strict");
            strategy["index-check"]["settings"]["mode"] = value(mode);
        })
    };
    // On one node alone: both run the default, and the preflight says so.
    choose(&pair.provider, "strict")?;
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.receiver.wait_normal()?;
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    let (verdict, message) = check(&report, "plugins-present")?;
    ensure!(verdict == "warn" && message.contains("index-check"), "{report}");
    pair.receiver.stop()?;
    pair.provider.stop()?;

    choose(&pair.receiver, "strict")?;
    pair.provider.start()?;
    pair.receiver.start()?;
    let text = format!("namespace global: the standby's index backend does not answer ({address}: connection refused)");
    for node in [&pair.provider, &pair.receiver] {
        wait_refused(node, "refused-index-check", &text)?;
    }
    let backend = TcpListener::bind(address)?;
    for node in [&pair.provider, &pair.receiver] {
        wait_silent(node)?;
        let listed = node.json(&["plugin", "list"])?.1.to_string();
        ensure!(listed.contains("index-check") && listed.contains("strict"), "{listed}");
    }
    drop(backend);
    pair.receiver.stop()?;
    pair.provider.stop()?;

    for node in [&pair.provider, &pair.receiver] {
        choose(node, "silent")?;
    }
    pair.provider.start()?;
    pair.receiver.start()?;
    for node in [&pair.provider, &pair.receiver] {
        let status = node.wait_status("the default in its place", SOON, |status| {
            warns(status, "the index backend of the receiver does not answer")
        })?;
        let strategies = status["namespaces"][0]["strategies"].as_array().into_iter().flatten();
        let index = strategies.into_iter().find(|it| it["kind"] == "index-check");
        ensure!(index.is_some_and(|it| it["faults"].as_u64() > Some(0)), "{status}");
    }
    Ok(())
}

#[test]
fn the_command_line_knows_the_kind_index_check() -> Result<()> {
    for (component, id, kind) in [
        (index_example()?, "strict", "index-check"),
        (default_strategy()?, "default", "chain-sync"),
    ] {
        let file = component.to_string_lossy().into_owned();
        let output = cvp_pair::node::cvp(&["--json", "plugin", "check", &file])?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(
            output.status.success() && report["kind"] == kind && report["id"] == id,
            "{report}"
        );
    }
    Ok(())
}
