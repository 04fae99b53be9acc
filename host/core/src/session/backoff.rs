//! Backoff of dialling: doubling, capped, with jitter from a seed, so that the same seed dials at the same times.

use crate::types::Millis;

/// Shortest and longest pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackoffRange {
    /// First pause, milliseconds.
    pub first_ms: Millis,
    /// Longest pause, milliseconds.
    pub last_ms: Millis,
}

/// When to dial next.
#[derive(Clone, Debug)]
pub struct Backoff {
    range: BackoffRange,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// No failure yet.
    pub fn new(range: BackoffRange, seed: u64) -> Backoff {
        Backoff {
            range,
            failures: 0,
            random: seed,
        }
    }

    /// After a success: the next pause is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause before the next attempt: between half and all of the doubled pause.
    pub fn pause(&mut self) -> Millis {
        let full = self
            .range
            .first_ms
            .saturating_mul(1 << self.failures.min(16))
            .min(self.range.last_ms)
            .max(1);
        self.failures = self.failures.saturating_add(1);
        // splitmix64: plenty for spreading dials.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        full / 2 + (z ^ (z >> 31)) % (full / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_repeat_with_the_seed() {
        let range = BackoffRange {
            first_ms: 100,
            last_ms: 1000,
        };
        let (mut one, mut two) = (Backoff::new(range, 7), Backoff::new(range, 7));
        for full in [100, 200, 400, 800, 1000, 1000] {
            let pause = one.pause();
            assert_eq!(pause, two.pause());
            assert!((full / 2..=full).contains(&pause), "{pause} of {full}");
        }
        one.reset();
        assert!(one.pause() <= 100);
    }
}
