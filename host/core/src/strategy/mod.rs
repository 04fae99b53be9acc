//! Trait [`Strategy`]: what decides *what* to synchronise and *when*, seen from the host; native and WASM ones look the same here.
//!
//! Owns the trait, the kinds there are ([`Kind`]), the judge of faults ([`judge`]), the trace format, the contract suite every implementation
//! must pass, and the check of what strategies of the other kinds than chain-sync say ([`scrutiny`]). Does not check actions against the state of a stream:
//! `core::replication` does, which knows it.

mod kind;
mod native;
mod codec;
pub mod contract;
pub mod judge;
pub mod scrutiny;
pub mod trace;

use crate::types::strategy::Fault;

pub use codec::Coded;
pub use kind::{ChainSync, ConfigSync, IndexCheck, Kind, MqSync};
pub use native::Native;

/// A running strategy of one kind. Events in, oldest first; actions out.
pub trait Strategy: Send {
    /// What it is told.
    type Event;
    /// What it decides.
    type Action;

    /// One call. The same events since construction give the same actions, always. After a fault the instance is spent: drop it.
    fn handle(&mut self, events: Vec<Self::Event>) -> Result<Vec<Self::Action>, Fault>;
}

/// A strategy of kind `K` behind a box, native or WASM.
pub type Boxed<K> = Box<dyn Strategy<Event = <K as Kind>::Event, Action = <K as Kind>::Action>>;

/// A strategy of kind chain-sync behind a box: what `core::replication`'s drivers hold.
pub type ChainSyncStrategy = Boxed<ChainSync>;

/// A strategy of kind config-sync behind a box.
pub type ConfigSyncStrategy = Boxed<ConfigSync>;

/// A strategy of kind index-check behind a box.
pub type IndexCheckStrategy = Boxed<IndexCheck>;

/// A strategy of kind mq-sync behind a box.
pub type MqSyncStrategy = Boxed<MqSync>;
