//! What a strategy's author needs: a trait per kind, a reader of settings, one macro that exports the strategy as a component.
//!
//! ```ignore
//! struct Mine;
//! impl cvp_sdk::chain_sync::ChainSync for Mine { /* describe, check_settings, open, handle */ }
//! cvp_sdk::export_chain_sync!(Mine);
//! ```
//!
//! All WIT glue is compiled for WebAssembly only: natively the strategy is plain Rust, for tests and the simulator.

pub mod chain_sync;
pub mod config_sync;
pub mod index_check;
pub mod mq_sync;
pub mod settings;
#[cfg(target_arch = "wasm32")]
mod shared;

pub use cvp_types::{
    ACTIONS_MAX, Descriptor, Fault, Height, LIVE_TAIL, Level, Position, Problem, Role, SEND_BYTES_MAX, STORE_BYTES_MAX,
    TEXT_BYTES_MAX,
};

/// Exports a type that implements [`chain_sync::ChainSync`] as a component of kind `chain-sync`. Natively it expands to nothing.
#[macro_export]
macro_rules! export_chain_sync {
    ($strategy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::chain_sync::component::Component<$strategy>;
            $crate::chain_sync::bindings::export_chain_sync_world!(
                Exported with_types_in $crate::chain_sync::bindings
            );
        };
    };
}

/// Exports a type that implements [`config_sync::ConfigSync`] as a component of kind `config-sync`. Natively it expands to nothing.
#[macro_export]
macro_rules! export_config_sync {
    ($strategy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::config_sync::component::Component<$strategy>;
            $crate::config_sync::bindings::export_config_sync_world!(
                Exported with_types_in $crate::config_sync::bindings
            );
        };
    };
}

/// Exports a type that implements [`index_check::IndexCheck`] as a component of kind `index-check`. Natively it expands to nothing.
#[macro_export]
macro_rules! export_index_check {
    ($strategy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::index_check::component::Component<$strategy>;
            $crate::index_check::bindings::export_index_check_world!(
                Exported with_types_in $crate::index_check::bindings
            );
        };
    };
}

/// Exports a type that implements [`mq_sync::MqSync`] as a component of kind `mq-sync`. Natively it expands to nothing.
#[macro_export]
macro_rules! export_mq_sync {
    ($strategy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::mq_sync::component::Component<$strategy>;
            $crate::mq_sync::bindings::export_mq_sync_world!(
                Exported with_types_in $crate::mq_sync::bindings
            );
        };
    };
}
