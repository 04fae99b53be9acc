//! The default strategies, compiled for this machine rather than as components.

use cvp_chain_sync::Default as ChainSyncDefault;
use cvp_config_sync::Default as ConfigSyncDefault;
use cvp_core::strategy::{ChainSyncStrategy, ConfigSync, ConfigSyncStrategy, IndexCheck, IndexCheckStrategy, Native};
use cvp_core::types::Namespace;
use cvp_core::types::strategy::Role;
use cvp_index_check::Default as IndexCheckDefault;

/// The default chain-sync strategy.
pub fn open_strategy(role: Role, namespace: &Namespace) -> Result<ChainSyncStrategy, String> {
    let native = Native::<ChainSyncDefault>::open(role, namespace.as_str(), "{}").map_err(|fault| fault.to_string())?;
    Ok(Box::new(native))
}

/// So few files at a time are asked for: the trees here are small, and each has several times as many.
const FILES: &str = r#"{"files_max":2}"#;

/// The default config-sync strategy.
pub fn open_files(role: Role, namespace: &Namespace) -> Result<ConfigSyncStrategy, String> {
    let native = Native::<ConfigSyncDefault, ConfigSync>::open(role, namespace.as_str(), FILES);
    Ok(Box::new(native.map_err(|fault| fault.to_string())?))
}

/// The default index-check strategy.
pub fn open_index(role: Role, namespace: &Namespace) -> Result<IndexCheckStrategy, String> {
    let native = Native::<IndexCheckDefault, IndexCheck>::open(role, namespace.as_str(), "{}");
    Ok(Box::new(native.map_err(|fault| fault.to_string())?))
}
