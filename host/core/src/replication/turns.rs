//! Whose backlog is sent now, where many namespaces have one: a few at a time, each for a while.
//!
//! A hundred at once would each send a run, wait for its fsync, and send the next: every run would pay for wakes, an fsync and a strategy's call of
//! its own, and the receiver would hold a window of each. In turn, a namespace's runs come behind each other and share them. Who has little to
//! send does not wait: the tail of a namespace passes the backlog of the others.

use std::collections::VecDeque;

use crate::types::Millis;
use crate::types::strategy::Role;

use super::lane::Lane;

/// How long a turn may take: long enough for what one sends in it where all of them share a fast line, and on a slow one not much.
const TURN_MS: Millis = 150;
/// A turn whose last word is so long ago passes on: its acknowledgement may never come.
const IDLE_MS: Millis = 200;

/// The numbers of turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TurnLimits {
    /// So many namespaces send a backlog at once: while some wait for their acknowledgements, others send.
    pub at_once: usize,
    /// What one sends in its turn, bytes.
    pub bytes: u64,
    /// Who has no more than this to send needs no turn, bytes.
    pub little_bytes: u64,
}

impl Default for TurnLimits {
    fn default() -> Self {
        Self {
            at_once: 8,
            bytes: 16 << 20,
            little_bytes: 256 << 10,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    lane: usize,
    left: u64,
    begun_at: Millis,
    moved_at: Millis,
}

impl Turn {
    fn is_over(&self, now: Millis) -> bool {
        self.left == 0 || now >= self.begun_at + TURN_MS
    }
}

/// Turns, and who waits for one, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    limits: TurnLimits,
    held: Vec<Turn>,
    waiting: VecDeque<usize>,
}

/// What a namespace has to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    /// About so many bytes.
    pub bytes: u64,
    /// Sent and not acknowledged.
    pub sent_bytes: u64,
    /// The receiver follows the tip.
    pub live: bool,
}

impl Owed {
    pub fn of(lane: &Lane, role: Role) -> Owed {
        let sent_bytes = lane.sender.sent_bytes();
        Owed {
            bytes: lane.lag_bytes(role).saturating_sub(sent_bytes),
            sent_bytes,
            live: lane.live,
        }
    }
}

impl Turns {
    /// Nobody sends, or waits.
    pub fn new(limits: TurnLimits) -> Turns {
        Turns {
            limits,
            ..Turns::default()
        }
    }

    /// Whether one of `lanes` namespaces that could send may: it follows the tip, has little, or a turn. Else it waits for one.
    pub fn may_send(&mut self, lane: usize, lanes: usize, owed: Owed, now: Millis) -> bool {
        if lanes <= self.limits.at_once || owed.live || owed.bytes <= self.limits.little_bytes {
            self.leave(lane);
            return true;
        }
        let bytes = self.limits.bytes;
        if let Some(turn) = self.held.iter_mut().find(|turn| turn.lane == lane) {
            if turn.is_over(now) && self.waiting.is_empty() {
                // Nobody wants it: there is no reason to let the line run dry.
                (turn.left, turn.begun_at) = (bytes, now);
            }
            if !turn.is_over(now) {
                return true;
            }
            if owed.sent_bytes > 0 {
                return false;
            }
            // What was sent last is not on its way any more, and no acknowledgement said so.
            self.leave(lane);
        }
        if owed.sent_bytes > 0 && !self.waiting.is_empty() {
            // Of a turn that passed on: it asks again when that has arrived.
            self.leave(lane);
            return false;
        }
        let is_next = self.waiting.front().is_none_or(|next| *next == lane);
        if !is_next || self.held.len() >= self.limits.at_once {
            if !self.waiting.contains(&lane) {
                self.waiting.push_back(lane);
            }
            return false;
        }
        self.leave(lane);
        self.held.push(Turn {
            lane,
            left: bytes,
            begun_at: now,
            moved_at: now,
        });
        true
    }

    /// So much was read to be sent.
    pub fn sent(&mut self, lane: usize, bytes: u64, now: Millis) {
        if let Some(turn) = self.held.iter_mut().find(|turn| turn.lane == lane) {
            (turn.left, turn.moved_at) = (turn.left.saturating_sub(bytes), now);
        }
    }

    /// Its acknowledgement came; `all`: nothing is on its way any more.
    pub fn acknowledged(&mut self, lane: usize, all: bool, now: Millis) {
        if let Some(turn) = self.held.iter_mut().find(|turn| turn.lane == lane) {
            turn.moved_at = now;
            if all && turn.is_over(now) {
                self.leave(lane);
            }
        }
    }

    /// It has nothing to send, or nobody asks for it.
    pub fn leave(&mut self, lane: usize) {
        self.held.retain(|turn| turn.lane != lane);
        self.waiting.retain(|waits| *waits != lane);
    }

    /// Who may have a turn now that another passed it on; called until there is none.
    pub fn next(&mut self, now: Millis) -> Option<usize> {
        self.held.retain(|turn| now < turn.moved_at + IDLE_MS);
        self.waiting
            .front()
            .copied()
            .filter(|_| self.held.len() < self.limits.at_once)
    }

