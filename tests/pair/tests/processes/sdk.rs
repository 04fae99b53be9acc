//! The public JavaScript SDK from npm, before and after a take-over.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cvp_pair::pair::{Pair, Setup, durable};
use cvp_pair::wait;
use serde_json::Value;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sdk")
}

fn script(arguments: &[&str]) -> Result<Command> {
    let example = example();
    ensure!(
        example.join("node_modules").exists(),
        "the SDK is not installed; run: npm ci --ignore-scripts --prefix examples/sdk"
    );
    let mut command = Command::new("node");
    command
        .arg("pair.mjs")
        .args(arguments)
        .current_dir(example)
        .stdin(Stdio::null());
    Ok(command)
}

/// Runs the example to its end and answers the JSON of its last line.
fn run(arguments: &[&str]) -> Result<Value> {
    let output = script(arguments)?
        .output()
        .context("node does not start; install Node.js")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let last = text.lines().last().context("the example printed nothing")?;
    Ok(serde_json::from_str(last)?)
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_sdk_goes_on_with_the_standby_after_a_kill_under_load() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let (url, standby) = (pair.provider.jsonrpc().to_owned(), pair.receiver.jsonrpc().to_owned());
    let receipts = pair.directory.path().join("receipts.jsonl");
    let file = receipts.to_string_lossy().into_owned();

    ensure!(run(&["setup", "--url", &url])?["setChainId"] == true);
    ensure!(
        run(&["setup", "--url", &url])?["setChainId"] == false,
        "the chain id was set twice"
    );
    run(&["send", "--url", &url, "--count", "12", "--out", &file])?;

    let mut load = Killed(
        script(&["load", "--url", &url, "--out", &file])?
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    wait::until("a hundred receipts under load", Duration::from_secs(60), || {
        let count = lines(&receipts);
        Ok(if count >= 112 {
            Ok(())
        } else {
            Err(format!("{count} receipts"))
        })
    })?;
    pair.lose_provider()?;
    wait::until("the load notices", Duration::from_secs(90), || {
        Ok(load.0.try_wait()?.map(|_| ()).ok_or_else(|| "it runs".to_owned()))
    })?;

    let copied = durable(&pair.receiver.status()?, "global").context("no durable height in status")?;
    let (code, upgrade) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "upgrade: {upgrade}");
    ensure!(upgrade["serving"]["hostname"] == "node1", "{upgrade}");

    let checked = run(&["check", "--url", &standby, "--in", &file, "--upto", &copied.to_string()])?;
    ensure!(checked["checked"].as_u64() > Some(12), "{checked}");
    let nothing = run(&["check", "--url", &standby, "--in", &file, "--upto", ""]);
    ensure!(nothing.is_err(), "a check of no receipt passed: {nothing:?}");
    let more = run(&["send", "--url", &standby, "--count", "6"])?;
    ensure!(more["height"].as_u64() > Some(copied), "{more}");
    pair.receiver.verify()
}
