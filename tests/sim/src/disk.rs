//! The virtual disk below `system/cvp` and `configuration`: files that are replaced as a whole, and the promotion journal, which is
//! written in place and forgets, sector by sector, what was not synced.

use std::collections::BTreeMap;

use bytes::Bytes;
use cvp_core::mq::{Cursors, Registry};
use cvp_core::planted::{self, Fault};
use cvp_core::promotion::{Append, JOURNAL_BYTES};
use cvp_core::replication::{Change, ControlFile, KeptKey, MemoryTree};
use cvp_core::types::Namespace;

use crate::random::Random;

/// Sectors of the virtual disk, each written whole or not at all: small, so that small entries tear.
const SECTOR_BYTES: usize = 16;

/// A file that is written in place.
#[derive(Clone, Debug, Default)]
pub struct InPlace {
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

impl InPlace {
    /// As a process reads it.
    pub fn read(&self) -> Vec<u8> {
        let mut file = self.durable.clone();
        for (offset, bytes) in &self.unsynced {
            overwrite(&mut file, *offset, bytes);
        }
        file
    }

    pub fn len(&self) -> usize {
        let ends = self.unsynced.iter().map(|(offset, bytes)| offset + bytes.len());
        ends.max().unwrap_or(0).max(self.durable.len())
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.unsynced.push((offset, bytes.to_vec()));
    }

    pub fn sync(&mut self) {
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            overwrite(&mut self.durable, offset, &bytes);
        }
    }

    /// Power is cut: of what was not synced, each sector is there or not, in any order.
    pub fn crash(&mut self, random: &mut Random) {
        let kept = [50, 90, 90][random.range(0, 2) as usize];
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            let mut at = offset;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (sector, after) = rest.split_at(rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
                if random.chance(kept) {
                    overwrite(&mut self.durable, at, sector);
                }
                (at, rest) = (at + sector.len(), after);
            }
        }
    }
}

/// Everything small that a node keeps.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub identity: Vec<u8>,
    pub binding: Option<Vec<u8>>,
    pub last_receiver: Option<Vec<u8>>,
    pub last_held: Option<Vec<u8>>,
    pub promised: Option<Vec<u8>>,
    pub fenced: Option<Vec<u8>>,
    /// By namespace and kind.
    pub stored: BTreeMap<(Namespace, &'static str), Vec<u8>>,
    /// What config-sync strategies keep for this node at an upgrade.
    pub kept: BTreeMap<Namespace, Vec<KeptKey>>,
    /// Texts by path below `configuration/`.
    pub configuration: BTreeMap<String, String>,
    /// A standby's own texts, put aside by a promotion.
    pub aside: BTreeMap<String, String>,
    /// Own certificates, by their path in the tree.
    pub certificates: BTreeMap<String, Bytes>,
    /// Receiver: the copy of the provider's tree, and what is staged. Provider: the last replicated commit.
    pub copy: MemoryTree,
    /// The copy was made as a whole.
    pub copied: bool,
    /// Provider: a change that is committed and not yet written.
    pub unwritten: Option<Change>,
    /// Who registered and how far each was told.
    pub queues: BTreeMap<Namespace, (Registry, Cursors)>,
    pub journal: InPlace,
}

impl Disk {
    /// A control file becomes durable, whole.
    pub fn write(&mut self, what: &ControlFile) {
        match what {
            ControlFile::Binding(binding) => self.binding = Some(binding.encode()),
            ControlFile::LastReceiver(last) => self.last_receiver = Some(last.encode()),
            ControlFile::LastHeld(held) => self.last_held = Some(held.encode()),
            ControlFile::Promised(promised) => self.promised = Some(promised.encode()),
            ControlFile::Fenced(fenced) => self.fenced = Some(fenced.encode()),
            ControlFile::KeptLocal { ns, keys } => {
                self.kept.insert(ns.clone(), keys.clone());
            }
            ControlFile::Stored { ns, kind, bytes } => {
                self.stored.insert((ns.clone(), *kind), bytes.clone());
            }
        }
    }

    /// The planted fault: written in place, without temporary file and checksum.
    pub fn write_partly(&mut self, what: &ControlFile, random: &mut Random) {
        self.write(what);
        let file = match what {
            ControlFile::Binding(_) => self.binding.as_mut(),
            ControlFile::LastReceiver(_) => self.last_receiver.as_mut(),
            ControlFile::LastHeld(_) => self.last_held.as_mut(),
            ControlFile::Promised(_) => self.promised.as_mut(),
            ControlFile::Fenced(_) => self.fenced.as_mut(),
            ControlFile::Stored { .. } | ControlFile::KeptLocal { .. } => None,
        };
        if let Some(bytes) = file {
            bytes.truncate(random.range(0, bytes.len() as u64) as usize);
        }
    }
}

/// The process died here. What it had not synced is the crash's to decide.
pub struct Dead;

/// The hand of a process on its disk: it is stopped in the middle where the seed says so.
pub struct Hand<'a> {
    pub disk: &'a mut Disk,
    pub random: &'a mut Random,
    /// Operations left until the process dies; none: it lives.
    pub left: &'a mut Option<u64>,
}

impl Hand<'_> {
    /// One operation more.
    pub fn operate(&mut self) -> Result<(), Dead> {
        match self.left {
            Some(0) => Err(Dead),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A file is replaced as a whole, or removed: old or new, whenever the process dies.
    pub fn replace(&mut self, change: impl FnOnce(&mut Disk)) -> Result<(), Dead> {
        let alive = self.operate();
        if alive.is_ok() || self.random.chance(50) {
            change(self.disk);
        }
        alive
    }

    /// The planted fault: a configuration file is written where it is, and torn by a crash.
    pub fn write_in_place(&mut self, file: &str, text: &str) -> Result<(), Dead> {
        let alive = self.operate();
        let mut kept = text;
        if alive.is_err() {
            kept = &text[..self.random.range(0, text.len() as u64) as usize];
        }
        self.disk.configuration.insert(file.to_owned(), kept.to_owned());
        alive
    }

    /// An entry of the journal, as the node writes it: the file is made full of zeros, its magic goes ahead, one fdatasync an entry.
    pub fn record(&mut self, append: &Append) -> Result<(), Dead> {
        let end = append.offset + append.bytes.len() as u64;
        let length = self.disk.journal.len() as u64;
        if end > length {
            let wanted = end.div_ceil(JOURNAL_BYTES) * JOURNAL_BYTES;
            self.put(length as usize, &vec![0; (wanted - length) as usize])?;
        }
        if let Some(head) = append.head() {
            self.put(0, head)?;
        }
        self.put(append.offset as usize, &append.bytes)
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Dead> {
        self.operate()?;
        self.disk.journal.write(offset, bytes);
        self.operate()?;
        if !planted::active(Fault::JournalNotSynced) {
            self.disk.journal.sync();
        }
        Ok(())
    }
}
