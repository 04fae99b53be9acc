//! The only place that builds and wires: start order, stop order, change of role.
//!
//! Owns the order in which the rooms of a node come up and go down. Decides nothing about the pair or the chains.

mod life;
mod node;
mod operator;
mod view;
mod certificates;
mod copied;
mod looks;
mod fitness;
mod secrets;
mod fleet;
mod held;
mod stopped;
mod uncopied;
mod following;
mod ports;
mod chains;
mod namespaces;
mod alignment;
mod prepared;
mod queues;

mod remote;
mod online;
mod settings;

pub mod verify;

pub use chains::{Held, open_all};
pub use life::run;
pub use namespaces::Switched;
pub use node::Ready;
pub use settings::Changed;
