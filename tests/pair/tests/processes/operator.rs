//! What else an operator has at hand: the shell, a status that is watched, a pair without TLS, the page of metrics, certificates that end.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvp_pair::node::{Node, binary, cvp_ok};
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::rpc::Rpc;
use cvp_pair::signer::{ec, send_many};
use cvp_pair::wait;
use serde_json::Value;

/// Types `lines` into `cvp shell`, through a pipe.
fn shell(node: &Node, lines: &str) -> Result<Output> {
    let mut process = Command::new(binary()?)
        .arg("--root")
        .arg(node.root())
        .arg("shell")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = process.stdin.take().context("no stdin")?;
    input.write_all(lines.as_bytes())?;
    drop(input);
    Ok(process.wait_with_output()?)
}

#[test]
fn the_shell_takes_the_documented_lines_from_a_pipe() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let output = shell(
        &pair.provider,
        "cvp status\n\nno such line\nnamespace list\nexit\nstatus\n",
    )?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        out.starts_with("cvp is normal\n") && out.ends_with("\nglobal\n"),
        "{output:?}"
    );
    ensure!(err.lines().count() == 1 && err.starts_with("Error: "), "{output:?}");
    ensure!(output.status.code() == Some(0), "the last line was good: {output:?}");
    let output = shell(&pair.provider, "namespace list\nstart\n")?;
    ensure!(
        output.status.code() == Some(2),
        "a node cannot be started in the shell: {output:?}"
    );
    let help = shell(&pair.receiver, "help\n")?;
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    ensure!(text.contains("upgrade"), "{help:?}");
    for outside in ["start", "init", "certgen", "bench", "clear", "shell"] {
        let listed = |line: &str| line.split_whitespace().next() == Some(outside);
        ensure!(
            !text.lines().any(listed),
            "{outside} works without a node alone: {text}"
        );
    }
    pair.receiver.stop()?;
    let output = shell(&pair.receiver, "status\n")?;
    ensure!(output.status.code() == Some(3), "no node answers there: {output:?}");
    Ok(())
}

#[test]
fn a_watched_status_comes_every_second() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    let mut process = Command::new(binary()?)
        .arg("--root")
        .arg(pair.receiver.root())
        .args(["--json", "status", "--watch"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = process.stdout.take().context("no stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut next = || -> Result<Value> { Ok(serde_json::from_str(&lines.next().context("it ended")??)?) };
    let seen = (|| {
        let first = next()?;
        let began = Instant::now();
        let height = send_many(&pair.provider.rpc(), &ec()?, 1).and_then(|_| pair.provider.rpc().height())?;
        loop {
            let view = next()?;
            if cvp_pair::pair::durable(&view, "global") >= Some(height) {
                return Ok((first, view, began.elapsed()));
            }
            ensure!(
                began.elapsed() < Duration::from_secs(15),
                "it does not show {height}: {view}"
            );
        }
    })();
    process.kill()?;
    process.wait()?;
    let (first, last, took) = seen?;
    ensure!(first["role"] == "receiver" && last["normal"] == true, "{first} {last}");
    ensure!(took > Duration::from_millis(500), "two lines within {took:?}");
    Ok(())
}

#[test]
fn a_pair_without_tls_works_and_says_so() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        insecure: true,
        ..Setup::default()
    })?;
    pair.provokes(&["p2p.enableTLS is false"]);
    for node in [&pair.provider, &pair.receiver] {
        let status = node.wait_normal()?;
        ensure!(status["peer"]["tls"] == false, "{status}");
        let text = node.command(&["status"])?;
        ensure!(
            String::from_utf8_lossy(&text.stdout).contains(", plain, since"),
            "{text:?}"
        );
    }
    send_many(&pair.provider.rpc(), &ec()?, 5)?;
    let height = pair.provider.rpc().height()?;
    pair.wait_durable("global", height)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    send_many(&pair.receiver.rpc(), &ec()?, 1)?;
    pair.receiver.verify()
}

#[test]
fn the_page_of_metrics_counts() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    send_many(&pair.provider.rpc(), &ec()?, 3)?;
    let _ = pair.provider.rpc().answer("no_suchMethod", serde_json::json!([]))?;
    let status = pair.provider.status()?;
    let address = status["metrics"].as_str().context("status names no page")?;
    let page = Rpc::page(&format!("http://{address}/metrics"))?;
    let value = |name: &str| -> Result<f64> {
        let line = page.lines().find(|line| line.starts_with(name));
        let line = line.with_context(|| format!("no {name} in\n{page}"))?;
        let (_, number) = line.rsplit_once(' ').context("no value")?;
        Ok(number.parse()?)
    };
    let height = pair.provider.rpc().height()? as f64;
    ensure!(value("cvp_blocks_made{namespace=\"global\"}")? == height, "{page}");
    ensure!(
        value("cvp_transactions_committed{namespace=\"global\"}")? == 3.0,
        "{page}"
    );
    ensure!(
        value("cvp_transactions_submitted{namespace=\"global\"}")? == 3.0,
        "{page}"
    );
    ensure!(value("cvp_applied_height{namespace=\"global\"}")? == height, "{page}");
    ensure!(value("cvp_rpc_errors{")? >= 1.0, "{page}");
    ensure!(page.contains("# TYPE cvp_commits_waited_on_link counter"), "{page}");
    let other = page
        .lines()
        .find(|line| !line.is_empty() && !line.starts_with("# ") && !line.starts_with("cvp_"));
    ensure!(other.is_none(), "a metric of any program's name: {other:?}");
    Ok(())
}

