//! The provider's half: what its tree holds, which receiver was told which version of it, which files were asked for.

use crate::session::refuse;
use crate::types::{Digest, Millis, Refusal};

use super::inventory::Inventory;
use super::take::LOOK_MS;

/// Files that are being read for one session at most: what a receiver has asked for of two inventories in a row, and some.
const READING_MAX: usize = 128;

/// What the host is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::replication) enum GiveDo {
    /// Look at the tree, at every file of it or at those that something says are others; the answer names this generation.
    Scan { generation: u64, whole: bool },
    /// Send an inventory frame: the version, and what it holds.
    Tell(u64, Inventory),
}

/// A file to be read and sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::replication) struct Wanted {
    pub(in crate::replication) version: u64,
    pub(in crate::replication) path: String,
    pub(in crate::replication) digest: Digest,
}

/// The provider's half of the copy of a node's tree.
#[derive(Debug, Default)]
pub(in crate::replication) struct Giver {
    /// Scans that were begun before the last commit of ours are older than it: they do not count.
    generation: u64,
    scanning: bool,
    /// The look under way is one by the clock: nothing says that the tree has changed.
    by_the_clock: bool,
    touched: bool,
    /// The whole tree is looked at so often while a session lives: not every edit is seen by a watch, or changes a file's times.
    look_at: Millis,
    /// None until the tree was looked at, after a start and after each change of ours.
    inventory: Option<Inventory>,
    /// Grows with each change of the inventory; only the latest is served.
    version: u64,
    told: Option<u64>,
    held: Option<u64>,
    /// What the receiver held last, as it said.
    held_files: Option<Inventory>,
    trouble: Option<Refusal>,
    /// Files that the host reads for the session's receiver.
    reading: usize,
}

impl Giver {
    /// Something below the tree changed, or may have.
    pub(in crate::replication) fn touch(&mut self) {
        self.touched = true;
    }

    /// This node changed a file itself, durably: what was looked at before, or is being looked at now, is older. It is not told any more:
    /// the receiver would take the change back. What the next look finds gets a version of its own.
    pub(in crate::replication) fn changed(&mut self) {
        self.generation += 1;
        self.touched = true;
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::StaleInventoryTold) {
            self.told = None;
            return;
        }
        self.inventory = None;
    }

    pub(in crate::replication) fn on_scanned(&mut self, generation: u64, inventory: Inventory) {
        (self.scanning, self.by_the_clock) = (false, false);
        if generation != self.generation {
            self.touched = true;
            return;
        }
        if self.inventory.as_ref() != Some(&inventory) {
            self.inventory = Some(inventory);
            self.version += 1;
            self.held = None;
        }
    }

    /// What is to be done now; `attached`: a receiver may be told.
    pub(in crate::replication) fn settle(&mut self, attached: bool, now: Millis) -> Vec<GiveDo> {
        let mut out = Vec::new();
        let due = self.told.is_some() && now >= self.look_at;
        if (self.touched || due) && !self.scanning {
            self.by_the_clock = !self.touched;
            self.touched = false;
            self.scanning = true;
            let whole = now >= self.look_at;
            if whole {
                self.look_at = now + LOOK_MS;
            }
            out.push(GiveDo::Scan {
                generation: self.generation,
                whole,
            });
        }
        if attached
            && self.told != Some(self.version)
            && let Some(inventory) = &self.inventory
        {
            self.told = Some(self.version);
            out.push(GiveDo::Tell(self.version, inventory.clone()));
        }
        out
    }

    /// The receiver asks for a file. None: of a version that is no more; the next inventory is on its way.
    ///
    /// # Errors
    /// It asks for what it was never told of, or for more than it could take.
    pub(in crate::replication) fn on_request(&mut self, version: u64, path: &str) -> Result<Option<Wanted>, Refusal> {
        if version > self.version {
            return Err(refuse::unexpected("version of the configuration in a request"));
        }
        let Some(inventory) = self.inventory.as_ref().filter(|_| version == self.version) else {
            return Ok(None);
        };
        let file = inventory.file(path);
        let file =
            file.ok_or_else(|| refuse::unexpected(&format!("request for {path:?}, which is not in the inventory")))?;
        if self.reading >= READING_MAX {
            return Err(refuse::unexpected("number of files asked for at once"));
        }
        self.reading += 1;
        Ok(Some(Wanted {
            version,
            path: path.to_owned(),
            digest: file.digest,
        }))
    }

    /// The host has read a file for the session's receiver.
    pub(in crate::replication) fn on_read(&mut self) {
        self.reading = self.reading.saturating_sub(1);
    }

    /// The receiver says how far its copy is.
    ///
    /// # Errors
    /// It names what it was never told of.
    pub(in crate::replication) fn on_held(&mut self, version: u64, trouble: Option<Refusal>) -> Result<(), Refusal> {
        if version > self.version {
            return Err(refuse::unexpected(
                "version of the configuration that the receiver holds",
            ));
        }
        if trouble.is_none() {
            self.held = Some(version);
            if version == self.version {
                self.held_files.clone_from(&self.inventory);
            }
        }
        self.trouble = trouble;
        Ok(())
    }

    pub(in crate::replication) fn detach(&mut self) {
        (self.told, self.held, self.trouble, self.reading) = (None, None, None, 0);
        self.held_files = None;
    }

    /// The receiver holds this very tree.
    pub(in crate::replication) fn is_held(&self) -> bool {
        self.inventory.is_some()
            && self.held == Some(self.version)
            && !self.touched
            && (!self.scanning || self.by_the_clock)
    }

    pub(in crate::replication) fn inventory(&self) -> Option<&Inventory> {
        self.inventory.as_ref()
    }

    pub(in crate::replication) fn held_inventory(&self) -> Option<&Inventory> {
        self.held_files.as_ref()
    }

    pub(in crate::replication) fn trouble(&self) -> Option<Refusal> {
        self.trouble.clone()
    }
}
