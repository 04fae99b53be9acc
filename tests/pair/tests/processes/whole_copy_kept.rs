//! What a standby keeps, and says, when its provider's files are gone, are another chain's, or cannot all be had.

use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Result, ensure};
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::wait;
use serde_json::Value;

use crate::configuration::{both, copy_of, files, says, wait_equal};
use crate::takeover::loaded;
use crate::upgrade::verdict;
use crate::whole_copy::{rewrite, warns};

const SOON: Duration = Duration::from_secs(20);

/// Message and help of a check.
fn told(report: &Value, id: &str) -> String {
    let mut checks = report["checks"].as_array().into_iter().flatten();
    let check = checks.find(|check| check["id"] == id);
    check.map_or_else(String::new, |check| format!("{} {}", check["message"], check["help"]))
}

#[test]
fn a_provider_whose_configuration_is_gone_does_not_empty_the_copy() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.receiver.provokes(&["shows no configuration file"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    let (height, _) = loaded(&pair)?;
    let whole = files(&copy_of(&pair.receiver))?;
    let own = pair.provider.root().join("configuration");
    let beside = pair.directory.path().join("configuration");
    std::fs::rename(&own, &beside)?;
    let gone: [&str; 2] = [
        "neither system.toml nor dynamic.toml",
        "put the provider's configuration/ back",
    ];
    both(&pair, "it is named", "configuration-gone", &gone)?;
    // A directory that is there, and empty, is no other case.
    std::fs::create_dir(&own)?;
    both(&pair, "it is named", "configuration-gone", &gone)?;
    let status = pair.receiver.status()?;
    ensure!(
        status["normal"] == false && status["configuration"]["equal"] == false,
        "{status}"
    );
    pair.receiver.stop()?;
    pair.receiver.start()?;
    pair.receiver.wait_status("it is named after a start", SOON, |status| {
        says(status, "reasons", "configuration-gone", &gone) && status["normal"] == false
    })?;
    pair.receiver.verify()?;
    ensure!(files(&copy_of(&pair.receiver))? == whole, "the copy is another");
    pair.lose_provider()?;
    let (exit, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(
        exit == 0 && verdict(&report, "backup-complete") == "warn",
        "{exit} {report}"
    );
    ensure!(told(&report, "backup-complete").contains("was gone"), "{report}");
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(exit == 0, "{exit} {report}");
    let served = report["serving"]["namespaces"]["global"]["height"].as_u64();
    ensure!(served > Some(height), "{report}");
    Ok(())
}

#[test]
fn a_configuration_that_comes_back_is_followed_again() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    pair.receiver.provokes(&["shows no configuration file"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    let own = pair.provider.root().join("configuration");
    let beside = pair.directory.path().join("configuration");
    std::fs::rename(&own, &beside)?;
    both(&pair, "it is named", "configuration-gone", &[])?;
    std::fs::write(beside.join("note.txt"), "meanwhile")?;
    std::fs::rename(&beside, &own)?;
    wait::until("the note is copied", SOON, || {
        let there = copy_of(&pair.receiver).join("note.txt").is_file();
        Ok(if there { Ok(()) } else { Err("not yet".to_owned()) })
    })?;
    wait_equal(&pair.provider, &pair.receiver)
}

#[test]
fn a_genesis_file_of_another_chain_is_named_on_the_day_it_is_written() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.provokes(&["namespace ns1", "ns1 cannot", "ns_genesis.toml"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    loaded(&pair)?;
    let configuration = pair.provider.root().join("configuration");
    let [global, ns1] = ["global", "ns1"].map(|name| configuration.join(name).join("ns_genesis.toml"));
    let [right, wrong] = ["\"1000000000000000000\"", "\"2000000000000000000\""];
    let to_wrong = |text: &str| text.replace(right, wrong);
    rewrite(&global, to_wrong)?;
    let genesis = "configuration/global/ns_genesis.toml makes genesis ";
    for (node, follows) in [
        (&pair.provider, "the next start would fail"),
        (&pair.receiver, "an upgrade would be refused"),
    ] {
        node.wait_status("the file is named", SOON, |status| {
            says(
                status,
                "reasons",
                "configuration-unusable",
                &[follows, genesis, "put the file back"],
            )
        })?;
    }
    let (exit, report) = pair.receiver.json(&["upgrade", "--dry-run", "--target-is-down"])?;
    ensure!(
        exit == 6 && verdict(&report, "config-valid") == "fail",
        "{exit} {report}"
    );
    ensure!(told(&report, "config-valid").contains(genesis), "{report}");
    // What a start says.
    pair.provider.stop()?;
    ensure!(!pair.provider.run_to_end(SOON)?.success(), "it starts");
    let log = pair.provider.log();
    ensure!(
        log.contains(genesis) && log.contains("put the file back") && !log.contains("cvp clear"),
        "{log}"
    );
    rewrite(&global, |text| text.replace(wrong, right))?;
    pair.provider.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;

    rewrite(&ns1, to_wrong)?;
    for (node, follows) in [
        (&pair.provider, "the next start would hold the namespace ns1"),
        (&pair.receiver, "an upgrade would hold the namespace ns1"),
    ] {
        warns(
            node,
            "configuration-unusable",
            &[follows, "configuration/ns1/ns_genesis.toml"],
        )?;
    }
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.lose_provider()?;
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(
        exit == 0 && verdict(&report, "backup-complete") == "warn",
        "{exit} {report}"
    );
    let held = report["held"]["ns1"].as_str().unwrap_or_default();
    ensure!(
        held.contains("configuration/ns1/ns_genesis.toml makes genesis"),
        "{report}"
    );
    // Restored, it is taken over by another upgrade.
    let ns1 = pair.receiver.root().join("configuration/ns1/ns_genesis.toml");
    rewrite(&ns1, |text| text.replace(wrong, right))?;
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(
        exit == 0 && report["serving"]["namespaces"]["ns1"].is_object(),
        "{exit} {report}"
    );
    Ok(())
}

#[test]
fn what_the_copy_lacks_is_said_after_the_provider_is_gone_and_after_a_start() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let (exit, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(verdict(&report, "backup-complete") == "pass", "{exit} {report}");
    let ns1 = pair.provider.root().join("configuration/ns1");
    let (own, beside) = (ns1.join("ns_static.toml"), pair.directory.path().join("ns_static.toml"));
    std::fs::rename(&own, &beside)?;
    symlink(&beside, &own)?;
    std::fs::write(ns1.join("big.txt"), vec![b'x'; 5 << 20])?;
    let named: [&str; 3] = [
        "2 file(s)",
        "configuration/ns1/ns_static.toml",
        "configuration/ns1/big.txt",
    ];
    warns(&pair.receiver, "backup-incomplete", &named)?;
    // Also while it is connected.
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(verdict(&report, "backup-complete") == "warn", "{report}");
    pair.lose_provider()?;
    pair.receiver.wait_status("the provider is missed", SOON, |status| {
        says(status, "reasons", "provider-unreachable", &[]) && says(status, "warnings", "backup-incomplete", &named)
    })?;
    pair.receiver.stop()?;
    // What is here is good, and not all: a verification says both.
    let (exit, report) = pair.receiver.json(&["verify"])?;
    let lacking = report["configuration"]["lacking"].as_str().unwrap_or_default();
    ensure!(
        exit == 0 && named.iter().all(|part| lacking.contains(part)),
        "{exit} {report}"
    );
    let output = pair.receiver.command(&["verify"])?;
    let human = String::from_utf8_lossy(&output.stdout);
    ensure!(human.contains("configuration: incomplete: 2 file(s)"), "{human}");
    pair.receiver.start()?;
    warns(&pair.receiver, "backup-incomplete", &named)?;
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    let said = told(&report, "backup-complete");
    ensure!(
        exit == 0 && verdict(&report, "backup-complete") == "warn" && named.iter().all(|part| said.contains(part)),
        "{exit} {report}"
    );
    ensure!(said.contains("goes on with the version that it got last"), "{report}");
    Ok(())
}

#[test]
fn a_key_that_the_provider_has_is_missed_without_any_certificate() -> Result<()> {
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.receiver.provokes(&["keys-missing"]);
    std::fs::remove_file(pair.provider.root().join("namespaces/ns1/certs/certs/node1.cert"))?;
    std::fs::remove_dir_all(pair.receiver.root().join("namespaces/ns1/certs"))?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    warns(&pair.receiver, "keys-missing", &["ns1: "])?;
    pair.receiver.stop()?;
    pair.receiver.start()?;
    warns(&pair.receiver, "keys-missing", &["ns1: "])?;
    pair.lose_provider()?;
    let (exit, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(exit == 6 && verdict(&report, "keys-match") == "fail", "{exit} {report}");
    ensure!(told(&report, "keys-match").contains("ns1: "), "{report}");
    Ok(())
}
