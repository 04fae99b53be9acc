//! The receiver's half: holds at most one change that is staged and not committed.

use crate::types::Refusal;

use super::{Change, ChangeId};

/// What the host is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReceiverDo {
    /// Check the change and make it durable as staged; answer with [`Stager::on_staged`].
    Stage(Change),
    /// Apply what is staged and forget it, durably and idempotently; answer with [`Stager::on_settled`].
    Commit(ChangeId),
    /// Drop what is staged, durably; answer with [`Stager::on_settled`].
    Drop(ChangeId),
    /// Send a prepared frame.
    TellPrepared(ChangeId),
    /// Send an aborted frame.
    TellAborted(ChangeId, Option<Refusal>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Empty,
    /// Being written; dropped again at once when an abort came meanwhile.
    Staging {
        id: ChangeId,
        abort: bool,
    },
    Staged(ChangeId),
    Committing(ChangeId),
    Dropping(ChangeId),
}

/// The receiver's half of all strong changes of a node.
#[derive(Clone, Debug)]
pub struct Stager {
    state: State,
    /// The next change: it came while the last one was being written.
    waiting: Option<Change>,
    attached: bool,
}

impl Stager {
    /// A node whose disk holds `staged`.
    pub fn new(staged: Option<ChangeId>) -> Stager {
        Stager {
            state: staged.map_or(State::Empty, State::Staged),
            waiting: None,
            attached: false,
        }
    }

    /// What the hello tells: a change that is staged and not settled.
    pub fn staged(&self) -> Option<ChangeId> {
        match &self.state {
            State::Staged(id) => Some(*id),
            _ => None,
        }
    }

    /// Nothing is being written: a hello may tell what is staged.
    pub fn is_quiet(&self) -> bool {
        matches!(self.state, State::Empty | State::Staged(_))
    }

    /// A session streams.
    pub fn attach(&mut self) {
        self.attached = true;
    }

    /// The session is over; what is staged waits for the next handshake.
    pub fn detach(&mut self) {
        self.attached = false;
        self.waiting = None;
    }

    /// The provider asks to stage a change. One that comes while the last is still being settled on the disk waits for that.
    ///
    /// # Errors
    /// One is staged already: the provider did not settle it.
    pub fn on_prepare(&mut self, change: Change) -> Result<Option<ReceiverDo>, Refusal> {
        match self.state {
            State::Empty => Ok(Some(self.stage(change))),
            State::Committing(_) | State::Dropping(_) if self.waiting.is_none() => {
                self.waiting = Some(change);
                Ok(None)
            }
            _ => {
                let text = format!("change {} came while another is not settled", change.id);
                Err(Refusal::new(
                    "protocol",
                    text,
                    "a defect of the provider: report it with both logs",
                ))
            }
        }
    }

    fn stage(&mut self, change: Change) -> ReceiverDo {
        self.state = State::Staging {
            id: change.id,
            abort: false,
        };
        ReceiverDo::Stage(change)
    }

    /// The write of [`ReceiverDo::Stage`] has ended; with a refusal nothing is staged.
    pub fn on_staged(&mut self, result: Result<(), Refusal>) -> Option<ReceiverDo> {
        let State::Staging { id, abort } = self.state else {
            return None;
        };
        match (result, abort) {
            (Err(refusal), _) => {
                self.state = State::Empty;
                self.attached.then_some(ReceiverDo::TellAborted(id, Some(refusal)))
            }
            (Ok(()), true) => {
                self.state = State::Dropping(id);
                Some(ReceiverDo::Drop(id))
            }
            (Ok(()), false) => {
                self.state = State::Staged(id);
                self.attached.then_some(ReceiverDo::TellPrepared(id))
            }
        }
    }

    /// The provider committed the change.
    ///
    /// # Errors
    /// It is not the one that is staged.
    pub fn on_commit(&mut self, id: ChangeId) -> Result<ReceiverDo, Refusal> {
        if self.state != State::Staged(id) {
            let text = format!("commit of change {id}, which is not staged here");
            return Err(Refusal::new(
                "protocol",
                text,
                "a defect of the provider: report it with both logs",
            ));
        }
        self.state = State::Committing(id);
        Ok(ReceiverDo::Commit(id))
    }

    /// The provider asks to drop the change.
    pub fn on_abort(&mut self, id: ChangeId) -> Option<ReceiverDo> {
        // Nothing of one that waits is here.
        self.waiting.take_if(|waiting| waiting.id == id);
        match &mut self.state {
            State::Staged(staged) if *staged == id => {
                self.state = State::Dropping(id);
                Some(ReceiverDo::Drop(id))
            }
            State::Staging { id: staging, abort } if *staging == id => {
                *abort = true;
                None
            }
            State::Dropping(dropping) if *dropping == id => None,
            // It never came, or was refused: nothing of it is here.
            _ => self.attached.then_some(ReceiverDo::TellAborted(id, None)),
        }
    }

    /// The write of [`ReceiverDo::Commit`] or [`ReceiverDo::Drop`] has ended.
    pub fn on_settled(&mut self) -> Vec<ReceiverDo> {
        let settled = std::mem::replace(&mut self.state, State::Empty);
        let mut out = Vec::new();
        match settled {
            State::Dropping(id) => out.extend(self.attached.then_some(ReceiverDo::TellAborted(id, None))),
            State::Committing(_) => {}
            other => {
                self.state = other;
                return out;
            }
        }
        if let Some(next) = self.waiting.take() {
            out.push(self.stage(next));
        }
        out
    }
}
