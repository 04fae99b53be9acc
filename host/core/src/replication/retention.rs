//! How long a provider keeps old records.
//!
//! `ledger.keep_blocks` says what the operator wants kept. What the receiver lacks stays longer, up to `cvp.retain_bytes` a namespace; past that it
//! goes, and the receiver begins again from a snapshot. So a receiver that is away can never fill this node's disk.

use crate::ledger::Kept;
use crate::types::strategy::{Level, Role};
use crate::types::{Height, Millis};

use super::api::Action;
use super::archive::ArchiveWork;
use super::lane::Lane;
use super::pair::Pair;

/// A ledger's sizes are looked at so often.
const SURVEY_MS: Millis = 1_000;

/// From this share of `cvp.retain_bytes` on the status warns, percent.
const WARN_PERCENT: u64 = 80;

/// What bounds a namespace's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// `ledger.keep_blocks`; 0: all.
    pub keep_blocks: u64,
    /// `cvp.retain_bytes`.
    pub retain_bytes: u64,
    /// Applied tip.
    pub tip: Height,
    /// What the receiver holds; none when there is no receiver to keep anything for.
    pub held: Option<Height>,
    /// That was heard since this node started; if not, it is what was noted before (0: nothing), and it may hold more.
    pub heard: bool,
    /// Bytes of the records above that.
    pub above: u64,
    /// How many records those are.
    pub records: u64,
    /// Lowest height that a message queue still has to be told.
    pub needed: Option<Height>,
}

impl Bounds {
    /// Records below this height may go.
    pub fn below(&self) -> Height {
        if self.keep_blocks == 0 {
            return 0;
        }
        let wanted = (self.tip + 1).saturating_sub(self.keep_blocks);
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::RetentionIgnored) {
            return wanted;
        }
        // No queue misses a block: whoever does not want to read any more unregisters it.
        let wanted = wanted.min(self.needed.unwrap_or(Height::MAX));
        match self.held {
            Some(held) if !self.heard => wanted.min(self.newest().max(if held == 0 { 0 } else { held + 1 })),
            Some(held) if !self.is_overrun() => wanted.min(held + 1),
            _ => wanted,
        }
    }

    /// Where the newest records begin that take `retain_bytes`: they stay for a receiver that was not heard yet.
    fn newest(&self) -> Height {
        if self.above <= self.retain_bytes {
            return 0;
        }
        let kept = u128::from(self.records) * u128::from(self.retain_bytes) / u128::from(self.above);
        (self.tip + 1).saturating_sub(u64::try_from(kept).unwrap_or(u64::MAX))
    }

    /// A queue that is not read keeps more than the operator wants kept.
    pub fn waits_for_queue(&self) -> Option<Height> {
        let wanted = (self.tip + 1).saturating_sub(self.keep_blocks);
        self.needed.filter(|needed| self.keep_blocks > 0 && *needed < wanted)
    }

    /// The receiver lacks more than is kept for it.
    pub fn is_overrun(&self) -> bool {
        self.held.is_some() && self.heard && self.above > self.retain_bytes
    }

    /// Soon.
    pub fn is_tight(&self) -> bool {
        self.keep_blocks > 0
            && self.held.is_some_and(|held| self.heard || held > 0)
            && self.above / 100 >= self.retain_bytes.div_ceil(100) * WARN_PERCENT / 100
    }
}

/// What is known of a ledger's sizes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survey {
    pub kept: Kept,
    pub above: u64,
    pub needed: Option<Height>,
    /// Of which record a snapshot is at hand.
    pub snapshot: Option<Height>,
    /// The height that `above` is of, and the tip then.
    pub held: Height,
    pub tip: Height,
    pub at: Option<Millis>,
    pub under_way: bool,
    /// Where the history began when the receiver was last told, and when that was.
    pub told: Option<Height>,
    pub told_at: Millis,
}

