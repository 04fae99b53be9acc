//! What a ledger keeps, and what it hands over as a whole: old history that goes, the state as a snapshot, out and in.
//!
//! A snapshot is the state at one record, as files, and that record. It is shipped as one run of bytes: the files back to back, so that how
//! far a copy is is one number. What is taken in is *staged* beside what is there, checked as a whole, and *adopted* in one step.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::record::{BadPart, BadRecord, RECORD_BYTES_MAX, Span, check_span, parse};
use crate::types::{Digest, Height, Malformed, Position, Reader, UnixNanos, Writer};

use super::{LedgerError, Run};

/// Files of one snapshot at most.
pub const SNAPSHOT_FILES_MAX: usize = 65_536;
/// Headers that are read at once at most; about 0.7 MB.
pub const HEADERS_MAX: u64 = 2_048;
/// Bytes of a file's name at most.
const NAME_BYTES_MAX: usize = 64;

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name: letters, digits, `.`, `_` and `-`; no path.
    pub name: String,
    /// Its size, bytes.
    pub bytes: u64,
}

/// What a snapshot consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Drawn when it was made: two snapshots of one state differ.
    pub nonce: u64,
    /// The state is the one after this record.
    pub at: Position,
    /// That record, as encoded.
    pub record: Bytes,
    /// The files, in the order they are shipped.
    pub files: Vec<SnapshotFile>,
}

impl Manifest {
    /// Names this snapshot among all of the provider's.
    pub fn id(&self) -> Digest {
        Digest::of(&self.encode())
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum: u64, file| sum.saturating_add(file.bytes))
    }

    /// The file that holds the byte at `offset`, and where in it; none at the end.
    pub fn locate(&self, mut offset: u64) -> Option<(&SnapshotFile, u64)> {
        for file in &self.files {
            if offset < file.bytes {
                return Some((file, offset));
            }
            offset -= file.bytes;
        }
        None
    }

    /// As it travels and is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(self.record.len() + 64 + self.files.len() * 32);
        out.u64(self.nonce);
        out.u64(self.at.height);
        out.digest(&self.at.hash);
        out.bytes(&self.record);
        out.u32(self.files.len() as u32);
        for file in &self.files {
            out.text(&file.name);
            out.u64(file.bytes);
        }
        out.into_bytes()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// It is longer than its bounds, a name is none of a plain file, or a name comes twice.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, Malformed> {
        let mut input = Reader::new(bytes);
        let nonce = input.u64()?;
        let at = Position {
            height: input.u64()?,
            hash: input.digest()?,
        };
        let record = Bytes::copy_from_slice(input.bytes(RECORD_BYTES_MAX)?);
        let count = input.count(SNAPSHOT_FILES_MAX, 12)?;
        let mut files = Vec::with_capacity(count);
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..count {
            let name = input.text(NAME_BYTES_MAX)?.to_owned();
            let bytes = input.u64()?;
            if !is_part_of_state(&name) || !names.insert(name.clone()) {
                return Err(Malformed::new(format!("file name {name:?} in a snapshot")));
            }
            files.push(SnapshotFile { name, bytes });
        }
        input.finish()?;
        let manifest = Manifest {
            nonce,
            at,
            record,
            files,
        };
        if manifest.bytes() > i64::MAX as u64 {
            return Err(Malformed::new("a snapshot larger than any disk"));
        }
        Ok(manifest)
    }
}

/// Whether a name is one of a table of a database, or of what says which tables make it. Anything else, options above all, is no part of a
/// snapshot.
pub fn is_part_of_state(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let stem = name.strip_suffix(".sst").or_else(|| name.strip_prefix("MANIFEST-"));
    name == "CURRENT" || stem.is_some_and(|stem| !stem.is_empty() && stem.bytes().all(letters))
}

/// A snapshot that is being handed over. It stays as it is while the chain goes on.
pub trait Snapshot: Send + Sync {
    /// What it consists of.
    fn manifest(&self) -> &Manifest;

    /// Fills `out` with the bytes of its files from `offset` on, which must be there.
    ///
    /// # Errors
    /// `Disk`.
    fn fill(&self, offset: u64, out: &mut [u8]) -> Result<(), LedgerError>;

