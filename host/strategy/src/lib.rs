//! Runs a strategy component (WASM) behind core's trait `Strategy`.
//!
//! Owns the engine, the load pipeline and the limits: 32 MiB of memory, 100 ms a call, no files, environment, sockets, arguments, clock or
//! randomness. Does not own restarts, quarantine or which strategy a namespace runs: the node's actors do. The only crate with `bindgen!`.
//!
//! Loading, off the hot path: size cap, sha256 against `plugin.toml`, compile, imports against the allow-list, link, describe; then
//! [`Component::check_settings`] and [`Component::open`], which answers a [`Instance`]. All of it is written once over the kinds ([`World`]);
//! who does not know the kind beforehand gets an [`AnyComponent`].

mod bindings;
mod world;
mod component;
mod error;
mod instance;
mod plugin;
mod runtime;
mod sandbox;

pub use component::{About, AnyComponent, Component};
pub use error::LoadError;
pub use instance::Instance;
pub use plugin::{MANIFEST_FILE, Manifest, PLUGIN_FILE, Plugin, Stamp};
pub use runtime::{COMPONENT_BYTES_MAX, Runtime};
pub use sandbox::MEMORY_BYTES_MAX;
pub use world::World;
