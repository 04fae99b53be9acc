//! One namespace of the pair: both ends' tips, its stream, its strategy, what is wrong with it.

use crate::frame::{Frame, NamespaceTag};
use crate::session::{AgreedNamespace, SessionKind};
use crate::types::strategy::chain_sync::Batch;
use crate::types::strategy::{Role, mq_sync};
use crate::types::{Height, Millis, Position, Refusal};

use super::api::Action;
use super::backfill::Backfill;
use super::beginnings::Beginnings;
use super::budget::{Budget, Spent};
use super::desk::Desk;
use super::index::IndexAdvisor;
use super::intake::Intake;
use super::lag::{Course, Growth, Marks};
use super::offer::Offer;
use super::queues::QueueAdvisor;
use super::retention::Survey;
use super::sender::Sender;
use super::setup::NamespaceSetup;
use super::shipping::Shipping;
use super::staged::StagedPart;
use super::status::{BootstrapStatus, BootstrappedStatus};
use super::taking::Taking;
use super::tree::FileAdvisor;

/// Nothing moved for so long although something is owed: stalled.
pub(super) const STALL_MS: Millis = 2_000;

/// The receiver follows the tip while the oldest block it lacks is younger than this.
pub(super) const LIVE_MS: Millis = 1_000;

/// Older than this, and it no longer follows.
pub(super) const BEHIND_MS: Millis = 2_000;

/// First and longest pause after a stream was halted for what its records or its strategy are.
const HALT_MS: (Millis, Millis) = (2_000, 60_000);

/// Failures of a store that pass by themselves: no room on the disk, too much waiting for it, records that are not there yet.
const PASSING: [&str; 3] = ["disk-full", "worker-overrun", "history-missing"];

/// Why a stream stands still, and until when.
#[derive(Clone, Debug)]
pub(super) struct Halt {
    pub refusal: Refusal,
    pub until: Millis,
}

/// A call of a strategy that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calling {
    pub since: Millis,
    /// The durable height its views told.
    pub told: Height,
    /// Whether it was told of a stream that stands still.
    pub stall: bool,
}

/// What the strategy is owed and what it owes.
#[derive(Clone, Debug)]
pub(super) struct Advisor {
    pub desk: Desk,
    pub calling: Option<Calling>,
    pub owes_progress: bool,
    pub owes_stall: bool,
    pub stalled_at: Millis,
    pub paused: Option<String>,
    /// Records between two checks of the state that a receiver's strategy asked for; 0: whatever comes in one run.
    pub verify_every: u64,
}

/// One namespace.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub setup: NamespaceSetup,
    pub tag: NamespaceTag,
    /// Own durable tip.
    pub local: Position,
    pub applied: Height,
    /// The other end's durable tip while a session streams.
    pub peer: Option<Position>,
    /// The same, as last heard ever.
    pub peer_seen: Option<Position>,
    /// Provider: that was before this process; the standby may hold more.
    pub seen_before: bool,
    /// Oldest height that the provider of this session still holds.
    pub history_from: Height,
    /// Height the receiver must reach before the stream counts as live.
    pub target: Height,
    pub live: bool,
    pub marks: Marks,
    /// Provider: its tip when this process began.
    pub found: Height,
    pub moved_at: Millis,
    pub store: Option<Refusal>,
    /// When a store that takes no more for now is looked at again.
    pub probe_at: Millis,
    /// Bytes that it is to have room for then, beside what the log may need.
    pub room_bytes: u64,
    pub halt: Option<Halt>,
    pub halts: u32,
    pub sender: Sender,
    /// Provider: what its strategy allows it, and its share of what all may send.
    pub budget: Budget,
    pub share: Budget,
    /// Provider: what it took of the rate of all.
    pub spent: Spent,
    /// Receiver: the provider says that a rate holds it back.
    pub held_back: bool,
    /// Fetches and acks about the run that is being read.
    pub early: Vec<Frame>,
    pub intake: Intake,
    pub advisor: Advisor,
    /// Its config-sync strategy.
    pub files: FileAdvisor,
    /// Its index-check strategy.
    pub index: IndexAdvisor,
    /// Its mq-sync strategy.
    pub queues: QueueAdvisor,
    /// Provider: sizes of the ledger, as last seen.
    pub survey: Survey,
    /// Provider: what was last let go.
    pub pruned_below: Height,
    /// Provider: a snapshot on its way out.
    pub shipping: Shipping,
    /// When the session began.
    pub attached_at: Millis,
    /// Receiver: what the provider keeps and could hand over.
    pub offer: Option<Offer>,
    /// Receiver: its strategy wants one, and the log is not quiet yet.
    pub wants_snapshot: bool,
    /// Receiver: a snapshot on its way in.
    pub taking: Option<Taking>,
    /// Receiver: the last one that it stood on.
    pub bootstrapped: Option<BootstrappedStatus>,
    /// Receiver: how often in a row it began from one.
    pub beginnings: Beginnings,
    /// Receiver: what is staged of one.
    pub staged: Option<StagedPart>,
    /// Number of the last wish for a snapshot or for history, in this session.
    pub snapshot_streams: u32,
    pub backfill: Backfill,
    pub growth: Growth,
    /// Bytes of a snapshot, and where the filling in of history is.
    pub courses: (Course, Course),
    pub batch: Option<Batch>,
    pub batches: u64,
    /// Mean record, bytes, times 16.
    pub record_bytes_16: u64,
    /// The highest height this end acknowledged, or had acknowledged, in this session.
    pub acked: Height,
}

