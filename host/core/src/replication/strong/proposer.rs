//! The provider's half: one change at a time, from the client's wish to the client's answer.

use bytes::Bytes;

use crate::types::{Millis, Refusal};

use super::{Change, ChangeId};

/// After the time-out the receiver is asked to drop the change; its word that it did makes "failed" of "undecided".
const ABORT_MS: Millis = 1_000;

/// Code of a commit that failed half done and could not be taken back: the next start may finish it.
pub const NOT_UNDONE: &str = "commit-not-undone";

/// A client's wish, numbered by the host.
pub type Ticket = u64;

/// How a change ended, as its client hears it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is on both disks.
    Replicated,
    /// No receiver was attached when it began: it is on this node's disk alone.
    Local,
    /// Nothing changed anywhere.
    Failed(Refusal),
    /// Not applied here; whether the receiver still holds it is not known. Should this node be lost before they meet again, the upgrade
    /// may apply it.
    Undecided(Refusal),
}

/// What the host is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProviderDo {
    /// Send a prepare frame.
    Prepare(Change),
    /// Make the change durable here, as committed; answer with [`Proposer::on_committed`].
    Commit {
        /// The change.
        change: Change,
        /// Whether a receiver holds it: then its id is recorded as the last replicated one, in the same write.
        replicated: bool,
    },
    /// Send a commit frame.
    TellCommit(ChangeId),
    /// Send an abort frame.
    TellAbort(ChangeId),
    /// Answer the client.
    Answer(Ticket, Outcome),
}

/// What a handshake does about a change that the receiver holds staged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// Nothing is staged.
    Nothing,
    /// It was committed here: the receiver commits it.
    Commit(ChangeId),
    /// It was not: the receiver drops it.
    Abort(ChangeId),
    /// It is being committed here at this moment: ask again when that has ended.
    Wait,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Idle,
    /// The receiver was asked to stage it.
    Preparing {
        ticket: Ticket,
        change: Change,
        until: Millis,
    },
    /// The receiver was asked to drop it; nobody waits for an answer when the ticket is gone.
    Aborting {
        ticket: Option<Ticket>,
        id: ChangeId,
        why: Refusal,
        until: Millis,
    },
    /// It is being written here.
    Committing {
        ticket: Ticket,
        id: ChangeId,
        replicated: bool,
        /// The session in which the receiver staged it lives: it is told what comes of the write. Else the next handshake settles it.
        tell: bool,
    },
}

/// The provider's half of all strong changes of a node.
#[derive(Clone, Debug)]
pub struct Proposer {
    state: State,
    attached: bool,
    incarnation: [u8; 16],
    sequence: u64,
    /// The last change that was committed here while a receiver held it; durable.
    committed: Option<ChangeId>,
}

impl Proposer {
    /// A node of `incarnation` whose last replicated change is `committed`, as its disk says. `run` is drawn anew at each start: a number
    /// that was given once may still be staged somewhere, so none is ever given again.
    pub fn new(incarnation: [u8; 16], committed: Option<ChangeId>, run: u32) -> Proposer {
        Proposer {
            state: State::Idle,
            attached: false,
            incarnation,
            sequence: u64::from(run) << 32,
            committed,
        }
    }

    /// Whether a change is under way; the next one waits.
    pub fn is_busy(&self) -> bool {
        self.state != State::Idle
    }

    /// A client's wish. `must_replicate`: fail rather than change this node alone.
    ///
    /// # Errors
    /// Another change is under way.
    pub fn begin(
        &mut self,
        now: Millis,
        timeout_ms: Millis,
        ticket: Ticket,
        (kind, body): (String, Bytes),
        must_replicate: bool,
    ) -> Result<ProviderDo, Refusal> {
        if self.is_busy() {
            return Err(Refusal::new(
                "busy",
                "another change is under way",
                "try again in a moment",
            ));
        }
        if !self.attached && must_replicate {
            let refusal = Refusal::new(
                "no-receiver",
                "no receiver is attached",
                "attach it, or leave --must-replicate out",
            );
            return Ok(ProviderDo::Answer(ticket, Outcome::Failed(refusal)));
        }
        let id = ChangeId {
            incarnation: self.incarnation,
            sequence: self.sequence + 1,
        };
        let change = Change { id, kind, body };
        if self.attached {
            self.sequence += 1;
            self.state = State::Preparing {
                ticket,
                change: change.clone(),
                until: now.saturating_add(timeout_ms),
            };
            return Ok(ProviderDo::Prepare(change));
        }
        self.state = State::Committing {
            ticket,
            id,
            replicated: false,
            tell: false,
        };
        Ok(ProviderDo::Commit {
            change,
            replicated: false,
        })
    }

