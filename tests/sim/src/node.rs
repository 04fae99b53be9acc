//! One machine of the world: a process that may crash, a disk that forgets what was not synced, ledgers, strategies.

use std::collections::BTreeMap;

use cvp_chain_sync::Default as ChainSyncDefault;
use cvp_core::ledger::MemoryLedger;
use cvp_core::planted::{self, Fault};
use cvp_core::replication::{ControlFile, Limits, NamespaceSetup, Pair, Setup, StrategySetup, Token};
use cvp_core::session::{Binding, Fenced, Identity, LastReceiver, StrategyId};
use cvp_core::strategy::{ChainSyncStrategy, Native};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Hostname, Millis, Namespace, NodeRole, Position};

use crate::chain::{self, Maker};
use crate::random::Random;

/// Heartbeat of every node, milliseconds.
pub const HEARTBEAT_MS: Millis = 500;

/// Window of every node: small, so that credit matters with small records.
pub const WINDOW_BYTES: u64 = 4096;

/// Control files as the disk holds them.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub identity: Vec<u8>,
    pub binding: Option<Vec<u8>>,
    pub last_receiver: Option<Vec<u8>>,
    pub fenced: Option<Vec<u8>>,
    pub stored: BTreeMap<Namespace, Vec<u8>>,
}

/// One namespace of a node.
pub struct Store {
    pub namespace: Namespace,
    pub ledger: MemoryLedger,
    pub maker: Option<Maker>,
    pub strategy: Option<ChainSyncStrategy>,
    /// A provider's own fsync is under way.
    pub committing: bool,
    /// (time, durable height), to know what was durable some time ago.
    pub history: Vec<(Millis, u64)>,
    pub broken: bool,
    /// A full disk has room again from here on.
    pub full_until: Millis,
}

/// A machine.
pub struct Node {
    pub name: &'static str,
    pub hostname: Hostname,
    pub role: Role,
    /// Where a receiver dials: index of a node.
    pub remote: usize,
    /// Addresses a promoted node tells, and a provider asks.
    pub notify: Vec<String>,
    pub ask: Vec<String>,
    pub disk: Disk,
    pub pending: BTreeMap<Token, ControlFile>,
    pub stores: Vec<Store>,
    pub pair: Option<Pair>,
    /// Counts processes: what an older one asked for never reaches a newer one.
    pub epoch: u64,
    pub started: Millis,
    pub making: bool,
    pub frozen_until: Millis,
    pub thawed: Millis,
    pub slow_until: Millis,
    pub advice_lost_until: Millis,
    pub making_every: Millis,
}

impl Node {
    pub fn new(
        name: &'static str,
        hostname: &str,
        role: Role,
        namespaces: &[Namespace],
        identity: Identity,
    ) -> Result<Node, String> {
        let stores = namespaces
            .iter()
            .map(|namespace| {
                let genesis = chain::genesis(namespace).map_err(|error| error.to_string())?;
                let ledger = MemoryLedger::open(namespace, genesis).map_err(|error| error.to_string())?;
                Ok(Store {
                    namespace: namespace.clone(),
                    ledger,
                    maker: None,
                    strategy: None,
                    committing: false,
                    history: vec![(0, 0)],
                    broken: false,
                    full_until: 0,
                })
            })
            .collect::<Result<_, String>>()?;
        Ok(Node {
            name,
            hostname: Hostname::new(hostname).map_err(|error| error.to_string())?,
            role,
            remote: 0,
            notify: Vec::new(),
            ask: Vec::new(),
            disk: Disk {
                identity: identity.encode(),
                ..Disk::default()
            },
            pending: BTreeMap::new(),
            stores,
            pair: None,
            epoch: 0,
            started: 0,
            making: false,
            frozen_until: 0,
            thawed: 0,
            slow_until: 0,
            advice_lost_until: 0,
            making_every: 50,
        })
    }

    pub fn is_up(&self) -> bool {
        self.pair.is_some()
    }

    pub fn identity(&self) -> Result<Identity, String> {
        Identity::decode(&self.disk.identity).map_err(|error| format!("{}: identity: {error}", self.name))
    }

    pub fn binding(&self) -> Result<Option<Binding>, String> {
        let decode =
            |bytes: &Vec<u8>| Binding::decode(bytes).map_err(|error| format!("{}: binding: {error}", self.name));
        self.disk.binding.as_ref().map(decode).transpose()
    }

