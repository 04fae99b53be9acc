//! A namespace that its provider stopped with more than its standby has: both say so, and the promoted node goes on from the old copy on
//! purpose only. And the data of stopped namespaces outlives the way back of a replaced node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, wait_durable};
use cvp_pair::queues::{enable, register};
use serde_json::Value;

use crate::configuration::wait_equal;
use crate::held_namespaces::one_block;
use crate::takeover::fenced;
use crate::uncopied::{put_in_place, stopped_before_it_was_copied};

const WITHIN: Duration = Duration::from_secs(30);

/// What a status says of copies that are behind.
fn warned(status: &Value) -> Vec<String> {
    let warnings = status["warnings"].as_array().into_iter().flatten();
    let said = warnings.filter(|warning| warning["code"] == "copy-behind");
    said.map(|warning| warning["message"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn wait_warned(node: &Node, part: &str) -> Result<()> {
    let what = format!("one warning with {part:?}");
    let one = |status: &Value| matches!(&warned(status)[..], [said] if said.contains(part));
    node.wait_status(&what, WITHIN, one).map(|_| ())
}

fn wait_silent(pair: &Pair) -> Result<()> {
    for node in [&pair.provider, &pair.receiver] {
        node.wait_status("no warning of a copy", WITHIN, |status| warned(status).is_empty())?;
    }
    Ok(())
}

fn namespace(node: &Node, arguments: &[&str]) -> Result<()> {
    let (code, answer) = node.json(&[&["namespace"], arguments].concat())?;
    ensure!(code == 0, "{code} {answer}");
    Ok(())
}

/// A pair of which ns2 was copied up to a height, with a queue.
fn copied() -> Result<(Pair, u64)> {
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns2"],
        ..Setup::default()
    })?;
    enable(&pair.provider, "ns2", "")?;
    pair.provider.start()?;
    pair.receiver.start()?;
    register(&pair.provider.rpc().namespace("ns2"), "old", 1)?;
    one_block(&pair.provider, "global")?;
    let height = one_block(&pair.provider, "ns2")?;
    wait_durable(&pair.receiver, "ns2", height)?;
    wait_equal(&pair.provider, &pair.receiver)?;
    Ok((pair, height))
}

#[test]
fn an_old_copy_of_a_stopped_namespace_is_named_and_not_gone_on_from_by_itself() -> Result<()> {
    let (mut pair, copied) = copied()?;
    pair.receiver.stop()?;
    one_block(&pair.provider, "ns2")?;
    register(&pair.provider.rpc().namespace("ns2"), "new", 1)?;
    let height = one_block(&pair.provider, "ns2")?;
    namespace(&pair.provider, &["stop", "ns2"])?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let said = format!("at block {height}, and its copy ends at block {copied}");
    wait_warned(&pair.provider, &said)?;
    wait_warned(&pair.receiver, &said)?;

    pair.lose_provider()?;
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    let checks = report["checks"].as_array().context("no checks")?;
    let heard = checks.iter().find(|check| check["id"] == "last-heard");
    let heard = heard.context("no check")?;
    ensure!(
        heard["verdict"] == "warn" && heard["message"].to_string().contains(&said),
        "{heard}"
    );
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");

    let node = &mut pair.receiver;
    wait_warned(node, "--as-copied")?;
    for again in [false, true] {
        if again {
            node.stop()?;
            node.start()?;
        }
        let (code, answer) = node.json(&["namespace", "start", "ns2"])?;
        ensure!(code == 4 && answer["error"]["code"] == "copy-behind", "{code} {answer}");
    }
    namespace(node, &["start", "ns2", "--as-copied"])?;
    ensure!(one_block(node, "ns2")? > copied + 1);
    namespace(node, &["stop", "ns2"])?;
    ensure!(warned(&node.status()?).is_empty(), "{}", node.status()?);
    namespace(node, &["start", "ns2"])?;
    node.verify()
}

#[test]
fn queues_alone_count_and_one_that_ran_beside_its_standby_is_whole() -> Result<()> {
    let (mut pair, _) = copied()?;
    pair.receiver.stop()?;
    register(&pair.provider.rpc().namespace("ns2"), "new", 1)?;
    namespace(&pair.provider, &["stop", "ns2"])?;
    pair.receiver.start()?;
    wait_warned(&pair.provider, "other message queues")?;
    wait_warned(&pair.receiver, "other message queues")?;

    namespace(&pair.provider, &["start", "ns2"])?;
    let height = one_block(&pair.provider, "ns2")?;
    wait_durable(&pair.receiver, "ns2", height)?;
    pair.provider.wait_normal()?;
    wait_silent(&pair)?;
    namespace(&pair.provider, &["stop", "ns2"])?;
    pair.provider.wait_normal()?;
    wait_silent(&pair)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    namespace(&pair.receiver, &["start", "ns2"])?;
    ensure!(one_block(&pair.receiver, "ns2")? == height + 2);
    pair.receiver.verify()
}

#[test]
fn what_a_replaced_node_ran_and_its_standby_never_had_outlives_its_way_back() -> Result<()> {
    let (mut pair, height) = stopped_before_it_was_copied()?;
    pair.provider.provokes(&["this node is fenced"]);
    let global = one_block(&pair.provider, "global")?;
    wait_durable(&pair.receiver, "global", global)?;
    pair.receiver.stop()?;
    namespace(&pair.provider, &["start", "ns2"])?;
    ensure!(one_block(&pair.provider, "ns2")? == height + 1);
    pair.lose_provider()?;
    pair.receiver.start()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    pair.provider.start()?;
    fenced(&pair.provider)?;
    pair.provider.stop()?;
    let peer = format!("node1 {}", pair.receiver.p2p());
    let (code, answer) = pair
        .provider
        .json(&["clear", "--yes", "--as-standby-of", peer.as_str()])?;
    let kept = answer["kept"].as_array().context("nothing was kept")?;
    ensure!(code == 0 && kept.len() == 1, "{code} {answer}");
    let own = pair.provider.root().join("namespaces");
    let kept = pair.provider.root().join(kept[0].as_str().context("no path")?);
    ensure!(kept.is_dir() && kept.starts_with(own.join("ns2")), "{answer}");
    ensure!(!own.join("global/data").exists(), "{answer}");
    Ok(())
}

#[test]
fn what_a_replaced_node_had_stopped_outlives_its_way_back() -> Result<()> {
    let (mut pair, height) = stopped_before_it_was_copied()?;
    pair.provider.provokes(&["this node is fenced"]);
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    pair.provider.start()?;
    fenced(&pair.provider)?;
    pair.provider.stop()?;
    let peer = format!("node1 {}", pair.receiver.p2p());
    let way_back = ["clear", "--yes", "--as-standby-of", peer.as_str()];
    let (code, answer) = pair.provider.json(&way_back)?;
    let kept = answer["kept"].as_array().context("nothing was kept")?;
    ensure!(code == 0 && kept.len() == 1, "{code} {answer}");
    let kept = pair.provider.root().join(kept[0].as_str().context("no path")?);
    let own = pair.provider.root().join("namespaces");
    ensure!(kept.is_dir() && !own.join("global/data").exists(), "{answer}");
    ensure!(
        kept.starts_with(own.join("ns2")) && !own.join("ns2/data").exists(),
        "{answer}"
    );
    let (code, again) = pair.provider.json(&way_back)?;
    ensure!(
        code == 0 && again["cleared"].as_array().is_some_and(Vec::is_empty),
        "{again}"
    );
    pair.provider.start()?;
    pair.receiver.wait_normal()?;

    put_in_place(&kept, &pair.receiver.root().join("namespaces/ns2/data"))?;
    namespace(&pair.receiver, &["start", "ns2"])?;
    ensure!(one_block(&pair.receiver, "ns2")? == height + 2, "it does not go on");
    wait_durable(&pair.provider, "ns2", height + 2)
}