    /// The receiver holds the change durably.
    pub fn on_prepared(&mut self, id: ChangeId) -> Option<ProviderDo> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Preparing { ticket, change, .. } if change.id == id => {
                self.state = State::Committing {
                    ticket,
                    id,
                    replicated: true,
                    tell: true,
                };
                Some(ProviderDo::Commit {
                    change,
                    replicated: true,
                })
            }
            // Late: the abort that was sent meanwhile is answered next.
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The receiver holds nothing of the change: it refused it (with the reason), or dropped it as it was asked to.
    pub fn on_aborted(&mut self, id: ChangeId, refusal: Option<Refusal>) -> Option<ProviderDo> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Preparing { ticket, change, .. } if change.id == id => {
                let unnamed = || Refusal::new("refused", "the receiver refused the change", "see its log");
                Some(ProviderDo::Answer(
                    ticket,
                    Outcome::Failed(refusal.unwrap_or_else(unnamed)),
                ))
            }
            State::Aborting {
                ticket, id: asked, why, ..
            } if asked == id => {
                ticket.map(|ticket| ProviderDo::Answer(ticket, Outcome::Failed(refusal.unwrap_or(why))))
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The write of [`ProviderDo::Commit`] has ended.
    pub fn on_committed(&mut self, now: Millis, result: Result<(), Refusal>) -> Vec<ProviderDo> {
        let State::Committing {
            ticket,
            id,
            replicated,
            tell,
        } = std::mem::replace(&mut self.state, State::Idle)
        else {
            return Vec::new();
        };
        match (result, replicated) {
            // A start may yet finish it: then its own record says so, and the handshake goes by that.
            (Err(why), _) if why.code == NOT_UNDONE => vec![ProviderDo::Answer(ticket, Outcome::Undecided(why))],
            (Ok(()), false) => vec![ProviderDo::Answer(ticket, Outcome::Local)],
            (Ok(()), true) => {
                self.committed = Some(id);
                let mut out = vec![ProviderDo::Answer(ticket, Outcome::Replicated)];
                out.extend(tell.then_some(ProviderDo::TellCommit(id)));
                out
            }
            (Err(why), false) => vec![ProviderDo::Answer(ticket, Outcome::Failed(why))],
            (Err(why), true) if tell => {
                self.state = State::Aborting {
                    ticket: Some(ticket),
                    id,
                    why,
                    until: now.saturating_add(ABORT_MS),
                };
                vec![ProviderDo::TellAbort(id)]
            }
            (Err(why), true) => vec![ProviderDo::Answer(ticket, Outcome::Undecided(why))],
        }
    }

    /// The last change that was committed here while a receiver held it.
    pub fn committed(&self) -> Option<ChangeId> {
        self.committed
    }

    /// A change that a receiver holds is being committed here: whether its client hears so is not known yet.
    pub fn is_promising(&self) -> bool {
        matches!(self.state, State::Committing { replicated: true, .. })
    }

    /// What the handshake does about `staged`; `promised`: the last change of this receiver, where others held later ones. A change that is
    /// still being committed here is waited for.
    pub fn settle(&self, staged: Option<ChangeId>, promised: Option<ChangeId>) -> Settlement {
        let Some(id) = staged else { return Settlement::Nothing };
        match &self.state {
            State::Committing {
                id: under_way,
                replicated: true,
                ..
            } if *under_way == id => Settlement::Wait,
            // Also one that is history here: until this receiver has what came after it, it holds what its client was told it holds.
            _ if self.committed == Some(id) || promised == Some(id) => Settlement::Commit(id),
            _ => Settlement::Abort(id),
        }
    }

    /// A session streams; what the receiver had staged is settled.
    pub fn attach(&mut self) {
        self.attached = true;
    }

    /// The session is over. A change that the receiver may hold is undecided; one that is being written here goes on.
    pub fn detach(&mut self) -> Option<ProviderDo> {
        self.attached = false;
        let lost = || {
            Refusal::new(
                "strong-undecided",
                "the session was lost before the receiver had answered: the change is not applied on this node",
                "look at `cvp status` when the receiver is back, then set it again; if this node is lost before that, the upgrade may apply it",
            )
        };
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Preparing { ticket, .. }
            | State::Aborting {
                ticket: Some(ticket), ..
            } => Some(ProviderDo::Answer(ticket, Outcome::Undecided(lost()))),
            State::Committing {
                ticket, id, replicated, ..
            } => {
                self.state = State::Committing {
                    ticket,
                    id,
                    replicated,
                    tell: false,
                };
                None
            }
            State::Idle | State::Aborting { ticket: None, .. } => None,
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Millis) -> Option<ProviderDo> {
        match &mut self.state {
            State::Preparing { ticket, change, until } if now >= *until => {
                let (ticket, id) = (*ticket, change.id);
                let why = Refusal::new(
                    "timeout",
                    "the receiver did not answer in time; the change was withdrawn",
                    "try again",
                );
                self.state = State::Aborting {
                    ticket: Some(ticket),
                    id,
                    why,
                    until: now.saturating_add(ABORT_MS),
                };
                Some(ProviderDo::TellAbort(id))
            }
            State::Aborting { ticket, until, .. } if now >= *until => {
                let why = Refusal::new(
                    "strong-undecided",
                    "the receiver did not say whether it dropped the change: it is not applied on this node",
                    "look at `cvp status`; if this node is lost before the receiver answers, the upgrade may apply it",
                );
                ticket
                    .take()
                    .map(|ticket| ProviderDo::Answer(ticket, Outcome::Undecided(why)))
            }
            _ => None,
        }
    }
}
