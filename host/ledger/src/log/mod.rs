//! The log of one namespace: segments in order, appended at the end, read anywhere.

mod history;
mod inspect;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cvp_core::ledger::LedgerError;
use cvp_core::record::{BadPart, BadRecord, RECORD_BYTES_MAX, check_genesis, check_span, parse, record_length};
use cvp_core::types::{Digest, Height, Position, Slab};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::base::Base;
use crate::offsets::Offsets;
use crate::options::StoreOptions;
use crate::segment::{HEADER_BYTES, MAKING, Segment, check_room, sync_directory};

pub(crate) use history::write_segment;
pub(crate) use inspect::End;

/// Room of a chain's first segment: a node with a hundred namespaces of a few blocks holds some hundred megabytes.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;
/// A run this long is one of many: the newest segment grows under such runs, for a roll costs a handful of fsyncs.
const BULK_BYTES: u64 = 256 << 10;
/// How far it grows.
const GROWN_SEGMENT_BYTES: u64 = 64 << 20;

/// Fewer bytes are cheap to take anew.
const LONG_RUN_BYTES: usize = 256 << 10;

/// The log. Appends need `&mut`; reads take what they need in one short look and read the file without it.
pub(crate) struct Log {
    directory: PathBuf,
    namespace: Digest,
    /// Where the history begins.
    base: Base,
    segment_bytes: u64,
    segments: Vec<Segment>,
    /// Room that stays free on the file system, bytes.
    reserve_bytes: u64,
    /// Whether the newest segment was written since the last [`Log::take_dirty`].
    dirty: bool,
}

/// Where bytes of consecutive records lie in one file.
pub(crate) struct Place {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) length: usize,
    pub(crate) last: Height,
}

impl Place {
    pub(crate) fn read(&self) -> Result<Bytes, LedgerError> {
        let mut bytes = BytesMut::zeroed(self.length);
        self.fill(&mut bytes)?;
        Ok(bytes.freeze())
    }

    /// As [`Place::read`]; a long run is read into a buffer that comes back, for those who stream.
    pub(crate) fn read_run(&self, runs: &Slab) -> Result<Bytes, LedgerError> {
        if self.length < LONG_RUN_BYTES {
            return self.read();
        }
        let mut buffer = runs.take(self.length);
        // What it held before is overwritten.
        buffer.resize(self.length, 0);
        self.fill(&mut buffer)?;
        Ok(runs.lend(buffer))
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), LedgerError> {
        self.file
            .read_exact_at(bytes, self.offset)
            .map_err(|e| LedgerError::disk("read", self.path.display(), e))
    }
}

impl Log {
    /// Opens the log in `directory`, making it with `genesis` as its only record when there is none. The newest segment is checked
    /// record by record; what is torn behind `applied` (the highest record the databases have seen) is cut, what is bad at or below it
    /// is damage. Answers the log and the position of its last record.
    pub(crate) fn open(
        directory: &Path,
        (namespace, base): (Digest, Base),
        genesis: &Bytes,
        options: &StoreOptions,
        applied: Option<Height>,
    ) -> Result<(Self, Position), LedgerError> {
        let disk = |operation, e: std::io::Error| LedgerError::disk(operation, directory.display(), e);
        std::fs::create_dir_all(directory).map_err(|e| disk("create", e))?;
        if let Some(parent) = directory.parent() {
            sync_directory(parent)?;
        }
        let (paths, making) = list(directory)?;
        // A crash came while a segment was being made; nothing is in it.
        for path in making {
            std::fs::remove_file(&path).map_err(|e| disk("remove", e))?;
        }
        let mut log = Self {
            directory: directory.to_owned(),
            namespace,
            base,
            segment_bytes: options.segment_bytes.clamp(1 << 20, 1 << 31),
            segments: Vec::new(),
            reserve_bytes: options.reserve_bytes,
            dirty: false,
        };
        for path in &paths {
            let segment = Segment::open(path, &namespace, true)?;
            // Pruned, or put before the history, when a crash came.
            if segment.first < base.history_from() {
                segment.remove()?;
            } else {
                log.segments.push(segment);
            }
        }
        log.load(genesis, applied)
    }

