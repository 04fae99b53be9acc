//! Replication: the host around core's machine. Moves bytes between links, ledgers and strategies as the machine says.
//!
//! Owns the task that owns the machine, the threads that touch ledgers for it, and the pair's control files. Decides nothing about spans,
//! sessions or fencing: core does. The block producer never waits on anything here: it is followed by its watch.

mod archivist;
mod asks;
mod commands;
mod connect;
mod dialer;
mod driver;
mod files;
mod following;
mod links;
mod queues;
mod serving;
mod setup;
mod tree;
pub mod strategies;
mod worker;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use cvp_core::config::Remote;
use cvp_core::mq::QueueEdit;
use cvp_core::replication::{BrokerState, Event, Limits, Outcome, PairStatus, Passed, Setup};
use cvp_core::session::SessionKind;
use cvp_core::types::strategy::config_sync::Edit;
use cvp_core::types::{Millis, Namespace, Refusal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::Root;
use crate::index;
use crate::link::{Accepted, SharedTls};
use crate::mq::QueueSet;
use crate::namespace::{Chain, ChainSet, ChainState};
use commands::Command;
use driver::{Driver, INBOUND_MAX, Inbound};

pub use dialer::Remotes;
pub use files::{ControlFiles, FileError};
pub(crate) use following::streams;
pub use following::{Addresses, Followed, Following, Target};
pub use queues::{describe_queues, finish_queues, queue_files};
pub use setup::{SetupSource, limits};
use strategies::{Hosted, NamespaceStrategies, StrategyHandle};
use tree::TreeWorker;
pub use tree::finish_commit;
use writer::FileWriter;

/// The strategies of each namespace.
pub type StrategyHandles = HashMap<Namespace, NamespaceStrategies>;

/// What the task works with, whatever its role.
struct Environment {
    chains: ChainSet,
    queues: QueueSet,
    tls: SharedTls,
    remotes: Remotes,
    known: Vec<Remote>,
    /// None where this node follows: that is no copy of a node.
    tree: Option<TreeWorker>,
    writer: FileWriter,
    root: Root,
}

/// Everything replication needs from the assembly.
pub struct Options {
    /// The machine's setup.
    pub setup: Setup,
    /// The chains that are open.
    pub chains: ChainSet,
    /// The TLS set; none when `p2p.enableTLS = false`.
    pub tls: SharedTls,
    /// Reads `cvp.remote` afresh.
    pub remotes: Remotes,
    /// Hosts behind addresses that `cvp.remote` does not name: the last receiver, the predecessor.
    pub known: Vec<Remote>,
    /// Control files.
    pub files: ControlFiles,
    /// The node's root: its tree, and its copy of the provider's.
    pub root: Root,
    /// The strategy of each chain.
    pub strategies: StrategyHandles,
    /// Where what is copied of message queues is shown.
    pub queues: QueueSet,
    /// Links that are accepted (see [`crate::link::Listener`]).
    pub accepted: mpsc::Receiver<Accepted>,
}

/// What the pair allows this node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Provider: blocks may be made.
    pub may_make: bool,
    /// This node's place was taken.
    pub fenced: Option<Refusal>,
}

/// Namespaces that only one end of the pair runs, as a receiver is to align them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// Run on the provider alone.
    pub missing: Vec<Namespace>,
    /// Run here alone.
    pub extra: Vec<Namespace>,
}

/// A strong change that an operator asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// What it is: an open set.
    pub kind: &'static str,
    /// What the kind says it is.
    pub body: bytes::Bytes,
    /// In words, for the status.
    pub note: String,
    /// Fail rather than change this node alone.
    pub must_replicate: bool,
    /// The queue that it registers or unregisters, and in which namespace: then that one's mq-sync strategy is asked first.
    pub queue: Option<(Namespace, QueueEdit)>,
}

/// The handle; clone it freely.
#[derive(Clone)]
pub struct Replication {
    inbound: mpsc::Sender<Inbound>,
    standing: watch::Receiver<Standing>,
    difference: watch::Receiver<Difference>,
}

