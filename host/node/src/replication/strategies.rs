//! The strategies at work: one actor a namespace and kind, each with its own thread, so that one that loops delays nobody else.
//!
//! Owns restarts with backoff, quarantine, the fall back to the embedded default and the reload of changed files. Callers see
//! [`StrategyHandle::handle`], never a channel. Checks no action: `core::replication` does.

mod actor;
mod kinds;
mod recording;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use cvp_core::config::StrategyChoice;
use cvp_core::replication::StrategyRun;
use cvp_core::session::StrategyId;
use cvp_core::strategy::{ChainSync, ConfigSync, IndexCheck, Kind, MqSync};
use cvp_core::types::Namespace;
use cvp_core::types::strategy::{Fault, Role};
use cvp_strategy::{Component, Instance, LoadError, Runtime};

use actor::{Actor, Command};
use recording::Recorder;

pub use kinds::Hosted;

/// The default strategy of kind chain-sync, built by the build script.
static CHAIN_SYNC: &[u8] = include_bytes!(env!("CVP_CHAIN_SYNC_WASM"));

/// The default strategy of kind config-sync, likewise.
static CONFIG_SYNC: &[u8] = include_bytes!(env!("CVP_CONFIG_SYNC_WASM"));

/// The default strategy of kind index-check, likewise.
static INDEX_CHECK: &[u8] = include_bytes!(env!("CVP_INDEX_CHECK_WASM"));

/// The default strategy of kind mq-sync, likewise.
static MQ_SYNC: &[u8] = include_bytes!(env!("CVP_MQ_SYNC_WASM"));

/// The kinds that a namespace has a strategy of.
pub const KINDS: [&str; 4] = [ChainSync::NAME, ConfigSync::NAME, IndexCheck::NAME, MqSync::NAME];

/// Calls that may wait for one actor: the machine has at most one under way, the rest is room for resets and switches.
const QUEUE_MAX: usize = 16;

/// A call is given up after this long; the instance's own deadline (2 s to construct, 100 ms to handle) strikes before.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What the strategies of all namespaces share. One a node; cheap to clone.
#[derive(Clone)]
pub struct Strategies {
    runtime: Runtime,
    chain_sync: Component<ChainSync>,
    config_sync: Component<ConfigSync>,
    index_check: Component<IndexCheck>,
    mq_sync: Component<MqSync>,
    plugins: PathBuf,
    traces: Option<PathBuf>,
}

/// One strategy as status shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StrategyState {
    /// What runs now: the embedded default while the configured one does not.
    pub running: StrategyId,
    /// What runs when the other end has the same and no fault is in the way: the configured one, once it was loaded.
    pub offered: StrategyId,
    /// What the configuration names.
    pub configured: String,
    /// How the configured one is.
    pub run: StrategyRun,
    /// Faults since the start or the last reset.
    pub faults: u64,
    /// Why the configured one does not run; empty when it does.
    pub problem: String,
}

impl StrategyState {
    /// As status spells it: `running`, `restarting`, `quarantined`, or `default` when both ends were sent back to the embedded one.
    pub fn spelling(&self) -> &'static str {
        match self.run {
            StrategyRun::Restarting => "restarting",
            StrategyRun::Quarantined => "quarantined",
            StrategyRun::Running if self.running.id != self.configured => "default",
            StrategyRun::Running => "running",
        }
    }
}

/// What a strategy cost so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Calls.
    pub calls: u64,
    /// Time spent in them, nanoseconds.
    pub nanos: u64,
    /// Instances made after the first.
    pub restarts: u64,
}

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    nanos: AtomicU64,
    opened: AtomicU64,
}

impl Strategies {
    /// Starts the engine and loads the embedded defaults. `cache` holds compiled code, `plugins` is the node's plugin directory.
    pub fn new(cache: &Path, plugins: &Path) -> Result<Self, LoadError> {
        let runtime = Runtime::new(Some(cache))?;
        Ok(Self {
            chain_sync: runtime.load(CHAIN_SYNC)?,
            config_sync: runtime.load(CONFIG_SYNC)?,
            index_check: runtime.load(INDEX_CHECK)?,
            mq_sync: runtime.load(MQ_SYNC)?,
            runtime,
            plugins: plugins.to_owned(),
            traces: None,
        })
    }

