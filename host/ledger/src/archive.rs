//! History and state as a whole: [`Archive`] for [`Store`].

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cvp_core::ledger::{
    Archive, HEADERS_MAX, Kept, LedgerError, Manifest, Run, Snapshot, bad_state, check_below, check_manifest,
};
use cvp_core::record::{HEADER_REGION, Span};
use cvp_core::types::{Digest, Height, Position, UnixNanos};

use crate::base::Base;
use crate::changes::Changes;
use crate::databases::{Entries, StateFiles};
use crate::log::write_segment;
use crate::open::Opened;
use crate::pending::PendingSpan;
use crate::snapshot::Shipped;
use crate::staging::Staging;
use crate::store::Store;

impl Archive for Store {
    fn kept(&self) -> Kept {
        let (history_from, log_bytes) = {
            let inner = self.inner.read();
            (inner.log.history_from(), inner.log.bytes())
        };
        Kept {
            history_from,
            log_bytes,
            state_bytes: self.databases().state_bytes(),
        }
    }

    fn known_since(&self) -> UnixNanos {
        self.inner.read().log.base().known_since
    }

    fn bytes_above(&self, height: Height) -> u64 {
        self.inner.read().log.bytes_above(height)
    }

    fn prune(&self, below: Height) -> Result<Height, LedgerError> {
        let _one = self.history_lock.lock();
        let (base, from) = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            let base = inner.log.base_above(below.min(inner.tips.applied.height));
            (base, inner.log.history_from())
        };
        let Some(base) = self.keep(base)? else { return Ok(from) };
        // What goes can no longer bring the databases up.
        self.keep(self.databases().flush(true))?;
        self.keep(base.write(&self.directory))?;
        let gone = self.inner.write().log.rebase(base);
        for segment in gone {
            self.keep(segment.remove())?;
        }
        Ok(base.history_from())
    }

    fn make_snapshot(&self) -> Result<Arc<dyn Snapshot>, LedgerError> {
        let mut slot = self.snapshot.lock();
        *slot = None;
        Self::sound(&self.inner.read())?;
        let record = |height| self.read_log(height, height, 1).map(|(bytes, _)| bytes);
        let made = Shipped::make(&self.directory, &self.databases(), &self.options.shared, record)?;
        *slot = Some(Arc::clone(&made));
        Ok(made)
    }

    fn snapshot(&self) -> Option<Arc<dyn Snapshot>> {
        self.snapshot.lock().clone().map(|made| made as Arc<dyn Snapshot>)
    }

    fn drop_snapshot(&self) {
        let mut slot = self.snapshot.lock();
        if slot.take().is_some()
            && let Err(error) = Shipped::remove(&self.directory)
        {
            tracing::warn!(%error, "a snapshot that was handed over stays on the disk until the next one");
        }
    }

    fn stage(&self, manifest: &Manifest) -> Result<u64, LedgerError> {
        let tip = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            inner.tips.appended
        };
        check_manifest(&self.namespace, manifest)?;
        if manifest.at.height <= tip.height {
            return Err(bad_state(
                manifest.at.height,
                format!("a snapshot at or below the own tip {}", tip.height),
            ));
        }
        let mut slot = self.staging.lock();
        if let Some(staged) = slot.as_mut().filter(|staged| staged.manifest == *manifest) {
            return Ok(staged.rewind());
        }
        *slot = None;
        let generation = self.generation() + 1;
        let staged = Staging::begin(&self.directory, manifest, generation, self.options.reserve_bytes)?;
        *slot = Some(staged);
        Ok(0)
    }

    fn staged(&self) -> Option<(Manifest, u64)> {
        let slot = self.staging.lock();
        slot.as_ref().map(|staged| (staged.manifest.clone(), staged.durable))
    }

    fn write_staged(&self, offset: u64, bytes: &[u8]) -> Result<(), LedgerError> {
        let mut slot = self.staging.lock();
        slot.as_mut().ok_or_else(nothing_staged)?.write(offset, bytes)
    }

    fn sync_staged(&self) -> Result<u64, LedgerError> {
        let group = self.staging.lock().as_mut().ok_or_else(nothing_staged)?.group();
        // Bytes are written meanwhile.
        group.sync()?;
        let mut slot = self.staging.lock();
        let staged = slot.as_mut().ok_or_else(nothing_staged)?;
        staged.durable = staged.durable.max(group.written);
        Ok(staged.durable)
    }

    fn adopt(&self) -> Result<Position, LedgerError> {
        let mut slot = self.staging.lock();
        let staged = slot.as_ref().ok_or_else(nothing_staged)?;
        if staged.durable < staged.manifest.bytes() {
            let what = format!("{} of {} bytes are here", staged.durable, staged.manifest.bytes());
            return Err(LedgerError::Order { what });
        }
        let checked = self.check_staged(staged);
        let adopted = match checked {
            Ok(span) => self.take_over(staged, &span),
            Err(error) => {
                let generation = staged.generation;
                *slot = None;
                Staging::remove(&self.directory, generation)?;
                return Err(error);
            }
        };
        let position = self.keep(adopted)?;
        *slot = None;
        Staging::forget(&self.directory);
        Ok(position)
    }

    fn drop_staged(&self) -> Result<(), LedgerError> {
        let mut slot = self.staging.lock();
        match slot.take() {
            Some(staged) => Staging::remove(&self.directory, staged.generation),
            None => Ok(()),
        }
    }

    fn read_back(&self, last: Height, bytes_max: usize) -> Result<Run, LedgerError> {
        let (found, from, durable) = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            let durable = inner.tips.durable.height;
            let found = (last <= durable)
                .then(|| inner.log.place_back(last, bytes_max))
                .flatten();
            (found, inner.log.history_from(), durable)
        };
        let (first, place) = found.ok_or(LedgerError::NotFound {
            height: last,
            from,
            to: durable,
        })?;
        let bytes = self.keep(place.read())?;
        let hash = crate::log::last_hash(&bytes, first, last)
            .ok_or_else(|| LedgerError::corrupt(self.directory.display(), format!("record {last} does not parse")))?;
        let last = Position { height: last, hash };
        Ok(Run { bytes, first, last })
    }

    fn headers(&self, first: Height, last: Height) -> Result<Bytes, LedgerError> {
        let places = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            let to = inner.tips.durable.height;
            let last = last.min(to).min(first.saturating_add(HEADERS_MAX - 1));
            let places = inner.log.header_places(first, last);
            places.ok_or(LedgerError::NotFound {
                height: first,
                from: inner.log.history_from(),
                to,
            })?
        };
        let mut headers = BytesMut::with_capacity(places.len() * HEADER_REGION.len());
        for place in places {
            headers.extend_from_slice(&self.keep(place.read())?);
        }
        Ok(headers.freeze())
    }

    fn prepend(&self, records: Bytes) -> Result<Height, LedgerError> {
        let _one = self.history_lock.lock();
        let base = {
            let inner = self.inner.read();
            Self::sound(&inner)?;
            inner.log.base()
        };
        let whole = || LedgerError::Order {
            what: "the whole history is here".to_owned(),
        };
        let below = base.below.ok_or_else(whole)?;
        let span = check_below(&self.namespace, &self.genesis.hash, below, records)?;
        let pending = PendingSpan::of(&span, self.inner.read().accumulator.clone())?;
        let (first, lengths, bytes) = whole_segment(self, &span);
        let directory = base.directory(&self.directory, "log");
        let place = (&self.namespace, self.options.reserve_bytes);
        let segment = write_segment(&directory, place, first, &lengths, &bytes)?;
        {
            // The index's own mark stays where it is.
            let _applied = self.apply_lock.lock();
            let databases = self.databases();
            let indexed = self.keep(databases.index_height())?.unwrap_or(below.height);
            let change = Entries {
                state: &Changes::default(),
                index: &pending.index,
            };
            self.keep(databases.write_index(&[change], indexed))?;
            self.keep(databases.flush_index())?;
        }
        let lower = match first {
            0 => Base {
                below: None,
                known_since: 0,
                ..base
            },
            _ => Base {
                below: Some(span.parent_position()),
                // Pruned history has its transactions in the index all the same.
                known_since: if base.known_since > 0 { first_time(&span) } else { 0 },
                ..base
            },
        };
        self.keep(lower.write(&self.directory))?;
        self.inner.write().log.put_before(segment, lower);
        Ok(lower.history_from())
    }
}

