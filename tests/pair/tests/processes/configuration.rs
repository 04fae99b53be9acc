//! The copy of the provider's configuration and certificates: byte for byte, followed at once, put right when somebody edits it, and what
//! the promoted node goes on with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::wait;
use rustix::fs::{CWD, FileType, Mode, makedev};
use serde_json::Value;

use crate::takeover::{goes_on, loaded};
use crate::upgrade::verdict;

const SOON: Duration = Duration::from_secs(20);

fn key_pem() -> Result<String> {
    Ok(rcgen::KeyPair::generate()?.serialize_pem())
}

/// Whether a reason or a warning of `code` holds each of `parts`.
pub fn says(status: &Value, list: &str, code: &str, parts: &[&str]) -> bool {
    let mut all = status[list].as_array().into_iter().flatten();
    all.any(|entry| {
        let text = entry["message"].to_string();
        entry["code"] == code && parts.iter().all(|part| text.contains(part))
    })
}

/// Every ordinary file below `directory`, by its path relative to it; what goes meanwhile is not there.
pub fn files(directory: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(at) = left.pop() {
        let Ok(entries) = std::fs::read_dir(&at) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.is_file() {
                match std::fs::read(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    read => {
                        found.insert(path.strip_prefix(directory)?.to_owned(), read?);
                    }
                }
            }
        }
    }
    Ok(found)
}

fn differing(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<PathBuf> {
    let one_way = |a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<PathBuf> {
        a.iter()
            .filter(|(path, bytes)| b.get(*path) != Some(bytes))
            .map(|(path, _)| path.clone())
            .collect()
    };
    let mut out = one_way(a, b);
    out.extend(one_way(b, a));
    out
}

pub fn copy_of(receiver: &Node) -> PathBuf {
    receiver.root().join("system/cvp/configuration_vp")
}

/// Waits until the copy holds the provider's files, byte for byte, and both say that they are normal.
pub fn wait_equal(provider: &Node, receiver: &Node) -> Result<()> {
    wait::until("the copy is the provider's tree", Duration::from_secs(20), || {
        let differs = differing(
            &files(&provider.root().join("configuration"))?,
            &files(&copy_of(receiver))?,
        );
        if !differs.is_empty() {
            return Ok(Err(format!("{differs:?} differ")));
        }
        let (ours, theirs) = (provider.status()?, receiver.status()?);
        let equal = |status: &Value| status["normal"] == true && status["configuration"]["equal"] == true;
        Ok(if equal(&ours) && equal(&theirs) {
            Ok(())
        } else {
            Err(format!("{ours}\n{theirs}"))
        })
    })
}

fn edit(node: &Node, file: &str, from: &str, to: &str) -> Result<()> {
    let path = node.root().join("configuration").join(file);
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.contains(from), "{from:?} is not in {file}");
    Ok(std::fs::write(&path, text.replace(from, to))?)
}

#[test]
fn an_edit_is_seen_whatever_way_the_root_was_given() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.provider.started_in = Some(pair.directory.path().to_owned());
    pair.receiver.started_in = Some(pair.receiver.root().to_owned());
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    edit(
        &pair.provider,
        "global/ns_dynamic.toml",
        "batch_size = 500",
        "batch_size = 400",
    )?;
    wait_equal(&pair.provider, &pair.receiver)
}