    /// The process starts from what the disk holds.
    pub fn start(&mut self, now: Millis, random: &mut Random) -> Result<(), String> {
        let named = |what: &str, error: cvp_core::types::Malformed| format!("{}: {what}: {error}", self.name);
        let identity = self.identity()?;
        let binding = if self.role == Role::Receiver {
            self.binding()?
        } else {
            None
        };
        let fenced = self
            .disk
            .fenced
            .as_deref()
            .map(Fenced::decode)
            .transpose()
            .map_err(|e| named("fenced", e))?;
        let last = self
            .disk
            .last_receiver
            .as_deref()
            .map(LastReceiver::decode)
            .transpose()
            .map_err(|e| named("last", e))?;
        let namespaces = self
            .stores
            .iter()
            .map(|store| NamespaceSetup {
                namespace: store.namespace.clone(),
                role: if self.role == Role::Provider {
                    NodeRole::Vp
                } else {
                    NodeRole::Cvp
                },
                genesis: cvp_core::ledger::Ledger::genesis(&store.ledger).hash,
                durable: cvp_core::ledger::Ledger::tips(&store.ledger).durable,
                applied: cvp_core::ledger::Ledger::tips(&store.ledger).applied.height,
                history_from: 0,
                chain_sync: StrategySetup {
                    id: StrategyId {
                        kind: "chain-sync".into(),
                        id: "default".into(),
                        version: "1.0.0".into(),
                        sha256: [1; 32],
                    },
                    stored: self.disk.stored.get(&store.namespace).cloned().unwrap_or_default(),
                },
            })
            .collect();
        for store in &mut self.stores {
            store.ledger.set_full(false);
            if cvp_core::ledger::Ledger::sync(&store.ledger).is_err() {
                store.ledger.crash(None);
            }
            store.strategy = Some(open_strategy(self.role, &store.namespace)?);
            store.committing = false;
            store.broken = false;
            store.maker = None;
        }
        self.pair = Some(Pair::new(Setup {
            role: self.role,
            hostname: self.hostname.clone(),
            identity,
            binding,
            fenced,
            last_receiver: last,
            program: "sim".into(),
            enabled: true,
            tls: true,
            listen: format!("{}:1", self.name),
            self_section: Vec::new(),
            namespaces,
            ask: self.ask.clone(),
            notify: self.notify.clone(),
            limits: Limits {
                heartbeat_ms: HEARTBEAT_MS,
                heartbeat_misses: 5,
                window_bytes_max: WINDOW_BYTES,
                max_rate: 0,
                dial_pause_ms_max: 2_000,
            },
            seed: random.draw(),
        }));
        self.epoch += 1;
        (self.started, self.making) = (now, false);
        Ok(())
    }

    /// The process dies with its memory; the disk keeps what was synced. Answers how many torn records were cut.
    pub fn crash(&mut self, random: &mut Random) -> u64 {
        self.pair = None;
        self.epoch += 1;
        self.making = false;
        self.frozen_until = 0;
        for (_, what) in std::mem::take(&mut self.pending) {
            if planted::active(Fault::PartialJournalWrite) {
                self.write_partly(&what, random);
            } else if random.chance(50) {
                self.write(&what);
            }
        }
        let mut torn = 0;
        for store in &mut self.stores {
            let seed = random.chance(80).then(|| random.draw());
            torn += u64::from(store.ledger.crash(seed).torn_bytes > 0);
            store.ledger.set_full(false);
        }
        torn
    }

    /// A control file becomes durable, whole.
    pub fn write(&mut self, what: &ControlFile) {
        match what {
            ControlFile::Binding(binding) => self.disk.binding = Some(binding.encode()),
            ControlFile::LastReceiver(last) => self.disk.last_receiver = Some(last.encode()),
            ControlFile::Fenced(fenced) => self.disk.fenced = Some(fenced.encode()),
            ControlFile::Stored { ns, bytes, .. } => {
                self.disk.stored.insert(ns.clone(), bytes.clone());
            }
        }
    }

    /// The planted fault: written in place, without temporary file and checksum.
    fn write_partly(&mut self, what: &ControlFile, random: &mut Random) {
        self.write(what);
        let file = match what {
            ControlFile::Binding(_) => self.disk.binding.as_mut(),
            ControlFile::LastReceiver(_) => self.disk.last_receiver.as_mut(),
            ControlFile::Fenced(_) => self.disk.fenced.as_mut(),
            ControlFile::Stored { .. } => None,
        };
        if let Some(bytes) = file {
            bytes.truncate(random.range(0, bytes.len() as u64) as usize);
        }
    }

    pub fn store(&mut self, ns: &Namespace) -> Option<&mut Store> {
        self.stores.iter_mut().find(|store| store.namespace == *ns)
    }
}

impl Store {
    pub fn durable(&self) -> Position {
        cvp_core::ledger::Ledger::tips(&self.ledger).durable
    }

    /// Durable height at a time, as far as it is remembered.
    pub fn durable_at(&self, time: Millis) -> u64 {
        self.history
            .iter()
            .take_while(|(at, _)| *at <= time)
            .last()
            .map_or(0, |(_, height)| *height)
    }
}

pub fn open_strategy(role: Role, namespace: &Namespace) -> Result<ChainSyncStrategy, String> {
    let native = Native::<ChainSyncDefault>::open(role, namespace.as_str(), "{}").map_err(|fault| fault.to_string())?;
    Ok(Box::new(native))
}
