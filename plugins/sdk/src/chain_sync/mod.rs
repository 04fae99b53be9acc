//! Kind chain-sync: the trait and the types of `cvp-types`, and the component's glue.

#[cfg(target_arch = "wasm32")]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
pub mod component;

pub use cvp_types::chain_sync::{Action, Batch, ChainSync, Event, Fetch, KIND, Snapshot, View};