#[test]
fn the_copy_follows_every_edit_and_is_put_right_when_somebody_changes_it() -> Result<()> {
    let mut pair = Pair::start(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.receiver.provokes(&["was changed by hand"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    let configuration = pair.provider.root().join("configuration");
    edit(
        &pair.provider,
        "ns1/ns_dynamic.toml",
        "batch_size = 500",
        "batch_size = 400",
    )?;
    std::fs::write(configuration.join("notes.txt"), "of the operator")?;
    std::fs::create_dir(configuration.join("more"))?;
    std::fs::write(configuration.join("more/empty"), "")?;
    wait_equal(&pair.provider, &pair.receiver)?;
    std::fs::remove_file(configuration.join("notes.txt"))?;
    std::fs::remove_dir_all(configuration.join("more"))?;
    let certificate = "namespaces/global/certs/CA/root.ca";
    std::fs::create_dir_all(pair.provider.root().join("namespaces/global/certs/CA"))?;
    std::fs::write(pair.provider.root().join(certificate), "a certificate")?;
    wait_equal(&pair.provider, &pair.receiver)?;
    wait::until("the certificate is backed up", Duration::from_secs(10), || {
        let backup = pair.receiver.root().join("namespaces/global/system/cvp/CA/root.ca");
        Ok(if backup.is_file() {
            Ok(())
        } else {
            Err("it is not".into())
        })
    })?;
    pair.receiver.verify()?;
    // By hand, while the standby runs: it looks again by itself.
    let by_hand = || -> Result<()> {
        std::fs::write(copy_of(&pair.receiver).join("dynamic.toml"), "by hand")?;
        Ok(std::fs::write(copy_of(&pair.receiver).join("strange"), "")?)
    };
    by_hand()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let told = "changed by hand: configuration/dynamic.toml";
    ensure!(
        pair.receiver.log().matches(told).count() == 1,
        "{}",
        pair.receiver.log()
    );
    // And while it does not.
    pair.receiver.stop()?;
    std::fs::write(copy_of(&pair.receiver).join("dynamic.toml"), "by hand")?;
    std::fs::write(copy_of(&pair.receiver).join("strange"), "")?;
    let (exit, report) = pair.receiver.json(&["verify"])?;
    let edited = report["configuration"]["edited"].to_string();
    ensure!(exit == 1 && report["good"] == false, "{exit} {report}");
    ensure!(
        edited.contains("configuration/dynamic.toml") && edited.contains("configuration/strange"),
        "{edited}"
    );
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    ensure!(
        pair.receiver.log().matches(told).count() >= 2,
        "{}",
        pair.receiver.log()
    );
    pair.receiver.verify()
}

#[test]
fn an_edit_of_the_copy_is_named_within_a_second_though_no_provider_is_there() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    pair.receiver.provokes(&["was changed by hand"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.provider.stop()?;
    pair.receiver
        .wait_status("the provider is away", Duration::from_secs(10), |s| {
            s["peer"]["since"].is_null()
        })?;
    let edited = |status: &Value| {
        let mut warnings = status["warnings"].as_array().into_iter().flatten();
        warnings.any(|warning| {
            warning["code"] == "copy-edited" && warning["message"].to_string().contains("configuration/system.toml")
        })
    };
    ensure!(!edited(&pair.receiver.status()?));
    let path = copy_of(&pair.receiver).join("system.toml");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, format!("{text}# by hand\n"))?;
    // The watch settles for a tenth of a second; the rest is the machine's load.
    pair.receiver
        .wait_status("the edit is named", Duration::from_secs(2), edited)?;
    // Who takes it back is not blamed any longer.
    std::fs::write(&path, text)?;
    pair.receiver
        .wait_status("no edit is named", Duration::from_secs(2), |status| !edited(status))?;
    pair.provider.start()?;
    wait_equal(&pair.provider, &pair.receiver)
}

#[test]
fn what_may_not_travel_is_named_on_both_ends() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    let configuration = pair.provider.root().join("configuration");
    std::os::unix::fs::symlink("/etc/passwd", configuration.join("link.toml"))?;
    std::fs::write(configuration.join("large.bin"), vec![b'x'; (4 << 20) + 1])?;
    let pipe = (FileType::Fifo, configuration.join("pipe.toml"));
    let device = (FileType::CharacterDevice, configuration.join("device.toml"));
    let long = configuration.join(format!("{}.toml", "n".repeat(230)));
    std::fs::write(&long, "deep = true\n")?;
    let mut planted = vec!["link.toml", "large.bin", "pipe.toml", "nnnnnnnn"];
    rustix::fs::mknodat(CWD, &pipe.1, pipe.0, Mode::RUSR | Mode::WUSR, 0)?;
    // The device of /dev/zero: reading it would never end. Only root can make one.
    if rustix::fs::mknodat(CWD, &device.1, device.0, Mode::RUSR, makedev(1, 5)).is_ok() {
        planted.push("device.toml");
    }
    for node in [&pair.provider, &pair.receiver] {
        node.wait_status("all of them are named", Duration::from_secs(20), |status| {
            let named = |file: &&str| says(status, "reasons", "configuration-refused", &[file]);
            status["normal"] == false && planted.iter().all(named)
        })?;
    }
    for entry in std::fs::read_dir(copy_of(&pair.receiver))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        ensure!(!planted.iter().any(|file| name.contains(file)), "{name} was copied");
    }
    for entry in std::fs::read_dir(&configuration)? {
        let entry = entry?;
        let name = entry.file_name();
        if planted.iter().any(|file| name.to_string_lossy().contains(file)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    wait_equal(&pair.provider, &pair.receiver)
}

#[test]
fn the_promoted_node_goes_on_with_the_whole_tree_and_its_own_ports() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    // By its own file no block would come in this test's time.
    edit(
        &pair.receiver,
        "global/ns_static.toml",
        "batch = \"0.5s\"",
        "batch = \"200s\"",
    )?;
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    let (exit, _) = pair
        .provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "987654321"])?;
    ensure!(exit == 0);
    edit(
        &pair.provider,
        "global/ns_dynamic.toml",
        "batch_size = 500",
        "batch_size = 321",
    )?;
    std::fs::write(pair.provider.root().join("configuration/notes.txt"), "of the operator")?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let status = pair.receiver.status()?;
    let overrides = status["namespaces"][0]["overrides"].to_string();
    ensure!(overrides.contains("dynamic.toml port.jsonrpc = "), "{status}");
    let (height, block) = loaded(&pair)?;
    let own = files(&pair.receiver.root().join("configuration"))?;
    let port = pair.receiver.jsonrpc().to_owned();
    pair.lose_provider()?;
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(exit == 0, "{exit} {report}");
    goes_on(&pair.receiver, height, &block)?;
    let root = pair.receiver.root().to_owned();
    ensure!(
        files(&root.join("system/cvp/configuration_cvp"))? == own,
        "the own tree is kept aside"
    );
    let now = files(&root.join("configuration"))?;
    let text = |name: &str| -> Result<String> {
        let bytes = now.get(Path::new(name)).with_context(|| format!("{name} is missing"))?;
        Ok(String::from_utf8(bytes.clone())?)
    };
    ensure!(text("notes.txt")? == "of the operator");
    ensure!(text("global/ns_dynamic.toml")?.contains("batch_size = 321"));
    let dynamic = text("dynamic.toml")?;
    for part in ["max_rate = 987654321", "self = \"node1\"", "node_type = \"provider\""] {
        ensure!(dynamic.contains(part), "{part} is not in {dynamic}");
    }
    ensure!(pair.receiver.rpc().height().is_ok() && pair.receiver.jsonrpc() == port);
    // It starts again as an ordinary provider.
    pair.receiver.stop()?;
    pair.receiver.start()?;
    goes_on(&pair.receiver, height, &block)
}

