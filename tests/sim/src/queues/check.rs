//! What must hold of registrations: no answer lies, at the moment it is given or ever after; and both ends hold the same queues in the end.

use std::collections::{BTreeMap, BTreeSet};

use cvp_core::mq::{QUEUE_CHANGE, QueueChange, QueueEdit, Registry};
use cvp_core::replication::{Change, ChangeWork, Outcome, Ticket};
use cvp_core::types::{Millis, Namespace};

use super::{QUEUE_TICKETS, queue_change};
use crate::tree::Job;
use crate::world::{A, B, C, World};

/// A session is there again so long after it was ended on purpose, at most.
const SESSION_MS: Millis = 6_000;

/// What a client asked for.
struct Wish {
    node: usize,
    epoch: u64,
    asked: Millis,
    with_session: bool,
    change: QueueChange,
    edit: QueueEdit,
    outcome: Option<Outcome>,
    committed: bool,
    staged_at: BTreeSet<usize>,
    applied_at: BTreeSet<usize>,
    /// An upgrade took it over.
    rolled: bool,
}

impl Wish {
    /// Who registered: tells one registration from all others.
    fn registration(&self) -> &str {
        &self.edit.queue().registration.from
    }

    fn comes(&self) -> bool {
        matches!(self.edit, QueueEdit::Registered(_))
    }

    /// Whether a registry is as it was asked for.
    fn is_in(&self, registry: &Registry) -> bool {
        has(registry, self.registration()) == self.comes()
    }

    fn failed(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Failed(_)))
    }
}

fn has(registry: &Registry, registration: &str) -> bool {
    let mut queues = registry.queues().values();
    queues.any(|queue| queue.registration.from == registration)
}

/// Everything that clients asked for.
#[derive(Default)]
pub struct QueueWishes {
    wishes: Vec<Wish>,
    /// Which change each wish became last.
    ids: BTreeMap<([u8; 16], u64), usize>,
}

impl QueueWishes {
    pub fn len(&self) -> Ticket {
        self.wishes.len() as Ticket
    }

    /// What a change was asked for with; none of another kind, which may bear a number that was given to a local change before.
    fn of(&mut self, change: &Change) -> Option<&mut Wish> {
        let at = self.place(change)?;
        self.wishes.get_mut(at)
    }

    fn place(&self, change: &Change) -> Option<usize> {
        let key = (change.id.incarnation, change.id.sequence);
        let at = self.ids.get(&key).filter(|_| change.kind == QUEUE_CHANGE);
        at.copied()
    }

    /// Whether somebody may have unregistered what this wish registered.
    fn may_be_gone(&self, registration: &str) -> bool {
        let takes_out = |wish: &Wish| !wish.comes() && !wish.failed() && wish.registration() == registration;
        self.wishes.iter().any(takes_out)
    }
}

impl World {
    pub fn note_queue_asked(&mut self, node: usize, change: QueueChange, edit: QueueEdit) {
        let with_session = self.session_since(node).is_some();
        self.queue_wishes.wishes.push(Wish {
            node,
            epoch: self.nodes[node].epoch,
            asked: self.now,
            with_session,
            change,
            edit,
            outcome: None,
            committed: false,
            staged_at: BTreeSet::new(),
            applied_at: BTreeSet::new(),
            rolled: false,
        });
    }

    /// A change of queues got its number: it leaves for the receiver, or is committed here alone.
    pub fn note_queue_numbered(&mut self, node: usize, change: &Change) {
        let Some(wanted) = queue_change(change) else { return };
        let serving = self.nodes[node].serving.get(&wanted.namespace);
        let Some(ticket) = serving.and_then(|serving| serving.changing) else {
            return;
        };
        let at = (ticket - QUEUE_TICKETS) as usize;
        let key = (change.id.incarnation, change.id.sequence);
        self.queue_wishes.ids.insert(key, at);
    }

    pub fn note_queue_staged(&mut self, node: usize, change: &Change) {
        let name = self.nodes[node].name;
        let Some(wish) = self.queue_wishes.of(change) else {
            return;
        };
        wish.staged_at.insert(node);
        if let Some(Outcome::Failed(why)) = &wish.outcome {
            let text = format!("{name} stages a change of queues that was answered as failed: {why}");
            self.fail(text);
        }
    }

