//! What a machine is made of, read from the node's configuration, control files and chains: one function for both roles, so that a start
//! after an upgrade and the upgrade itself cannot differ.

use std::collections::BTreeMap;

use cvp_core::config::{NodeConfig, PairRole, Remote};
use cvp_core::replication::{
    ChangesSetup, Inventory, Limits, NamespaceSetup, Promised, Setup, StagedPart, StrategySetup,
};
use cvp_core::session::{Binding, Identity, Lineage, NodeKey, SessionKind, StoppedChain, StrategyId};
use cvp_core::strategy::{ChainSync, ConfigSync, IndexCheck, Kind, MqSync};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Incarnation, Namespace, NodeId};

use super::files::{ControlFiles, FileError};
use crate::config::Places;
use crate::namespace::ChainSet;

/// What a setup is read from.
pub struct SetupSource<'a> {
    /// The node's configuration.
    pub config: &'a NodeConfig,
    /// Its control files.
    pub files: &'a ControlFiles,
    /// Its chains.
    pub chains: &'a ChainSet,
    /// The strategy loaded for a namespace.
    pub strategy: &'a dyn Fn(&Namespace, &str) -> StrategyId,
    /// Where a standby's copy of its provider's tree lies.
    pub copied: Places,
    /// What checks signatures of the node's own key.
    pub node_key: NodeKey,
    /// `IP:PORT` or `:PORT` where it listens for its peer.
    pub listen: String,
    /// What the namespaces hold that do not run.
    pub stopped: BTreeMap<Namespace, StoppedChain>,
    /// Addresses of the node whose place this one took (`"node1 10.0.0.1:50011"`).
    pub predecessor: Vec<String>,
}