/// What somebody may put into a copy and what no copy of ours holds; their names.
fn plant(copy: &Path) -> Result<Vec<String>> {
    std::os::unix::fs::symlink("/etc/passwd", copy.join("link.toml"))?;
    std::os::unix::fs::symlink("/etc", copy.join("linked"))?;
    ensure!(
        std::process::Command::new("mkfifo")
            .arg(copy.join("pipe.toml"))
            .status()?
            .success()
    );
    std::fs::write(copy.join("large.bin"), vec![b'x'; (4 << 20) + 1])?;
    std::fs::write(copy.join("node.priv"), "")?;
    std::fs::write(copy.join("global/server.txt"), key_pem()?)?;
    std::fs::create_dir_all(copy.join("a/b"))?;
    let names = [
        "link.toml",
        "linked",
        "pipe.toml",
        "large.bin",
        "node.priv",
        "global/server.txt",
        "a/b",
    ];
    Ok(names.map(|name| format!("configuration/{name}")).into())
}

fn wait_gone(receiver: &Node, paths: &[String]) -> Result<()> {
    wait::until("what somebody put into the copy is gone", SOON, || {
        let place = |path: &&String| {
            receiver
                .root()
                .join(path.replacen("configuration", "system/cvp/configuration_vp", 1))
        };
        let left: Vec<&String> = paths
            .iter()
            .filter(|path| place(path).symlink_metadata().is_ok())
            .collect();
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        })
    })
}

#[test]
fn what_no_copy_holds_is_named_as_an_edit_and_goes() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    pair.receiver.provokes(&["was changed by hand"]);
    wait_equal(&pair.provider, &pair.receiver)?;
    let copy = copy_of(&pair.receiver);
    let paths = plant(&copy)?;
    wait_gone(&pair.receiver, &paths)?;
    for path in &paths {
        pair.receiver.wait_log(path, SOON)?;
    }
    wait_equal(&pair.provider, &pair.receiver)?;
    // And while it does not run.
    pair.receiver.stop()?;
    plant(&copy)?;
    let (exit, report) = pair.receiver.json(&["verify"])?;
    let edited = report["configuration"]["edited"].to_string();
    ensure!(exit == 1 && report["good"] == false, "{exit} {report}");
    ensure!(paths.iter().all(|path| edited.contains(path)), "{edited}");
    pair.receiver.start()?;
    wait_gone(&pair.receiver, &paths)?;
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.receiver.verify()
}

