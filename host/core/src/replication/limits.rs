//! The machine's numbers, as the configuration has them.

use crate::types::Millis;

use super::turns::TurnLimits;

/// Numbers from the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// `cvp.heartbeat`, milliseconds.
    pub heartbeat_ms: Millis,
    /// `cvp.heartbeat_misses`.
    pub heartbeat_misses: u32,
    /// Largest window a strategy may ask for, bytes a namespace.
    pub window_bytes_max: u64,
    /// `cvp.max_rate`, bytes a second; 0: none.
    pub max_rate: u64,
    /// `cvp.retain_bytes`: how much of what the receiver lacks is kept for it beyond `ledger.keep_blocks`, bytes a namespace.
    pub retain_bytes: u64,
    /// `cvp.strong_timeout`: how long a strong change waits for the receiver, milliseconds.
    pub strong_timeout_ms: Millis,
    /// `p2p.retrytime`: longest pause between two dials, milliseconds.
    pub dial_pause_ms_max: Millis,
    /// Whose backlog is sent when.
    pub turns: TurnLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            heartbeat_ms: 500,
            heartbeat_misses: 5,
            window_bytes_max: 64 << 20,
            max_rate: 0,
            retain_bytes: 8 << 30,
            strong_timeout_ms: 5_000,
            dial_pause_ms_max: 3_000,
            turns: TurnLimits::default(),
        }
    }
}
