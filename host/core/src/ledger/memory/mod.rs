//! A ledger in memory: for the simulator and for tests. It keeps the bytes of a log with a synced length, so a crash loses exactly what a
//! disk may lose, with a torn tail where the seed says so.

mod archive;
mod crash;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::record::{
    Accumulator, ChainTip, Delta, Span, check_genesis, check_span, index_keys, namespace_digest, parse,
};
use crate::types::{Digest, Height, Namespace, Position};

use self::archive::{Floor, InMemory, Staged};
use self::crash::torn_tail;
use super::follow::{check_follows, coalesce, end_of};
use super::verify::{Chain, state_place, verify_chain};
use super::{BadPlace, Ledger, LedgerError, Place, Progress, Run, Tips, VerifyReport};

pub use self::crash::CrashReport;

/// One namespace's chain in memory.
pub struct MemoryLedger {
    namespace: Digest,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Records by height, as encoded; those below the history kept are empty.
    records: Vec<Bytes>,
    /// What the history kept begins with; none: genesis.
    floor: Option<Floor>,
    snapshot: Option<Arc<InMemory>>,
    snapshots: u64,
    staged: Option<Staged>,
    hashes: Vec<Digest>,
    durable: usize,
    applied: usize,
    tip: ChainTip,
    accumulator: Accumulator,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    state_applied: BTreeMap<Vec<u8>, Vec<u8>>,
    places: BTreeMap<[u8; 32], Place>,
    texts: BTreeMap<Digest, Height>,
    failed: Option<LedgerError>,
    fail_next_sync: bool,
    full: bool,
    syncs: u64,
}

impl MemoryLedger {
    /// A ledger that holds `genesis`, durable and applied.
    pub fn open(namespace: &Namespace, genesis: Bytes) -> Result<Self, LedgerError> {
        let namespace = namespace_digest(namespace);
        let span = check_genesis(&namespace, genesis)?;
        let (tip, expected) = end_of(&span)?;
        let mut inner = Inner::empty(tip);
        let accumulator = inner.accumulator_after(&coalesce(&span)?);
        if accumulator.digest() != expected {
            return Err(LedgerError::StateMismatch {
                height: 0,
                expected,
                found: accumulator.digest(),
            });
        }
        inner.push(&span, accumulator, tip)?;
        inner.state_applied = inner.state.clone();
        (inner.durable, inner.applied) = (0, 0);
        Ok(Self {
            namespace,
            inner: Mutex::new(inner),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panicking test is the only way to poison it; the data is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> Result<MutexGuard<'_, Inner>, LedgerError> {
        let inner = self.lock();
        match &inner.failed {
            Some(failed) => Err(failed.clone()),
            None => Ok(inner),
        }
    }

    /// Power is cut and the store opened again: what was not synced is gone. With a seed, some of it may survive, and the log may end in
    /// a torn record, which is cut. Sticky failures are gone too: it is a new start.
    pub fn crash(&self, torn_seed: Option<u64>) -> CrashReport {
        let mut inner = self.lock();
        let durable = inner.durable;
        let lost: Vec<Bytes> = inner.records.drain(durable + 1..).collect();
        let tail = torn_tail(&lost, torn_seed);
        inner.rebuild(&self.namespace, tail, lost.len() as u64)
    }

    /// The next `sync` fails as a broken disk does: nothing becomes durable, and the store stays failed until [`MemoryLedger::crash`].
    pub fn fail_next_sync(&self) {
        self.lock().fail_next_sync = true;
    }

    /// While set, `append` and `room` answer `Full`.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// How many syncs reached the disk.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// A sum of what is stored from height `from` on: two ledgers with equal fingerprints hold the same records there, states and positions.
    pub fn fingerprint(&self, from: Height) -> Digest {
        let inner = self.lock();
        let mut hasher = blake3::Hasher::new();
        for hash in inner.hashes.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            hasher.update(&hash.0);
        }
        hasher.update(&inner.accumulator.to_bytes());
        hasher.update(&(inner.durable as u64).to_le_bytes());
        hasher.update(&(inner.applied as u64).to_le_bytes());
        Digest(*hasher.finalize().as_bytes())
    }

    /// Flips one bit of a stored record, as a rotting disk does: for tests of `verify`.
    pub fn dangerous_flip_bit(&self, height: Height, bit: usize) {
        let mut inner = self.lock();
        if let Some(record) = inner.records.get_mut(height as usize) {
            let mut bytes = record.to_vec();
            let at = (bit / 8) % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
            *record = bytes.into();
        }
    }
}

impl Inner {
    fn room(&self, bytes_wanted: u64) -> Result<(), LedgerError> {
        if !self.full {
            return Ok(());
        }
        Err(LedgerError::Full {
            path: "memory".into(),
            bytes_free: 0,
            bytes_wanted,
        })
    }

    fn empty(tip: ChainTip) -> Self {
        Self {
            records: Vec::new(),
            floor: None,
            snapshot: None,
            snapshots: 0,
            staged: None,
            hashes: Vec::new(),
            durable: 0,
            applied: 0,
            tip,
            accumulator: Accumulator::new(),
            state: BTreeMap::new(),
            state_applied: BTreeMap::new(),
            places: BTreeMap::new(),
            texts: BTreeMap::new(),
            failed: None,
            fail_next_sync: false,
            full: false,
            syncs: 0,
        }
    }

