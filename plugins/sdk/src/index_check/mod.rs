//! Kind index-check: the trait and the types of `cvp-types`, and the component's glue.

#[cfg(target_arch = "wasm32")]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
pub mod component;

pub use cvp_types::index_check::{
    Action, Event, HEALTHY, IndexCheck, KIND, OFF, Side, UNHEALTHY, UNKNOWN, View, WARNINGS_MAX,
};
