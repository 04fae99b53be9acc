//! The ledger on disk: a log of segment files holds the records as encoded, RocksDB the state and the indexes.
//!
//! A byte of a block is written once, to the log, and fsynced there; state and indexes are brought up from the log, after each commit and
//! after a crash (their write-ahead log is off). Owns `data/{log,state,index}` of one namespace. Does not know where records come from.

mod store;
mod sum;
mod open;
mod archive;
mod snapshot;
mod staging;
mod inspect;
mod bring_up;
mod changes;
mod verify;
mod elements;
mod pending;
mod recent;
mod databases;
mod base;
mod log;
mod segment;
mod offsets;
mod ring;
mod options;

pub use inspect::Inspection;
pub use options::{Shared, StoreOptions};
pub use store::Store;

#[cfg(test)]
mod tests;
