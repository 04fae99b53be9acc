//! Message queues of the simulated nodes: what a provider keeps in memory of them, what their disks hold, mq-sync strategies that trap at times, and
//! brokers that come and go.

mod check;
mod clients;
mod consumers;

use std::collections::BTreeMap;

use cvp_core::ledger::Ledger;
use cvp_core::mq::{Ahead, Delivery, QUEUE_CHANGE, QueueChange, Registry, exchanger_name, first_under};
use cvp_core::record::parse;
use cvp_core::replication::{BrokerState, Change, ChangeEvent, Event, QueueEvent, QueueWork, QueuesHeld, Ticket};
use cvp_core::strategy::{MqSync, MqSyncStrategy, Native};
use cvp_core::types::strategy::{Fault, Role, mq_sync};
use cvp_core::types::{Digest, Height, Incarnation, Millis, Namespace, Refusal};
use cvp_mq_sync::Default as MqSyncDefault;

use crate::world::{Ev, F, World};

pub use check::QueueWishes;
pub use consumers::Consumers;

/// Tickets of changes of queues begin here; those of files are below.
pub const QUEUE_TICKETS: Ticket = 1 << 32;

/// Nanoseconds in a millisecond.
const NANOS: u64 = 1_000_000;

/// The queues of one namespace in the memory of a provider's process.
pub struct Serving {
    pub registry: Registry,
    pub cursors: cvp_core::mq::Cursors,
    /// The change that a client waits for.
    pub changing: Option<Ticket>,
    /// What is under way to the consumer of each queue, by the number of its registration.
    feeds: BTreeMap<u64, Delivery>,
    /// What each was told ahead of the standby, and since when it waits for that.
    ahead: BTreeMap<u64, (Ahead, Option<Millis>)>,
    /// Cursors moved since they were written.
    moved: bool,
}

/// The default mq-sync strategy, natively.
pub fn open_queues(role: Role, namespace: &Namespace) -> Result<MqSyncStrategy, String> {
    let native = Native::<MqSyncDefault, MqSync>::open(role, namespace.as_str(), "{}");
    Ok(Box::new(native.map_err(|fault| fault.to_string())?))
}

/// What a change asks for, where it is one of queues.
pub fn queue_change(change: &Change) -> Option<QueueChange> {
    let decoded = (change.kind == QUEUE_CHANGE).then(|| QueueChange::decode(&change.body).ok());
    decoded.flatten()
}

impl World {
    pub fn reopen_queues(&mut self, node: usize, ns: &Namespace) {
        let role = self.nodes[node].role;
        if let Some(store) = self.nodes[node].store(ns) {
            store.queues = open_queues(role, ns).ok();
        }
    }

    pub fn advise_queues(&mut self, node: usize, ns: &Namespace, events: Vec<mq_sync::Event>) {
        let lost = self.now < self.nodes[node].advice_lost_until;
        let trapped = lost && self.random.chance(50);
        let epoch = self.nodes[node].epoch;
        let Some(store) = self.nodes[node].store(ns) else {
            return;
        };
        let mut result = match store.queues.as_mut() {
            Some(strategy) => strategy.handle(events),
            None => Err(Fault::new("gone", "no strategy")),
        };
        if trapped {
            result = Err(Fault::new("planted", "a trap"));
        }
        if result.is_err() {
            self.reopen_queues(node, ns);
        }
        let delay = if lost {
            self.random.range(0, 3_000)
        } else {
            self.random.range(0, 2)
        };
        let event = Event::QueueStrategy { ns: ns.clone(), result };
        self.later(delay, Ev::Host { node, epoch, event });
    }

