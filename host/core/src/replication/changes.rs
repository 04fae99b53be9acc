//! Strong changes in the machine: the queue before the proposer, the frames, the settlement that begins each session.

use std::collections::VecDeque;

use crate::frame::{Frame, Kind};
use crate::session::{LastReceiver, refuse};
use crate::types::strategy::Role;
use crate::types::{Malformed, NodeId, Reader, Refusal, Writer};

use super::api::Action;
use super::control_file::ControlFile;
use super::pair::Pair;
use super::setup::Setup;
use super::strong::{
    Change, ChangeId, Outcome, Promised, Proposer, ProviderDo, ReceiverDo, Settlement, Stager, Ticket, decode_aborted,
    encode_aborted,
};
use super::work::{ChangeEvent, ChangeWork, Proposal};

/// Changes that wait for their turn.
const QUEUE_MAX: usize = 64;

/// Changes that are named in the status while the receiver has not seen them.
const NAMED_MAX: usize = 32;

/// What this node's disk knows of strong changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChangesSetup {
    /// Provider: the last change that was committed while a receiver held it.
    pub committed: Option<ChangeId>,
    /// Provider: the last ones of earlier receivers.
    pub promised: Promised,
    /// Receiver: a change that is staged and not settled.
    pub staged: Option<ChangeId>,
}

/// How far the settlement at the begin of a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opening {
    /// The receiver has not said yet what it holds staged.
    Unheard,
    /// What it holds waits for the end of a write here.
    Unsettled(ChangeId),
    /// Changes go both ways.
    Settled,
}

/// Strong changes of a node.
#[derive(Debug)]
pub(super) struct Changes {
    proposer: Proposer,
    stager: Stager,
    /// Whether a session was open when each was proposed.
    queue: VecDeque<(Proposal, bool)>,
    opening: Opening,
    promised: Promised,
    doing: Option<(Ticket, String)>,
    /// What the receiver has not seen.
    pub(super) unreplicated: Vec<String>,
}

impl Changes {
    pub(super) fn new(setup: &Setup) -> Changes {
        let incarnation = setup.identity.lineage.current();
        let incarnation = incarnation.map_or([0; 16], |incarnation| incarnation.id);
        Changes {
            proposer: Proposer::new(incarnation, setup.changes.committed, setup.seed as u32),
            stager: Stager::new(setup.changes.staged),
            queue: VecDeque::new(),
            opening: Opening::Unheard,
            promised: setup.changes.promised.clone(),
            doing: None,
            unreplicated: Vec::new(),
        }
    }

    /// Another receiver takes the place of `before`: what is to be remembered of that one, if anything.
    fn replace(&mut self, before: NodeId) -> Option<Promised> {
        self.promised.keep(before, self.proposer.committed()?);
        Some(self.promised.clone())
    }

    /// Provider: a session is open, and what the receiver held staged is settled.
    pub(super) fn is_settled(&self) -> bool {
        self.opening == Opening::Settled
    }

    /// Receiver: nothing is being written.
    pub(super) fn is_quiet(&self) -> bool {
        self.stager.is_quiet()
    }
}

impl Pair {
    pub(super) fn on_change(&mut self, event: ChangeEvent) {
        match event {
            ChangeEvent::Proposed(proposal) => self.on_proposed(proposal),
            ChangeEvent::Weigh(ticket, edit) => self.on_weigh(ticket, edit),
            ChangeEvent::Committed(result) => {
                // What is being looked at now may be older than the change.
                self.giver.changed();
                self.queues.touch();
                let told = self.changes.proposer.on_committed(self.now, result);
                self.provide(told);
            }
            ChangeEvent::Staged(result) => {
                let told = self.changes.stager.on_staged(result);
                self.receive(told);
            }
            ChangeEvent::Settled(Ok(copy)) => {
                if let Some(copy) = copy {
                    self.shown.moved();
                    self.taker.on_written(copy);
                    self.note_told();
                }
                // The change may have been one of queues.
                self.queues.touch();
                let told = self.changes.stager.on_settled();
                self.receive(told);
            }
            ChangeEvent::Settled(Err(refusal)) => self.fail_control(refusal),
        }
    }

    /// Another receiver may take the place of the last one, of which is remembered what it was promised.
    ///
    /// # Errors
    /// Not at this moment.
    pub(super) fn replace_standby(&mut self, next: &LastReceiver) -> Result<(), Refusal> {
        let other = |before: &LastReceiver| before.node_id != next.node_id;
        if self.changes.proposer.is_promising() && self.setup.last_receiver.as_ref().is_some_and(other) {
            let text = "a change that the standby before this one holds is being written on this node";
            return Err(Refusal::new("busy", text, "the standby tries again by itself"));
        }
        self.forget_other(next.node_id);
        let before = self.setup.last_receiver.replace(next.clone()).filter(other);
        // Before the name: whoever comes next may make history of what the one before holds.
        if let Some(promised) = before.and_then(|before| self.changes.replace(before.node_id)) {
            let token = self.next_token();
            let what = ControlFile::Promised(promised);
            self.out.push(Action::Persist { token, what });
        }
        Ok(())
    }