impl Survey {
    /// Bytes above `held`, which may have grown since, on a slow disk by much: what was there then, less its share of the blocks.
    fn above_now(&self, held: Height) -> u64 {
        let floor = self.held.max(self.kept.history_from.saturating_sub(1));
        let (since, all) = (held.saturating_sub(floor), self.tip.saturating_sub(floor));
        let share = u128::from(self.above) * u128::from(since);
        let share = share.checked_div(u128::from(all)).unwrap_or(0);
        self.above.saturating_sub(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// Bytes counted above `held`, and the height up to which. What is not kept any more counts with the mean of what is.
    pub fn lacked(&self, held: Height) -> (u64, Height) {
        let gone = self.kept.history_from.saturating_sub(held.saturating_add(1));
        if gone > 0 {
            let kept = (self.tip + 1).saturating_sub(self.kept.history_from).max(1);
            let bytes = u128::from(self.kept.log_bytes) * u128::from(gone + kept) / u128::from(kept);
            (u64::try_from(bytes).unwrap_or(u64::MAX), self.tip)
        } else if self.held <= held {
            (self.above_now(held), self.tip)
        } else {
            (0, 0)
        }
    }

    /// Whether it tells of the ledger as it is now.
    fn is_of(&self, tip: Height) -> bool {
        self.kept.log_bytes > 0 && self.tip == tip
    }
}

impl Lane {
    /// Provider: records above this height are of use to the receiver. Where it must begin anew those are that follow the snapshot at hand;
    /// without one none is: the snapshot that it will be given comes after all of them.
    fn of_use_above(&self) -> Option<Height> {
        if !self.must_begin_anew() || self.seen_before {
            return Some(self.peer_seen.map_or(0, |peer| peer.height));
        }
        let tail = self.shipping.needs_from().map(|from| from - 1);
        tail.or(self.survey.snapshot)
    }
}

impl Pair {
    /// What bounds a lane's history now.
    pub(super) fn bounds(&self, lane: &Lane) -> Bounds {
        let ever = self.setup.last_receiver.is_some() || lane.peer_seen.is_some();
        let of_use = lane.of_use_above().filter(|_| ever && self.is_standby());
        let held = of_use.unwrap_or(lane.applied);
        let from = lane.survey.kept.history_from;
        Bounds {
            keep_blocks: lane.setup.keep_blocks,
            retain_bytes: self.setup.limits.retain_bytes,
            tip: lane.applied,
            held: of_use,
            heard: lane.peer_seen.is_some() && !lane.seen_before,
            above: lane.survey.above_now(held),
            records: (lane.applied + 1).saturating_sub(from.max(held + 1)),
            needed: lane.survey.needed,
        }
    }

    pub(super) fn settle_survey(&mut self, index: usize) {
        let (now, role, standby) = (self.now, self.setup.role, self.is_standby());
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let due = lane.survey.at.is_none_or(|at| now.saturating_sub(at) >= SURVEY_MS);
        let wanted = role == Role::Provider && standby && !lane.survey.under_way && due;
        let held = lane.of_use_above().unwrap_or(lane.applied);
        // Where nothing is let go, sizes are for the status alone, and for the receiver of a session that begins.
        let known = lane.survey.is_of(lane.applied) && lane.survey.held == held;
        let told = lane.peer.is_none() || (lane.survey.told.is_some() && !lane.shipping.is_open());
        if !wanted || (lane.setup.keep_blocks == 0 && known && told) {
            return;
        }
        (lane.survey.under_way, lane.survey.at) = (true, Some(now));
        lane.survey.held = held;
        let ns = lane.setup.namespace.clone();
        let work = ArchiveWork::Survey { held };
        self.out.push(Action::Archive { ns, work });
    }

    pub(super) fn on_surveyed(
        &mut self,
        index: usize,
        (kept, above, age): (Kept, u64, Option<Millis>),
        (needed, snapshot): (Option<Height>, Option<Height>),
    ) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        // Blocks of this process have marks of when they came, which a follower's have long after they were made.
        if let Some(age) = age.filter(|_| lane.survey.held < lane.found) {
            lane.marks.found(age, now);
        }
        lane.survey.under_way = false;
        (lane.survey.kept, lane.survey.above) = (kept, above);
        (lane.survey.needed, lane.survey.snapshot) = (needed, snapshot);
        lane.survey.tip = lane.applied;
        lane.setup.history_from = kept.history_from;
        if lane.record_bytes_16 == 0 {
            let records = (lane.applied + 1).saturating_sub(kept.history_from).max(1);
            lane.record_bytes_16 = kept.log_bytes.saturating_mul(16) / records;
        }
        self.prune(index);
        self.offer(index);
    }

    /// Lets go what nobody needs, as far as that is worth the work.
    fn prune(&mut self, index: usize) {
        let Some(lane) = self.lanes.get(index) else { return };
        let bounds = self.bounds(lane);
        let (below, from) = (bounds.below(), lane.survey.kept.history_from);
        // A snapshot that is being handed over needs its tail.
        let below = match lane.shipping.needs_from() {
            Some(needed) if !bounds.is_overrun() => below.min(needed),
            _ => below,
        };
        if self.setup.role != Role::Provider || below <= from || lane.pruned_below == below {
            return;
        }
        let ns = lane.setup.namespace.clone();
        let overrun = bounds.is_overrun() && bounds.held.is_some_and(|held| below > held + 1);
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.pruned_below = below;
        }
        if overrun {
            let text = format!(
                "the standby lacks more than cvp.retain_bytes ({}): records below {below} go, it begins again from a snapshot",
                bounds.retain_bytes
            );
            self.out.push(Action::Log {
                level: Level::Warn,
                ns: Some(ns.clone()),
                text,
            });
        }
        let work = ArchiveWork::Prune { below };
        self.out.push(Action::Archive { ns, work });
    }