    /// What must hold.
    pub fn invariants(&self) -> Result<(), String> {
        if self.held.len() > self.limits.at_once {
            return Err(format!("{} turns at once", self.held.len()));
        }
        let lanes = self
            .held
            .iter()
            .map(|turn| turn.lane)
            .chain(self.waiting.iter().copied());
        let mut lanes: Vec<usize> = lanes.collect();
        lanes.sort_unstable();
        if lanes.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("one namespace in two turns, or waiting in one".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANES: usize = 20;
    const TURNS: usize = 8;
    const TURN_BYTES: u64 = 16 << 20;

    fn much(sent_bytes: u64) -> Owed {
        Owed {
            bytes: 1 << 30,
            sent_bytes,
            live: false,
        }
    }

    fn full() -> Turns {
        let mut turns = Turns::default();
        for lane in 0..LANES {
            assert_eq!(turns.may_send(lane, LANES, much(0), 0), lane < TURNS, "{lane}");
        }
        turns
    }

    #[test]
    fn a_few_send_at_once_and_the_others_follow_in_order() {
        let mut turns = full();
        assert_eq!(turns.next(0), None);
        for lane in 0..TURNS {
            turns.sent(lane, TURN_BYTES, 1);
            assert!(!turns.may_send(lane, LANES, much(TURN_BYTES), 1), "its turn is used");
        }
        turns.acknowledged(3, false, 2);
        assert_eq!(turns.next(2), None, "half of it is on its way");
        turns.acknowledged(3, true, 2);
        assert_eq!(turns.next(2), Some(TURNS));
        // It comes behind those who wait.
        assert!(!turns.may_send(3, LANES, much(0), 2));
        assert!(turns.may_send(TURNS, LANES, much(0), 2) && turns.may_send(TURNS, LANES, much(9), 2));
        assert_eq!(turns.next(2), None);
        let mut order = Vec::new();
        for lane in (0..TURNS).filter(|lane| *lane != 3) {
            turns.acknowledged(lane, true, 3);
            order.extend(turns.next(3));
            assert!(turns.may_send(order[order.len() - 1], LANES, much(0), 3));
        }
        assert_eq!(order, (TURNS + 1..2 * TURNS).collect::<Vec<_>>());
    }

    #[test]
    fn who_has_little_does_not_wait_and_few_namespaces_do_not_either() {
        let mut turns = full();
        let little = Owed {
            bytes: 256 << 10,
            sent_bytes: 5,
            live: false,
        };
        assert!(turns.may_send(15, LANES, little, 0));
        let live = Owed { live: true, ..much(5) };
        assert!(turns.may_send(14, LANES, live, 0));
        assert_eq!(turns.next(1_000), Some(TURNS), "the others still wait");
        assert!(!turns.waiting.contains(&15));
        let mut few = Turns::default();
        assert!((0..TURNS).all(|lane| few.may_send(lane, TURNS, much(9), 0)));
    }

    #[test]
    fn who_has_caught_up_gives_its_turn_back_however_busy_it_is() {
        let mut turns = full();
        turns.sent(0, TURN_BYTES, 0);
        let tail = Owed {
            bytes: 1,
            ..much(TURN_BYTES)
        };
        assert!(turns.may_send(0, LANES, tail, 1));
        assert_eq!(turns.next(1), Some(TURNS));
    }

    #[test]
    fn a_turn_that_nobody_waits_for_goes_on() {
        let mut turns = Turns::default();
        for now in 0..400 {
            assert!(turns.may_send(5, LANES, much(9 << 20), now), "at {now} ms");
            turns.sent(5, 1 << 20, now);
        }
        for lane in 10..10 + TURNS {
            assert_eq!(turns.may_send(lane, LANES, much(0), 400), lane < 9 + TURNS);
        }
        assert!(!turns.may_send(5, LANES, much(9 << 20), 500), "somebody waits");
    }

    #[test]
    fn a_turn_whose_rest_is_lost_is_given_back_at_once() {
        let mut turns = full();
        turns.sent(0, TURN_BYTES, 0);
        // Taken back by a new fetch: it is not on its way, and no acknowledgement comes.
        assert!(!turns.may_send(0, LANES, much(0), 1));
        assert_eq!(turns.next(1), Some(TURNS));
        turns.invariants().unwrap();
    }

    #[test]
    fn a_turn_ends_with_its_time_and_one_that_is_not_heard_of_passes_on() {
        let mut turns = full();
        turns.sent(0, 100, 0);
        assert!(!turns.may_send(0, LANES, much(100), TURN_MS), "on a slow line");
        turns.acknowledged(0, true, TURN_MS);
        assert_eq!(turns.next(TURN_MS), Some(TURNS));
        // Nobody heard of the others' acknowledgements.
        turns.sent(1, 100, IDLE_MS);
        assert_eq!(turns.next(2 * IDLE_MS - 1), Some(TURNS));
        assert_eq!(turns.held.len(), 1);
        assert!(
            !turns.may_send(2, LANES, much(100), IDLE_MS),
            "what it sent comes first"
        );
        turns.leave(1);
        turns.leave(TURNS);
        assert_eq!((turns.held.len(), turns.next(IDLE_MS)), (0, Some(TURNS + 1)));
    }
}