    fn on_proposed(&mut self, proposal: Proposal) {
        let no = |code: &'static str, text: &str, hint: &str| Refusal::new(code, text, hint);
        let refusal = if self.setup.role != Role::Provider {
            Some(no(
                "not-provider",
                "this node is a standby",
                "change it on the provider",
            ))
        } else if let Some(fenced) = self.place.fenced() {
            Some(refuse::fenced(&fenced.by()))
        } else if self.changes.queue.len() >= QUEUE_MAX {
            Some(no("busy", "too many changes wait", "try again in a moment"))
        } else {
            None
        };
        match refusal {
            Some(refusal) => self.answer_change(proposal.ticket, Outcome::Failed(refusal)),
            None => self.ask_about_queue(proposal),
        }
    }

    /// A change waits for its turn; whether a session was open when it was proposed.
    pub(super) fn begin_change(&mut self, proposal: Proposal, with_session: bool) {
        self.changes.queue.push_back((proposal, with_session));
    }

    pub(super) fn answer_change(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Some((_, note)) = self.changes.doing.take_if(|(doing, _)| *doing == ticket)
            && outcome == Outcome::Local
        {
            self.changes.unreplicated.push(note);
            let over = self.changes.unreplicated.len().saturating_sub(NAMED_MAX);
            self.changes.unreplicated.drain(..over);
        }
        self.out.push(Action::Change(ChangeWork::Answer(ticket, outcome)));
    }

    fn provide(&mut self, told: impl IntoIterator<Item = ProviderDo>) {
        for told in told {
            match told {
                ProviderDo::Prepare(change) => {
                    self.send_session(Frame::node(Kind::Prepare, change.encode()));
                    #[cfg(feature = "planted-faults")]
                    if crate::planted::active(crate::planted::Fault::CommitBeforePrepared)
                        || (crate::planted::active(crate::planted::Fault::QueueCommitBeforePrepared)
                            && change.kind == crate::mq::QUEUE_CHANGE)
                    {
                        let told = self.changes.proposer.on_prepared(change.id);
                        self.provide(told);
                    }
                }
                ProviderDo::Commit { change, replicated } => {
                    self.out.push(Action::Change(ChangeWork::Commit { change, replicated }));
                }
                ProviderDo::TellCommit(id) => self.send_id(Kind::Commit, id),
                ProviderDo::TellAbort(id) => {
                    #[cfg(feature = "planted-faults")]
                    if crate::planted::active(crate::planted::Fault::LostAbort) {
                        let told = self.changes.proposer.on_aborted(id, None);
                        self.provide(told);
                        continue;
                    }
                    self.send_id(Kind::Abort, id);
                }
                ProviderDo::Answer(ticket, outcome) => self.answer_change(ticket, outcome),
            }
        }
    }

    fn receive(&mut self, told: impl IntoIterator<Item = ReceiverDo>) {
        for told in told {
            let work = match told {
                ReceiverDo::Stage(change) => {
                    #[cfg(feature = "planted-faults")]
                    if crate::planted::active(crate::planted::Fault::PreparedBeforeDurable) {
                        self.send_id(Kind::Prepared, change.id);
                    }
                    ChangeWork::Stage(change)
                }
                ReceiverDo::Commit(id) => ChangeWork::Apply(id),
                ReceiverDo::Drop(id) => ChangeWork::Drop(id),
                ReceiverDo::TellPrepared(id) => {
                    self.send_id(Kind::Prepared, id);
                    continue;
                }
                ReceiverDo::TellAborted(id, refusal) => {
                    let payload = encode_aborted(&id, refusal.as_ref());
                    self.send_session(Frame::node(Kind::Aborted, payload));
                    continue;
                }
            };
            self.out.push(Action::Change(work));
        }
    }

    fn send_id(&mut self, kind: Kind, id: ChangeId) {
        let mut out = Writer::new();
        id.write(&mut out);
        self.send_session(Frame::node(kind, out.into_bytes()));
    }

    /// A session is open. The receiver's first word is what it holds staged.
    pub(super) fn open_changes(&mut self) {
        self.changes.opening = Opening::Unheard;
        if self.setup.role == Role::Receiver {
            let mut out = Writer::new();
            out.option(self.changes.stager.staged().as_ref(), |out, id| id.write(out));
            self.send_session(Frame::node(Kind::Staged, out.into_bytes()));
            self.changes.stager.attach();
        }
    }

    /// The session is over.
    pub(super) fn close_changes(&mut self) {
        self.changes.opening = Opening::Unheard;
        self.changes.stager.detach();
        let told = self.changes.proposer.detach();
        self.provide(told);
    }

