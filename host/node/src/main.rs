//! `cvp`: one binary that runs a node and is the operator's client for a running one.
//!
//! The rooms, top first; a room imports only rooms below it (telemetry is imported by all).

mod commands;
mod bench;
mod assembly;
mod ipc;
mod rpc;
mod promotion;
mod replication;
mod mq;
mod namespace;
mod index;
mod consensus;
mod link;
mod config;
mod crash_point;
mod durable;
mod memory;
mod failure;
mod telemetry;

fn main() -> std::process::ExitCode {
    memory::tune_allocator();
    commands::main()
}
