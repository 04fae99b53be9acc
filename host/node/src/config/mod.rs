//! The tree on disk: reads the files of a node's root, and applies an edit atomically.
//!
//! Owns the places of a root directory. What the keys mean is `cvp_core::config`'s.

mod node_key;
mod root;

pub use root::{Root, read_tree};