    /// Where traces go, a directory a namespace (see `core::strategy::trace`); [`Strategies::start`] says whether there are any.
    pub fn record_into(mut self, directory: &Path) -> Self {
        self.traces = Some(directory.to_owned());
        self
    }

    /// The embedded default of a kind.
    pub fn embedded<K: Hosted>(&self) -> StrategyId {
        id_of(K::default_of(self))
    }

    /// An instance of the embedded default of kind chain-sync alone, without an actor around it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open_embedded(&self, role: Role) -> Result<Instance, Fault> {
        self.chain_sync.open(role, "global", "{}")
    }

    /// Starts the strategy of kind `K` of one namespace. One that cannot be loaded leaves the namespace on the embedded default, with the
    /// reason in its state. Ends when the last handle is dropped. `trace_bytes` of what it does are recorded; 0: nothing is.
    pub fn start<K: Hosted>(
        &self,
        namespace: &Namespace,
        role: Role,
        choice: &StrategyChoice,
        trace_bytes: u64,
    ) -> Result<StrategyHandle<K>, Fault> {
        let (commands, queue) = mpsc::sync_channel(QUEUE_MAX);
        let counters = Arc::new(Counters::default());
        let traces = self.traces.as_ref().filter(|_| trace_bytes > 0);
        let recorder = traces.map(|directory| {
            let directory = directory.join(namespace.as_str());
            let of_kind = if K::NAME == ChainSync::NAME {
                directory
            } else {
                directory.join(K::NAME)
            };
            Recorder::new(of_kind, trace_bytes)
        });
        let (actor, state) = Actor::new(self.clone(), namespace, role, choice, recorder, Arc::clone(&counters));
        std::thread::Builder::new()
            .name(format!("strategy-{namespace}"))
            .spawn(move || actor.run(&queue))
            .map_err(|e| Fault::new("no-thread", e.to_string()))?;
        Ok(StrategyHandle {
            commands,
            state,
            counters,
        })
    }
}

fn id_of<K: Hosted>(component: &Component<K>) -> StrategyId {
    StrategyId {
        kind: K::NAME.into(),
        id: component.descriptor().id.clone(),
        version: component.descriptor().version.clone(),
        sha256: component.sha256(),
    }
}

/// One namespace's strategy, as its callers see it.
pub struct StrategyHandle<K: Hosted = ChainSync> {
    commands: mpsc::SyncSender<Command<K>>,
    state: watch::Receiver<StrategyState>,
    counters: Arc<Counters>,
}

impl<K: Hosted> Clone for StrategyHandle<K> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            state: self.state.clone(),
            counters: Arc::clone(&self.counters),
        }
    }
}