impl Lane {
    /// `giving`: this end is a provider of the pair.
    pub fn new(setup: NamespaceSetup, giving: bool, now: Millis) -> Lane {
        let ours = setup.chain_sync.id.clone();
        let stored = setup.chain_sync.stored.clone();
        let config = setup.config_sync.clone();
        Lane {
            tag: NamespaceTag::of(&setup.namespace),
            local: setup.durable,
            applied: setup.applied,
            peer: None,
            peer_seen: None,
            seen_before: false,
            history_from: 0,
            target: Height::MAX,
            live: false,
            marks: Marks::default(),
            found: setup.durable.height,
            moved_at: now,
            store: None,
            probe_at: 0,
            room_bytes: 0,
            halt: None,
            halts: 0,
            sender: Sender::new(setup.durable),
            budget: Budget::default(),
            share: Budget::default(),
            spent: Spent::default(),
            held_back: false,
            early: Vec::new(),
            intake: Intake::new(setup.durable),
            advisor: Advisor {
                desk: Desk::new(ours, stored, now),
                calling: None,
                owes_progress: false,
                owes_stall: false,
                stalled_at: now,
                paused: None,
                verify_every: 0,
            },
            files: FileAdvisor::new(Desk::new(config.id, config.stored, now), setup.kept_local.clone()),
            index: IndexAdvisor::new(&setup, now),
            queues: QueueAdvisor::new(&setup.mq_sync, giving, now),
            survey: Survey::default(),
            pruned_below: 0,
            shipping: Shipping::default(),
            attached_at: now,
            offer: None,
            wants_snapshot: false,
            taking: None,
            bootstrapped: None,
            beginnings: Beginnings::default(),
            staged: setup.staged,
            snapshot_streams: 0,
            backfill: Backfill::default(),
            growth: Growth::default(),
            courses: Default::default(),
            batch: None,
            batches: 0,
            record_bytes_16: 0,
            acked: setup.durable.height,
            setup,
        }
    }

    /// A session streams from here on.
    pub fn attach(&mut self, (role, kind): (Role, SessionKind), agreed: &AgreedNamespace, now: Millis) {
        let (start, provider_tip) = (agreed.start, agreed.provider_tip);
        self.history_from = agreed.history_from;
        self.sender = Sender::new(start);
        self.intake.attach();
        self.acked = start.height;
        (self.live, self.target, self.moved_at) = (false, provider_tip.height, now);
        self.halt = None;
        self.advisor.paused = None;
        (self.offer, self.snapshot_streams, self.attached_at) = (None, 0, now);
        (self.survey.told, self.survey.at) = (None, None);
        self.growth = Growth::default();
        self.advisor.desk.attach(&agreed.their_strategies);
        self.files.attach(&agreed.their_strategies);
        self.index.attach(agreed, kind);
        self.queues.attach(&agreed.their_strategies);
        let peer = match role {
            Role::Provider => start,
            Role::Receiver => provider_tip,
        };
        self.hear_peer(role, peer, now);
    }