    pub fn note_queue_committed(&mut self, node: usize, change: &Change) {
        let name = self.nodes[node].name;
        let Some(wish) = self.queue_wishes.of(change) else {
            return;
        };
        wish.committed = true;
        if let Some(Outcome::Failed(why) | Outcome::Undecided(why)) = &wish.outcome
            && wish.epoch == self.nodes[node].epoch
        {
            let text = format!("{name} commits a change of queues that was answered as not applied here: {why}");
            self.fail(text);
        }
    }

    pub fn note_queue_applied(&mut self, node: usize, change: &Change) {
        let name = self.nodes[node].name;
        let Some(wish) = self.queue_wishes.of(change) else {
            return;
        };
        wish.applied_at.insert(node);
        if !wish.committed {
            let text = format!("{name} writes a change of queues that its provider never committed");
            self.fail(text);
        }
    }

    /// The first entry of B's promotion is durable: what is staged rolls forward.
    pub fn note_queue_rolled_forward(&mut self) {
        let Some(change) = self.nodes[B].disk.copy.staged.clone() else {
            return;
        };
        let Some(wish) = self.queue_wishes.of(&change) else {
            return;
        };
        wish.rolled = true;
        self.counts.rolled_forward += 1;
        if let Some(Outcome::Failed(why)) = &wish.outcome {
            let text = format!("b takes a change of queues over that was answered as failed: {why}");
            self.fail(text);
        }
    }

    /// An inventory takes the place of a standby's registry: it takes no commit back.
    pub fn check_kept(&mut self, node: usize, ns: &Namespace, registry: &Registry) {
        // It stood by the node that was replaced, and its new provider may never have heard of that commit.
        if self.promoted && node == C {
            return;
        }
        let wishes = &self.queue_wishes;
        let of = wishes.wishes.iter().filter(|wish| wish.change.namespace == *ns);
        let applied = of.filter(|wish| wish.applied_at.contains(&node));
        let undone = applied.filter(|wish| !wish.is_in(registry));
        let mut unasked = undone
            .filter(|wish| !(wish.comes() && wishes.may_be_gone(wish.registration())))
            .map(|wish| format!("{:?}", wish.edit.queue().registration.queue));
        if let Some(queue) = unasked.next() {
            let text = format!(
                "an inventory takes a commit of queue {queue} back at {}",
                self.nodes[node].name
            );
            self.fail(text);
        }
    }