impl SetupSource<'_> {
    /// Reads it. At a node's first start its identity is drawn and written.
    ///
    /// # Errors
    /// A control file is damaged or cannot be written.
    pub fn read(&self) -> Result<Setup, FileError> {
        let role = match self.config.role() {
            PairRole::Provider => Role::Provider,
            PairRole::Receiver => Role::Receiver,
        };
        let dynamic = &self.config.dynamic;
        let provider = role == Role::Provider;
        if !provider && self.files.fenced()?.is_some() {
            return Err(FileError::NotCleared);
        }
        let remotes = dynamic.cvp.remote.iter().map(|remote| remote.address.clone());
        Ok(Setup {
            role,
            kind: SessionKind::Standby,
            hostname: dynamic.hostname.clone(),
            identity: self.identity(role)?,
            binding: if provider { None } else { self.binding()? },
            fenced: if provider { self.files.fenced()? } else { None },
            last_receiver: if provider { self.files.last_receiver()? } else { None },
            last_held: if provider { self.files.last_held()? } else { None },
            program: env!("CARGO_PKG_VERSION").to_owned(),
            enabled: dynamic.cvp.enable,
            tls: self.config.system.p2p.enable_tls,
            node_key: self.node_key.clone(),
            listen: self.listen.clone(),
            self_section: self.self_section(),
            namespaces: self.namespaces()?,
            ask: if provider { remotes.collect() } else { Vec::new() },
            notify: addresses(&self.predecessor)
                .into_iter()
                .map(|remote| remote.address)
                .collect(),
            copy: if provider { Inventory::default() } else { self.copy()? },
            changes: ChangesSetup {
                committed: self.files.committed()?.map(|(id, _)| id),
                promised: if provider {
                    self.files.promised()?
                } else {
                    Promised::default()
                },
                staged: self.files.staged()?.map(|change| change.id),
            },
            limits: limits(self.config),
            seed: rand::random(),
        })
    }

    /// The copy as it was last written. What a crash left half written is nobody's edit: it counts as it is.
    fn copy(&self) -> Result<Inventory, FileError> {
        Ok(match self.files.copy()? {
            Some(copy) => copy,
            None => {
                let copy = self.copied.scan();
                if !copy.files.is_empty() {
                    self.files.write_copy(Some(&copy))?;
                }
                copy
            }
        })
    }

    /// Hosts behind addresses that `cvp.remote` does not name.
    ///
    /// # Errors
    /// `last-receiver` is damaged.
    pub fn known(&self) -> Result<Vec<Remote>, FileError> {
        let mut known = addresses(&self.predecessor);
        if let Some(receiver) = self.files.last_receiver()? {
            known.push(Remote {
                hostname: receiver.hostname,
                address: receiver.address,
            });
        }
        Ok(known)
    }

    /// Blocks were made or copied here: then the control files were written before, and must be there.
    fn holds_blocks(&self) -> bool {
        let chains = self.chains.all();
        chains.iter().any(|chain| chain.ledger().tips().durable.height > 0)
    }

    fn binding(&self) -> Result<Option<Binding>, FileError> {
        match self.files.binding()? {
            None if self.holds_blocks() => Err(FileError::Absent {
                path: self.files.path("binding").display().to_string(),
                hint: "restore it from a backup; or run `cvp clear --yes`, which wipes the copy so that it is made anew",
            }),
            binding => Ok(binding),
        }
    }

    fn identity(&self, role: Role) -> Result<Identity, FileError> {
        let used = self.holds_blocks() || self.files.binding()?.is_some() || self.files.last_receiver()?.is_some();
        match self.files.identity()? {
            Some(identity) if role == Role::Receiver || identity.lineage.current().is_some() => return Ok(identity),
            // A standby that was made a provider by hand would speak for a node that may be alive.
            Some(_) if used => return Err(FileError::StillAStandby),
            None if used => {
                return Err(FileError::Absent {
                    path: self.files.path("identity").display().to_string(),
                    hint: "restore it from a backup: without it this would be another node, and its standby would refuse it",
                });
            }
            _ => {}
        }
        let lineage = match role {
            Role::Provider => Lineage::begin(Incarnation {
                number: 1,
                id: rand::random(),
            }),
            Role::Receiver => Lineage::default(),
        };
        let identity = Identity {
            node_id: NodeId(rand::random()),
            lineage,
        };
        self.files.write_identity(&identity)?;
        Ok(identity)
    }

    fn self_section(&self) -> Vec<(String, String)> {
        let dynamic = &self.config.dynamic;
        let mut section = vec![
            ("self".to_owned(), format!("{:?}", dynamic.hostname.as_str())),
            ("port.jsonrpc".to_owned(), dynamic.jsonrpc_port.to_string()),
        ];
        for (name, ns) in &self.config.namespaces {
            section.push((
                format!("{name}/self.hostname"),
                format!("{:?}", ns.dynamic.hostname.as_str()),
            ));
            section.push((format!("{name}/self.type"), format!("{:?}", ns.dynamic.role.as_str())));
            section.push((format!("{name}/self.n"), ns.dynamic.n.to_string()));
        }
        section.extend(self.stopped.iter().map(|(name, chain)| chain.entry(name)));
        section
    }

    fn strategy_of(&self, namespace: &Namespace, kind: &str) -> Result<StrategySetup, FileError> {
        Ok(StrategySetup {
            id: (self.strategy)(namespace, kind),
            stored: self.files.stored(namespace, kind)?,
        })
    }

    fn namespaces(&self) -> Result<Vec<NamespaceSetup>, FileError> {
        let mut out = Vec::new();
        for chain in self.chains.all() {
            let namespace = chain.namespace().clone();
            let configured = self.config.namespaces.get(&namespace);
            let tips = chain.ledger().tips();
            out.push(NamespaceSetup {
                role: configured.map_or(chain.options().role, |ns| ns.dynamic.role),
                genesis: chain.ledger().genesis().hash,
                durable: tips.durable,
                applied: tips.applied.height,
                history_from: chain.ledger().history_from(),
                keep_blocks: configured.map_or(0, |ns| ns.fixed.keep_blocks),
                backfill: configured.is_none_or(|ns| ns.fixed.backfill),
                staged: chain.ledger().staged().map(|(manifest, durable)| StagedPart {
                    id: manifest.id(),
                    durable,
                    total: manifest.bytes(),
                    height: manifest.at.height,
                }),
                chain_sync: self.strategy_of(&namespace, ChainSync::NAME)?,
                config_sync: self.strategy_of(&namespace, ConfigSync::NAME)?,
                index_check: self.strategy_of(&namespace, IndexCheck::NAME)?,
                mq_sync: self.strategy_of(&namespace, MqSync::NAME)?,
                index_enabled: chain.options().index.enable,
                kept_local: self.files.kept_local(&namespace)?,
                namespace,
            });
        }
        Ok(out)
    }
}

/// Numbers of the machine, from the configuration.
pub fn limits(config: &NodeConfig) -> Limits {
    let cvp = &config.dynamic.cvp;
    Limits {
        heartbeat_ms: cvp.heartbeat_ms,
        heartbeat_misses: cvp.heartbeat_misses,
        max_rate: cvp.max_rate,
        retain_bytes: cvp.retain_bytes,
        strong_timeout_ms: cvp.strong_timeout_ms,
        dial_pause_ms_max: config.system.p2p.retry_ms,
        ..Limits::default()
    }
}

/// Entries of `cvp.remote` as the journal keeps them; what cannot be read is left out.
fn addresses(entries: &[String]) -> Vec<Remote> {
    entries.iter().filter_map(|entry| entry.parse().ok()).collect()
}
