//! [`Store`]: core's trait `Ledger` over the log and the databases.
//!
//! Locks, outermost first: `staging`, `history_lock`, `append_lock`, `apply_lock`, `sync_lock` (each serialises its calls), then `inner` (short
//! looks). The databases are read without a lock; a reader looks at the pending changes first, which leave only after the databases hold
//! them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cvp_core::ledger::{Ledger, LedgerError, Place, Progress, Run, Tips, VerifyReport, check_follows, end_of};
use cvp_core::record::{Accumulator, BadPart, BadRecord, ChainTip, Delta, PartKind, RECORD_BYTES_MAX, Span, parse};
use cvp_core::types::{Digest, Height, Position};
use parking_lot::{Mutex, RwLock};

use crate::databases::{Databases, Entries, Marker};
use crate::elements::Elements;
use crate::log::{Log, last_hash};
use crate::options::StoreOptions;
use crate::pending::{Pending, PendingSpan};
use crate::ring::Ring;
use crate::snapshot::Shipped;
use crate::staging::Staging;
use crate::verify::Stored;

/// Log bytes of the spans that one apply writes in one batch: one span at least.
const APPLY_BYTES_MAX: u64 = 8 << 20;

pub(crate) struct Inner {
    pub(crate) log: Log,
    pub(crate) ring: Ring,
    pub(crate) pending: Pending,
    pub(crate) tips: Tips,
    pub(crate) tip: ChainTip,
    pub(crate) accumulator: Accumulator,
    pub(crate) prepared: Option<Prepared>,
    pub(crate) failed: Option<LedgerError>,
}

/// Accumulator of the last [`Ledger::commitment_after`], so that the maker's own append does not compute it again.
pub(crate) struct Prepared {
    /// The tip it was computed on.
    below: Position,
    /// Digest of the encoded delta it was computed for.
    delta: Digest,
    accumulator: Accumulator,
}

/// One namespace's ledger on disk.
pub struct Store {
    pub(crate) inner: RwLock<Inner>,
    pub(crate) append_lock: Mutex<()>,
    /// Of the values that blocks made or received one at a time put into the sum.
    pub(crate) elements: Mutex<Elements>,
    pub(crate) sync_lock: Mutex<()>,
    pub(crate) apply_lock: Mutex<u64>,
    /// Serialises what changes where the history begins.
    pub(crate) history_lock: Mutex<()>,
    pub(crate) snapshot: Mutex<Option<Arc<Shipped>>>,
    pub(crate) staging: Mutex<Option<Staging>>,
    pub(crate) fsyncs: AtomicU64,
    pub(crate) databases: RwLock<Arc<Databases>>,
    pub(crate) namespace: Digest,
    pub(crate) genesis: Position,
    pub(crate) genesis_record: Bytes,
    pub(crate) options: StoreOptions,
    pub(crate) directory: PathBuf,
}

impl Store {
    /// The databases of the generation that counts.
    pub(crate) fn databases(&self) -> Arc<Databases> {
        Arc::clone(&self.databases.read())
    }

    /// How many group commits reached the disk: fewer than calls of `sync` when callers share one.
    pub fn fsyncs(&self) -> u64 {
        self.fsyncs.load(Ordering::Relaxed)
    }

    /// The directory this store lives in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Puts `file` where the newest segment's is, so that tests meet a disk that fails.
    #[cfg(test)]
    pub(crate) fn dangerous_replace_file(&self, file: std::fs::File) {
        self.inner.write().log.dangerous_replace_file(file);
    }

    pub(crate) fn sound(inner: &Inner) -> Result<(), LedgerError> {
        inner.failed.clone().map_or(Ok(()), Err)
    }

    /// Keeps a sticky error, so that every later call answers it.
    pub(crate) fn keep<T>(&self, result: Result<T, LedgerError>) -> Result<T, LedgerError> {
        if let Err(error) = &result
            && error.is_sticky()
        {
            self.inner.write().failed.get_or_insert_with(|| error.clone());
        }
        result
    }

