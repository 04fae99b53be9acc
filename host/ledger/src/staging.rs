//! A snapshot that is taken in: its files grow in the directory of the next generation, beside what is there, and nothing of them counts
//! before the whole was checked.
//!
//! `data/staged` holds the manifest, `data/staged.at` how many bytes are durable: two places that are written in turn, so that a crash
//! leaves one of them whole.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cvp_core::ledger::{LedgerError, Manifest, SnapshotFile};
use cvp_core::types::Digest;

use crate::base::{directory, replace};
use crate::segment::{check_room, full, sync_directory};

const MANIFEST: &str = "staged";
const PROGRESS: &str = "staged.at";
/// One of the two places in the progress file: a number and its checksum.
const PLACE_BYTES: usize = 40;

/// What is staged.
pub(crate) struct Staging {
    pub(crate) manifest: Manifest,
    pub(crate) generation: u32,
    state: PathBuf,
    data: PathBuf,
    progress: Arc<File>,
    /// Which of the two places is written next.
    turn: u64,
    /// The file that is written.
    open: Option<(String, Arc<File>)>,
    /// Files written since the last sync.
    dirty: Vec<(PathBuf, Arc<File>)>,
    pub(crate) written: u64,
    pub(crate) durable: u64,
}

/// What one sync makes durable.
pub(crate) struct Group {
    files: Vec<(PathBuf, Arc<File>)>,
    progress: Arc<File>,
    path: PathBuf,
    turn: u64,
    pub(crate) written: u64,
}

