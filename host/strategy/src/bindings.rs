//! Generated from `wit/`: the host's side of the canonical ABI, a module a kind. The shared types are the same for all kinds.
#![allow(missing_docs)]

pub mod chain_sync {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/chain-sync"],
        world: "cvp:chain-sync/chain-sync-strategy",
    });
}

pub mod config_sync {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/config-sync"],
        world: "cvp:config-sync/config-sync-strategy",
        with: { "cvp:types/types@0.1.0": super::chain_sync::cvp::types::types },
    });
}

pub mod index_check {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/index-check"],
        world: "cvp:index-check/index-check-strategy",
        with: { "cvp:types/types@0.1.0": super::chain_sync::cvp::types::types },
    });
}

pub mod mq_sync {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/mq-sync"],
        world: "cvp:mq-sync/mq-sync-strategy",
        with: { "cvp:types/types@0.1.0": super::chain_sync::cvp::types::types },
    });
}

pub use chain_sync::cvp::types::types as shared;
