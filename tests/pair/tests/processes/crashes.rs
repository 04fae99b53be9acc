//! A kill at every moment of a promotion: the next start ends in the same state, and the old provider makes no block once it can reach
//! the node that took its place, whether it comes back afterwards or while the CVP lies dead in the middle.

use std::time::Duration;

use anyhow::{Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, wait_durable};
use cvp_pair::signer::{ec, send_many};
use serde_json::Value;

use crate::takeover::{STEPS, fenced, goes_on, loaded, tip};

/// Before a step's effect, between its effect and its journal entry, after the entry: as `CVP_TEST_CRASH_AT` spells them.
const MOMENTS: [&str; 3] = [":before", "", ":after"];

/// When the old provider is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Return {
    /// Once the CVP has resumed.
    Afterwards,
    /// While the CVP is dead in the middle of its promotion.
    Meanwhile,
}

/// Every moment in one of the two ways, in turn; in a full run in both.
fn ways(step: usize, moment: usize) -> Vec<Return> {
    if std::env::var_os("CVP_TEST_FULL").is_some() {
        vec![Return::Afterwards, Return::Meanwhile]
    } else if (step + moment).is_multiple_of(2) {
        vec![Return::Meanwhile]
    } else {
        vec![Return::Afterwards]
    }
}

fn killed_in(step: usize) -> Result<()> {
    for (number, moment) in MOMENTS.iter().enumerate() {
        for way in ways(step, number) {
            let point = format!("{}{moment}", STEPS[step]);
            let ended = killed_at(&point, way);
            ended
                .map_err(|error| error.context(format!("killed at {point:?}, the old provider comes back {way:?}")))?;
        }
    }
    Ok(())
}

/// Before the first entry of the journal nothing has begun.
fn has_begun(point: &str) -> bool {
    !matches!(point, "fence:before" | "fence")
}

fn killed_at(point: &str, way: Return) -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.receiver.provokes(&["an upgrade was interrupted"]);
    pair.provider.provokes(&["this node is fenced"]);
    pair.receiver.environment = vec![("CVP_TEST_CRASH_AT".into(), point.into())];
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    let (height, block) = loaded(&pair)?;
    pair.lose_provider()?;
    let _ = pair.receiver.command(&["upgrade"])?;
    pair.receiver.wait_end(Duration::from_secs(20))?;
    pair.receiver.environment.clear();
    let mut own = height;
    if way == Return::Meanwhile {
        // It cannot reach anybody, so it may make blocks.
        pair.provider.start()?;
        send_many(&pair.provider.rpc(), &ec()?, 2)?;
        own = pair.provider.rpc().height()?;
        ensure!(own > height, "the lonely provider made no block");
    }
    pair.receiver.start()?;
    let mut last = (height, block);
    if !has_begun(point) {
        if way == Return::Meanwhile {
            // The pair is as it was: the provider lives, and is not replaced.
            wait_durable(&pair.receiver, "global", own)?;
            pair.provider.wait_normal()?;
            ensure!(
                pair.receiver.json(&["upgrade"])?.0 == 4,
                "a living provider was replaced"
            );
            last = loaded(&pair)?;
            own = last.0;
            pair.lose_provider()?;
        }
        let (code, report) = pair.receiver.json(&["upgrade"])?;
        ensure!(code == 0, "{report}");
    }
    let provider_runs = pair.provider.runs();
    promoted(&pair.receiver)?;
    if !provider_runs {
        pair.provider.start()?;
    }
    let stopped_at = fenced(&pair.provider)?;
    ensure!(stopped_at == own, "the old provider went from {own} to {stopped_at}");
    goes_on(&pair.receiver, last.0, &last.1)?;
    ensure!(tip(&pair.provider)? == stopped_at, "a fenced node made a block");
    Ok(())
}

fn promoted(node: &Node) -> Result<Value> {
    node.wait_status("the promotion is done", Duration::from_secs(20), |s| {
        s["role"] == "provider" && s["hostname"] == "node1" && s["incarnation"]["number"] == 2
    })
}

#[test]
fn killed_while_the_fence_is_written() -> Result<()> {
    killed_in(0)
}

#[test]
fn killed_while_the_identity_is_taken_over() -> Result<()> {
    killed_in(1)
}

#[test]
fn killed_while_the_configuration_is_rewritten() -> Result<()> {
    killed_in(2)
}

#[test]
fn killed_while_the_roles_change() -> Result<()> {
    killed_in(3)
}

#[test]
fn killed_while_the_takeover_block_is_made() -> Result<()> {
    killed_in(4)
}

#[test]
fn killed_while_clients_are_let_in() -> Result<()> {
    killed_in(5)
}

#[test]
fn killed_while_the_journal_is_finished() -> Result<()> {
    killed_in(6)
}
