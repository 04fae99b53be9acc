//! A node that is killed while a namespace starts or stops: afterwards both run the same namespaces, and what was answered holds.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::pair::{Pair, Setup};

use crate::configuration::wait_equal;
use crate::namespaces::{flows, own_entry, prepare, running, wait_running};

/// Which node is killed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Victim {
    Provider,
    Receiver,
}

/// Moments of a strong change, and whether it counts when its node dies there; none: the answer tells.
const MOMENTS: [(Victim, &str, Option<bool>); 7] = [
    (Victim::Provider, "change:before-commit", Some(false)),
    (Victim::Provider, "change:committed", Some(true)),
    (Victim::Provider, "change:before-answer", Some(true)),
    (Victim::Receiver, "change:before-stage", None),
    (Victim::Receiver, "change:staged", None),
    (Victim::Receiver, "change:before-apply", None),
    (Victim::Receiver, "change:applied", None),
];

/// Kills `victim` at `point` of `namespace start ns2` or `stop ns2`, and starts it again.
fn killed_at(start: bool, victim: Victim, point: &str, counts: Option<bool>) -> Result<()> {
    let mut pair = Pair::init(&Setup {
        namespaces: if start { &[] } else { &["ns2"] },
        ..Setup::default()
    })?;
    if start {
        prepare(&pair.provider, "ns2")?;
    }
    let node = match victim {
        Victim::Provider => &mut pair.provider,
        Victim::Receiver => &mut pair.receiver,
    };
    node.environment = vec![("CVP_TEST_CRASH_AT".into(), point.into())];
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let verb = if start { "start" } else { "stop" };
    let (exit, answer) = pair.provider.json(&["namespace", verb, "ns2"])?;
    let node = match victim {
        Victim::Provider => &mut pair.provider,
        Victim::Receiver => &mut pair.receiver,
    };
    node.wait_end(Duration::from_secs(10))?;
    node.environment.clear();
    node.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let done = match (victim, exit) {
        (Victim::Receiver, 0) => {
            // Alone when the standby was gone before it held it; never by silence.
            ensure!(
                answer["answer"] == "replicated" || answer["answer"] == "local",
                "{answer}"
            );
            true
        }
        (Victim::Receiver, 7) => false,
        (Victim::Provider, exit) if exit != 0 => counts.context("no outcome is told")?,
        other => anyhow::bail!("{other:?}: {answer}"),
    };
    let names = if done == start { "global,ns2" } else { "global" };
    ensure!(
        running(&pair.provider)? == names,
        "{} {answer}",
        running(&pair.provider)?
    );
    wait_running(&pair.receiver, names)?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let listed = own_entry(&pair.provider, "name = \"ns2\"\nstart = true")?;
    ensure!(listed == (names == "global,ns2"), "its own list says otherwise");
    for name in names.split(',') {
        flows(&pair, name)?;
    }
    pair.receiver.verify()
}

/// All moments in the full run; else those of one node.
fn moments(of: Victim) -> impl Iterator<Item = (Victim, &'static str, Option<bool>)> {
    let full = std::env::var_os("CVP_TEST_FULL").is_some();
    MOMENTS.into_iter().filter(move |(victim, ..)| full || *victim == of)
}

#[test]
fn a_kill_while_a_namespace_starts_leaves_the_same_namespaces_on_both() -> Result<()> {
    for (victim, point, counts) in moments(Victim::Provider) {
        killed_at(true, victim, point, counts).with_context(|| format!("{victim:?} killed at {point}"))?;
    }
    Ok(())
}

#[test]
fn a_kill_while_a_namespace_stops_leaves_the_same_namespaces_on_both() -> Result<()> {
    for (victim, point, counts) in moments(Victim::Receiver) {
        killed_at(false, victim, point, counts).with_context(|| format!("{victim:?} killed at {point}"))?;
    }
    Ok(())
}