    /// Brings a provider's queues in line with what it runs: opened from its disk, cut where it took a chain over.
    pub fn refresh_queues(&mut self, node: usize) -> Result<(), String> {
        let machine = &self.nodes[node];
        let serves = machine.role == Role::Provider && !machine.follows && node != F && machine.promotion.is_none();
        let running = machine.running.clone();
        let mut before = std::mem::take(&mut self.nodes[node].serving);
        if !serves {
            return Ok(());
        }
        let reign = self.nodes[node].identity()?.lineage.reigns().last().cloned();
        let reign = reign.ok_or("a provider without incarnation")?;
        for ns in running {
            let start = reign.starts.iter().find(|start| start.namespace == ns);
            let serving = match before.remove(&ns) {
                Some(mut serving) => {
                    // Nobody answers what an older machine was asked: the disk says what came of it.
                    serving.changing = None;
                    serving
                }
                None => {
                    let first = match start {
                        Some(start) => start.first,
                        None => self.first_made(node, &ns, reign.incarnation)?,
                    };
                    self.open_serving(node, &ns, (reign.incarnation, first))
                }
            };
            self.nodes[node].serving.insert(ns.clone(), serving);
            self.look_again(node, &ns);
        }
        self.tell_broker(node);
        let epoch = self.nodes[node].epoch;
        self.later(1, Ev::Tell { node, epoch });
        Ok(())
    }

    /// A chain that did not run when its node was promoted says itself where it goes on.
    fn first_made(&self, node: usize, ns: &Namespace, incarnation: Incarnation) -> Result<Height, String> {
        let stores = &self.nodes[node].stores;
        let store = stores
            .iter()
            .find(|store| store.namespace == *ns)
            .ok_or("no such chain")?;
        first_under(incarnation, store.ledger.tips().applied.height, |height| {
            if height < store.ledger.history_from() {
                return Ok(None);
            }
            let bytes = store.ledger.record(height).map_err(|error| error.to_string())?;
            let made = bytes.map(|bytes| parse(&bytes).map(|record| record.header().incarnation));
            made.transpose().map_err(|error| error.to_string())
        })
    }

    fn open_serving(&mut self, node: usize, ns: &Namespace, (incarnation, first): (Incarnation, Height)) -> Serving {
        let made = self.now * NANOS;
        if !self.nodes[node].disk.queues.contains_key(ns) {
            // Of a standby that never heard of its provider's, too: then it is part of what its promotion leaves.
            let name = exchanger_name(ns, &self.nodes[node].hostname, made);
            self.write_registry(node, ns, Registry::new(name));
        }
        let machine = &mut self.nodes[node];
        let hostname = machine.hostname.clone();
        let fresh = || (Registry::new(exchanger_name(ns, &hostname, made)), Default::default());
        let (registry, cursors) = machine.disk.queues.entry(ns.clone()).or_insert_with(fresh);
        if cursors.incarnation != Some(incarnation) {
            registry.begin_at(first);
        }
        if cursors.take_over(registry, incarnation, Some(first)) {
            self.counts.queues_cut += u64::from(!registry.queues().is_empty());
        }
        Serving {
            registry: registry.clone(),
            cursors: cursors.clone(),
            changing: None,
            feeds: BTreeMap::new(),
            ahead: BTreeMap::new(),
            moved: false,
        }
    }

    /// What the disk holds is who is registered.
    pub fn look_again(&mut self, node: usize, ns: &Namespace) {
        let machine = &mut self.nodes[node];
        let Some((registry, _)) = machine.disk.queues.get(ns) else {
            return;
        };
        let registry = registry.clone();
        if let Some(serving) = machine.serving.get_mut(ns) {
            serving.show(registry);
        }
    }

    /// How the broker of each namespace is reached.
    fn tell_broker(&mut self, node: usize) {
        let broker = match self.nodes[node].broker_down {
            true => BrokerState::Unreachable,
            false => BrokerState::Reachable,
        };
        let names: Vec<Namespace> = self.nodes[node].serving.keys().cloned().collect();
        for ns in names {
            self.step(node, Event::Queues(QueueEvent::Broker(ns, broker)));
        }
    }

    /// A broker goes or comes back.
    pub fn toggle_broker(&mut self, node: usize, down: bool) {
        self.nodes[node].broker_down = down;
        if self.nodes[node].pair.is_some() {
            self.tell_broker(node);
        }
    }

