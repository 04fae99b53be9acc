//! Where a store's history begins, and which of its directories count: one small file, `data/base`, replaced as a whole.
//!
//! Without the file the history begins at genesis in `log`, `state` and `index`. Each snapshot that is adopted makes a new *generation* of the
//! three, `log-1`, `state-1`, `index-1` and so on, and becomes the one that counts when this file says so; the others are leftovers.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cvp_core::ledger::LedgerError;
use cvp_core::types::{Digest, Height, Malformed, Position, Reader, UnixNanos, Writer};

use crate::segment::sync_directory;

const NAME: &str = "base";
const MAGIC: &[u8; 8] = b"CVPBASE\n";
const VERSION: u32 = 1;
/// Larger than the file ever is.
const BYTES_MAX: u64 = 4096;
/// What a generation consists of.
const PARTS: [&str; 3] = ["log", "state", "index"];

/// Where the history begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// Of the directories that count.
    pub(crate) generation: u32,
    /// The record right below the first one kept; none when all history is kept.
    pub(crate) below: Option<Position>,
    /// Hash of record 0.
    pub(crate) genesis: Digest,
    /// Time of the first record whose transactions are in the index, after a snapshot; 0: all are.
    pub(crate) known_since: UnixNanos,
}

impl Base {
    /// The whole history of the chain that begins with `genesis`.
    pub(crate) fn whole(genesis: Digest) -> Self {
        Self {
            generation: 0,
            below: None,
            genesis,
            known_since: 0,
        }
    }

    /// Lowest height whose record is kept.
    pub(crate) fn history_from(&self) -> Height {
        self.below.map_or(0, |below| below.height + 1)
    }

    /// Reads the file in `data`; none when there is none.
    pub(crate) fn read(data: &Path) -> Result<Option<Self>, LedgerError> {
        let path = data.join(NAME);
        let bytes = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.len() > BYTES_MAX => {
                return Err(LedgerError::corrupt(path.display(), format!("{} bytes", found.len())));
            }
            _ => std::fs::read(&path).map_err(|e| LedgerError::disk("read", path.display(), e))?,
        };
        Self::decode(&bytes)
            .map(Some)
            .map_err(|e| LedgerError::corrupt(path.display(), e.what))
    }

    /// Puts it in the place of the one before, durably.
    pub(crate) fn write(&self, data: &Path) -> Result<(), LedgerError> {
        let mut out = Writer::with_capacity(160);
        out.raw(MAGIC);
        out.u32(VERSION);
        out.u32(self.generation);
        out.option(self.below.as_ref(), |out, below| {
            out.u64(below.height);
            out.digest(&below.hash);
        });
        out.digest(&self.genesis);
        out.u64(self.known_since);
        let sum = Digest::of(out.as_slice());
        out.digest(&sum);
        replace(data, NAME, out.as_slice())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let short = || Malformed::new("it is cut short");
        let (body, sum) = bytes.split_last_chunk::<32>().ok_or_else(short)?;
        if Digest::of(body).0 != *sum {
            return Err(Malformed::new("its checksum does not match"));
        }
        let mut input = Reader::new(body);
        if input.take(8)? != MAGIC {
            return Err(Malformed::new("it is no such file"));
        }
        let version = input.u32()?;
        if version != VERSION {
            return Err(Malformed::new(format!("version {version} is of a later release")));
        }
        let generation = input.u32()?;
        let below = input.option(|input| {
            Ok(Position {
                height: input.u64()?,
                hash: input.digest()?,
            })
        })?;
        let genesis = input.digest()?;
        let known_since = input.u64()?;
        input.finish()?;
        if below.is_some_and(|below| below.height == u64::MAX) {
            return Err(Malformed::new("a height that cannot be"));
        }
        Ok(Self {
            generation,
            below,
            genesis,
            known_since,
        })
    }

    /// A directory of this generation.
    pub(crate) fn directory(&self, data: &Path, part: &str) -> PathBuf {
        directory(data, part, self.generation)
    }

    /// Removes the directories of other generations than this one and `staged`.
    pub(crate) fn sweep(&self, data: &Path, staged: Option<u32>) -> Result<(), LedgerError> {
        let disk = |operation, e: std::io::Error| LedgerError::disk(operation, data.display(), e);
        for entry in std::fs::read_dir(data).map_err(|e| disk("list", e))? {
            let entry = entry.map_err(|e| disk("list", e))?;
            let name = entry.file_name();
            let Some(generation) = name.to_str().and_then(generation_of) else {
                continue;
            };
            if generation != self.generation && Some(generation) != staged {
                std::fs::remove_dir_all(entry.path()).map_err(|e| disk("remove", e))?;
            }
        }
        Ok(())
    }
}

/// A directory of a generation.
pub(crate) fn directory(data: &Path, part: &str, generation: u32) -> PathBuf {
    match generation {
        0 => data.join(part),
        generation => data.join(format!("{part}-{generation}")),
    }
}

/// The generation that a directory of this name is of.
fn generation_of(name: &str) -> Option<u32> {
    let (part, generation) = name.split_once('-').unwrap_or((name, "0"));
    PARTS.contains(&part).then(|| generation.parse().ok()).flatten()
}

/// Replaces a small file in `directory` as a whole, durably.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), LedgerError> {
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    let disk = |operation, e: std::io::Error| LedgerError::disk(operation, path.display(), e);
    let mut file = File::create(&new).map_err(|e| disk("create", e))?;
    file.write_all(bytes).map_err(|e| disk("write", e))?;
    file.sync_all().map_err(|e| disk("fsync", e))?;
    std::fs::rename(&new, &path).map_err(|e| disk("rename", e))?;
    sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_refuses_what_was_damaged() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Base::read(directory.path()), Ok(None));
        let base = Base {
            generation: 3,
            below: Some(Position {
                height: 41,
                hash: Digest([4; 32]),
            }),
            genesis: Digest([5; 32]),
            known_since: 9,
        };
        base.write(directory.path()).unwrap();
        assert_eq!(Base::read(directory.path()), Ok(Some(base)));
        assert_eq!((base.history_from(), Base::whole(Digest::ZERO).history_from()), (42, 0));
        let path = directory.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(Base::read(directory.path()).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn only_the_generations_that_count_stay() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "log", "state", "index", "log-1", "state-1", "log-2", "state-3", "mq", "log-x", "snapshot",
        ] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let base = Base {
            generation: 1,
            ..Base::whole(Digest::ZERO)
        };
        base.sweep(directory.path(), Some(2)).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["log-1", "log-2", "log-x", "mq", "snapshot", "state-1"]);
        assert_eq!(base.directory(directory.path(), "log"), directory.path().join("log-1"));
    }
}
