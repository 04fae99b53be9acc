//! What the databases do not hold yet: the changes of spans that are appended but not applied, found by key.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use cvp_core::ledger::{LedgerError, Place};
use cvp_core::record::{Accumulator, BadPart, BadRecord, PartKind, RecordRef, Span, index_keys};
use cvp_core::types::{Digest, Height, Malformed, Position};
// The default hasher took more of an append than the records' digests did. This one is seeded too: who chooses keys cannot foresee it.
use foldhash::fast::RandomState;

use crate::databases::Change;
use crate::recent::Recent;

/// Room that stays in the maps of pending entries when none is left: some full blocks.
const KEPT_ENTRIES: usize = 8_192;

/// A key and its new value, none where it is removed: one copy, shared by the span, the newest values, and the recent ones.
pub(crate) type StateChange = (Arc<[u8]>, Option<Arc<[u8]>>);

/// The newest value of a key, and the height of the span that made it.
type Newest = (Option<Arc<[u8]>>, Height);

/// One span's changes.
pub(crate) struct PendingSpan {
    pub(crate) last: Position,
    pub(crate) accumulator: Accumulator,
    pub(crate) state: Vec<StateChange>,
    pub(crate) index: Vec<([u8; 32], Digest, Place)>,
    pub(crate) log_bytes: u64,
}

impl PendingSpan {
    /// The changes of `span`, deltas coalesced; the accumulator is the one before it.
    pub(crate) fn of(span: &Span, accumulator: Accumulator) -> Result<Self, LedgerError> {
        let mut index = Vec::new();
        let mut state = Vec::new();
        if span.count() == 1 {
            // In the order of the keys already, each once.
            for record in span.records() {
                each_change(&record, |key, value| state.push(copied(key, value)))?;
                index_of(&record, &mut index)?;
            }
        } else {
            let mut newest: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
            for record in span.records() {
                each_change(&record, |key, value| {
                    newest.insert(key, value);
                })?;
                index_of(&record, &mut index)?;
            }
            state.extend(newest.into_iter().map(|(key, value)| copied(key, value)));
        }
        Ok(Self {
            last: span.last(),
            accumulator,
            state,
            index,
            log_bytes: span.bytes().len() as u64,
        })
    }

    /// What the databases are given of it.
    pub(crate) fn change(&self) -> Change<'_> {
        Change {
            state: &self.state,
            index: &self.index,
        }
    }
}

fn copied(key: &[u8], value: Option<&[u8]>) -> StateChange {
    (key.into(), value.map(Arc::from))
}

fn bad(record: &RecordRef<'_>, part: PartKind, malformed: Malformed) -> LedgerError {
    LedgerError::Refused(BadRecord {
        height: record.header().height,
        part: BadPart::Part(part),
        reason: malformed.what,
    })
}

fn each_change<'a>(
    record: &RecordRef<'a>,
    mut take: impl FnMut(&'a [u8], Option<&'a [u8]>),
) -> Result<(), LedgerError> {
    let delta = record.delta().map_err(|e| bad(record, PartKind::Delta, e))?;
    for entry in delta.iter() {
        let (key, value) = entry.map_err(|e| bad(record, PartKind::Delta, e))?;
        take(key, value);
    }
    Ok(())
}

fn index_of(record: &RecordRef<'_>, index: &mut Vec<([u8; 32], Digest, Place)>) -> Result<(), LedgerError> {
    let kind = PartKind::Transactions;
    let transactions = record.transactions().map_err(|e| bad(record, kind, e))?;
    let height = record.header().height;
    index.reserve(transactions.len());
    for (at, transaction) in transactions.iter().enumerate() {
        let (hash, text) = index_keys(transaction).map_err(|e| bad(record, kind, e))?;
        let at = at as u32;
        index.push((hash, text, Place { height, index: at }));
    }
    Ok(())
}

/// All spans between applied and appended, oldest first, and their newest values by key; and the values that were applied lately.
pub(crate) struct Pending {
    spans: VecDeque<Arc<PendingSpan>>,
    state: HashMap<Arc<[u8]>, Newest, RandomState>,
    hashes: HashMap<[u8; 32], Place, RandomState>,
    texts: HashMap<Digest, Height, RandomState>,
    log_bytes: u64,
    recent: Recent,
}

impl Pending {
    /// Nothing pending; `recent_bytes` of values stay known after they were applied.
    pub(crate) fn new(recent_bytes: usize) -> Self {
        Self {
            spans: VecDeque::new(),
            state: HashMap::default(),
            hashes: HashMap::default(),
            texts: HashMap::default(),
            log_bytes: 0,
            recent: Recent::new(recent_bytes),
        }
    }

    /// Log bytes of the spans that are not applied yet.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    pub(crate) fn push(&mut self, span: PendingSpan) {
        self.log_bytes += span.log_bytes;
        for (key, value) in &span.state {
            self.state.insert(Arc::clone(key), (value.clone(), span.last.height));
        }
        for (hash, text, place) in &span.index {
            self.hashes.insert(*hash, *place);
            self.texts.insert(*text, place.height);
        }
        self.spans.push_back(Arc::new(span));
    }

    /// The newest value of `key`, pending or applied lately: `None` when only the databases know it, `Some(None)` when it is removed.
    pub(crate) fn state(&self, key: &[u8]) -> Option<Option<Arc<[u8]>>> {
        match self.state.get(key) {
            Some((value, _)) => Some(value.clone()),
            None => self.recent.get(key),
        }
    }

    pub(crate) fn place(&self, hash: &[u8; 32]) -> Option<Place> {
        self.hashes.get(hash).copied()
    }

    pub(crate) fn knows_text(&self, text: &Digest) -> bool {
        self.texts.contains_key(text)
    }

    /// The spans that end at or below `durable`, oldest first: about `bytes_max` log bytes, but one at least.
    pub(crate) fn up_to(&self, durable: Height, bytes_max: u64) -> Vec<Arc<PendingSpan>> {
        let mut bytes = 0;
        self.spans
            .iter()
            .take_while(|span| {
                let fits = bytes == 0 || bytes + span.log_bytes <= bytes_max;
                bytes += span.log_bytes;
                fits && span.last.height <= durable
            })
            .cloned()
            .collect()
    }

    /// Forgets the `count` oldest spans: the databases hold them now.
    pub(crate) fn drop_applied(&mut self, count: usize) {
        for span in self.spans.drain(..count.min(self.spans.len())).collect::<Vec<_>>() {
            self.log_bytes -= span.log_bytes;
            for (key, value) in &span.state {
                let newest = self
                    .state
                    .get(key)
                    .is_none_or(|(_, height)| *height <= span.last.height);
                if newest {
                    self.state.remove(key);
                    self.recent.put(key, value);
                }
            }
            for (hash, text, place) in &span.index {
                if self.hashes.get(hash) == Some(place) {
                    self.hashes.remove(hash);
                }
                if self.texts.get(text) == Some(&place.height) {
                    self.texts.remove(text);
                }
            }
        }
        if self.spans.is_empty() {
            // What a long backlog took is given back.
            self.state.shrink_to(KEPT_ENTRIES);
            self.hashes.shrink_to(KEPT_ENTRIES);
            self.texts.shrink_to(KEPT_ENTRIES);
        }
    }
}
