//! What an operator gets wrong: each is said in the one form of errors, with what to do and its exit code.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cvp_pair::node::{Node, cvp, cvp_ok};
use cvp_pair::pair::{Pair, Setup, init_node};
use cvp_pair::plugins::edit;
use serde_json::Value;
use toml_edit::value;

use crate::takeover::loaded;

const SOON: Duration = Duration::from_secs(20);

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `cvp` with these arguments fails with `exit`, and its one line of error holds each of `parts`.
fn fails(arguments: &[&str], exit: i32, parts: &[&str]) -> Result<()> {
    let output = cvp(arguments)?;
    let text = err(&output);
    ensure!(code(&output) == exit, "{arguments:?}: {output:?}");
    ensure!(
        text.starts_with("Error: ") && text.contains("; "),
        "{arguments:?}: {text}"
    );
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not in {text}");
    }
    Ok(())
}

#[test]
fn a_wrong_command_line_is_one_line_or_one_object() -> Result<()> {
    for wrong in [
        &["stauts"][..],
        &["init"],
        &["verify", "--to", "x"],
        &["plugin"],
        &["bench", "x"],
    ] {
        fails(wrong, 2, &["--help`"])?;
        ensure!(err(&cvp(wrong)?).lines().count() == 1, "{wrong:?}");
        let output = cvp(&[&["--json"], wrong].concat())?;
        let error: Value = serde_json::from_slice(&output.stderr)?;
        ensure!(
            code(&output) == 2 && error["error"]["code"] == "usage",
            "{wrong:?}: {error}"
        );
        ensure!(
            error["error"]["help"]
                .as_str()
                .is_some_and(|help| help.starts_with("see `cvp"))
        );
    }
    fails(
        &["verify", "--from", "5", "--to", "4"],
        2,
        &["--from 5 is above --to 4"],
    )?;
    fails(
        &["plugin", "check", "nothere"],
        1,
        &["cannot read nothere", "name a component"],
    )?;
    ensure!(code(&cvp(&["--version"])?) == 0 && code(&cvp(&["verify", "--help"])?) == 0);
    Ok(())
}

#[test]
fn a_root_whose_node_runs_is_neither_started_nor_cleared() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    for node in [&pair.provider, &pair.receiver] {
        let (exit, error) = node.json(&["start"])?;
        ensure!(exit == 4 && error["error"]["code"] == "locked", "{exit} {error}");
    }
    let (exit, error) = pair.receiver.json(&["clear", "--yes"])?;
    ensure!(exit == 4 && error["error"]["code"] == "locked", "{exit} {error}");
    pair.provider.wait_normal()?;
    Ok(())
}

#[test]
fn init_says_what_is_still_missing() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (root, tls) = (at("cvp"), at("tls"));
    let receiver = ["init", &root, "--hostname", "cvp", "--role", "receiver"];
    let with = |more: &[&str]| {
        [&receiver[..], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };

    let equal = with(&["--jsonrpc-port", "9000", "--p2p-port", "9000"]);
    fails(
        &equal.iter().map(String::as_str).collect::<Vec<_>>(),
        2,
        &["are both 9000"],
    )?;
    cvp_ok(&["certgen", &tls, "--host", "node1"])?;
    let stranger = with(&["--tls-from", &tls, "--peer", "node1 127.0.0.1:50011"]);
    let command = format!("run `cvp certgen {tls} --host cvp --standby-for node1`");
    fails(
        &stranger.iter().map(String::as_str).collect::<Vec<_>>(),
        1,
        &["no TLS certificate of cvp", &command],
    )?;
    ensure!(!Path::new(&root).exists(), "a refused init left something");

    let alone = cvp(&with(&["--jsonrpc-port", "0", "--p2p-port", "0"]))?;
    let file = format!("cvp.remote of {root}/configuration/dynamic.toml");
    ensure!(code(&alone) == 0 && err(&alone).contains(&file), "{alone:?}");
    ensure!(!String::from_utf8_lossy(&alone.stdout).contains("note:"), "{alone:?}");
    let start = cvp(&["--root", &root, "start"])?;
    let text = err(&start);
    ensure!(
        code(&start) == 1 && text.contains("tls/tlsca.ca is missing; run `cvp certgen DIR --host cvp`"),
        "{start:?}"
    );
    Ok(())
}

