//! Take-over: what the preflight refuses, what a dry run says, a step that fails, and the old provider that comes back.

use std::os::unix::fs::FileExt as _;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::{Node, cvp_ok};
use cvp_pair::pair::{Pair, Setup, init_receiver, wait_durable};
use serde_json::Value;

use crate::takeover::{STEPS, fenced, goes_on, loaded};

pub fn verdict<'a>(report: &'a Value, id: &str) -> &'a str {
    report["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|check| check["id"] == id)
        .and_then(|check| check["verdict"].as_str())
        .unwrap_or("absent")
}

/// (id, state) of each step of a report.
fn steps(report: &Value) -> Vec<(&str, &str)> {
    let steps = report["steps"].as_array().into_iter().flatten();
    steps
        .map(|step| {
            (
                step["id"].as_str().unwrap_or_default(),
                step["state"].as_str().unwrap_or_default(),
            )
        })
        .collect()
}

fn all_in(state: &'static str) -> Vec<(&'static str, &'static str)> {
    STEPS.map(|step| (step, state)).to_vec()
}

#[test]
fn a_living_provider_is_not_replaced() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    loaded(&pair)?;
    let (code, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(code == 6, "dry run: {code} {report}");
    ensure!(verdict(&report, "target-unreachable") == "fail", "{report}");
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 4, "upgrade: {code} {report}");
    ensure!(pair.receiver.status()?["role"] == "receiver");
    ensure!(
        pair.provider.json(&["upgrade"])?.0 == 4,
        "a provider must refuse upgrade"
    );
    Ok(())
}

#[test]
fn the_standby_takes_over_and_a_fresh_one_attaches() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(code == 0, "dry run: {code} {report}");
    ensure!(
        steps(&report) == all_in("planned"),
        "a dry run lists the steps: {report}"
    );
    let text = pair.receiver.command(&["upgrade", "--dry-run"])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let listed = |id: &str| {
        text.lines()
            .filter(|line| line.split_whitespace().nth(1) == Some(id))
            .count()
    };
    for id in STEPS.iter().chain(&["target-unreachable", "plan"]) {
        ensure!(listed(id) == 1, "{id} stands there {} times: {text}", listed(id));
    }
    ensure!(
        report.get("milliseconds").is_none() && report.get("serving").is_none(),
        "a dry run measured something: {report}"
    );
    ensure!(
        pair.receiver.status()?["role"] == "receiver" && !journal(&pair.receiver).exists(),
        "a dry run changed something"
    );
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "upgrade: {code} {report}");
    ensure!(steps(&report) == all_in("done"), "{report}");
    let took = |name: &str| report[name].as_f64().with_context(|| format!("no {name} in {report}"));
    ensure!(
        took("probe_milliseconds")? > 0.0 && took("milliseconds")? > 0.0,
        "{report}"
    );
    goes_on(&pair.receiver, height, &block)?;
    let status = pair.receiver.status()?;
    ensure!(
        status["role"] == "provider" && status["hostname"] == "node1",
        "{status}"
    );
    ensure!(status["incarnation"]["number"] == 2, "{status}");

    let at = pair.directory.path();
    let tls = at.join("tls").to_string_lossy().into_owned();
    let names = ["--host", "cvp2", "--standby-for", "node1", "--ip", "127.0.0.1"];
    cvp_ok(&[&["certgen", tls.as_str()], names.as_slice()].concat())?;
    let peer = format!("node1 {}", pair.receiver.p2p());
    let root = init_receiver(at, "cvp2", &peer, pair.receiver.root(), &Setup::default())?;
    let mut fresh = Node::new(root);
    fresh.start()?;
    pair.receiver.wait_normal()?;
    wait_durable(&fresh, "global", pair.receiver.rpc().height()?)?;
    fresh.verify()
}

fn journal(node: &Node) -> std::path::PathBuf {
    node.root().join("system/cvp/promotion.journal")
}

