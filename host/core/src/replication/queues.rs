//! Message queues in the machine: after each handshake, once what was staged is settled, the receiver is told every queue of the provider;
//! and how far each was told whenever that moved. Weak, both: what a client was answered for travels as a strong change.
//!
//! The host looks at its files behind the commits before; so a registry that is told is never older than a change that was committed.

use bytes::Bytes;

use crate::frame::{Frame, Kind, NamespaceTag};
use crate::mq::{Cursors, Registry};
use crate::session::refuse;
use crate::types::strategy::Role;
use crate::types::{Digest, Millis, Namespace, Refusal};

use super::api::Action;
use super::pair::Pair;

/// Cursors that move are told at most so often.
const TELL_MS: Millis = 500;

/// What a provider's disk holds of one namespace's queues, encoded.
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
    /// Provider: look at the files of every namespace; answer with `Looked`.
    Look,
    /// Receiver: these are the provider's queues of a namespace.
    KeepRegistry(Namespace, Registry),
    /// Receiver: so far was each of them told.
    KeepCursors(Namespace, Cursors),
}

/// What happened to message queues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueEvent {
    /// Provider: a registry or a cursor changed, or may have.
    Touched,
    /// A look is done.
    Looked(Vec<QueuesHeld>),
    /// Receiver: a file cannot be written. Sticky.
    Failed(Refusal),
}

/// What a session's receiver was told.
#[derive(Debug, Default)]
pub(super) struct QueueTeller {
    touched: bool,
    looking: bool,
    looked_at: Millis,
    /// Of each namespace: digest of the registry and of the cursors.
    told: Vec<(NamespaceTag, Digest, Digest)>,
}

impl QueueTeller {
    /// A registry or a cursor changed, or may have.
    pub(super) fn touch(&mut self) {
        self.touched = true;
    }

    /// A session is open: everything is told anew.
    pub(super) fn attach(&mut self) {
        self.told.clear();
        (self.touched, self.looked_at) = (true, 0);
    }
}

impl Pair {
    pub(super) fn on_queues(&mut self, event: QueueEvent) {
        match event {
            QueueEvent::Touched => self.queues.touch(),
            QueueEvent::Looked(held) => {
                self.queues.looking = false;
                if self.may_tell_queues() {
                    held.into_iter().for_each(|held| self.tell_queues(held));
                } else {
                    self.queues.touched = true;
                }
            }
            QueueEvent::Failed(refusal) => self.fail_control(refusal),
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

    /// After each event: a provider whose queues moved looks at them, for the receiver.
    pub(super) fn settle_queues(&mut self) {
        let due = self.queues.looked_at == 0 || self.now.saturating_sub(self.queues.looked_at) >= TELL_MS;
        if self.queues.touched && !self.queues.looking && due && self.may_tell_queues() {
            (self.queues.touched, self.queues.looking) = (false, true);
            self.queues.looked_at = self.now.max(1);
            self.out.push(Action::Queues(QueueWork::Look));
        }
    }

    pub(super) fn on_queues_frame(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        let Some(lane) = self.lanes.get(index) else {
            return Ok(());
        };
        let namespace = lane.setup.namespace.clone();
        let work = match frame.kind {
            Kind::Queues => {
                let registry = Registry::decode(&frame.payload);
                QueueWork::KeepRegistry(
                    namespace,
                    registry.map_err(|error| refuse::malformed("queues", &error))?,
                )
            }
            _ => {
                let cursors = Cursors::decode(&frame.payload);
                QueueWork::KeepCursors(
                    namespace,
                    cursors.map_err(|error| refuse::malformed("cursors", &error))?,
                )
            }
        };
        self.out.push(Action::Queues(work));
        Ok(())
    }
}