#[test]
fn a_file_that_is_no_toml_is_one_problem_of_a_start() -> Result<()> {
    let pair = Pair::init(&Setup::default())?;
    for node in [&pair.provider, &pair.receiver] {
        for file in ["dynamic.toml", "global/ns_dynamic.toml"] {
            let path = node.root().join("configuration").join(file);
            let good = std::fs::read_to_string(&path)?;
            std::fs::write(&path, format!("{good}\nodd = [\n"))?;
            let output = node.command(&["start"])?;
            let text = err(&output);
            ensure!(
                code(&output) == 1 && text.matches("configuration/").count() == 1 && text.contains("not valid TOML"),
                "{file}: {text}"
            );
            std::fs::write(&path, good)?;
        }
    }
    Ok(())
}

#[test]
fn a_standby_names_its_provider_and_nobody_else() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    let path = pair.receiver.root().join("configuration/global/ns_dynamic.toml");
    let good = std::fs::read_to_string(&path)?;
    let entry = |host: &str| format!("\n[[nodes]]\nhostname = \"{host}\"\nscore = 10\n");
    let at = good.find("\n[[nodes]]").context("no [[nodes]]")?;
    for (nodes, listed) in [
        (entry("node1") + &entry("node2"), "[node1, node2]"),
        (entry("node2"), "[node2]"),
        (String::new(), "[]"),
    ] {
        std::fs::write(&path, format!("{}{nodes}", &good[..at]))?;
        let output = pair.receiver.command(&["start"])?;
        let text = err(&output);
        let said = [
            "configuration/global/ns_dynamic.toml: nodes",
            "node1",
            listed,
            "cvp.remote",
        ];
        ensure!(
            code(&output) == 1 && said.iter().all(|part| text.contains(part)),
            "{listed}: {text}"
        );
    }
    std::fs::write(&path, good)?;
    pair.receiver.start()
}

#[test]
fn what_a_standby_does_not_do_is_said_at_its_start_and_in_its_status() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    let configuration = pair.receiver.root().join("configuration");
    for (file, key, asked) in [
        ("system.toml", "audit", "level = \"metadata\""),
        ("global/ns_static.toml", "executor.filemgr", "enable = true"),
    ] {
        let path = configuration.join(file);
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, format!("{text}\n[{key}]\n{asked}\n"))?;
    }
    let keys = ["audit.level: ", "executor.filemgr.enable: "];
    pair.receiver.provokes(&keys);
    pair.provider.start()?;
    pair.receiver.start()?;
    let status = pair.receiver.wait_normal()?;
    let warnings = status["warnings"].as_array().into_iter().flatten();
    let told: Vec<&str> = warnings
        .filter(|warning| warning["code"] == "unsupported")
        .filter_map(|warning| warning["message"].as_str())
        .collect();
    for (key, help) in keys.iter().zip(["ELK or Graylog", "keep a copy of them elsewhere"]) {
        ensure!(
            told.iter().any(|text| text.contains(key) && text.contains(help)),
            "{key}: {status}"
        );
        pair.receiver.wait_log(key, SOON)?;
    }
    ensure!(told.len() == 2, "{status}");
    let (_, provider) = pair.provider.json(&["status"])?;
    ensure!(!provider.to_string().contains("unsupported"), "{provider}");
    Ok(())
}

