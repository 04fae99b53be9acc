//! What a standby costs its provider: the rate of full blocks with one attached beside the rate without. Each side has a processor of its
//! own; the client shares the standby's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::load::{BLOCK_TRANSACTIONS, Client, Load, Pace, Wallet};
use super::nodes::{self, Node, pause};
use super::report::Series;
use super::{Bench, catch_up, chain};

/// Seconds of a timed run, unless asked for otherwise.
const SECONDS: u64 = 8;
/// Blocks made before the clock starts.
const WARM_UP_BLOCKS: f64 = 10.0;
/// Time for these.
const WARM_UP_MAX: Duration = Duration::from_secs(60);
/// Full blocks a second that are signed for in advance; a machine that makes more starves, and the run says so.
const RATE_MAX: u64 = 60;
/// Blocks' worth of transfers that the client is ahead of the blocks.
const AHEAD_BLOCKS: u64 = 16;
/// Between two looks at how many blocks there are.
const LOOK: Duration = Duration::from_millis(50);
/// Record of the history that a standby catches up with meanwhile, bytes.
const RECORD_BYTES: u64 = 64 << 10;
/// The provider's processor, and the one of everything else.
pub const PROVIDER_CORE: Option<usize> = Some(0);
/// See [`PROVIDER_CORE`].
pub const OTHER_CORE: Option<usize> = Some(1);

/// How the standby is while the provider makes blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standby {
    /// There is none.
    Detached,
    /// It follows.
    CaughtUp,
    /// It copies the history.
    CatchingUp,
    /// Its process stands still.
    Stalled,
}

const CASES: [(&str, Standby); 3] = [
    ("caught-up", Standby::CaughtUp),
    ("catching-up", Standby::CatchingUp),
    ("stalled", Standby::Stalled),
];

/// Runs the scenario.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let history = catch_up::chain_of(bench, RECORD_BYTES)?;
    for (name, standby) in CASES {
        let (mut with, mut without) = (Series::default(), Series::default());
        let from = (standby == Standby::CatchingUp).then_some(history.root.as_path());
        for number in 1..=bench.options.runs {
            bench
                .report
                .note(&format!("overhead {name}: run {number} of {}", bench.options.runs));
            without.push(rate(bench, Standby::Detached, from)?);
            with.push(rate(bench, standby, from)?);
        }
        bench
            .report
            .compared(name, "blocks_per_second", "blocks/s", &with, ("detached", &without));
    }
    Ok(())
}

/// A pair in fresh directories.
pub struct PairOfNodes {
    /// The producer.
    pub provider: Node,
    /// Its standby, when there is one.
    pub receiver: Option<Node>,
    roots: [PathBuf; 2],
}

impl PairOfNodes {
    /// Starts a provider (over a copy of `history`'s root, if given), and a standby as wanted.
    pub fn start(bench: &Bench<'_>, standby: Standby, history: Option<&Path>) -> Result<PairOfNodes> {
        PairOfNodes::start_prepared(bench, standby, history, |_| Ok(()))
    }

    /// As [`PairOfNodes::start`], after `prepare` of the provider's root.
    pub fn start_prepared(
        bench: &Bench<'_>,
        standby: Standby,
        history: Option<&Path>,
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PairOfNodes> {
        let tls = nodes::certificates(&bench.options.directory)?;
        let roots = [bench.scratch.0.join("provider"), bench.scratch.0.join("receiver")];
        for root in &roots {
            let _ = std::fs::remove_dir_all(root);
        }
        match history {
            Some(history) => chain::copy_root(history, &roots[0])?,
            None => nodes::init_provider(&roots[0], &tls)?,
        }
        prepare(&roots[0])?;
        let provider = Node::start(&roots[0], PROVIDER_CORE)?;
        let mut pair = PairOfNodes {
            provider,
            receiver: None,
            roots,
        };
        if standby != Standby::Detached {
            nodes::init_receiver(&pair.roots[1], &tls, &pair.provider)?;
            pair.receiver = Some(Node::start(&pair.roots[1], OTHER_CORE)?);
        }
        if matches!(standby, Standby::CaughtUp | Standby::Stalled) {
            pair.provider.wait("the pair is normal", |status| status.normal)?;
        }
        Ok(pair)
    }

    /// Ends both and removes what they wrote.
    pub fn end(self) -> Result<()> {
        if let Some(receiver) = self.receiver {
            receiver.kill()?;
        }
        self.provider.kill()?;
        for root in self.roots.iter().filter(|root| root.exists()) {
            std::fs::remove_dir_all(root)?;
        }
        Ok(())
    }
}

/// Full blocks a second of a provider that always has transfers for some more, and takes in as many as it puts into blocks.
pub fn rate(bench: &Bench<'_>, standby: Standby, history: Option<&Path>) -> Result<f64> {
    let seconds = bench.seconds(SECONDS);
    let requests = Wallet::funded()?.requests(usize::try_from(seconds.saturating_add(2) * RATE_MAX)?);
    let pair = PairOfNodes::start(bench, standby, history)?;
    if let (Standby::Stalled, Some(receiver)) = (standby, &pair.receiver) {
        receiver.freeze()?;
    }
    let mut client = Client::open(&pair.provider.jsonrpc)?;
    let start = blocks(&mut client)?;
    let made = Arc::new(AtomicU64::new(0));
    let pace = Pace::Ahead(AHEAD_BLOCKS, Arc::clone(&made));
    let mut load = Load::start(&pair.provider.jsonrpc, requests, pace, OTHER_CORE)?;
    let mut look = || -> Result<f64> {
        pause(LOOK);
        let blocks = blocks(&mut client)? - start;
        made.store(blocks as u64, Ordering::Relaxed);
        Ok(blocks)
    };
    let mut begun = Instant::now();
    let mut before = 0.0;
    while before < WARM_UP_BLOCKS {
        load.check()?;
        ensure!(begun.elapsed() < WARM_UP_MAX, "the provider makes no blocks");
        before = look()?;
    }
    begun = Instant::now();
    let (mut after, mut elapsed) = (before, 0.0);
    while elapsed < seconds as f64 {
        after = look()?;
        elapsed = begun.elapsed().as_secs_f64();
    }
    ensure!(
        load.left() > 0,
        "the client ran out of signed transfers: lower --seconds"
    );
    load.stop()?;
    pair.end()?;
    Ok((after - before) / elapsed)
}

/// Full blocks' worth of transfers in the provider's visible blocks: one that is not full counts for what it holds.
fn blocks(client: &mut Client) -> Result<f64> {
    let answer = client.call("tx_getTransactionsCount", &json!([]))?;
    let count = answer["result"]["count"].as_str().context("a count")?;
    Ok(u64::from_str_radix(count.trim_start_matches("0x"), 16)? as f64 / BLOCK_TRANSACTIONS as f64)
}
