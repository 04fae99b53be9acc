//! The machine: its state, its one door, its timers. What happens at the door is told in the files beside it: `attach` (links and
//! handshakes), `place` (questions, notices, the fence), `stream` (a session's frames and the stores' answers), `advice` (strategies),
//! `report` (the status).

use std::collections::BTreeMap;

use crate::frame::{Frame, Kind, NamespaceTag};
use crate::session::{Backoff, BackoffRange, Binding, Lineage, SessionKind, refuse};
use crate::types::strategy::{Level, Role};
use crate::types::{Height, Hostname, Micros, Millis, Namespace, NodeId, Refusal, Writer};

use super::align::Alignment;
use super::api::{Action, ConnId, Event, Ready, Token};
use super::archive::ArchiveWork;
use super::budget::Budget;
use super::changes::Changes;
use super::control_file::ControlFile;
use super::followers::Followers;
use super::lane::Lane;
use super::last_held::Noted;
use super::link::{DialPurpose, Link, Session, Stage, Waiting};
use super::passing::Passing;
use super::patience::Patience;
use super::place::Place;
use super::queues::QueueTeller;
use super::setup::Setup;
use super::status::RefusedDial;
use super::tree::{Giver, Shown, Taker};
use super::turns::Turns;

/// A link that is silent in the handshake for so long is closed.
pub(super) const HANDSHAKE_MS: Millis = 5_000;

/// Most links at a time: the session's, its successor's, questions and notices. More are closed at once.
pub(super) const LINKS_MAX: usize = 16;

/// A session that lived so long was a good one: the next dial does not wait.
const GOOD_SESSION_MS: Millis = 5_000;

/// The first pause between dials of the provider.
const DIAL_PAUSE_MS: Millis = 100;

/// One end of the pair.
#[derive(Debug)]
pub struct Pair {
    pub(super) setup: Setup,
    pub(super) out: Vec<Action>,
    pub(super) now: Millis,
    pub(super) now_micros: Micros,
    pub(super) started: bool,
    pub(super) links: BTreeMap<ConnId, Link>,
    pub(super) lanes: Vec<Lane>,
    pub(super) session: Option<Session>,
    pub(super) dialling: bool,
    pub(super) dial_at: Millis,
    pub(super) backoff: Backoff,
    pub(super) place: Place,
    pub(super) giver: Giver,
    pub(super) taker: Taker,
    pub(super) changes: Changes,
    /// What strategies were told of the inventories.
    pub(super) shown: Shown,
    pub(super) alignment: Alignment,
    /// Standby: who follows this node. A follower's own machine has none.
    pub(super) followers: Followers,
    /// Transactions on their way between a follower and its VP.
    pub(super) passing: Passing,
    pub(super) budget: Budget,
    /// Provider: whose backlog is sent now.
    pub(super) turns: Turns,
    pub(super) patience: Patience,
    pub(super) queues: QueueTeller,
    /// Configured here, and not running.
    pub(super) held: Vec<(Namespace, Refusal)>,
    pub(super) tokens: Token,
    pub(super) waiting: BTreeMap<Token, Waiting>,
    pub(super) control_failed: Option<Refusal>,
    /// How the last session, or the last attempt at one, ended.
    pub(super) ending: Option<Refusal>,
    /// Since when the other end has been silent, where that was the end.
    pub(super) silent_since: Option<Millis>,
    /// The last link that was refused here.
    pub(super) refused: Option<RefusedDial>,
    pub(super) last_heard: Option<Millis>,
    /// Provider: what is on the disk of what the standby holds.
    pub(super) noted: Noted,
    pub(super) nonces: u64,
    pub(super) defect: Option<String>,
}

