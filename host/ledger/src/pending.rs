//! What the databases do not hold yet: the changes of spans that are appended but not applied, found by key.

use std::collections::{BTreeMap, HashMap, VecDeque};

use cvp_core::ledger::{LedgerError, Place};
use cvp_core::record::{Accumulator, BadPart, BadRecord, Span};
use cvp_core::types::{Digest, Height, Position};

use crate::databases::Change;

/// One span's changes.
pub(crate) struct PendingSpan {
    pub(crate) last: Position,
    pub(crate) accumulator: Accumulator,
    pub(crate) state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) index: Vec<([u8; 32], Digest, Place)>,
    pub(crate) log_bytes: u64,
}

impl PendingSpan {
    /// The changes of `span`, deltas coalesced; the accumulator is the one before it.
    pub(crate) fn of(span: &Span, accumulator: Accumulator) -> Result<Self, LedgerError> {
        let mut state: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
        let mut index = Vec::new();
        let records: Vec<_> = span.records().collect();
        for record in &records {
            let height = record.header().height;
            let bad = |part, e: cvp_core::types::Malformed| {
                LedgerError::Refused(BadRecord {
                    height,
                    part: BadPart::Part(part),
                    reason: e.what,
                })
            };
            let delta = record.delta().map_err(|e| bad(cvp_core::record::PartKind::Delta, e))?;
            for entry in delta.iter() {
                let (key, value) = entry.map_err(|e| bad(cvp_core::record::PartKind::Delta, e))?;
                state.insert(key, value);
            }
            let kind = cvp_core::record::PartKind::Transactions;
            let transactions = record.transactions().map_err(|e| bad(kind, e))?;
            for (at, transaction) in transactions.iter().enumerate() {
                let (hash, text) = cvp_core::record::index_keys(transaction).map_err(|e| bad(kind, e))?;
                index.push((
                    hash,
                    text,
                    Place {
                        height,
                        index: at as u32,
                    },
                ));
            }
        }
        let state = state
            .into_iter()
            .map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec)))
            .collect();
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

/// All spans between applied and appended, oldest first, and their newest values by key.
#[derive(Default)]
pub(crate) struct Pending {
    spans: VecDeque<std::sync::Arc<PendingSpan>>,
    state: HashMap<Vec<u8>, (Option<Vec<u8>>, Height)>,
    hashes: HashMap<[u8; 32], Place>,
    texts: HashMap<Digest, Height>,
    log_bytes: u64,
}

impl Pending {
    /// Log bytes of the spans that are not applied yet.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    pub(crate) fn push(&mut self, span: PendingSpan) {
        self.log_bytes += span.log_bytes;
        for (key, value) in &span.state {
            self.state.insert(key.clone(), (value.clone(), span.last.height));
        }
        for (hash, text, place) in &span.index {
            self.hashes.insert(*hash, *place);
            self.texts.insert(*text, place.height);
        }
        self.spans.push_back(std::sync::Arc::new(span));
    }

    /// The newest pending value of `key`: `None` when nothing is pending for it, `Some(None)` when it is removed.
    pub(crate) fn state(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.state.get(key).map(|(value, _)| value.clone())
    }

    pub(crate) fn place(&self, hash: &[u8; 32]) -> Option<Place> {
        self.hashes.get(hash).copied()
    }

    pub(crate) fn knows_text(&self, text: &Digest) -> bool {
        self.texts.contains_key(text)
    }

    /// The spans that end at or below `durable`, oldest first, at most `count`.
    pub(crate) fn up_to(&self, durable: Height, count: usize) -> Vec<std::sync::Arc<PendingSpan>> {
        self.spans
            .iter()
            .take(count)
            .take_while(|span| span.last.height <= durable)
            .cloned()
            .collect()
    }

    /// Forgets the `count` oldest spans: the databases hold them now.
    pub(crate) fn drop_applied(&mut self, count: usize) {
        for span in self.spans.drain(..count.min(self.spans.len())).collect::<Vec<_>>() {
            self.log_bytes -= span.log_bytes;
            for (key, _) in &span.state {
                if self
                    .state
                    .get(key)
                    .is_some_and(|(_, height)| *height <= span.last.height)
                {
                    self.state.remove(key);
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
    }
}
