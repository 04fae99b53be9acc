//! Rates, as token buckets for everything of records, snapshots and history that a provider sends: `cvp.max_rate` for all namespaces together, and
//! for each of them what its strategy asks for. Each of those who send asks before a read, and pays for about what it will bring at once: two never
//! spend the same. What it brought is known later, and the difference is paid, or given back, then.
//!
//! Who goes next: the newest blocks of a namespace that follows the tip may borrow on what comes later, as long as it has used less than its
//! share; of the others who wait, the one that was served least; older history when nobody else waits.

use crate::types::{Micros, Millis};

use super::pair::Pair;

/// So many pieces a second are sent at the rate: a slow stream flows, and nobody waits long for another's piece.
const PIECES_PER_SECOND: u64 = 20;
/// What was not used for so long may be caught up with: senders look at the clock now and then.
const BURST_MICROS: Micros = 100_000;
/// A namespace that follows the tip and has used less than its share may borrow so much of the time to come: it does not wait for what another's
/// large record overdrew.
const BORROWED_MICROS: Micros = 10_000_000;

/// The bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// Bytes a second; 0: no limit.
    rate: u64,
    /// When what was sent is paid for.
    paid_at: Micros,
}

impl Budget {
    /// Another rate. What was sent is paid for at the new one.
    pub fn set(&mut self, rate: u64, now: Micros) {
        if rate == self.rate {
            return;
        }
        let owed = u128::from(self.paid_at.saturating_sub(now)) * u128::from(self.rate);
        let owed = owed.checked_div(u128::from(rate)).unwrap_or(0);
        self.paid_at = now.saturating_add(u64::try_from(owed).unwrap_or(u64::MAX));
        self.rate = rate;
    }

    /// Bytes a second, if there is a limit.
    pub fn rate(&self) -> Option<u64> {
        Some(self.rate).filter(|rate| *rate > 0)
    }

    /// Bytes that one read may bring now; none where everybody waits. `borrows`: on what comes later.
    pub fn piece(&self, now: Micros, borrows: bool) -> Option<u64> {
        let ahead = if borrows { BORROWED_MICROS } else { 0 };
        match self.rate {
            0 => Some(u64::MAX),
            rate => (now.saturating_add(ahead) >= self.paid_at).then_some((rate / PIECES_PER_SECOND).max(1)),
        }
    }

    /// These were sent of one of `lanes` that share the rate; how much one took is held against it for as long as it might borrow.
    fn spend_of_share(&mut self, bytes: u64, (rate, lanes): (u64, usize), now: Micros) {
        self.set(rate.div_ceil(lanes.max(1) as u64), now);
        self.spend(bytes, now);
        self.paid_at = self.paid_at.min(now.saturating_add(BORROWED_MICROS));
    }

    /// These were sent, or will be.
    pub fn spend(&mut self, bytes: u64, now: Micros) {
        if let Some(pause) = self.micros(bytes) {
            self.paid_at = self.paid_at.max(now.saturating_sub(BURST_MICROS)).saturating_add(pause);
        }
    }

    /// These were paid for, and not sent.
    fn refund(&mut self, bytes: u64) {
        self.paid_at = self.paid_at.saturating_sub(self.micros(bytes).unwrap_or(0));
    }

    fn micros(&self, bytes: u64) -> Option<Micros> {
        bytes.saturating_mul(1_000_000).checked_div(self.rate)
    }
}

/// What a namespace that sends took of the rate of all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// Bytes of its backlog, its history, and the newest blocks beyond its share, counted from where those who were served least were when it
    /// asked: who was away saves nothing up.
    bytes: u64,
    /// Paid for, and not known to be sent.
    ahead: u64,
    /// That it asked and had to wait, until it may.
    pub waits: Option<Waits>,
}

/// Someone whom a rate holds back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    pub since: Millis,
    /// When it asked last.
    pub at: Millis,
    /// It is the rate that its strategy asked for.
    pub own: bool,
}

/// Who asked and had to wait asks again sooner than this.
const ASKS_MS: Millis = 200;

