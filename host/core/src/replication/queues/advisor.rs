//! A namespace's mq-sync strategy as the machine deals with it: what is known of both ends' queues, what the strategy is owed, who waits for its
//! word.

use std::sync::Arc;

use crate::mq::{Cursors, QueueEdit, Registry};
use crate::replication::desk::Desk;
use crate::replication::setup::StrategySetup;
use crate::replication::work::Proposal;
use crate::session::StrategyId;
use crate::types::strategy::Role;
use crate::types::strategy::mq_sync::{Change, Event as Told, KIND, View};
use crate::types::{Millis, Namespace, Refusal};

use super::view::{self, BrokerState};

/// Time between two ticks.
const TICK_MS: Millis = 1_000;

/// Least time between two calls that only tell of a change: a peer may change its mind as often as it likes.
const CHANGED_MS: Millis = 50;

/// Queues that differ for so long are a reason.
const DIFFER_MS: Millis = 2_000;

/// A change of the registry before it becomes a strong one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) proposal: Proposal,
    pub(super) edit: QueueEdit,
    /// Whether a session was open when it was proposed.
    pub(super) with_session: bool,
    /// Instances that faulted over it.
    pub(super) faults: u32,
}

/// A call that is under way.
#[derive(Clone, Debug)]
pub(super) struct Calling {
    since: Millis,
    /// It tells a view.
    pub(super) told: bool,
    /// What the provider's inventory was when the view was made.
    pub(super) heard: u64,
    pub(super) changes: Vec<(u64, Asked)>,
    /// Its session is over: nobody wants what it says of the other end.
    pub(super) stale: bool,
}

/// A namespace's mq-sync strategy, and the queues of both ends.
#[derive(Clone, Debug)]
pub(in crate::replication) struct QueueAdvisor {
    pub(in crate::replication) desk: Desk,
    /// This end decides without a session, too: a provider of the pair.
    pub(super) alone: bool,
    /// What the own disk holds.
    pub(super) local: Option<(Registry, Cursors)>,
    /// The own disk was looked at since the start.
    pub(super) looked: bool,
    pub(super) theirs: Option<Registry>,
    their_cursors: Cursors,
    /// Receiver: their cursors are to be written once the own registry is what the other end told last.
    owes_cursors: bool,
    /// Receiver: the own registry is what the other end told last.
    pub(super) aligned: bool,
    /// Provider: how far each queue was told, as the receiver's disk has it.
    pub(super) cursors_kept: Option<Arc<Cursors>>,
    /// Receiver: the provider was told what the own disk holds.
    pub(super) kept_told: bool,
    /// Grows with each inventory of the other end's, and whenever one that was told is out of date.
    pub(super) heard: u64,
    pub(super) broker: BrokerState,
    pub(super) calling: Option<Calling>,
    owes_inventories: bool,
    owes_broker: bool,
    /// The view that was told last, for an instance that is opened with it again.
    pub(super) view: Option<View>,
    pub(super) asked: Vec<Asked>,
    pub(super) held: Vec<(Asked, Millis)>,
    changes_seen: u64,
    pub(super) warnings: Vec<String>,
    pub(super) differ_since: Option<Millis>,
}

impl QueueAdvisor {
    pub(in crate::replication) fn new(strategy: &StrategySetup, alone: bool, now: Millis) -> QueueAdvisor {
        let mut desk = Desk::new(strategy.id.clone(), strategy.stored.clone(), now);
        desk.owes_opened = alone;
        QueueAdvisor {
            desk,
            alone,
            local: None,
            looked: false,
            theirs: None,
            their_cursors: Cursors::default(),
            owes_cursors: false,
            aligned: false,
            cursors_kept: None,
            kept_told: false,
            heard: 0,
            broker: BrokerState::default(),
            calling: None,
            owes_inventories: false,
            owes_broker: false,
            view: None,
            asked: Vec::new(),
            held: Vec::new(),
            changes_seen: 0,
            warnings: Vec::new(),
            differ_since: None,
        }
    }

    pub(in crate::replication) fn attach(&mut self, theirs: &[StrategyId]) {
        self.desk.attach(theirs);
        self.kept_told = false;
        self.forget_theirs();
        self.forget_cursors();
    }

    pub(in crate::replication) fn detach(&mut self) {
        let owed = self.desk.owes_opened && self.alone;
        self.desk.detach();
        self.desk.owes_opened = owed;
        self.forget_theirs();
        self.forget_cursors();
        self.owes_inventories = self.alone;
        if let Some(call) = &mut self.calling {
            call.stale = !self.alone;
        }
        if !self.alone {
            self.warnings.clear();
        }
    }

    /// What the other end told is out of date.
    pub(super) fn forget_theirs(&mut self) {
        self.theirs = None;
        self.differ_since = None;
        self.aligned = false;
        self.heard += 1;
    }

    fn forget_cursors(&mut self) {
        self.their_cursors = Cursors::default();
        self.cursors_kept = None;
        self.owes_cursors = false;
    }

    /// Whether a strategy of this kind is told of things without a session.
    pub(in crate::replication) fn speaks_alone(&self) -> bool {
        self.alone
    }

    /// Since when it has not answered.
    pub(in crate::replication) fn calling_since(&self) -> Option<Millis> {
        self.calling.as_ref().map(|call| call.since)
    }

