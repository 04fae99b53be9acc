//! Typed TOML of a node's root: one struct a file, an edit is text in and text out with comments kept.
//!
//! Owns the keys we honour, their defaults, their checks and the messages about them. Does not own the disk: the texts come in by
//! name. Unknown keys are kept and reported as warnings, and so is a known key with a value that this release does not act on; a key that
//! asks for a protection we do not have stops the start.

mod backend;
mod dynamic;
mod edit;
mod entries;
mod keys;
mod log;
mod masked;
mod ns_dynamic;
mod ns_genesis;
mod ns_static;
mod queues;
mod system;
mod tree;
mod units;
mod weight;

pub use backend::BackendHosts;
pub use dynamic::{CvpKeys, Dynamic, DynamicLog, NamespaceEntry, PairRole, Remote};
pub use edit::{EditError, Value, edit, entries, get, keep_local, kept_local};
pub use entries::{namespace_entries, put_namespace, put_only_node, remove_namespace};
pub use keys::Problem;
pub use log::{LogLevel, ModuleLevels, NAMESPACE_MODULES, SYSTEM_MODULES};
pub use masked::{is_masked, masked};
pub use ns_dynamic::NsDynamic;
pub use ns_genesis::{DEVELOPMENT_MARK, GenesisNode, NsGenesis};
pub use ns_static::{FlowControl, INDEX_SWITCH, IndexSettings, NsStatic, StrategyChoice};
pub use queues::{Broker, BrokerUrl, MessageQueues};
pub use system::{HttpKeys, LogKeys, MetricsKeys, P2pKeys, System};
pub use tree::{GLOBAL, Loaded, NodeConfig, NsConfig, load, load_in_upgrade};
pub use units::{format_bytes, format_duration, parse_bytes, parse_duration};
pub use weight::{Weight, is_local, local_keys, weight};
