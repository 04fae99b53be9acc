//! The receiver's half: compares the provider's inventory with the own copy, asks for what is missing, and swaps the whole tree in at once.
//!
//! What was fetched is kept by its digest until it is swapped in, so an inventory that changes meanwhile, or a lost link, costs no file twice.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::session::refuse;
use crate::types::{Digest, Millis, Refusal};

use super::CHANGED;
use super::advise::FileAdvice;
use super::inventory::{Inventory, TREE_BYTES_MAX, TreeFile, file_digest};

/// Bytes asked for and not yet staged.
const ASKED_BYTES_MAX: u64 = 8 << 20;

/// Files asked for and not yet staged.
const ASKED_MAX: usize = 32;

/// The copy is looked at so often while a session lives.
pub(super) const LOOK_MS: Millis = 5_000;

/// After a failure of the own disk the copy is tried again so much later.
const RETRY_MS: Millis = 5_000;

/// After somebody changed the copy while it was being replaced.
const CHANGED_RETRY_MS: Millis = 250;

/// What the host is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::replication) enum TakeDo {
    /// Look at the copy, at every file of it or at those that something says are others.
    Scan { whole: bool },
    /// Send a request: the version and the path.
    Ask(u64, String),
    /// Remove every content that waits for a swap.
    Forget,
    /// Keep what the provider told last; none: the record of the copy says it.
    Note(Option<Inventory>),
    /// Put the copy of this inventory in the place of the one before.
    Swap(Inventory),
    /// Tell the provider that the copy is this version, or what keeps it from being.
    Held(u64, Option<Refusal>),
}

#[derive(Debug)]
struct Target {
    version: u64,
    inventory: Inventory,
    told: bool,
    /// It cannot be a node's configuration: it takes no copy's place.
    gone: bool,
}

/// Why a tree that is none takes no copy's place.
fn gone() -> Refusal {
    Refusal::new(
        "gone",
        "the provider's configuration/ holds neither system.toml nor dynamic.toml nor a file of global/: the standby keeps the copy that it has",
        "put the provider's configuration/ back (is its disk mounted, was it moved?); the copy follows by itself then",
    )
}

/// Whether a copy holds what it is to hold, and nothing beside it.
fn is_copy(local: &Inventory, wanted: &Inventory) -> bool {
    local.left_out.is_empty() && local.same_files(wanted)
}

/// The receiver's half of the copy of a node's tree.
#[derive(Debug)]
pub(in crate::replication) struct Taker {
    /// The copy as it lies on the disk; none until it was looked at.
    local: Option<Inventory>,
    /// The copy as it was last written by us.
    written: Inventory,
    /// A swap failed since, which may have taken the record of it away.
    unrecorded: bool,
    /// What the provider told last, with the changes by command since; none before it told anything.
    told: Option<Inventory>,
    /// What is kept of it on the disk; none: not known.
    noted: Option<Option<Inventory>>,
    target: Option<Target>,
    /// Paths asked for, with their sizes.
    asked: BTreeMap<String, u64>,
    /// Contents on their way to the disk.
    staging: BTreeMap<Digest, u64>,
    staged: BTreeMap<Digest, u64>,
    /// Contents may lie on the disk that no swap has used.
    left_over: bool,
    scanning: bool,
    stale: bool,
    /// When the copy is looked at again by itself: somebody may have changed it.
    look_at: Millis,
    swapping: bool,
    trouble: Option<Refusal>,
    retry_at: Millis,
    /// Paths that somebody changed in the copy.
    edited: Vec<String>,
    /// Something happened since it was last settled.
    unsettled: bool,
}

impl Taker {
    /// A receiver whose copy was last written as `written` says.
    pub(in crate::replication) fn new(written: Inventory) -> Taker {
        Taker {
            local: None,
            written,
            unrecorded: false,
            told: None,
            noted: None,
            target: None,
            asked: BTreeMap::new(),
            staging: BTreeMap::new(),
            staged: BTreeMap::new(),
            left_over: true,
            scanning: false,
            stale: true,
            look_at: 0,
            swapping: false,
            trouble: None,
            retry_at: 0,
            edited: Vec::new(),
            unsettled: true,
        }
    }

