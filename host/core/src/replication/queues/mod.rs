//! Message queues in the machine: after each handshake, once what was staged is settled, the receiver is told every queue of the provider;
//! and how far each was told whenever that moved. Weak, both: what a client was answered for travels as a strong change. What is done with
//! it the mq-sync strategies say ([`advise`]).
//!
//! The host looks at its files behind the commits before; so a registry that is told is never older than a change that was committed. A
//! receiver's strategy may still ponder over one when a commit comes: then it is forgotten, and the provider tells what came of the commit.

mod advise;
mod advisor;
mod view;

use std::sync::Arc;

use bytes::Bytes;

use crate::frame::{FLAG_OPTIONAL, Frame, Kind, NamespaceTag};
use crate::mq::{Cursors, QUEUE_CHANGE, QueueChange, Registry};
use crate::session::refuse;
use crate::types::strategy::Role;
use crate::types::{Digest, Malformed, Millis, Namespace, Reader, Refusal, Writer};

use super::api::Action;
use super::pair::Pair;
use super::strong::{Change, ChangeId};

pub(super) use advisor::QueueAdvisor;
pub use view::BrokerState;

/// Largest encoding of a registry in a frame, bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Cursors that move are told at most so often.
const TELL_MS: Millis = 500;

/// What the disk holds of one namespace's queues, encoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueuesHeld {
    /// The namespace.
    pub namespace: Namespace,
    /// Its registry.
    pub registry: Bytes,
    /// Its cursors.
    pub cursors: Bytes,
}

/// Work on the files of message queues; done in order, together with changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueWork {
    /// Look at the files of every namespace; answer with `Looked`.
    Look,
    /// Receiver: these are the provider's queues of a namespace.
    KeepRegistry(Namespace, Registry),
    /// Receiver: so far was each of them told; answer with `CursorsKept` when that is durable.
    KeepCursors(Namespace, Cursors),
}

/// What happened to message queues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueEvent {
    /// Provider: a registry or a cursor changed, or may have.
    Touched,
    /// Provider: a queue waits until the receiver has its cursor; told at once.
    Awaited,
    /// A look is done.
    Looked(Vec<QueuesHeld>),
    /// Receiver: its disk has these.
    CursorsKept(Namespace, Cursors),
    /// Provider: the broker of a namespace became reachable, or ceased to be.
    Broker(Namespace, BrokerState),
    /// Receiver: a file cannot be written. Sticky.
    Failed(Refusal),
}

/// When the disk is looked at, and what the other end was told of it.
#[derive(Debug)]
pub(super) struct QueueTeller {
    /// A registry or a cursor may have moved since the last look.
    touched: bool,
    /// A registry may have: a provider looks without a session, too.
    changed: bool,
    /// A queue waits for the receiver.
    awaited: bool,
    looking: bool,
    looked_at: Millis,
    /// Of each namespace: digest of the registry and of the cursors.
    told: Vec<(NamespaceTag, Digest, Digest)>,
    /// Receiver: the change that is staged, where it is one of queues.
    staged: Option<(ChangeId, Namespace)>,
}

impl Default for QueueTeller {
    /// Nothing was looked at yet.
    fn default() -> Self {
        Self {
            touched: true,
            changed: true,
            awaited: false,
            looking: false,
            looked_at: 0,
            told: Vec::new(),
            staged: None,
        }
    }
}

impl QueueTeller {
    /// A registry changed, or may have.
    pub(super) fn touch(&mut self) {
        (self.touched, self.changed) = (true, true);
    }

    /// The disk is to be looked at, or is being: what is known of it may be out of date.
    pub(super) fn is_due(&self) -> bool {
        self.touched || self.looking
    }

    /// A session is open: everything is told anew.
    pub(super) fn attach(&mut self) {
        self.told.clear();
        self.looked_at = 0;
        self.touch();
    }
}

impl Pair {
    pub(super) fn on_queues(&mut self, event: QueueEvent) {
        match event {
            QueueEvent::Touched => self.queues.touched = true,
            QueueEvent::Awaited => (self.queues.touched, self.queues.awaited) = (true, true),
            QueueEvent::CursorsKept(namespace, cursors) => self.tell_kept_cursors(&namespace, &cursors),
            QueueEvent::Looked(held) => self.on_looked(held),
            QueueEvent::Broker(namespace, broker) => self.on_broker(&namespace, broker),
            QueueEvent::Failed(refusal) => self.fail_control(refusal),
        }
    }

