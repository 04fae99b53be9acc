//! Strategies that misbehave cost their namespace a restart, never the stream; one that only says pause stops it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cvp_pair::pair::{Pair, Setup, durable};
use cvp_pair::signer::{ec, send_many};
use cvp_pair::wait;
use serde_json::Value;

/// The third-party example, built once a test run as its author would build it.
fn example() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/strategy/Cargo.toml");
    let test = std::env::current_exe()?;
    let target = test
        .ancestors()
        .find(|path| path.file_name().is_some_and(|name| name == "release"))
        .and_then(Path::parent)
        .context("no target directory")?
        .join("strategies");
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            "wasm32-wasip2",
            "--manifest-path",
        ])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .output()?;
    if !output.status.success() {
        bail!(
            "the example strategy does not build: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    std::fs::read_dir(target.join("wasm32-wasip2/release"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "wasm"))
        .context("no component was built")
}

/// Puts the example in `root`'s plugin directory and chooses it for namespace `global` with `mode`.
fn install(root: &Path, component: &Path, mode: &str) -> Result<()> {
    let directory = root.join("plugins/pauser");
    std::fs::create_dir_all(&directory)?;
    let bytes = std::fs::read(component)?;
    std::fs::write(directory.join("plugin.wasm"), &bytes)?;
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/strategy/plugin.toml");
    let mut manifest: toml_edit::DocumentMut = std::fs::read_to_string(template)?.parse()?;
    manifest["id"] = toml_edit::value("pauser");
    manifest["sha256"] = toml_edit::value(sha256(&directory.join("plugin.wasm"))?);
    std::fs::write(directory.join("plugin.toml"), manifest.to_string())?;
    let file = root.join("configuration/global/ns_static.toml");
    let mut text: toml_edit::DocumentMut = std::fs::read_to_string(&file)?.parse()?;
    text["strategy"]["chain-sync"]["id"] = toml_edit::value("pauser");
    text["strategy"]["chain-sync"]["settings"]["mode"] = toml_edit::value(mode);
    std::fs::write(file, text.to_string())?;
    Ok(())
}

fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .split_whitespace()
        .next()
        .context("sha256sum printed nothing")?
        .to_owned())
}

fn strategy(status: &Value) -> &Value {
    &status["namespaces"][0]["strategies"][0]
}

fn pair_with(component: &Path, mode: &str) -> Result<Pair> {
    let mut pair = Pair::init(&Setup::default())?;
    for node in [&pair.provider, &pair.receiver] {
        install(node.root(), component, mode)?;
    }
    pair.provider.start()?;
    pair.receiver.start()?;
    Ok(pair)
}

#[test]
fn a_broken_strategy_leaves_the_stream_to_the_default() -> Result<()> {
    let component = example()?;
    for mode in ["loop", "trap", "allocate", "silent"] {
        let pair = pair_with(&component, mode)?;
        send_many(&pair.provider.rpc(), &ec()?, 5)?;
        pair.wait_durable("global", pair.provider.rpc().height()?)
            .with_context(|| format!("mode {mode}"))?;
        let status = pair.receiver.status()?;
        ensure!(
            strategy(&status)["faults"].as_u64() > Some(0),
            "mode {mode}: no fault was counted: {status}"
        );
    }
    Ok(())
}

#[test]
fn a_strategy_that_answers_nonsense_is_quarantined_and_blocks_flow_on() -> Result<()> {
    let component = example()?;
    let pair = pair_with(&component, "nonsense")?;
    let signer = ec()?;
    send_many(&pair.provider.rpc(), &signer, 5)?;
    pair.wait_durable("global", pair.provider.rpc().height()?)?;
    // Every restart brings the same nonsense: one end's third fault within a minute is the last, and the other follows it to the default.
    wait::until("the strategy is in quarantine", Duration::from_secs(30), || {
        let both = [pair.receiver.status()?, pair.provider.status()?];
        let named = |state: &str| both.iter().filter(|s| strategy(s)["state"] == state).count();
        let refused = both.iter().any(|s| strategy(s)["refused"].as_u64() >= Some(3));
        let done = refused && named("quarantined") > 0 && named("quarantined") + named("default") == 2;
        Ok(if done { Ok(()) } else { Err(format!("{both:?}")) })
    })?;
    send_many(&pair.provider.rpc(), &signer, 5)?;
    pair.wait_durable("global", pair.provider.rpc().height()?)?;
    Ok(())
}

#[test]
fn a_strategy_that_only_says_pause_stops_the_stream() -> Result<()> {
    let component = example()?;
    let pair = pair_with(&component, "pause")?;
    let status = pair
        .receiver
        .wait_status("the session stands", Duration::from_secs(20), |s| {
            s["peer"]["hostname"] == "node1" && strategy(s)["id"] == "pauser"
        })?;
    ensure!(strategy(&status)["faults"] == 0, "{status}");
    send_many(&pair.provider.rpc(), &ec()?, 5)?;
    let status = pair
        .provider
        .wait_status("the lag is seen", Duration::from_secs(10), |s| {
            s["namespaces"][0]["lag_blocks"].as_u64() > Some(0)
        })?;
    ensure!(
        durable(&status, "global").unwrap_or(0) == 0,
        "a paused stream carried blocks: {status}"
    );
    Ok(())
}
