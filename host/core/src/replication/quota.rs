//! How much of the node's log and metrics a strategy may take: whatever it says, neither grows without bound.

use std::collections::BTreeSet;

use crate::types::Millis;

/// Lines of one namespace's strategy in one window of time.
const LINES_MAX: u32 = 50;
/// That window.
const LINES_MS: Millis = 10_000;
/// Names of one namespace's gauges, over all instances of its strategy.
const GAUGES_MAX: usize = 64;

/// What one namespace's strategy has taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Quota {
    since: Millis,
    lines: u32,
    left_out: u64,
    gauges: BTreeSet<String>,
}

impl Quota {
    /// Whether a line may be written, and how many were left out since the one before; none: it is left out, too.
    pub fn line(&mut self, now: Millis) -> Option<u64> {
        if now.saturating_sub(self.since) >= LINES_MS {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines >= LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }

    /// Whether the gauge has a place.
    pub fn gauge(&mut self, name: &str) -> bool {
        if self.gauges.contains(name) {
            return true;
        }
        self.gauges.len() < GAUGES_MAX && self.gauges.insert(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_share_of_time_and_those_left_out_are_counted() {
        let mut quota = Quota::default();
        let written = (0..1_000).filter(|_| quota.line(5).is_some()).count();
        assert_eq!(written, LINES_MAX as usize);
        assert_eq!(quota.line(LINES_MS - 1), None);
        assert_eq!(quota.line(LINES_MS), Some(1_001 - u64::from(LINES_MAX)));
        assert_eq!(quota.line(LINES_MS), Some(0));
    }

    #[test]
    fn gauges_have_a_place_for_good_or_none() {
        let mut quota = Quota::default();
        let taken = (0..1_000).filter(|n| quota.gauge(&format!("gauge_{n}"))).count();
        assert_eq!(taken, GAUGES_MAX);
        assert!(quota.gauge("gauge_0") && !quota.gauge("gauge_999"));
    }
}
