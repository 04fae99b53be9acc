//! The message queues of this node's namespaces: their files, their changes, and the ways events leave.
//!
//! Owns two small files a namespace (`data/mq`), who waits for their disk, and the tasks that read a chain for a consumer. Follows the
//! ledger by its watch: no block waits for anything here. What a queue is told, and when a cursor moves, is core's (`cvp_core::mq`).

mod calls;
mod feed;
mod files;
mod history;
mod leaving;
mod names;
mod queues;
mod rabbit;
mod set;
mod standby;
mod striking;
mod writer;

#[cfg(test)]
mod tests;

pub use calls::QueuesError;
pub use feed::Feed;
pub use files::{QueueFileError, QueueFiles};
pub use names::{AtRest, BrokerNames};
pub use queues::{Commit, Committing, QueueRow, Queues, Reign, Surroundings};
pub use rabbit::Rabbit;
pub use set::{BadCopies, Copies, HeldThere, Opened, QueueSet};
