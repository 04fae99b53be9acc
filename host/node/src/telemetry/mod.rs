//! What a node says about itself: log lines (stderr and daily files) and the metrics registry.
//!
//! Imported by every room, imports none. Owns the names of the metrics ([`metrics`]) and the mapping of the platform's log levels
//! onto ours ([`Level`]); owns no decision about what is worth a line.

pub mod counters;
mod exporter;
mod level;
mod logs;

pub use exporter::{ExporterError, serve_metrics};
pub use level::Level;
pub use logs::{LogGuard, LogOptions, LogsError, start_logs};