impl Store {
    fn generation(&self) -> u32 {
        self.inner.read().log.base().generation
    }

    /// Everything that can be known of what is staged before it counts.
    fn check_staged(&self, staged: &Staging) -> Result<Span, LedgerError> {
        let span = check_manifest(&self.namespace, &staged.manifest)?;
        let at = staged.manifest.at;
        let unreadable = |error: LedgerError| bad_state(at.height, format!("the snapshot cannot be read: {error}"));
        let files = StateFiles::open(staged.state(), &self.options.shared).map_err(unreadable)?;
        let summed = files.sum(&mut |_| ControlFlow::Continue(())).map_err(unreadable)?;
        let (marker, sum) = summed.ok_or_else(|| bad_state(at.height, "the snapshot holds no state".to_owned()))?;
        if marker.position != at || marker.accumulator != sum {
            let what = format!("the snapshot says that it is of record {}, and is not", at.height);
            return Err(bad_state(at.height, what));
        }
        let expected = span.records().last().map(|record| record.header().state);
        let found = sum.digest();
        match expected {
            Some(expected) if expected == found => Ok(span),
            expected => Err(LedgerError::StateMismatch {
                height: at.height,
                expected: expected.unwrap_or(Digest::ZERO),
                found,
            }),
        }
    }

    /// Makes the staged generation the one that counts, and opens it.
    fn take_over(&self, staged: &Staging, span: &Span) -> Result<Position, LedgerError> {
        let _history = self.history_lock.lock();
        let _append = self.append_lock.lock();
        let mut since_flush = self.apply_lock.lock();
        let _sync = self.sync_lock.lock();
        let (at, tip) = (staged.manifest.at, self.inner.read().tips.appended);
        if at.height <= tip.height {
            return Err(bad_state(
                at.height,
                format!("the chain here has grown past it, to {}", tip.height),
            ));
        }
        let (first, lengths, bytes) = whole_segment(self, span);
        let base = Base {
            generation: staged.generation,
            // Right above genesis nothing is missing.
            below: (first > 0).then(|| span.parent_position()),
            genesis: self.genesis.hash,
            known_since: if first > 0 { first_time(span) } else { 0 },
        };
        let directory = base.directory(&self.directory, "log");
        // What an adoption that was cut short left.
        let _ = std::fs::remove_dir_all(&directory);
        let _ = std::fs::remove_dir_all(base.directory(&self.directory, "index"));
        std::fs::create_dir_all(&directory).map_err(|e| LedgerError::disk("create", directory.display(), e))?;
        let place = (&self.namespace, self.options.reserve_bytes);
        write_segment(&directory, place, first, &lengths, &bytes)?;
        crate::segment::sync_directory(staged.state())?;
        crate::segment::sync_directory(&self.directory)?;
        base.write(&self.directory)?;
        let Opened { inner, databases } = Opened::open(
            &self.directory,
            self.namespace,
            base,
            &self.genesis_record,
            &self.options,
        )?;
        let before = std::mem::replace(&mut *self.databases.write(), Arc::new(databases));
        *self.inner.write() = inner;
        *since_flush = 0;
        // Whoever still reads it may end; then it goes.
        before.remove_when_closed(&self.directory, base);
        Ok(at)
    }
}

fn first_time(span: &Span) -> UnixNanos {
    span.records().next().map_or(0, |record| record.header().time)
}

/// What a segment of these records holds: genesis, too, where they follow it.
fn whole_segment(store: &Store, span: &Span) -> (Height, Vec<usize>, Bytes) {
    let lengths = span.records().map(|record| record.len());
    if span.first() != 1 {
        return (span.first(), lengths.collect(), span.bytes().clone());
    }
    let genesis = &store.genesis_record;
    let bytes = [genesis.as_ref(), span.bytes()].concat();
    (0, std::iter::once(genesis.len()).chain(lengths).collect(), bytes.into())
}

fn nothing_staged() -> LedgerError {
    LedgerError::Order {
        what: "no snapshot is staged".to_owned(),
    }
}