    fn old_values<'i>(&self, inner: &'i Inner, keys: &[&[u8]]) -> Result<Vec<Option<Cow<'i, [u8]>>>, LedgerError> {
        let mut unknown = Vec::new();
        let known = keys.iter().enumerate().map(|(at, key)| match inner.pending.state(key) {
            Some(value) => value.map(Cow::Borrowed),
            None => {
                unknown.push((at, *key));
                None
            }
        });
        let mut values: Vec<Option<Cow<'i, [u8]>>> = known.collect();
        if unknown.is_empty() {
            return Ok(values);
        }
        let found = self.databases().states(unknown.iter().map(|(_, key)| *key))?;
        for ((at, _), found) in unknown.iter().zip(found) {
            if let Some(value) = values.get_mut(*at) {
                *value = found.map(Cow::Owned);
            }
        }
        Ok(values)
    }

    /// The sum after `changes`; `alone`: they are one block's, and the next ones may change the same keys.
    fn accumulate<'a>(
        &self,
        inner: &Inner,
        alone: bool,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) -> Result<Accumulator, LedgerError> {
        let keys: Vec<&[u8]> = changes.clone().map(|(key, _)| key).collect();
        let old = self.old_values(inner, &keys)?;
        let mut accumulator = inner.accumulator.clone();
        if !alone {
            for ((key, new), old) in changes.zip(&old) {
                accumulator.replace(key, old.as_deref(), new);
            }
            return Ok(accumulator);
        }
        let changes = changes.zip(&old).map(|(change, old)| (change, old.as_deref()));
        self.elements.lock().apply(&mut accumulator, changes);
        Ok(accumulator)
    }

    /// Everything `append` must know holds before a byte is written.
    fn check(&self, inner: &Inner, span: &Span) -> Result<PendingSpan, LedgerError> {
        let below = inner.tips.appended;
        check_follows(span, below, &inner.tip)?;
        let (_, expected) = end_of(span)?;
        let mut pending = PendingSpan::of(span, inner.accumulator.clone())?;
        let own = span.records().next().filter(|_| span.count() == 1);
        let delta = own.map(|record| record.header().delta);
        pending.accumulator = match &inner.prepared {
            Some(prepared) if prepared.below == below && delta == Some(prepared.delta) => prepared.accumulator.clone(),
            _ => self.accumulate(inner, span.count() == 1, pending.state.iter())?,
        };
        let found = pending.accumulator.digest();
        if found != expected {
            return Err(LedgerError::StateMismatch {
                height: span.last().height,
                expected,
                found,
            });
        }
        Ok(pending)
    }

    /// The long part, checks and reads of old values, shares the lock with readers; the tip cannot move, because `append_lock` is held.
    /// Answers the new tip and how many log bytes wait to be applied.
    fn append_checked(&self, span: &Span) -> Result<(Position, u64), LedgerError> {
        let pending = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            self.check(&inner, span)?
        };
        let mut inner = self.inner.write();
        let position = Self::write(&mut inner, span, pending)?;
        Ok((position, inner.pending.log_bytes()))
    }

    fn write(inner: &mut Inner, span: &Span, pending: PendingSpan) -> Result<Position, LedgerError> {
        let starts = std::iter::once(&0).chain(span.ends().iter());
        let lengths: Vec<usize> = starts
            .zip(span.ends().iter())
            .map(|(start, end)| (end - start) as usize)
            .collect();
        inner.log.append(&lengths, span.first(), span.bytes())?;
        if let Some(last) = span.last_record() {
            inner.tip = ChainTip::of(&last);
        }
        inner
            .ring
            .push(span.first(), Arc::clone(span.ends()), span.bytes().clone());
        inner.accumulator = pending.accumulator.clone();
        inner.prepared = None;
        inner.tips.appended = span.last();
        inner.pending.push(pending);
        Ok(span.last())
    }

    /// Writes one group of durable spans to the databases; answers whether there was one.
    fn apply_group(&self, since_flush: &mut u64) -> Result<bool, LedgerError> {
        let spans = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            inner.pending.up_to(inner.tips.durable.height, APPLY_BYTES_MAX)
        };
        let Some(last) = spans.last() else { return Ok(false) };
        let entries: Vec<Entries<'_>> = spans.iter().map(|span| span.entries()).collect();
        let marker = Marker {
            position: last.last,
            accumulator: last.accumulator.clone(),
        };
        self.databases().write_index(&entries, last.last.height)?;
        self.databases().write_state(&entries, &marker)?;
        *since_flush += spans.iter().map(|s| s.log_bytes).sum::<u64>();
        if *since_flush >= self.options.flush_every_bytes {
            self.databases().flush(false)?;
            *since_flush = 0;
        }
        let mut inner = self.inner.write();
        inner.pending.drop_applied(spans.len());
        inner.tips.applied = last.last;
        Ok(true)
    }

    /// Bytes of whole durable records from the log, without holding the lock while reading.
    pub(crate) fn read_log(
        &self,
        first: Height,
        last: Height,
        bytes_max: usize,
    ) -> Result<(Bytes, Height), LedgerError> {
        let place = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            let last = last.min(inner.tips.durable.height);
            let not_found = || LedgerError::NotFound {
                height: first,
                from: inner.log.history_from(),
                to: inner.tips.durable.height,
            };
            // The ring may hold what the log has let go.
            if first > last || first < inner.log.history_from() {
                return Err(not_found());
            }
            if let Some(found) = inner.ring.read(first, last, bytes_max) {
                return Ok(found);
            }
            inner.log.place(first, last, bytes_max).ok_or_else(not_found)?
        };
        Ok((place.read_run(&self.options.shared.runs)?, place.last))
    }

    /// As [`Store::read_log`], past the memory ring: what is on the disk.
    fn read_disk(&self, first: Height, last: Height, bytes_max: usize) -> Result<(Bytes, Height), LedgerError> {
        let (place, from, to) = {
            let inner = self.inner.read();
            let place = inner.log.place(first, last, bytes_max);
            (place, inner.log.history_from(), inner.tips.durable.height)
        };
        let place = place.ok_or(LedgerError::NotFound {
            height: first,
            from,
            to,
        })?;
        Ok((place.read()?, place.last))
    }
}

