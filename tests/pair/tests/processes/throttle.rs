//! A link of a bounded rate, shared: a namespace that is long behind takes nothing from one that is live. And a line that is slow by itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cvp_pair::dice::Dice;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, configured_p2p, durable, wait_durable};
use cvp_pair::proxy::Proxy;
use serde_json::Value;

use crate::bootstrap::{BATCH, fill, fill_of, pair_with, replace, wait_history};
use crate::held_namespaces::one_block;

/// Bytes a second of the whole link.
const RATE: (&str, &str) = ("max_rate = 0", "max_rate = \"800kb\"");
/// Blocks of 200 KiB that the standby has to catch up with: 20 s at that rate.
const BEHIND: usize = 80;
/// A live block is durable at the standby so soon.
const LIVE_WITHIN: Duration = Duration::from_secs(3);
/// Live blocks of each small namespace.
const LIVE: usize = 8;

#[test]
fn a_small_namespace_stays_live_while_a_huge_one_catches_up() -> Result<()> {
    let setup = Setup {
        namespaces: &["ns1", "ns2"],
        ..Setup::default()
    };
    let mut pair = pair_with(&setup, 10)?;
    replace(&pair.provider, "dynamic.toml", RATE.0, RATE.1)?;
    pair.provider.start()?;
    let huge = fill(&pair.provider, BEHIND)?;
    pair.receiver.start()?;
    for namespace in ["ns1", "ns2"] {
        wait_durable(&pair.receiver, namespace, 0)?;
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..LIVE {
        for namespace in ["ns1", "ns2"] {
            let height = one_block(&pair.provider, namespace)?;
            let made = Instant::now();
            wait_durable(&pair.receiver, namespace, height)?;
            slowest = slowest.max(made.elapsed());
        }
    }
    let (status, other) = (pair.receiver.status()?, pair.provider.status()?);
    let caught_up = durable(&status, "global");
    ensure!(
        caught_up.is_some_and(|height| height > 0 && height < huge),
        "the huge one is to be under way still: {caught_up:?} of {huge}"
    );
    ensure!(slowest < LIVE_WITHIN, "a live block took {slowest:?}: {status} {other}");
    println!("the slowest of {LIVE} live blocks took {slowest:?}, beside {caught_up:?} of {huge}");
    pair.provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "0"])?;
    wait_durable(&pair.receiver, "global", huge)?;
    pair.provider.wait_normal()?;
    pair.receiver.verify()
}

/// A megabyte a second.
const MEGABYTE: (&str, &str) = ("max_rate = 0", "max_rate = \"1mb\"");

/// What was sent took no less time than the rate allows; `spare`: bytes of which the bound is forgiving.
fn took_its_time(since: Instant, bytes: usize, spare: usize) -> Result<()> {
    let (took, least) = (since.elapsed(), Duration::from_millis((bytes - spare) as u64 / 1000));
    println!("{bytes} bytes took {took:?}, and at least {least:?} were due");
    ensure!(took >= least, "{bytes} bytes took {took:?} at a megabyte a second");
    Ok(())
}

fn filled(node: &Node, names: &[&str], blocks: usize) -> Result<usize> {
    for name in names {
        fill_of(&node.rpc().namespace(name), blocks)?;
    }
    Ok(names.len() * blocks * (200 << 10))
}

#[test]
fn the_rate_is_that_of_all_namespaces_together() -> Result<()> {
    let names = ["global", "ns1", "ns2"];
    let setup = Setup {
        namespaces: &names[1..],
        ..Setup::default()
    };
    let mut pair = pair_with(&setup, 10)?;
    for name in &names[1..] {
        replace(&pair.provider, &format!("{name}/ns_static.toml"), BATCH.0, BATCH.1)?;
    }
    replace(&pair.provider, "dynamic.toml", MEGABYTE.0, MEGABYTE.1)?;
    pair.provider.start()?;
    let bytes = filled(&pair.provider, &names, 12)?;
    let since = Instant::now();
    pair.receiver.start()?;
    for name in names {
        wait_durable(&pair.receiver, name, 12)?;
    }
    took_its_time(since, bytes, 3 * (400 << 10))?;
    pair.provider.wait_normal()?;
    Ok(())
}

/// More than send their backlogs at once.
const MANY: [&str; 12] = [
    "global", "ns1", "ns2", "ns3", "ns4", "ns5", "ns6", "ns7", "ns8", "ns9", "ns10", "ns11",
];
/// Blocks of 200 KiB of each.
const EACH: usize = 5;

