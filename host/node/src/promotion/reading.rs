//! What an upgrade reads of the files before it asks the network: once, for every check and for the plan.

use std::collections::BTreeSet;

use cvp_core::config::Loaded;
use cvp_core::replication::{Change, Inventory};
use cvp_core::types::Refusal;

use super::Ground;
use super::promoted::Trees;
use crate::failure::Failure;

/// The files as they were found.
pub(super) struct Reading {
    /// This node's own configuration.
    pub(super) own: Result<Loaded, Failure>,
    /// The copy and the own tree.
    pub(super) trees: Result<Trees, Refusal>,
    /// The configuration that an upgrade would find, before names and roles are written over what may be bad.
    pub(super) copied: Result<Loaded, Refusal>,
    /// What the copy has otherwise than the provider had when it was last heard; in words.
    pub(super) lacking: Option<String>,
    /// What the provider told last.
    pub(super) told: Inventory,
    mark: Mark,
}

/// What changes with every change that replication makes to the copy: its record, and what is staged.
#[derive(PartialEq)]
struct Mark(Option<Inventory>, Option<Change>);

impl Mark {
    fn of(ground: &Ground) -> Mark {
        let (copy, staged) = (ground.files.copy(), ground.files.staged());
        Mark(copy.ok().flatten(), staged.ok().flatten())
    }
}

impl Reading {
    /// Reads them.
    pub(super) fn of(ground: &Ground) -> Reading {
        let mark = Mark::of(ground);
        let trees = Trees::read(&ground.root, &ground.files);
        let copied = match &trees {
            Ok(trees) => trees.load(None),
            Err(refusal) => Err(refusal.clone()),
        };
        Reading {
            own: ground.root.load(),
            trees,
            copied,
            lacking: ground.files.lacking(),
            told: ground.files.last_told(),
            mark,
        }
    }

    /// Whether replication changed the copy since.
    pub(super) fn is_old(&self, ground: &Ground) -> bool {
        self.mark != Mark::of(ground)
    }

    /// The namespaces that the provider's configuration starts; none known where that cannot be read.
    pub(super) fn started(&self) -> Option<BTreeSet<String>> {
        self.trees.as_ref().ok()?.started().ok()
    }
}