impl Pair {
    /// A machine that has seen nothing yet. Step it with [`Event::Tick`] at once for its first actions.
    pub fn new(setup: Setup) -> Self {
        let giving = setup.role == Role::Provider && setup.kind == SessionKind::Standby;
        let mut lanes: Vec<Lane> = setup
            .namespaces
            .iter()
            .map(|namespace| Lane::new(namespace.clone(), giving, 0))
            .collect();
        let turns = Turns::new(setup.limits.turns);
        let noted = Noted::read(&setup);
        lanes.iter_mut().for_each(|lane| noted.recall(lane));
        let pauses = BackoffRange {
            first_ms: DIAL_PAUSE_MS.min(setup.limits.dial_pause_ms_max),
            last_ms: setup.limits.dial_pause_ms_max,
        };
        Self {
            place: Place::new(&setup),
            giver: Giver::default(),
            taker: Taker::new(setup.copy.clone()),
            shown: Shown::default(),
            changes: Changes::new(&setup),
            backoff: Backoff::new(pauses, setup.seed),
            setup,
            out: Vec::new(),
            now: 0,
            now_micros: 0,
            started: false,
            links: BTreeMap::new(),
            lanes,
            session: None,
            dialling: false,
            dial_at: 0,
            alignment: Alignment::default(),
            followers: Followers::default(),
            passing: Passing::default(),
            budget: Budget::default(),
            turns,
            patience: Patience::default(),
            queues: QueueTeller::default(),
            held: Vec::new(),
            tokens: 0,
            waiting: BTreeMap::new(),
            control_failed: None,
            ending: None,
            silent_since: None,
            refused: None,
            last_heard: None,
            noted,
            nonces: 0,
            defect: None,
        }
    }

    /// The one door: what happened goes in with the time, what to do comes out. What must wait for a control file or a disk is kept
    /// inside until the event that says so: it cannot leave before.
    pub fn step(&mut self, now: Micros, event: Event) -> Ready {
        self.now_micros = self.now_micros.max(now);
        self.now = self.now_micros / 1000;
        if !self.started {
            self.start();
        }
        let lane = self.lane_alone(&event);
        self.dispatch(event);
        // Whatever else such an event may bring waits for the next tick: with a hundred namespaces, looking at all of them after each run of
        // records took more time than the records.
        let lane = lane.filter(|_| self.session.is_some() && self.defect.is_none());
        match lane {
            Some(index) => self.settle_lane(index),
            None => self.settle(),
        }
        self.pass_turns();
        let held = match lane.and_then(|index| self.lanes.get(index)) {
            Some(lane) => self.lane_invariants(lane),
            None => self.invariants(),
        };
        if self.defect.is_none()
            && let Err(defect) = held
        {
            self.stop_for_defect(defect);
        }
        Ready {
            now: std::mem::take(&mut self.out),
            alone: lane,
        }
    }

    /// The only lane that an event concerns: the steps of a stream of records.
    fn lane_alone(&self, event: &Event) -> Option<usize> {
        let session = self.session.as_ref()?;
        match event {
            Event::Ingested { ns, .. }
            | Event::Synced { ns, .. }
            | Event::Strategy { ns, .. }
            | Event::ReadDone { ns, .. }
            | Event::LocalTip { ns, .. } => self.lanes.iter().position(|lane| lane.setup.namespace == *ns),
            Event::Frame { conn, frame } if *conn == session.conn => match frame.kind {
                Kind::Records | Kind::Fetch | Kind::Ack => self.lane_of(frame.namespace),
                _ => None,
            },
            _ => None,
        }
    }

    fn start(&mut self) {
        self.started = true;
        self.budget.set(self.setup.limits.max_rate, self.now_micros);
        let drops = self.setup.role == Role::Provider && self.is_standby();
        for lane in &mut self.lanes {
            lane.moved_at = self.now;
            // Of blocks from before this process nobody notes when they came: they are lacked from here on.
            if let Some(peer) = lane.peer_seen {
                lane.marks.tip(lane.local.height, peer.height, self.now);
            }
            if drops && lane.staged.take().is_some() {
                // Of the time when this node was a standby.
                let (ns, work) = (lane.setup.namespace.clone(), ArchiveWork::DropStaged);
                self.out.push(Action::Archive { ns, work });
            }
            lane.shipping.start(self.now);
        }
        if self.is_standby() {
            self.start_place();
            self.giver.touch();
        }
    }

    /// Whether this machine is of the pair; if not, it is of a follower and its VP.
    pub(super) fn is_standby(&self) -> bool {
        self.setup.kind == SessionKind::Standby
    }

    pub(super) fn each(&mut self, ns: &Namespace, act: impl FnOnce(&mut Self, usize)) {
        if let Some(index) = self.lanes.iter().position(|lane| lane.setup.namespace == *ns) {
            act(self, index);
        }
    }

    /// The lane that both ends agreed on under this tag.
    pub(super) fn lane_of(&self, tag: NamespaceTag) -> Option<usize> {
        self.lanes
            .iter()
            .position(|lane| lane.tag == tag && lane.peer.is_some())
    }