impl<K: Hosted> StrategyHandle<K> {
    /// Tells the strategy what happened. A fault was dealt with already (restart, quarantine, default): the next call reaches an instance
    /// that was given `opened` first.
    pub async fn handle(&self, events: Vec<K::Event>) -> Result<Vec<K::Action>, Fault> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(Command::Handle { events, reply })
            .map_err(|_| Fault::new("busy", "the strategy's queue is full"))?;
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Fault::new("ended", "the strategy's thread ended")),
            Err(_) => Err(Fault::new("deadline", "the strategy did not answer")),
        }
    }

    /// The last answer was refused by core: the instance that gave it faulted, as by a trap.
    pub fn refuse(&self, fault: Fault) -> Result<(), Fault> {
        self.order(Command::Refuse(fault))
    }

    /// Runs the embedded default whatever is configured (the two ends differ), or the configured one again.
    pub fn use_default(&self, embedded: bool) -> Result<(), Fault> {
        self.order(Command::UseDefault(embedded))
    }

    /// The other end left what both ran, for `theirs`: if that is what ran here before, this end goes back to it as well.
    pub fn left_for(&self, theirs: StrategyId) -> Result<(), Fault> {
        self.order(Command::LeftFor(theirs))
    }

    /// Forgives all faults and loads the configured strategy's files again.
    pub fn reset(&self) -> Result<(), Fault> {
        self.order(Command::Reset)
    }

    fn ordered(&self, order: Order) -> Result<(), Fault> {
        match order {
            Order::Refuse(fault) => self.refuse(fault),
            Order::UseDefault(embedded) => self.use_default(embedded),
            Order::LeftFor(theirs) => self.left_for(theirs),
        }
    }

    fn order(&self, command: Command<K>) -> Result<(), Fault> {
        self.commands
            .try_send(command)
            .map_err(|_| Fault::new("busy", "the strategy's queue is full"))
    }

    /// How it is now.
    pub fn state(&self) -> StrategyState {
        self.state.borrow().clone()
    }

    /// Wakes when [`StrategyHandle::state`] changes.
    pub fn changes(&self) -> watch::Receiver<StrategyState> {
        self.state.clone()
    }

    /// What it cost so far.
    pub fn cost(&self) -> Cost {
        Cost {
            calls: self.counters.calls.load(Ordering::Relaxed),
            nanos: self.counters.nanos.load(Ordering::Relaxed),
            restarts: self.counters.opened.load(Ordering::Relaxed).saturating_sub(1),
        }
    }
}

/// The strategies of one namespace.
#[derive(Clone)]
pub struct NamespaceStrategies {
    /// Which blocks are fetched.
    pub chain_sync: StrategyHandle<ChainSync>,
    /// Which files are fetched, which changes are strong.
    pub config_sync: StrategyHandle<ConfigSync>,
    /// Whether the two ends' index settings may go together.
    pub index_check: StrategyHandle<IndexCheck>,
    /// Which queues are registered, and what the receiver takes of them.
    pub mq_sync: StrategyHandle<MqSync>,
}

/// What is ordered of a strategy, whatever its kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// [`StrategyHandle::refuse`].
    Refuse(Fault),
    /// [`StrategyHandle::use_default`].
    UseDefault(bool),
    /// [`StrategyHandle::left_for`].
    LeftFor(StrategyId),
}

impl NamespaceStrategies {
    /// What each cost so far, by kind.
    pub fn costs(&self) -> [(&'static str, Cost); 4] {
        [
            (ChainSync::NAME, self.chain_sync.cost()),
            (ConfigSync::NAME, self.config_sync.cost()),
            (IndexCheck::NAME, self.index_check.cost()),
            (MqSync::NAME, self.mq_sync.cost()),
        ]
    }

    /// Orders it of the strategy of this kind; nothing of a kind that there is not.
    pub fn order(&self, kind: &str, order: Order) -> Result<(), Fault> {
        match kind {
            ChainSync::NAME => self.chain_sync.ordered(order),
            ConfigSync::NAME => self.config_sync.ordered(order),
            IndexCheck::NAME => self.index_check.ordered(order),
            MqSync::NAME => self.mq_sync.ordered(order),
            _ => Ok(()),
        }
    }
}

/// A strategy's settings as the configuration has them (TOML) in the form strategies read (JSON).
pub fn settings_json(toml_text: &str) -> Result<String, Fault> {
    let bad = |e: String| Fault::new("bad-settings", format!("the settings are not TOML: {e}"));
    let table: toml::Table = if toml_text.trim_start().starts_with('{') {
        let mut wrapped: toml::Table =
            toml::from_str(&format!("settings = {toml_text}")).map_err(|e| bad(e.message().to_owned()))?;
        match wrapped.remove("settings") {
            Some(toml::Value::Table(table)) => table,
            _ => return Err(bad("not a table".into())),
        }
    } else {
        toml::from_str(toml_text).map_err(|e| bad(e.message().to_owned()))?
    };
    serde_json::to_string(&table).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests;
