//! How far a copy is that is not level: the parts of the status view that say so.

use cvp_core::replication::{BackfillStatus, BootstrapStatus, BootstrappedStatus};
use serde::{Deserialize, Serialize};

/// How much comes in a second, 0 while nothing came, and in how many seconds the rest will have come.
fn pace(came: u64, left: u64, elapsed_ms: u64) -> (f64, Option<f64>) {
    let seconds = elapsed_ms as f64 / 1_000.0;
    let rate = if seconds > 0.0 { came as f64 / seconds } else { 0.0 };
    (rate, (rate > 0.0).then(|| left as f64 / rate))
}

/// A snapshot on its way to the receiver.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct BootstrapView {
    /// Bytes durable at the receiver.
    pub bytes: u64,
    /// Bytes of all of it; 0 until it is known.
    pub total: u64,
    /// Bytes a second since it began, or went on; 0 while none come.
    pub bytes_per_second: f64,
    /// Seconds to the end at that rate; absent until there is one.
    pub eta_seconds: Option<f64>,
}

impl From<&BootstrapStatus> for BootstrapView {
    fn from(status: &BootstrapStatus) -> Self {
        let came = status.bytes.saturating_sub(status.before);
        let left = status.total.saturating_sub(status.bytes);
        let (bytes_per_second, eta_seconds) = pace(came, left, status.elapsed_ms);
        Self {
            bytes: status.bytes,
            total: status.total,
            bytes_per_second,
            eta_seconds: eta_seconds.filter(|_| status.total > 0),
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
    /// Where it began when this session's first piece was asked for.
    #[serde(default)]
    pub begun: u64,
    /// Blocks a second of the last ten seconds; 0 while none came.
    pub blocks_per_second: f64,
    /// Seconds to the end at that rate; absent until there is one.
    pub eta_seconds: Option<f64>,
}

impl From<&BackfillStatus> for BackfillView {
    fn from(status: &BackfillStatus) -> Self {
        let came = status.before.saturating_sub(status.from);
        let left = status.from.saturating_sub(status.to);
        let (blocks_per_second, eta_seconds) = pace(came, left, status.elapsed_ms);
        Self {
            from: status.from,
            to: status.to,
            begun: status.begun,
            blocks_per_second,
            eta_seconds,
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
