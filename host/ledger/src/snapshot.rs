//! A snapshot of the state that is handed over: hard links of the database's files in `data/snapshot/state`, and a manifest beside them.
//!
//! Making it waits for one flush of memtables and copies nothing. It outlives a restart, so that a copy that was interrupted goes on.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cvp_core::ledger::{LedgerError, Manifest, Snapshot, SnapshotFile, is_part_of_state};
use cvp_core::record::parse;
use parking_lot::Mutex;

use crate::base::replace;
use crate::databases::{Databases, StateFiles};
use crate::options::Shared;
use crate::segment::sync_directory;

const DIRECTORY: &str = "snapshot";
const STATE: &str = "state";
const MANIFEST: &str = "manifest";

/// A snapshot on this disk.
pub(crate) struct Shipped {
    manifest: Manifest,
    state: PathBuf,
    /// The file that was read last.
    open: Mutex<Option<(String, Arc<File>)>>,
}

impl Shipped {
    fn of(manifest: Manifest, state: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            manifest,
            state,
            open: Mutex::new(None),
        })
    }

    /// The one that an earlier process made, if it is whole.
    pub(crate) fn found(data: &Path) -> Option<Arc<Self>> {
        let directory = data.join(DIRECTORY);
        let manifest = Manifest::decode(&std::fs::read(directory.join(MANIFEST)).ok()?).ok()?;
        let state = directory.join(STATE);
        let whole =
            |file: &SnapshotFile| std::fs::metadata(state.join(&file.name)).is_ok_and(|m| m.len() == file.bytes);
        manifest.files.iter().all(whole).then(|| Self::of(manifest, state))
    }

    /// Removes what is there of one.
    pub(crate) fn remove(data: &Path) -> Result<(), LedgerError> {
        let directory = data.join(DIRECTORY);
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LedgerError::disk("remove", directory.display(), error))
            }
            _ => Ok(()),
        }
    }

    /// Makes one of the applied state. `record` answers the record at a height.
    pub(crate) fn make(
        data: &Path,
        databases: &Databases,
        shared: &Shared,
        record: impl Fn(u64) -> Result<Bytes, LedgerError>,
    ) -> Result<Arc<Self>, LedgerError> {
        Self::remove(data)?;
        let directory = data.join(DIRECTORY);
        let disk = |operation, e: std::io::Error| LedgerError::disk(operation, directory.display(), e);
        std::fs::create_dir_all(&directory).map_err(|e| disk("create", e))?;
        let state = directory.join(STATE);
        databases.checkpoint(&state)?;
        // Listed before it is opened: to look at it leaves a log of the database there.
        let files = list(&state)?;
        let empty = || LedgerError::corrupt(state.display(), "the checkpoint holds no state");
        let at = StateFiles::open(&state, shared)?.marker()?.ok_or_else(empty)?.position;
        let record = record(at.height)?;
        let found = parse(&record).map(|record| record.position());
        if found != Ok(at) {
            return Err(LedgerError::corrupt(
                state.display(),
                format!("it is of another record {}", at.height),
            ));
        }
        let nonce = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let manifest = Manifest {
            nonce: nonce.map_or(0, |since| since.as_nanos() as u64),
            at,
            record,
            files,
        };
        sync_directory(&state)?;
        replace(&directory, MANIFEST, &manifest.encode())?;
        sync_directory(data)?;
        Ok(Self::of(manifest, state))
    }

    /// Whether a history that begins at `from` goes on from it.
    pub(crate) fn follows(&self, from: u64) -> bool {
        from <= self.manifest.at.height.saturating_add(1)
    }

    fn file(&self, name: &str) -> Result<Arc<File>, LedgerError> {
        let mut open = self.open.lock();
        if let Some((_, file)) = open.as_ref().filter(|(known, _)| known == name) {
            return Ok(Arc::clone(file));
        }
        let path = self.state.join(name);
        let file = Arc::new(File::open(&path).map_err(|e| LedgerError::disk("open", path.display(), e))?);
        *open = Some((name.to_owned(), Arc::clone(&file)));
        Ok(file)
    }
}

impl Snapshot for Shipped {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn fill(&self, offset: u64, out: &mut [u8]) -> Result<(), LedgerError> {
        let mut done = 0;
        while done < out.len() {
            let Some((file, within)) = self.manifest.locate(offset + done as u64) else {
                let what = "bytes behind the end of a snapshot".to_owned();
                return Err(LedgerError::Order { what });
            };
            let count = (out.len() - done).min((file.bytes - within) as usize);
            self.file(&file.name)?
                .read_exact_at(&mut out[done..done + count], within)
                .map_err(|e| LedgerError::disk("read", self.state.join(&file.name).display(), e))?;
            done += count;
        }
        Ok(())
    }
}

/// The files that make a database, its tables first: what is small and changes comes last.
fn list(directory: &Path) -> Result<Vec<SnapshotFile>, LedgerError> {
    let disk = |e: std::io::Error| LedgerError::disk("list", directory.display(), e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(disk)? {
        let entry = entry.map_err(disk)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if is_part_of_state(&name) {
            let bytes = entry.metadata().map_err(disk)?.len();
            files.push(SnapshotFile { name, bytes });
        }
    }
    files.sort_by(|a, b| (!a.name.ends_with(".sst"), &a.name).cmp(&(!b.name.ends_with(".sst"), &b.name)));
    Ok(files)
}