    /// After each event: timers, dials, streams, strategies.
    fn settle(&mut self) {
        if self.defect.is_some() {
            return;
        }
        if self.is_standby() {
            self.settle_place();
        }
        self.settle_links();
        self.settle_session();
        if self.is_standby() {
            self.settle_noted();
            self.settle_changes();
            self.settle_queues();
            self.settle_tree();
            self.settle_alignment();
        } else {
            self.settle_passing();
        }
        for index in 0..self.lanes.len() {
            self.settle_lane(index);
        }
        self.settle_dial();
    }

    fn settle_dial(&mut self) {
        let busy = self.session.is_some()
            || self.dialling
            || self
                .links
                .values()
                .any(|link| link.purpose == Some(DialPurpose::Session));
        let stopped = !self.setup.enabled || self.control_failed.is_some();
        if self.setup.role != Role::Receiver || busy || stopped || self.now < self.dial_at {
            return;
        }
        // The hello names durable tips, and the stream begins right above them: nothing may be under way.
        let mut quiet = self.changes.is_quiet() && self.taker.is_quiet();
        quiet &= self.lanes.iter().all(|lane| lane.taking.is_none());
        for lane in self.lanes.iter_mut().filter(|lane| lane.may_sync()) {
            if lane.intake.begin_sync(self.now) {
                self.out.push(Action::Sync {
                    ns: lane.setup.namespace.clone(),
                });
            }
            quiet &= lane.intake.is_quiet();
        }
        if quiet {
            self.dialling = true;
            self.out.push(Action::Dial {
                purpose: DialPurpose::Session,
            });
        }
    }

    pub(super) fn back_off(&mut self) {
        self.dial_at = self.now + self.backoff.pause();
    }

    /// Sends on the session's link. The other end hears nothing of a namespace that it does not run.
    pub(super) fn send_session(&mut self, frame: Frame) {
        let agreed = frame.namespace == NamespaceTag::NODE || self.lane_of(frame.namespace).is_some();
        if let Some(session) = self.session.as_ref().filter(|_| agreed) {
            self.out.push(Action::Send {
                conn: session.conn,
                frame,
            });
        }
    }

    /// Closes a link; with a refusal of ours, the other end hears it first.
    pub(super) fn close(&mut self, conn: ConnId, refusal: Option<Refusal>, tell: bool) {
        if self.links.remove(&conn).is_none() {
            return;
        }
        if let Some(refusal) = refusal.as_ref().filter(|_| tell) {
            let mut out = Writer::new();
            refusal.write(&mut out);
            self.out.push(Action::Send {
                conn,
                frame: Frame::node(Kind::Goodbye, out.into_bytes()),
            });
        }
        self.out.push(Action::Close {
            conn,
            refusal: refusal.clone(),
        });
        if self.session.as_ref().is_some_and(|session| session.conn == conn) {
            self.end_session();
        }
    }

    /// Provider: what the receiver holds durably of each namespace, or of the one that [`Ready::alone`] names; none where no receiver is
    /// attached to it.
    pub fn copies(&self, alone: Option<usize>) -> impl Iterator<Item = (&Namespace, Option<Height>)> {
        let provider = self.setup.role == Role::Provider;
        let lanes = match alone {
            Some(index) => self.lanes.get(index..=index).unwrap_or_default(),
            None => &self.lanes,
        };
        lanes.iter().map(move |lane| {
            (
                &lane.setup.namespace,
                lane.peer.filter(|_| provider).map(|peer| peer.height),
            )
        })
    }

    /// The session's state goes; the link is closed already.
    pub(super) fn end_session(&mut self) {
        let Some(session) = self.session.take() else { return };
        for index in 0..self.lanes.len() {
            self.keep_what_came(index);
            self.detach_lane(index);
        }
        self.patience.told.clear();
        self.turns = Turns::new(self.setup.limits.turns);
        self.note_held();
        self.drop_passing();
        self.close_changes();
        self.release_edits();
        self.alignment = Alignment::default();
        self.giver.detach();
        self.taker.detach();
        self.shown = Shown::default();
        if self.now.saturating_sub(session.since) >= GOOD_SESSION_MS {
            self.backoff.reset();
        }
        self.back_off();
    }

    /// Remembers how it ended, for the status.
    pub(super) fn remember(&mut self, refusal: Refusal) {
        self.ending = Some(refusal);
        self.silent_since = None;
    }

    /// The other end was last heard at `since`, and that was the end.
    pub(super) fn remember_silence(&mut self, since: Millis) {
        self.remember(refuse::silent(self.now.saturating_sub(since)));
        self.silent_since = Some(since);
    }