#[test]
fn what_cannot_be_planned_is_refused_beforehand() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    // More addresses than a journal takes: nothing but the plan of the promotion minds.
    let file = pair.receiver.root().join("configuration/dynamic.toml");
    let good = std::fs::read_to_string(&file)?;
    let mut dynamic: toml_edit::DocumentMut = good.parse()?;
    let many: toml_edit::Array = (1..=65).map(|port| format!("node1 127.0.0.1:{port}")).collect();
    dynamic["cvp"]["remote"] = many.into();
    std::fs::write(&file, dynamic.to_string())?;
    let (code, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(code == 6 && verdict(&report, "plan") == "fail", "{code} {report}");
    ensure!(steps(&report) == [("fence", "failed")], "{report}");
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 4 && verdict(&report, "plan") == "fail", "{code} {report}");
    ensure!(
        steps(&report).is_empty() && !journal(&pair.receiver).exists(),
        "{report}"
    );
    // A file that cannot be read is a failed check too.
    std::fs::write(&file, "no toml at all")?;
    let (code, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(
        code == 6 && verdict(&report, "config-valid") == "fail" && verdict(&report, "plan") == "fail",
        "{code} {report}"
    );
    std::fs::write(&file, good)?;
    ensure!(pair.receiver.status()?["role"] == "receiver");
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{code} {report}");
    goes_on(&pair.receiver, height, &block)
}

#[test]
fn a_step_that_failed_is_gone_on_with() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    // After a start the tip is read from the disk; spoilt there, the take-over block has nothing to follow.
    pair.receiver.stop()?;
    pair.receiver.start()?;
    let record = crate::takeover::find_record(pair.receiver.root(), height)?;
    let file = std::fs::File::options().read(true).write(true).open(&record.segment)?;
    let mut first = [0];
    file.read_exact_at(&mut first, record.offset)?;
    file.write_all_at(&[first[0] ^ 1], record.offset)?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(
        code == 1 && steps(&report).last() == Some(&("takeover", "failed")),
        "{code} {report}"
    );
    ensure!(report.get("milliseconds").is_none(), "{report}");
    let (code, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    let left = all_in("planned")[4..].to_vec();
    ensure!(
        code == 0 && steps(&report) == left,
        "a dry run only lists what is left: {code} {report}"
    );
    file.write_all_at(&first, record.offset)?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0 && steps(&report) == all_in("resumed")[4..], "{code} {report}");
    goes_on(&pair.receiver, height, &block)
}

#[test]
fn an_old_provider_that_comes_back_is_fenced() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    pair.provider.provokes(&["this node is fenced"]);
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    ensure!(pair.receiver.json(&["upgrade"])?.0 == 0);
    goes_on(&pair.receiver, height, &block)?;
    for _ in 0..2 {
        // The second time it knows without asking.
        pair.provider.start()?;
        ensure!(fenced(&pair.provider)? == height, "the fenced node made a block");
        ensure!(pair.provider.root().join("system/cvp/fenced").exists());
        pair.provider.stop()?;
    }
    Ok(())
}

#[test]
fn a_receiver_without_the_providers_key_says_so() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.receiver.provokes(&["code=keys-missing"]);
    std::fs::remove_file(pair.receiver.root().join("namespaces/global/certs/certs/key.priv"))?;
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    let status = pair.receiver.status()?;
    ensure!(status["warnings"].to_string().contains("keys-missing"), "{status}");
    loaded(&pair)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 4 && verdict(&report, "keys-match") == "fail", "{code} {report}");
    let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
    ensure!(code == 0, "{code} {report}");
    Ok(())
}

#[test]
fn a_key_that_is_not_of_the_backed_up_certificate_is_a_wrong_one() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.receiver.provokes(&["code=keys-wrong"]);
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    // Another node's key and certificate, which belong together.
    let certs = pair.receiver.root().join("namespaces/global/certs/certs");
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["node9".into()])?.self_signed(&key)?;
    let mut replaced = 0;
    for entry in std::fs::read_dir(&certs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cert") {
            std::fs::write(path, certificate.pem())?;
            replaced += 1;
        }
    }
    ensure!(replaced > 0, "no certificate in {}", certs.display());
    std::fs::write(certs.join("key.priv"), key.serialize_pem())?;
    pair.receiver.stop()?;
    pair.receiver.start()?;
    pair.receiver
        .wait_log("code=keys-wrong", std::time::Duration::from_secs(20))?;
    pair.provider.wait_normal()?;
    let status = pair.receiver.status()?;
    ensure!(status["warnings"].to_string().contains("keys-wrong"), "{status}");
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 4 && verdict(&report, "keys-match") == "fail", "{code} {report}");
    let (code, report) = pair.receiver.json(&["upgrade", "--allow-missing-keys"])?;
    ensure!(code == 0 && verdict(&report, "keys-match") == "warn", "{code} {report}");
    goes_on(&pair.receiver, height, &block)
}
