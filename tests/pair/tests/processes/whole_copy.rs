//! The copy is whole or says what it lacks: many files at once, namespaces that lie elsewhere, files that go, lists that are edited by hand.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::wait;
use serde_json::Value;

use crate::configuration::{both, copy_of, says, wait_equal};
use crate::namespaces::{flows, prepare, running, wait_running};
use crate::takeover::{goes_on, loaded};
use crate::upgrade::verdict;

const SOON: Duration = Duration::from_secs(20);

pub fn rewrite(path: &Path, change: impl FnOnce(&str) -> String) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    let changed = change(&text);
    ensure!(changed != text, "{} is as it was", path.display());
    Ok(std::fs::write(path, changed)?)
}

pub fn warns(node: &Node, code: &str, parts: &[&str]) -> Result<Value> {
    node.wait_status(code, SOON, |status| says(status, "warnings", code, parts))
}

#[test]
fn a_standby_made_without_its_providers_namespaces_gets_all_of_them() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    // Their keys are not here.
    pair.receiver.provokes(&["keys-missing"]);
    let names: BTreeSet<String> = (1..=20).map(|number| format!("n{number}")).collect();
    for name in &names {
        prepare(&pair.provider, name)?;
    }
    let entries = names
        .iter()
        .map(|name| format!("\n[[namespace]]\nname = \"{name}\"\nstart = true\n"));
    let entries: String = entries.collect();
    let dynamic = pair.provider.root().join("configuration/dynamic.toml");
    rewrite(&dynamic, |text| format!("{text}{entries}"))?;
    pair.provider.start()?;
    pair.receiver.start()?;
    let all = running(&pair.provider)?;
    ensure!(all.split(',').count() == 21, "{all}");
    wait_running(&pair.receiver, &all)?;
    wait_equal(&pair.provider, &pair.receiver)?;
    flows(&pair, "n20")?;
    // More than a strategy asks for at once, in one namespace's hands.
    let beside = pair.directory.path().join("many");
    std::fs::create_dir(&beside)?;
    for number in 0..300 {
        std::fs::write(beside.join(format!("{number}.txt")), format!("file {number}"))?;
    }
    std::fs::rename(&beside, pair.provider.root().join("configuration/many"))?;
    wait::until("all of them are there", SOON, || {
        let copied = std::fs::read_dir(copy_of(&pair.receiver).join("many"));
        let count = copied.map_or(0, Iterator::count);
        Ok(if count == 300 {
            Ok(())
        } else {
            Err(format!("{count} of 300"))
        })
    })?;
    wait_equal(&pair.provider, &pair.receiver)
}

#[test]
fn what_the_copy_has_under_another_name_follows_however_much_it_is() -> Result<()> {
    let pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.receiver.provokes(&["was changed by hand", "keys-missing"]);
    let tree = pair.provider.root().join("configuration");
    // More than a strategy asks for at once, in each of the two.
    let (first, second) = (tree.join("global/many"), tree.join("ns1/others"));
    for (directory, count) in [(&first, 300), (&second, 90)] {
        let building = pair.directory.path().join("building");
        std::fs::create_dir(&building)?;
        for number in 0..count {
            let content = format!("{number} of {}", directory.display());
            std::fs::write(building.join(format!("{number}.txt")), content)?;
        }
        std::fs::rename(&building, directory)?;
    }
    let equal = || wait_equal(&pair.provider, &pair.receiver);
    equal()?;
    let aside = pair.directory.path().join("aside");
    for (from, to) in [
        // Another name, another namespace's, and the two change places.
        (&first, &tree.join("global/moved")),
        (&tree.join("global/moved"), &tree.join("ns1/moved")),
        (&tree.join("ns1/moved"), &aside),
        (&second, &tree.join("ns1/moved")),
        (&aside, &second),
    ] {
        std::fs::rename(from, to)?;
        if *to != aside {
            equal()?;
        }
    }
    // By hand in the copy: the provider's place is put back.
    let copy = copy_of(&pair.receiver);
    std::fs::rename(copy.join("ns1/others"), copy.join("global/others"))?;
    wait::until("it is put back", SOON, || {
        let back = copy.join("ns1/others").exists() && !copy.join("global/others").exists();
        Ok(if back { Ok(()) } else { Err("it is not".to_owned()) })
    })?;
    equal()?;
    // A new namespace begins as a copy of another one.
    std::fs::rename(&second, &first)?;
    prepare(&pair.provider, "ns2")?;
    let (code, answer) = pair.provider.json(&["namespace", "start", "ns2"])?;
    ensure!(code == 0, "{answer}");
    wait_running(&pair.receiver, &running(&pair.provider)?)?;
    equal()?;
    flows(&pair, "ns2")?;
    // What goes and what comes may be more together than a tree may have.
    let building = pair.directory.path().join("building");
    std::fs::create_dir(&building)?;
    for number in 0..2_200 {
        std::fs::write(building.join(format!("{number}.txt")), format!("{number}"))?;
    }
    std::fs::rename(&building, tree.join("crowd"))?;
    equal()?;
    std::fs::rename(tree.join("crowd"), tree.join("moved"))?;
    equal()?;
    // Made by hand what it was to become, the copy is the provider's word from then on.
    for place in [&copy, &tree] {
        std::fs::remove_dir_all(place.join("moved"))?;
    }
    equal()?;
    wait::until("the copy is known as it is", SOON, || {
        let (exit, report) = pair.receiver.json(&["verify"])?;
        Ok(if exit == 0 && report["configuration"]["lacking"].is_null() {
            Ok(())
        } else {
            Err(report.to_string())
        })
    })
}

