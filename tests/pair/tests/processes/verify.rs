//! `cvp verify`: damage on the disk of a running and of a stopped node is named; what was not looked at is said; nothing changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cvp_core::record::{PartKind, parse};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::signer::{ec, send_many};
use serde_json::{Value, json};

use crate::takeover::find_record;

const PARTS: [(PartKind, &str); 4] = [
    (PartKind::Transactions, "transactions"),
    (PartKind::Receipts, "receipts"),
    (PartKind::Delta, "delta"),
    (PartKind::Local, "local"),
];

/// Makes at least three blocks; answers the height.
fn several_blocks(pair: &Pair) -> Result<u64> {
    let rpc = pair.provider.rpc();
    for _ in 0..3 {
        send_many(&rpc, &ec()?, 2)?;
    }
    rpc.height()
}

/// Flips a byte of each part of the record at `height`, one after the other: each time that part is named, and nothing once it is mended.
fn each_part_is_named(node: &Node, height: u64) -> Result<()> {
    let found = find_record(node.root(), height)?;
    let record = parse(&found.bytes)?;
    // Bytes of the header itself: magic, and one of its fields.
    let mut places = vec![(2, "header"), (60, "header")];
    for (kind, name) in PARTS {
        let part = record.part(kind);
        ensure!(!part.is_empty(), "{name} of record {height} is empty");
        let start = part.as_ptr() as usize - found.bytes.as_ptr() as usize;
        places.push((start + part.len() / 2, name));
    }
    let file = File::options().write(true).open(&found.segment)?;
    for (at, part) in places {
        let place = found.offset + at as u64;
        file.write_all_at(&[found.bytes[at] ^ 0x20], place)?;
        let (exit, report) = node.json(&["verify"])?;
        file.write_all_at(&[found.bytes[at]], place)?;
        let bad = &report["namespaces"][0]["first_bad"];
        ensure!(
            exit == 1 && bad["height"] == height && bad["part"] == part,
            "byte {at} ({part}): {exit} {report}"
        );
    }
    node.verify()
}

/// Every file below `root`, by its digest.
fn files(root: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            let mut hasher = DefaultHasher::new();
            hasher.write(&std::fs::read(&path).with_context(|| path.display().to_string())?);
            found.insert(path, hasher.finish());
        }
    }
    Ok(found)
}

fn first(report: &Value) -> &Value {
    &report["namespaces"][0]
}

#[test]
fn damage_on_the_disk_of_a_running_and_a_stopped_node_is_named() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let tip = several_blocks(&pair)?;
    pair.wait_durable("global", tip)?;
    each_part_is_named(&pair.receiver, 1)?;
    each_part_is_named(&pair.receiver, tip)?;
    pair.receiver.stop()?;
    each_part_is_named(&pair.receiver, 1)?;
    each_part_is_named(&pair.receiver, tip)
}

#[test]
fn verifying_a_stopped_node_changes_no_byte_and_tells_a_torn_tail() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    pair.provider.provokes(&["cut the torn tail of the log"]);
    send_many(&pair.provider.rpc(), &ec()?, 4)?;
    let tip = pair.provider.rpc().height()?;
    let root = pair.provider.root().to_owned();
    let last = find_record(&root, tip)?;
    // What a power cut leaves of a record that was not synced: its beginning.
    pair.provider.stop()?;
    let torn = &last.bytes[..last.bytes.len() / 2];
    let file = File::options().write(true).open(&last.segment)?;
    file.write_all_at(torn, last.offset + last.bytes.len() as u64)?;
    let before = files(&root)?;
    let (exit, report) = pair.provider.json(&["verify"])?;
    ensure!(exit == 0 && report["good"] == true, "{exit} {report}");
    ensure!(
        first(&report)["to"] == tip && first(&report)["torn_tail"]["height"] == tip + 1,
        "{report}"
    );
    ensure!(
        first(&report)["state_checked"] == true && first(&report)["state_chain_checked"] == true,
        "{report}"
    );
    ensure!(first(&report)["not_checked"] == json!([]), "{report}");
    let text = pair.provider.command(&["verify"])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    ensure!(text.contains("a crash tore record"), "{text}");
    ensure!(files(&root)? == before, "verify changed a file");
    // The next start cuts it and goes on.
    pair.provider.start()?;
    ensure!(pair.provider.rpc().height()? == tip);
    send_many(&pair.provider.rpc(), &ec()?, 1)?;
    pair.provider.verify()
}

#[test]
fn what_was_not_checked_is_said() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    several_blocks(&pair)?;
    for running in [true, false] {
        if !running {
            pair.provider.stop()?;
        }
        let (exit, report) = pair.provider.json(&["verify", "--from", "1"])?;
        ensure!(exit == 0 && first(&report)["state_checked"] == true, "{exit} {report}");
        ensure!(first(&report)["state_chain_checked"] == false, "{report}");
        let left_out = first(&report)["not_checked"][0].as_str().unwrap_or_default();
        ensure!(left_out.contains("the range begins at 1"), "{report}");
        let (_, report) = pair.provider.json(&["verify", "--to", "1"])?;
        ensure!(first(&report)["state_checked"] == false, "{report}");
        let text = pair.provider.command(&["verify", "--to", "1"])?;
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        ensure!(text.contains("not checked: the full state"), "{text}");
        let (exit, error) = pair.provider.json(&["verify", "--from", "1000"])?;
        ensure!(exit == 1 && error["error"]["code"] == "no-records", "{exit} {error}");
    }
    Ok(())
}
