//! The queues of a namespace as strategies see them.

use crate::mq::{Cursors, Queue, Registry};
use crate::types::Digest;
use crate::types::strategy::mq_sync::{self, EMBEDDED, Inventory, REACHABLE, UNKNOWN, UNREACHABLE};

/// Whether messages of a namespace reach their broker from this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BrokerState {
    /// Nothing is published here.
    #[default]
    Unknown,
    /// Consumers read the node itself.
    Embedded,
    /// It is connected.
    Reachable,
    /// It is not.
    Unreachable,
}

impl BrokerState {
    /// As strategies see it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            BrokerState::Unknown => UNKNOWN,
            BrokerState::Embedded => EMBEDDED,
            BrokerState::Reachable => REACHABLE,
            BrokerState::Unreachable => UNREACHABLE,
        }
    }

    /// Whether what a queue is told gets to its consumer.
    pub(super) fn carries(self) -> bool {
        matches!(self, BrokerState::Embedded | BrokerState::Reachable)
    }
}

/// One queue; `cursors`: how far each was told, as far as it is known.
pub(super) fn queue(queue: &Queue, cursors: &Cursors) -> mq_sync::Queue {
    let wanted = &queue.registration;
    let cursor = cursors.of(queue);
    mq_sync::Queue {
        name: wanted.queue.clone(),
        number: queue.number,
        keys: wanted.keys.iter().map(|key| key.as_str().to_owned()).collect(),
        filter: Digest::of(&wanted.filter.encode()).0,
        registration: Digest::of(&wanted.encode()).0,
        delay: wanted.delay,
        registered: queue.first,
        cursor: cursor.next,
        extra: Vec::new(),
    }
}

/// All of them.
pub(super) fn inventory(registry: &Registry, cursors: &Cursors) -> Inventory {
    Inventory {
        exchange: registry.exchanger().to_owned(),
        queues: registry.queues().values().map(|it| queue(it, cursors)).collect(),
        extra: Vec::new(),
    }
}
