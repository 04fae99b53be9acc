//! The loop around the machine: one task owns it, feeds it what happened, and does what it says.
//!
//! Nothing here waits on the disk, a ledger, a strategy or a socket: each has its own thread or task, and answers come back through one
//! bounded queue.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cvp_core::replication::{
    Action, ArchiveWork, BrokerState, ChangeWork, DialPurpose, Event, Outcome, Pair, Passed, Setup, Ticket, TreeEvent,
};
use cvp_core::types::strategy::{Level, Role};
use cvp_core::types::{Height, Micros, Millis, Namespace, Refusal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::archivist::Archivist;
use super::commands::Command;
use super::dialer::Dialled;
use super::following::MET_AT;
use super::links::Links;
use super::serving::Served;
use super::strategies::Order;
use super::tree::{TreeWorker, Work};
use super::worker::{Job, Wanted, Worker};
use super::writer::Write;
use super::{Difference, Environment, Standing, StrategyHandles};
use crate::config::Watch;
use crate::link::Accepted;

/// How often the machine hears of time alone.
const TICK_MS: u64 = 50;
/// What may wait for the machine; beyond it links stop being read.
pub(super) const INBOUND_MAX: usize = 256;

/// What reaches the task.
pub(super) enum Inbound {
    /// For the machine; of another epoch than the machine's it is dropped.
    Core(u64, Event),
    /// A run was appended, and what a sync of it is answered with: it was made durable at once.
    Durable(u64, Namespace, Event, Box<Event>),
    /// A dial has ended.
    Linked(u64, DialPurpose, Dialled),
    /// The handle asks.
    Command(Command),
}

pub(super) struct Driver {
    pub(super) pair: Pair,
    pub(super) role: Role,
    /// Nothing is done for the machine while it is stopped for a change of role.
    pub(super) running: bool,
    pub(super) epoch: u64,
    pub(super) environment: Environment,
    begun: Instant,
    pub(super) links: Links,
    pub(super) served: Served,
    pub(super) workers: HashMap<Namespace, Worker>,
    /// Works on histories and states as a whole.
    pub(super) archivist: Option<Archivist>,
    pub(super) strategies: StrategyHandles,
    pub(super) followers: Vec<JoinHandle<()>>,
    pub(super) inbound: mpsc::Sender<Inbound>,
    pub(super) standing: watch::Sender<Standing>,
    difference: watch::Sender<Difference>,
    /// Who waits for the end of a strong change.
    pub(super) clients: HashMap<Ticket, oneshot::Sender<Outcome>>,
    /// Whose transactions are passed on.
    pub(super) passing: HashMap<Ticket, oneshot::Sender<Passed>>,
    /// Who waits for a strategy to weigh a change.
    pub(super) weighing: HashMap<Ticket, oneshot::Sender<bool>>,
    pub(super) tickets: Ticket,
    /// Watches the own tree while this node is a provider.
    pub(super) watch: Option<Watch>,
    /// How each namespace's broker is reached, as last told: a machine that takes this one's place is told again.
    pub(super) brokers: Vec<(Namespace, BrokerState)>,
    /// Events that doing an action gave; they go in before anything else.
    pub(super) pending: VecDeque<Event>,
    /// When the page of metrics was last renewed.
    pub(super) measured_at: Millis,
    /// What the next sync is answered with: it was done with the append.
    synced: Option<(Namespace, Event)>,
    /// Namespaces whose log is on its way to the disk.
    pub(super) syncing: BTreeSet<Namespace>,
    /// What the chains were told of a standby's copies.
    pub(super) copies: BTreeMap<Namespace, Option<Height>>,
}

impl Driver {
    pub(super) fn new(
        setup: Setup,
        environment: Environment,
        strategies: StrategyHandles,
        inbound: mpsc::Sender<Inbound>,
        (standing, difference): (watch::Sender<Standing>, watch::Sender<Difference>),
    ) -> Driver {
        Driver {
            role: setup.role,
            pair: Pair::new(setup),
            running: true,
            epoch: 1,
            environment,
            begun: Instant::now(),
            links: Links::default(),
            served: Served::default(),
            workers: HashMap::new(),
            archivist: None,
            strategies,
            followers: Vec::new(),
            inbound,
            standing,
            difference,
            clients: HashMap::new(),
            weighing: HashMap::new(),
            passing: HashMap::new(),
            tickets: 0,
            watch: None,
            brokers: Vec::new(),
            pending: VecDeque::new(),
            measured_at: 0,
            synced: None,
            syncing: BTreeSet::new(),
            copies: BTreeMap::new(),
        }
    }

    fn micros(&self) -> Micros {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn now(&self) -> Millis {
        self.micros() / 1000
    }

    /// The loop; ends with [`Command::Shutdown`] or when every handle is gone.
    pub(super) async fn drive(mut self, mut inbound: mpsc::Receiver<Inbound>, mut accepted: mpsc::Receiver<Accepted>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.begin();
        loop {
            tokio::select! {
                arrived = inbound.recv() => match arrived {
                    None => return,
                    Some(Inbound::Command(Command::Shutdown(done))) => {
                        self.links.close_all();
                        self.served.clear();
                        self.end(done);
                        return;
                    }
                    Some(Inbound::Command(command)) => self.on_command(command),
                    Some(Inbound::Core(epoch, event)) if epoch == self.epoch => self.feed(event),
                    Some(Inbound::Durable(epoch, ns, appended, synced)) if epoch == self.epoch => {
                        self.synced = Some((ns, *synced));
                        self.feed(appended);
                        self.synced = None;
                    }
                    Some(Inbound::Linked(epoch, purpose, linked)) if epoch == self.epoch => self.on_dialled(purpose, linked),
                    Some(_) => {}
                },
                Some((from, link)) = accepted.recv() => match link {
                    Ok(link) => self.on_accepted(link),
                    Err(error) => {
                        let (now, refusal) = (self.now(), error.refusal());
                        self.links.log_refused(&from.ip().to_string(), &refusal, now);
                        // Who only looks whether somebody listens was not refused.
                        if refusal.code != "connection-lost" {
                            let address = from.to_string();
                            self.feed(Event::Turned { address, refusal });
                        }
                    }
                },
                _ = ticks.tick() => {
                    for (conn, moved) in self.links.waiting() {
                        self.feed(Event::Leaving(conn, moved));
                    }
                    self.feed(Event::Tick);
                    self.measure();
                }
            }
        }
    }

    /// Tells `done` once what was asked of the disk is there: a change that was answered and stands in no durable file of its own would be
    /// written again at the next start, over whatever somebody wrote there meanwhile.
    fn end(&self, done: oneshot::Sender<()>) {
        if let Some(what) = self.pair.unnoted() {
            let _ = self.environment.writer.push(self.epoch, Write::Last(what));
        }
        let written = self.environment.writer.flushed();
        let settled = self.environment.tree.as_ref().map(TreeWorker::flushed);
        tokio::spawn(async move {
            let _ = written.await;
            if let Some(settled) = settled {
                let _ = settled.await;
            }
            let _ = done.send(());
        });
    }

    /// Workers and followers of the tips, for the role the machine has.
    pub(super) fn begin(&mut self) {
        self.syncing.clear();
        for chain in self.environment.chains.all() {
            let ns = chain.namespace().clone();
            match Worker::start(Arc::clone(&chain), self.epoch, self.inbound.clone()) {
                Ok(worker) => {
                    self.workers.insert(ns, worker);
                }
                Err(error) => tracing::error!(namespace = %ns, %error, "start replication threads"),
            }
            let failure = super::follow_failure(Arc::clone(&chain), self.epoch, self.inbound.clone());
            self.followers.push(tokio::spawn(failure));
            if self.role == Role::Provider {
                self.followers.push(tokio::spawn(super::follow_tips(
                    chain,
                    self.epoch,
                    self.inbound.clone(),
                )));
            }
        }
        match Archivist::start(self.epoch, self.inbound.clone()) {
            Ok(archivist) => self.archivist = Some(archivist),
            Err(error) => tracing::error!(%error, "start archive threads"),
        }
        for (ns, handle) in &self.strategies {
            let tasks = super::follow_strategies(ns, handle, self.epoch, &self.inbound);
            self.followers.extend(tasks);
        }
        let indexes = super::follow_indexes(&self.environment, self.epoch, self.inbound.clone());
        self.followers.push(tokio::spawn(indexes));
        self.watch_tree();
        self.feed(Event::Tick);
        self.tell_brokers(self.brokers.clone());
    }

    /// Whoever edits a provider's own files, or a receiver's copy of them, is noticed. Without a watch the own ones are looked at when a
    /// session opens and after each change by command, and the copy every few seconds of a session.
    fn watch_tree(&mut self) {
        let (answers, epoch) = (self.inbound.clone(), self.epoch);
        let touched = move || {
            let answers = answers.clone();
            async move {
                let _ = answers
                    .send(Inbound::Core(epoch, Event::Tree(TreeEvent::Touched)))
                    .await;
            }
        };
        let Some(tree) = &self.environment.tree else { return };
        // The one of the role before ends first.
        self.watch = None;
        match Watch::start(tree.places(self.role).clone(), touched) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => {
                tracing::warn!(%error, "edits of the configuration by hand are not noticed at once: no watch (see fs.inotify.max_user_watches)")
            }
        }
    }

    /// Feeds one event and everything that doing the answers brings at once.
    pub(super) fn feed(&mut self, event: Event) {
        self.pending.push_back(event);
        while let Some(event) = self.pending.pop_front() {
            if !self.running {
                self.pending.clear();
                return;
            }
            match &event {
                Event::Closed { conn, reason } => self.links.ended(*conn, reason.as_ref(), self.now()),
                Event::FollowerGone(conn) => self.served.gone(*conn),
                Event::Synced { ns, .. } | Event::StoreFailed { ns, .. } => {
                    self.syncing.remove(ns);
                }
                _ => {}
            }
            let ready = self.pair.step(self.micros(), event);
            for action in ready.now {
                self.act(action);
            }
            self.publish_copies(ready.alone);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { conn, frame } => {
                if let Err(error) = self.links.send(conn, frame) {
                    let reason = Some(error.refusal());
                    self.pending.push_back(Event::Closed { conn, reason });
                }
            }
            Action::Close { conn, refusal } => {
                if self.links.close(conn, refusal.as_ref(), self.now()) {
                    self.pending.push_back(Event::Closed { conn, reason: None });
                }
            }
            Action::Dial { purpose } => self.dial(purpose),
            Action::Read {
                conn,
                ns,
                stream,
                first,
                last,
                bytes_max,
            } => {
                let Some(link) = self.links.sender(conn) else { return };
                let wanted = Wanted {
                    conn,
                    link,
                    stream,
                    first,
                    last,
                    bytes_max,
                };
                self.read(&ns, wanted);
            }
            Action::Ingest {
                ns,
                parent,
                bytes,
                tail,
            } => self.ingest(&ns, parent, bytes, tail),
            Action::Sync { ns } => {
                if let Some((_, done)) = self.synced.take_if(|(of, _)| *of == ns) {
                    return self.pending.push_back(done);
                }
                self.syncing.insert(ns.clone());
                let queued = self.workers.get(&ns).map_or_else(|| Err(no_worker(&ns)), Worker::sync);
                self.store_failed(ns, queued);
            }
            Action::Probe { ns, bytes } => {
                // A queue that is full answers no probe: the machine asks again.
                if let Some(Err(refusal)) = self.workers.get(&ns).map(|worker| worker.queue(Job::Probe(bytes))) {
                    tracing::debug!(namespace = %ns, "probe the store: {refusal}");
                }
            }
            Action::Archive { ns, work } => self.archive(&ns, work),
            Action::LookUp { conn, wanted } => self.look_up(conn, wanted),
            Action::Strategy { ns, events } => self.ask_strategy(ns, events),
            Action::ConfigStrategy { ns, events } => self.ask_config_strategy(ns, events),
            Action::IndexStrategy { ns, events } => self.ask_index_strategy(ns, events),
            Action::QueueStrategy { ns, events } => self.ask_queue_strategy(ns, events),
            Action::StrategyFault { ns, kind, fault } => self.order_strategy(&ns, kind, Order::Refuse(fault)),
            Action::UseDefault { ns, kind, embedded } => self.order_strategy(&ns, &kind, Order::UseDefault(embedded)),
            Action::StrategyLeft { ns, theirs } => {
                let kind = theirs.kind.clone();
                self.order_strategy(&ns, &kind, Order::LeftFor(theirs));
            }
            Action::Persist { token, what } => {
                if let Err(refusal) = self.environment.writer.push(self.epoch, Write::File(token, what)) {
                    self.pending.push_back(Event::PersistFailed(token, refusal));
                }
            }
            Action::Queues(work) => self.work_on_tree(Work::Queues(work)),
            Action::Tree(work) => self.work_on_tree(Work::Tree(work)),
            Action::Change(ChangeWork::Answer(ticket, outcome)) => {
                if let Some(client) = self.clients.remove(&ticket) {
                    let _ = client.send(outcome);
                }
            }
            Action::Change(ChangeWork::Weighed(ticket, strong)) => {
                if let Some(waiting) = self.weighing.remove(&ticket) {
                    let _ = waiting.send(strong);
                }
            }
            Action::Change(work) => self.work_on_tree(Work::Change(work)),
            Action::AllowMaking => {
                self.standing.send_modify(|standing| standing.may_make = true);
            }
            Action::Fence { fenced } => self.fence(format!(
                "its place was taken by incarnation {} (told by {})",
                fenced.by(),
                fenced.told_by
            )),
            Action::NoticeTaken { address, claim } => {
                tracing::info!(%address, fenced = claim.fenced, "the predecessor has heard the take-over notice");
            }
            Action::HandOver {
                conn,
                peer,
                hello,
                setup,
            } => self.hand_over(conn, peer, hello, *setup),
            Action::Dismiss { conn, refusal } => self.served.dismiss(conn, refusal),
            Action::PassedOn { ticket, answer } => {
                if let Some(client) = self.passing.remove(&ticket) {
                    let _ = client.send(answer);
                }
            }
            // Of machines that serve a follower.
            Action::Submit { .. } => {}
            Action::Attached { mut self_section, .. } => {
                if self.environment.tree.is_none() {
                    // A VP may be met where no configuration names it.
                    let met = self.links.dialled().map(|address| (MET_AT.to_owned(), address));
                    self_section.extend(met);
                }
                if let Err(refusal) = self.environment.writer.push(self.epoch, Write::Provider(self_section)) {
                    tracing::error!("write the provider's [self]: {refusal}");
                }
            }
            Action::Align { missing, extra } => {
                self.difference.send_replace(Difference { missing, extra });
            }
            Action::Acknowledged { ns, durable } => {
                if let Some(chain) = self.environment.chains.get(ns.as_str()) {
                    chain.acknowledged(durable);
                }
            }
            Action::Log { level, ns, text } => log(level, ns.as_ref(), &text),
            Action::Metric { ns, name, value } => {
                metrics::gauge!("cvp_strategy", "namespace" => ns.to_string(), "name" => name).set(value as f64);
            }
        }
    }

    /// A follower has no tree, and its machine asks for no work on one.
    fn work_on_tree(&self, work: Work) {
        if let Some(tree) = &self.environment.tree {
            tree.push(self.epoch, self.role, work);
        }
    }

    pub(super) fn queue(&mut self, ns: &Namespace, job: Job) {
        let queued = self
            .workers
            .get(ns)
            .map_or_else(|| Err(no_worker(ns)), |worker| worker.queue(job));
        self.store_failed(ns.clone(), queued);
    }

    fn archive(&mut self, ns: &Namespace, work: ArchiveWork) {
        let link = match work {
            ArchiveWork::Ship { conn, .. } | ArchiveWork::ReadBack { conn, .. } | ArchiveWork::Headers { conn, .. } => {
                self.links.sender(conn)
            }
            _ => None,
        };
        let Some(chain) = self.environment.chains.get(ns.as_str()) else {
            return;
        };
        let queues = self.environment.queues.clone();
        let queued = self
            .archivist
            .as_ref()
            .is_some_and(|archivist| archivist.queue(chain, work, (link, queues)));
        if !queued {
            self.store_failed(ns.clone(), Err(no_worker(ns)));
        }
    }

    fn store_failed(&mut self, ns: Namespace, queued: Result<(), Refusal>) {
        if let Err(refusal) = queued {
            self.pending.push_back(Event::StoreFailed { ns, refusal });
        }
    }

    /// Makes no more blocks, at once; the closing of the port is the assembly's, which watches the standing.
    fn fence(&self, why: String) {
        tracing::error!("this node is fenced: {why}");
        let refusal = Refusal::new(
            "fenced",
            why,
            "make it a standby of the node that took its place: see `cvp status`",
        );
        self.standing.send_modify(|standing| {
            standing.may_make = false;
            standing.fenced = Some(refusal.clone());
        });
        for chain in self.environment.chains.all() {
            let refusal = refusal.clone();
            tokio::task::spawn_blocking(move || chain.fence(refusal));
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.followers.drain(..).for_each(|task| task.abort());
    }
}

fn no_worker(ns: &Namespace) -> Refusal {
    Refusal::new(
        "not-running",
        format!("namespace {ns} has no replication threads"),
        "see the log of this node",
    )
}

pub(super) fn log(level: Level, ns: Option<&Namespace>, text: &str) {
    let ns = ns.map_or("", |ns| ns.as_str());
    match level {
        Level::Debug => tracing::debug!(namespace = ns, "{text}"),
        Level::Info => tracing::info!(namespace = ns, "{text}"),
        Level::Warn => tracing::warn!(namespace = ns, "{text}"),
    }
}