    /// Height of the last record.
    fn last(&self) -> Option<Height> {
        self.segments.last().and_then(|newest| newest.next().checked_sub(1))
    }

    fn load(mut self, genesis: &Bytes, applied: Option<Height>) -> Result<(Self, Position), LedgerError> {
        let starts: Vec<Height> = self.segments.iter().map(|s| s.first).collect();
        for (segment, next) in self.segments.iter_mut().zip(starts.iter().skip(1)) {
            segment.load_sealed(*next)?;
        }
        let from = self.base.history_from();
        let begins = starts.first().is_none_or(|first| *first == from);
        if !begins || (starts.is_empty() && (applied.is_some() || from > 0)) {
            let what = "the first segment is missing, but there are blocks above it";
            return Err(LedgerError::corrupt(self.directory.display(), what));
        }
        if from == 0 && applied.is_none() && self.holds_nothing(genesis)? {
            self.begin(genesis)?;
        }
        let tip = self.scan_newest(genesis, applied)?;
        Ok((self, tip))
    }

    /// Whether this is a first start, or the first start was cut short while it wrote genesis.
    fn holds_nothing(&self, genesis: &Bytes) -> Result<bool, LedgerError> {
        let [only] = self.segments.as_slice() else {
            return Ok(self.segments.is_empty());
        };
        let whole = read_record(only, HEADER_BYTES)?.is_some_and(|b| check_genesis(&self.namespace, b).is_ok());
        Ok(!whole && !has_bytes_behind(only, HEADER_BYTES + genesis.len() as u64)?)
    }

    /// Writes genesis into the first segment, durably.
    fn begin(&mut self, genesis: &Bytes) -> Result<(), LedgerError> {
        check_genesis(&self.namespace, genesis.clone())?;
        self.append(&[genesis.len()], 0, genesis)?;
        self.sync_dirty()?;
        // The scan that follows finds it again, as after any start.
        let segment = self.segments.last_mut();
        if let Some(segment) = segment {
            segment.offsets = Offsets::default();
            segment.end = HEADER_BYTES as u32;
        }
        Ok(())
    }

    /// Checks the newest segment's records one by one and cuts a torn tail.
    fn scan_newest(&mut self, genesis: &Bytes, applied: Option<Height>) -> Result<Position, LedgerError> {
        let first = self.segments.last().map_or(0, |s| s.first);
        let mut tip = if first == 0 {
            None
        } else {
            Some(self.position_of(first - 1)?)
        };
        let Some(segment) = self.segments.last_mut() else {
            return Err(LedgerError::corrupt(self.directory.display(), "there is no segment"));
        };
        let mut at = HEADER_BYTES;
        let torn = loop {
            let height = tip.map_or(0, |t| t.height + 1);
            match read_record(segment, at) {
                Err(error) => return Err(error),
                Ok(None) => break format!("record {height} header: no whole record"),
                Ok(Some(bytes)) => {
                    let length = bytes.len() as u64;
                    let checked = match tip {
                        None => check_genesis(&self.namespace, bytes),
                        Some(parent) => check_span(&self.namespace, parent, bytes),
                    };
                    match checked {
                        Err(bad) => break bad.to_string(),
                        Ok(span) => tip = Some(span.last()),
                    }
                    segment.offsets.push(at as u32);
                    at += length;
                    segment.end = at as u32;
                }
            }
        };
        let reached = tip.map(|t| t.height);
        if applied > reached || reached.is_none() {
            return Err(LedgerError::corrupt(segment.path.display(), torn));
        }
        if has_bytes_behind(segment, u64::from(segment.end))? {
            tracing::warn!(segment = %segment.path.display(), end = segment.end, "cut the torn tail of the log: {torn}");
            segment.cut_tail()?;
        }
        // What a crash left of unsynced records is counted as durable from here on, so it must be.
        segment
            .file
            .sync_data()
            .map_err(|e| LedgerError::disk("fdatasync", segment.path.display(), e))?;
        let tip = tip.ok_or_else(|| LedgerError::corrupt(segment.path.display(), "no genesis record"))?;
        let own = parse(genesis)
            .map_err(|e| LedgerError::corrupt("genesis", e.what))?
            .hash();
        let found = match self.base.below {
            None => self.position_of(0)?.hash,
            Some(_) => self.base.genesis,
        };
        if own != found {
            return Err(LedgerError::Diverged {
                height: 0,
                ours: found,
                theirs: own,
            });
        }
        Ok(tip)
    }

