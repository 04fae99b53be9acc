//! SOLO order: one node decides alone. A block is due when a full batch waits, or when something has waited for the batch timeout.

use crate::types::Millis;

/// How SOLO batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoloOptions {
    /// Transactions that make a block at once (`consensus.pool.batch_size`).
    pub batch_size: usize,
    /// Longest a transaction waits for company, milliseconds (`consensus.solo.timeout.batch`).
    pub batch_timeout_ms: Millis,
}

/// Decides when a batch is due. The host tells it how many wait; it never sees a transaction.
#[derive(Debug)]
pub struct Solo {
    options: SoloOptions,
    waiting: usize,
    since: Option<Millis>,
}

impl Solo {
    /// Nothing waits yet.
    pub fn new(options: SoloOptions) -> Self {
        Self {
            options,
            waiting: 0,
            since: None,
        }
    }

    /// `waiting` transactions are in the pool at `now`.
    pub fn step(&mut self, now: Millis, waiting: usize) {
        self.since = match (waiting, self.since) {
            (0, _) => None,
            (_, Some(since)) => Some(since),
            (_, None) => Some(now),
        };
        self.waiting = waiting;
    }

    /// How many transactions the block that is due at `now` takes; none when none is due. The clock of the rest starts anew.
    pub fn ready(&mut self, now: Millis) -> Option<usize> {
        let since = self.since?;
        let due = self.waiting >= self.options.batch_size || now.saturating_sub(since) >= self.options.batch_timeout_ms;
        if !due {
            return None;
        }
        let count = self.waiting.min(self.options.batch_size);
        self.waiting -= count;
        self.since = (self.waiting > 0).then_some(now);
        Some(count)
    }

    /// When to ask again, if nothing arrives before; none when nothing waits.
    pub fn due_at(&self) -> Option<Millis> {
        self.since
            .map(|since| since.saturating_add(self.options.batch_timeout_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: SoloOptions = SoloOptions {
        batch_size: 3,
        batch_timeout_ms: 500,
    };

    #[test]
    fn no_transaction_no_block() {
        let mut solo = Solo::new(OPTIONS);
        solo.step(0, 0);
        assert_eq!((solo.ready(10_000), solo.due_at()), (None, None));
    }

    #[test]
    fn a_full_batch_is_due_at_once_and_a_part_after_the_timeout() {
        let mut solo = Solo::new(OPTIONS);
        solo.step(100, 4);
        assert_eq!(solo.ready(100), Some(3));
        assert_eq!(solo.ready(101), None, "one waits");
        assert_eq!(solo.due_at(), Some(600));
        assert_eq!(solo.ready(600), Some(1));
        assert_eq!(solo.ready(9_999), None);
    }

    #[test]
    fn the_timeout_runs_from_the_first_that_waits() {
        let mut solo = Solo::new(OPTIONS);
        solo.step(0, 1);
        solo.step(400, 2);
        assert_eq!(solo.ready(500), Some(2));
    }

    #[test]
    fn full_batches_follow_each_other_without_waiting() {
        let mut solo = Solo::new(OPTIONS);
        solo.step(0, 7);
        assert_eq!((solo.ready(0), solo.ready(0), solo.ready(0)), (Some(3), Some(3), None));
        assert_eq!(solo.ready(500), Some(1));
    }

    #[test]
    fn a_clock_that_steps_back_and_a_timeout_without_end_harm_nothing() {
        let mut solo = Solo::new(SoloOptions {
            batch_size: 3,
            batch_timeout_ms: Millis::MAX,
        });
        solo.step(100, 1);
        assert_eq!((solo.due_at(), solo.ready(5)), (Some(Millis::MAX), None));
        solo.step(6, 3);
        assert_eq!(solo.ready(6), Some(3));
    }
}
