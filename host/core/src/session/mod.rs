//! The session: who the two ends are to each other, and what they must agree on before a record flows.
//!
//! Owns identities and lineages, bindings, the hello and the states of the handshake, the claim by which a node learns that its place was
//! taken, the judge of heartbeats and the backoff of dialling. Does not move records: `core::replication` does, on a session that these
//! checks opened.

mod backoff;
pub(crate) mod claim;
mod handshake;
mod heartbeat;
pub(crate) mod hello;
mod identity;
mod index;
mod judge;
mod lineage;
mod stopped;
mod takeover;
pub(crate) mod refuse;
mod round_trip;

pub use backoff::{Backoff, BackoffRange};
pub use claim::{Claim, Fenced, Verdict as ClaimVerdict, judge_take_over};
pub use handshake::{
    AgreedNamespace, Agreement, Confirmed, ExpectHello, ExpectReply, ExpectVerdict, LookUp, Own, OwnNamespace, Stop,
};
pub use heartbeat::{Beat, Heartbeat, REASONS_MAX};
pub use hello::{FOLLOWERS_MAX, Hello, NAMESPACES_MAX, NamespaceOffer, PROTOCOL, STANDBY_KEY, SessionKind, StrategyId};
pub use identity::{Binding, BoundNamespace, HeldNamespace, Identity, LastHeld, LastReceiver};
pub use index::{BackendHealth, IndexOffer, IndexState, PROBLEM_BYTES_MAX};
pub use judge::{Judge, Mood};
pub use lineage::{Lineage, LineageFork, Reign, Standing, Start};
pub use round_trip::{Echo, RoundTrip};
pub use stopped::{COPY_BEHIND, CopyBehind, StoppedChain, copies_behind, stopped_chains, without_stopped};
pub use takeover::{NodeKey, SIGNATURE_BYTES_MAX, TakeOver};

#[cfg(test)]
mod tests;
