//! Message queues as an operator sees them: `cvp mq list|status`, and `mq` of each namespace's status. Members may be added, never changed.

use serde::{Deserialize, Serialize};

/// Queues that one line of a status names.
const QUEUES_SHOWN: usize = 8;

/// The queues of one namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QueuesView {
    /// The namespace.
    pub namespace: String,
    /// `embedded`: consumed from the node itself; `rabbit`: carried by a RabbitMQ.
    pub broker: String,
    /// `serving`, or with a broker `connected`, `blocked` (connected, and it takes no messages for now) or `unreachable`; `failed` when the queues cannot be used or their cursors not kept.
    pub state: String,
    /// Name of the exchange; absent where it is not known.
    pub exchanger: Option<String>,
    /// How many queues are registered.
    pub queues: usize,
    /// Blocks that the queue which is furthest behind was not told, or has not confirmed.
    pub behind: u64,
    /// What is wrong, when something is.
    pub problem: Option<String>,
    /// What is registered and is not on this node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingView>,
    /// What the node made at a broker where it does not come any more, and that stays there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<LeftView>,
    /// Some of it since this start.
    #[serde(skip)]
    pub left_now: bool,
}

/// What a node left at a broker.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LeftView {
    /// Name of the queue; absent where it is the exchange alone.
    pub queue: Option<String>,
    /// The exchange.
    pub exchanger: String,
    /// Where: host, port and virtual host.
    pub place: String,
}

/// Blocks that a queue was registered for and that its node does not have: it is told once that it is told of none of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MissingView {
    /// Name of the queue.
    pub queue: String,
    /// First of them.
    pub from: u64,
    /// Last of them.
    pub to: u64,
}

impl QueuesView {
    /// What the node left at other brokers, on one line; none where it left nothing.
    pub fn left_in_words(&self) -> Option<String> {
        let words = |it: &LeftView| match &it.queue {
            Some(queue) => format!("queue {queue} (exchange {}) at {}", it.exchanger, it.place),
            None => format!("exchange {} at {}", it.exchanger, it.place),
        };
        let mut shown: Vec<String> = self.left.iter().take(QUEUES_SHOWN).map(words).collect();
        if let Some(more) = self.left.len().checked_sub(QUEUES_SHOWN + 1) {
            shown.push(format!("{} more", more + 1));
        }
        let list = shown.join(", ");
        (!shown.is_empty()).then(|| {
            format!(
                "left at another broker than that of mq.rabbit.url: {list}; remove them there by hand, unless that is another name of the broker in use, or set the address back"
            )
        })
    }

    /// Which blocks the node does not have for which queues, on one line; none where it has all.
    pub fn missing_in_words(&self) -> Option<String> {
        let words = |it: &MissingView| format!("queue {} of blocks {} to {}", it.queue, it.from, it.to);
        let mut shown: Vec<String> = self.missing.iter().take(QUEUES_SHOWN).map(words).collect();
        if let Some(more) = self.missing.len().checked_sub(QUEUES_SHOWN + 1) {
            shown.push(format!("{} more queues", more + 1));
        }
        let why = match self.state.as_str() {
            "standby" => "an upgrade now would not tell, as they are not filled in yet:",
            _ => "not told, as they are not on this node:",
        };
        (!shown.is_empty()).then(|| format!("{why} {}", shown.join(", ")))
    }
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
    /// Namespaces whose queues cannot be read, and are not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableView>,
}

/// A namespace whose queues cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UnreadableView {
    /// The namespace.
    pub namespace: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}