    /// Whether there may be something to do: what differs is looked for in all files, and the streams of records bring events by the
    /// thousand.
    pub(in crate::replication) fn may_settle(&self, now: Millis) -> bool {
        self.unsettled
            || (now >= self.look_at && self.target.is_some())
            || (now >= self.retry_at && self.trouble.is_some())
    }

    /// The strategies said something.
    pub(in crate::replication) fn on_advice(&mut self) {
        self.unsettled = true;
    }

    /// A session begins: what was seen of the copy before proves nothing.
    pub(in crate::replication) fn attach(&mut self) {
        self.unsettled = true;
        self.local = None;
        self.stale = true;
        self.look_at = 0;
    }

    /// The copy is to be looked at.
    pub(in crate::replication) fn look_again(&mut self) {
        self.unsettled = true;
        self.stale = true;
    }

    /// The copy was looked at; answers what somebody else changed in it.
    pub(in crate::replication) fn on_scanned(&mut self, inventory: Inventory) -> Vec<String> {
        self.unsettled = true;
        self.scanning = false;
        // What was begun before the last write of ours is older than it.
        if self.stale {
            return Vec::new();
        }
        #[cfg(feature = "planted-faults")]
        let inventory = if crate::planted::active(crate::planted::Fault::CopyEditNotSeen) {
            self.written.clone()
        } else {
            inventory
        };
        self.edited = self.written.edits(&inventory);
        self.local = Some(inventory);
        self.edited.clone()
    }

    pub(in crate::replication) fn on_inventory(&mut self, version: u64, inventory: Inventory) {
        self.unsettled = true;
        self.told = Some(inventory.clone());
        let gone = !inventory.is_configuration();
        #[cfg(feature = "planted-faults")]
        let gone = gone && !crate::planted::active(crate::planted::Fault::GoneTreeTaken);
        let inventory = inventory.keeping(&self.written);
        self.asked.clear();
        self.trouble = None;
        self.retry_at = 0;
        self.target = Some(Target {
            version,
            inventory,
            told: false,
            gone,
        });
    }

    /// What is to be kept of the provider's last word, where that is another than is kept: what the copy lacks of it outlives the session.
    pub(in crate::replication) fn note(&mut self) -> Option<TakeDo> {
        let told = self.told.as_ref()?;
        let wanted = (*told != self.written).then(|| told.clone());
        if self.noted.as_ref() == Some(&wanted) {
            return None;
        }
        self.noted = Some(wanted.clone());
        Some(TakeDo::Note(wanted))
    }

    /// A file came. Its content is to be staged, if it is what was asked for; none when it was not there any more.
    ///
    /// # Errors
    /// It is not what the inventory says, or was not asked for.
    pub(in crate::replication) fn on_file(
        &mut self,
        version: u64,
        path: &str,
        content: Option<Bytes>,
    ) -> Result<Option<(Digest, Bytes)>, Refusal> {
        let Some(target) = self.target.as_ref().filter(|target| target.version == version) else {
            return Ok(None);
        };
        if self.asked.remove(path).is_none() {
            return Err(refuse::unexpected(&format!("file {path:?}, which was not asked for")));
        }
        self.unsettled |= self.asked.len() + self.staging.len() <= ASKED_MAX / 2;
        let (Some(content), Some(file)) = (content, target.inventory.file(path)) else {
            return Ok(None);
        };
        if content.len() as u64 != file.bytes || file_digest(&content) != file.digest {
            return Err(refuse::unexpected(&format!(
                "content of {path:?}: it is not what the inventory says"
            )));
        }
        if self.staged.contains_key(&file.digest) || self.staging.contains_key(&file.digest) {
            return Ok(None);
        }
        self.staging.insert(file.digest, file.bytes);
        self.left_over = true;
        Ok(Some((file.digest, content)))
    }

    pub(in crate::replication) fn on_staged(&mut self, digest: Digest, result: Result<(), Refusal>, now: Millis) {
        let bytes = self.staging.remove(&digest).unwrap_or(0);
        self.unsettled |= self.asked.len() + self.staging.len() <= ASKED_MAX / 2;
        match result {
            Ok(()) => {
                self.staged.insert(digest, bytes);
            }
            Err(refusal) => self.fail(refusal, now),
        }
    }

