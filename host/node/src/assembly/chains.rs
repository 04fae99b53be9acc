//! Opening a node's chains: genesis, store, options, as its configuration says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cvp_core::chain::genesis::{Genesis, genesis};
use cvp_core::config::{GLOBAL, Loaded, NsConfig, PairRole, Problem};
use cvp_core::ledger::LedgerError;
use cvp_core::record;
use cvp_core::types::{Digest, Namespace, NodeRole, Refusal};
use cvp_ledger::{Inspection, Shared, Store, StoreOptions};
use parking_lot::Mutex;

use crate::config::Root;
use crate::consensus::OrderOptions;
use crate::ipc::Failure;
use crate::namespace::{Chain, ChainOptions, ChainSet, Verifier};

/// Recent records kept in memory for the live tails, all namespaces of a node together, bytes.
const RINGS_BYTES: usize = 64 << 20;

/// The same of one namespace: at least, and at most.
const RING_BYTES: (usize, usize) = (512 << 10, 32 << 20);
/// Values of the state that stay in memory of one namespace, least and most.
const RECENT_BYTES: (usize, usize) = (256 << 10, 8 << 20);

/// Chains opened at a time: most of it is waiting for the disk.
const OPENING: usize = 8;

/// Namespaces that are configured and do not run, each with its reason.
pub type Held = BTreeMap<Namespace, Refusal>;

/// A node's chains after its start.
pub struct Opened {
    /// What runs.
    pub chains: ChainSet,
    /// What does not.
    pub held: Held,
    /// Opens further ones.
    pub opener: Opener,
}

/// Opens chains with what all chains of a node share.
#[derive(Clone)]
pub struct Opener {
    root: Root,
    shared: Shared,
    verifier: Verifier,
}

/// Opens every configured namespace; those of `kept_back` are held as they are. One that cannot be opened is held with its reason, and the others go on; `global` must open.
///
/// # Errors
/// The system gave no threads, or `global` cannot be opened.
pub fn open_all(root: &Root, loaded: &Loaded, kept_back: &Held) -> Result<Opened, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let verifier = Verifier::start(threads)
        .map_err(|error| Failure::failed("no-thread", error.to_string(), "raise the limit of threads"))?;
    let opener = Opener {
        root: root.clone(),
        shared: Shared::default(),
        verifier,
    };
    let chains = ChainSet::new();
    let told = match loaded.config.role() {
        PairRole::Provider => bad_files,
        PairRole::Receiver => bad_files_here,
    };
    let mut held: Held = loaded
        .held
        .iter()
        .map(|(namespace, problems)| (namespace.clone(), told(problems)))
        .collect();
    held.extend(kept_back.clone());
    let mut broken = None;
    for (namespace, opened) in opener.open_side_by_side(&loaded.config.namespaces) {
        match opened {
            Ok(chain) => {
                chains.insert(chain);
            }
            Err(failure) if namespace.as_str() == GLOBAL => broken = Some(failure),
            Err(failure) => {
                held.insert(namespace, failure.to_refusal());
            }
        }
    }
    if let Some(failure) = broken {
        close_all(&chains);
        return Err(failure);
    }
    for (namespace, refusal) in &held {
        tracing::error!(%namespace, "namespace {namespace} does not run: {refusal}");
    }
    Ok(Opened { chains, held, opener })
}

/// Why a namespace does not start with its files.
pub(super) fn bad_files(problems: &[Problem]) -> Refusal {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let hint = "correct it, then start the namespace again";
    Refusal::new("bad-configuration", lines.join("; "), hint)
}

/// The same on a standby, which aligns itself again and again.
pub(super) fn bad_files_here(problems: &[Problem]) -> Refusal {
    Refusal {
        hint: "correct it; the standby tries again by itself within 30 s".into(),
        ..bad_files(problems)
    }
}

/// Closes them; each finishes what it writes.
pub(super) fn close_all(chains: &ChainSet) {
    std::thread::scope(|scope| {
        for chain in chains.all() {
            scope.spawn(move || chain.close());
        }
    });
}

impl Opener {
    fn open_side_by_side(
        &self,
        namespaces: &BTreeMap<Namespace, NsConfig>,
    ) -> BTreeMap<Namespace, Result<Arc<Chain>, Failure>> {
        let left = Mutex::new(namespaces.iter());
        let opened = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..OPENING.min(namespaces.len()) {
                scope.spawn(|| {
                    loop {
                        let Some((namespace, ns)) = left.lock().next() else {
                            return;
                        };
                        let chain = self.open(namespace, ns, namespaces.len());
                        opened.lock().insert(namespace.clone(), chain);
                    }
                });
            }
        });
        opened.into_inner()
    }

    /// Opens a namespace, one `among` so many of the node; its store is made from its genesis at the first start.
    ///
    /// # Errors
    /// Its genesis, its store, or the system's threads.
    pub fn open(&self, namespace: &Namespace, ns: &NsConfig, among: usize) -> Result<Arc<Chain>, Failure> {
        let share = RINGS_BYTES / among.max(1);
        let options = StoreOptions {
            shared: self.shared.clone(),
            ring_bytes: share.clamp(RING_BYTES.0, RING_BYTES.1),
            recent_bytes: (share / 4).clamp(RECENT_BYTES.0, RECENT_BYTES.1),
            ..StoreOptions::default()
        };
        let store = open_store(&self.root, namespace, ns, options)?;
        let chain = Chain::open(chain_options(namespace, ns), Arc::new(store), self.verifier.clone());
        chain
            .map_err(|error| Failure::from_refusal(&error.refusal()))
            .map_err(as_failed)
    }
}