    /// The session is over.
    pub fn detach(&mut self, now: Millis) {
        self.peer = None;
        self.live = false;
        self.sender.stop();
        self.early.clear();
        self.intake.forget_stream();
        // What is being adopted is, session or not.
        self.wants_snapshot = false;
        self.taking = self.taking.take().filter(Taking::is_adopting);
        self.shipping.detach(now);
        self.backfill.detach();
        self.held_back = false;
        self.advisor.desk.detach();
        self.files.detach();
        self.index.detach();
        self.queues.detach();
        self.advisor.owes_progress = false;
        self.advisor.owes_stall = false;
    }

    /// The other end's durable tip.
    pub fn hear_peer(&mut self, role: Role, peer: Position, now: Millis) {
        if self.peer != Some(peer) {
            self.advisor.owes_progress = true;
        }
        self.peer = Some(peer);
        (self.peer_seen, self.seen_before) = (Some(peer), false);
        match role {
            Role::Provider => {
                self.marks.held(peer.height);
                self.marks.tip(self.local.height, peer.height, now);
            }
            Role::Receiver => self.marks.tip(peer.height, self.local.height, now),
        }
    }

    /// The own durable tip moved.
    pub fn move_local(&mut self, role: Role, local: Position, applied: Height, now: Millis) {
        if local != self.local {
            self.advisor.owes_progress = true;
        }
        (self.local, self.applied) = (local, applied.max(self.applied));
        match role {
            Role::Provider => {
                let held = self.peer_seen.map_or(0, |peer| peer.height);
                // Nothing was owed until now: the stream did not stand still before.
                if self.marks.age(now) == 0 {
                    self.moved_at = self.moved_at.max(now);
                }
                self.marks.tip(local.height, held, now);
            }
            Role::Receiver => self.marks.held(local.height),
        }
    }

    /// Provider's and receiver's durable heights as this end knows them.
    pub fn heights(&self, role: Role) -> (Height, Height) {
        let peer = self.peer_seen.map_or(0, |peer| peer.height);
        match role {
            Role::Provider => (self.local.height, peer),
            Role::Receiver => {
                // Not heard since the start: a snapshot that is here in part was of a block that it had.
                let staged = self.staged.filter(|_| self.peer_seen.is_none());
                let known = peer.max(staged.map_or(0, |staged| staged.height));
                (known.max(self.local.height), self.local.height)
            }
        }
    }

    /// Receiver: the run to check and append now. It is of the tail where the tip is followed and it is all that came.
    pub fn next_run(&mut self, now: Millis) -> Option<Action> {
        let (parent, bytes) = self.intake.next_run(now)?;
        Some(Action::Ingest {
            ns: self.setup.namespace.clone(),
            parent,
            bytes,
            tail: self.live && self.intake.is_drained(),
        })
    }

    /// Provider: the receiver, as last heard, cannot go on from what is kept here.
    pub fn must_begin_anew(&self) -> bool {
        let from = self.survey.kept.history_from;
        self.peer_seen.is_some_and(|peer| peer.height + 1 < from)
    }

    /// Whether the receiver lacks blocks.
    pub fn owed(&self, role: Role) -> bool {
        let (tip, durable) = self.heights(role);
        self.peer.is_some() && tip > durable
    }

    /// How long nothing has moved although something is owed; 0 when nothing is.
    pub fn idle_ms(&self, role: Role, now: Millis) -> Millis {
        // What checks a whole state moves nothing.
        let checks = self.shipping.is_whole() || self.taking.as_ref().is_some_and(Taking::is_adopting);
        if self.owed(role) && !checks {
            now.saturating_sub(self.moved_at)
        } else {
            0
        }
    }

    /// Blocks are owed, nothing stands in their way, and nobody asked for them: the strategy has nothing to say.
    pub fn is_left_alone(&self, role: Role) -> bool {
        role == Role::Receiver
            && self.owed(role)
            && self.intake.fetch().is_none()
            && self.advisor.paused.is_none()
            && self.halt.is_none()
            && self.store.is_none()
            && self.taking.is_none()
            && !self.wants_snapshot
            // Else the answer belongs to an earlier session or instance.
            && !self.advisor.desk.owes_opened
    }

    /// Whether the store makes durable what it holds: it works, or lacks room alone.
    pub fn may_sync(&self) -> bool {
        let passing = |failed: &Refusal| PASSING.contains(&failed.code.as_ref());
        self.store.as_ref().is_none_or(passing)
    }

    /// Its strategies, whatever their kind.
    pub fn desks(&self) -> [&Desk; 4] {
        [
            &self.advisor.desk,
            &self.files.desk,
            &self.index.desk,
            &self.queues.desk,
        ]
    }