    fn position(&self, height: usize) -> Position {
        Position {
            height: height as u64,
            hash: self.hashes.get(height).copied().unwrap_or(Digest::ZERO),
        }
    }

    fn appended(&self) -> Position {
        self.position(self.hashes.len().saturating_sub(1))
    }

    fn accumulator_after(&self, delta: &BTreeMap<&[u8], Option<&[u8]>>) -> Accumulator {
        let mut accumulator = self.accumulator.clone();
        for (key, value) in delta {
            accumulator.replace(key, self.state.get(*key).map(Vec::as_slice), *value);
        }
        accumulator
    }

    /// Takes a checked span in. `accumulator` and `tip` are those after it.
    fn push(&mut self, span: &Span, accumulator: Accumulator, tip: ChainTip) -> Result<(), LedgerError> {
        write_values(&mut self.state, &coalesce(span)?);
        let mut offset = 0;
        for record in span.records() {
            let height = record.header().height;
            self.records.push(span.bytes().slice(offset..offset + record.len()));
            self.hashes.push(record.hash());
            offset += record.len();
            let Ok(transactions) = record.transactions() else {
                continue;
            };
            for (index, transaction) in transactions.iter().enumerate() {
                if let Ok((hash, text)) = index_keys(transaction) {
                    self.places.entry(hash).or_insert(Place {
                        height,
                        index: index as u32,
                    });
                    self.texts.entry(text).or_insert(height);
                }
            }
        }
        (self.accumulator, self.tip) = (accumulator, tip);
        Ok(())
    }

    /// Starts again from the durable records and a tail that may be torn.
    fn rebuild(&mut self, namespace: &Digest, mut tail: Bytes, unsynced: u64) -> CrashReport {
        let records = std::mem::take(&mut self.records);
        let before = Inner {
            syncs: self.syncs,
            ..Inner::empty(self.tip)
        };
        let before = std::mem::replace(self, before);
        let from = self.restore(before, &records);
        for (height, record) in records.into_iter().enumerate().skip(from) {
            let span = if height == 0 {
                check_genesis(namespace, record)
            } else {
                check_span(namespace, self.appended(), record)
            };
            if span.is_err() || span.is_ok_and(|span| self.take(&span).is_err()) {
                self.failed = Some(LedgerError::corrupt("memory", format!("record {height}")));
                return CrashReport::default();
            }
        }
        let mut kept = 0;
        while let Ok(record) = parse(&tail) {
            let length = record.len();
            let Ok(span) = check_span(namespace, self.appended(), tail.slice(..length)) else {
                break;
            };
            if self.take(&span).is_err() {
                break;
            }
            kept += 1;
            tail = tail.slice(length..);
        }
        (self.durable, self.applied) = (self.hashes.len() - 1, self.hashes.len() - 1);
        self.state_applied = self.state.clone();
        CrashReport {
            records_lost: unsynced - kept,
            records_kept: kept,
            torn_bytes: tail.len(),
        }
    }

    fn take(&mut self, span: &Span) -> Result<(), LedgerError> {
        let (tip, expected) = end_of(span)?;
        let accumulator = self.accumulator_after(&coalesce(span)?);
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::SkippedStateCommitment) {
            return self.push(span, accumulator, tip);
        }
        if accumulator.digest() != expected {
            let found = accumulator.digest();
            return Err(LedgerError::StateMismatch {
                height: span.last().height,
                expected,
                found,
            });
        }
        self.push(span, accumulator, tip)
    }

    fn state_fault(&self, applied: usize) -> Option<BadPlace> {
        let mut sum = Accumulator::new();
        for (key, value) in &self.state_applied {
            sum.add(key, value);
        }
        let expected = parse(self.records.get(applied)?)
            .map(|r| r.header().state)
            .unwrap_or(Digest::ZERO);
        state_place(applied as u64, expected, sum.digest())
    }
}

fn write_values(state: &mut BTreeMap<Vec<u8>, Vec<u8>>, delta: &BTreeMap<&[u8], Option<&[u8]>>) {
    for (key, value) in delta {
        match value {
            Some(value) => state.insert(key.to_vec(), value.to_vec()),
            None => state.remove(*key),
        };
    }
}

impl Ledger for MemoryLedger {
    fn genesis(&self) -> Position {
        self.lock().position(0)
    }

    fn tips(&self) -> Tips {
        let inner = self.lock();
        Tips {
            appended: inner.appended(),
            durable: inner.position(inner.durable),
            applied: inner.position(inner.applied),
        }
    }

    fn history_from(&self) -> Height {
        self.lock().from()
    }

    fn append(&self, span: Span) -> Result<Position, LedgerError> {
        let mut inner = self.working()?;
        check_follows(&span, inner.appended(), &inner.tip)?;
        inner.room(span.bytes().len() as u64)?;
        inner.take(&span)?;
        Ok(inner.appended())
    }