    /// Work on the files of queues, by the thread that makes the commits.
    pub fn queue_work(&mut self, node: usize, work: QueueWork) -> Option<QueueEvent> {
        match work {
            QueueWork::Look => return Some(QueueEvent::Looked(self.look_at_queues(node))),
            QueueWork::KeepRegistry(ns, registry) => {
                self.check_kept(node, &ns, &registry);
                self.write_registry(node, &ns, registry);
                self.counts.queues_kept += 1;
            }
            QueueWork::KeepCursors(ns, cursors) => {
                // Where the registry before them failed they are of nothing.
                let (_, kept) = self.nodes[node].disk.queues.get_mut(&ns)?;
                kept.clone_from(&cursors);
                return Some(QueueEvent::CursorsKept(ns, cursors));
            }
        }
        None
    }

    fn look_at_queues(&self, node: usize) -> Vec<QueuesHeld> {
        let machine = &self.nodes[node];
        let running = machine.disk.queues.iter().filter(|(ns, _)| machine.runs(ns));
        let held = running.map(|(ns, (registry, cursors))| QueuesHeld {
            namespace: ns.clone(),
            registry: registry.encode().into(),
            cursors: cursors.encode().into(),
        });
        held.collect()
    }

    /// A registry becomes durable, as a whole.
    pub fn write_registry(&mut self, node: usize, ns: &Namespace, registry: Registry) {
        let machine = &mut self.nodes[node];
        let disks = machine.expected.iter_mut().map(|expected| &mut expected.disk);
        for disk in disks.chain(std::iter::once(&mut machine.disk)) {
            let (kept, _) = disk
                .queues
                .entry(ns.clone())
                .or_insert_with(|| (Registry::new(String::new()), Default::default()));
            *kept = registry.clone();
        }
    }

    /// Provider: whether the registry still is what whoever asked saw.
    pub fn may_commit_queues(&self, node: usize, wanted: &QueueChange) -> Result<(), Refusal> {
        let there = self.nodes[node].disk.queues.get(&wanted.namespace);
        if there.map(|(registry, _)| Digest::of(&registry.encode())) != wanted.old {
            return Err(Refusal::new("changed-meanwhile", wanted.namespace.to_string(), ""));
        }
        Ok(())
    }

    pub fn commit_queues(&mut self, node: usize, change: &Change, wanted: QueueChange) -> Result<(), Refusal> {
        self.may_commit_queues(node, &wanted)?;
        self.write_registry(node, &wanted.namespace, wanted.registry);
        self.note_queue_committed(node, change);
        Ok(())
    }

    /// Receiver: whether it could hold them; then the change is staged.
    pub fn stage_queues(&mut self, node: usize, change: Change, wanted: &QueueChange) -> ChangeEvent {
        if !self.nodes[node].runs(&wanted.namespace) {
            let refusal = Refusal::new("no-namespace", wanted.namespace.to_string(), "");
            return ChangeEvent::Staged(Err(refusal));
        }
        self.note_queue_staged(node, &change);
        self.nodes[node].disk.copy.staged = Some(change);
        ChangeEvent::Staged(Ok(()))
    }

    /// Receiver: what is staged is written to its place.
    pub fn apply_queues(&mut self, node: usize, change: &Change, wanted: QueueChange) -> ChangeEvent {
        self.note_queue_applied(node, change);
        self.write_registry(node, &wanted.namespace, wanted.registry);
        self.nodes[node].disk.copy.staged = None;
        ChangeEvent::Settled(Ok(None))
    }
}

impl Serving {
    /// From now on this is who is registered.
    fn show(&mut self, registry: Registry) {
        self.cursors.follow(&self.registry, &registry);
        self.registry = registry;
        let queues = self.registry.queues();
        self.feeds
            .retain(|number, _| queues.values().any(|queue| queue.number == *number));
        self.ahead
            .retain(|number, _| queues.values().any(|queue| queue.number == *number));
    }
}