    /// Bytes of its files from `offset` on: about `bytes_max`, at least one, none at the end.
    ///
    /// # Errors
    /// `Disk`.
    fn read(&self, offset: u64, bytes_max: usize) -> Result<Bytes, LedgerError> {
        let mut bytes = BytesMut::zeroed(self.at_most(offset, bytes_max));
        self.fill(offset, &mut bytes)?;
        Ok(bytes.freeze())
    }

    /// How many of about `bytes_max` bytes there are from `offset` on.
    fn at_most(&self, offset: u64, bytes_max: usize) -> usize {
        let left = self.manifest().bytes().saturating_sub(offset);
        usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max.max(1))
    }
}

/// How much a ledger keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Kept {
    /// Lowest height whose record is kept.
    pub history_from: Height,
    /// Bytes of all records kept.
    pub log_bytes: u64,
    /// Bytes of the state's files, roughly.
    pub state_bytes: u64,
}

/// The part of a ledger that deals with history and state as a whole.
pub trait Archive: Send + Sync {
    /// How much is kept.
    fn kept(&self) -> Kept;

    /// Time of the first record from which on every transaction is in the indexes; 0 when all are. What was pruned stays in them; what lies
    /// before a snapshot is not, until it is put before it.
    fn known_since(&self) -> UnixNanos;

    /// Bytes of the records above `height`.
    fn bytes_above(&self, height: Height) -> u64;

    /// Drops the records of whole old segments that end below `below`, which is never above the applied tip. Answers where the history
    /// begins then. A crash leaves it dropped or not, never half.
    ///
    /// # Errors
    /// `Disk`.
    fn prune(&self, below: Height) -> Result<Height, LedgerError>;

    /// Makes a snapshot of the applied state in the place of the one before, durably: it outlives this process.
    ///
    /// # Errors
    /// `Disk`.
    fn make_snapshot(&self) -> Result<Arc<dyn Snapshot>, LedgerError>;

    /// The snapshot that was made last, and not dropped.
    fn snapshot(&self) -> Option<Arc<dyn Snapshot>>;

    /// Drops it.
    fn drop_snapshot(&self);

    /// Begins to take a snapshot in, or goes on with what is staged of the same one. Answers how many of its bytes are here durably: what was
    /// written above them is written again.
    ///
    /// # Errors
    /// `Refused`: it is not above the own tip, or its record is none of this chain. `Full`, `Disk`.
    fn stage(&self, manifest: &Manifest) -> Result<u64, LedgerError>;

    /// What is staged, and how many bytes of it durably.
    fn staged(&self) -> Option<(Manifest, u64)>;

    /// Writes the snapshot's bytes from `offset` on, which must be where the last ones ended. Nothing is durable before `sync_staged`.
    ///
    /// # Errors
    /// `Gap` when they do not follow, `Full`, `Disk`.
    fn write_staged(&self, offset: u64, bytes: &[u8]) -> Result<(), LedgerError>;

    /// Makes durable what was written; answers how many bytes that is.
    ///
    /// # Errors
    /// `Disk`.
    fn sync_staged(&self) -> Result<u64, LedgerError>;

    /// Checks what is staged, all of it: format, the record it is of, and the sum of the state against that record's header. Then takes it
    /// in the place of state, indexes and log at once; the log begins with that record. What was there goes. A crash leaves one or the other.
    ///
    /// # Errors
    /// `Refused` or `StateMismatch`: it is not what it says, and was dropped; what was there stays. `Disk`.
    fn adopt(&self) -> Result<Position, LedgerError>;

    /// Drops what is staged.
    ///
    /// # Errors
    /// `Disk`.
    fn drop_staged(&self) -> Result<(), LedgerError>;

    /// Durable records that end with `last`: about `bytes_max` bytes, one at least.
    ///
    /// # Errors
    /// `NotFound`, `Disk`.
    fn read_back(&self, last: Height, bytes_max: usize) -> Result<Run, LedgerError>;

    /// Headers of durable records from `first` on, back to back, as [`crate::record::check_headers`] takes them: up to `last`,
    /// [`HEADERS_MAX`] at most, one at least.
    ///
    /// # Errors
    /// `NotFound`, `Disk`.
    fn headers(&self, first: Height, last: Height) -> Result<Bytes, LedgerError>;

