//! The chains that are copied: made once by the node's own pool, executor and ledger, and kept for the next run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use cvp_core::config::Value as Setting;
use cvp_core::types::Height;
use serde::{Deserialize, Serialize};

use super::load::Wallet;
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
/// Bytes read at once.
const READ_BYTES: usize = 8 << 20;
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
        let log = self.root.join("namespaces/global/data/log");
        let entries = std::fs::read_dir(&log).with_context(|| format!("list {}", log.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        paths.sort();
        Ok(paths)
    }
}

/// A chain of `blocks` blocks whose records have about `record_bytes` bytes: the cached one, else made now.
pub fn chain(directory: &Path, report: &Report, blocks: u64, record_bytes: u64) -> Result<Made> {
    let root = directory.join(format!("chain-v{FORMAT}-{blocks}x{record_bytes}"));
    if let Ok(text) = std::fs::read_to_string(root.join(DONE)) {
        let done: Done =
            serde_json::from_str(&text).with_context(|| format!("remove {} and start again", root.display()))?;
        return Ok(Made {
            root,
            tip: done.tip,
            bytes: done.bytes,
        });
    }
    report.note(&format!(
        "making a chain of {blocks} blocks of {record_bytes} bytes, once; it is kept in {}",
        root.display()
    ));
    let _ = std::fs::remove_dir_all(&root);
    let tls = nodes::certificates(directory)?;
    nodes::init_provider(&root, &tls)?;
    // The first start draws the identity under which the blocks are made.
    Node::start(&root, None)?.stop()?;
    let bytes = fill(&root, report, blocks, record_bytes)?;
    let done = Done { tip: blocks, bytes };
    std::fs::write(root.join(DONE), serde_json::to_vec(&done)?)?;
    Ok(Made {
        root,
        tip: blocks,
        bytes,
    })
}

/// Makes the blocks; answers the bytes of all records.
fn fill(root: &Path, report: &Report, blocks: u64, record_bytes: u64) -> Result<u64> {
    nodes::configure(
        root,
        "global/ns_dynamic.toml",
        "consensus.pool.batch_size",
        Setting::Number(1),
    )?;
    let place = Root::new(root);
    let loaded = place.load()?;
    let config = loaded.config.clone();
    let identity = ControlFiles::new(place.system())
        .identity()?
        .context("the node has no identity")?;
    let incarnation = identity.lineage.current().context("the node has no incarnation")?;
    let chains = assembly::open_all(&place, &loaded, &assembly::Held::new())?.chains;
    let chain = chains.get("global").context("there is no namespace global")?;
    chain.begin_making(config.dynamic.hostname.clone(), incarnation, None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let wallet = Arc::new(Wallet::funded()?);
    let made = runtime.block_on(offer_all(&chain, &wallet, report, blocks, record_bytes));
    chain.close();
    made?;
    nodes::configure(
        root,
        "global/ns_dynamic.toml",
        "consensus.pool.batch_size",
        Setting::Number(500),
    )?;
    let mut bytes = 0;
    let mut next = 0;
    while next <= blocks {
        let run = chain.ledger().read(next, blocks, READ_BYTES)?;
        bytes += run.bytes.len() as u64;
        next = run.last.height + 1;
    }
    Ok(bytes)
}

async fn offer_all(
    chain: &Arc<Chain>,
    wallet: &Arc<Wallet>,
    report: &Report,
    blocks: u64,
    record_bytes: u64,
) -> Result<()> {
    // Two blocks tell what a byte of evidence costs in a record.
    offer(chain, wallet, "").await?;
    offer(chain, wallet, &"x".repeat(1000)).await?;
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
    let extra: Arc<str> = "x".repeat(usize::try_from(extra)?).into();
    let left = Arc::new(AtomicU64::new(blocks.saturating_sub(2)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..OFFERS {
        let (chain, wallet, extra, left) = (
            Arc::clone(chain),
            Arc::clone(wallet),
            Arc::clone(&extra),
            Arc::clone(&left),
        );
        tasks.spawn(async move {
            let one_less = |left: u64| left.checked_sub(1);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
            {
                offer(&chain, &wallet, &extra).await?;
            }
            anyhow::Ok(())
        });
    }
    let mut tips = chain.watch_tips();
    for tenth in 1..=10 {
        tips.wait_for(|tips| tips.applied.height >= blocks * tenth / 10).await?;
        report.note(&format!("  {} %", tenth * 10));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    ensure!(
        chain.tips().durable.height == blocks,
        "the chain ends at {}",
        chain.tips().durable.height
    );
    Ok(())
}

async fn offer(chain: &Chain, wallet: &Wallet, extra: &str) -> Result<()> {
    let transaction = wallet.transfer(extra);
    loop {
        match chain.submit(&transaction).await {
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