/// Hash of the record 0 that a namespace's files make.
pub(super) fn genesis_hash(namespace: &Namespace, ns: &NsConfig) -> Result<Digest, Failure> {
    let bytes = genesis_record(namespace, ns)?;
    let parsed = record::parse(&bytes).map(|record| record.hash());
    parsed.map_err(|error| Failure::failed("internal", format!("the genesis record: {error}"), "report it"))
}

/// Whether the genesis file of a namespace, as `ns` has it, is that of the chain that begins with `here`.
///
/// # Errors
/// It is another's; or it makes none.
pub(super) fn check_genesis(namespace: &Namespace, ns: &NsConfig, here: &Digest) -> Result<(), Refusal> {
    let theirs = genesis_hash(namespace, ns).map_err(|failure| failure.to_refusal())?;
    if theirs == *here {
        return Ok(());
    }
    Err(Refusal::new(
        "diverged",
        other_genesis(namespace, here, &theirs),
        RESTORE,
    ))
}

/// What to do about a genesis file that is another chain's.
const RESTORE: &str = "put the file back as it was when the chain was made: it never changes after that";

fn other_genesis(namespace: &Namespace, here: &Digest, file: &Digest) -> String {
    format!(
        "configuration/{namespace}/ns_genesis.toml makes genesis {file}, and the chain of {namespace} here begins with {here}"
    )
}

/// Looks at the store of a stopped node, and changes nothing.
pub(super) fn inspect(root: &Root, namespace: &Namespace, ns: &NsConfig) -> Result<Inspection, Failure> {
    let record = genesis_record(namespace, ns)?;
    let data = root.namespace(namespace).join("data");
    Inspection::open(&data, namespace, &record).map_err(|error| opening_failure(namespace, ns, &error))
}

/// Opens the store of a namespace, made from its genesis at the first start.
fn open_store(root: &Root, namespace: &Namespace, ns: &NsConfig, options: StoreOptions) -> Result<Store, Failure> {
    let record = genesis_record(namespace, ns)?;
    let data = root.namespace(namespace).join("data");
    Store::open(&data, namespace, record, options).map_err(|error| opening_failure(namespace, ns, &error))
}

fn genesis_record(namespace: &Namespace, ns: &NsConfig) -> Result<Bytes, Failure> {
    let content = Genesis {
        ca_mode: ns.genesis.ca_mode.clone(),
        root_ca: ns.genesis.root_ca.clone(),
        alloc: ns.genesis.alloc.clone(),
        nodes: ns
            .genesis
            .nodes
            .iter()
            .map(|node| (node.hostname.to_string(), node.certificate.clone()))
            .collect(),
    };
    genesis(namespace, &content).map_err(|error| {
        Failure::failed(
            "bad-configuration",
            format!("configuration/{namespace}/ns_genesis.toml: {error}"),
            "correct it; after the first start it never changes",
        )
    })
}

/// What a chain goes by, as its files say.
pub(super) fn chain_options(namespace: &Namespace, ns: &NsConfig) -> ChainOptions {
    ChainOptions {
        order: OrderOptions {
            pool_size: ns.dynamic.pool_size,
            batch_size: ns.dynamic.batch_size,
            batch_timeout: Duration::from_millis(ns.fixed.solo_batch_ms),
            tolerance: Duration::from_millis(ns.fixed.pool_tolerance_ms),
        },
        active_time: Duration::from_millis(ns.fixed.tx_active_ms),
        drift_time: Duration::from_millis(ns.fixed.tx_drift_ms),
        index: ns.fixed.index.clone(),
        ..ChainOptions::new(namespace.clone(), ns.dynamic.role)
    }
}

/// Why a chain does not open with its files.
fn opening_failure(namespace: &Namespace, ns: &NsConfig, error: &LedgerError) -> Failure {
    let LedgerError::Diverged {
        height: 0,
        ours,
        theirs,
    } = error
    else {
        return ledger_failure(namespace, error);
    };
    let help = match ns.dynamic.role {
        NodeRole::Cvp => format!(
            "{RESTORE}; nothing was overwritten. If this standby is to copy another chain, run `cvp clear` before its next start"
        ),
        _ => format!("{RESTORE}; nothing was overwritten"),
    };
    Failure::failed(
        &error.refusal().code,
        format!("namespace {namespace}: {}", other_genesis(namespace, ours, theirs)),
        help,
    )
}

pub(super) fn ledger_failure(namespace: &Namespace, error: &LedgerError) -> Failure {
    let refusal = error.refusal();
    Failure::failed(&refusal.code, format!("namespace {namespace}: {error}"), refusal.hint)
}

/// A failure of the start is no refusal of a command.
fn as_failed(failure: Failure) -> Failure {
    Failure {
        exit: crate::ipc::Exit::Failed,
        ..failure
    }
}