    /// Appends records of the given lengths, the first at `first`: one write into one segment, all of them or none. No fsync.
    pub(crate) fn append(&mut self, lengths: &[usize], first: Height, bytes: &[u8]) -> Result<(), LedgerError> {
        self.make_room(bytes.len() as u64, first)?;
        let Some(segment) = self.segments.last_mut() else {
            return Err(LedgerError::corrupt(self.directory.display(), "there is no segment"));
        };
        segment.fill(lengths, bytes)?;
        self.dirty = true;
        Ok(())
    }

    /// Grows the newest segment, or rolls to a new one, when `length` bytes do not fit. An old one is made durable first.
    fn make_room(&mut self, length: u64, height: Height) -> Result<(), LedgerError> {
        let grown_max = GROWN_SEGMENT_BYTES.min(self.segment_bytes);
        if let Some(newest) = self.segments.last_mut() {
            let wanted = u64::from(newest.end) + length;
            if wanted <= newest.size {
                return Ok(());
            }
            if length >= BULK_BYTES && wanted <= grown_max {
                // On a disk that is nearly full what is needed will do, and a roll where not even that is there: it says what is missing.
                for size in [(newest.size * 2).clamp(wanted, grown_max), wanted] {
                    if check_room(&self.directory, size - newest.size, self.reserve_bytes).is_ok() {
                        return newest.grow(size);
                    }
                }
            }
        }
        let size = self.next_size().max(HEADER_BYTES + length);
        if size > u64::from(u32::MAX) {
            return Err(LedgerError::Refused(BadRecord {
                height,
                part: BadPart::Header,
                reason: format!("a span of {length} bytes is larger than any segment"),
            }));
        }
        check_room(&self.directory, size, self.reserve_bytes)?;
        if let Some(sealed) = self.segments.last_mut() {
            sealed.seal()?;
        }
        let new = Segment::create(&self.directory, &self.namespace, height, size)?;
        self.segments.push(new);
        Ok(())
    }

    /// What the next segment is given: as much as all before it, so that a short chain holds little of the disk and a long one few files.
    fn next_size(&self) -> u64 {
        let used: u64 = self.segments.iter().map(|segment| u64::from(segment.end)).sum();
        used.max(FIRST_SEGMENT_BYTES).min(self.segment_bytes)
    }

    /// Whether one more segment would fit, or `bytes` where that is more, and leave the reserve.
    pub(crate) fn room(&self, bytes: u64) -> Result<(), LedgerError> {
        check_room(&self.directory, self.next_size().max(bytes), self.reserve_bytes)
    }

    /// The file to fsync so that all that was appended is durable: what lies in older segments is already.
    pub(crate) fn take_dirty(&mut self) -> Option<(Arc<File>, PathBuf)> {
        let newest = self.segments.last().filter(|_| self.dirty);
        self.dirty = false;
        newest.map(|segment| (segment.file.clone(), segment.path.clone()))
    }

    #[cfg(test)]
    pub(crate) fn dangerous_replace_file(&mut self, file: File) {
        if let Some(newest) = self.segments.last_mut() {
            newest.file = Arc::new(file);
        }
    }

    fn sync_dirty(&mut self) -> Result<(), LedgerError> {
        let Some((file, path)) = self.take_dirty() else {
            return Ok(());
        };
        file.sync_data()
            .map_err(|e| LedgerError::disk("fdatasync", path.display(), e))
    }

    fn segment_of(&self, height: Height) -> Option<&Segment> {
        let at = self.segments.partition_point(|s| s.first <= height);
        self.segments.get(at.checked_sub(1)?).filter(|s| height < s.next())
    }

