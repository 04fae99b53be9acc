//! When the last groups of blocks became durable here: what an acknowledgement is measured from. Bounded, one entry a group commit.

use std::collections::VecDeque;
use std::time::Instant;

use cvp_core::types::Height;
use parking_lot::Mutex;

/// Groups remembered; without a receiver the oldest are forgotten.
const GROUPS_MAX: usize = 1_024;

/// Group commits that are not acknowledged yet.
#[derive(Default)]
pub(super) struct CommitTimes(Mutex<State>);

#[derive(Default)]
struct State {
    groups: VecDeque<Group>,
    last: Option<Height>,
}

struct Group {
    last: Height,
    blocks: u64,
    at: Instant,
}

impl CommitTimes {
    /// Everything up to `durable` is durable now.
    pub(super) fn committed(&self, durable: Height) {
        let mut state = self.0.lock();
        let known = state.last.replace(durable);
        // The first look says only where block making begins.
        let blocks = known.map_or(0, |known| durable.saturating_sub(known));
        if blocks == 0 {
            return;
        }
        if state.groups.len() == GROUPS_MAX {
            state.groups.pop_front();
        }
        state.groups.push_back(Group {
            last: durable,
            blocks,
            at: Instant::now(),
        });
    }

    /// Takes the groups that `acknowledged` covers: how many blocks, and how long ago they were committed, seconds.
    pub(super) fn take(&self, acknowledged: Height) -> Vec<(u64, f64)> {
        let mut state = self.0.lock();
        let covered = state.groups.partition_point(|group| group.last <= acknowledged);
        let taken = state.groups.drain(..covered);
        taken
            .map(|group| (group.blocks, group.at.elapsed().as_secs_f64()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(taken: &[(u64, f64)]) -> Vec<u64> {
        taken.iter().map(|(blocks, _)| *blocks).collect()
    }

    #[test]
    fn each_group_is_measured_once_when_all_of_it_is_acknowledged() {
        let times = CommitTimes::default();
        for durable in [10, 12, 12, 15] {
            times.committed(durable);
        }
        assert_eq!(blocks(&times.take(11)), [0_u64; 0]);
        assert_eq!(blocks(&times.take(14)), [2]);
        assert_eq!(blocks(&times.take(15)), [3]);
        assert_eq!(blocks(&times.take(15)), [0_u64; 0]);
    }

    #[test]
    fn without_a_receiver_the_oldest_are_forgotten() {
        let times = CommitTimes::default();
        (0..GROUPS_MAX as u64 + 9).for_each(|height| times.committed(height));
        assert_eq!(times.take(Height::MAX).len(), GROUPS_MAX);
    }
}