impl Replication {
    /// Starts the task. `strategies` is given where its answers go.
    ///
    /// # Errors
    /// The system gave no thread for the control files.
    pub fn start(options: Options) -> std::io::Result<Replication> {
        let (inbound, arrived) = mpsc::channel(INBOUND_MAX);
        let (send_standing, standing) = watch::channel(Standing::default());
        let (send_difference, difference) = watch::channel(Difference::default());
        let tree = match options.setup.kind {
            SessionKind::Standby => Some(TreeWorker::start(
                options.root.clone(),
                options.files.clone(),
                (options.chains.clone(), options.queues.clone()),
                inbound.clone(),
            )?),
            SessionKind::Follower => None,
        };
        let environment = Environment {
            tree,
            root: options.root,
            chains: options.chains,
            queues: options.queues,
            tls: options.tls,
            remotes: options.remotes,
            known: options.known,
            writer: FileWriter::start(options.files, inbound.clone())?,
        };
        let driver = Driver::new(
            options.setup,
            environment,
            options.strategies,
            inbound.clone(),
            (send_standing, send_difference),
        );
        tokio::spawn(driver.drive(arrived, options.accepted));
        Ok(Replication {
            inbound,
            standing,
            difference,
        })
    }

    /// The pair's status, and the time it is of on the machine's clock; `None` when the task does not answer any more.
    pub async fn status(&self) -> Option<(PairStatus, Millis)> {
        self.ask(Command::Status).await
    }

    /// Every follower of this node, as its own machine sees it.
    pub async fn followers(&self) -> Vec<(PairStatus, Millis)> {
        self.ask(Command::Followers).await.unwrap_or_default()
    }

    /// Changes of what the pair allows this node.
    pub fn watch_standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Receiver: each time that its namespaces are to be aligned to the provider's, what differs.
    pub fn watch_difference(&self) -> watch::Receiver<Difference> {
        self.difference.clone()
    }

    /// The namespaces that are configured here and do not run, each with its reason.
    pub async fn set_held(&self, held: Vec<(Namespace, Refusal)>) {
        let _ = self.ask(|done| Command::Held(held, done)).await;
    }

    /// Makes a strong change; `None` when the task does not answer any more. Comes back when it has ended one way or the other.
    pub async fn propose(&self, wish: Wish) -> Option<Outcome> {
        self.ask(|answer| Command::Propose(wish, answer)).await
    }

    /// Passes a client's transaction on to the VP that this machine follows; `None` when the task does not answer any more.
    pub async fn pass_on(&self, ns: Namespace, transaction: bytes::Bytes) -> Option<Passed> {
        self.ask(|answer| Command::PassOn(ns, transaction, answer)).await
    }

    /// Whether the config-sync strategy wants a change strong that the host would let be weak.
    pub async fn weigh(&self, edit: Edit) -> bool {
        self.ask(|answer| Command::Weigh(edit, answer)).await.unwrap_or(false)
    }

    /// Cursors of message queues moved: the standby hears of it, soon.
    pub async fn queues_moved(&self) {
        let _ = self.ask(Command::QueuesMoved).await;
    }

    /// A queue waits until the standby has its cursor: the standby hears of it now.
    pub async fn queues_awaited(&self) {
        let _ = self.ask(Command::QueuesAwaited).await;
    }

    /// How each namespace's broker is reached now; a list of those that have queues.
    pub async fn set_brokers(&self, brokers: Vec<(Namespace, BrokerState)>) {
        let _ = self.ask(|done| Command::Brokers(brokers, done)).await;
    }

    /// Numbers of the configuration changed.
    pub async fn set_limits(&self, limits: Limits) {
        let _ = self.ask(|done| Command::Limits(limits, done)).await;
    }

    /// `cvp.enable` changed.
    pub async fn set_enabled(&self, enabled: bool) {
        let _ = self.ask(|done| Command::Enable(enabled, done)).await;
    }

    /// Ends every session and every work on the ledgers: the role is about to change.
    pub async fn quiesce(&self) {
        let _ = self.ask(Command::Quiesce).await;
    }

