//! Every decision and every format of a `cvp` node, and nothing that touches the world.
//!
//! No tokio, files, sockets, clock, randomness, wasmtime or RocksDB: time and bytes come in, decisions and bytes go out. The rooms,
//! top first; a room imports only rooms below it.

pub mod promotion;
pub mod replication;
pub mod session;
pub mod consensus;
pub mod mq;
pub mod chain;
pub mod ledger;
pub mod record;
pub mod strategy;
pub mod config;
pub mod frame;
pub mod types;

#[cfg(feature = "planted-faults")]
pub mod planted;