#[test]
fn a_namespace_whose_files_are_a_link_keeps_its_copy_and_one_without_a_file_holds_no_other() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1", "ns2"],
        ..Setup::default()
    })?;
    pair.provokes(&["ns1 cannot", "namespace ns1", "ns1/ns_dynamic.toml"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    let (height, _) = loaded(&pair)?;
    let configuration = pair.provider.root().join("configuration");
    let (own, beside) = (configuration.join("ns2"), pair.directory.path().join("ns2"));
    std::fs::rename(&own, &beside)?;
    symlink(&beside, &own)?;
    both(
        &pair,
        "the link is named",
        "configuration-incomplete",
        &["configuration/ns2 "],
    )?;
    for file in ["ns_static", "ns_dynamic", "ns_genesis"] {
        let kept = copy_of(&pair.receiver).join(format!("ns2/{file}.toml"));
        ensure!(kept.is_file(), "{} went", kept.display());
    }
    std::fs::remove_file(&own)?;
    std::fs::rename(&beside, &own)?;
    wait_equal(&pair.provider, &pair.receiver)?;

    std::fs::remove_file(configuration.join("ns1/ns_dynamic.toml"))?;
    warns(
        &pair.receiver,
        "configuration-unusable",
        &["would hold the namespace ns1", "ns_dynamic.toml"],
    )?;
    wait::until("the copy follows", SOON, || {
        let there = copy_of(&pair.receiver).join("ns1/ns_dynamic.toml").exists();
        Ok(if there { Err("it is there".to_owned()) } else { Ok(()) })
    })?;
    pair.lose_provider()?;
    let (exit, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(
        exit == 0 && verdict(&report, "config-valid") != "fail",
        "{exit} {report}"
    );
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(exit == 0, "{exit} {report}");
    let serving = &report["serving"]["namespaces"];
    ensure!(
        serving["global"]["height"].as_u64() > Some(height) && serving["ns2"].is_object(),
        "{report}"
    );
    ensure!(
        report["held"]["ns1"]
            .as_str()
            .is_some_and(|why| why.contains("ns_dynamic.toml")),
        "{report}"
    );
    Ok(())
}

#[test]
fn a_namespace_on_another_disk_is_backed_up_as_any_other() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns2"],
        ..Setup::default()
    })?;
    pair.receiver.provokes(&["keys-missing"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.receiver.stop()?;
    std::fs::remove_file(pair.receiver.root().join("namespaces/ns2/certs/certs/key.priv"))?;
    pair.provider.stop()?;
    let (own, beside) = (
        pair.provider.root().join("namespaces/ns2"),
        pair.directory.path().join("ns2"),
    );
    std::fs::rename(&own, &beside)?;
    symlink(&beside, &own)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let backup = pair.receiver.root().join("namespaces/ns2/system/cvp/certs");
    let certificates = std::fs::read_dir(&backup)?.flatten();
    let certificates = certificates.filter(|file| file.path().extension().is_some_and(|kind| kind == "cert"));
    ensure!(certificates.count() > 0, "nothing in {}", backup.display());
    warns(&pair.receiver, "keys-missing", &["ns2: "])?;
    flows(&pair, "ns2")?;
    // What is not below certs/ stays, and both say so.
    let ns_static = pair.provider.root().join("configuration/ns2/ns_static.toml");
    rewrite(&ns_static, |text| text.replace("\"certs/certs\"", "\"pki/ec\""))?;
    both(
        &pair,
        "the place is named",
        "configuration-incomplete",
        &["ns2", "pki/ec"],
    )?;
    rewrite(&ns_static, |text| text.replace("\"pki/ec\"", "\"certs/certs\""))?;
    wait_equal(&pair.provider, &pair.receiver)
}

#[test]
fn a_standby_whose_backups_are_on_another_file_system_gets_its_copy() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    let elsewhere = tempfile::tempdir_in("/dev/shm")?;
    ensure!(
        std::fs::metadata(elsewhere.path())?.dev() != std::fs::metadata(pair.receiver.root())?.dev(),
        "this machine has one file system: there is nothing to see"
    );
    // The chain itself would ask for more room than such a file system may have.
    let own = pair.receiver.root().join("namespaces");
    symlink(elsewhere.path(), own.join("global/system"))?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let backup = own.join("global/system/cvp");
    ensure!(backup.join("certs").is_dir(), "no certificate in {}", backup.display());
    // Exchanged, too.
    let certificates = pair.provider.root().join("namespaces/global/certs/certs");
    std::fs::write(certificates.join("new.cert"), "not yet a certificate")?;
    wait::until("the new file is there", SOON, || {
        let there = backup.join("certs/new.cert").is_file();
        Ok(if there { Ok(()) } else { Err("not yet".to_owned()) })
    })?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let left = std::fs::read_dir(own.join("global/system"))?.count();
    ensure!(left == 1, "something was left beside the backup");
    pair.receiver.stop()
}

