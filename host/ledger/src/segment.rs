//! One segment file: a fixed header, then records back to back, then zeros up to the preallocated size.
//!
//! Header, 64 bytes: magic (8), version u32, reserved u32, first height u64, namespace digest (32), BLAKE3 of the 56 bytes before, cut
//! to 8. A sealed segment has a sidecar `<first>.idx` with the offset of each record; it is rebuilt from the records when missing.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cvp_core::ledger::LedgerError;
use cvp_core::record::{RECORD_MAGIC, record_length};
use cvp_core::types::{Digest, Height, Reader, Writer};

use crate::offsets::Offsets;

pub(crate) const HEADER_BYTES: u64 = 64;
const MAGIC: &[u8; 8] = b"CVPSEG\r\n";
const INDEX_MAGIC: &[u8; 8] = b"CVPIDX\r\n";
const VERSION: u32 = 1;
/// Extension of a segment that is being made; what a crash leaves of it is removed at the next start.
pub(crate) const MAKING: &str = "new";
/// A write ends at a multiple of this: so the system caches it in few pages, and in none that is huge, for where it gives free ones of those back
/// to a virtual machine's host, having one again costs ten times what filling it does.
const WRITE_BYTES: u64 = 1 << 20;
/// Records whose offsets one sidecar can hold: more than any segment does.
const INDEX_RECORDS_MAX: usize = 1 << 24;

/// An open segment and where its records are.
pub(crate) struct Segment {
    pub(crate) first: Height,
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    /// File offset of each record.
    pub(crate) offsets: Offsets,
    /// File offset behind the last record.
    pub(crate) end: u32,
    /// Size the file was given.
    pub(crate) size: u64,
}

pub(crate) fn file_name(first: Height) -> String {
    format!("{first:020}.seg")
}

fn disk(operation: &'static str, path: &Path, error: impl ToString) -> LedgerError {
    LedgerError::disk(operation, path.display(), error)
}

impl Segment {
    /// Height behind the last record.
    pub(crate) fn next(&self) -> Height {
        self.first + self.offsets.len() as u64
    }