/// What is read for the rate's money.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cargo {
    /// Records of a stream, or a snapshot.
    Backlog,
    /// The newest blocks of a namespace that follows the tip.
    Tail,
    /// History that nothing waits for.
    History,
}

impl Pair {
    /// Bytes that one read of a namespace may bring now; none where it waits. `None` is noted, for the order of those who wait and for the status.
    pub(super) fn piece(&mut self, index: usize, cargo: Cargo) -> Option<u64> {
        let piece = self
            .own_piece(index)
            .and_then(|own| Some(own.min(self.common_piece(index, cargo)?)));
        if piece.is_none() && cargo != Cargo::History {
            self.note_limited(index);
        }
        piece
    }

    /// What the rate that its strategy asked for has room for.
    pub(super) fn own_piece(&self, index: usize) -> Option<u64> {
        self.lanes.get(index)?.budget.piece(self.now_micros, false)
    }

    /// What the rate of all has room for, if it is this one's turn.
    pub(super) fn common_piece(&self, index: usize, cargo: Cargo) -> Option<u64> {
        let (lane, now) = (self.lanes.get(index)?, self.now_micros);
        let borrows = cargo == Cargo::Tail && lane.share.piece(now, false).is_some();
        let piece = self.budget.piece(now, borrows)?;
        if borrows || self.budget.rate == 0 {
            return Some(piece);
        }
        let mine = lane.spent.bytes.max(self.patience.spent_least);
        let goes_before = |(other, lane): (usize, &super::lane::Lane)| {
            let waits = lane.spent.waits.is_some_and(|waits| self.now < waits.at + ASKS_MS);
            let less = lane.spent.bytes.max(self.patience.spent_least) < mine;
            // Whom its own strategy holds back keeps nobody else waiting.
            let could = lane.budget.piece(now, false).is_some();
            other != index && waits && could && (less || cargo == Cargo::History)
        };
        let waits = self.lanes.iter().enumerate().any(goes_before);
        (!waits).then_some(piece)
    }

    /// A read begins that brings about so many bytes.
    pub(super) fn pay_ahead(&mut self, index: usize, cargo: Cargo, bytes: usize) {
        let now = self.now_micros;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.spent.waits.take().is_some() {
            // It did not stand still by itself.
            lane.moved_at = self.now;
        }
        if self.budget.rate == 0 && lane.budget.rate == 0 {
            return;
        }
        // One record at least.
        let bytes = (bytes as u64).max(lane.record_bytes_16 / 16);
        let borrows = cargo == Cargo::Tail && lane.share.piece(now, false).is_some();
        if !borrows {
            self.patience.spent_least = self.patience.spent_least.max(lane.spent.bytes);
            lane.spent.bytes = self.patience.spent_least.saturating_add(bytes);
        }
        lane.spent.ahead = lane.spent.ahead.saturating_add(bytes);
        self.budget.spend(bytes, now);
        lane.budget.spend(bytes, now);
    }

    /// These were sent of a namespace; nothing where its reads came to nothing.
    pub(super) fn spend(&mut self, index: usize, bytes: u64) {
        let (now, lanes) = (self.now_micros, self.lanes.len());
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let ahead = std::mem::take(&mut lane.spent.ahead);
        for budget in [&mut self.budget, &mut lane.budget] {
            budget.spend(bytes.saturating_sub(ahead), now);
            budget.refund(ahead.saturating_sub(bytes));
        }
        lane.share.spend_of_share(bytes, (self.budget.rate, lanes), now);
    }
}

/// As [`Budget::piece`], for a size that fits a buffer.
pub(super) fn at_most(piece: u64, bytes: usize) -> usize {
    usize::try_from(piece).unwrap_or(bytes).min(bytes)
}

/// A size that follows the link: what one piece took decides the next one's.
#[derive(Clone, Copy, Debug)]
pub(super) struct PieceSize(u64);

impl PieceSize {
    /// The smallest, and the largest, bytes.
    const RANGE: (u64, u64) = (64 << 10, 4 << 20);
    /// One that took less may be larger, one that took more is to be smaller.
    const GOOD_MS: (Millis, Millis) = (200, 800);

