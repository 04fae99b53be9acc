//! Verification shared by every implementation: records and links are checked run by run, the state chain by replaying the deltas.
//!
//! From genesis, every header's state commitment is recomputed: the values replaced by each delta are known, because all deltas before
//! were replayed. For a range that begins later they are not, so the state chain is not checked (`state_chain_checked: false`); the full
//! state at the tip still is. The replay holds the whole state in memory; over [`REPLAY_BYTES_MAX`] it is given up, and the report says so.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::record::{Accumulator, BadPart, BadRecord, ChainTip, RecordRef, check_genesis, check_span, parse};
use crate::types::{Digest, Height, Position};

use super::{BadPlace, LedgerError, Progress};

/// Most bytes of keys and values that a replay holds.
pub const REPLAY_BYTES_MAX: usize = 1 << 30;

/// Bytes that a verification asks for at once.
const RUN_BYTES: usize = 4 << 20;

/// What [`verify_chain`] did and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// Records checked.
    pub checked: u64,
    /// The first bad record.
    pub first_bad: Option<BadPlace>,
    /// Whether every state commitment of the range was recomputed.
    pub state_chain_checked: bool,
}

/// Where [`verify_chain`] begins and what it reads.
pub struct Chain<'a> {
    /// Id of the namespace.
    pub namespace: Digest,
    /// Position below `from`; `None` when `from` is 0.
    pub below: Option<Position>,
    /// First height to check.
    pub from: Height,
    /// Last height to check.
    pub to: Height,
    /// Reads stored bytes: (first, last, bytes_max) -> the records from `first`, and the height of the last one.
    pub read: &'a mut dyn FnMut(Height, Height, usize) -> Result<(Bytes, Height), LedgerError>,
}

impl From<BadRecord> for BadPlace {
    fn from(bad: BadRecord) -> Self {
        BadPlace {
            height: bad.height,
            part: bad.part.to_string(),
            message: bad.reason,
        }
    }
}

/// Checks the records of a chain until the first bad one.
///
/// # Errors
/// What `read` answers; `Abandoned` once `progress` breaks.
pub fn verify_chain(chain: Chain<'_>, progress: Progress<'_>) -> Result<ChainReport, LedgerError> {
    let mut walk = Walk {
        namespace: chain.namespace,
        last: chain.below,
        tip: None,
        replay: (chain.from == 0).then(Replay::default),
        checked: 0,
    };
    let mut next = chain.from;
    let mut first_bad = None;
    while next <= chain.to {
        let (bytes, last) = (chain.read)(next, chain.to, RUN_BYTES)?;
        if let Err(bad) = walk.run(bytes, last) {
            first_bad = Some(BadPlace::from(bad));
            break;
        }
        if progress(last).is_break() {
            return Err(LedgerError::Abandoned);
        }
        next = last.saturating_add(1);
    }
    let state_chain_checked = walk.replay.is_some() && first_bad.is_none();
    Ok(ChainReport {
        checked: walk.checked,
        first_bad,
        state_chain_checked,
    })
}

struct Walk {
    namespace: Digest,
    last: Option<Position>,
    tip: Option<ChainTip>,
    replay: Option<Replay>,
    checked: u64,
}

impl Walk {
    fn run(&mut self, mut bytes: Bytes, last: Height) -> Result<(), BadRecord> {
        if self.last.is_none() {
            let bad = |reason| BadRecord {
                height: 0,
                part: BadPart::Header,
                reason,
            };
            let length = parse(&bytes).map_err(|e| bad(e.what))?.len();
            let genesis = check_genesis(&self.namespace, bytes.split_to(length))?;
            for record in genesis.records() {
                self.record(&record)?;
            }
            self.last = Some(genesis.last());
            if bytes.is_empty() {
                return Ok(());
            }
        }
        let below = self.last.unwrap_or(Position {
            height: 0,
            hash: Digest::ZERO,
        });
        // A bad record must not hide what is wrong with the state before it.
        let checked = check_span(&self.namespace, below, bytes.clone());
        let good = match &checked {
            Ok(span) => span.last().height,
            Err(bad) => bad.height.saturating_sub(1),
        };
        let mut rest: &[u8] = &bytes;
        for _ in below.height..good {
            let Ok(record) = parse(rest) else { break };
            self.record(&record)?;
            rest = &rest[record.len()..];
        }
        let span = checked?;
        self.last = Some(span.last());
        if span.last().height != last {
            let reason = format!("the run ends at {}, not at {last}", span.last().height);
            return Err(BadRecord {
                height: last,
                part: BadPart::Header,
                reason,
            });
        }
        Ok(())
    }

    fn record(&mut self, record: &RecordRef<'_>) -> Result<(), BadRecord> {
        if let Some(tip) = &self.tip {
            tip.check_next(record)?;
        }
        if let Some(replay) = &mut self.replay {
            replay.record(record)?;
            if replay.bytes > REPLAY_BYTES_MAX {
                self.replay = None;
            }
        }
        self.tip = Some(ChainTip::of(record));
        self.checked += 1;
        Ok(())
    }
}

#[derive(Default)]
struct Replay {
    values: BTreeMap<Box<[u8]>, Box<[u8]>>,
    accumulator: Accumulator,
    bytes: usize,
}

impl Replay {
    fn record(&mut self, record: &RecordRef<'_>) -> Result<(), BadRecord> {
        let height = record.header().height;
        let bad = |reason| BadRecord {
            height,
            part: BadPart::State,
            reason,
        };
        for entry in record.delta().map_err(|e| bad(e.what))?.iter() {
            let (key, value) = entry.map_err(|e| bad(e.what))?;
            let old = match value {
                Some(value) => self.values.insert(key.into(), value.into()),
                None => self.values.remove(key),
            };
            self.accumulator.replace(key, old.as_deref(), value);
            self.bytes += value.map_or(0, |value| key.len() + value.len());
            self.bytes -= old.map_or(0, |old| key.len() + old.len());
        }
        let found = self.accumulator.digest();
        if found != record.header().state {
            return Err(bad(format!(
                "commitment {} expected, the deltas give {}",
                record.header().state.short(),
                found.short()
            )));
        }
        Ok(())
    }
}

/// Compares the sum of a full state with what the header at its height says.
pub fn state_place(height: Height, expected: Digest, found: Digest) -> Option<BadPlace> {
    (expected != found).then(|| BadPlace {
        height,
        part: BadPart::State.to_string(),
        message: format!(
            "the full state sums up to {}, the header says {}",
            found.short(),
            expected.short()
        ),
    })
}