    /// What the operator should know.
    pub(in crate::replication) fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.warnings.iter().map(|text| format!("{KIND}: {text}"))
    }

    /// The registry on the own disk, as last looked at or written.
    pub(super) fn registry(&self) -> Option<&Registry> {
        self.local.as_ref().map(|(registry, _)| registry)
    }

    /// The own disk was looked at.
    pub(super) fn see(&mut self, local: Option<(Registry, Cursors)>) {
        if self.registry() != local.as_ref().map(|(registry, _)| registry) {
            self.owes_inventories = true;
            self.kept_told = false;
        }
        (self.local, self.looked) = (local, true);
    }

    /// The other end's queues.
    pub(super) fn hear(&mut self, theirs: Registry) {
        self.theirs = Some(theirs);
        self.aligned = false;
        self.heard += 1;
        self.owes_inventories = true;
    }

    /// Receiver: how far each of the provider's queues was told; answers what is to be written now.
    pub(super) fn hear_cursors(&mut self, cursors: Cursors) -> Option<Cursors> {
        self.their_cursors = cursors;
        self.owes_cursors = true;
        self.take_cursors()
    }

    /// Cursors go to the disk once the registry that they are of is there: a number that it has not yet would be another queue's after an
    /// upgrade.
    pub(super) fn take_cursors(&mut self) -> Option<Cursors> {
        let due = self.owes_cursors && self.aligned;
        self.owes_cursors &= !due;
        due.then(|| self.their_cursors.clone())
    }

    pub(super) fn set_broker(&mut self, broker: BrokerState) {
        if self.broker != broker {
            self.broker = broker;
            self.owes_broker = true;
        }
    }

    pub(super) fn differs(&self) -> bool {
        let both = self.theirs.as_ref().zip(self.registry());
        both.is_some_and(|(theirs, own)| theirs != own)
    }

    /// Why the queues of the pair are no proof yet.
    pub(in crate::replication) fn reason(&self, namespace: &Namespace, now: Millis) -> Option<Refusal> {
        self.differ_since
            .filter(|since| now.saturating_sub(*since) >= DIFFER_MS)
            .map(|_| {
                Refusal::new(
                    "queues-differ",
                    format!("namespace {namespace}: the message queues of the two nodes differ"),
                    "see `cvp mq list` on both nodes, and `cvp plugin list` for the mq-sync strategy",
                )
            })
    }

    fn view(&self, role: Role, namespace: &Namespace, now: Millis) -> View {
        View {
            now,
            local: self.local.as_ref().map(|(it, cursors)| view::inventory(it, cursors)),
            peer: self.theirs.as_ref().map(|it| view::inventory(it, &self.their_cursors)),
            broker: self.broker.as_str().to_owned(),
            ..View::new(role, namespace.as_str())
        }
    }

    fn change(&mut self, asked: &Asked, attached: bool) -> Told {
        self.changes_seen += 1;
        let none = Cursors::default();
        let cursors = self.local.as_ref().map_or(&none, |(_, cursors)| cursors);
        let (queue, comes) = match &asked.edit {
            QueueEdit::Registered(queue) => (queue, true),
            QueueEdit::Unregistered(queue) => (queue, false),
        };
        let exchange = self.registry().map(|it| it.exchanger().to_owned());
        let change = Change {
            exchange: exchange.unwrap_or_default(),
            broker: self.broker.as_str().to_owned(),
            attached,
            ..Change::new(self.changes_seen, view::queue(queue, cursors))
        };
        match comes {
            true => Told::Registered(change),
            false => Told::Unregistered(change),
        }
    }

    /// What the strategy is called with, if anything is owed.
    pub(super) fn call(&mut self, role: Role, namespace: &Namespace, now: Millis, attached: bool) -> Option<Vec<Told>> {
        let opened = self.desk.owes_opened;
        let changed = self.owes_inventories || self.owes_broker;
        let changed = changed && now.saturating_sub(self.desk.called_at) >= CHANGED_MS;
        let tick = now.saturating_sub(self.desk.ticked_at) >= TICK_MS;
        if !(opened || changed || tick || !self.asked.is_empty() || self.desk.is_waited_for()) {
            return None;
        }
        let told = opened || changed;
        let mut events = Vec::new();
        if told {
            let view = self.view(role, namespace, now);
            self.view = Some(view.clone());
            if opened {
                let stored = self.desk.stored.clone();
                events.push(Told::Opened { view, stored });
            } else {
                if self.owes_inventories {
                    events.push(Told::Inventories(view.clone()));
                }
                if self.owes_broker {
                    events.push(Told::Broker(view));
                }
            }
            (self.desk.owes_opened, self.owes_inventories, self.owes_broker) = (false, false, false);
        } else if tick {
            events.push(Told::Tick(now));
        }
        let (messages, answers) = self.desk.take_waiting();
        events.extend(messages.into_iter().map(Told::Message));
        events.extend(answers.into_iter().map(Told::Fault));
        let mut changes = Vec::new();
        for asked in std::mem::take(&mut self.asked) {
            events.push(self.change(&asked, attached));
            changes.push((self.changes_seen, asked));
        }
        self.desk.called_at = now;
        if tick {
            self.desk.ticked_at = now;
        }
        self.calling = Some(Calling {
            since: now,
            told,
            heard: self.heard,
            changes,
            stale: false,
        });
        Some(events)
    }
}
