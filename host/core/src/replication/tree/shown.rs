//! Whose strategies are owed a look at the tree: those of the namespaces whose files moved, here or at the other end. A look that finds all as
//! it was, and a change of one namespace's files, are nothing to the other ninety-nine.

use std::collections::BTreeSet;

use crate::replication::pair::Pair;
use crate::types::strategy::Role;

use super::advise::{GLOBAL, directory};
use super::inventory::Inventory;

/// The inventories as all strategies were last owed them in this session; whoever is opened sees them as they are.
#[derive(Debug, Default)]
pub(in crate::replication) struct Shown {
    /// They may be others by now.
    moved: bool,
    local: Option<Inventory>,
    peer: Option<Inventory>,
}

impl Shown {
    /// An inventory may be another one now.
    pub(in crate::replication) fn moved(&mut self) {
        self.moved = true;
    }
}

/// Paths whose files differ; none: there was no inventory before, which concerns everybody. One that is looked for anew has not moved.
fn differing(before: Option<&Inventory>, now: Option<&Inventory>) -> Option<Vec<String>> {
    match (before, now) {
        (_, None) => Some(Vec::new()),
        (before, Some(now)) => before.map(|before| before.differing(now)),
    }
}

impl Pair {
    /// The own inventory, and the other end's.
    pub(super) fn inventories(&self) -> (Option<&Inventory>, Option<&Inventory>) {
        match self.setup.role {
            Role::Provider => (self.giver.inventory(), self.giver.held_inventory()),
            Role::Receiver => (self.taker.local(), self.taker.theirs()),
        }
    }

    /// Before strategies are called: owes those a word whose files moved.
    pub(in crate::replication) fn owe_moved(&mut self) {
        if !std::mem::take(&mut self.shown.moved) {
            return;
        }
        let (local, peer) = self.inventories();
        let (local, peer) = (local.cloned(), peer.cloned());
        let here = differing(self.shown.local.as_ref(), local.as_ref());
        let there = differing(self.shown.peer.as_ref(), peer.as_ref());
        let paths = here.zip(there).map(|(here, there)| [here, there].concat());
        let names: BTreeSet<&str> = self.lanes.iter().map(|lane| lane.setup.namespace.as_str()).collect();
        let owner = |path: &String| {
            let name = directory(path).filter(|name| names.contains(name));
            name.unwrap_or(GLOBAL).to_owned()
        };
        let owners: Option<BTreeSet<String>> = paths.map(|paths| paths.iter().map(owner).collect());
        for lane in &mut self.lanes {
            let name = lane.setup.namespace.as_str();
            lane.files.owes_inventories |= owners.as_ref().is_none_or(|owners| owners.contains(name));
        }
        self.shown.local = local.or(self.shown.local.take());
        self.shown.peer = peer.or(self.shown.peer.take());
    }
}