    /// Goes on with another setup: in another role, or with other chains in the same one, where what was heard of the peer stays known.
    /// The strategies were started for that role. [`Replication::quiesce`] comes before.
    pub async fn become_role(&self, setup: Setup, strategies: StrategyHandles) {
        let _ = self
            .ask(|done| Command::Become(Box::new(setup), strategies, done))
            .await;
    }

    /// Ends the links with what is queued and stops.
    pub async fn shutdown(&self) {
        let _ = self.ask(Command::Shutdown).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (send, answer) = oneshot::channel();
        self.inbound.send(Inbound::Command(command(send))).await.ok()?;
        answer.await.ok()
    }
}

/// Tells the machine each advance of a chain; waiting for room in its queue is what coalesces them.
async fn follow_tips(chain: Arc<Chain>, epoch: u64, inbound: mpsc::Sender<Inbound>) {
    let mut tips = chain.watch_tips();
    loop {
        let now = *tips.borrow_and_update();
        let event = Event::LocalTip {
            ns: chain.namespace().clone(),
            durable: now.durable,
            applied: now.applied.height,
        };
        if inbound.send(Inbound::Core(epoch, event)).await.is_err() || tips.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the machine when a chain fails, so that the other end hears of it too.
async fn follow_failure(chain: Arc<Chain>, epoch: u64, inbound: mpsc::Sender<Inbound>) {
    let mut states = chain.watch_state();
    let failed = states.wait_for(|state| matches!(state, ChainState::Failed(_)));
    let Ok(ChainState::Failed(refusal)) = failed.await.map(|state| state.clone()) else {
        return;
    };
    let ns = chain.namespace().clone();
    let _ = inbound
        .send(Inbound::Core(epoch, Event::StoreFailed { ns, refusal }))
        .await;
}

/// Tells the machine how the data index of each chain is, and each change of it.
fn follow_indexes(
    environment: &Environment,
    epoch: u64,
    inbound: mpsc::Sender<Inbound>,
) -> impl Future<Output = ()> + use<> {
    let chains = environment.chains.all().into_iter();
    let watched = chains.map(|chain| index::Watched {
        namespace: chain.namespace().clone(),
        running: chain.options().index.clone(),
    });
    index::watch(environment.root.clone(), watched.collect(), move |ns, state| {
        let inbound = inbound.clone();
        async move {
            let seen = Event::IndexSeen { ns, state };
            inbound.send(Inbound::Core(epoch, seen)).await.is_ok()
        }
    })
}

/// Tells the machine each change of the instances of a namespace's strategies.
fn follow_strategies(
    ns: &Namespace,
    handles: &NamespaceStrategies,
    epoch: u64,
    inbound: &mpsc::Sender<Inbound>,
) -> [JoinHandle<()>; 4] {
    let (chain, files, index) = (&handles.chain_sync, &handles.config_sync, &handles.index_check);
    let queues = &handles.mq_sync;
    [
        tokio::spawn(follow_strategy(ns.clone(), chain.clone(), epoch, inbound.clone())),
        tokio::spawn(follow_strategy(ns.clone(), files.clone(), epoch, inbound.clone())),
        tokio::spawn(follow_strategy(ns.clone(), index.clone(), epoch, inbound.clone())),
        tokio::spawn(follow_strategy(ns.clone(), queues.clone(), epoch, inbound.clone())),
    ]
}

/// Tells the machine each change of a strategy's instance.
async fn follow_strategy<K: Hosted>(
    ns: Namespace,
    handle: StrategyHandle<K>,
    epoch: u64,
    inbound: mpsc::Sender<Inbound>,
) {
    let mut changes = handle.changes();
    loop {
        let state = changes.borrow_and_update().clone();
        let event = Event::StrategyState {
            ns: ns.clone(),
            id: state.offered,
            run: state.run,
            faults: state.faults,
            configured: state.configured,
            problem: state.problem,
        };
        if inbound.send(Inbound::Core(epoch, event)).await.is_err() || changes.changed().await.is_err() {
            return;
        }
    }
}
