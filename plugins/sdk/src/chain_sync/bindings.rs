//! Generated from `wit/chain-sync`: the component's canonical ABI. Nothing here is written by hand but this call.
#![allow(missing_docs)]

wit_bindgen::generate!({
    path: ["../../wit/types", "../../wit/chain-sync"],
    world: "cvp:chain-sync/chain-sync-strategy",
    pub_export_macro: true,
    export_macro_name: "export_chain_sync_world",
    default_bindings_module: "cvp_sdk::chain_sync::bindings",
    generate_all,
});
