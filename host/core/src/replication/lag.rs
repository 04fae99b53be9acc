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

#[cfg(test)]
mod tests {
    use super::*;

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