    /// The promise is judged at the moment it is given.
    pub fn check_queue_answer(&mut self, node: usize, ticket: Ticket, outcome: Outcome) {
        let (name, epoch) = (self.nodes[node].name, self.nodes[node].epoch);
        let at = (ticket - QUEUE_TICKETS) as usize;
        let Some(wish) = self.queue_wishes.wishes.get(at) else {
            return self.fail(format!("{name} answers change {ticket}, which nobody asked for"));
        };
        let held = |node: usize| self.nodes[node].disk.queues.get(&wish.change.namespace);
        let here = held(node).is_some_and(|(registry, _)| wish.is_in(registry));
        let staged = |node: &usize| {
            let staged = self.nodes[*node].disk.copy.staged.as_ref().and_then(queue_change);
            staged.is_some_and(|change| change == wish.change)
        };
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        let there = others
            .filter(|other| wish.staged_at.contains(other))
            .any(|other| staged(&other) || held(other).is_some_and(|(registry, _)| wish.is_in(registry)));
        let wrong = match &outcome {
            _ if wish.outcome.is_some() => Some("twice"),
            _ if (wish.node, wish.epoch) != (node, epoch) => Some("by another machine"),
            Outcome::Replicated if !here => Some("and is not durable at the provider"),
            Outcome::Replicated if !there => Some("and is not durable at the receiver"),
            Outcome::Local if !here => Some("and is not durable"),
            Outcome::Local if wish.with_session => Some("although there was a session when it was asked for"),
            Outcome::Failed(_) if wish.committed || wish.rolled => Some("and is applied"),
            Outcome::Failed(_) if self.queue_change_is_under_way(at) => Some("and may still be applied"),
            Outcome::Undecided(_) if wish.committed => Some("and is applied"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            let what = if wish.comes() { "registration" } else { "unregistration" };
            let text = format!("{name} answers the {what} {ticket} of a queue as {outcome:?} {wrong}");
            return self.fail(text);
        }
        match outcome {
            Outcome::Replicated => self.counts.queues_replicated += 1,
            Outcome::Local => self.counts.queues_local += 1,
            Outcome::Failed(_) => self.counts.queues_failed += 1,
            Outcome::Undecided(_) => self.counts.queues_undecided += 1,
        }
        let ns = self.queue_wishes.wishes[at].change.namespace.clone();
        self.queue_wishes.wishes[at].outcome = Some(outcome);
        if let Some(serving) = self.nodes[node].serving.get_mut(&ns) {
            serving.changing = None;
        }
        self.look_again(node, &ns);
    }

    /// Somewhere it is staged, or work that would stage or commit it waits.
    fn queue_change_is_under_way(&self, at: usize) -> bool {
        let is = |change: &Change| self.queue_wishes.place(change) == Some(at);
        self.nodes.iter().any(|machine| {
            let waits = machine.jobs.iter().any(|job| match job {
                Job::Change(ChangeWork::Stage(change) | ChangeWork::Commit { change, .. }) => is(change),
                _ => false,
            });
            waits
                || machine.disk.copy.staged.as_ref().is_some_and(is)
                || machine.disk.unwritten.as_ref().is_some_and(is)
        })
    }

    /// At the end: both ends hold the same queues; everybody who waits was answered; what was promised is there, and what failed is not.
    pub fn check_queues_end(&self, provider: usize, receiver: usize) -> Result<(), String> {
        for ns in &self.nodes[provider].running {
            let held = |node: usize| self.nodes[node].disk.queues.get(ns);
            let (one, two) = (held(provider), held(receiver));
            if one != two {
                return Err(format!(
                    "the queues of {ns} differ: {one:?} at the provider, {two:?} at the receiver"
                ));
            }
            let Some((registry, _)) = one else { continue };
            for (at, wish) in self.queue_wishes.wishes.iter().enumerate() {
                if wish.change.namespace == *ns {
                    self.check_wish(at, wish, registry, provider)?;
                }
            }
        }
        self.check_told(provider)
    }

    fn check_wish(&self, at: usize, wish: &Wish, registry: &Registry, provider: usize) -> Result<(), String> {
        let ticket = QUEUE_TICKETS + at as Ticket;
        let waits = wish.outcome.is_none() && self.alive(wish.node, wish.epoch);
        if waits && wish.asked + 12_000 < self.now {
            return Err(format!(
                "the client of queue change {ticket}, of {} ms, was never answered",
                wish.asked
            ));
        }
        let by_it = wish.node == provider;
        let at_standby = provider == B && wish.node == A && wish.staged_at.contains(&B);
        let promised = match wish.outcome {
            Some(Outcome::Replicated) => by_it || at_standby,
            Some(Outcome::Local) => by_it,
            _ => false,
        };
        let undone = wish.comes() && self.queue_wishes.may_be_gone(wish.registration());
        if (promised || wish.rolled) && !wish.is_in(registry) && !undone {
            return Err(format!(
                "queue change {ticket}, answered as {:?}, is lost",
                wish.outcome
            ));
        }
        if wish.failed() && wish.comes() && has(registry, wish.registration()) {
            return Err(format!(
                "queue change {ticket}, which failed, is there: {:?}",
                wish.outcome
            ));
        }
        let renewed = |at: &Millis| at.abs_diff(wish.asked) < SESSION_MS;
        let settled = wish.asked > self.chaos_until + 20_000 && !self.trees.renewed.iter().any(renewed);
        match &wish.outcome {
            Some(outcome) if settled && by_it && *outcome != Outcome::Replicated => Err(format!(
                "queue change {ticket} ends as {outcome:?} although all is well"
            )),
            _ => Ok(()),
        }
    }
}
