//! Message queues of a namespace: who registered for what, the events that a block gives a queue, and how far each queue was told.
//!
//! Events are made from block records, so nothing of them is stored: a queue is its registration and a [`Cursor`]. Owns the registry and
//! its format, the checks of a registration with their codes, the messages and the order of delivery. Does not own connections, files
//! or the broker: [`Delivery`] says which block to read and what to publish, its caller does it and says what was confirmed.

mod change;
mod cursor;
mod delivery;
mod event;
mod filter;
mod ids;
mod leaving;
mod place;
mod registration;
mod registry;

#[cfg(test)]
mod tests;

pub use change::{QUEUE_CHANGE, QueueChange, QueueEdit, first_under};
pub use cursor::{Announced, Cursor, Cursors, Missing};
pub use delivery::{Ahead, Delivery, WINDOW_BLOCKS_MAX, WINDOW_BYTES_MAX, WINDOW_EVENTS_MAX, gate};
pub use event::{Event, Notice, events_of, word_of_missing};
pub use filter::Filter;
pub use ids::{EventId, Mark, Reigns, Seen};
pub use leaving::Leaving;
pub use place::{Left, Place, seal};
pub use registration::{Registration, RoutingKey};
pub use registry::{QUEUES_MAX, Queue, REGISTRY_BYTES_MAX, Registry, exchanger_name};

use crate::types::Malformed;

/// A call that is refused; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Refused {
    /// JSON-RPC code: one of [`code`]'s.
    pub code: i64,
    /// What is wrong, with the values.
    pub message: String,
}

impl Refused {
    fn params(message: impl Into<String>) -> Self {
        Self {
            code: code::INVALID_PARAMS,
            message: format!("invalid params: {}", message.into()),
        }
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self {
            code: code::NOT_FOUND,
            message: message.into(),
        }
    }
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self::params(malformed.what)
    }
}

/// Codes that the queues' calls are refused with.
pub mod code {
    /// A parameter is missing, of the wrong kind, unknown or out of range.
    pub const INVALID_PARAMS: i64 = -32602;
    /// No queue of that name.
    pub const NOT_FOUND: i64 = -32001;
    /// A queue of that name is registered already.
    pub const DUPLICATE: i64 = -32007;
}

/// What is given of a text that came from outside, so that an answer stays short.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
