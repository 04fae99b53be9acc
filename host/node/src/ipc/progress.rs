//! How far a copy is that is not level: the parts of the status view that say so.

use cvp_core::replication::{BackfillStatus, BootstrapStatus, BootstrappedStatus};
use serde::{Deserialize, Serialize};

/// A snapshot on its way to the receiver.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct BootstrapView {
    /// Bytes durable at the receiver.
    pub bytes: u64,
    /// Bytes of all of it; 0 until it is known.
    pub total: u64,
    /// Receiver: bytes a second since it began, or went on.
    pub bytes_per_second: f64,
    /// Receiver: seconds to the end at that rate; absent until there is one.
    pub eta_seconds: Option<f64>,
}

impl From<&BootstrapStatus> for BootstrapView {
    fn from(status: &BootstrapStatus) -> Self {
        let seconds = status.elapsed_ms as f64 / 1_000.0;
        let came = status.bytes.saturating_sub(status.before) as f64;
        let rate = if seconds > 0.0 { came / seconds } else { 0.0 };
        let left = status.total.saturating_sub(status.bytes) as f64;
        Self {
            bytes: status.bytes,
            total: status.total,
            bytes_per_second: rate,
            eta_seconds: (rate > 0.0 && status.total > 0).then(|| left / rate),
        }
    }
}

/// History before a snapshot that a receiver fills in, newest first.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct BackfillView {
    /// Where the history begins now.
    pub from: u64,
    /// Where it will: at the oldest block that the provider keeps.
    pub to: u64,
    /// Blocks a second in this session; 0 while none came.
    pub blocks_per_second: f64,
    /// Seconds to the end at that rate; absent until there is one.
    pub eta_seconds: Option<f64>,
}

impl From<&BackfillStatus> for BackfillView {
    fn from(status: &BackfillStatus) -> Self {
        let seconds = status.elapsed_ms as f64 / 1_000.0;
        let came = status.before.saturating_sub(status.from) as f64;
        let rate = if seconds > 0.0 { came / seconds } else { 0.0 };
        let left = status.from.saturating_sub(status.to) as f64;
        Self {
            from: status.from,
            to: status.to,
            blocks_per_second: rate,
            eta_seconds: (rate > 0.0).then(|| left / rate),
        }
    }
}

/// How fast a copy grows.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PaceView {
    /// Blocks that became durable at the receiver, a second.
    pub blocks_per_second: f64,
    /// Seconds until it holds all, at the pace by which the gap shrinks; absent while it does not.
    pub eta_seconds: Option<f64>,
}

/// A snapshot that a receiver stands on.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct BootstrappedView {
    /// The block that it is of.
    pub height: u64,
    /// Bytes that came.
    pub bytes: u64,
    /// From the wish for it until the last of them was durable, seconds.
    pub copy_seconds: f64,
    /// From there until the chain stood on it, seconds.
    pub check_seconds: f64,
}

impl From<&BootstrappedStatus> for BootstrappedView {
    fn from(status: &BootstrappedStatus) -> Self {
        Self {
            height: status.height,
            bytes: status.bytes,
            copy_seconds: status.copy_micros as f64 / 1e6,
            check_seconds: status.check_micros as f64 / 1e6,
        }
    }
}
