//! Judges a strategy by its faults: restart it after a while, or put it in quarantine. Pure; time comes in.
//!
//! While it is not running, the namespace runs on the embedded default: that is the host's business, not decided here.

use std::collections::VecDeque;

use crate::types::Millis;

/// So many faults within [`WINDOW_MS`] put a strategy in quarantine.
pub const FAULTS_MAX: usize = 3;

/// The time in which faults are counted.
pub const WINDOW_MS: Millis = 60_000;

/// The first restart comes after this long; each further one doubles it.
pub const BACKOFF_MIN_MS: Millis = 1_000;

/// No restart waits longer.
pub const BACKOFF_MAX_MS: Millis = 30_000;

/// What a strategy may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It runs.
    Running,
    /// It faulted; a fresh instance may start at this time.
    Restarting {
        /// When.
        at: Millis,
    },
    /// It faulted too often: not started again until its file changes or the operator resets it.
    Quarantined,
}

impl Standing {
    /// As status spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Running => "running",
            Standing::Restarting { .. } => "restarting",
            Standing::Quarantined => "quarantined",
        }
    }
}

/// The record of one strategy in one namespace.
#[derive(Clone, Debug)]
pub struct Judge {
    recent: VecDeque<Millis>,
    faults: u64,
    backoff_ms: Millis,
    standing: Standing,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            recent: VecDeque::new(),
            faults: 0,
            backoff_ms: BACKOFF_MIN_MS,
            standing: Standing::Running,
        }
    }
}

impl Judge {
    /// A strategy without a fault.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it may do.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Faults since the start or the last reset.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// It faulted: trapped, overran its deadline, returned a fault or nonsense, or failed to start.
    pub fn on_fault(&mut self, now: Millis) -> Standing {
        self.faults += 1;
        self.recent.retain(|at| now.saturating_sub(*at) < WINDOW_MS);
        if self.recent.is_empty() {
            self.backoff_ms = BACKOFF_MIN_MS;
        }
        self.recent.push_back(now);
        self.standing = if self.recent.len() >= FAULTS_MAX {
            Standing::Quarantined
        } else {
            let at = now + self.backoff_ms;
            self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MAX_MS);
            Standing::Restarting { at }
        };
        self.standing
    }

    /// True when a fresh instance is to be started now; the judge takes it as running from here.
    pub fn restart_due(&mut self, now: Millis) -> bool {
        match self.standing {
            Standing::Restarting { at } if at <= now => {
                self.standing = Standing::Running;
                true
            }
            _ => false,
        }
    }

    /// The file changed, or the operator said so: everything is forgiven.
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_three_faults_a_minute_quarantine() {
        let mut judge = Judge::new();
        assert_eq!(judge.on_fault(0), Standing::Restarting { at: 1_000 });
        assert!(!judge.restart_due(999));
        assert!(judge.restart_due(1_000));
        assert_eq!(judge.standing(), Standing::Running);
        assert_eq!(judge.on_fault(1_500), Standing::Restarting { at: 3_500 });
        assert!(judge.restart_due(3_500));
        assert_eq!(judge.on_fault(59_999), Standing::Quarantined);
        assert!(!judge.restart_due(u64::MAX));
        assert_eq!(judge.faults(), 3);
        judge.reset();
        assert_eq!((judge.standing(), judge.faults()), (Standing::Running, 0));
    }

    #[test]
    fn rare_faults_never_quarantine_and_the_backoff_is_capped() {
        let mut judge = Judge::new();
        for round in 0..20 {
            let now = round * 40_000;
            let Standing::Restarting { at } = judge.on_fault(now) else {
                panic!("quarantined at {now}");
            };
            assert!(at - now <= BACKOFF_MAX_MS);
            assert!(judge.restart_due(at));
        }
        assert_eq!(judge.on_fault(10_000_000), Standing::Restarting { at: 10_001_000 });
    }
}
