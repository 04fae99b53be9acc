//! The words every room shares: names, heights, digests, incarnations, refusals, and the bounded reader and writer of our binary formats.
//!
//! Owns no decision. The events and actions of strategies are defined in `cvp-types` and re-exported here as [`strategy`].

mod names;
mod read;
mod refusal;
mod slab;

pub use cvp_types as strategy;

pub use names::{Digest, Hostname, Incarnation, MalformedName, Namespace, NodeId, NodeRole, Position};
pub use read::{Malformed, Reader, Writer};
pub use refusal::Refusal;
pub use slab::Slab;

/// Height of a block; genesis is 0.
pub type Height = u64;

/// Nanoseconds since the Unix epoch (wall clock, as blocks carry it).
pub type UnixNanos = u64;

/// Monotonic time of the host in milliseconds since an arbitrary start: what every judge of core takes.
pub type Millis = u64;

/// The same clock in microseconds: what the machine of the pair takes, for it measures round trips.
pub type Micros = u64;