    pub(super) fn next_token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }

    pub(super) fn persist(&mut self, what: ControlFile, waiting: Waiting) {
        let token = self.next_token();
        self.waiting.insert(token, waiting);
        self.out.push(Action::Persist { token, what });
    }

    pub(super) fn on_persisted(&mut self, token: Token) {
        match self.waiting.remove(&token) {
            Some(Waiting::Link(conn)) => self.on_link_persisted(conn),
            Some(Waiting::Fence) => self.on_fence_persisted(),
            None => {}
        }
    }

    pub(super) fn on_persist_failed(&mut self, token: Token, refusal: Refusal) {
        if self.noted.failed(token) {
            return self.out.push(Action::Log {
                level: Level::Warn,
                ns: None,
                text: format!("what the standby holds cannot be noted: {}", refusal.text),
            });
        }
        self.waiting.remove(&token);
        self.fail_control(refusal);
    }

    /// A control file cannot be written: nothing goes on that needs one.
    pub(super) fn fail_control(&mut self, refusal: Refusal) {
        let conns: Vec<ConnId> = self.links.keys().copied().collect();
        for conn in conns {
            self.close(conn, Some(refusal.clone()), true);
        }
        self.control_failed = Some(refusal);
    }

    fn stop_for_defect(&mut self, defect: String) {
        let refusal = Refusal::new(
            "defect",
            defect.clone(),
            "a defect of this program: report it with both logs",
        );
        let conns: Vec<ConnId> = self.links.keys().copied().collect();
        for conn in conns {
            self.close(conn, Some(refusal.clone()), true);
        }
        self.out.push(Action::Log {
            level: Level::Warn,
            ns: None,
            text: format!("an invariant of the pair does not hold, its links are ended: {defect}"),
        });
        self.defect = Some(defect);
    }

    /// Who this provider is busy with: a session, or a handshake far enough to become one.
    pub(super) fn engaged(&self) -> impl Iterator<Item = (ConnId, NodeId, Hostname)> + '_ {
        self.links.iter().filter_map(|(conn, link)| {
            let (node_id, hostname) = match &link.stage {
                // Counted as well: else the answer for an older link would close its successor.
                Stage::LookingUp(state) => (&state.hello().node_id, &state.hello().hostname),
                Stage::ExpectVerdict(state) | Stage::Attaching(_, state) => state.peer(),
                Stage::Streaming => {
                    let agreement = &self.session.as_ref()?.agreement;
                    (agreement.peer_node_id(), agreement.peer_hostname())
                }
                _ => return None,
            };
            Some((*conn, *node_id, hostname.clone()))
        })
    }

    /// The lineage this end speaks for: a provider's own, a receiver's provider's.
    pub(super) fn lineage(&self) -> &Lineage {
        match (self.setup.role, &self.setup.binding) {
            (Role::Receiver, Some(Binding { lineage, .. })) => lineage,
            _ => &self.setup.identity.lineage,
        }
    }

    /// What must hold after every event; on in release. A violation is a defect of this program: the session stops, the node goes on.
    pub fn invariants(&self) -> Result<(), String> {
        self.lanes.iter().try_for_each(|lane| self.lane_invariants(lane))?;
        self.turns.invariants()?;
        let streaming = self
            .links
            .values()
            .filter(|link| matches!(link.stage, Stage::Streaming))
            .count();
        if streaming != usize::from(self.session.is_some()) {
            return Err(format!("{streaming} links stream, session {}", self.session.is_some()));
        }
        if self.place.is_fenced() && (self.place.making() || self.session.is_some()) {
            return Err("fenced, and goes on".into());
        }
        Ok(())
    }

    fn lane_invariants(&self, lane: &Lane) -> Result<(), String> {
        lane.invariants()?;
        if self.setup.role == Role::Receiver && lane.acked > lane.local.height {
            return Err(format!(
                "{}: acknowledged {} above durable {}",
                lane.setup.namespace, lane.acked, lane.local.height
            ));
        }
        let held = lane.sender.acked().height;
        if self.setup.role == Role::Provider && self.session.is_some() && held < lane.acked {
            return Err(format!(
                "{}: an unexpected ack took what the receiver holds from {} back to {held}",
                lane.setup.namespace, lane.acked
            ));
        }
        if self.session.is_none() && (lane.peer.is_some() || lane.live) {
            return Err(format!("{}: streams without a session", lane.setup.namespace));
        }
        Ok(())
    }
}
