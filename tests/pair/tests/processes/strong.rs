//! Strong changes: on both disks when they are answered, on neither when they failed, and never in between for longer than the next
//! handshake, whoever is killed when.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::wait;
use serde_json::Value;

use crate::configuration::{copy_of, wait_equal};

const SET: [&str; 4] = ["config", "set", "dynamic.toml", "cvp.max_rate"];

fn set(node: &Node, value: &str) -> Result<(i32, Value)> {
    let mut arguments = SET.to_vec();
    arguments.push(value);
    node.json(&arguments)
}

/// `cvp.max_rate` as the node's own file has it.
fn own(node: &Node) -> Result<String> {
    line_of(&node.root().join("configuration/dynamic.toml"))
}

fn copied(node: &Node) -> Result<String> {
    line_of(&copy_of(node).join("dynamic.toml"))
}

fn line_of(path: &std::path::Path) -> Result<String> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find(|line| line.starts_with("max_rate"));
    Ok(line.context("no max_rate")?.to_owned())
}

/// Sets a key that is weak; what the operator is told.
fn weak(node: &Node, value: &str) -> Result<String> {
    let key = "consensus.pool.batch_size";
    let output = node.command(&["config", "set", "global/ns_dynamic.toml", key, value])?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn staged(node: &Node) -> bool {
    node.root().join("system/cvp/staged").exists()
}

fn reasons(status: &Value) -> String {
    status["reasons"].to_string()
}

#[test]
fn each_answer_says_what_is_where() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let (exit, answer) = set(&pair.provider, "1000000")?;
    ensure!(
        exit == 0 && answer["answer"] == "replicated" && answer["replicated"] == true,
        "{exit} {answer}"
    );
    ensure!(own(&pair.provider)? == "max_rate = 1000000");
    wait_equal(&pair.provider, &pair.receiver)?;
    ensure!(copied(&pair.receiver)? == "max_rate = 1000000" && !staged(&pair.receiver));
    // A bad value changes nothing; neither does the value it has.
    let (exit, _) = set(&pair.provider, "fast")?;
    ensure!(exit == 1 && own(&pair.provider)? == "max_rate = 1000000");
    let (exit, answer) = set(&pair.provider, "1000000")?;
    ensure!(exit == 0 && answer["answer"] == "unchanged", "{answer}");
    // Levels of the log count as much; what is weak is copied behind the answer.
    let (exit, answer) = pair
        .provider
        .json(&["config", "set", "system.toml", "log.log_level", "WARNING"])?;
    ensure!(exit == 0 && answer["answer"] == "replicated", "{answer}");
    ensure!(weak(&pair.provider, "350")?.contains("the standby copies it within a second"));
    wait_equal(&pair.provider, &pair.receiver)?;
    // A standby changes nothing.
    let (exit, _) = set(&pair.receiver, "5")?;
    ensure!(exit == 4);
    let (exit, answer) = pair.receiver.json(&["config", "get", "dynamic.toml", "cvp.max_rate"])?;
    ensure!(exit == 0 && answer["value"] == "0", "{answer}");
    // Silent: undecided, and settled when it is heard again.
    let (exit, _) = pair
        .provider
        .json(&["config", "set", "dynamic.toml", "cvp.strong_timeout", "300ms"])?;
    ensure!(exit == 0);
    pair.receiver.freeze()?;
    let output = pair
        .provider
        .command(&["config", "set", "dynamic.toml", "cvp.max_rate", "7"])?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(7), "{text}");
    ensure!(text.contains("not applied on this node"), "{text}");
    ensure!(own(&pair.provider)? == "max_rate = 1000000");
    pair.receiver.thaw()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    ensure!(own(&pair.provider)? == "max_rate = 1000000" && !staged(&pair.receiver));
    // Away: local, named until it is seen; or failed, as asked.
    pair.receiver.stop()?;
    wait::until("the provider has no session", Duration::from_secs(10), || {
        let status = pair.provider.status()?;
        Ok(if status["peer"]["since"].is_null() {
            Ok(())
        } else {
            Err(status.to_string())
        })
    })?;
    let (exit, error) = pair.provider.json(&[&SET[..], &["8", "--must-replicate"]].concat())?;
    ensure!(exit == 1, "{error}");
    ensure!(own(&pair.provider)? == "max_rate = 1000000");
    let (exit, answer) = set(&pair.provider, "9")?;
    ensure!(
        exit == 0 && answer["answer"] == "local" && answer["replicated"] == false,
        "{answer}"
    );
    let status = pair.provider.status()?;
    ensure!(reasons(&status).contains("unreplicated-changes"), "{status}");
    let said = weak(&pair.provider, "360")?;
    ensure!(
        said.contains("no standby is attached: it copies this when it attaches"),
        "{said}"
    );
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    ensure!(copied(&pair.receiver)? == "max_rate = 9");
    let status = pair.provider.status()?;
    ensure!(!reasons(&status).contains("unreplicated-changes"), "{status}");
    Ok(())
}

/// Kills the provider at a moment of its commit: what was answered holds, and both agree after the restart.
fn provider_killed_at(point: &str, counts: bool) -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.provider.environment = vec![("CVP_TEST_CRASH_AT".into(), point.into())];
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let (exit, answer) = set(&pair.provider, "42")?;
    ensure!(exit != 0, "it died before it answered: {answer}");
    pair.provider.wait_end(Duration::from_secs(10))?;
    ensure!(
        staged(&pair.receiver) || copied(&pair.receiver)? == "max_rate = 42",
        "the receiver held it first"
    );
    pair.provider.environment.clear();
    pair.provider.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    ensure!(!staged(&pair.receiver));
    let wanted = if counts { "max_rate = 42" } else { "max_rate = 0" };
    ensure!(
        own(&pair.provider)? == wanted && copied(&pair.receiver)? == wanted,
        "{}",
        own(&pair.provider)?
    );
    Ok(())
}