    pub(in crate::replication) fn on_swapped(
        &mut self,
        inventory: Inventory,
        result: Result<(), Refusal>,
        now: Millis,
    ) {
        self.unsettled = true;
        self.swapping = false;
        self.staged.clear();
        match result {
            Ok(()) => {
                self.edited.clear();
                (self.left_over, self.unrecorded) = (false, false);
                self.local = Some(inventory.of_files());
                self.written = inventory;
            }
            Err(refusal) => {
                (self.stale, self.unrecorded) = (true, true);
                let changed = refusal.code == CHANGED;
                self.fail(refusal, now);
                if changed {
                    // It was looked at too early: every file is, before it is tried again.
                    (self.look_at, self.retry_at) = (now, now + CHANGED_RETRY_MS);
                }
            }
        }
    }

    fn fail(&mut self, refusal: Refusal, now: Millis) {
        self.unsettled = true;
        self.retry_at = now + RETRY_MS;
        if let Some(target) = &mut self.target {
            target.told = false;
        }
        self.trouble = Some(refusal);
    }

    /// A strong change was committed: inventories that were told before it are older than it.
    pub(in crate::replication) fn on_commit(&mut self) {
        self.unsettled = true;
        self.target = None;
        self.asked.clear();
    }

    /// A strong change was written into the copy, which is `inventory` now as far as it is ours; a look shows what else was done to it.
    pub(in crate::replication) fn on_written(&mut self, inventory: Inventory) {
        self.unsettled = true;
        if let Some(told) = &mut self.told {
            for path in self.written.differing(&inventory) {
                told.files.retain(|file| file.path != path);
                if let Some(file) = inventory.file(&path) {
                    told.put(file.clone());
                }
            }
        }
        self.local = Some(inventory.of_files());
        self.written = inventory;
        self.stale = true;
    }

    pub(in crate::replication) fn detach(&mut self) {
        self.unsettled = true;
        self.target = None;
        self.asked.clear();
        self.trouble = None;
    }

    /// What is to be done now, as far as the strategies agree.
    pub(in crate::replication) fn settle(&mut self, now: Millis, advice: &FileAdvice) -> Vec<TakeDo> {
        self.unsettled = false;
        if now >= self.look_at && self.target.is_some() {
            self.stale = true;
        }
        if self.stale && !self.scanning && !self.swapping {
            (self.stale, self.scanning) = (false, true);
            let whole = now >= self.look_at;
            if whole {
                self.look_at = now + LOOK_MS;
            }
            return vec![TakeDo::Scan { whole }];
        }
        let mut out = Vec::new();
        let (Some(local), Some(target)) = (&self.local, &mut self.target) else {
            return out;
        };
        if let Some(trouble) = &self.trouble {
            if !std::mem::replace(&mut target.told, true) {
                out.push(TakeDo::Held(target.version, Some(trouble.clone())));
            }
            if now < self.retry_at {
                return out;
            }
            self.trouble = None;
            target.told = false;
        }
        if self.scanning || self.swapping {
            return out;
        }
        // The floor, whatever the strategies say: no node's configuration looks like that.
        if target.gone {
            if !std::mem::replace(&mut target.told, true) {
                out.push(TakeDo::Held(target.version, Some(gone())));
            }
            return out;
        }
        if is_copy(local, &target.inventory) {
            if self.unrecorded || !self.written.same_files(&target.inventory) {
                // Somebody made it by hand what it was to become, or the provider went back to it: it is to be known as ours.
                self.swapping = true;
                return vec![TakeDo::Swap(target.inventory.clone())];
            }
            if self.left_over && self.staging.is_empty() {
                self.left_over = false;
                self.staged.clear();
                out.push(TakeDo::Forget);
            }
            if !std::mem::replace(&mut target.told, true) {
                out.push(TakeDo::Held(target.version, None));
            }
            return out;
        }
        // More than any tree needs: inventories came and went, and nothing was swapped in.
        if self.staging.is_empty() && self.staged.values().sum::<u64>() > TREE_BYTES_MAX {
            self.staged.clear();
            out.push(TakeDo::Forget);
        }
        let here: BTreeSet<Digest> = local.files.iter().map(|file| file.digest).collect();
        let mut under_way: u64 = self.asked.values().sum::<u64>() + self.staging.values().sum::<u64>();
        let wanted: BTreeSet<&str> = advice.requested.iter().map(String::as_str).collect();
        let differs = |file: &&TreeFile| local.file(&file.path) != Some(*file);
        let goes = |file: &&TreeFile| target.inventory.file(&file.path).is_none();
        let mut complete = target
            .inventory
            .files
            .iter()
            .filter(differs)
            .all(|file| wanted.contains(file.path.as_str()))
            && local
                .files
                .iter()
                .filter(goes)
                .all(|file| advice.deletes.contains(&file.path));
        for file in advice.requested.iter().filter_map(|path| target.inventory.file(path)) {
            if here.contains(&file.digest) || self.staged.contains_key(&file.digest) {
                continue;
            }
            complete = false;
            let asked = self.asked.contains_key(&file.path) || self.staging.contains_key(&file.digest);
            let full = self.asked.len() >= ASKED_MAX || (under_way > 0 && under_way + file.bytes > ASKED_BYTES_MAX);
            if asked || full {
                continue;
            }
            under_way += file.bytes;
            self.asked.insert(file.path.clone(), file.bytes);
            out.push(TakeDo::Ask(target.version, file.path.clone()));
        }
        if complete && self.staging.is_empty() {
            self.swapping = true;
            out.push(TakeDo::Swap(target.inventory.clone()));
        }
        out
    }

