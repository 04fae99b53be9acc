//! The tree on disk: reads the files of a node's root, and applies an edit atomically.
//!
//! Owns the places of a root directory. What the keys mean is `cvp_core::config`'s.

mod copy;
mod known;
mod node_key;
mod own_key;
mod root;
mod scan;
mod secrets;
mod watch;

pub use copy::{Copy, copy_tree, exchange, remove_tree, sync_tree, write_new};
pub use known::Known;
pub use own_key::OwnKey;
pub use root::{Root, read_tree};
pub use scan::Places;
pub use secrets::private_key;
pub use watch::Watch;
