//! Kind config-sync: the trait and the types of `cvp-types`, and the component's glue.

#[cfg(target_arch = "wasm32")]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
pub mod component;

pub use cvp_types::config_sync::{
    Action, ConfigSync, Edit, Event, FILES_MAX, FileEntry, KEY_BYTES_MAX, KIND, PATH_BYTES_MAX, PATHS_MAX, View,
};
