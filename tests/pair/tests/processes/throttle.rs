//! A link of a bounded rate, shared: a namespace that is long behind takes nothing from one that is live.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cvp_pair::pair::{Setup, durable, wait_durable};

use crate::bootstrap::{fill, pair_with, replace};
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
