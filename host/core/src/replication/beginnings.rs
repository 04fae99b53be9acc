//! A receiver that begins from a snapshot again and again.

use crate::types::Millis;

/// How often in a row a receiver began from a snapshot. One that falls behind what its provider keeps, time and again, copies the state for
/// nothing: it is said, and done more and more seldom.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beginnings {
    count: u32,
    last: Millis,
}

impl Beginnings {
    /// So many in a row are no accident.
    const MANY: u32 = 3;
    /// After so long without one the row is over.
    const ROW_MS: Millis = 30 * 60_000;
    /// The tip was followed for so long: it keeps up.
    const GOOD_MS: Millis = 5_000;
    /// Pause after the third, and the longest.
    const PAUSE_MS: (Millis, Millis) = (10_000, 600_000);

    /// One more.
    pub fn count(&mut self, now: Millis) {
        if now.saturating_sub(self.last) > Self::ROW_MS {
            self.count = 0;
        }
        (self.count, self.last) = (self.count.saturating_add(1), now);
    }

    /// When the next one may begin.
    pub fn next_at(&self) -> Millis {
        match self.count.checked_sub(Self::MANY) {
            Some(more) => self.last + (Self::PAUSE_MS.0 << more.min(6)).min(Self::PAUSE_MS.1),
            None => 0,
        }
    }

    /// How many, while they are many and nothing shows that it was the last: `live`, the tip is followed.
    pub fn many(&self, live: bool, now: Millis) -> Option<u32> {
        let age = now.saturating_sub(self.last);
        let over = age > Self::ROW_MS || (live && age > Self::GOOD_MS);
        (self.count >= Self::MANY && !over).then_some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_in_a_row_is_said_and_the_next_ones_wait() {
        let mut row = Beginnings::default();
        for now in [1_000_000, 1_010_000] {
            row.count(now);
            assert_eq!((row.many(false, now), row.next_at()), (None, 0));
        }
        row.count(1_020_000);
        assert_eq!((row.many(true, 1_020_000), row.next_at()), (Some(3), 1_030_000));
        // Whoever follows the tip for a while keeps up.
        assert_eq!(row.many(true, 1_026_000), None);
        assert_eq!(row.many(false, 1_026_000), Some(3));
        for _ in 0..20 {
            row.count(1_100_000);
        }
        assert_eq!(row.next_at(), 1_100_000 + 600_000);
        row.count(1_100_000 + 31 * 60_000);
        assert_eq!(row.next_at(), 0, "long after the last one");
    }
}
