//! The strategies of all namespaces: started for the node's role, listed and reset for its operator. Replication calls them.

use std::collections::HashMap;

use cvp_core::config::{NodeConfig, NsConfig};
use cvp_core::session::StrategyId;
use cvp_core::strategy::{ChainSync, ConfigSync, IndexCheck, Kind, MqSync};
use cvp_core::types::Namespace;
use cvp_core::types::strategy::{Fault, Role};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::ipc::Failure;
use crate::replication::StrategyHandles;
use crate::replication::strategies::{Cost, KINDS, NamespaceStrategies, Order, Strategies, StrategyState};

/// The running instances; replaced whole when the node's role changes.
pub(super) struct Fleet {
    runtime: Strategies,
    handles: Mutex<StrategyHandles>,
    /// Of the namespaces that follow, beside those towards the standby.
    following: Mutex<StrategyHandles>,
}

impl Fleet {
    /// Instances of nothing yet.
    pub(super) fn new(runtime: Strategies) -> Self {
        Self {
            runtime,
            handles: Mutex::default(),
            following: Mutex::default(),
        }
    }

    /// Starts an instance a namespace and kind in `role`; those of before end with their last user.
    pub(super) fn start(&self, config: &NodeConfig, role: Role) -> Result<(), Failure> {
        let mut started = HashMap::new();
        for (namespace, ns) in &config.namespaces {
            started.insert(namespace.clone(), self.start_one(namespace, role, ns)?);
        }
        self.following.lock().clear();
        *self.handles.lock() = started;
        Ok(())
    }

    /// Goes on in the same role with instances of `running` alone: those that run stay, and what an earlier session sent back to the
    /// default is what is configured again.
    pub(super) fn keep(&self, config: &NodeConfig, role: Role, running: &[Namespace]) -> Result<(), Failure> {
        self.following.lock().retain(|namespace, _| running.contains(namespace));
        let mut handles = self.handles.lock();
        handles.retain(|namespace, _| running.contains(namespace));
        for namespace in running {
            match (handles.get(namespace), config.namespaces.get(namespace)) {
                (Some(handle), _) => {
                    for kind in KINDS {
                        if let Err(fault) = handle.order(kind, Order::UseDefault(false)) {
                            tracing::warn!(%namespace, fault = %fault.text, "switch strategy");
                        }
                    }
                }
                (None, Some(ns)) => {
                    let handle = self.start_one(namespace, role, ns)?;
                    handles.insert(namespace.clone(), handle);
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn start_one(&self, namespace: &Namespace, role: Role, ns: &NsConfig) -> Result<NamespaceStrategies, Failure> {
        let (bytes, runtime) = (ns.fixed.trace_bytes, &self.runtime);
        let started = || -> Result<NamespaceStrategies, Fault> {
            Ok(NamespaceStrategies {
                chain_sync: runtime.start(namespace, role, &ns.fixed.strategy(ChainSync::NAME), bytes)?,
                config_sync: runtime.start(namespace, role, &ns.fixed.strategy(ConfigSync::NAME), bytes)?,
                index_check: runtime.start(namespace, role, &ns.fixed.strategy(IndexCheck::NAME), bytes)?,
                mq_sync: runtime.start(namespace, role, &ns.fixed.strategy(MqSync::NAME), bytes)?,
            })
        };
        started().map_err(|fault| {
            let what = format!("namespace {namespace}: {}", fault.text);
            Failure::failed("no-strategy", what, "raise the limit of threads")
        })
    }

    /// The strategies of a namespace that follows another node: of kind chain-sync a receiver's, which is new. No other half speaks to it.
    pub(super) fn follower(&self, namespace: &Namespace, ns: &NsConfig) -> Result<NamespaceStrategies, Failure> {
        let mut following = self.following.lock();
        if let Some(known) = following.get(namespace) {
            return Ok(known.clone());
        }
        let beside = self.handles.lock().get(namespace).cloned();
        let beside = beside.ok_or_else(|| Failure::failed("no-strategy", "the namespace does not run", ""))?;
        let choice = ns.fixed.strategy(ChainSync::NAME);
        let started = self.runtime.start(namespace, Role::Receiver, &choice, 0);
        let strategies = NamespaceStrategies {
            chain_sync: started
                .map_err(|fault| Failure::failed("no-strategy", fault.text, "raise the limit of threads"))?,
            ..beside
        };
        following.insert(namespace.clone(), strategies.clone());
        Ok(strategies)
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
            (Some(handle), IndexCheck::NAME) => handle.index_check.state().offered,
            (Some(handle), MqSync::NAME) => handle.mq_sync.state().offered,
            (Some(handle), _) => handle.chain_sync.state().offered,
            (None, ConfigSync::NAME) => self.runtime.embedded::<ConfigSync>(),
            (None, IndexCheck::NAME) => self.runtime.embedded::<IndexCheck>(),
            (None, MqSync::NAME) => self.runtime.embedded::<MqSync>(),
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
                row(namespace, &handle.index_check.state(), handle.index_check.cost()),
                row(namespace, &handle.mq_sync.state(), handle.mq_sync.cost()),
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
            if handle.index_check.state().configured == id {
                handle.index_check.reset().map_err(busy)?;
                reset += 1;
            }
            if handle.mq_sync.state().configured == id {
                handle.mq_sync.reset().map_err(busy)?;
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
