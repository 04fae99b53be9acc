//! Generated from `wit/chain-sync`: the host's side of the canonical ABI.
#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: ["../../wit/types", "../../wit/chain-sync"],
    world: "cvp:chain-sync/chain-sync-strategy",
});

pub use cvp::types::types as shared;
pub use exports::cvp::chain_sync::chain_sync as wit;
