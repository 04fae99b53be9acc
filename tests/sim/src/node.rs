//! One machine of the world: a process that may crash, a disk that forgets what was not synced, ledgers, strategies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cvp_core::config::{NodeConfig, Remote, Value};
use cvp_core::ledger::{Archive, Ledger, MemoryLedger};
use cvp_core::planted::{self, Fault};
use cvp_core::promotion::{HeldNamespace, Journal};
use cvp_core::replication::{
    ChangesSetup, ConnId, ControlFile, Inventory, Limits, NamespaceSetup, Pair, Promised, Setup, StagedPart,
    StrategySetup, Token, TurnLimits,
};
use cvp_core::session::{Binding, Fenced, Identity, LastHeld, LastReceiver, SessionKind, StrategyId};
use cvp_core::strategy::{ChainSyncStrategy, ConfigSyncStrategy, IndexCheckStrategy, MqSyncStrategy};
use cvp_core::types::strategy::{Role, chain_sync, config_sync, index_check, mq_sync};
use cvp_core::types::{Hostname, Malformed, Millis, Namespace, NodeId, NodeRole, Position};

use crate::archive::Retention;
use crate::chain::Maker;
use crate::configuration;
use crate::disk::Disk;
use crate::natives::{open_files, open_index, open_strategy};
use crate::papers::Papers;
use crate::promotion::{Expected, Promotion};
use crate::queues::{Serving, open_queues};
use crate::random::Random;
use crate::tree::Job;

/// Heartbeat of every node, milliseconds.
pub const HEARTBEAT_MS: Millis = 500;

/// Longest pause between two dials of a receiver.
const DIAL_PAUSE_MS_MAX: Millis = 2_000;

/// Window of every node: a few records, so that credit matters, and more than a maker makes in a round trip.
pub const WINDOW_BYTES: u64 = 6 << 10;

/// One namespace of a node.
pub struct Store {
    pub namespace: Namespace,
    pub ledger: MemoryLedger,
    pub maker: Option<Maker>,
    pub strategy: Option<ChainSyncStrategy>,
    pub files: Option<ConfigSyncStrategy>,
    pub index: Option<IndexCheckStrategy>,
    pub queues: Option<MqSyncStrategy>,
    /// The switch of its data index, as the process runs it; none while it does not run.
    pub indexed: Option<bool>,
    /// A provider's own fsync is under way.
    pub committing: bool,
    /// (time, durable height), to know what was durable some time ago.
    pub history: Vec<(Millis, u64)>,
    pub broken: bool,
    /// Until then the thread that works on whole ledgers is busy.
    pub archive_at: Millis,
    /// A full disk has room again from here on.
    pub full_until: Millis,
}

/// A machine.
pub struct Node {
    pub name: &'static str,
    /// As its machine was last made: what the files said then.
    pub role: Role,
    pub hostname: Hostname,
    pub config: NodeConfig,
    /// The hostname in its certificate, beside the one it may take over.
    pub made_as: String,
    pub papers: Papers,
    pub disk: Disk,
    pub pending: BTreeMap<Token, ControlFile>,
    /// Work of the one thread for the tree and for strong changes; the first is under way.
    pub jobs: VecDeque<Job>,
    pub stores: Vec<Store>,
    /// The machine; none while the process is down or in the middle of a promotion.
    pub pair: Option<Pair>,
    /// The machines that serve followers, by link.
    pub served: BTreeMap<ConnId, Pair>,
    /// How much of its history it keeps.
    pub retention: Retention,
    /// It follows another node's chains, and does nothing else.
    pub follows: bool,
    /// The promotion under way in this process.
    pub promotion: Option<Promotion>,
    /// Plans that were begun here, and where each must end.
    pub expected: Vec<Expected>,
    /// A promotion has ended here.
    pub promoted: bool,
    /// The highest standing its machine ever had: role, node-id, number of its incarnation.
    pub standing: Option<(Role, NodeId, u64)>,
    /// What it runs; its machine's list.
    pub running: BTreeSet<Namespace>,
    /// When that last became another list.
    pub switched: Millis,
    /// Counts machines: what an older one asked for never reaches a newer one.
    pub epoch: u64,
    /// When its machine was made.
    pub started: Millis,
    pub making: bool,
    pub frozen_until: Millis,
    pub thawed: Millis,
    pub slow_until: Millis,
    pub advice_lost_until: Millis,
    /// Its index backend does not answer.
    pub index_down: bool,
    /// The queues in a provider's memory.
    pub serving: BTreeMap<Namespace, Serving>,
    /// Its broker does not answer.
    pub broker_down: bool,
    pub making_every: Millis,
}

