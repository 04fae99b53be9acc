//! The judge of heartbeats: pure, asked with the time.

use crate::types::Millis;

/// How a peer looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Heard within three heartbeats: may count for `normal`.
    Fresh,
    /// Not heard for three heartbeats: no longer normal, the session lives.
    Tardy,
    /// Not heard for all the misses allowed: the session is over.
    Dead,
}

/// Heartbeats younger than this many intervals are fresh.
const FRESH_BEATS: u64 = 3;

/// A dead session is left after so long at the latest, however long the heartbeat is, and `normal` after [`FRESH_MS_MAX`].
const FRESH_MS_MAX: Millis = 2_500;

/// Judges by the time of the last message.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    heartbeat_ms: Millis,
    misses: u64,
    heard: Millis,
}

impl Judge {
    /// A judge that has just heard the peer.
    pub fn new(heartbeat_ms: Millis, misses: u32, now: Millis) -> Judge {
        Judge {
            heartbeat_ms: heartbeat_ms.max(1),
            misses: u64::from(misses).max(FRESH_BEATS),
            heard: now,
        }
    }

    /// A heartbeat came.
    pub fn signal(&mut self, now: Millis) {
        self.heard = self.heard.max(now);
    }

    /// Time since the last one.
    pub fn age(&self, now: Millis) -> Millis {
        now.saturating_sub(self.heard)
    }

    /// How the peer looks now.
    pub fn tardy(&self, now: Millis) -> Mood {
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::JudgeNeverTardy) {
            return Mood::Fresh;
        }
        let age = self.age(now);
        if age < (self.heartbeat_ms * FRESH_BEATS).min(FRESH_MS_MAX) {
            Mood::Fresh
        } else if age < self.heartbeat_ms * self.misses {
            Mood::Tardy
        } else {
            Mood::Dead
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moods_follow_the_clock() {
        let mut judge = Judge::new(500, 5, 1000);
        assert_eq!(judge.tardy(2_499), Mood::Fresh);
        assert_eq!(judge.tardy(2_500), Mood::Tardy);
        assert_eq!(judge.tardy(3_499), Mood::Tardy);
        assert_eq!(judge.tardy(3_500), Mood::Dead);
        judge.signal(3_000);
        assert_eq!(judge.tardy(3_500), Mood::Fresh);
        assert_eq!(Judge::new(2_000, 5, 0).tardy(2_600), Mood::Tardy);
    }
}
