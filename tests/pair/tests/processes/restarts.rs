//! Either end killed again and again under load: no gap, no divergence.

use std::time::Duration;

use anyhow::{Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::signer::{Load, ec, send_many, settled};
use serde_json::json;

/// Kills of each end: 20 in a full run.
fn rounds() -> usize {
    if std::env::var_os("CVP_TEST_FULL").is_some() {
        20
    } else {
        5
    }
}

/// Both ends answer the same block at every height up to the receiver's.
fn same_chain(provider: &Node, receiver: &Node) -> Result<()> {
    let (ours, theirs) = (provider.rpc(), receiver.rpc());
    let height = theirs.height()?;
    for number in 0..=height {
        let ask = json!([number, false]);
        let (a, b) = (
            ours.call("block_getBlockByNumber", ask.clone())?,
            theirs.call("block_getBlockByNumber", ask)?,
        );
        ensure!(a == b, "block {number} differs: {a} and {b}");
    }
    Ok(())
}

fn settle(pair: &Pair, load: Load) -> Result<()> {
    let hashes = load.stop();
    ensure!(!hashes.is_empty(), "the load sent nothing");
    let rpc = pair.provider.rpc();
    if let Some(last) = hashes.last() {
        settled(&rpc, last)?;
    }
    pair.provider.wait_normal()?;
    pair.wait_durable("global", rpc.height()?)?;
    same_chain(&pair.provider, &pair.receiver)?;
    pair.provider.verify()?;
    pair.receiver.verify()
}

#[test]
fn a_receiver_killed_under_load_catches_up_each_time() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let load = Load::start(pair.provider.rpc())?;
    for _ in 0..rounds() {
        let height = pair.provider.rpc().height()?;
        pair.wait_durable("global", height)?;
        pair.receiver.kill()?;
        pair.receiver.start()?;
    }
    settle(&pair, load)
}

#[test]
fn a_provider_killed_under_load_loses_nothing_it_showed() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let load = Load::start(pair.provider.rpc())?;
    for _ in 0..rounds() {
        let shown = pair.provider.rpc().height()?;
        pair.wait_durable("global", shown)?;
        let shown = pair.provider.rpc().height()?;
        let tip = pair
            .provider
            .rpc()
            .call("block_getBlockByNumber", json!([shown, true]))?;
        pair.provider.kill()?;
        pair.provider.start()?;
        let again = pair
            .provider
            .rpc()
            .call("block_getBlockByNumber", json!([shown, true]))?;
        ensure!(tip == again, "block {shown} was {tip} and is {again}");
        pair.provider.wait_normal()?;
    }
    settle(&pair, load)
}

/// A provider whose standby is away knows after a restart what that one held, however it ended.
#[test]
fn a_provider_that_restarts_alone_says_what_its_standby_held() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let load = Load::start(pair.provider.rpc())?;
    let shown = pair.provider.rpc().height()?;
    pair.wait_durable("global", shown.max(3))?;
    settle(&pair, load)?;
    let held = pair.provider.rpc().height()?;
    pair.receiver.kill()?;
    pair.provider
        .wait_status("the standby is away", Duration::from_secs(10), |status| {
            status["peer"].is_null()
        })?;
    for _ in 0..2 {
        send_many(&pair.provider.rpc(), &ec()?, 1)?;
    }
    for kill in [true, false] {
        if kill {
            pair.provider.kill()?;
        } else {
            pair.provider.stop()?;
        }
        pair.provider.start()?;
        let status = pair.provider.status()?;
        let ns = &status["namespaces"][0];
        ensure!(ns["durable"] == held && ns["durable_before_start"] == true, "{ns}");
        let lag = ns["tip"].as_u64().map(|tip| tip - held);
        ensure!(lag >= Some(2) && ns["lag_blocks"].as_u64() == lag, "{ns}");
    }
    // Whoever is stopped in the middle of a session notes it as well.
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    let height = pair.provider.rpc().height()?;
    pair.wait_durable("global", height)?;
    pair.provider.stop()?;
    pair.receiver.kill()?;
    pair.provider.start()?;
    let status = pair.provider.status()?;
    let ns = &status["namespaces"][0];
    ensure!(ns["durable"] == height && ns["lag_blocks"] == 0, "{ns}");
    ensure!(ns["durable_before_start"] == true, "{ns}");
    Ok(())
}