#[test]
fn a_provider_killed_at_any_moment_of_a_change_agrees_with_its_standby_afterwards() -> Result<()> {
    for (point, counts) in [
        ("change:before-commit", false),
        ("change:committed", true),
        ("change:before-answer", true),
    ] {
        provider_killed_at(point, counts).with_context(|| format!("killed at {point}"))?;
    }
    Ok(())
}

/// Kills the provider behind its answer, while it tidies up: the answer holds.
fn provider_killed_behind_its_answer(point: &str) -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.provider.environment = vec![("CVP_TEST_CRASH_AT".into(), point.into())];
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    // Whether the answer is out before it dies is a race.
    let (exit, answer) = set(&pair.provider, "42")?;
    ensure!(exit != 0 || answer["replicated"] == true, "{answer}");
    pair.provider.wait_end(Duration::from_secs(10))?;
    // As a power failure may leave a file that was not synced.
    std::fs::write(pair.provider.root().join("configuration/dynamic.toml"), "")?;
    pair.provider.environment.clear();
    pair.provider.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    ensure!(own(&pair.provider)? == "max_rate = 42" && copied(&pair.receiver)? == "max_rate = 42");
    ensure!(!staged(&pair.receiver));
    Ok(())
}

#[test]
fn a_provider_killed_behind_its_answer_writes_the_change_again() -> Result<()> {
    for point in ["change:answered", "change:written"] {
        provider_killed_behind_its_answer(point).with_context(|| format!("killed at {point}"))?;
    }
    Ok(())
}

#[test]
fn a_clean_stop_leaves_no_change_to_be_written_again() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    // Between its answer and the durability of its file.
    pair.provider.environment = vec![("CVP_TEST_PAUSE_AT".into(), "change:answered".into())];
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let (exit, answer) = set(&pair.provider, "42")?;
    ensure!(exit == 0 && answer["replicated"] == true, "{exit} {answer}");
    pair.provider.stop()?;
    // What somebody writes while it is stopped is the last word.
    let file = pair.provider.root().join("configuration/dynamic.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("max_rate = 42", "max_rate = 77"))?;
    pair.provider.environment.clear();
    pair.provider.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    ensure!(own(&pair.provider)? == "max_rate = 77" && copied(&pair.receiver)? == "max_rate = 77");
    Ok(())
}

#[test]
fn a_hand_edit_of_the_copy_is_named_after_a_strong_change_too() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    pair.receiver.provokes(&["was changed by hand"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    std::fs::write(copy_of(&pair.receiver).join("system.toml"), "by hand")?;
    let (exit, answer) = set(&pair.provider, "43")?;
    ensure!(exit == 0 && answer["replicated"] == true, "{exit} {answer}");
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.receiver
        .wait_log("changed by hand: configuration/system.toml", Duration::from_secs(10))
}

/// Kills the receiver at a moment of its part.
fn receiver_killed_at(point: &str) -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.receiver.environment = vec![("CVP_TEST_CRASH_AT".into(), point.into())];
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let (exit, answer) = set(&pair.provider, "42")?;
    pair.receiver.wait_end(Duration::from_secs(10))?;
    match exit {
        0 => ensure!(
            answer["replicated"] == true && own(&pair.provider)? == "max_rate = 42",
            "{answer}"
        ),
        7 => ensure!(own(&pair.provider)? == "max_rate = 0", "undecided is not applied"),
        other => anyhow::bail!("exit {other}: {answer}"),
    }
    pair.receiver.environment.clear();
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    ensure!(!staged(&pair.receiver) && copied(&pair.receiver)? == own(&pair.provider)?);
    Ok(())
}

#[test]
fn a_receiver_killed_at_any_moment_of_a_change_agrees_with_its_provider_afterwards() -> Result<()> {
    for point in [
        "change:before-stage",
        "change:staged",
        "change:before-apply",
        "change:applied",
    ] {
        receiver_killed_at(point).with_context(|| format!("killed at {point}"))?;
    }
    Ok(())
}

#[test]
fn a_change_whose_client_may_have_been_answered_is_there_after_the_upgrade() -> Result<()> {
    for point in ["change:before-commit", "change:before-answer"] {
        let mut pair = Pair::init(&Setup::default())?;
        pair.provider.environment = vec![("CVP_TEST_CRASH_AT".into(), point.into())];
        pair.provider.start()?;
        pair.receiver.start()?;
        wait_equal(&pair.provider, &pair.receiver)?;
        let _ = set(&pair.provider, "42")?;
        pair.provider.wait_end(Duration::from_secs(10))?;
        ensure!(staged(&pair.receiver), "{point}: it is staged");
        pair.lose_provider()?;
        let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
        ensure!(report.to_string().contains("never settled"), "{report}");
        let (exit, report) = pair.receiver.json(&["upgrade"])?;
        ensure!(exit == 0, "{exit} {report}");
        ensure!(
            own(&pair.receiver)? == "max_rate = 42" && !staged(&pair.receiver),
            "{point}"
        );
    }
    Ok(())
}