impl Node {
    /// A machine that was never started. `remote` is its `cvp.remote`; `geneses` holds record 0 of each namespace; `online`: it starts the one that
    /// operators start and stop; those `indexed` keep the data index.
    pub fn new(
        name: &'static str,
        (hostname, role, remote): (&str, Role, &str),
        geneses: &[(Namespace, bytes::Bytes)],
        (online, indexed): (bool, &[Namespace]),
        identity: &Identity,
        papers: Papers,
    ) -> Result<Node, String> {
        let namespaces: Vec<Namespace> = geneses.iter().map(|(namespace, _)| namespace.clone()).collect();
        let stores = geneses
            .iter()
            .map(|(namespace, genesis)| {
                let ledger = MemoryLedger::open(namespace, genesis.clone()).map_err(|error| error.to_string())?;
                Ok(Store {
                    namespace: namespace.clone(),
                    ledger,
                    maker: None,
                    strategy: None,
                    files: None,
                    index: None,
                    queues: None,
                    indexed: None,
                    committing: false,
                    history: vec![(0, 0)],
                    broken: false,
                    archive_at: 0,
                    full_until: 0,
                })
            })
            .collect::<Result<_, String>>()?;
        let files = configuration::files(hostname, role, &namespaces, remote, (online, indexed));
        let config = configuration::load(&files, false)?;
        Ok(Node {
            name,
            role,
            hostname: config.dynamic.hostname.clone(),
            config,
            made_as: hostname.to_owned(),
            papers,
            disk: Disk {
                identity: identity.encode(),
                configuration: files,
                ..Disk::default()
            },
            pending: BTreeMap::new(),
            jobs: VecDeque::new(),
            stores,
            pair: None,
            served: BTreeMap::new(),
            retention: Retention::default(),
            follows: false,
            promotion: None,
            expected: Vec::new(),
            promoted: false,
            standing: None,
            running: BTreeSet::new(),
            switched: 0,
            epoch: 0,
            started: 0,
            making: false,
            frozen_until: 0,
            thawed: 0,
            slow_until: 0,
            advice_lost_until: 0,
            index_down: false,
            serving: BTreeMap::new(),
            broker_down: false,
            making_every: 50,
        })
    }

    /// Whether the process runs.
    pub fn is_up(&self) -> bool {
        self.pair.is_some() || self.promotion.is_some()
    }

    pub fn identity(&self) -> Result<Identity, String> {
        Identity::decode(&self.disk.identity).map_err(|error| format!("{}: identity: {error}", self.name))
    }

    pub fn binding(&self) -> Result<Option<Binding>, String> {
        self.decode("binding", &self.disk.binding, Binding::decode)
    }