    /// Bytes of the next piece.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// A piece took so long.
    pub fn took(&mut self, millis: Millis) {
        let next = match millis {
            short if short < Self::GOOD_MS.0 => self.0.saturating_mul(2),
            long if long > Self::GOOD_MS.1 => self.0 / 2,
            _ => self.0,
        };
        self.0 = next.clamp(Self::RANGE.0, Self::RANGE.1);
    }
}

impl Default for PieceSize {
    fn default() -> Self {
        Self(256 << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that `senders` send in ten seconds, each as much as it may whenever it looks.
    fn sent(budget: &mut Budget, senders: usize, record: u64) -> u64 {
        let mut sum = 0;
        for now in (20_000_000..30_000_000).step_by(50_000) {
            let pieces: Vec<u64> = (0..senders).filter_map(|_| budget.piece(now, false)).collect();
            for piece in pieces {
                let bytes = piece.max(record);
                budget.spend(bytes, now);
                sum += bytes;
            }
        }
        sum
    }

    #[test]
    fn all_together_keep_the_rate_and_one_alone_reaches_it() {
        for (senders, record) in [(1, 0), (5, 0), (300, 0), (5, 200_000)] {
            let mut budget = Budget::default();
            budget.set(400_000, 0);
            let sum = sent(&mut budget, senders, record);
            let over = (senders as u64) * record.max(20_000) + 40_000;
            assert!(
                (3_900_000..=4_000_000 + over).contains(&sum),
                "{senders} of {record}: {sum}"
            );
        }
    }

    #[test]
    fn who_used_less_than_its_share_does_not_wait_for_what_another_overdrew() {
        let (mut all, mut quiet, mut loud) = (Budget::default(), Budget::default(), Budget::default());
        all.set(1_000_000, 0);
        // Of three namespaces one sends a record of three seconds, one a kilobyte each tenth of one.
        let (mut held_up, mut sent) = (0, 0);
        for now in (20_000_000..50_000_000).step_by(100_000) {
            if all.piece(now, loud.piece(now, false).is_some()).is_some() {
                all.spend(3_000_000, now);
                loud.spend_of_share(3_000_000, (1_000_000, 3), now);
                sent += 3_000_000;
            }
            match all.piece(now, quiet.piece(now, false).is_some()) {
                Some(_) => {
                    all.spend(1_000, now);
                    quiet.spend_of_share(1_000, (1_000_000, 3), now);
                    sent += 1_000;
                }
                None => held_up += 1,
            }
        }
        assert_eq!(held_up, 0);
        // Both together keep the rate, but for the record that is being paid.
        assert!((29_000_000..=36_000_000).contains(&sent), "{sent}");
        // What it took is forgotten when nobody could be owed it any more.
        assert!(loud.piece(60_000_001, false).is_some());
        // There is an end of borrowing.
        all.spend(20_000_000, 50_000_000);
        assert_eq!(all.piece(50_000_000, true), None);
    }

    #[test]
    fn another_rate_forgives_nothing() {
        let mut budget = Budget::default();
        assert_eq!(budget.piece(0, false), Some(u64::MAX));
        budget.set(100_000, 0);
        budget.spend(1_000_000, 200_000);
        budget.set(200_000, 200_000);
        assert_eq!(budget.piece(5_000_000, false), None, "a megabyte is five seconds of it");
        assert_eq!(budget.piece(5_200_000, false), Some(10_000));
        budget.set(0, 300_000);
        assert_eq!(budget.piece(300_000, false), Some(u64::MAX));
    }

    #[test]
    fn a_piece_follows_the_link() {
        let mut size = PieceSize::default();
        (0..9).for_each(|_| size.took(20));
        assert_eq!(size.bytes(), 4 << 20);
        size.took(500);
        assert_eq!(size.bytes(), 4 << 20);
        (0..9).for_each(|_| size.took(16_000));
        assert_eq!(size.bytes(), 64 << 10);
    }
}