    /// Puts records before the first one kept, durably: they must end right below it and link to it. Answers where the history begins now.
    ///
    /// # Errors
    /// `Refused`, `Gap` or `Diverged` when they do not fit; `Full`, `Disk`.
    fn prepend(&self, records: Bytes) -> Result<Height, LedgerError>;
}

/// The one record that a snapshot is of, checked.
///
/// # Errors
/// It is not what the manifest says, or no record of this chain.
pub fn check_manifest(namespace: &Digest, manifest: &Manifest) -> Result<Span, LedgerError> {
    let height = manifest.at.height;
    let record = parse(&manifest.record).map_err(|e| bad_state(height, e.what))?;
    if record.position() != manifest.at || record.len() != manifest.record.len() || height == 0 {
        return Err(bad_state(height, "its record is another one than it says"));
    }
    let parent = Position {
        height: height - 1,
        hash: record.header().parent,
    };
    Ok(check_span(namespace, parent, manifest.record.clone())?)
}

/// Records that end with `below` in the chain that begins with `genesis`, checked; genesis, which everybody has, is left out of them.
///
/// # Errors
/// `Order` when they end elsewhere, `Diverged` when they do not link, `Refused`.
pub fn check_below(
    namespace: &Digest,
    genesis: &Digest,
    below: Position,
    mut records: Bytes,
) -> Result<Span, LedgerError> {
    let malformed = |e: Malformed| bad_state(below.height, e.what);
    let mut first = parse(&records).map_err(malformed)?;
    if first.header().height == 0 {
        records = records.slice(first.len()..);
        first = parse(&records).map_err(malformed)?;
    }
    let parent = Position {
        height: first.header().height.saturating_sub(1),
        hash: first.header().parent,
    };
    let span = check_span(namespace, parent, records)?;
    if span.last().height != below.height {
        let what = format!(
            "records to {} where those to {} are wanted",
            span.last().height,
            below.height
        );
        return Err(LedgerError::Order { what });
    }
    if span.last() == below && (span.first() > 1 || span.parent() == *genesis) {
        return Ok(span);
    }
    Err(LedgerError::Diverged {
        height: below.height,
        ours: below.hash,
        theirs: span.last().hash,
    })
}

/// A state that is not what it should be.
pub fn bad_state(height: Height, reason: impl Into<String>) -> LedgerError {
    LedgerError::Refused(BadRecord {
        height,
        part: BadPart::State,
        reason: reason.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(names: &[&str]) -> Manifest {
        let file = |name: &&str| SnapshotFile {
            name: (*name).to_owned(),
            bytes: 10,
        };
        Manifest {
            nonce: 7,
            at: Position {
                height: 9,
                hash: Digest([1; 32]),
            },
            record: Bytes::from_static(b"record"),
            files: names.iter().map(file).collect(),
        }
    }

    #[test]
    fn a_manifest_reads_back_and_finds_each_byte() {
        let good = manifest(&["000012.sst", "MANIFEST-000004", "CURRENT"]);
        assert_eq!(Manifest::decode(&good.encode()), Ok(good.clone()));
        assert_eq!((good.bytes(), good.locate(30)), (30, None));
        assert_eq!(
            good.locate(0).map(|(f, at)| (f.name.as_str(), at)),
            Some(("000012.sst", 0))
        );
        assert_eq!(
            good.locate(29).map(|(f, at)| (f.name.as_str(), at)),
            Some(("CURRENT", 9))
        );
        let other = Manifest {
            nonce: 8,
            ..good.clone()
        };
        assert_ne!(good.id(), other.id());
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in [
            "../CURRENT",
            "a/b.sst",
            "",
            ".",
            "..",
            ".sst",
            "a\0b.sst",
            "ü.sst",
            "OPTIONS-000007",
            "000004.log",
            "MANIFEST-",
            "CURRENT.sst/..",
        ] {
            assert!(Manifest::decode(&manifest(&[name]).encode()).is_err(), "{name:?}");
        }
        assert!(
            Manifest::decode(&manifest(&["A.sst", "A.sst"]).encode()).is_err(),
            "twice"
        );
        let mut long = manifest(&["A.sst"]).encode();
        long.push(0);
        assert!(Manifest::decode(&long).is_err());
    }
}