    /// Whether the copy has not what the provider has at `path`, while both are known.
    pub(in crate::replication) fn differs(&self, path: &str) -> bool {
        let theirs = self.target.as_ref().and_then(|target| target.inventory.file(path));
        let ours = self.local.as_ref().and_then(|local| local.file(path));
        theirs.is_some() && ours != theirs
    }

    /// Splits `paths` into those of which what the provider has there lies here already, staged or under whatever name in the copy, and waits for
    /// the swap, and those that are under way.
    pub(in crate::replication) fn fetched(&self, paths: Vec<String>) -> (BTreeSet<String>, BTreeSet<String>) {
        if paths.is_empty() {
            return Default::default();
        }
        let copied: BTreeSet<Digest> = match &self.local {
            Some(local) => local.files.iter().map(|file| file.digest).collect(),
            None => BTreeSet::new(),
        };
        let is_here = |digest: &Digest| self.staged.contains_key(digest) || copied.contains(digest);
        let theirs = |path: &str| self.target.as_ref()?.inventory.file(path);
        paths
            .into_iter()
            .partition(|path| theirs(path).is_some_and(|file| is_here(&file.digest)))
    }

    pub(in crate::replication) fn local(&self) -> Option<&Inventory> {
        self.local.as_ref()
    }

    /// Nothing is being written: a dial may begin.
    pub(in crate::replication) fn is_quiet(&self) -> bool {
        !self.swapping && self.staging.is_empty()
    }

    /// There is a copy to write a change into: without one, a file of it would look like a whole.
    pub(in crate::replication) fn has_copy(&self) -> bool {
        !self.written.files.is_empty()
    }

    /// The copy is the provider's tree.
    pub(in crate::replication) fn is_equal(&self) -> bool {
        let equal = |target: &Target| {
            self.local
                .as_ref()
                .is_some_and(|local| is_copy(local, &target.inventory))
        };
        !self.swapping && self.target.as_ref().is_some_and(|target| !target.gone && equal(target))
    }

    /// The version of the provider's tree that the copy is, if it is one.
    pub(in crate::replication) fn held_version(&self) -> Option<u64> {
        let target = self.target.as_ref().filter(|_| self.is_equal());
        target.map(|target| target.version)
    }

    /// Files that are still to come.
    pub(in crate::replication) fn to_come(&self) -> usize {
        match (&self.local, &self.target) {
            (Some(local), Some(target)) => target.inventory.edits(local).len(),
            _ => 0,
        }
    }

    /// The provider's inventory.
    pub(in crate::replication) fn theirs(&self) -> Option<&Inventory> {
        self.target.as_ref().map(|target| &target.inventory)
    }

    pub(in crate::replication) fn trouble(&self) -> Option<Refusal> {
        let is_gone = self.target.as_ref().is_some_and(|target| target.gone);
        self.trouble.clone().or_else(|| is_gone.then(gone))
    }

    pub(in crate::replication) fn edited(&self) -> &[String] {
        &self.edited
    }
}

#[cfg(test)]
mod tests;