    /// What an operator should know of a provider's history.
    pub(super) fn retention_warning(&self, lane: &Lane) -> Option<String> {
        let bounds = self.bounds(lane);
        if self.setup.role != Role::Provider {
            return None;
        }
        // Below the history: queues are not open yet, and any block may be needed.
        let waits = bounds.waits_for_queue();
        if let Some(height) = waits.filter(|height| *height >= lane.survey.kept.history_from) {
            return Some(format!(
                "queue-keeps-history: a message queue was not told block {height} yet: all blocks from there on are kept (`cvp mq status` names it; unregister it if nobody reads it)"
            ));
        }
        if lane.must_begin_anew() && lane.peer.is_some() {
            // What it does shows: a snapshot on its way, or why there is none.
            return None;
        }
        if lane.must_begin_anew() {
            let held = lane.peer_seen.map_or(0, |peer| peer.height);
            let from = lane.survey.kept.history_from;
            return Some(format!(
                "standby-begins-anew: the standby holds block {held}, and this node keeps blocks from {from} on: it begins again from a snapshot when it is back"
            ));
        }
        if !bounds.is_tight() {
            return None;
        }
        let (above, most) = (bounds.above, bounds.retain_bytes);
        // Past it already: heard of only before this start, so the newest stay for it.
        let then = if above > most {
            "the oldest of them go, and the standby begins again from a snapshot unless it holds more than is known here"
        } else {
            "past it they go, and the standby begins again from a snapshot"
        };
        Some(format!(
            "retention-nearly-full: the records that the standby lacks take {above} of {most} bytes (cvp.retain_bytes): {then}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        keep_blocks: 100,
        retain_bytes: 1_000,
        tip: 1_000,
        held: Some(1_000),
        heard: true,
        above: 0,
        records: 0,
        needed: None,
    };

    #[test]
    fn after_a_restart_the_newest_records_stay_for_a_receiver_that_was_not_heard() {
        let unheard = Bounds {
            held: Some(0),
            heard: false,
            above: 1_000,
            records: 1_000,
            ..BOUNDS
        };
        assert_eq!(
            (unheard.below(), unheard.is_overrun(), unheard.is_tight()),
            (0, false, false)
        );
        // A tenth of them fits.
        let much = Bounds {
            above: 10_000,
            keep_blocks: 10,
            ..unheard
        };
        assert_eq!((much.below(), much.is_overrun()), (901, false));
        let wanted = Bounds {
            keep_blocks: 500,
            ..much
        };
        assert_eq!(wanted.below(), 501, "what the operator wants kept");
        // Noted before the start: what it surely holds may go, and what it lacks is said.
        let noted = Bounds {
            held: Some(700),
            records: 300,
            ..unheard
        };
        assert_eq!(
            (noted.below(), noted.is_overrun(), noted.is_tight()),
            (701, false, true)
        );
        let more = Bounds { above: 3_000, ..noted };
        assert_eq!((more.below(), more.is_overrun()), (901, false), "a third of them fits");
    }

    #[test]
    fn what_was_acknowledged_during_a_slow_survey_counts() {
        let survey = Survey {
            kept: Kept {
                history_from: 11,
                log_bytes: 90_000,
                ..Kept::default()
            },
            above: 54_000,
            held: 0,
            tip: 100,
            ..Survey::default()
        };
        assert_eq!(survey.above_now(0), 54_000);
        assert_eq!(survey.above_now(26), 54_000 - 54_000 * 16 / 90);
        assert_eq!(survey.above_now(100), 0);
        assert_eq!(survey.above_now(u64::MAX), 0);
        assert_eq!(Survey::default().above_now(7), 0);
        assert_eq!((survey.lacked(26), survey.lacked(5)), ((44_400, 100), (95_000, 100)));
    }

    #[test]
    fn what_the_receiver_lacks_stays_until_there_is_too_much_of_it() {
        assert_eq!(BOUNDS.below(), 901);
        let behind = Bounds {
            held: Some(500),
            above: 1_000,
            ..BOUNDS
        };
        assert_eq!(
            (behind.below(), behind.is_overrun(), behind.is_tight()),
            (501, false, true)
        );
        let lost = Bounds { above: 1_001, ..behind };
        assert_eq!((lost.below(), lost.is_overrun()), (901, true));
        let alone = Bounds { held: None, ..lost };
        assert_eq!(
            (alone.below(), alone.is_overrun(), alone.is_tight()),
            (901, false, false)
        );
        let all = Bounds { keep_blocks: 0, ..lost };
        assert_eq!((all.below(), all.is_tight()), (0, false));
        let short = Bounds { tip: 50, ..BOUNDS };
        assert_eq!(short.below(), 0);
        let queued = Bounds {
            needed: Some(300),
            ..lost
        };
        assert_eq!((queued.below(), queued.waits_for_queue()), (300, Some(300)));
        let read = Bounds {
            needed: Some(950),
            ..BOUNDS
        };
        assert_eq!((read.below(), read.waits_for_queue()), (901, None));
        let loose = Bounds { above: 799, ..behind };
        assert!(!loose.is_tight());
    }
}
