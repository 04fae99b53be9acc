//! The operator's commands: what they print, their exit codes, and that a refused one changes nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::cvp;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::signer::{ec, send_many};

fn code(output: &std::process::Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn first_line(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn enable_and_disable_edit_the_file_and_keep_its_comments() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    pair.provokes(&["(disabled)"]);
    let file = pair.provider.root().join("configuration/dynamic.toml");
    let before = std::fs::read_to_string(&file)?;

    ensure!(code(&pair.provider.command(&["enable"])?) == 4, "it is enabled already");
    ensure!(
        std::fs::read_to_string(&file)? == before,
        "a refused command changed the file"
    );
    ensure!(
        code(&pair.receiver.command(&["disable"])?) == 4,
        "disable is the provider's"
    );

    ensure!(code(&pair.provider.command(&["disable"])?) == 0);
    let disabled = std::fs::read_to_string(&file)?;
    let changed: Vec<(&str, &str)> = before.lines().zip(disabled.lines()).filter(|(a, b)| a != b).collect();
    ensure!(
        before.lines().count() == disabled.lines().count() && changed.len() == 1,
        "{changed:?}"
    );
    let output = pair.provider.command(&["status"])?;
    ensure!(
        code(&output) == 5 && first_line(&output) == "cvp is abnormal",
        "{output:?}"
    );

    ensure!(code(&pair.provider.command(&["enable"])?) == 0);
    ensure!(
        std::fs::read_to_string(&file)? == before,
        "enable did not restore the file"
    );
    pair.provider.wait_normal()?;
    let output = pair.provider.command(&["status"])?;
    ensure!(
        code(&output) == 0 && first_line(&output) == "cvp is normal",
        "{output:?}"
    );
    // It hears of the provider's reasons with the next heartbeat.
    pair.receiver.wait_normal()?;
    let output = pair.receiver.command(&["status"])?;
    ensure!(first_line(&output) == "cvp is normal (receiver of node1)", "{output:?}");
    Ok(())
}

#[test]
fn the_old_spelling_and_the_exit_codes_hold() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let root = pair.provider.root().to_string_lossy().into_owned();
    let old = cvp(&["--root", &root, "-s", "--ipc=hpc_1.ipc", "--nit", "--cmd=cvp status"])?;
    ensure!(first_line(&old) == "cvp is normal", "{old:?}");
    let old = cvp(&[
        "--root",
        &root,
        "-s",
        "--ipc=hpc_1.ipc",
        "--nit",
        "--cmd=namespace list",
    ])?;
    ensure!(first_line(&old) == "global", "{old:?}");
    ensure!(code(&cvp(&["no-such-command"])?) == 2);
    ensure!(code(&pair.receiver.command(&["namespace", "stop", "global"])?) != 0);

    send_many(&pair.provider.rpc(), &ec()?, 4)?;
    pair.provider.verify()?;
    let plugins = pair.provider.json(&["plugin", "list"])?;
    ensure!(
        plugins.0 == 0 && plugins.1.to_string().contains("chain-sync"),
        "{plugins:?}"
    );

    pair.provider.stop()?;
    let (exit, error) = pair.provider.json(&["status"])?;
    ensure!(
        exit == 3 && error["error"]["code"].is_string() && error["error"]["help"].is_string(),
        "{exit} {error}"
    );
    pair.provider.verify().context("verify of a stopped node")?;
    Ok(())
}

#[test]
fn clear_unbinds_a_stopped_receiver_and_keeps_its_keys() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    send_many(&pair.provider.rpc(), &ec()?, 2)?;
    ensure!(
        code(&pair.receiver.command(&["clear", "--yes"])?) != 0,
        "a running receiver was cleared"
    );
    pair.receiver.stop()?;
    ensure!(code(&pair.receiver.command(&["clear"])?) != 0, "cleared without --yes");
    let key = pair.receiver.root().join("namespaces/global/certs/certs/key.priv");
    ensure!(code(&pair.receiver.command(&["clear", "--yes"])?) == 0);
    ensure!(key.exists() && !pair.receiver.root().join("system/cvp/binding").exists());
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    pair.wait_durable("global", pair.provider.rpc().height()?)
}

#[test]
fn init_refuses_a_directory_that_holds_a_node() -> Result<()> {
    let pair = Pair::init(&Setup::default())?;
    let root = pair.provider.root().to_string_lossy().into_owned();
    let again = cvp(&["init", &root, "--hostname", "node1", "--role", "provider"])?;
    ensure!(
        code(&again) != 0 && String::from_utf8_lossy(&again.stderr).starts_with("Error: "),
        "{again:?}"
    );
    Ok(())
}

#[test]
fn a_stop_is_clean_and_quick() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let began = std::time::Instant::now();
    pair.receiver.stop()?;
    pair.provider.stop()?;
    ensure!(began.elapsed() < Duration::from_secs(10));
    for node in [&pair.provider, &pair.receiver] {
        let log = node.log();
        let bad: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("ERROR") || line.contains("panicked"))
            .collect();
        ensure!(bad.is_empty(), "{bad:?}");
    }
    Ok(())
}
