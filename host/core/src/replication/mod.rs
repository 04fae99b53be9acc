//! Replication: one machine a node, which takes what happened and says what to do. The node's driver and the simulator run the same one.
//!
//! Owns the links' handshakes and sessions, the sender's windows, the receiver's progress, the checks on what a strategy advises, the
//! questions and notices by which a replaced provider is fenced, and the status. Does no IO, reads no clock, holds no record bytes beyond
//! the event that brought them. It has no opinion on spans: without a strategy's action nothing flows.

mod api;
mod ingest;
mod pair;
mod status;

pub use api::{
    Action, ConnId, ControlFile, DialPurpose, Event, Limits, NamespaceSetup, PeerTls, Ready, Setup,
    StrategyRun, StrategySetup, Token,
};
pub use ingest::ingest;
pub use pair::Pair;
pub use status::{NamespaceStatus, PairStatus, PeerStatus, Phase, StrategyStatus};
