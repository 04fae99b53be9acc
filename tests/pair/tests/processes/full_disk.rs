//! A disk of a standby that is full while it begins from a snapshot: the copy stops, the rest of the pair works, and the copy goes on by itself
//! once there is room.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::Pair;
use cvp_pair::queues::{enable, register};
use cvp_pair::signer::{ec, send, transfer, wait_shown};
use cvp_pair::small_disk::SmallDisk;
use cvp_pair::wait;
use serde_json::{Value, json};

use crate::bootstrap::{fill, keep_blocks, pair_of, replace, wait_history};

const WITHIN: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;
/// What a node leaves for control records and its databases.
const RESERVE: u64 = 64 * MIB;

/// A provider that keeps its last blocks alone, and a standby whose data is on a small disk; neither is started.
fn late_standby_on_a_small_disk(accounts: usize) -> Result<Option<(Pair, SmallDisk)>> {
    let mut pair = pair_of(accounts)?;
    pair.provokes(&["cvp.retain_bytes", "stream halted", "store failed", "disk-full"]);
    keep_blocks(&pair.provider, 5)?;
    for node in [&pair.provider, &pair.receiver] {
        enable(node, "global", "")?;
    }
    let at = pair.receiver.root().join("namespaces/global/data");
    let Some(disk) = SmallDisk::mount(&at, 400 * MIB)? else {
        return Ok(None);
    };
    pair.receiver.inside = disk.entry();
    Ok(Some((pair, disk)))
}

fn codes(status: &Value) -> Vec<&str> {
    let reasons = status["reasons"].as_array().into_iter().flatten();
    reasons.filter_map(|reason| reason["code"].as_str()).collect()
}

/// Both show the same tip, and what each has is right, the state among it.
fn ends_equal(pair: &Pair) -> Result<()> {
    let (ours, theirs) = (pair.provider.rpc(), pair.receiver.rpc());
    let height = fill(&pair.provider, 1)?;
    wait_shown(&theirs, height, WITHIN)?;
    let ask = json!([height, true]);
    let (a, b) = (
        ours.call("block_getBlockByNumber", ask.clone())?,
        theirs.call("block_getBlockByNumber", ask)?,
    );
    ensure!(a == b, "{a} and {b}");
    pair.provider.verify()?;
    pair.receiver.verify()
}

fn wait_full(node: &Node) -> Result<()> {
    let full = |status: &Value| status["normal"] == false && codes(status).contains(&"disk-full");
    node.wait_status("the disk is full", WITHIN, full).map(|_| ())
}

/// Strong changes of a file and of a queue are on both disks.
fn control_records_are_written(pair: &Pair, queue: &str) -> Result<()> {
    // The copy of the configuration may still be on its way: it needs none of the room either.
    let copied = |status: &Value| status["configuration"]["equal"] == true;
    pair.provider
        .wait_status("the configuration is copied", WITHIN, copied)?;
    let (exit, answer) = pair.provider.json(&[
        "config",
        "set",
        "global/ns_dynamic.toml",
        "consensus.pool.batch_size",
        "7",
        "--must-replicate",
    ])?;
    ensure!(exit == 0 && answer["replicated"] == true, "{exit} {answer}");
    register(&pair.provider.rpc(), queue, pair.provider.rpc().height()?)?;
    wait::until("the standby has the queue", WITHIN, || {
        let listed = pair.receiver.json(&["mq", "list"])?.1.to_string();
        Ok(if listed.contains(queue) { Ok(()) } else { Err(listed) })
    })
}

