//! What a node says about itself: log lines (stderr and files) and the metrics registry.
//!
//! Imported by every room, imports none. Owns the names of the metrics ([`counters`], [`pair`]) and the mapping of the platform's log levels and
//! modules onto ours ([`LogLevels`]); owns no decision about what is worth a line.

pub mod counters;
mod exporter;
mod filter;
mod logs;
pub mod pair;
mod rolling;

pub use exporter::serve_metrics;
pub use filter::LogLevels;
pub use logs::{LogControl, LogGuard, LogOptions, start_logs};
pub use rolling::RollAt;