impl Staging {
    /// Begins: the files are made with their whole size.
    pub(crate) fn begin(
        data: &Path,
        manifest: &Manifest,
        generation: u32,
        reserve_bytes: u64,
    ) -> Result<Self, LedgerError> {
        Self::remove(data, generation)?;
        check_room(data, manifest.bytes(), reserve_bytes)?;
        let state = directory(data, "state", generation);
        std::fs::create_dir_all(&state).map_err(|e| LedgerError::disk("create", state.display(), e))?;
        for file in &manifest.files {
            if let Err(error) = make_file(&state, file) {
                Self::remove(data, generation)?;
                return Err(error);
            }
        }
        // After all of them are made: what the first brings to the disk is there for the others.
        for file in &manifest.files {
            let path = state.join(&file.name);
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|e| LedgerError::disk("fsync", path.display(), e))?;
        }
        sync_directory(&state)?;
        let path = data.join(PROGRESS);
        let disk = |operation, e: std::io::Error| LedgerError::disk(operation, path.display(), e);
        let progress = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|e| disk("create", e))?;
        progress
            .write_all_at(&[place_of(0), place_of(0)].concat(), 0)
            .map_err(|e| disk("write", e))?;
        progress.sync_all().map_err(|e| disk("fsync", e))?;
        // Last, so that what it describes is there.
        replace(data, MANIFEST, &manifest.encode())?;
        Ok(Self {
            manifest: manifest.clone(),
            generation,
            state,
            data: data.to_owned(),
            progress: Arc::new(progress),
            turn: 0,
            open: None,
            dirty: Vec::new(),
            written: 0,
            durable: 0,
        })
    }

    /// What an earlier process left; none when nothing is staged for this generation, or what is there is not whole.
    pub(crate) fn found(data: &Path, generation: u32) -> Option<Self> {
        let manifest = Manifest::decode(&std::fs::read(data.join(MANIFEST)).ok()?).ok()?;
        let state = directory(data, "state", generation);
        let whole =
            |file: &SnapshotFile| std::fs::metadata(state.join(&file.name)).is_ok_and(|m| m.len() == file.bytes);
        if !manifest.files.iter().all(whole) {
            return None;
        }
        let progress = File::options().read(true).write(true).open(data.join(PROGRESS)).ok()?;
        let mut bytes = [0; 2 * PLACE_BYTES];
        progress.read_exact_at(&mut bytes, 0).ok()?;
        let (first, second) = bytes.split_at(PLACE_BYTES);
        let durable = [first, second].into_iter().filter_map(read_place).max()?;
        let turn = u64::from(read_place(first) == Some(durable));
        (durable <= manifest.bytes()).then(|| Self {
            manifest,
            generation,
            state,
            data: data.to_owned(),
            progress: Arc::new(progress),
            turn,
            open: None,
            dirty: Vec::new(),
            written: durable,
            durable,
        })
    }

    /// Removes what is staged.
    pub(crate) fn remove(data: &Path, generation: u32) -> Result<(), LedgerError> {
        // The manifest first: without it nothing is staged.
        for name in [MANIFEST, PROGRESS] {
            let path = data.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(LedgerError::disk("remove", path.display(), error));
                }
                _ => {}
            }
        }
        for part in ["state", "index", "log"] {
            let path = directory(data, part, generation);
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(LedgerError::disk("remove", path.display(), error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the manifest and the progress away: what they describe is staged no more.
    pub(crate) fn forget(data: &Path) {
        for name in [MANIFEST, PROGRESS] {
            let _ = std::fs::remove_file(data.join(name));
        }
    }

    /// Where the state's files are.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Goes on behind what is durable, and answers how much that is: what was written above it, of a session that is over, comes again.
    pub(crate) fn rewind(&mut self) -> u64 {
        self.written = self.durable;
        self.durable
    }

    /// Writes bytes from `offset` on.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), LedgerError> {
        if offset != self.written || self.manifest.bytes().saturating_sub(offset) < bytes.len() as u64 {
            let what = format!("{} bytes at {offset} do not follow byte {}", bytes.len(), self.written);
            return Err(LedgerError::Order { what });
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((file, within)) = self.manifest.locate(self.written) else {
                break;
            };
            let (name, count) = (file.name.clone(), rest.len().min((file.bytes - within) as usize));
            let path = self.state.join(&name);
            let file = match &self.open {
                Some((known, file)) if *known == name => Arc::clone(file),
                _ => {
                    let file = File::options().write(true).open(&path);
                    let file = Arc::new(file.map_err(|e| LedgerError::disk("open", path.display(), e))?);
                    self.open = Some((name, Arc::clone(&file)));
                    file
                }
            };
            file.write_all_at(&rest[..count], within).map_err(|e| match e.kind() {
                // What is staged is written again from what is durable.
                std::io::ErrorKind::StorageFull => full(&self.state, count as u64),
                _ => LedgerError::disk("write", path.display(), e),
            })?;
            if self.dirty.last().is_none_or(|(known, _)| *known != path) {
                self.dirty.push((path, file));
            }
            self.written += count as u64;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// What is to be made durable now.
    pub(crate) fn group(&mut self) -> Group {
        self.turn += 1;
        Group {
            files: std::mem::take(&mut self.dirty),
            progress: Arc::clone(&self.progress),
            path: self.data.join(PROGRESS),
            turn: self.turn,
            written: self.written,
        }
    }
}

impl Group {
    /// Makes it durable: the files, then the word of how far they are.
    pub(crate) fn sync(&self) -> Result<(), LedgerError> {
        for (path, file) in &self.files {
            file.sync_data()
                .map_err(|e| LedgerError::disk("fdatasync", path.display(), e))?;
        }
        let place = (self.turn % 2) * PLACE_BYTES as u64;
        let disk = |operation, e: std::io::Error| LedgerError::disk(operation, self.path.display(), e);
        self.progress
            .write_all_at(&place_of(self.written), place)
            .map_err(|e| disk("write", e))?;
        self.progress.sync_data().map_err(|e| disk("fdatasync", e))
    }
}

fn make_file(state: &Path, file: &SnapshotFile) -> Result<(), LedgerError> {
    let path = state.join(&file.name);
    let disk = |operation, e: std::io::Error| LedgerError::disk(operation, path.display(), e);
    let made = File::create(&path).map_err(|e| disk("create", e))?;
    if file.bytes == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(&made, rustix::fs::FallocateFlags::empty(), 0, file.bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOSPC) => Err(full(state, file.bytes)),
        // A file system without fallocate still takes the bytes; only the room is not sure.
        Err(_) => made.set_len(file.bytes).map_err(|e| disk("size", e)),
    }
}

fn place_of(bytes: u64) -> [u8; PLACE_BYTES] {
    let mut place = [0; PLACE_BYTES];
    place[..8].copy_from_slice(&bytes.to_le_bytes());
    place[8..].copy_from_slice(&Digest::of(&bytes.to_le_bytes()).0);
    place
}

fn read_place(bytes: &[u8]) -> Option<u64> {
    let number: [u8; 8] = bytes.get(..8)?.try_into().ok()?;
    let number = u64::from_le_bytes(number);
    (place_of(number) == *bytes).then_some(number)
}