#[test]
fn a_key_that_others_can_read_is_warned_of() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let setup = Setup {
        insecure: true,
        ..Setup::default()
    };
    let mut node = Node::new(init_node(directory.path(), "node1", "provider", None, &setup)?);
    node.provokes(&["code=key-exposed", "p2p.enableTLS is false"]);
    let key = node.root().join("namespaces/global/certs/certs/key.priv");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644))?;
    node.start()?;
    let action = format!("(mode 0644); chmod 600 {}", key.display());
    let warned = |status: &Value| {
        let mut warnings = status["warnings"].as_array().into_iter().flatten();
        warnings.any(|w| w["code"] == "key-exposed" && w["message"].as_str().is_some_and(|text| text.contains(&action)))
    };
    let status = node.status()?;
    ensure!(warned(&status) && node.log().contains(&action), "{status}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    let status = node.status()?;
    ensure!(!warned(&status), "it is mended: {status}");
    Ok(())
}

#[test]
fn a_plugin_that_cannot_be_loaded_is_named_on_both_ends() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.receiver.provokes(&["load strategy namespace=global id=absent"]);
    edit(pair.receiver.root(), "global", |strategy| {
        strategy["chain-sync"]["id"] = value("absent")
    })?;
    pair.provider.start()?;
    pair.receiver.start()?;
    for (node, begins) in [(&pair.receiver, "global: "), (&pair.provider, "receiver: global: ")] {
        node.wait_status("the plugin is named", SOON, |status| {
            let mut reasons = status["reasons"].as_array().into_iter().flatten();
            let begins = format!("{begins}strategy absent cannot be loaded (");
            reasons.any(|reason| {
                let text = reason["message"].as_str().unwrap_or_default();
                reason["code"] == "strategy-quarantined"
                    && text.starts_with(&begins)
                    && text.contains("plugins/absent/plugin.toml: No such file")
                    && text.contains("; correct plugins/absent")
            })
        })?;
    }
    let status = pair.receiver.status()?;
    ensure!(status["namespaces"][0]["strategies"][0]["id"] == "absent", "{status}");
    // The default copies meanwhile.
    loaded(&pair)?;
    Ok(())
}

#[test]
fn a_silence_grows_in_the_status() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    let age = |status: &Value| -> Option<u64> {
        let mut reasons = status["reasons"].as_array()?.iter();
        let text = reasons.find(|reason| reason["code"] == "receiver-silent")?["message"].as_str()?;
        text.split_once("has said nothing for ")?
            .1
            .split_once(" ms")?
            .0
            .parse()
            .ok()
    };
    pair.receiver.freeze()?;
    let mut least = 0;
    for _ in 0..3 {
        let status = pair
            .provider
            .wait_status("the silence grew", SOON, |s| age(s).is_some_and(|age| age > least))?;
        least = age(&status).unwrap_or(0) + 1_000;
    }
    ensure!(least > 4_500, "{least}");
    pair.receiver.thaw()?;
    pair.provider.wait_normal()?;
    Ok(())
}

#[test]
fn a_damaged_binding_is_a_failed_check_of_an_upgrade() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    loaded(&pair)?;
    pair.lose_provider()?;
    for name in ["binding", "provider"] {
        let file = pair.receiver.root().join("system/cvp").join(name);
        let good = std::fs::read(&file)?;
        std::fs::write(&file, &good[..good.len() - 1])?;
        for (arguments, exit) in [(&["upgrade", "--dry-run"][..], 6), (&["upgrade"], 4)] {
            let (found, report) = pair.receiver.json(arguments)?;
            let mut checks = report["checks"].as_array().into_iter().flatten();
            let failed = checks.any(|check| {
                let text = check["message"].as_str().unwrap_or_default();
                check["id"] == "backup-complete"
                    && check["verdict"] == "fail"
                    && text.contains(&format!("{name} is damaged"))
            });
            ensure!(found == exit && failed, "{name}, {arguments:?}: {found} {report}");
        }
        std::fs::write(&file, good)?;
    }
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(exit == 0, "{exit} {report}");
    Ok(())
}
