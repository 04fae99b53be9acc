//! History and state as a whole, in memory: what is kept, and snapshots out and in.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::record::{Accumulator, ChainTip, HEADER_REGION, RecordRef, index_keys, parse};
use crate::types::{Digest, Height, Malformed, Position, Reader, UnixNanos, Writer};

use super::super::archive::{
    Archive, HEADERS_MAX, Kept, Manifest, Snapshot, SnapshotFile, bad_state, check_below, check_manifest,
};
use super::super::{LedgerError, Place, Run};
use super::{Inner, MemoryLedger};

/// Bytes of a key or a value in a snapshot at most.
const ITEM_BYTES_MAX: usize = 1 << 20;

/// What a ledger knows at the record from which on a crash replays it.
#[derive(Clone)]
pub(super) struct Floor {
    /// Replayed is what is above this height.
    height: usize,
    /// Lowest height whose record is kept: the floor's own after a snapshot, the next one after a pruning.
    from: u64,
    /// Time of the first record whose transactions are known, after a snapshot.
    known_since: UnixNanos,
    hashes: Vec<Digest>,
    tip: ChainTip,
    accumulator: Accumulator,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    places: BTreeMap<[u8; 32], Place>,
    texts: BTreeMap<Digest, Height>,
}

/// A snapshot in memory: one file of keys and values.
pub(super) struct InMemory {
    manifest: Manifest,
    file: Bytes,
}

/// A snapshot that is taken in.
pub(super) struct Staged {
    manifest: Manifest,
    bytes: BytesMut,
    durable: usize,
}

impl Snapshot for InMemory {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn fill(&self, offset: u64, out: &mut [u8]) -> Result<(), LedgerError> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let wanted = self.file.get(from..from.saturating_add(out.len()));
        out.copy_from_slice(wanted.ok_or_else(|| order("bytes behind the end of a snapshot"))?);
        Ok(())
    }
}

impl Inner {
    pub(super) fn from(&self) -> Height {
        self.floor.as_ref().map_or(0, |floor| floor.from)
    }

    /// Takes from the ledger before a crash what it kept durably beside its records; answers the height to replay from.
    pub(super) fn restore(&mut self, before: Inner, records: &[Bytes]) -> usize {
        (self.snapshot, self.snapshots) = (before.snapshot, before.snapshots);
        self.staged = before.staged.map(|mut staged| {
            staged.bytes.truncate(staged.durable);
            staged
        });
        let Some(floor) = before.floor else { return 0 };
        let height = floor.height;
        self.stand_on(floor);
        // A snapshot's own record, and what was put before it.
        self.records.clone_from_slice(&records[..=height]);
        height + 1
    }

    fn stand_on(&mut self, floor: Floor) {
        let genesis = self.records.first().cloned().unwrap_or_default();
        self.records = vec![Bytes::new(); floor.height + 1];
        self.records[0] = genesis;
        self.hashes = floor.hashes.clone();
        (self.tip, self.accumulator) = (floor.tip, floor.accumulator.clone());
        self.state = floor.state.clone();
        self.state_applied = floor.state.clone();
        (self.places, self.texts) = (floor.places.clone(), floor.texts.clone());
        (self.durable, self.applied) = (floor.height, floor.height);
        self.floor = Some(floor);
    }