/// Waits until both nodes are abnormal for a reason that says so.
pub fn both(pair: &Pair, what: &str, code: &str, parts: &[&str]) -> Result<()> {
    for node in [&pair.provider, &pair.receiver] {
        node.wait_status(what, SOON, |status| {
            status["normal"] == false && says(status, "reasons", code, parts)
        })?;
    }
    Ok(())
}

#[test]
fn of_a_file_that_may_not_be_copied_the_last_version_stays() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let append = |path: &Path, text: &str| -> Result<String> {
        let before = std::fs::read_to_string(path)?;
        std::fs::write(path, format!("{before}{text}"))?;
        Ok(before)
    };
    let dynamic = pair.provider.root().join("configuration/dynamic.toml");
    // As TOML has it, it is a comment.
    let commented = key_pem()?.replace("\n", "\n# ");
    let before = append(&dynamic, &format!("\n# {commented}\n"))?;
    both(
        &pair,
        "the key is named",
        "configuration-incomplete",
        &["configuration/dynamic.toml", "private key"],
    )?;
    let copied = copy_of(&pair.receiver).join("dynamic.toml");
    ensure!(std::fs::read_to_string(&copied)? == before, "the last version stays");
    pair.receiver.verify()?;
    // It survives a start, and an upgrade could go on with it.
    pair.receiver.stop()?;
    pair.receiver.start()?;
    both(
        &pair,
        "the key is named again",
        "configuration-incomplete",
        &["configuration/dynamic.toml"],
    )?;
    ensure!(std::fs::read_to_string(&copied)? == before, "the last version stays");
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(verdict(&report, "config-valid") == "pass", "{report}");
    std::fs::write(&dynamic, &before)?;
    wait_equal(&pair.provider, &pair.receiver)?;

    // A certificate with its key behind it.
    let certs = pair.provider.root().join("namespaces/global/certs/certs");
    let entries = std::fs::read_dir(&certs)?.flatten().map(|entry| entry.path());
    let certificate = entries
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "cert"));
    let certificate = certificate.context("no certificate")?;
    let name = certificate
        .file_name()
        .context("no name")?
        .to_string_lossy()
        .into_owned();
    let before = append(&certificate, &key_pem()?)?;
    both(
        &pair,
        "the certificate is named",
        "configuration-incomplete",
        &[&name, "private key"],
    )?;
    std::fs::write(&certificate, before)?;
    wait_equal(&pair.provider, &pair.receiver)?;

    // What is no TOML is copied, and no node could start with it.
    let before = append(&dynamic, "odd = [\n")?;
    both(
        &pair,
        "both say so",
        "configuration-unusable",
        &["dynamic.toml", "not valid TOML"],
    )?;
    std::fs::write(&dynamic, before)?;
    wait_equal(&pair.provider, &pair.receiver)
}

#[test]
fn what_cannot_work_here_is_named_on_the_day_it_arrives() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let held = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = held.local_addr()?.port();
    let own = pair.receiver.root().join("configuration/dynamic.toml");
    let text = std::fs::read_to_string(&own)?;
    let line = text
        .lines()
        .find(|line| line.starts_with("jsonrpc"))
        .context("no port")?;
    std::fs::write(&own, text.replace(line, &format!("jsonrpc = {port}")))?;
    let key = "strategy.chain-sync.id";
    let (exit, answer) = pair
        .provider
        .json(&["config", "set", "global/ns_static.toml", key, "mine"])?;
    ensure!(
        exit == 0 && answer["warnings"].to_string().contains("chain-sync mine"),
        "{exit} {answer}"
    );
    let port = port.to_string();
    pair.receiver.wait_status("both are named", SOON, |status| {
        let said = |parts: &[&str]| says(status, "warnings", "configuration-unusable", parts);
        said(&["port.jsonrpc", &port]) && said(&["chain-sync mine"])
    })?;
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(
        verdict(&report, "ports-free") == "fail" && verdict(&report, "plugins-present") == "warn",
        "{report}"
    );
    Ok(())
}
