//! The data index of the namespaces: whether their backends answer, and whether their switch waits for a start.
//!
//! Owns the look at a backend, which is a TCP connection and nothing more: no login, no query. Keeps no index, and decides nothing: what
//! becomes of what is seen is `cvp_core::replication`'s and the index-check strategies'.

mod probe;
mod watch;

pub use probe::probe;
pub use watch::{Watched, watch};
