//! The data index of each namespace: what its strategies are told of it, and what becomes of what they say. That both ends have one switch was
//! checked in the handshake, which no strategy can lower. Nothing of a namespace flows, and no namespace is started or stopped, before the
//! strategy of this end has accepted; one that refuses ends the session.

use crate::frame::{Frame, Kind};
use crate::session::{AgreedNamespace, IndexOffer, IndexState, SessionKind, refuse};
use crate::strategy::scrutiny::IndexGround;
use crate::types::strategy::Fault;
use crate::types::strategy::index_check::{Action as Advice, Event as Told, KIND, View, WARNINGS_MAX};
use crate::types::{Millis, Namespace, Refusal};

use super::api::Action;
use super::control_file::ControlFile;
use super::desk::Desk;
use super::lane::Lane;
use super::pair::Pair;
use super::setup::NamespaceSetup;

/// Time between two ticks.
const TICK_MS: Millis = 1_000;

/// Least time between two calls that only tell of a change: a peer may change its mind as often as it likes.
const STATE_MS: Millis = 100;

/// A call that is under way.
#[derive(Clone, Copy, Debug)]
struct Calling {
    since: Millis,
    /// It tells a view.
    told: bool,
    /// Its session is over: nobody wants the answer.
    stale: bool,
}

/// A namespace's index-check strategy, and what both ends said of their index.
#[derive(Clone, Debug)]
pub(super) struct IndexAdvisor {
    pub desk: Desk,
    own: IndexOffer,
    theirs: Option<IndexOffer>,
    calling: Option<Calling>,
    owes_state: bool,
    attached: bool,
    accepted: bool,
    warnings: Vec<String>,
}

impl IndexAdvisor {
    pub fn new(setup: &NamespaceSetup, now: Millis) -> IndexAdvisor {
        let strategy = setup.index_check.clone();
        IndexAdvisor {
            desk: Desk::new(strategy.id, strategy.stored, now),
            own: IndexOffer::new(setup.index_enabled),
            theirs: None,
            calling: None,
            owes_state: false,
            attached: false,
            accepted: false,
            warnings: Vec::new(),
        }
    }

    pub fn attach(&mut self, agreed: &AgreedNamespace, kind: SessionKind) {
        self.desk.attach(&agreed.their_strategies);
        self.theirs = match kind {
            SessionKind::Standby => agreed.their_index.clone(),
            SessionKind::Follower => None,
        };
        (self.attached, self.owes_state) = (true, false);
        // With a release that tells nothing there is nothing to judge.
        self.accepted = self.theirs.is_none();
        self.warnings = match self.theirs {
            Some(_) => Vec::new(),
            None if kind == SessionKind::Follower => Vec::new(),
            None => vec!["the other node does not tell of its index: the switch was not compared".to_owned()],
        };
    }

    pub fn detach(&mut self) {
        self.desk.detach();
        if let Some(call) = &mut self.calling {
            call.stale = true;
        }
        (self.attached, self.accepted, self.theirs) = (false, false, None);
        self.warnings.clear();
    }

    /// The own index, for the hello.
    pub fn own(&self) -> &IndexOffer {
        &self.own
    }

    /// Whether the namespace may be copied in this session.
    pub fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Since when it has not answered.
    pub fn calling_since(&self) -> Option<Millis> {
        self.calling.map(|call| call.since)
    }

    /// What the operator should know.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.warnings.iter().map(|text| format!("{KIND}: {text}"))
    }

    /// Why a session that lives is no proof yet.
    pub fn reason(&self, namespace: &Namespace) -> Option<Refusal> {
        let text = || format!("namespace {namespace}: the index-check strategy has not accepted yet");
        (self.attached && !self.accepted).then(|| Refusal::new("index-unchecked", text(), "see `cvp plugin list`"))
    }

    /// What the strategy is called with, if anything is owed.
    fn call(&mut self, view: View) -> Option<Vec<Told>> {
        let now = view.now;
        let tick = now.saturating_sub(self.desk.ticked_at) >= TICK_MS;
        let state = self.owes_state && now.saturating_sub(self.desk.called_at) >= STATE_MS;
        let opened = self.desk.owes_opened;
        if !(opened || state || tick || self.desk.is_waited_for()) {
            return None;
        }
        let mut events = Vec::new();
        if opened {
            let stored = self.desk.stored.clone();
            events.push(Told::Opened { view, stored });
        } else if state {
            events.push(Told::State(view));
        } else if tick {
            events.push(Told::Tick(now));
        }
        let (messages, answers) = self.desk.take_waiting();
        events.extend(messages.into_iter().map(Told::Message));
        events.extend(answers.into_iter().map(Told::Fault));
        let told = opened || state;
        if told {
            (self.desk.owes_opened, self.owes_state) = (false, false);
        }
        self.desk.called_at = now;
        if tick {
            self.desk.ticked_at = now;
        }
        let since = now;
        self.calling = Some(Calling {
            since,
            told,
            stale: false,
        });
        Some(events)
    }
}

