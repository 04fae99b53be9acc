//! Generated from `wit/mq-sync`: the component's canonical ABI. Nothing here is written by hand but this call.
#![allow(missing_docs)]

wit_bindgen::generate!({
    path: ["../../wit/types", "../../wit/mq-sync"],
    world: "cvp:mq-sync/mq-sync-strategy",
    pub_export_macro: true,
    export_macro_name: "export_mq_sync_world",
    default_bindings_module: "cvp_sdk::mq_sync::bindings",
    // The shared types are the same for all kinds.
    with: { "cvp:types/types@0.1.0": crate::chain_sync::bindings::cvp::types::types },
    generate_all,
});