    /// Moves the floor up to `height`, whose record goes, too.
    fn raise(&mut self, height: usize) -> Result<(), LedgerError> {
        let corrupt = |e: Malformed| LedgerError::corrupt("memory", e);
        let mut floor = match self.floor.take() {
            Some(floor) => floor,
            None => Floor {
                height: 0,
                from: 0,
                known_since: 0,
                hashes: Vec::new(),
                tip: ChainTip::of(&parse(&self.records[0]).map_err(corrupt)?),
                accumulator: Accumulator::new(),
                state: BTreeMap::new(),
                places: BTreeMap::new(),
                texts: BTreeMap::new(),
            },
        };
        let first = if floor.hashes.is_empty() { 0 } else { floor.height + 1 };
        for at in first..=height {
            let record = parse(&self.records[at]).map_err(corrupt)?;
            let values: Result<BTreeMap<_, _>, _> = record.delta().map_err(corrupt)?.iter().collect();
            for (key, value) in values.map_err(corrupt)? {
                floor
                    .accumulator
                    .replace(key, floor.state.get(key).map(Vec::as_slice), value);
                match value {
                    Some(value) => drop(floor.state.insert(key.to_vec(), value.to_vec())),
                    None => drop(floor.state.remove(key)),
                }
            }
            floor.tip = ChainTip::of(&record);
        }
        let below = |place: &Place| place.height <= height as u64;
        floor.places = self
            .places
            .iter()
            .filter(|(_, at)| below(at))
            .map(|(k, v)| (*k, *v))
            .collect();
        floor.texts = self
            .texts
            .iter()
            .filter(|(_, at)| **at <= height as u64)
            .map(|(k, v)| (*k, *v))
            .collect();
        floor.hashes = self.hashes[..=height].to_vec();
        (floor.height, floor.from) = (height, height as u64 + 1);
        // Genesis stays: every node has it.
        self.records[1..=height]
            .iter_mut()
            .for_each(|record| *record = Bytes::new());
        self.floor = Some(floor);
        Ok(())
    }

    fn staged_mut(&mut self) -> Result<&mut Staged, LedgerError> {
        self.staged.as_mut().ok_or_else(|| order("no snapshot is staged"))
    }
}

impl Archive for MemoryLedger {
    fn kept(&self) -> Kept {
        let inner = self.lock();
        let sizes = inner.state_applied.iter().map(|(key, value)| key.len() + value.len());
        Kept {
            history_from: inner.from(),
            log_bytes: inner
                .records
                .iter()
                .skip(inner.from() as usize)
                .map(|record| record.len() as u64)
                .sum(),
            state_bytes: sizes.sum::<usize>() as u64,
        }
    }

    fn known_since(&self) -> UnixNanos {
        self.lock().floor.as_ref().map_or(0, |floor| floor.known_since)
    }

    fn bytes_above(&self, height: Height) -> u64 {
        let inner = self.lock();
        let from = usize::try_from(height).unwrap_or(usize::MAX).saturating_add(1);
        inner.records.iter().skip(from).map(|record| record.len() as u64).sum()
    }

    /// A segment is one record here.
    fn prune(&self, below: Height) -> Result<Height, LedgerError> {
        let mut inner = self.working()?;
        let below = below.min(inner.applied as u64);
        let above_floor = inner.floor.as_ref().is_none_or(|floor| below > floor.height as u64 + 1);
        if below > inner.from() && above_floor {
            inner.raise(below as usize - 1)?;
        }
        Ok(inner.from())
    }

    fn make_snapshot(&self) -> Result<Arc<dyn Snapshot>, LedgerError> {
        let mut inner = self.working()?;
        let mut file = Writer::new();
        for (key, value) in &inner.state_applied {
            file.bytes(key);
            file.bytes(value);
        }
        let at = inner.position(inner.applied);
        inner.snapshots += 1;
        let file: Bytes = file.into_bytes().into();
        let manifest = Manifest {
            nonce: inner.snapshots,
            at,
            record: inner.records[inner.applied].clone(),
            files: vec![SnapshotFile {
                name: "000001.sst".to_owned(),
                bytes: file.len() as u64,
            }],
        };
        let made = Arc::new(InMemory { manifest, file });
        inner.snapshot = Some(Arc::clone(&made));
        Ok(made)
    }

    fn snapshot(&self) -> Option<Arc<dyn Snapshot>> {
        self.lock().snapshot.clone().map(|made| made as Arc<dyn Snapshot>)
    }