#[test]
fn a_namespace_that_runs_though_its_list_says_no_is_named() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns2"],
        ..Setup::default()
    })?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let dynamic = pair.provider.root().join("configuration/dynamic.toml");
    rewrite(&dynamic, |text| {
        text.replace("name = \"ns2\"\nstart = true", "name = \"ns2\"\nstart = false")
    })?;
    for node in [&pair.provider, &pair.receiver] {
        warns(
            node,
            "configuration-unusable",
            &["would leave out the namespace ns2", "start = true"],
        )?;
    }
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.lose_provider()?;
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    let checks = report["checks"].as_array().into_iter().flatten();
    let named = checks.filter(|check| check["id"] == "namespaces-copied" && check["verdict"] == "warn");
    let text: Vec<String> = named.map(|check| check["message"].to_string()).collect();
    ensure!(text.len() == 1 && text[0].contains("ns2 runs here"), "{report}");
    Ok(())
}

#[test]
fn a_namespace_that_stood_still_whenever_it_was_copied_is_named() -> Result<()> {
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns2"],
        ..Setup::default()
    })?;
    pair.provider.start()?;
    let (exit, answer) = pair.provider.json(&["namespace", "stop", "ns2"])?;
    ensure!(exit == 0, "{answer}");
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.lose_provider()?;
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    let checks = report["checks"].as_array().into_iter().flatten();
    let named = checks.filter(|check| check["id"] == "namespaces-copied" && check["verdict"] == "warn");
    let text: Vec<String> = named.map(ToString::to_string).collect();
    let said = |part: &str| text.len() == 1 && text[0].contains(part);
    ensure!(said("ns2 was stopped on the provider") && said("--anew"), "{report}");
    Ok(())
}