#[test]
fn a_snapshot_that_does_not_fit_waits_for_room() -> Result<()> {
    let Some((mut pair, disk)) = late_standby_on_a_small_disk(60_000)? else {
        return Ok(());
    };
    // It has its genesis; then somebody fills the disk.
    pair.receiver.start()?;
    pair.receiver.stop()?;
    pair.provider.start()?;
    fill(&pair.provider, 80)?;
    wait_history(&pair.provider, "old blocks go", |from| from > 10)?;
    disk.fill(RESERVE + 6 * MIB)?;
    pair.receiver.start()?;
    for node in [&pair.receiver, &pair.provider] {
        wait_full(node)?;
    }
    control_records_are_written(&pair, "while-full")?;
    ensure!(disk.free()? > RESERVE, "{} bytes are left", disk.free()?);
    let said = pair.receiver.log().matches("no room in").count();
    // It does not try what cannot be: the same for as long as nothing changes.
    fill(&pair.provider, 10)?;
    wait_full(&pair.receiver)?;
    let tries = pair.receiver.log().matches("no room in").count();
    ensure!(
        tries == said && said > 0,
        "{said}, then {tries} tries: {}",
        pair.receiver.log()
    );
    disk.make_room()?;
    pair.provider.wait_normal()?;
    ensure!(pair.receiver.log().contains("standing on the snapshot"));
    ends_equal(&pair)
}

#[test]
fn a_disk_that_fills_up_in_the_middle_stops_the_copy_and_loses_nothing_of_it() -> Result<()> {
    let Some((mut pair, disk)) = late_standby_on_a_small_disk(20_000)? else {
        return Ok(());
    };
    replace(&pair.provider, "dynamic.toml", "max_rate = 0", "max_rate = \"300kb\"")?;
    pair.provider.start()?;
    fill(&pair.provider, 50)?;
    wait_history(&pair.provider, "old blocks go", |from| from > 10)?;
    pair.receiver.start()?;
    let part = |status: &Value| status["namespaces"][0]["bootstrap"]["bytes"].as_u64().unwrap_or(0);
    let came = pair
        .receiver
        .wait_status("a part of it is here", WITHIN, |status| part(status) > 0)?;
    let total = came["namespaces"][0]["bootstrap"]["total"]
        .as_u64()
        .context("no total")?;
    ensure!(part(&came) < total, "{came}");
    disk.fill(MIB)?;
    wait_full(&pair.receiver)?;
    wait_full(&pair.provider)?;
    control_records_are_written(&pair, "while-full")?;
    disk.make_room()?;
    let (exit, answer) = pair
        .provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "0"])?;
    ensure!(exit == 0, "{answer}");
    pair.provider.wait_normal()?;
    let log = pair.receiver.log();
    ensure!(
        log.contains("standing on the snapshot") && log.contains(&format!("{total} bytes are here")),
        "it came twice: {log}"
    );
    ends_equal(&pair)
}

#[test]
fn a_node_that_makes_no_block_for_want_of_room_says_so_and_goes_on() -> Result<()> {
    let mut pair = pair_of(10)?;
    let node = &mut pair.provider;
    let at = node.root().join("namespaces/global/data");
    let Some(disk) = SmallDisk::mount(&at, 400 * MIB)? else {
        return Ok(());
    };
    node.inside = disk.entry();
    node.provokes(&["no block is made until there is room"]);
    node.start()?;
    disk.fill(RESERVE + 6 * MIB)?;
    let (rpc, signer, evidence) = (node.rpc(), ec()?, "x".repeat(200 << 10));
    wait::until("the disk is full", Duration::from_secs(120), || {
        // More than fit, and no more than may wait.
        let sent = send(&rpc, transfer(&signer, 1, &evidence));
        let status = node.status()?;
        Ok(if codes(&status).contains(&"disk-full") {
            Ok(())
        } else {
            sent.map(|_| Err(status.to_string()))?
        })
    })?;
    let height = rpc.height()?;
    ensure!(node.status()?["normal"] == false);
    disk.make_room()?;
    wait_shown(&rpc, height + 1, WITHIN)?;
    node.wait_status("it is full no more", WITHIN, |status| {
        !codes(status).contains(&"disk-full")
    })?;
    node.verify()
}