    /// Where whole records from `first` lie: up to `last`, about `bytes_max` bytes, at least one, within one segment. A short rest of a segment
    /// comes along: a run of its own costs as much as a long one.
    pub(crate) fn place(&self, first: Height, last: Height, bytes_max: usize) -> Option<Place> {
        let segment = self.segment_of(first)?;
        let from = (first - segment.first) as usize;
        let until = (last.min(segment.next() - 1) - segment.first) as usize;
        let offset = segment.offsets.get(from)?;
        let limit = u64::from(offset) + bytes_max as u64;
        let mut to = from;
        let (mut low, mut high) = (from, until);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if u64::from(segment.end_of(middle)) <= limit {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        to = to.max(low);
        if u64::from(segment.end_of(until)) <= limit.saturating_add(bytes_max as u64 / 4) {
            to = until;
        }
        Some(Place {
            file: segment.file.clone(),
            path: segment.path.clone(),
            offset: u64::from(offset),
            length: (segment.end_of(to) - offset) as usize,
            last: segment.first + to as u64,
        })
    }

    /// Position of the record at `height`, read from its header.
    pub(crate) fn position_of(&self, height: Height) -> Result<Position, LedgerError> {
        // Its record is not kept, its hash is.
        if let Some(below) = self.base.below.filter(|below| below.height == height) {
            return Ok(below);
        }
        let missing = || LedgerError::corrupt(self.directory.display(), format!("record {height} is missing"));
        let bytes = self
            .place(height, height, RECORD_BYTES_MAX)
            .ok_or_else(missing)?
            .read()?;
        let record = parse(&bytes).map_err(|e| LedgerError::corrupt(self.directory.display(), e.what))?;
        Ok(record.position())
    }
}

/// Segments in `directory` in order, and segments that were being made.
fn list(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), LedgerError> {
    let disk = |e: std::io::Error| LedgerError::disk("list", directory.display(), e);
    let (mut segments, mut making) = (Vec::new(), Vec::new());
    let entries = match std::fs::read_dir(directory) {
        // A node that was never started.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((segments, making)),
        entries => entries.map_err(disk)?,
    };
    for entry in entries {
        let path = entry.map_err(disk)?.path();
        match path.extension() {
            Some(extension) if extension == "seg" => segments.push(path),
            Some(extension) if extension == MAKING => making.push(path),
            _ => {}
        }
    }
    segments.sort();
    Ok((segments, making))
}

/// The record at file offset `at`, or none when what stands there is not a whole one.
fn read_record(segment: &Segment, at: u64) -> Result<Option<Bytes>, LedgerError> {
    let mut prefix = [0; 16];
    if at + 16 > segment.size {
        return Ok(None);
    }
    let disk = |e: std::io::Error| LedgerError::disk("read", segment.path.display(), e);
    segment.file.read_exact_at(&mut prefix, at).map_err(disk)?;
    let Ok(Some(length)) = record_length(&prefix) else {
        return Ok(None);
    };
    if at + length as u64 > segment.size {
        return Ok(None);
    }
    let mut bytes = BytesMut::zeroed(length);
    segment.file.read_exact_at(&mut bytes, at).map_err(disk)?;
    Ok(Some(bytes.freeze()))
}

/// Whether anything but zeros stands from file offset `at` on. Room that nothing was written to is not read: it would lie in the page cache
/// page by page, and what is written there later would go the same way.
fn has_bytes_behind(segment: &Segment, mut at: u64) -> Result<bool, LedgerError> {
    let mut buffer = vec![0; 1 << 20];
    while at < segment.size {
        // A file system that cannot tell has data everywhere.
        let data = match seek(&*segment.file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(false),
            found => found.unwrap_or(at).max(at),
        };
        let hole = seek(&*segment.file, SeekFrom::Hole(data)).unwrap_or(segment.size);
        at = data;
        let count = buffer.len().min(hole.min(segment.size).saturating_sub(at) as usize);
        if count == 0 {
            return Ok(false);
        }
        segment
            .file
            .read_exact_at(&mut buffer[..count], at)
            .map_err(|e| LedgerError::disk("read", segment.path.display(), e))?;
        if buffer[..count].iter().any(|b| *b != 0) {
            return Ok(true);
        }
        at += count as u64;
    }
    Ok(false)
}

/// Hash of the last of the records in `bytes`.
pub(crate) fn last_hash(bytes: &[u8], first: Height, last: Height) -> Option<Digest> {
    let mut rest = bytes;
    for _ in first..last {
        let length = record_length(rest).ok()??;
        rest = rest.get(length..)?;
    }
    Some(parse(rest).ok()?.hash())
}
