//! Strategies that misbehave cost their namespace a restart, never the stream; one that only says pause stops it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::pair::{Pair, Setup, durable};
use cvp_pair::plugins::{choose, example, install};
use cvp_pair::signer::{ec, send_many};
use cvp_pair::wait;
use serde_json::Value;

fn strategy(status: &Value) -> &Value {
    &status["namespaces"][0]["strategies"][0]
}

fn pair_with(component: &Path, mode: &str) -> Result<Pair> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.provokes(&["run strategy namespace=global id=pauser"]);
    for node in [&pair.provider, &pair.receiver] {
        install(node.root(), component, "0.1.0")?;
        choose(node.root(), "global", mode)?;
    }
    pair.provider.start()?;
    pair.receiver.start()?;
    Ok(pair)
}

#[test]
fn a_broken_strategy_leaves_the_stream_to_the_default() -> Result<()> {
    let component = example("")?;
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
    let component = example("")?;
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
    let component = example("")?;
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