/// A pair of them, whose large transactions are a block each, with this rate.
fn many(rate: Option<(&str, &str)>) -> Result<Pair> {
    let setup = Setup {
        namespaces: &MANY[1..],
        ..Setup::default()
    };
    let pair = pair_with(&setup, 10)?;
    for name in &MANY[1..] {
        replace(&pair.provider, &format!("{name}/ns_static.toml"), BATCH.0, BATCH.1)?;
    }
    if let Some((before, after)) = rate {
        replace(&pair.provider, "dynamic.toml", before, after)?;
    }
    Ok(pair)
}

#[test]
fn many_namespaces_send_their_backlogs_in_turn_and_none_is_left_behind() -> Result<()> {
    let mut pair = many(Some(MEGABYTE))?;
    pair.provider.start()?;
    filled(&pair.provider, &MANY, EACH)?;
    pair.receiver.start()?;
    let all = |status: &Value| MANY.map(|name| durable(status, name).unwrap_or(0));
    let half = (MANY.len() * EACH / 2) as u64;
    let half = pair
        .receiver
        .wait_status("half of it is here", Duration::from_secs(60), |status| {
            all(status).iter().sum::<u64>() >= half
        })?;
    println!("half of it: {:?}", all(&half));
    ensure!(all(&half).iter().all(|height| *height > 0), "left behind: {half}");
    // Each has a block of it in more than two seconds: what holds it back is named, nothing is called stalled, or asked for again.
    let (ours, theirs) = (codes(&half), codes(&pair.provider.status()?));
    for codes in [ours, theirs] {
        ensure!(
            codes.contains("rate-limited") && !codes.contains("stream-stalled"),
            "{codes:?}"
        );
    }
    pair.provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "0"])?;
    for name in MANY {
        wait_durable(&pair.receiver, name, EACH as u64)?;
    }
    pair.provider.wait_normal()?;
    pair.receiver.verify()
}

/// A record of 200 KiB takes two seconds, and twenty-four of a namespace's share: longer than anybody may borrow.
const TIGHT: (&str, &str) = ("max_rate = 0", "max_rate = \"100kb\"");

#[test]
fn the_newest_blocks_of_one_pass_the_backlogs_of_many_under_a_tight_rate() -> Result<()> {
    let mut pair = many(Some(TIGHT))?;
    pair.provider.start()?;
    filled(&pair.provider, &MANY[1..], EACH)?;
    pair.receiver.start()?;
    wait_durable(&pair.receiver, "global", 0)?;
    wait_durable(&pair.receiver, "ns1", 1)?;
    let (mut slowest, begun) = (Duration::ZERO, Instant::now());
    // The debts of all are run up first.
    while begun.elapsed() < Duration::from_secs(12) {
        let height = one_block(&pair.provider, "global")?;
        let made = Instant::now();
        wait_durable(&pair.receiver, "global", height)?;
        slowest = slowest.max(made.elapsed());
    }
    let status = pair.receiver.status()?;
    let caught_up: u64 = MANY[1..].iter().filter_map(|name| durable(&status, name)).sum();
    ensure!(
        caught_up < 11 * EACH as u64,
        "the backlogs are to be under way still: {status}"
    );
    ensure!(slowest < LIVE_WITHIN, "a live block took {slowest:?}: {status}");
    println!("the slowest live block took {slowest:?}, beside {caught_up} of a backlog");
    pair.provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "0"])?;
    for name in &MANY[1..] {
        wait_durable(&pair.receiver, name, EACH as u64)?;
    }
    pair.provider.wait_normal()?;
    pair.receiver.verify()
}