impl Ledger for Store {
    fn genesis(&self) -> Position {
        self.genesis
    }

    fn tips(&self) -> Tips {
        self.inner.read().tips
    }

    fn history_from(&self) -> Height {
        self.inner.read().log.history_from()
    }

    fn append(&self, span: Span) -> Result<Position, LedgerError> {
        let _one = self.append_lock.lock();
        let result = self.append_checked(&span);
        let (position, pending_bytes) = self.keep(result)?;
        if pending_bytes > self.options.pending_bytes_max {
            self.sync()?;
            // As much as came in, not all of it: whoever else applies goes on meanwhile.
            let mut since_flush = self.apply_lock.lock();
            self.keep(self.apply_group(&mut since_flush))?;
        }
        Ok(position)
    }

    fn room(&self, bytes: u64) -> Result<(), LedgerError> {
        let inner = self.inner.read();
        Self::sound(&inner)?;
        inner.log.room(bytes)
    }

    fn sync(&self) -> Result<Position, LedgerError> {
        let wanted = self.inner.read().tips.appended;
        let _one = self.sync_lock.lock();
        let (file, appended) = {
            let mut inner = self.inner.write();
            Self::sound(&inner)?;
            if inner.tips.durable.height >= wanted.height {
                return Ok(inner.tips.durable);
            }
            (inner.log.take_dirty(), inner.tips.appended)
        };
        let synced = file.map_or(Ok(()), |(file, path)| {
            file.sync_data()
                .map_err(|e| LedgerError::disk("fdatasync", path.display(), e))
        });
        self.keep(synced)?;
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.inner.write().tips.durable = appended;
        Ok(appended)
    }

    fn apply(&self) -> Result<Position, LedgerError> {
        while self.keep(self.apply_group(&mut self.apply_lock.lock()))? {}
        Ok(self.inner.read().tips.applied)
    }

    fn read(&self, first: Height, last: Height, bytes_max: usize) -> Result<Run, LedgerError> {
        let result = self.read_log(first, last, bytes_max);
        let (bytes, reached) = self.keep(result)?;
        let hash = last_hash(&bytes, first, reached)
            .ok_or_else(|| LedgerError::corrupt(self.directory.display(), format!("record {reached} does not parse")));
        let hash = self.keep(hash)?;
        Ok(Run {
            bytes,
            first,
            last: Position { height: reached, hash },
        })
    }