    /// The same, to be changed.
    pub fn desks_mut(&mut self) -> [&mut Desk; 4] {
        [
            &mut self.advisor.desk,
            &mut self.files.desk,
            &mut self.index.desk,
            &mut self.queues.desk,
        ]
    }

    /// The strategy of this kind.
    pub fn desk_mut(&mut self, kind: &str) -> Option<&mut Desk> {
        self.desks_mut().into_iter().find(|desk| desk.ours.kind == kind)
    }

    /// Whether a strategy of this kind is told anything now.
    pub fn tells(&self, kind: &str) -> bool {
        self.peer.is_some() || (kind == mq_sync::KIND && self.queues.speaks_alone())
    }

    /// Latches and unlatches `live`.
    pub fn judge_live(&mut self, role: Role, now: Millis) {
        let (_, durable) = self.heights(role);
        let age = self.marks.age(now);
        if self.peer.is_none() || age > BEHIND_MS {
            self.live = false;
        } else if durable >= self.target && age <= LIVE_MS {
            self.live = true;
        }
    }

    /// Looks how fast a snapshot and older history come, and whether the stream is slower than the producer.
    pub fn judge_pace(&mut self, role: Role, now: Millis) {
        let moves = self.peer.is_some();
        let bytes = self.bootstrap(role, now).filter(|_| moves).map(|status| status.bytes);
        let from = self
            .backfill_status(role, now)
            .filter(|_| moves)
            .map(|status| status.from);
        self.courses.0.look(bytes, now);
        self.courses.1.look(from, now);
        if bytes.is_some() {
            // No record comes meanwhile.
            self.growth = Growth::default();
            return;
        }
        if !moves {
            return;
        }
        let (tip, durable) = self.heights(role);
        self.growth.look(tip - durable.min(tip), now);
    }

    /// How far a snapshot is, on whichever end this is.
    pub fn bootstrap(&self, role: Role, now: Millis) -> Option<BootstrapStatus> {
        let status = match role {
            Role::Provider => self.shipping.progress(now),
            Role::Receiver => {
                let coming = self.taking.as_ref().map(|taking| taking.progress(now));
                // What is here of it goes on when its provider is there again; before the manifest nobody knows more.
                let known = coming.filter(|coming| coming.total > 0);
                known.or(self.staged.map(StagedPart::progress)).or(coming)
            }
        };
        let mut status = status?;
        if let Some((before, elapsed_ms)) = self.courses.0.since(now)
            && before <= status.bytes
        {
            (status.before, status.elapsed_ms) = (before, elapsed_ms);
        }
        Some(status)
    }

    /// Since when the disk works on a snapshot.
    pub fn snapshot_disk_since(&self) -> Option<Millis> {
        self.taking.as_ref().and_then(Taking::disk_since)
    }

    /// Bytes of records the receiver lacks: those the provider counted when it last looked, and those made since, of the size of the last ones.
    pub fn lag_bytes(&self, role: Role) -> u64 {
        let (tip, durable) = self.heights(role);
        let (counted, to) = match role {
            Role::Provider => self.survey.lacked(durable),
            Role::Receiver => self.offer.map_or((0, 0), |offer| offer.lacked(durable)),
        };
        let since = tip.saturating_sub(durable.max(to));
        counted.saturating_add(since.saturating_mul(self.record_bytes_16) / 16)
    }

    /// One more run: its share in the mean record size.
    pub fn count_records(&mut self, records: u64, bytes: u64) {
        let Some(mean) = (bytes * 16).checked_div(records) else {
            return;
        };
        self.record_bytes_16 = if self.record_bytes_16 == 0 {
            mean
        } else {
            (self.record_bytes_16 * 7 + mean) / 8
        };
    }

    /// The stream stands still for a while; longer each time.
    pub fn stand(&mut self, refusal: Refusal, now: Millis) {
        let pause = (HALT_MS.0 << self.halts.min(6)).min(HALT_MS.1);
        self.halts += 1;
        self.halt = Some(Halt {
            refusal,
            until: now + pause,
        });
        self.sender.stop();
        self.intake.forget_stream();
    }

    pub fn invariants(&self) -> Result<(), String> {
        let named = |error: String| format!("{}: {error}", self.setup.namespace);
        self.sender.invariants().map_err(named)?;
        self.intake.invariants().map_err(named)?;
        if self.live && self.peer.is_none() {
            return Err(named("live without a session".into()));
        }
        Ok(())
    }
}
