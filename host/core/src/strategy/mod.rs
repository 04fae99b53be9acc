//! Trait [`Strategy`]: what decides *what* to synchronise and *when*, seen from the host; native and WASM ones look the same here.
//!
//! Owns the trait, the judge of faults ([`judge`]), the trace format and the contract suite every implementation must pass. Does not check
//! actions against the state of a stream: `core::replication` does, which knows it.

mod codec;
pub mod contract;
pub mod judge;
pub mod trace;

use crate::types::strategy::{Fault, Role, chain_sync};

/// A running strategy of one kind. Events in, oldest first; actions out.
pub trait Strategy: Send {
    /// What it is told.
    type Event;
    /// What it decides.
    type Action;

    /// One call. The same events since construction give the same actions, always. After a fault the instance is spent: drop it.
    fn handle(&mut self, events: Vec<Self::Event>) -> Result<Vec<Self::Action>, Fault>;
}

/// A strategy of kind chain-sync behind a box: what `core::replication`'s drivers hold.
pub type ChainSyncStrategy = Box<dyn Strategy<Event = chain_sync::Event, Action = chain_sync::Action>>;

/// A strategy linked into this process as plain Rust: the simulator's and the tests'.
pub struct Native<S>(S);

impl<S: chain_sync::ChainSync> Native<S> {
    /// Opens it for one end of one namespace.
    pub fn open(role: Role, namespace: &str, settings: &str) -> Result<Self, Fault> {
        Ok(Self(S::open(role, namespace, settings)?))
    }
}

impl<S: chain_sync::ChainSync> Strategy for Native<S> {
    type Event = chain_sync::Event;
    type Action = chain_sync::Action;

    fn handle(&mut self, events: Vec<Self::Event>) -> Result<Vec<Self::Action>, Fault> {
        self.0.handle(events)
    }
}