    fn decode<T>(
        &self,
        what: &str,
        file: &Option<Vec<u8>>,
        decode: fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, String> {
        let decoded = file.as_deref().map(decode).transpose();
        decoded.map_err(|error| format!("{}: {what}: {error}", self.name))
    }

    pub fn journal(&self) -> Result<Journal, String> {
        Journal::read(&self.disk.journal.read()).map_err(|error| format!("{}: {error}", self.name))
    }

    /// The first address of `cvp.remote`.
    pub fn remote(&self) -> Option<&Remote> {
        self.config.dynamic.cvp.remote.first()
    }

    /// The operator writes another `cvp.remote`.
    pub fn point_at(&mut self, remote: &str) -> Result<(), String> {
        let value = Value::Texts(vec![remote.to_owned()]);
        let text = configuration::edited(&self.disk.configuration, "dynamic.toml", "cvp.remote", value)?;
        self.disk.configuration.insert("dynamic.toml".into(), text);
        self.config = configuration::load(&self.disk.configuration, false)?;
        Ok(())
    }

    /// The process opens its stores, as a crash left them.
    pub fn open_stores(&mut self) {
        self.stores.iter_mut().for_each(Store::open);
    }

    /// A machine is made from what the files say.
    pub fn make_pair(&mut self, now: Millis, random: &mut Random) -> Result<(), String> {
        self.config = configuration::load(&self.disk.configuration, false)
            .map_err(|problems| format!("{} finds two configurations mixed: {problems}", self.name))?;
        self.role = if self.follows {
            Role::Receiver
        } else {
            configuration::role(&self.config)
        };
        self.hostname = self.config.dynamic.hostname.clone();
        self.run(now)?;
        let setup = self.setup(random)?;
        for store in &mut self.stores {
            store.strategy = Some(open_strategy(self.role, &store.namespace)?);
            store.files = Some(open_files(self.role, &store.namespace)?);
            store.index = Some(open_index(self.role, &store.namespace)?);
            store.queues = Some(open_queues(self.role, &store.namespace)?);
        }
        self.note_indexed(&setup);
        self.served.clear();
        self.pair = Some(Pair::new(setup));
        self.epoch += 1;
        (self.started, self.making) = (now, false);
        Ok(())
    }

    /// A machine of the same role in the place of the one before, with the namespaces that the files start now.
    pub fn make_pair_in_place_of(&mut self, before: &Pair, now: Millis, random: &mut Random) -> Result<(), String> {
        self.config = configuration::load(&self.disk.configuration, false)?;
        let ran = self.running.clone();
        self.run(now)?;
        for store in &mut self.stores {
            if !ran.contains(&store.namespace) {
                store.strategy = Some(open_strategy(self.role, &store.namespace)?);
                store.files = Some(open_files(self.role, &store.namespace)?);
                store.index = Some(open_index(self.role, &store.namespace)?);
                store.queues = Some(open_queues(self.role, &store.namespace)?);
                store.maker = None;
            }
        }
        let setup = self.setup(random)?;
        self.note_indexed(&setup);
        self.served.clear();
        self.pair = Some(Pair::in_place_of(before, setup));
        self.epoch += 1;
        self.making = false;
        Ok(())
    }

    fn note_indexed(&mut self, setup: &Setup) {
        for store in &mut self.stores {
            let runs = setup.namespaces.iter().find(|ns| ns.namespace == store.namespace);
            store.indexed = runs.map(|ns| ns.index_enabled);
        }
    }

    /// What the files start runs; but what a promotion holds.
    fn run(&mut self, now: Millis) -> Result<(), String> {
        let mut running = configuration::started(&self.disk.configuration)?;
        let held = self.held()?;
        running.retain(|name| !held.iter().any(|held| held.name == *name));
        if self.running != running {
            (self.running, self.switched) = (running, now);
        }
        Ok(())
    }

    /// What a promotion of this node could not take over.
    pub fn held(&self) -> Result<Vec<HeldNamespace>, String> {
        match self.role {
            Role::Provider => Ok(self.journal()?.held().values().cloned().collect()),
            Role::Receiver => Ok(Vec::new()),
        }
    }

    pub fn runs(&self, ns: &Namespace) -> bool {
        self.running.contains(ns)
    }

    fn setup(&self, random: &mut Random) -> Result<Setup, String> {
        let provider = self.role == Role::Provider;
        let remotes = self.config.dynamic.cvp.remote.iter();
        let predecessor = self.journal()?.plan().map(|plan| plan.old_addresses.clone());
        let addresses = predecessor.iter().flatten().filter_map(|entry| entry.parse().ok());
        Ok(Setup {
            role: self.role,
            kind: if self.follows {
                SessionKind::Follower
            } else {
                SessionKind::Standby
            },
            hostname: self.hostname.clone(),
            identity: self.identity()?,
            binding: if provider { None } else { self.binding()? },
            fenced: if provider {
                self.decode("fenced", &self.disk.fenced, Fenced::decode)?
            } else {
                None
            },
            last_receiver: if provider {
                self.decode("last-receiver", &self.disk.last_receiver, LastReceiver::decode)?
            } else {
                None
            },
            last_held: if provider {
                self.decode("last-held", &self.disk.last_held, LastHeld::decode)?
            } else {
                None
            },
            program: "sim".into(),
            enabled: self.config.dynamic.cvp.enable,
            tls: self.config.system.p2p.enable_tls,
            node_key: self.papers.node_key(),
            listen: format!("{}:1", self.name),
            self_section: Vec::new(),
            namespaces: self.stores_running().map(|store| self.namespace_setup(store)).collect(),
            ask: if provider {
                remotes.map(|remote| remote.address.clone()).collect()
            } else {
                Vec::new()
            },
            notify: addresses.map(|remote: Remote| remote.address).collect(),
            // As it was last written; a crash in the middle of that leaves one or the other here.
            copy: if provider {
                Inventory::default()
            } else {
                self.disk.copy.written.clone()
            },
            changes: ChangesSetup {
                committed: self.disk.copy.committed,
                promised: self
                    .decode("promised", &self.disk.promised, Promised::decode)?
                    .unwrap_or_default(),
                staged: self.disk.copy.staged.as_ref().map(|change| change.id),
            },
            limits: Limits {
                heartbeat_ms: self.config.dynamic.cvp.heartbeat_ms,
                heartbeat_misses: self.config.dynamic.cvp.heartbeat_misses,
                window_bytes_max: WINDOW_BYTES,
                retain_bytes: self.retention.retain_bytes,
                max_rate: self.config.dynamic.cvp.max_rate,
                strong_timeout_ms: self.config.dynamic.cvp.strong_timeout_ms,
                dial_pause_ms_max: DIAL_PAUSE_MS_MAX,
                // Of three namespaces, one waits.
                turns: TurnLimits {
                    at_once: 2,
                    bytes: WINDOW_BYTES * 2,
                    little_bytes: WINDOW_BYTES / 16,
                },
            },
            seed: random.draw(),
        })
    }

    /// The stores of what it runs.
    pub fn stores_running(&self) -> impl Iterator<Item = &Store> {
        self.stores.iter().filter(|store| self.runs(&store.namespace))
    }

    fn namespace_setup(&self, store: &Store) -> NamespaceSetup {
        let configured = self.config.namespaces.get(&store.namespace);
        NamespaceSetup {
            namespace: store.namespace.clone(),
            role: match configured {
                Some(_) if self.follows => NodeRole::Nvp,
                Some(ns) => ns.dynamic.role,
                None => NodeRole::Cvp,
            },
            genesis: store.ledger.genesis().hash,
            durable: store.ledger.tips().durable,
            applied: store.ledger.tips().applied.height,
            history_from: store.ledger.history_from(),
            keep_blocks: self.retention.keep_blocks,
            backfill: true,
            staged: store.ledger.staged().map(|(manifest, durable)| StagedPart {
                id: manifest.id(),
                durable,
                total: manifest.bytes(),
                height: manifest.at.height,
            }),
            chain_sync: self.strategy_setup(&store.namespace, chain_sync::KIND),
            config_sync: self.strategy_setup(&store.namespace, config_sync::KIND),
            index_check: self.strategy_setup(&store.namespace, index_check::KIND),
            mq_sync: self.strategy_setup(&store.namespace, mq_sync::KIND),
            index_enabled: configured.is_some_and(|ns| ns.fixed.index.enable),
            kept_local: self.disk.kept.get(&store.namespace).cloned().unwrap_or_default(),
        }
    }

    fn strategy_setup(&self, namespace: &Namespace, kind: &'static str) -> StrategySetup {
        let stored = self.disk.stored.get(&(namespace.clone(), kind));
        StrategySetup {
            id: StrategyId {
                kind: kind.into(),
                id: "default".into(),
                version: "1.0.0".into(),
                sha256: [1; 32],
            },
            stored: stored.cloned().unwrap_or_default(),
        }
    }

    /// The process dies with its memory; the disk keeps what was synced. Answers how many torn records were cut.
    pub fn crash(&mut self, random: &mut Random) -> u64 {
        self.pair = None;
        self.served.clear();
        self.serving.clear();
        self.promotion = None;
        self.epoch += 1;
        self.making = false;
        self.frozen_until = 0;
        for (_, what) in std::mem::take(&mut self.pending) {
            if planted::active(Fault::PartialControlFile) {
                self.disk.write_partly(&what, random);
            } else if random.chance(50) {
                self.disk.write(&what);
            }
        }
        self.disk.journal.crash(random);
        let mut torn = 0;
        for store in &mut self.stores {
            let seed = random.chance(80).then(|| random.draw());
            torn += u64::from(store.ledger.crash(seed).torn_bytes > 0);
            store.ledger.set_full(false);
        }
        torn
    }

    pub fn store(&mut self, ns: &Namespace) -> Option<&mut Store> {
        self.stores.iter_mut().find(|store| store.namespace == *ns)
    }
}

impl Store {
    /// Opens it as a crash or a failure left it.
    pub fn open(&mut self) {
        self.ledger.set_full(false);
        if self.ledger.sync().is_err() {
            self.ledger.crash(None);
        }
        self.committing = false;
        self.broken = false;
        self.maker = None;
    }

    pub fn durable(&self) -> Position {
        self.ledger.tips().durable
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
