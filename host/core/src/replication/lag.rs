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
    /// How much older the oldest block not held is than its mark, and the mark's height: it was made before this end heard of it.
    older: (Height, Millis),
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

    /// The oldest block not held has this age, whenever this end heard of it.
    pub fn found(&mut self, age: Millis, now: Millis) {
        if let Some((height, at)) = self.marks.front() {
            self.older = (*height, age.saturating_sub(now.saturating_sub(*at)));
        }
    }

    /// Age of the oldest block not held.
    pub fn age(&self, now: Millis) -> Millis {
        let Some((height, at)) = self.marks.front() else {
            return 0;
        };
        let older = if self.older.0 == *height { self.older.1 } else { 0 };
        now.saturating_sub(*at).saturating_add(older)
    }
}

/// The gap is looked at so often.
const SAMPLE_MS: Millis = 5_000;
/// And judged over so long.
const SPAN_MS: Millis = 60_000;
/// A gap that has been the same for so long does not grow.
const FLAT_MS: Millis = 2 * SAMPLE_MS;
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
        // As large as this for a while: it grows no more.
        let (reached, _) = self.samples.iter().find(|(_, blocks)| *blocks == after)?;
        if last.saturating_sub(*reached) >= FLAT_MS {
            return None;
        }
        Some((after - before).saturating_mul(60_000) / span).filter(|blocks| *blocks > 0)
    }
}

/// Looks at something that moves are so far apart.
const LOOK_MS: Millis = 1_000;
/// Its pace is that of about so long.
const PACE_MS: Millis = 10_000;

/// Where something that moves was about ten seconds ago: its pace is the last one, whatever it was before a rate changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Course(VecDeque<(Millis, u64)>);

impl Course {
    /// It is at `place`; nowhere: the next one begins anew.
    pub fn look(&mut self, place: Option<u64>, now: Millis) {
        let Some(place) = place else {
            self.0.clear();
            return;
        };
        if self.0.back().is_some_and(|(at, _)| now.saturating_sub(*at) < LOOK_MS) {
            return;
        }
        self.0.push_back((now, place));
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= PACE_MS) {
            self.0.pop_front();
        }
    }

    /// Where it was, and how long ago.
    pub fn since(&self, now: Millis) -> Option<(u64, Millis)> {
        self.0.front().map(|(at, place)| (*place, now.saturating_sub(*at)))
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
        (86..=100).for_each(|second| late.look(303, second * 1_000));
        assert_eq!(late.per_minute(), None, "as it was");
        let mut short = Growth::default();
        (0..20).for_each(|second| short.look(second, second * 1_000));
        assert_eq!(short.per_minute(), None, "not seen for long enough");
    }

    #[test]
    fn a_pace_is_that_of_the_last_seconds() {
        let mut course = Course::default();
        assert_eq!(course.since(0), None);
        (0..=20).for_each(|second| course.look(Some(second * 100), second * 1_000));
        assert_eq!(course.since(20_500), Some((1_000, 10_500)));
        (21..=40).for_each(|second| course.look(Some(2_000 + second), second * 1_000));
        assert_eq!(course.since(40_000), Some((2_030, 10_000)));
        course.look(None, 41_000);
        assert_eq!(course.since(41_000), None);
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
