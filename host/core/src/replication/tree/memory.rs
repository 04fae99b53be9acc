//! A node's tree in memory, for simulations: what a host's thread does on its disk, each work whole or not at all.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::replication::strong::{Change, ChangeId};
use crate::replication::work::{ChangeEvent, ChangeWork, TreeEvent, TreeWork};
use crate::types::{Digest, Refusal};

use super::change::{CONFIG_CHANGE, FileChange};
use super::inventory::{Inventory, TreeFile, file_digest};

/// A tree and what belongs to it on the disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryTree {
    /// Content by path.
    pub files: BTreeMap<String, Bytes>,
    /// Contents that wait for a swap.
    contents: BTreeMap<Digest, Bytes>,
    /// Receiver: the change that is staged.
    pub staged: Option<Change>,
    /// Provider: the last change that was committed while a receiver held it.
    pub committed: Option<ChangeId>,
    /// Receiver: the copy as it was last written.
    pub written: Inventory,
    /// Receiver: what the provider told last, where the copy is another.
    pub told: Option<Inventory>,
}

impl MemoryTree {
    /// What it holds.
    pub fn inventory(&self) -> Inventory {
        let file = |(path, content): (&String, &Bytes)| TreeFile {
            path: path.clone(),
            bytes: content.len() as u64,
            digest: file_digest(content),
        };
        Inventory::new(self.files.iter().map(file).collect(), Vec::new())
    }

    /// Does what the machine asks, and says what came of it.
    pub fn work(&mut self, work: TreeWork) -> Option<TreeEvent> {
        Some(match work {
            TreeWork::Forget => {
                self.contents.clear();
                return None;
            }
            TreeWork::Note { told } => {
                self.told = told;
                return None;
            }
            TreeWork::Scan { generation, .. } => TreeEvent::Scanned {
                generation,
                inventory: self.inventory(),
            },
            TreeWork::ReadFile {
                conn,
                version,
                path,
                digest,
            } => {
                let found = self.files.get(&path).filter(|content| file_digest(content) == digest);
                let changed = || Refusal::new("changed", format!("{path} has changed"), "");
                TreeEvent::FileRead {
                    conn,
                    version,
                    content: found.cloned().ok_or_else(changed),
                    path,
                }
            }
            TreeWork::StageFile { digest, content } => {
                self.contents.insert(digest, content);
                TreeEvent::FileStaged { digest, result: Ok(()) }
            }
            TreeWork::Swap { inventory } => TreeEvent::Swapped {
                result: self.swap(&inventory),
                inventory,
            },
        })
    }

    fn swap(&mut self, inventory: &Inventory) -> Result<(), Refusal> {
        let here: BTreeMap<Digest, &Bytes> = self
            .files
            .values()
            .map(|content| (file_digest(content), content))
            .collect();
        let mut files = BTreeMap::new();
        for file in &inventory.files {
            let content = self.contents.get(&file.digest).or(here.get(&file.digest).copied());
            let missing = || {
                Refusal::new(
                    "changed",
                    format!("the content of {} was here and is gone", file.path),
                    "",
                )
            };
            files.insert(file.path.clone(), content.ok_or_else(missing)?.clone());
        }
        self.files = files;
        self.contents.clear();
        self.written = inventory.clone();
        Ok(())
    }

    /// Does what the machine asks of strong changes; an answer to a client is the caller's.
    pub fn change(&mut self, work: ChangeWork) -> Option<ChangeEvent> {
        match work {
            ChangeWork::Commit { change, replicated } => {
                if replicated {
                    self.committed = Some(change.id);
                }
                Some(ChangeEvent::Committed(self.put(&change)))
            }
            ChangeWork::Stage(change) => {
                if change.kind != CONFIG_CHANGE || FileChange::decode(&change.body).is_err() {
                    let refusal = Refusal::new("unknown-change", format!("a change of kind {}", change.kind), "");
                    return Some(ChangeEvent::Staged(Err(refusal)));
                }
                self.staged = Some(change);
                Some(ChangeEvent::Staged(Ok(())))
            }
            ChangeWork::Apply(id) => {
                let staged = self.staged.take_if(|staged| staged.id == id);
                let applied = staged.map_or(Ok(()), |change| self.put(&change));
                self.written = self.inventory();
                Some(ChangeEvent::Settled(applied.map(|()| Some(self.inventory()))))
            }
            ChangeWork::Drop(id) => {
                self.staged.take_if(|staged| staged.id == id);
                Some(ChangeEvent::Settled(Ok(None)))
            }
            ChangeWork::Answer(..) | ChangeWork::Weighed(..) => None,
        }
    }

    fn put(&mut self, change: &Change) -> Result<(), Refusal> {
        let read = FileChange::decode(&change.body);
        let file = read.map_err(|error| Refusal::new("bad-change", error.to_string(), ""))?;
        self.files.insert(file.path, file.content);
        Ok(())
    }
}