    fn drop_snapshot(&self) {
        self.lock().snapshot = None;
    }

    fn stage(&self, manifest: &Manifest) -> Result<u64, LedgerError> {
        let mut inner = self.working()?;
        check_manifest(&self.namespace, manifest)?;
        if manifest.at.height <= inner.appended().height {
            return Err(bad_state(manifest.at.height, "a snapshot at or below the own tip"));
        }
        if let Some(staged) = inner.staged.as_mut().filter(|staged| staged.manifest == *manifest) {
            staged.bytes.truncate(staged.durable);
            return Ok(staged.durable as u64);
        }
        inner.room(manifest.bytes())?;
        inner.staged = Some(Staged {
            manifest: manifest.clone(),
            bytes: BytesMut::new(),
            durable: 0,
        });
        Ok(0)
    }

    fn staged(&self) -> Option<(Manifest, u64)> {
        let inner = self.lock();
        inner
            .staged
            .as_ref()
            .map(|staged| (staged.manifest.clone(), staged.durable as u64))
    }

    fn write_staged(&self, offset: u64, bytes: &[u8]) -> Result<(), LedgerError> {
        let mut inner = self.working()?;
        let staged = inner.staged_mut()?;
        let room = staged.manifest.bytes().saturating_sub(offset);
        if offset != staged.bytes.len() as u64 || room < bytes.len() as u64 {
            return Err(order("bytes of a snapshot that do not follow"));
        }
        staged.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync_staged(&self) -> Result<u64, LedgerError> {
        let mut inner = self.working()?;
        let staged = inner.staged_mut()?;
        staged.durable = staged.bytes.len();
        Ok(staged.durable as u64)
    }

    fn adopt(&self) -> Result<Position, LedgerError> {
        let mut inner = self.working()?;
        let staged = inner.staged_mut()?;
        if (staged.durable as u64) < staged.manifest.bytes() {
            return Err(order("the snapshot is not whole"));
        }
        inner.room(1)?;
        let Some(staged) = inner.staged.take() else {
            return Err(order("no snapshot is staged"));
        };
        let (at, height) = (staged.manifest.at, staged.manifest.at.height as usize);
        let span = check_manifest(&self.namespace, &staged.manifest)?;
        let state = read_state(&staged.bytes).map_err(|e| bad_state(at.height, e.what))?;
        let mut sum = Accumulator::new();
        state.iter().for_each(|(key, value)| sum.add(key, value));
        let Some(record) = span.records().last() else {
            return Err(bad_state(at.height, "no record"));
        };
        #[cfg(feature = "planted-faults")]
        let trusted = crate::planted::active(crate::planted::Fault::SkippedStateCommitment)
            || crate::planted::active(crate::planted::Fault::ChunkNotChecked);
        #[cfg(not(feature = "planted-faults"))]
        let trusted = false;
        if sum.digest() != record.header().state && !trusted {
            return Err(LedgerError::StateMismatch {
                height: at.height,
                expected: record.header().state,
                found: sum.digest(),
            });
        }
        if at.height <= inner.appended().height {
            return Err(bad_state(at.height, "the chain here has grown past it"));
        }
        let mut hashes = vec![Digest::ZERO; height + 1];
        hashes[0] = inner.position(0).hash;
        (hashes[height - 1], hashes[height]) = (span.parent(), at.hash);
        let (places, texts) = index_of(&record);
        let floor = Floor {
            height,
            // Right above genesis nothing is missing.
            from: if height == 1 { 0 } else { at.height },
            known_since: if height == 1 { 0 } else { record.header().time },
            hashes,
            tip: ChainTip::of(&record),
            accumulator: sum,
            state,
            places,
            texts,
        };
        inner.stand_on(floor);
        inner.records[height] = staged.manifest.record.clone();
        Ok(at)
    }

    fn drop_staged(&self) -> Result<(), LedgerError> {
        self.working()?.staged = None;
        Ok(())
    }

    fn read_back(&self, last: Height, bytes_max: usize) -> Result<Run, LedgerError> {
        let inner = self.working()?;
        let (from, to) = (inner.from(), inner.durable as u64);
        if last < from || last > to {
            return Err(LedgerError::NotFound { height: last, from, to });
        }
        let (mut first, mut length) = (last, inner.records[last as usize].len());
        while first > from && length + inner.records[first as usize - 1].len() <= bytes_max {
            first -= 1;
            length += inner.records[first as usize].len();
        }
        let mut bytes = BytesMut::with_capacity(length);
        for record in &inner.records[first as usize..=last as usize] {
            bytes.extend_from_slice(record);
        }
        Ok(Run {
            bytes: bytes.freeze(),
            first,
            last: inner.position(last as usize),
        })
    }

    fn headers(&self, first: Height, last: Height) -> Result<Bytes, LedgerError> {
        let inner = self.working()?;
        let (from, to) = (inner.from(), inner.durable as u64);
        let last = last.min(to).min(first.saturating_add(HEADERS_MAX - 1));
        if first < from || first > last {
            return Err(LedgerError::NotFound {
                height: first,
                from,
                to,
            });
        }
        let mut bytes = BytesMut::new();
        for record in &inner.records[first as usize..=last as usize] {
            bytes.extend_from_slice(&record[HEADER_REGION]);
        }
        Ok(bytes.freeze())
    }

    fn prepend(&self, records: Bytes) -> Result<Height, LedgerError> {
        let mut guard = self.working()?;
        guard.room(1)?;
        let inner = &mut *guard;
        let Some(floor) = inner.floor.as_mut().filter(|floor| floor.from > 0) else {
            return Err(order("the whole history is here"));
        };
        let height = floor.from as usize - 1;
        let below = Position {
            height: height as u64,
            hash: floor.hashes[height],
        };
        let span = check_below(&self.namespace, &floor.hashes[0], below, records)?;
        let mut offset = 0;
        for record in span.records() {
            let height = record.header().height as usize;
            inner.records[height] = span.bytes().slice(offset..offset + record.len());
            offset += record.len();
            let (places, texts) = index_of(&record);
            floor.places.extend(places.clone());
            floor.texts.extend(texts.clone());
            inner.places.extend(places);
            inner.texts.extend(texts);
            (inner.hashes[height], floor.hashes[height]) = (record.hash(), record.hash());
        }
        let parent = span.parent_position();
        let at = parent.height as usize;
        (inner.hashes[at], floor.hashes[at]) = (parent.hash, parent.hash);
        floor.from = if span.first() == 1 { 0 } else { span.first() };
        let first = span.records().next().map_or(0, |record| record.header().time);
        floor.known_since = if floor.from == 0 { 0 } else { first };
        Ok(floor.from)
    }
}

/// Where a record's transactions are.
fn index_of(record: &RecordRef<'_>) -> (BTreeMap<[u8; 32], Place>, BTreeMap<Digest, Height>) {
    let (mut places, mut texts) = (BTreeMap::new(), BTreeMap::new());
    let height = record.header().height;
    let Ok(transactions) = record.transactions() else {
        return (places, texts);
    };
    for (index, transaction) in (0..).zip(transactions.iter()) {
        if let Ok((hash, text)) = index_keys(transaction) {
            places.insert(hash, Place { height, index });
            texts.insert(text, height);
        }
    }
    (places, texts)
}

fn read_state(bytes: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Malformed> {
    let mut input = Reader::new(bytes);
    let mut state = BTreeMap::new();
    while input.remaining() > 0 {
        let key = input.bytes(ITEM_BYTES_MAX)?.to_vec();
        state.insert(key, input.bytes(ITEM_BYTES_MAX)?.to_vec());
    }
    Ok(state)
}

fn order(what: &str) -> LedgerError {
    LedgerError::Order { what: what.to_owned() }
}
