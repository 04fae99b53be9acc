//! Generated from `wit/index-check`: the component's canonical ABI. Nothing here is written by hand but this call.
#![allow(missing_docs)]

wit_bindgen::generate!({
    path: ["../../wit/types", "../../wit/index-check"],
    world: "cvp:index-check/index-check-strategy",
    pub_export_macro: true,
    export_macro_name: "export_index_check_world",
    default_bindings_module: "cvp_sdk::index_check::bindings",
    // The shared types are the same for all kinds.
    with: { "cvp:types/types@0.1.0": crate::chain_sync::bindings::cvp::types::types },
    generate_all,
});
