//! A ledger in memory for the tests of this room and of the RPC: keeps what it is told, checks what the real one checks of state, and
//! fails on demand.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use cvp_core::ledger::{Ledger, LedgerError, Place, Run, Tips, VerifyReport};
use cvp_core::record::{Accumulator, Delta, Span, check_genesis, index_keys, namespace_digest, parse};
use cvp_core::types::{Digest, Height, Namespace, Position};
use parking_lot::Mutex;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

struct Inner {
    records: Vec<(Position, Bytes)>,
    durable: usize,
    applied: usize,
    state: State,
    state_applied: State,
    sum: Accumulator,
    hashes: BTreeMap<[u8; 32], Place>,
    texts: BTreeSet<Digest>,
    sync_fails: bool,
}

/// See the module's head.
pub struct FakeLedger(Mutex<Inner>);

impl FakeLedger {
    /// A ledger that holds record 0.
    pub fn new(namespace: &Namespace, genesis: Bytes) -> Self {
        let span = check_genesis(&namespace_digest(namespace), genesis).expect("genesis holds");
        let mut inner = Inner {
            records: Vec::new(),
            durable: 1,
            applied: 1,
            state: State::new(),
            state_applied: State::new(),
            sum: Accumulator::new(),
            hashes: BTreeMap::new(),
            texts: BTreeSet::new(),
            sync_fails: false,
        };
        inner.take(&span);
        inner.state_applied = inner.state.clone();
        Self(Mutex::new(inner))
    }

    /// From now on every sync fails.
    pub fn break_disk(&self) {
        self.0.lock().sync_fails = true;
    }
}

impl Inner {
    fn take(&mut self, span: &Span) {
        for record in span.records() {
            let position = record.position();
            for (index, transaction) in record.transactions().expect("checked").iter().enumerate() {
                let (hash, text) = index_keys(transaction).expect("checked");
                let place = Place {
                    height: position.height,
                    index: index as u32,
                };
                self.hashes.insert(hash, place);
                self.texts.insert(text);
            }
            for entry in record.delta().expect("checked").iter() {
                let (key, value) = entry.expect("checked");
                change(&mut self.state, &mut self.sum, key, value);
            }
            assert_eq!(record.header().state, self.sum.digest(), "state commitment");
            self.records.push((position, Bytes::copy_from_slice(record.bytes())));
        }
    }

    fn at(&self, count: usize) -> Position {
        self.records[count - 1].0
    }
}

fn change(state: &mut State, sum: &mut Accumulator, key: &[u8], value: Option<&[u8]>) {
    sum.replace(key, state.get(key).map(Vec::as_slice), value);
    match value {
        Some(value) => state.insert(key.to_vec(), value.to_vec()),
        None => state.remove(key),
    };
}

impl Ledger for FakeLedger {
    fn genesis(&self) -> Position {
        self.0.lock().at(1)
    }

    fn tips(&self) -> Tips {
        let inner = self.0.lock();
        Tips {
            appended: inner.at(inner.records.len()),
            durable: inner.at(inner.durable),
            applied: inner.at(inner.applied),
        }
    }

    fn history_from(&self) -> Height {
        0
    }

    fn append(&self, span: Span) -> Result<Position, LedgerError> {
        let mut inner = self.0.lock();
        let tip = inner.at(inner.records.len());
        if span.parent() != tip.hash {
            return Err(LedgerError::Gap {
                tip,
                first: span.first(),
            });
        }
        inner.take(&span);
        Ok(span.last())
    }

    fn sync(&self) -> Result<Position, LedgerError> {
        let mut inner = self.0.lock();
        if inner.sync_fails {
            return Err(LedgerError::disk("fdatasync", "log", "planted"));
        }
        inner.durable = inner.records.len();
        Ok(inner.at(inner.durable))
    }

    fn apply(&self) -> Result<Position, LedgerError> {
        let mut inner = self.0.lock();
        let mut sum = Accumulator::new();
        for at in inner.applied..inner.durable {
            let bytes = inner.records[at].1.clone();
            for entry in parse(&bytes).expect("checked").delta().expect("checked").iter() {
                let (key, value) = entry.expect("checked");
                change(&mut inner.state_applied, &mut sum, key, value);
            }
        }
        inner.applied = inner.durable;
        Ok(inner.at(inner.applied))
    }

    fn read(&self, first: Height, last: Height, _bytes_max: usize) -> Result<Run, LedgerError> {
        let inner = self.0.lock();
        let mut bytes = BytesMut::new();
        let last = last.min(inner.durable as Height - 1);
        for height in first..=last {
            bytes.extend_from_slice(&inner.records[height as usize].1);
        }
        Ok(Run {
            bytes: bytes.freeze(),
            first,
            last: inner.records[last as usize].0,
        })
    }

    fn hash_at(&self, height: Height) -> Result<Option<Digest>, LedgerError> {
        Ok(self.0.lock().records.get(height as usize).map(|(at, _)| at.hash))
    }

    fn record(&self, height: Height) -> Result<Option<Bytes>, LedgerError> {
        let inner = self.0.lock();
        let found = inner.records[..inner.applied].get(height as usize);
        Ok(found.map(|(_, bytes)| bytes.clone()))
    }

    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.0.lock().state.get(key).cloned())
    }

    fn state_applied(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.0.lock().state_applied.get(key).cloned())
    }

    fn commitment_after(&self, delta: &Delta) -> Result<Digest, LedgerError> {
        let inner = self.0.lock();
        let mut sum = inner.sum.clone();
        for (key, value) in &delta.0 {
            sum.replace(key, inner.state.get(key).map(Vec::as_slice), value.as_deref());
        }
        Ok(sum.digest())
    }

    fn find_transaction(&self, hash: &[u8; 32]) -> Result<Option<Place>, LedgerError> {
        Ok(self.0.lock().hashes.get(hash).copied())
    }

    fn knows_text(&self, digest: &Digest) -> Result<bool, LedgerError> {
        Ok(self.0.lock().texts.contains(digest))
    }

    fn verify(&self, _: Height, _: Height, _: &mut dyn FnMut(Height)) -> Result<VerifyReport, LedgerError> {
        Err(LedgerError::corrupt("memory", "not verified in tests"))
    }
}
