//! What the databases do not hold yet: the changes of spans that are appended but not applied, found by key.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use cvp_core::ledger::{LedgerError, Place};
use cvp_core::record::{Accumulator, BadPart, BadRecord, PartKind, RecordRef, Span, index_keys};
use cvp_core::types::{Digest, Height, Malformed, Position};
// The default hasher took more of an append than the records' digests did. This one is seeded too: who chooses keys cannot foresee it.
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::changes::{Change, Changes};
use crate::databases::Entries;
use crate::recent::Recent;

/// Room that stays in the maps of pending entries when none is left: some full blocks.
const KEPT_ENTRIES: usize = 8_192;

/// One span's changes.
pub(crate) struct PendingSpan {
    pub(crate) last: Position,
    pub(crate) accumulator: Accumulator,
    pub(crate) state: Changes,
    pub(crate) index: Vec<([u8; 32], Digest, Place)>,
    pub(crate) log_bytes: u64,
}

impl PendingSpan {
    /// The changes of `span`, deltas coalesced; the accumulator is the one before it.
    pub(crate) fn of(span: &Span, accumulator: Accumulator) -> Result<Self, LedgerError> {
        let mut index = Vec::new();
        let state = if span.count() == 1 {
            // In the order of the keys already, each once.
            let mut state = Changes::default();
            for record in span.records() {
                each_change(&record, |key, value| state.push(key, value))?;
                index_of(&record, &mut index)?;
            }
            state
        } else {
            let mut newest: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
            for record in span.records() {
                each_change(&record, |key, value| {
                    newest.insert(key, value);
                })?;
                index_of(&record, &mut index)?;
            }
            let bytes = newest
                .iter()
                .map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len));
            let mut state = Changes::with_capacity(newest.len(), bytes.sum());
            newest.into_iter().for_each(|(key, value)| state.push(key, value));
            state
        };
        Ok(Self {
            last: span.last(),
            accumulator,
            state,
            index,
            log_bytes: span.bytes().len() as u64,
        })
    }

    /// What the databases are given of it.
    pub(crate) fn entries(&self) -> Entries<'_> {
        Entries {
            state: &self.state,
            index: &self.index,
        }
    }
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

/// The newest value of a key: in which span, and where there.
struct Newest {
    hash: u64,
    span: Arc<PendingSpan>,
    at: usize,
}

impl Newest {
    fn change(&self) -> Change<'_> {
        self.span.state.get(self.at).unwrap_or_default()
    }

    fn is_of(&self, key: &[u8]) -> bool {
        self.change().0 == key
    }
}

/// All spans between applied and appended, oldest first, and their newest values by key; and the values that were applied lately.
pub(crate) struct Pending {
    spans: VecDeque<Arc<PendingSpan>>,
    state: HashTable<Newest>,
    hasher: RandomState,
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
            state: HashTable::default(),
            hasher: RandomState::default(),
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
        let span = Arc::new(span);
        for (at, (key, _)) in span.state.iter().enumerate() {
            let hash = self.hasher.hash_one(key);
            let newest = Newest {
                hash,
                span: Arc::clone(&span),
                at,
            };
            match self.state.entry(hash, |newest| newest.is_of(key), |newest| newest.hash) {
                Entry::Occupied(mut found) => *found.get_mut() = newest,
                Entry::Vacant(place) => {
                    place.insert(newest);
                }
            }
        }
        for (hash, text, place) in &span.index {
            self.hashes.insert(*hash, *place);
            self.texts.insert(*text, place.height);
        }
        self.spans.push_back(span);
    }

    /// The newest value of `key`, pending or applied lately: `None` when only the databases know it, `Some(None)` when it is removed.
    pub(crate) fn state(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let hash = self.hasher.hash_one(key);
        match self.state.find(hash, |newest| newest.is_of(key)) {
            Some(newest) => Some(newest.change().1),
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
            for (key, value) in span.state.iter() {
                let hash = self.hasher.hash_one(key);
                let found = self.state.find_entry(hash, |newest| newest.is_of(key));
                if let Ok(newest) = found
                    && Arc::ptr_eq(&newest.get().span, &span)
                {
                    newest.remove();
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
            self.state.shrink_to(KEPT_ENTRIES, |newest| newest.hash);
            self.hashes.shrink_to(KEPT_ENTRIES);
            self.texts.shrink_to(KEPT_ENTRIES);
        }
    }
}