    /// Makes a segment of `size` bytes in `directory`, durably: under another name first, so that a `.seg` always has its header. Answers
    /// `Full` when there is no room; then nothing is left behind.
    pub(crate) fn create(directory: &Path, namespace: &Digest, first: Height, size: u64) -> Result<Self, LedgerError> {
        let path = directory.join(file_name(first));
        let making = path.with_extension(MAKING);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&making)
            .map_err(|e| disk("create", &making, e))?;
        if let Err(error) = allocate(&file, &making, 0, size) {
            if matches!(error, LedgerError::Full { .. }) {
                let _ = std::fs::remove_file(&making);
            }
            return Err(error);
        }
        file.write_all_at(&header(namespace, first), 0)
            .map_err(|e| disk("write", &making, e))?;
        file.sync_all().map_err(|e| disk("fsync", &making, e))?;
        std::fs::rename(&making, &path).map_err(|e| disk("rename", &making, e))?;
        sync_directory(directory)?;
        Ok(Self {
            first,
            file: Arc::new(file),
            path,
            offsets: Offsets::default(),
            end: HEADER_BYTES as u32,
            size,
        })
    }

    /// Gives the file `size` bytes, more than it has. What is appended there is durable with the fsync that covers it, the new size with it.
    pub(crate) fn grow(&mut self, size: u64) -> Result<(), LedgerError> {
        allocate(&self.file, &self.path, self.size, size)?;
        self.size = size;
        Ok(())
    }

    /// Writes records of the given lengths behind the last one; whoever asks has made room. No fsync.
    pub(crate) fn fill(&mut self, lengths: &[usize], bytes: &[u8]) -> Result<(), LedgerError> {
        let (mut at, mut rest) = (u64::from(self.end), bytes);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min((WRITE_BYTES - at % WRITE_BYTES) as usize));
            self.file
                .write_all_at(piece, at)
                .map_err(|e| disk("write", &self.path, e))?;
            (at, rest) = (at + piece.len() as u64, behind);
        }
        for length in lengths {
            self.offsets.push(self.end);
            self.end += *length as u32;
        }
        Ok(())
    }

    /// Gives back the room behind the last record and makes the file durable: it takes no more records. The next segment is made only
    /// after this, so a crash can tear the newest segment alone.
    pub(crate) fn seal(&mut self) -> Result<(), LedgerError> {
        self.file
            .set_len(u64::from(self.end))
            .map_err(|e| disk("truncate", &self.path, e))?;
        self.size = u64::from(self.end);
        self.offsets.shrink_to_fit();
        self.file.sync_all().map_err(|e| disk("fsync", &self.path, e))?;
        self.write_sidecar();
        Ok(())
    }

    /// Opens the file at `path` and checks its header; the records are not looked at yet.
    pub(crate) fn open(path: &Path, namespace: &Digest, writable: bool) -> Result<Self, LedgerError> {
        let file = File::options()
            .read(true)
            .write(writable)
            .open(path)
            .map_err(|e| disk("open", path, e))?;
        let size = file.metadata().map_err(|e| disk("stat", path, e))?.len();
        if size < HEADER_BYTES {
            let what = format!("{size} bytes are no segment");
            return Err(LedgerError::corrupt(path.display(), what));
        }
        let mut bytes = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut bytes, 0).map_err(|e| disk("read", path, e))?;
        let first = u64::from_le_bytes([
            bytes[16], bytes[17], bytes[18], bytes[19], bytes[20], bytes[21], bytes[22], bytes[23],
        ]);
        if bytes != header(namespace, first) {
            return Err(LedgerError::corrupt(
                path.display(),
                "the header is not one of this namespace's segments",
            ));
        }
        if size > u64::from(u32::MAX) {
            return Err(LedgerError::corrupt(
                path.display(),
                format!("{size} bytes are no segment"),
            ));
        }
        Ok(Self {
            first,
            file: Arc::new(file),
            path: path.to_owned(),
            offsets: Offsets::default(),
            end: HEADER_BYTES as u32,
            size,
        })
    }

    /// Fills in the offsets of a sealed segment that ends before height `next`: from the sidecar, else from the records.
    pub(crate) fn load_sealed(&mut self, next: Height) -> Result<(), LedgerError> {
        let wanted = next.checked_sub(self.first).filter(|count| *count > 0);
        let damaged = || LedgerError::corrupt(self.path.display(), "it holds no records but another segment follows");
        let wanted = wanted.ok_or_else(damaged)? as usize;
        if let Some((offsets, end)) = self.read_sidecar(wanted) {
            (self.offsets, self.end) = (offsets, end);
            return Ok(());
        }
        if let Some(what) = self.walk_lengths(wanted) {
            let what = format!("record {} header: {what}", self.next());
            return Err(LedgerError::corrupt(self.path.display(), what));
        }
        self.write_sidecar();
        Ok(())
    }

    /// As [`Segment::load_sealed`] without writing anything; answers why a record is missing, if one is: those before it are filled in.
    pub(crate) fn inspect_sealed(&mut self, next: Height) -> Option<String> {
        let wanted = next.saturating_sub(self.first) as usize;
        match self.read_sidecar(wanted) {
            Some((offsets, end)) => {
                (self.offsets, self.end) = (offsets, end);
                None
            }
            None => self.walk_lengths(wanted),
        }
    }

    /// Fills in the offsets of up to `wanted` records by their lengths alone; answers why there is not one more, unless all are there.
    pub(crate) fn walk_lengths(&mut self, wanted: usize) -> Option<String> {
        let mut prefix = [0; 16];
        while self.offsets.len() < wanted {
            let at = u64::from(self.end);
            if at + prefix.len() as u64 > self.size {
                return Some("the file ends before it".into());
            }
            if let Err(error) = self.file.read_exact_at(&mut prefix, at) {
                return Some(error.to_string());
            }
            let length = match record_length(&prefix) {
                Ok(length) => length.unwrap_or(0) as u64,
                Err(malformed) => return Some(malformed.what),
            };
            if at + length > self.size {
                return Some("it ends behind the file".into());
            }
            self.offsets.push(at as u32);
            self.end = (at + length) as u32;
        }
        None
    }

    /// File offset of the next place, from `at` on, where a record may begin.
    pub(crate) fn find_magic(&self, mut at: u64) -> Result<Option<u64>, LedgerError> {
        let mut buffer = vec![0; 1 << 20];
        let magic = RECORD_MAGIC.as_slice();
        while at + magic.len() as u64 <= self.size {
            let count = buffer.len().min((self.size - at) as usize);
            self.file
                .read_exact_at(&mut buffer[..count], at)
                .map_err(|e| disk("read", &self.path, e))?;
            let found = buffer[..count].windows(magic.len()).position(|window| window == magic);
            if let Some(found) = found {
                return Ok(Some(at + found as u64));
            }
            // The next look begins where a magic may have been cut in two.
            at += (count - (magic.len() - 1)) as u64;
        }
        Ok(None)
    }

    /// Takes the file and its sidecar off the disk. Whoever reads it still can.
    pub(crate) fn remove(&self) -> Result<(), LedgerError> {
        std::fs::remove_file(&self.path).map_err(|e| disk("remove", &self.path, e))?;
        match std::fs::remove_file(self.sidecar()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk("remove", &self.sidecar(), error)),
            _ => Ok(()),
        }
    }

    fn sidecar(&self) -> PathBuf {
        self.path.with_extension("idx")
    }

    fn read_sidecar(&self, wanted: usize) -> Option<(Offsets, u32)> {
        let bytes = std::fs::read(self.sidecar()).ok()?;
        let (body, sum) = bytes.split_last_chunk::<32>()?;
        if Digest::of(body).0 != *sum {
            return None;
        }
        let mut input = Reader::new(body);
        if input.take(8).ok()? != INDEX_MAGIC || input.u64().ok()? != self.first {
            return None;
        }
        let end = input.u32().ok()?;
        let count = input.count(INDEX_RECORDS_MAX, 4).ok()?;
        let (mut offsets, mut last) = (Offsets::default(), 0);
        for _ in 0..count {
            let offset = input.u32().ok()?;
            if offset < last {
                return None;
            }
            offsets.push(offset);
            last = offset;
        }
        offsets.shrink_to_fit();
        (count > 0 && count == wanted && last < end && u64::from(end) <= self.size).then_some((offsets, end))
    }

    /// Writes the sidecar of a segment that takes no more records. Losing it costs a scan, so it is neither fsynced nor insisted on.
    fn write_sidecar(&self) {
        let mut out = Writer::with_capacity(self.offsets.len() * 4 + 64);
        out.raw(INDEX_MAGIC);
        out.u64(self.first);
        out.u32(self.end);
        out.u32(self.offsets.len() as u32);
        self.offsets.iter().for_each(|offset| out.u32(offset));
        let sum = Digest::of(out.as_slice());
        out.digest(&sum);
        let path = self.sidecar();
        if let Err(error) = std::fs::write(&path, out.into_bytes()) {
            tracing::warn!(path = %path.display(), "cannot write the index of a segment, the next start scans it: {error}");
        }
    }

    /// Offset behind the record at `index`.
    pub(crate) fn end_of(&self, index: usize) -> u32 {
        self.offsets.get(index + 1).unwrap_or(self.end)
    }

    /// Drops everything behind `end` and gives the file its size again, zero there.
    pub(crate) fn cut_tail(&self) -> Result<(), LedgerError> {
        self.file
            .set_len(u64::from(self.end))
            .map_err(|e| disk("truncate", &self.path, e))?;
        if rustix::fs::fallocate(&*self.file, rustix::fs::FallocateFlags::empty(), 0, self.size).is_err() {
            self.file.set_len(self.size).map_err(|e| disk("size", &self.path, e))?;
        }
        self.file.sync_all().map_err(|e| disk("fsync", &self.path, e))
    }
}

