//! Opening a node's chains: genesis, store, options, as its configuration says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cvp_core::chain::genesis::{Genesis, genesis};
use cvp_core::config::{NodeConfig, NsConfig};
use cvp_core::ledger::LedgerError;
use cvp_core::types::Namespace;
use cvp_ledger::{Inspection, Shared, Store, StoreOptions};

use crate::config::Root;
use crate::consensus::OrderOptions;
use crate::ipc::Failure;
use crate::namespace::{Chain, ChainOptions, ChainSet, Verifier};

/// Opens every configured namespace; all of them or none.
pub fn open_all(root: &Root, config: &NodeConfig) -> Result<ChainSet, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let verifier = Verifier::start(threads)
        .map_err(|error| Failure::failed("no-thread", error.to_string(), "raise the limit of threads"))?;
    let shared = Shared::default();
    let chains = ChainSet::new();
    for (namespace, ns) in &config.namespaces {
        let opened = open_one(root, namespace, ns, &shared, &verifier);
        match opened {
            Ok(chain) => {
                chains.insert(chain);
            }
            Err(failure) => {
                close_all(&chains);
                return Err(failure);
            }
        }
    }
    Ok(chains)
}

/// Closes them; each finishes what it writes.
pub(super) fn close_all(chains: &ChainSet) {
    std::thread::scope(|scope| {
        for chain in chains.all() {
            scope.spawn(move || chain.close());
        }
    });
}

fn open_one(
    root: &Root,
    namespace: &Namespace,
    ns: &NsConfig,
    shared: &Shared,
    verifier: &Verifier,
) -> Result<Arc<Chain>, Failure> {
    let options = StoreOptions {
        shared: shared.clone(),
        ..StoreOptions::default()
    };
    let store = open_store(root, namespace, ns, options)?;
    let chain = Chain::open(chain_options(namespace, ns), Arc::new(store), verifier.clone());
    chain
        .map_err(|error| Failure::from_refusal(&error.refusal()))
        .map_err(as_failed)
}

/// Looks at the store of a stopped node, and changes nothing.
pub(super) fn inspect(root: &Root, namespace: &Namespace, ns: &NsConfig) -> Result<Inspection, Failure> {
    let record = genesis_record(namespace, ns)?;
    let data = root.namespace(namespace).join("data");
    Inspection::open(&data, namespace, &record).map_err(|error| ledger_failure(namespace, &error))
}

/// Opens the store of a namespace, made from its genesis at the first start.
fn open_store(root: &Root, namespace: &Namespace, ns: &NsConfig, options: StoreOptions) -> Result<Store, Failure> {
    let record = genesis_record(namespace, ns)?;
    let data = root.namespace(namespace).join("data");
    Store::open(&data, namespace, record, options).map_err(|error| ledger_failure(namespace, &error))
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

fn chain_options(namespace: &Namespace, ns: &NsConfig) -> ChainOptions {
    ChainOptions {
        order: OrderOptions {
            pool_size: ns.dynamic.pool_size,
            batch_size: ns.dynamic.batch_size,
            batch_timeout: Duration::from_millis(ns.fixed.solo_batch_ms),
            tolerance: Duration::from_millis(ns.fixed.pool_tolerance_ms),
        },
        active_time: Duration::from_millis(ns.fixed.tx_active_ms),
        drift_time: Duration::from_millis(ns.fixed.tx_drift_ms),
        ..ChainOptions::new(namespace.clone(), ns.dynamic.role)
    }
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