    fn read_at_once(&self, first: Height, last: Height, bytes_max: usize) -> Option<Run> {
        let (bytes, reached) = {
            let inner = self.inner.try_read()?;
            let last = last.min(inner.tips.durable.height);
            if inner.failed.is_some() || first > last || first < inner.log.history_from() {
                return None;
            }
            inner.ring.read(first, last, bytes_max)?
        };
        let hash = last_hash(&bytes, first, reached)?;
        let last = Position { height: reached, hash };
        Some(Run { bytes, first, last })
    }

    fn hash_at(&self, height: Height) -> Result<Option<Digest>, LedgerError> {
        let place = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            let tips = inner.tips;
            let below = inner.log.base().below.unwrap_or(self.genesis);
            if let Some(known) = [tips.appended, tips.durable, tips.applied, self.genesis, below]
                .iter()
                .find(|p| p.height == height)
            {
                return Ok(Some(known.hash));
            }
            inner.log.place(height, height, RECORD_BYTES_MAX)
        };
        let Some(place) = place else { return Ok(None) };
        let bytes = self.keep(place.read())?;
        let parsed = parse(&bytes).map(|record| Some(record.hash()));
        self.keep(
            parsed.map_err(|e| LedgerError::corrupt(self.directory.display(), format!("record {height}: {}", e.what))),
        )
    }

    fn record(&self, height: Height) -> Result<Option<Bytes>, LedgerError> {
        if height > self.inner.read().tips.applied.height {
            return Ok(None);
        }
        self.keep(
            self.read_log(height, height, RECORD_BYTES_MAX)
                .map(|(bytes, _)| Some(bytes)),
        )
    }

    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        let pending = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            inner.pending.state(key).map(|value| value.map(<[u8]>::to_vec))
        };
        match pending {
            Some(value) => Ok(value),
            None => self.keep(self.databases().state(key)),
        }
    }

    fn state_applied(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        Self::sound(&self.inner.read())?;
        self.keep(self.databases().state(key))
    }

    fn commitment_after(&self, delta: &Delta) -> Result<Digest, LedgerError> {
        let part = delta.encode().map_err(|e| {
            let height = self.tips().appended.height + 1;
            let part = BadPart::Part(PartKind::Delta);
            LedgerError::Refused(BadRecord {
                height,
                part,
                reason: e.what,
            })
        })?;
        let result = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            let changes = delta.0.iter().map(|(k, v)| (k.as_slice(), v.as_deref()));
            self.accumulate(&inner, true, changes)
                .map(|sum| (inner.tips.appended, sum))
        };
        let (below, accumulator) = self.keep(result)?;
        let digest = accumulator.digest();
        self.inner.write().prepared = Some(Prepared {
            below,
            delta: Digest::of(&part),
            accumulator,
        });
        Ok(digest)
    }

    fn find_transaction(&self, hash: &[u8; 32]) -> Result<Option<Place>, LedgerError> {
        let pending = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            inner.pending.place(hash)
        };
        match pending {
            Some(place) => Ok(Some(place)),
            None => self.keep(self.databases().place(hash)),
        }
    }

    fn knows_text(&self, digest: &Digest) -> Result<bool, LedgerError> {
        let pending = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            inner.pending.knows_text(digest)
        };
        if pending {
            Ok(true)
        } else {
            self.keep(self.databases().knows_text(digest))
        }
    }

    fn verify(&self, from: Height, to: Height, progress: Progress<'_>) -> Result<VerifyReport, LedgerError> {
        let databases = self.databases();
        let stored = Stored {
            namespace: self.namespace,
            base: self.inner.read().log.base(),
            last: self.tips().durable.height,
            ends: &|| self.tips().durable.height,
            read: &|first, last, bytes_max| self.read_disk(first, last, bytes_max),
            databases: Some(&databases),
        };
        stored.verify(from, to, progress)
    }

    fn close(&self) -> Result<(), LedgerError> {
        self.apply()?;
        self.databases().flush(true)
    }
}