#[test]
fn an_edit_by_hand_after_a_crash_is_the_last_word() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.provider.environment = vec![("CVP_TEST_CRASH_AT".into(), "change:answered".into())];
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    // Whether the answer is out before it dies is a race.
    let _ = pair
        .provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "42"])?;
    pair.provider.wait_end(Duration::from_secs(10))?;
    let dynamic = pair.provider.root().join("configuration/dynamic.toml");
    rewrite(&dynamic, |text| {
        text.replace("heartbeat_misses = 5", "heartbeat_misses = 9")
    })?;
    pair.provider.environment.clear();
    pair.provider.provokes(&["dynamic.toml was edited by hand"]);
    pair.provider.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let text = std::fs::read_to_string(&dynamic)?;
    ensure!(
        text.contains("heartbeat_misses = 9") && text.contains("max_rate = 42"),
        "{text}"
    );
    pair.provider
        .wait_log("dynamic.toml was edited by hand", SOON)
        .context("it is said")
}

#[test]
fn a_tree_that_is_reached_over_two_links_is_followed() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    let (root, at) = (pair.provider.root().to_owned(), pair.directory.path().to_owned());
    let (own, first, second) = (root.join("configuration"), at.join("first"), at.join("second"));
    std::fs::create_dir(&first)?;
    std::fs::rename(&own, first.join("configuration"))?;
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(&first)
        .arg(&second)
        .status()?;
    ensure!(copied.success());
    std::fs::write(second.join("configuration/note.txt"), "of the second")?;
    symlink(&first, at.join("current"))?;
    symlink(at.join("current/configuration"), &own)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    symlink(&second, at.join("next"))?;
    std::fs::rename(at.join("next"), at.join("current"))?;
    wait::until("the second tree is copied", SOON, || {
        let there = copy_of(&pair.receiver).join("note.txt").is_file();
        Ok(if there { Ok(()) } else { Err("not yet".to_owned()) })
    })?;
    wait_equal(&pair.provider, &pair.receiver)
}

#[test]
fn what_only_the_standby_has_in_its_configuration_outlives_an_upgrade() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    let root = pair.receiver.root().to_owned();
    std::fs::rename(root.join("tls"), root.join("configuration/tls"))?;
    let system = root.join("configuration/system.toml");
    rewrite(&system, |text| text.replace("\"./tls/", "\"./configuration/tls/"))?;
    // What it leads to is not copied into itself.
    symlink("../system", root.join("configuration/link"))?;
    pair.receiver.provokes(&["was changed by hand"]);
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    std::fs::write(copy_of(&pair.receiver).join("junk.txt"), "by hand")?;
    let (exit, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    let checks = report["checks"].as_array().into_iter().flatten();
    let edited = checks.filter(|check| check["id"] == "copy-as-sent" && check["verdict"] == "warn");
    let told: String = edited.map(|check| check["message"].to_string()).collect();
    ensure!(exit == 0 && told.contains("junk.txt"), "{exit} {report}");
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(exit == 0, "{exit} {report}");
    let link = root.join("system/cvp/configuration_cvp/link");
    ensure!(
        std::fs::read_link(&link)? == Path::new("../system"),
        "the link is kept as it is"
    );
    pair.receiver.stop()?;
    pair.receiver.start()?;
    goes_on(&pair.receiver, height, &block)
}

#[test]
fn a_wrong_key_is_found_however_its_place_is_written() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.receiver.provokes(&["keys-wrong"]);
    for node in [&pair.provider, &pair.receiver] {
        let file = node.root().join("configuration/global/ns_static.toml");
        rewrite(&file, |text| text.replace("\"certs/certs\"", "\"./certs/./certs\""))?;
    }
    let foreign = rcgen::generate_simple_self_signed(vec!["stranger".into()])?;
    let certificates = pair.receiver.root().join("namespaces/global/certs/certs");
    std::fs::write(certificates.join("key.priv"), foreign.signing_key.serialize_pem())?;
    std::fs::write(certificates.join("node1.cert"), foreign.cert.pem())?;
    pair.provider.start()?;
    pair.receiver.start()?;
    warns(&pair.receiver, "keys-wrong", &["global: "])?;
    pair.lose_provider()?;
    let (exit, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(exit == 6 && verdict(&report, "keys-match") == "fail", "{exit} {report}");
    Ok(())
}
