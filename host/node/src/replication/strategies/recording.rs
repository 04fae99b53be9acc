//! Traces on disk (`strategy.trace`): each instance's calls in a file of its own, all files of a namespace under one cap.
//!
//! Knows the format no further than [`Opening`] and [`Call`] encode it. A trace is an aid: it is not fsynced, and whoever cannot write it
//! goes on without.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cvp_core::strategy::Kind;
use cvp_core::strategy::trace::{Call, Opening};

/// One instance may fill so much of the cap, so that traces of some before it stay.
const SHARE: u64 = 4;

/// Most files of a namespace: instances that fault at once leave small ones.
const FILES_MAX: usize = 64;

const EXTENSION: &str = "trace";

/// Where the traces of one namespace go.
pub struct Recorder {
    directory: PathBuf,
    bytes_max: u64,
}

/// One instance's trace.
pub struct Recording {
    file: File,
    bytes_left: u64,
}

struct Kept {
    number: u64,
    bytes: u64,
    path: PathBuf,
}

impl Recorder {
    /// At most `bytes_max` in `directory`, which is made when the first trace begins.
    pub fn new(directory: PathBuf, bytes_max: u64) -> Self {
        Self { directory, bytes_max }
    }

    /// Begins the trace of an instance; the oldest traces make room.
    pub fn open(&self, opening: &Opening) -> io::Result<Recording> {
        fs::create_dir_all(&self.directory)?;
        let mut kept = list(&self.directory)?;
        let number = kept.last().map_or(1, |last| last.number + 1);
        let share = self.bytes_max / SHARE;
        let (mut files, mut bytes) = (kept.len(), kept.iter().map(|it| it.bytes).sum::<u64>());
        for oldest in kept.drain(..) {
            if files < FILES_MAX && bytes + share <= self.bytes_max {
                break;
            }
            fs::remove_file(&oldest.path)?;
            (files, bytes) = (files - 1, bytes - oldest.bytes);
        }
        let name = format!("{number:06}-{}.{EXTENSION}", opening.role.as_str());
        let mut recording = Recording {
            file: File::create(self.directory.join(name))?,
            bytes_left: share,
        };
        if recording.write(&opening.encode())? {
            Ok(recording)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "strategy.trace is too small",
            ))
        }
    }
}

impl Recording {
    /// Adds a call. False: there is no room for it, and the trace ends.
    pub fn add<K: Kind>(&mut self, call: &Call<K>) -> io::Result<bool> {
        self.write(&call.encode())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let Some(left) = self.bytes_left.checked_sub(bytes.len() as u64) else {
            self.bytes_left = 0;
            return Ok(false);
        };
        self.file.write_all(bytes)?;
        self.bytes_left = left;
        Ok(true)
    }
}

/// The traces there are, oldest first.
fn list(directory: &Path) -> io::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path
            .extension()
            .filter(|extension| *extension == EXTENSION)
            .and_then(|_| path.file_stem()?.to_str()?.split('-').next()?.parse().ok());
        if let Some(number) = number {
            let bytes = fs::metadata(&path)?.len();
            kept.push(Kept { number, bytes, path });
        }
    }
    kept.sort_by_key(|it| it.number);
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use cvp_core::strategy::{ChainSync, trace};
    use cvp_core::types::strategy::Role;
    use cvp_core::types::strategy::chain_sync::Action;

    use super::*;

    fn opening() -> Opening {
        Opening {
            kind: "chain-sync".into(),
            role: Role::Receiver,
            namespace: "global".into(),
            settings: "{}".into(),
            id: "default".into(),
            version: "1.0.0".into(),
            sha256: [1; 32],
        }
    }

    fn call(bytes: usize) -> Call {
        Call {
            events: Vec::new(),
            answer: Ok(vec![Action::Store(vec![5; bytes])]),
        }
    }

    #[test]
    fn a_trace_ends_at_its_share_and_the_oldest_make_room() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("strategies/global");
        let recorder = Recorder::new(directory.clone(), 8_000);
        for _ in 0..9 {
            let mut recording = recorder.open(&opening()).unwrap();
            let mut added = 0;
            while recording.add(&call(500)).unwrap() {
                added += 1;
            }
            assert_eq!(added, 3, "2,000 bytes hold the head and three calls");
            assert!(!recording.add(&call(1)).unwrap(), "no gap: what did not fit is the end");
        }
        let kept = list(&directory).unwrap();
        assert!(kept.iter().map(|it| it.bytes).sum::<u64>() <= 8_000);
        let numbers: Vec<u64> = kept.iter().map(|it| it.number).collect();
        assert_eq!(numbers, [6, 7, 8, 9]);
        let (head, calls) = trace::read::<ChainSync>(&fs::read(&kept[3].path).unwrap()).unwrap();
        assert_eq!((head, calls.len()), (opening(), 3));
    }

    #[test]
    fn small_traces_are_bounded_by_their_number() {
        let root = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(root.path().to_owned(), 64 << 20);
        fs::write(root.path().join("notes.txt"), "not ours").unwrap();
        for _ in 0..FILES_MAX + 10 {
            recorder.open(&opening()).unwrap();
        }
        assert_eq!(list(root.path()).unwrap().len(), FILES_MAX);
        assert!(root.path().join("notes.txt").exists());
    }
}
