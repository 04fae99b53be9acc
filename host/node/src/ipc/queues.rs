//! Message queues as an operator sees them: `cvp mq list|status`, and `mq` of each namespace's status. Members may be added, never changed.

use serde::{Deserialize, Serialize};

/// The queues of one namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QueuesView {
    /// The namespace.
    pub namespace: String,
    /// `embedded`: consumed from the node itself; `rabbit`: carried by a RabbitMQ.
    pub broker: String,
    /// `serving`, or with a broker `connected` or `unreachable`; `failed` when the queues cannot be used or their cursors not kept.
    pub state: String,
    /// Name of the exchange; absent where it is not known.
    pub exchanger: Option<String>,
    /// How many queues are registered.
    pub queues: usize,
    /// Blocks that the queue which is furthest behind was not told, or has not confirmed.
    pub behind: u64,
    /// What is wrong, when something is.
    pub problem: Option<String>,
}

/// One queue.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QueueView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub queue: String,
    /// Routing keys.
    pub keys: Vec<String>,
    /// First height it is told of.
    pub from_block: u64,
    /// Last height; absent without an end.
    pub to_block: Option<u64>,
    /// Blocks come with their transactions.
    pub verbose: bool,
    /// Only what the standby holds too, while one is attached.
    pub delay: bool,
    /// Contracts whose logs it wants; 0 for all.
    pub addresses: usize,
    /// Who registered, as said.
    pub from: String,
    /// The last event that was confirmed; `-` before the first block.
    pub cursor: String,
    /// Blocks above it.
    pub behind: u64,
    /// It was told everything it was registered for.
    pub finished: bool,
}

/// The answer of `mq status`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QueuesStatus {
    /// One entry a namespace that has the service.
    pub mq: Vec<QueuesView>,
}

/// The answer of `mq list`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QueueList {
    /// All queues of all namespaces.
    pub queues: Vec<QueueView>,
}