/// Gives a file of `from` bytes room for `size`, zero there. A file system without fallocate still takes the records; only the room is not
/// sure.
fn allocate(file: &File, path: &Path, from: u64, size: u64) -> Result<(), LedgerError> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), from, size - from) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOSPC) => Err(full(path.parent().unwrap_or(path), size - from)),
        Err(_) => file.set_len(size).map_err(|e| disk("size", path, e)),
    }
}

/// Refuses early, so that the last room on a disk stays for control records and for the databases.
pub(crate) fn check_room(directory: &Path, size: u64, reserve_bytes: u64) -> Result<(), LedgerError> {
    let free = rustix::fs::statvfs(directory).map_err(|e| disk("statvfs", directory, e))?;
    if free.f_bavail.saturating_mul(free.f_frsize) < size.saturating_add(reserve_bytes) {
        return Err(full(directory, size.saturating_add(reserve_bytes)));
    }
    Ok(())
}

pub(crate) fn full(directory: &Path, bytes_wanted: u64) -> LedgerError {
    LedgerError::Full {
        path: directory.display().to_string(),
        bytes_free: rustix::fs::statvfs(directory).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize)),
        bytes_wanted,
    }
}

fn header(namespace: &Digest, first: Height) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&first.to_le_bytes());
    bytes[24..56].copy_from_slice(&namespace.0);
    let sum = Digest::of(&bytes[..56]);
    bytes[56..].copy_from_slice(&sum.0[..8]);
    bytes
}

/// Makes names created in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), LedgerError> {
    let handle = File::open(directory).map_err(|e| disk("open", directory, e))?;
    handle.sync_all().map_err(|e| disk("fsync", directory, e))
}
