//! The chains that are copied: made once by the node's own pool, executor and ledger, and kept for the next run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use cvp_core::config::Value as Setting;
use cvp_core::record::{parse, record_length};
use cvp_core::types::Height;
use serde::{Deserialize, Serialize};

use super::Bench;
use super::load::{BLOCK_TRANSACTIONS, Wallet};
use super::nodes::{self, Node};
use super::report::Report;
use crate::assembly;
use crate::config::Root;
use crate::namespace::Chain;
use crate::replication::ControlFiles;

/// Changes with what a cached chain must be made of.
const FORMAT: u32 = 2;
/// Transactions offered at one time while a chain is made.
const OFFERS: usize = 128;
/// Accounts that the blocks of padded records pay in turn.
const PADDED_ACCOUNTS: u64 = 1_000;
/// Bytes read at once.
const READ_BYTES: usize = 8 << 20;
/// What a segment begins with, before its records.
const SEGMENT_HEADER_BYTES: usize = 64;
/// What says that a chain is whole.
const DONE: &str = "chain.json";

/// A chain on disk: the root of a provider that holds it.
#[derive(Clone, Debug)]
pub struct Made {
    /// The provider's root.
    pub root: PathBuf,
    /// Height of its tip.
    pub tip: Height,
    /// Bytes of its records.
    pub bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Done {
    tip: Height,
    bytes: u64,
}

impl Made {
    /// The segment files, in order.
    pub fn segments(&self) -> Result<Vec<PathBuf>> {
        segments_of(&self.root)
    }
}

/// Mean bytes of the records above genesis in the newest segment of `global`, of a running node too.
pub fn record_bytes_mean(root: &Path) -> Result<usize> {
    let newest = segments_of(root)?.pop().context("a chain without segments")?;
    let segment = std::fs::read(&newest)?;
    let (mut at, mut bytes, mut records) = (SEGMENT_HEADER_BYTES, 0, 0_usize);
    while let Some(length) = segment.get(at..).and_then(|rest| record_length(rest).ok()).flatten() {
        if at > SEGMENT_HEADER_BYTES {
            (bytes, records) = (bytes + length, records + 1);
        }
        at += length;
    }
    bytes.checked_div(records).context("no block was made")
}

fn segments_of(root: &Path) -> Result<Vec<PathBuf>> {
    let log = root.join("namespaces/global/data/log");
    let entries = std::fs::read_dir(&log).with_context(|| format!("list {}", log.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    Ok(paths)
}

/// What a chain is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Draft {
    /// So many blocks of one transaction, with records of about so many bytes.
    Blocks { blocks: u64, record_bytes: u64 },
    /// So many accounts, each paid once, in full blocks.
    Accounts(u64),
    /// As `Blocks`, shared among so many namespaces.
    Partitions {
        namespaces: u64,
        blocks: u64,
        record_bytes: u64,
    },
}

impl Draft {
    fn name(self) -> String {
        match self {
            Draft::Blocks { blocks, record_bytes } => format!("chain-v{FORMAT}-{blocks}x{record_bytes}"),
            Draft::Accounts(accounts) => format!("accounts-v{FORMAT}-{accounts}"),
            Draft::Partitions {
                namespaces,
                blocks,
                record_bytes,
            } => format!("partitions-v{FORMAT}-{namespaces}-{blocks}x{record_bytes}"),
        }
    }

    /// The namespaces beside `global`.
    fn namespaces(self) -> Vec<String> {
        match self {
            Draft::Partitions { namespaces, .. } => partitions(namespaces),
            _ => Vec::new(),
        }
    }

    /// What each namespace's chain is made of.
    fn share(self) -> Draft {
        match self {
            Draft::Partitions {
                namespaces,
                blocks,
                record_bytes,
            } => Draft::Blocks {
                blocks: blocks / namespaces.max(1),
                record_bytes,
            },
            whole => whole,
        }
    }

    fn block_transactions(self) -> u64 {
        match self {
            Draft::Blocks { .. } | Draft::Partitions { .. } => 1,
            Draft::Accounts(_) => BLOCK_TRANSACTIONS as u64,
        }
    }
}

/// A chain of `blocks` blocks whose records have about `record_bytes` bytes: the cached one, else made now.
pub fn chain(bench: &Bench<'_>, blocks: u64, record_bytes: u64) -> Result<Made> {
    make(bench, Draft::Blocks { blocks, record_bytes })
}

/// A chain that has paid `accounts` accounts: the cached one, else made now.
pub fn accounts(bench: &Bench<'_>, accounts: u64) -> Result<Made> {
    make(bench, Draft::Accounts(accounts))
}

/// `namespaces` chains that hold `blocks` blocks together: the cached ones, else made now. `tip` is that of each.
pub fn partitioned(bench: &Bench<'_>, namespaces: u64, blocks: u64, record_bytes: u64) -> Result<Made> {
    make(
        bench,
        Draft::Partitions {
            namespaces,
            blocks,
            record_bytes,
        },
    )
}

/// Names of the namespaces beside `global` where there are `count` in all.
pub fn partitions(count: u64) -> Vec<String> {
    (1..count).map(|number| format!("ns{number}")).collect()
}

fn make(bench: &Bench<'_>, draft: Draft) -> Result<Made> {
    let (directory, report) = (&bench.options.directory, &*bench.report);
    let root = directory.join(draft.name());
    if let Ok(text) = std::fs::read_to_string(root.join(DONE)) {
        let done: Done =
            serde_json::from_str(&text).with_context(|| format!("remove {} and start again", root.display()))?;
        return Ok(Made {
            root,
            tip: done.tip,
            bytes: done.bytes,
        });
    }
    report.note(&match draft {
        Draft::Blocks { blocks, record_bytes } => format!(
            "making a chain of {blocks} blocks of {record_bytes} bytes, once; it is kept in {}",
            root.display()
        ),
        Draft::Accounts(accounts) => format!(
            "making a chain with {accounts} accounts, once, in some minutes; it is kept in {}",
            root.display()
        ),
        Draft::Partitions { namespaces, blocks, .. } => format!(
            "making {namespaces} chains of {blocks} blocks together, once; they are kept in {}",
            root.display()
        ),
    });
    let _ = std::fs::remove_dir_all(&root);
    let tls = nodes::certificates(directory)?;
    // What an interruption leaves goes with the run's directory.
    let making = bench.scratch.0.join(draft.name());
    nodes::init_provider_of(&making, &tls, &draft.namespaces())?;
    // The first start draws the identity under which the blocks are made.
    Node::start(&making, None)?.stop()?;
    let (tip, bytes) = fill(&making, report, draft)?;
    let done = Done { tip, bytes };
    std::fs::write(making.join(DONE), serde_json::to_vec(&done)?)?;
    std::fs::rename(&making, &root).with_context(|| format!("put the chain in its place, {}", root.display()))?;
    Ok(Made { root, tip, bytes })
}

fn batch_size(root: &Path, namespace: &str, transactions: u64) -> Result<()> {
    let (size, file) = (
        Setting::Number(i64::try_from(transactions)?),
        format!("{namespace}/ns_dynamic.toml"),
    );
    nodes::configure(root, &file, "consensus.pool.batch_size", size)
}

/// Makes the blocks; answers the tip of each chain and the bytes of all records.
fn fill(root: &Path, report: &Report, draft: Draft) -> Result<(Height, u64)> {
    let namespaces: Vec<String> = std::iter::once("global".to_owned()).chain(draft.namespaces()).collect();
    for namespace in &namespaces {
        batch_size(root, namespace, draft.block_transactions())?;
    }
    let place = Root::new(root);
    let loaded = place.load()?;
    let identity = ControlFiles::new(place.system())
        .identity()?
        .context("the node has no identity")?;
    let incarnation = identity.lineage.current().context("the node has no incarnation")?;
    let chains = assembly::open_all(&place, &loaded, &assembly::Held::new())?.chains;
    let hostname = loaded.config.dynamic.hostname.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (mut bytes, mut tip) = (0, 0);
    for namespace in &namespaces {
        let chain = chains
            .get(namespace)
            .with_context(|| format!("there is no namespace {namespace}"))?;
        chain.begin_making(hostname.clone(), incarnation, None)?;
        // Each chain has its own funds.
        let wallet = Arc::new(Wallet::funded()?);
        let made = runtime.block_on(offer_all(&chain, &wallet, report, draft.share()));
        chain.close();
        made?;
        tip = chain.ledger().tips().durable.height;
        bytes += record_bytes_of(&chain, tip)?;
        batch_size(root, namespace, BLOCK_TRANSACTIONS as u64)?;
    }
    Ok((tip, bytes))
}

fn record_bytes_of(chain: &Chain, tip: Height) -> Result<u64> {
    let (mut bytes, mut next) = (0, 0);
    while next <= tip {
        let run = chain.ledger().read(next, tip, READ_BYTES)?;
        bytes += run.bytes.len() as u64;
        next = run.last.height + 1;
    }
    Ok(bytes)
}

async fn offer_all(chain: &Arc<Chain>, wallet: &Arc<Wallet>, report: &Report, draft: Draft) -> Result<()> {
    match draft {
        Draft::Blocks { blocks, record_bytes } => {
            let extra = padding(chain, wallet, record_bytes).await?;
            offer_many(
                chain,
                wallet,
                report,
                blocks.saturating_sub(2),
                move |wallet, number| wallet.transfer_to(number % PADDED_ACCOUNTS, &extra),
            )
            .await?;
            let durable = chain.tips().durable.height;
            ensure!(durable == blocks, "the chain ends at {durable}");
            Ok(())
        }
        Draft::Partitions { .. } => Ok(()),
        Draft::Accounts(accounts) => {
            offer_many(chain, wallet, report, accounts, |wallet, number| {
                wallet.transfer_to(number, "")
            })
            .await
        }
    }
}

/// Two blocks tell what a byte of evidence costs in a record; answers the evidence that a record of `record_bytes` needs.
async fn padding(chain: &Arc<Chain>, wallet: &Wallet, record_bytes: u64) -> Result<Arc<str>> {
    offer(chain, &wallet.transfer("")).await?;
    offer(chain, &wallet.transfer(&"x".repeat(1000))).await?;
    applied(chain, 2).await?;
    let length = |height| -> Result<u64> {
        Ok(chain
            .ledger()
            .record(height)?
            .context("a block without a record")?
            .len() as u64)
    };
    let (bare, with) = (length(1)?, length(2)?);
    let extra = record_bytes.saturating_sub(bare) * 1000 / with.saturating_sub(bare).max(1);
    Ok("x".repeat(usize::try_from(extra)?).into())
}

/// Offers `count` transactions, and waits until a block holds each of them.
async fn offer_many(
    chain: &Arc<Chain>,
    wallet: &Arc<Wallet>,
    report: &Report,
    count: u64,
    draw: impl Fn(&Wallet, u64) -> serde_json::Value + Send + Sync + 'static,
) -> Result<()> {
    let (before, mut tips) = (held(chain)?, chain.watch_tips());
    let (next, draw) = (Arc::new(AtomicU64::new(0)), Arc::new(draw));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..OFFERS {
        let (chain, wallet) = (Arc::clone(chain), Arc::clone(wallet));
        let (next, draw) = (Arc::clone(&next), Arc::clone(&draw));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                offer(&chain, &draw(&wallet, number)).await?;
            }
        });
    }
    for tenth in 1..=10 {
        while held(chain)? < before + count * tenth / 10 {
            tips.changed().await?;
        }
        report.note(&format!("  {} %", tenth * 10));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Transactions in the chain's visible blocks.
fn held(chain: &Chain) -> Result<u64> {
    let height = chain.tips().applied.height;
    let record = chain.ledger().record(height)?.context("a block without a record")?;
    let header = parse(&record).map_err(anyhow::Error::new)?.header().clone();
    Ok(header.valid_total + header.invalid_total)
}

async fn offer(chain: &Chain, transaction: &serde_json::Value) -> Result<()> {
    loop {
        match chain.submit(transaction).await {
            Ok(_) => return Ok(()),
            // The pool is full: blocks are being made of it.
            Err(error) if error == crate::namespace::SubmitError::busy() => tokio::task::yield_now().await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn applied(chain: &Chain, height: Height) -> Result<()> {
    chain
        .watch_tips()
        .wait_for(|tips| tips.applied.height >= height)
        .await?;
    Ok(())
}

/// Copies a root (while its node is stopped), so that a run may change it.
pub fn copy_root(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_root(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