#[test]
fn the_page_of_metrics_says_how_far_the_copy_is() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    send_many(&pair.provider.rpc(), &ec()?, 3)?;
    let height = pair.provider.rpc().height()?;
    pair.wait_durable("global", height)?;
    let metric = |node: &Node, name: &str| -> Result<f64> {
        let status = node.status()?;
        let address = status["metrics"].as_str().context("status names no page")?;
        let page = Rpc::page(&format!("http://{address}/metrics"))?;
        let line = page.lines().find(|line| line.starts_with(name));
        let line = line.with_context(|| format!("no {name} in\n{page}"))?;
        Ok(line.rsplit_once(' ').context("no value")?.1.parse()?)
    };
    let wait = |node: &Node, name: &str, holds: &dyn Fn(f64) -> bool| {
        wait::until(name, Duration::from_secs(10), || {
            let value = metric(node, name)?;
            Ok(if holds(value) { Ok(()) } else { Err(value.to_string()) })
        })
    };
    let of = |name: &str| format!("{name}{{namespace=\"global\"}}");
    let of_strategy = |name: &str| format!("{name}{{namespace=\"global\",kind=\"chain-sync\"}}");
    for node in [&pair.provider, &pair.receiver] {
        wait(node, "cvp_pair_normal", &|value| value == 1.0)?;
        wait(node, &of("cvp_durable_height"), &|value| value == height as f64)?;
        wait(node, &of("cvp_lag_blocks"), &|value| value == 0.0)?;
        wait(node, &of_strategy("cvp_strategy_calls"), &|value| value > 0.0)?;
        ensure!(metric(node, &of_strategy("cvp_strategy_faults"))? == 0.0);
        ensure!(metric(node, &of_strategy("cvp_strategy_restarts"))? == 0.0);
    }
    ensure!(metric(&pair.receiver, &of("cvp_records_received"))? == height as f64);
    let bytes = metric(&pair.receiver, &of("cvp_records_received_bytes"))?;
    ensure!(bytes > 0.0 && metric(&pair.provider, &of("cvp_records_sent_bytes"))? >= bytes);
    for name in [
        "cvp_batch_bytes",
        "cvp_batch_verify_seconds",
        "cvp_batch_append_seconds",
        "cvp_fsync_seconds",
    ] {
        ensure!(metric(&pair.receiver, &of(&format!("{name}_count")))? >= 1.0, "{name}");
    }
    pair.receiver.kill()?;
    send_many(&pair.provider.rpc(), &ec()?, 4)?;
    wait(&pair.provider, "cvp_pair_normal", &|value| value == 0.0)?;
    let lacked = (pair.provider.rpc().height()? - height) as f64;
    wait(&pair.provider, &of("cvp_lag_blocks"), &|value| value == lacked)?;
    wait(&pair.provider, &of("cvp_lag_bytes"), &|value| value > 0.0)
}

fn said<'a>(status: &'a Value, list: &str, begins: &str) -> Option<&'a str> {
    let entries = status[list].as_array().into_iter().flatten();
    let mut texts = entries
        .filter(|entry| entry["code"] == "certificate-expires")
        .filter_map(|entry| entry["message"].as_str());
    texts.find(|text| text.starts_with(begins))
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of_on_both_ends() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    short_lived(pair.directory.path(), pair.provider.root(), 9)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    let status = pair.provider.wait_normal()?;
    ensure!(said(&status, "warnings", "this node's").is_some(), "{status}");
    let status = pair.receiver.wait_normal()?;
    ensure!(said(&status, "warnings", "the peer's").is_some(), "{status}");
    ensure!(said(&status, "warnings", "this node's").is_none(), "{status}");
    ensure!(status["reasons"] == serde_json::json!([]), "{status}");
    Ok(())
}

/// Gives the provider another certificate of the same CA.
fn short_lived(at: &Path, root: &Path, days: u32) -> Result<()> {
    let (tls, days) = (at.join("tls"), days.to_string());
    let directory = tls.to_string_lossy().into_owned();
    cvp_ok(&[
        "certgen",
        &directory,
        "--host",
        "node1",
        "--ip",
        "127.0.0.1",
        "--days",
        &days,
    ])?;
    for file in ["tls_peer.cert", "tls_peer.priv"] {
        std::fs::copy(tls.join("node1").join(file), root.join("tls").join(file))?;
    }
    Ok(())
}
