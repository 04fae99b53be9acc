//! The simulator: the pair's machines, memory ledgers and native strategies on a virtual network, disk and clock, driven by one seed.
//!
//! Everything random comes from the seed, so a seed replays bit for bit: `CVP_SIM_SEED=<seed> cargo test --release -p cvp-sim seeds`.
//! Owns the faults of the world and the checkers; decides nothing: what the nodes do is `cvp_core::replication` and
//! `cvp_core::promotion`, as in the node.

mod random;
mod archive;
mod chain;
mod disk;
mod configuration;
mod natives;
mod node;
mod papers;
mod world;
mod namespaces;
mod network;
mod host;
mod advice;
mod promotion;
mod chaos;
mod check;
mod counts;
mod tree;
mod followers;
mod index;
mod queues;

pub use counts::Counts;
pub use world::World;

/// Runs one seed to its quiet end.
///
/// # Errors
/// What did not hold, with the virtual time.
pub fn run(seed: u64) -> Result<Counts, String> {
    let mut world = World::new(seed)?;
    world.run()?;
    Ok(world.counts)
}