fn codes(status: &Value) -> BTreeSet<String> {
    let reasons = status["reasons"].as_array().into_iter().flatten();
    reasons
        .filter_map(|reason| reason["code"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn who_waits_while_others_fill_a_narrow_line_is_not_asked_for_again() -> Result<()> {
    let mut pair = many(None)?;
    let target = configured_p2p(pair.provider.root())?;
    let proxy = Proxy::start(&target, Dice::new(7))?;
    proxy.lead(pair.receiver.root(), &target)?;
    pair.provider.start()?;
    let bytes = filled(&pair.provider, &MANY, EACH)?;
    proxy.slow_to(NARROW / 4);
    pair.receiver.start()?;
    let count = |status: &Value| MANY.map(|name| durable(status, name).unwrap_or(0)).iter().sum::<u64>();
    let all = (MANY.len() * EACH) as u64;
    let since = Instant::now();
    let blamed = |status: &Value| {
        ["stream-stalled", "disk-stalled"]
            .iter()
            .any(|code| codes(status).contains(*code))
    };
    // A warning in the log that it was asked for again would fail the test by itself.
    while since.elapsed() < Duration::from_secs(12) {
        for node in [&pair.provider, &pair.receiver] {
            let status = node.status()?;
            ensure!(!blamed(&status), "{:?}: {status}", since.elapsed());
        }
    }
    let waits = pair.receiver.status()?;
    ensure!(count(&waits) < all, "it is to be under way still: {waits}");
    proxy.slow_to(4 * NARROW);
    pair.receiver
        .wait_status("all of it is here", Duration::from_secs(60), |status| {
            count(status) == all
        })?;
    println!("{bytes} bytes took {:?}", since.elapsed());
    proxy.slow_to(0);
    pair.provider.wait_normal()?;
    pair.receiver.verify()
}

#[test]
fn history_keeps_the_rate_too() -> Result<()> {
    let mut pair = pair_with(&Setup::default(), 10)?;
    let settings = "[strategy.chain-sync]\nsettings = { bootstrap_bytes_min = 0 }\n\n[strategy]\n";
    replace(&pair.receiver, "global/ns_static.toml", "[strategy]\n", settings)?;
    replace(&pair.provider, "dynamic.toml", MEGABYTE.0, MEGABYTE.1)?;
    pair.provider.start()?;
    let bytes = filled(&pair.provider, &["global"], 30)?;
    let since = Instant::now();
    pair.receiver.start()?;
    wait_history(&pair.receiver, "a snapshot", |from| from > 0)?;
    wait_history(&pair.receiver, "all is filled in", |from| from == 0)?;
    took_its_time(since, bytes, 3 * (200 << 10))?;
    pair.receiver.verify()
}

/// Bytes a second of a slow line.
const SLOW: u64 = 200 << 10;

/// Blocks that go as one frame of eight seconds: longer than what counts as silence.
const SLOW_BLOCKS: usize = 8;

#[test]
fn a_slow_line_carries_a_large_frame_in_one_session() -> Result<()> {
    let mut pair = pair_with(&Setup::default(), 10)?;
    let target = configured_p2p(pair.provider.root())?;
    let proxy = Proxy::start(&target, Dice::new(5))?;
    proxy.lead(pair.receiver.root(), &target)?;
    proxy.slow_to(SLOW);
    pair.provider.start()?;
    let height = fill(&pair.provider, SLOW_BLOCKS)?;
    pair.receiver.start()?;
    let session = |status: &Value| status["peer"]["since"].as_str().map(str::to_owned);
    let status = pair
        .receiver
        .wait_status("a session", Duration::from_secs(30), |status| session(status).is_some())?;
    wait_durable(&pair.receiver, "global", height)?;
    let after = pair.receiver.status()?;
    ensure!(
        session(&after) == session(&status),
        "one session carries it all: {status} {after}"
    );
    proxy.slow_to(0);
    pair.provider.wait_normal()?;
    pair.receiver.verify()
}

/// Bytes a second of a line on which a large backlog takes a while.
const NARROW: u64 = 1 << 20;

#[test]
fn a_backlog_on_a_narrow_line_holds_up_neither_a_live_namespace_nor_a_change() -> Result<()> {
    let setup = Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    };
    let mut pair = pair_with(&setup, 10)?;
    let target = configured_p2p(pair.provider.root())?;
    let proxy = Proxy::start(&target, Dice::new(6))?;
    proxy.lead(pair.receiver.root(), &target)?;
    pair.provider.start()?;
    let huge = fill(&pair.provider, 2 * BEHIND)?;
    proxy.slow_to(NARROW);
    pair.receiver.start()?;
    wait_durable(&pair.receiver, "ns1", 0)?;
    wait_durable(&pair.receiver, "global", 1)?;
    let mut slowest = Duration::ZERO;
    for _ in 0..LIVE / 2 {
        let height = one_block(&pair.provider, "ns1")?;
        let made = Instant::now();
        wait_durable(&pair.receiver, "ns1", height)?;
        slowest = slowest.max(made.elapsed());
    }
    // The operator's remedy reaches both ends while the backlog lasts.
    let change = [
        "config",
        "set",
        "dynamic.toml",
        "cvp.max_rate",
        "900kb",
        "--must-replicate",
    ];
    let (code, answer) = pair.provider.json(&change)?;
    let caught_up = durable(&pair.receiver.status()?, "global");
    ensure!(
        caught_up.is_some_and(|height| height < huge),
        "the backlog is to be under way still: {caught_up:?} of {huge}"
    );
    ensure!(code == 0, "{answer}");
    ensure!(slowest < LIVE_WITHIN, "a live block took {slowest:?}");
    println!("the slowest live block took {slowest:?}, beside {caught_up:?} of {huge}");
    proxy.slow_to(0);
    pair.provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "0"])?;
    wait_durable(&pair.receiver, "global", huge)?;
    pair.provider.wait_normal()?;
    pair.receiver.verify()
}
