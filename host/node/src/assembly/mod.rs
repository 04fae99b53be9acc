//! The only place that builds and wires: start order, stop order, change of role.

pub mod verify;
