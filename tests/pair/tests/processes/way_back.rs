//! The way back of a node that was replaced: one command makes it a standby of the node that took its place.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, wait_durable};

use crate::takeover::{fenced, goes_on, loaded};

const SOON: Duration = Duration::from_secs(20);

fn code(output: &std::process::Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// The replaced provider runs and knows it; the standby serves in its place.
fn replaced() -> Result<Pair> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.provider.provokes(&["this node is fenced"]);
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    ensure!(pair.receiver.json(&["upgrade"])?.0 == 0);
    goes_on(&pair.receiver, height, &block)?;
    pair.provider.start()?;
    fenced(&pair.provider)?;
    Ok(pair)
}

fn dynamic(node: &Node) -> Result<String> {
    Ok(std::fs::read_to_string(node.root().join("configuration/dynamic.toml"))?)
}

fn changed_lines(before: &str, after: &str) -> Vec<String> {
    let lines = before.lines().zip(after.lines()).filter(|(a, b)| a != b);
    lines.map(|(_, line)| line.to_owned()).collect()
}

#[test]
fn a_replaced_node_becomes_the_standby_by_the_command_that_its_status_names() -> Result<()> {
    let mut pair = replaced()?;
    let status = pair.provider.status()?;
    let named = "cvp clear --yes --as-standby-of \\\"node1 IP:PORT\\\"";
    ensure!(status["reasons"].to_string().contains(named), "{status}");
    let peer = format!("node1 {}", pair.receiver.p2p());
    let way_back = ["clear", "--yes", "--as-standby-of", peer.as_str()];
    let (exit, error) = pair.provider.json(&way_back)?;
    ensure!(
        exit == 4 && error["error"]["code"] == "locked",
        "while it runs: {exit} {error}"
    );
    ensure!(
        code(&pair.receiver.command(&way_back)?) == 4,
        "the node that serves was cleared"
    );
    pair.provider.stop()?;
    let (exit, error) = pair.provider.json(&["clear", "--yes"])?;
    ensure!(
        exit == 4
            && error["error"]["help"]
                .as_str()
                .is_some_and(|help| help.contains("--as-standby-of")),
        "{exit} {error}"
    );

    // A file that would be no valid configuration afterwards: nothing is changed.
    let file = pair.provider.root().join("configuration/ns1/ns_static.toml");
    let good = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("{good}\n[consensus.pool]\nodd = [\n"))?;
    let before = dynamic(&pair.provider)?;
    ensure!(code(&pair.provider.command(&way_back)?) == 1);
    ensure!(dynamic(&pair.provider)? == before && pair.provider.root().join("system/cvp/fenced").exists());
    std::fs::write(&file, good)?;

    let (exit, answer) = pair.provider.json(&way_back)?;
    ensure!(exit == 0 && answer["standby_of"] == peer.as_str(), "{exit} {answer}");
    let after = dynamic(&pair.provider)?;
    ensure!(
        before.lines().count() == after.lines().count()
            && changed_lines(&before, &after)
                == ["node_type = \"receiver\"".to_owned(), format!("remote = [\"{peer}\"]")],
        "{:?}",
        changed_lines(&before, &after)
    );
    let (exit, again) = pair.provider.json(&way_back)?;
    ensure!(exit == 0 && again["cleared"] == serde_json::json!([]), "{exit} {again}");
    ensure!(dynamic(&pair.provider)? == after, "the second run changed a file");

    pair.provider.start()?;
    pair.receiver.wait_normal()?;
    let height = pair.receiver.rpc().height()?;
    wait_durable(&pair.provider, "global", height)?;
    wait_durable(&pair.provider, "ns1", pair.receiver.rpc().namespace("ns1").height()?)?;
    pair.provider.verify()?;

    // And once more in the other direction.
    pair.receiver.kill()?;
    cvp_pair::wait::until("the first node takes its place back", SOON, || {
        let (exit, report) = pair.provider.json(&["upgrade"])?;
        Ok(if exit == 0 { Ok(()) } else { Err(report.to_string()) })
    })?;
    ensure!(pair.provider.status()?["incarnation"]["number"] == 3);
    ensure!(pair.provider.rpc().height()? == height + 1);
    Ok(())
}

#[test]
fn a_way_back_that_ended_half_way_is_gone_on_with() -> Result<()> {
    let mut pair = replaced()?;
    pair.provider.stop()?;
    let peer = format!("node1 {}", pair.receiver.p2p());
    let way_back = ["clear", "--yes", "--as-standby-of", peer.as_str()];
    // It ended after the first of its files.
    let file = pair.provider.root().join("configuration/global/ns_dynamic.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("type = \"vp\"", "type = \"cvp\""))?;
    let fence = pair.provider.root().join("system/cvp/fenced");
    let fenced_by = std::fs::read(&fence)?;
    let (exit, answer) = pair.provider.json(&way_back)?;
    ensure!(exit == 0, "{exit} {answer}");
    // It ended before the last one was gone.
    std::fs::write(&fence, fenced_by)?;
    let status = pair.provider.run_to_end(SOON)?;
    let log = pair.provider.log();
    let last = log.lines().last().context("it said nothing")?;
    ensure!(
        status.code() == Some(1) && last.contains("not-cleared"),
        "{status} {last}"
    );
    ensure!(code(&pair.provider.command(&way_back)?) == 0);
    pair.provider.start()?;
    pair.receiver.wait_normal()?;
    Ok(())
}

#[test]
fn a_provider_that_nobody_replaced_is_not_cleared() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    loaded(&pair)?;
    let height = pair.provider.rpc().height()?;
    pair.provider.stop()?;
    let before = dynamic(&pair.provider)?;
    let (exit, error) = pair
        .provider
        .json(&["clear", "--yes", "--as-standby-of", "cvp 127.0.0.1:1"])?;
    ensure!(exit == 4 && error["error"]["code"] == "not-replaced", "{exit} {error}");
    ensure!(dynamic(&pair.provider)? == before);
    pair.provider.start()?;
    pair.provider.wait_normal()?;
    ensure!(pair.provider.rpc().height()? == height);
    Ok(())
}