    pub(super) fn on_change_frame(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let malformed = |error: Malformed| refuse::malformed(&format!("a frame {:?}", frame.kind), &error);
        let mut input = Reader::new(&frame.payload);
        let mut id = || {
            let id = ChangeId::read(&mut input).map_err(malformed)?;
            input.finish().map_err(malformed).map(|()| id)
        };
        match frame.kind {
            Kind::Prepare => {
                let change = Change::decode(&frame.payload).map_err(malformed)?;
                if !self.taker.has_copy() {
                    let refusal = Refusal::new(
                        "no-copy",
                        "the receiver has not copied the configuration yet",
                        "set it again when `cvp status` is normal",
                    );
                    self.receive(Some(ReceiverDo::TellAborted(change.id, Some(refusal))));
                    return Ok(());
                }
                self.stage_queues(&change);
                let told = self.changes.stager.on_prepare(change)?;
                self.receive(told);
            }
            Kind::Commit => {
                let id = id()?;
                // Inventories that were told before are older than the change.
                self.taker.on_commit();
                self.commit_queues(id);
                let told = self.changes.stager.on_commit(id)?;
                self.receive(Some(told));
            }
            Kind::Abort => {
                let id = id()?;
                let told = self.changes.stager.on_abort(id);
                self.receive(told);
            }
            Kind::Prepared => {
                let id = id()?;
                let told = self.changes.proposer.on_prepared(id);
                self.provide(told);
            }
            Kind::Aborted => {
                let (id, refusal) = decode_aborted(&frame.payload).map_err(malformed)?;
                let told = self.changes.proposer.on_aborted(id, refusal);
                self.provide(told);
            }
            _ => {
                let mut input = Reader::new(&frame.payload);
                let staged = input.option(ChangeId::read).map_err(malformed)?;
                input.finish().map_err(malformed)?;
                match staged {
                    Some(id) => self.changes.opening = Opening::Unsettled(id),
                    None => self.attach_changes(),
                }
            }
        }
        Ok(())
    }

    fn attach_changes(&mut self) {
        self.changes.opening = Opening::Settled;
        self.changes.proposer.attach();
    }

    /// After each event: time-outs, the settlement, the next change.
    pub(super) fn settle_changes(&mut self) {
        if self.setup.role != Role::Provider {
            return;
        }
        let told = self.changes.proposer.tick(self.now);
        self.provide(told);
        if let Opening::Unsettled(id) = self.changes.opening {
            let receiver = self.setup.last_receiver.as_ref().map(|last| &last.node_id);
            let promised = receiver.and_then(|receiver| self.changes.promised.to(receiver));
            let told = match self.changes.proposer.settle(Some(id), promised) {
                Settlement::Wait => None,
                Settlement::Nothing => Some(None),
                Settlement::Commit(id) => {
                    self.giver.changed();
                    Some(Some(ProviderDo::TellCommit(id)))
                }
                Settlement::Abort(id) => Some(Some(ProviderDo::TellAbort(id))),
            };
            if let Some(told) = told {
                self.provide(told);
                self.attach_changes();
            }
        }
        self.begin_next();
    }

    fn begin_next(&mut self) {
        let opening = self.session.is_some() && self.changes.opening != Opening::Settled;
        if opening || self.changes.proposer.is_busy() {
            return;
        }
        let Some((next, with_session)) = self.changes.queue.pop_front() else {
            return;
        };
        if let Some(fenced) = self.place.fenced() {
            // It waited while the place was taken.
            let refusal = refuse::fenced(&fenced.by());
            return self.answer_change(next.ticket, Outcome::Failed(refusal));
        }
        if with_session && self.session.is_none() {
            // Begun with a session, a change never becomes a local one.
            let refusal = Refusal::new(
                "session-lost",
                "the session ended before the change began",
                "set it again: without a receiver it is made on this node alone",
            );
            return self.answer_change(next.ticket, Outcome::Failed(refusal));
        }
        self.changes.doing = Some((next.ticket, next.note));
        let timeout = self.setup.limits.strong_timeout_ms;
        let change = (next.kind, next.body);
        match self
            .changes
            .proposer
            .begin(self.now, timeout, next.ticket, change, next.must_replicate)
        {
            Ok(told) => self.provide(Some(told)),
            Err(refusal) => self.answer_change(next.ticket, Outcome::Failed(refusal)),
        }
    }

    /// What the receiver has not seen.
    pub(super) fn change_reasons(&self, reasons: &mut Vec<Refusal>) {
        if self.changes.unreplicated.is_empty() {
            return;
        }
        reasons.push(Refusal::new(
            "unreplicated-changes",
            format!("the receiver has not seen: {}", self.changes.unreplicated.join(", ")),
            "they reach it when it attaches again",
        ));
    }
}
