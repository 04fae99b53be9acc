//! Kind mq-sync: the trait and the types of `cvp-types`, and the component's glue.

#[cfg(target_arch = "wasm32")]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
pub mod component;

pub use cvp_types::mq_sync::{
    Action, Change, EMBEDDED, Event, Inventory, KIND, MqSync, QUEUES_MAX, Queue, REACHABLE, UNKNOWN, UNREACHABLE, View,
    WARNINGS_MAX,
};