    fn on_looked(&mut self, held: Vec<QueuesHeld>) {
        self.queues.looking = false;
        for index in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(index) else { return };
            let there = held.iter().find(|held| held.namespace == lane.setup.namespace);
            let read = |held: &QueuesHeld| {
                Some((
                    Registry::decode(&held.registry).ok()?,
                    Cursors::decode(&held.cursors).ok()?,
                ))
            };
            let there = there.and_then(read);
            lane.queues.see(there);
            if self.setup.role == Role::Receiver {
                self.tell_kept(index);
            }
        }
        if self.may_tell_queues() {
            held.into_iter().for_each(|held| self.tell_queues(held));
        } else if self.setup.role == Role::Provider {
            self.queues.touched = true;
        }
    }

    fn may_tell_queues(&self) -> bool {
        self.setup.role == Role::Provider && self.session.is_some() && self.changes.is_settled()
    }

    fn tell_queues(&mut self, held: QueuesHeld) {
        let tag = NamespaceTag::of(&held.namespace);
        if self.lane_of(tag).is_none() {
            return;
        }
        let now = (tag, Digest::of(&held.registry), Digest::of(&held.cursors));
        let before = self.queues.told.iter_mut().find(|(of, ..)| *of == tag);
        let (registry, cursors) = match before {
            Some(before) => {
                let differs = (before.1 != now.1, before.2 != now.2);
                *before = now;
                differs
            }
            None => {
                self.queues.told.push(now);
                (true, true)
            }
        };
        if registry {
            self.send_session(Frame::of(Kind::Queues, tag, 0, held.registry));
        }
        if cursors {
            self.send_session(Frame::of(Kind::Cursors, tag, 0, held.cursors));
        }
    }

    /// After each event: an end whose queues moved looks at them, for itself and for the other.
    pub(super) fn settle_queues(&mut self) {
        self.settle_advisors();
        let it = &self.queues;
        let rested = it.awaited || it.looked_at == 0 || self.now.saturating_sub(it.looked_at) >= TELL_MS;
        let due = match (self.setup.role, self.session.is_some()) {
            (Role::Provider, true) => rested && self.may_tell_queues(),
            (Role::Provider, false) => rested && it.changed,
            (Role::Receiver, attached) => attached,
        };
        if it.touched && !it.looking && due {
            (self.queues.touched, self.queues.changed, self.queues.looking) = (false, false, true);
            self.queues.awaited = false;
            self.queues.looked_at = self.now.max(1);
            self.out.push(Action::Queues(QueueWork::Look));
        }
    }

    pub(super) fn on_queues_frame(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        let ns = lane.setup.namespace.clone();
        match frame.kind {
            Kind::Queues => {
                let registry = Registry::decode(&frame.payload);
                lane.queues
                    .hear(registry.map_err(|error| refuse::malformed("queues", &error))?);
            }
            Kind::QueuesKept => {
                let kept = read_kept(&frame.payload).map_err(|error| refuse::malformed("kept queues", &error))?;
                match kept {
                    Some(registry) => lane.queues.hear(registry),
                    None => lane.queues.forget_theirs(),
                }
            }
            Kind::CursorsKept => {
                let cursors = Cursors::decode(&frame.payload);
                let cursors = cursors.map_err(|error| refuse::malformed("kept cursors", &error))?;
                lane.queues.cursors_kept = Some(Arc::new(cursors));
            }
            _ => {
                let cursors = Cursors::decode(&frame.payload);
                let cursors = cursors.map_err(|error| refuse::malformed("cursors", &error))?;
                #[cfg(feature = "planted-faults")]
                if crate::planted::active(crate::planted::Fault::CursorsKeptBeforeDurable) {
                    self.tell_kept_cursors(&ns, &cursors);
                }
                let Some(lane) = self.lanes.get_mut(index) else {
                    return Ok(());
                };
                if let Some(cursors) = lane.queues.hear_cursors(cursors) {
                    self.out.push(Action::Queues(QueueWork::KeepCursors(ns, cursors)));
                }
            }
        }
        Ok(())
    }

    /// Receiver: what the provider waits for is durable here.
    fn tell_kept_cursors(&mut self, namespace: &Namespace, cursors: &Cursors) {
        let lane = self.lanes.iter().find(|lane| lane.setup.namespace == *namespace);
        let tag = lane.filter(|lane| lane.peer.is_some()).map(|lane| lane.tag);
        if let Some(tag) = tag.filter(|_| self.session.is_some()) {
            self.send_session(Frame {
                // One of an earlier release has no use for it.
                flags: FLAG_OPTIONAL,
                ..Frame::of(Kind::CursorsKept, tag, 0, cursors.encode().into())
            });
        }
    }

    /// Provider: how far each queue was told, as the receiver's disk has it; none where no receiver is attached that says so.
    pub fn cursors_kept(&self) -> impl Iterator<Item = (&Namespace, Option<&Arc<Cursors>>)> {
        let lanes = self.lanes.iter();
        lanes.map(|lane| (&lane.setup.namespace, lane.queues.cursors_kept.as_ref()))
    }

    /// Receiver: a change is to be staged.
    pub(super) fn stage_queues(&mut self, change: &Change) {
        let of_queues = || Some(QueueChange::decode(&change.body).ok()?.namespace);
        let namespace = (change.kind == QUEUE_CHANGE).then(of_queues).flatten();
        self.queues.staged = namespace.map(|namespace| (change.id, namespace));
    }

    /// Receiver: a change is committed. What the provider told of its queues before is older.
    pub(super) fn commit_queues(&mut self, id: ChangeId) {
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::StaleQueues) {
            return;
        }
        if let Some((_, namespace)) = self.queues.staged.take_if(|(staged, _)| *staged == id) {
            self.each(&namespace, |it, index| {
                if let Some(lane) = it.lanes.get_mut(index) {
                    lane.queues.forget_theirs();
                }
            });
        }
    }
}

/// The frame that tells the provider what the receiver's disk holds.
fn kept_frame(tag: NamespaceTag, registry: Option<&Registry>) -> Frame {
    let mut out = Writer::new();
    out.option(registry, |out, registry| out.bytes(&registry.encode()));
    Frame {
        // One of an earlier release has no use for it.
        flags: FLAG_OPTIONAL,
        ..Frame::of(Kind::QueuesKept, tag, 0, out.into_bytes().into())
    }
}

fn read_kept(payload: &[u8]) -> Result<Option<Registry>, Malformed> {
    let mut input = Reader::new(payload);
    let kept = input.option(|input| Registry::decode(input.bytes(KEPT_BYTES_MAX)?))?;
    input.finish()?;
    Ok(kept)
}
