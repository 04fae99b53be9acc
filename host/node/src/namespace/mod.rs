//! The chains of this node: one [`Chain`] a namespace, all in a [`ChainSet`].
//!
//! A chain owns two threads: the *maker* (while this node makes the namespace's blocks: pool, execution, one encoding, append) and the
//! *committer* (sync in groups, apply, publish). Whoever follows a chain reads its tips from a watch. Changes of role happen in place:
//! the ledger stays open. Does not know that the node has a peer: replication appends and syncs through the same ledger and calls
//! [`Chain::synced`]. A failed disk or an impossible state stops this one namespace with a reason; it never panics the node.

mod chain;
mod commit_times;
mod committer;
mod maker;
mod own_time;
mod set;
mod state;
mod submission;

#[cfg(test)]
pub(crate) mod tests;

pub use chain::{Chain, ChainOptions, TX_VERSION, wall_clock};
pub use set::ChainSet;
pub use state::{ChainError, ChainState, SubmitError};
pub use submission::{Onward, Verifier};
