//! Real `cvp` processes for tests: roots in temporary directories, nodes started on loopback with port 0, conditions waited for by name.
//!
//! Owns every process it starts: dropping a [`node::Node`] kills it. Never sleeps for a fixed time in place of a condition.

pub mod broker;
pub mod chain;
pub mod consumer;
pub mod dice;
pub mod events;
pub mod node;
pub mod pair;
pub mod peer;
pub mod plugins;
mod ports;
pub mod proxy;
mod quiet;
pub mod queues;
pub mod rpc;
pub mod signer;
pub mod small_disk;
pub mod wait;