    fn room(&self, bytes: u64) -> Result<(), LedgerError> {
        self.working()?.room(bytes.max(1))
    }

    fn sync(&self) -> Result<Position, LedgerError> {
        let mut inner = self.working()?;
        if std::mem::take(&mut inner.fail_next_sync) {
            let failed = LedgerError::disk("fdatasync", "memory", "planted failure");
            inner.failed = Some(failed.clone());
            return Err(failed);
        }
        inner.durable = inner.hashes.len() - 1;
        inner.syncs += 1;
        Ok(inner.position(inner.durable))
    }

    fn apply(&self) -> Result<Position, LedgerError> {
        let mut guard = self.working()?;
        let inner = &mut *guard;
        for record in &inner.records[inner.applied + 1..=inner.durable] {
            let parsed = parse(record).map_err(|e| LedgerError::corrupt("memory", e))?;
            let delta = parsed.delta().map_err(|e| LedgerError::corrupt("memory", e))?;
            let values: Result<BTreeMap<_, _>, _> = delta.iter().collect();
            write_values(
                &mut inner.state_applied,
                &values.map_err(|e| LedgerError::corrupt("memory", e))?,
            );
        }
        inner.applied = inner.durable;
        Ok(inner.position(inner.applied))
    }

    fn read(&self, first: Height, last: Height, bytes_max: usize) -> Result<Run, LedgerError> {
        let inner = self.working()?;
        let to = inner.durable as u64;
        #[cfg(feature = "planted-faults")]
        let to = if crate::planted::active(crate::planted::Fault::SentBeforeDurable) {
            inner.appended().height
        } else {
            to
        };
        let from = inner.from();
        if first > to || last < first || first < from {
            return Err(LedgerError::NotFound {
                height: first,
                from,
                to,
            });
        }
        let mut bytes = BytesMut::new();
        let mut height = first as usize;
        for record in &inner.records[first as usize..=last.min(to) as usize] {
            if !bytes.is_empty() && bytes.len() + record.len() > bytes_max {
                break;
            }
            bytes.extend_from_slice(record);
            height += 1;
        }
        Ok(Run {
            bytes: bytes.freeze(),
            first,
            last: inner.position(height - 1),
        })
    }

    fn hash_at(&self, height: Height) -> Result<Option<Digest>, LedgerError> {
        let inner = self.working()?;
        let known = height == 0 || height + 1 >= inner.from();
        Ok(usize::try_from(height)
            .ok()
            .filter(|_| known)
            .and_then(|h| inner.hashes.get(h).copied()))
    }

    fn record(&self, height: Height) -> Result<Option<Bytes>, LedgerError> {
        let inner = self.working()?;
        let (from, to) = (inner.from(), inner.durable as u64);
        if height < from {
            return Err(LedgerError::NotFound { height, from, to });
        }
        Ok(if height > inner.applied as u64 {
            None
        } else {
            inner.records.get(height as usize).cloned()
        })
    }

    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.working()?.state.get(key).cloned())
    }

    fn state_applied(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.working()?.state_applied.get(key).cloned())
    }

    fn commitment_after(&self, delta: &Delta) -> Result<Digest, LedgerError> {
        let inner = self.working()?;
        let delta = delta
            .0
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
            .collect();
        Ok(inner.accumulator_after(&delta).digest())
    }

    fn find_transaction(&self, hash: &[u8; 32]) -> Result<Option<Place>, LedgerError> {
        Ok(self.working()?.places.get(hash).copied())
    }

    fn knows_text(&self, digest: &Digest) -> Result<bool, LedgerError> {
        Ok(self.working()?.texts.contains_key(digest))
    }

    fn verify(&self, from: Height, to: Height, progress: Progress<'_>) -> Result<VerifyReport, LedgerError> {
        let (from, below, durable, applied, state_fault) = {
            let inner = self.working()?;
            let from = from.max(inner.from());
            let below = from.checked_sub(1).map(|below| inner.position(below as usize));
            (
                from,
                below,
                inner.durable as u64,
                inner.applied,
                inner.state_fault(inner.applied),
            )
        };
        let mut read = |first: Height, last: Height, bytes_max: usize| {
            let inner = self.working()?;
            let mut bytes = BytesMut::new();
            let mut height = first;
            for record in &inner.records[first as usize..=last as usize] {
                bytes.extend_from_slice(record);
                height += 1;
                if bytes.len() >= bytes_max {
                    break;
                }
            }
            Ok((bytes.freeze(), height - 1))
        };
        let chain = Chain {
            namespace: self.namespace,
            below,
            from,
            to: to.min(durable),
            read: &mut read,
        };
        let chain = verify_chain(chain, progress)?;
        let state_checked = to >= applied as u64;
        let first_bad = chain.first_bad.or(if state_checked { state_fault } else { None });
        Ok(VerifyReport {
            checked: chain.checked,
            first_bad,
            state_checked,
            state_chain_checked: chain.state_chain_checked,
        })
    }

    fn close(&self) -> Result<(), LedgerError> {
        self.apply().map(drop)
    }
}
