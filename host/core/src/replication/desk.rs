//! What is the same for every kind of strategy of a namespace: what it is on both ends, how it fares, what waits for it, what it said that
//! was no decision.

use crate::frame::{Frame, Kind, NamespaceTag};
use crate::session::StrategyId;
use crate::types::strategy::{Fault, Level};
use crate::types::{Millis, Writer};

use super::api::StrategyRun;
use super::quota::Quota;

/// Most messages and answers kept for a strategy that is busy; beyond it the oldest go.
const KEPT_MAX: usize = 32;

/// The pause before the next call when faults follow each other: the first is followed at once, so that the default takes over at once.
const FAULT_PAUSE_MS: Millis = 100;

/// One strategy, as the machine deals with it.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub ours: StrategyId,
    pub theirs: Option<StrategyId>,
    pub theirs_quarantined: bool,
    pub defaulted: bool,
    pub run: StrategyRun,
    /// The id that the configuration names.
    pub configured: String,
    /// Why the configured one does not run.
    pub problem: String,
    /// Calls that failed or were refused, since the start or the last reset.
    pub faults: u64,
    /// As the host's actor said last.
    faults_heard: u64,
    /// Faults without a good call between them.
    pub fault_streak: u32,
    /// No call before this time.
    pub quiet_until: Millis,
    /// Calls and actions that were refused.
    pub refused: u64,
    pub stored: Vec<u8>,
    pub owes_opened: bool,
    pub called_at: Millis,
    pub ticked_at: Millis,
    messages: Vec<Vec<u8>>,
    answers: Vec<Fault>,
    quota: Quota,
}

impl Desk {
    pub fn new(ours: StrategyId, stored: Vec<u8>, now: Millis) -> Desk {
        Desk {
            configured: ours.id.clone(),
            problem: String::new(),
            ours,
            theirs: None,
            theirs_quarantined: false,
            defaulted: false,
            run: StrategyRun::Running,
            faults: 0,
            faults_heard: 0,
            fault_streak: 0,
            quiet_until: 0,
            refused: 0,
            stored,
            owes_opened: false,
            called_at: 0,
            ticked_at: now,
            messages: Vec::new(),
            answers: Vec::new(),
            quota: Quota::default(),
        }
    }

    /// A session begins; `theirs`: what the other end offers, of any kind.
    pub fn attach(&mut self, theirs: &[StrategyId]) {
        self.owes_opened = true;
        self.messages.clear();
        self.theirs = theirs.iter().find(|their| their.kind == self.ours.kind).cloned();
        self.theirs_quarantined = false;
    }

    /// The session is over.
    pub fn detach(&mut self) {
        self.owes_opened = false;
        self.theirs = None;
    }

    /// The instance is gone; the next one knows nothing yet.
    pub fn on_fault(&mut self, streams: bool, now: Millis) {
        self.faults += 1;
        if self.fault_streak > 0 {
            self.quiet_until = now + FAULT_PAUSE_MS;
        }
        self.fault_streak += 1;
        self.owes_opened = streams;
        self.ticked_at = now;
    }

    /// Whether the default runs because the configured one could not be loaded.
    pub fn is_unloaded(&self) -> bool {
        self.run == StrategyRun::Quarantined && self.configured != self.ours.id
    }

    /// Another strategy runs here, or another state of it. Answers whether the other end must hear of it.
    pub fn on_state(&mut self, id: StrategyId, run: StrategyRun, faults: u64, streams: bool) -> bool {
        let restarted = run == StrategyRun::Running && self.run != run;
        let quarantine = (self.run == StrategyRun::Quarantined) != (run == StrategyRun::Quarantined);
        let changed = self.ours != id || quarantine;
        self.run = run;
        self.hear_faults(faults);
        self.ours = id;
        if changed || restarted {
            self.owes_opened = streams;
        }
        changed
    }

    /// The host's actor counts too; fewer than before means that the operator forgave them.
    fn hear_faults(&mut self, faults: u64) {
        self.faults = if faults < self.faults_heard {
            faults
        } else {
            self.faults.max(faults)
        };
        self.faults_heard = faults;
    }

    /// The other end's strategy, or its state, changed. Answers whether it left what both ran.
    pub fn on_theirs(&mut self, id: StrategyId, quarantined: bool) -> bool {
        let left = self.theirs.as_ref() == Some(&self.ours) && id != self.ours;
        self.theirs = Some(id);
        self.theirs_quarantined = quarantined;
        left
    }

    /// Both ends run the same strategy, or both the embedded default. What they offer is compared, not what runs at the moment: an end
    /// that runs the default for the other's sake would else be taken for one that offers it. Answers a change.
    pub fn compare(&mut self, streams: bool) -> Option<bool> {
        let theirs = self.theirs.as_ref()?;
        let quarantined = self.theirs_quarantined || self.run == StrategyRun::Quarantined;
        let differ = *theirs != self.ours || quarantined;
        if differ == self.defaulted {
            return None;
        }
        self.defaulted = differ;
        self.owes_opened = streams;
        Some(differ)
    }

    /// Whether something waits for it beside views.
    pub fn is_waited_for(&self) -> bool {
        !self.messages.is_empty() || !self.answers.is_empty()
    }

    /// What waits for it: messages of its other half, answers to what it said.
    pub fn take_waiting(&mut self) -> (Vec<Vec<u8>>, Vec<Fault>) {
        (std::mem::take(&mut self.messages), std::mem::take(&mut self.answers))
    }

    pub fn keep_message(&mut self, bytes: Vec<u8>) {
        if self.messages.len() >= KEPT_MAX {
            self.messages.remove(0);
        }
        self.messages.push(bytes);
    }

    /// An action of a later contract: it is told so, and goes on.
    pub fn answer_unknown(&mut self, name: &str) {
        self.refused += 1;
        if self.answers.len() < KEPT_MAX {
            let name: String = name.chars().take(64).collect();
            self.answers.push(Fault::new("unknown-action", name));
        }
    }

    /// The lines that go to the log for one that it said; none beyond its share.
    pub fn lines(&mut self, level: Level, text: String, now: Millis) -> Vec<(Level, String)> {
        let Some(left_out) = self.quota.line(now) else {
            self.refused += 1;
            return Vec::new();
        };
        let mut lines = Vec::new();
        if left_out > 0 {
            lines.push((Level::Warn, format!("{left_out} lines of the strategy were left out")));
        }
        lines.push((level, text));
        lines
    }

    /// Whether a gauge has a place.
    pub fn may_gauge(&mut self, name: &str) -> bool {
        let placed = self.quota.gauge(name);
        if !placed {
            self.refused += 1;
        }
        placed
    }

    /// The frame that tells the other end of this one's strategy.
    pub fn state_frame(&self, tag: NamespaceTag) -> Frame {
        let mut out = Writer::new();
        self.ours.write(&mut out);
        out.flag(self.run == StrategyRun::Quarantined);
        Frame::of(Kind::StrategyState, tag, 0, out.into_bytes().into())
    }
}