impl Pair {
    /// Calls a namespace's strategy if it is owed something and is free.
    pub(super) fn pump_index(&mut self, index: usize) {
        let (now, role) = (self.now, self.setup.role);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let it = &mut lane.index;
        let Some(theirs) = it.theirs.as_ref().filter(|_| it.calling.is_none()) else {
            return;
        };
        if now < it.desk.quiet_until {
            return;
        }
        let view = View {
            now,
            local: it.own.side(),
            peer: theirs.side(),
            ..View::new(role, lane.setup.namespace.as_str())
        };
        if let Some(events) = it.call(view) {
            let ns = lane.setup.namespace.clone();
            self.out.push(Action::IndexStrategy { ns, events });
        }
    }

    /// A strategy answered.
    pub(super) fn on_index_advice(&mut self, index: usize, result: Result<Vec<Advice>, Fault>) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let it = &mut lane.index;
        let Some(call) = it.calling.take() else { return };
        let ground = IndexGround { told: call.told };
        let checked = result.and_then(|actions| {
            ground.check(&actions).map(|()| actions).inspect_err(|fault| {
                it.desk.refused += 1;
                self.out.push(Action::StrategyFault {
                    ns: lane.setup.namespace.clone(),
                    kind: KIND,
                    fault: fault.clone(),
                });
            })
        });
        let Ok(actions) = checked else {
            it.desk.on_fault(it.attached, now);
            return;
        };
        it.desk.fault_streak = 0;
        if call.stale {
            return;
        }
        if call.told {
            it.warnings.clear();
        }
        for action in actions {
            self.take_index_advice(index, action);
        }
    }

    /// Does what was checked.
    fn take_index_advice(&mut self, index: usize, action: Advice) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let (ns, it) = (lane.setup.namespace.clone(), &mut lane.index);
        match action {
            Advice::Accept => it.accepted = true,
            Advice::Refuse(reason) => {
                let refusal = refuse::index_check(&ns, &it.desk.ours.id, &reason);
                self.end_session_for(refusal);
            }
            Advice::Warn(text) => {
                if it.attached && it.warnings.len() < WARNINGS_MAX && !it.warnings.contains(&text) {
                    it.warnings.push(text);
                }
            }
            Advice::Store(bytes) => {
                it.desk.stored.clone_from(&bytes);
                let token = self.next_token();
                let what = ControlFile::Stored { ns, kind: KIND, bytes };
                self.out.push(Action::Persist { token, what });
            }
            Advice::Send(bytes) => self.send_to_half(index, KIND, &bytes),
            Advice::Log(level, text) => {
                let lines = it.desk.lines(level, text, now);
                self.log_lines(&ns, lines);
            }
            Advice::Metric(name, value) => {
                if it.desk.may_gauge(&name) {
                    self.out.push(Action::Metric { ns, name, value });
                }
            }
            Advice::Other(name, _) => it.desk.answer_unknown(&name),
        }
    }

    /// The host looked at the own backend, or at the own configuration.
    pub(super) fn on_index_seen(&mut self, index: usize, state: IndexState) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let it = &mut lane.index;
        if it.own.state == state {
            return;
        }
        it.own.state = state;
        if it.theirs.is_none() {
            return;
        }
        it.owes_state = true;
        let frame = state_frame(lane);
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::IndexStateNotTold) {
            return;
        }
        self.send_session(frame);
    }

    /// What may have changed between the hello and the session.
    pub(super) fn announce_index(&mut self, index: usize) {
        let Some(lane) = self.lanes.get(index) else { return };
        if lane.index.theirs.is_some() {
            let frame = state_frame(lane);
            self.send_session(frame);
        }
    }

    /// The other end's index changed.
    pub(super) fn on_peer_index(&mut self, index: usize, payload: &[u8]) -> Result<(), Refusal> {
        let state = IndexState::decode(payload).map_err(|error| refuse::malformed("an index state", &error))?;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        let it = &mut lane.index;
        let Some(theirs) = &mut it.theirs else {
            return Err(refuse::unexpected("index state of a node whose hello told of none"));
        };
        if theirs.state != state {
            theirs.state = state;
            it.owes_state = true;
        }
        Ok(())
    }

    /// Whether the index of every namespace that both ends run was accepted here.
    pub(super) fn index_accepted(&self) -> bool {
        self.lanes
            .iter()
            .all(|lane| lane.peer.is_none() || lane.index.is_accepted())
    }
}

fn state_frame(lane: &Lane) -> Frame {
    Frame::of(Kind::IndexState, lane.tag, 0, lane.index.own.state.encode().into())
}
