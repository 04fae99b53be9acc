//! How old the oldest block is that the receiver does not hold: what separates live from catch-up.

use std::collections::VecDeque;

use crate::types::{Height, Millis};

/// Marks closer than this are one mark: the age is then too high by as much, never too low.
const MARK_MS: Millis = 20;

/// Most marks kept; beyond it the last one stands for all.
const MARKS_MAX: usize = 1024;

/// When which tip of the provider was first known here.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    marks: VecDeque<(Height, Millis)>,
}

impl Marks {
    /// The provider's tip is at `height`, and the receiver at `held`.
    pub fn tip(&mut self, height: Height, held: Height, now: Millis) {
        let full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some(back) if back.0 >= height => {}
            Some(back) if full || now.saturating_sub(back.1) < MARK_MS => back.0 = height,
            _ if height > held => self.marks.push_back((height, now)),
            _ => {}
        }
    }

    /// The receiver holds `height`.
    pub fn held(&mut self, height: Height) {
        while self.marks.front().is_some_and(|mark| mark.0 <= height) {
            self.marks.pop_front();
        }
    }

    /// Age of the oldest block not held.
    pub fn age(&self, now: Millis) -> Millis {
        self.marks.front().map_or(0, |mark| now.saturating_sub(mark.1))
    }
}

/// The gap is looked at so often.
const SAMPLE_MS: Millis = 5_000;
/// And judged over so long.
const SPAN_MS: Millis = 60_000;
/// Not before it was seen to grow for so long.
const SPAN_MS_MIN: Millis = 20_000;

/// Whether the gap between the two ends grows while blocks flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth {
    samples: VecDeque<(Millis, u64)>,
}

impl Growth {
    /// The receiver lacks `blocks`.
    pub fn look(&mut self, blocks: u64, now: Millis) {
        if self
            .samples
            .back()
            .is_some_and(|(at, _)| now.saturating_sub(*at) < SAMPLE_MS)
        {
            return;
        }
        self.samples.push_back((now, blocks));
        while self
            .samples
            .front()
            .is_some_and(|(at, _)| now.saturating_sub(*at) > SPAN_MS)
        {
            self.samples.pop_front();
        }
    }

    /// Blocks a minute by which the gap has grown since it was smallest; none when it has not for long enough.
    pub fn per_minute(&self) -> Option<u64> {
        let (last, after) = *self.samples.back()?;
        // The last of the smallest: what came before is not of this growth.
        let (first, before) = *self.samples.iter().rev().min_by_key(|(_, blocks)| *blocks)?;
        let span = last.saturating_sub(first);
        if span < SPAN_MS_MIN || after <= before || self.samples.iter().any(|(_, blocks)| *blocks > after) {
            return None;
        }
        Some((after - before).saturating_mul(60_000) / span).filter(|blocks| *blocks > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_grows_is_said_in_blocks_a_minute() {
        let mut growth = Growth::default();
        for second in 0..=60 {
            growth.look(100 + second * 2, second * 1_000);
        }
        assert_eq!(growth.per_minute(), Some(120));
        growth.look(50, 65_000);
        assert_eq!(growth.per_minute(), None, "it shrinks");
        let mut late = Growth::default();
        (0..60).for_each(|second| late.look(3, second * 1_000));
        (60..=85).for_each(|second| late.look(3 + (second - 55) * 10, second * 1_000));
        assert_eq!(late.per_minute(), Some(600), "since it began to grow");
        let mut short = Growth::default();
        (0..20).for_each(|second| short.look(second, second * 1_000));
        assert_eq!(short.per_minute(), None, "not seen for long enough");
    }

    #[test]
    fn the_age_is_that_of_the_oldest_block_not_held() {
        let mut marks = Marks::default();
        marks.tip(5, 5, 0);
        assert_eq!(marks.age(100), 0);
        for (height, now) in [(6, 100), (7, 200), (8, 205)] {
            marks.tip(height, 5, now);
        }
        assert_eq!(marks.age(300), 200);
        marks.held(6);
        assert_eq!(marks.age(300), 100);
        marks.held(7);
        assert_eq!(marks.age(300), 100);
        marks.held(8);
        assert_eq!(marks.age(300), 0);
    }
}
