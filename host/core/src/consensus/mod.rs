//! Which transactions the next block takes, and when: the pool, and the order behind one door (SOLO now).
//!
//! Owns no clock, no signatures and no execution: time comes in, batches go out.

mod pool;
mod solo;

pub use pool::{Pool, PoolLimits};
pub use solo::{Solo, SoloOptions};
