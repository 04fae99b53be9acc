//! The strategies of all namespaces: started for the node's role, listed and reset for its operator. Replication calls them.

use std::collections::HashMap;

use cvp_core::config::NodeConfig;
use cvp_core::session::StrategyId;
use cvp_core::strategy::{ChainSync, ConfigSync, Kind};
use cvp_core::types::Namespace;
use cvp_core::types::strategy::{Fault, Role};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::ipc::Failure;
use crate::replication::StrategyHandles;
use crate::replication::strategies::{Cost, NamespaceStrategies, Strategies, StrategyState};

/// The running instances; replaced whole when the node's role changes.
pub(super) struct Fleet {
    runtime: Strategies,
    handles: Mutex<StrategyHandles>,
}

impl Fleet {
    /// Instances of nothing yet.
    pub(super) fn new(runtime: Strategies) -> Self {
        Self {
            runtime,
            handles: Mutex::default(),
        }
    }

    /// Starts an instance a namespace and kind in `role`; those of before end with their last user.
    pub(super) fn start(&self, config: &NodeConfig, role: Role) -> Result<(), Failure> {
        let mut started = HashMap::new();
        for (namespace, ns) in &config.namespaces {
            let started_here = || -> Result<NamespaceStrategies, Fault> {
                let bytes = ns.fixed.trace_bytes;
                Ok(NamespaceStrategies {
                    chain_sync: self
                        .runtime
                        .start(namespace, role, &ns.fixed.strategy(ChainSync::NAME), bytes)?,
                    config_sync: self
                        .runtime
                        .start(namespace, role, &ns.fixed.strategy(ConfigSync::NAME), bytes)?,
                })
            };
            let handle = started_here().map_err(|fault| {
                let what = format!("namespace {namespace}: {}", fault.text);
                Failure::failed("no-strategy", what, "raise the limit of threads")
            })?;
            started.insert(namespace.clone(), handle);
        }
        *self.handles.lock() = started;
        Ok(())
    }

    /// The handles, for replication.
    pub(super) fn handles(&self) -> StrategyHandles {
        self.handles.lock().clone()
    }

    /// What a namespace offers to run of a kind: the handshake compares it.
    pub(super) fn offered(&self, namespace: &Namespace, kind: &str) -> StrategyId {
        let handles = self.handles.lock();
        let found = handles.get(namespace);
        match (found, kind) {
            (Some(handle), ConfigSync::NAME) => handle.config_sync.state().offered,
            (Some(handle), _) => handle.chain_sync.state().offered,
            (None, ConfigSync::NAME) => self.runtime.embedded::<ConfigSync>(),
            (None, _) => self.runtime.embedded::<ChainSync>(),
        }
    }

    /// The answer of `plugin list`.
    pub(super) fn list(&self) -> Value {
        let handles = self.handles.lock();
        let mut sorted: Vec<(&Namespace, &NamespaceStrategies)> = handles.iter().collect();
        sorted.sort_by_key(|(namespace, _)| namespace.as_str());
        let rows = sorted.into_iter().flat_map(|(namespace, handle)| {
            [
                row(namespace, &handle.chain_sync.state(), handle.chain_sync.cost()),
                row(namespace, &handle.config_sync.state(), handle.config_sync.cost()),
            ]
        });
        Value::Array(rows.collect())
    }

    /// Ends the quarantine of every instance of `id`.
    pub(super) fn reset(&self, id: &str) -> Result<Value, Failure> {
        let handles: Vec<NamespaceStrategies> = self.handles.lock().values().cloned().collect();
        let busy = |fault: Fault| Failure::failed("busy", fault.text, "try again");
        let mut reset = 0;
        for handle in &handles {
            if handle.chain_sync.state().configured == id {
                handle.chain_sync.reset().map_err(busy)?;
                reset += 1;
            }
            if handle.config_sync.state().configured == id {
                handle.config_sync.reset().map_err(busy)?;
                reset += 1;
            }
        }
        match reset {
            0 => Err(Failure::failed(
                "no-plugin",
                format!("no namespace runs a strategy {id}"),
                "see `cvp plugin list`",
            )),
            _ => Ok(json!({"reset": reset})),
        }
    }
}

fn row(namespace: &Namespace, state: &StrategyState, cost: Cost) -> Value {
    json!({
        "namespace": namespace.as_str(),
        "kind": state.running.kind,
        "id": state.configured,
        "running": state.running.id,
        "version": state.running.version,
        "state": state.spelling(),
        "faults": state.faults,
        "problem": state.problem,
        "calls": cost.calls,
        "nanoseconds": cost.nanos,
    })
}
