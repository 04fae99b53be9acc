//! Recomputes all that can be recomputed: digests and links of the records on disk, the commitment of every header by replaying the
//! deltas, and the sum of the whole state.

use std::collections::BTreeMap;

use cvp_core::ledger::{BadPlace, Ledger, LedgerError, VerifyReport};
use cvp_core::record::{Accumulator, ChainTip, Span, check_genesis, check_span, parse, record_length};
use cvp_core::types::{Height, Position};

use crate::store::Store;

/// Log bytes checked between two reports of progress.
const STEP_BYTES: usize = 4 << 20;

/// The state replayed from genesis, to recompute every commitment.
struct Replay {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    sum: Accumulator,
}

pub(crate) fn verify(
    store: &Store,
    from: Height,
    to: Height,
    progress: &mut dyn FnMut(Height),
) -> Result<VerifyReport, LedgerError> {
    let durable = store.tips().durable.height;
    let to = to.min(durable);
    let mut report = VerifyReport {
        checked: 0,
        first_bad: None,
        state_checked: false,
        state_chain_checked: false,
    };
    let mut replay = (from == 0).then(|| Replay {
        values: BTreeMap::new(),
        sum: Accumulator::new(),
    });
    let mut tip: Option<ChainTip> = None;
    let mut next = from;
    while next <= to {
        let checked = step(store, next, to, &mut tip, replay.as_mut());
        match checked {
            Ok(last) => {
                report.checked += last - next + 1;
                next = last + 1;
                progress(last);
            }
            Err(bad) => {
                report.checked += bad.height.saturating_sub(next);
                report.first_bad = Some(bad);
                return Ok(report);
            }
        }
    }
    report.state_chain_checked = replay.is_some();
    if to == durable {
        report.first_bad = check_state(store)?;
        report.state_checked = true;
    }
    Ok(report)
}

/// Checks the records from `next` that one read gives; answers the last height.
fn step(
    store: &Store,
    next: Height,
    to: Height,
    tip: &mut Option<ChainTip>,
    replay: Option<&mut Replay>,
) -> Result<Height, BadPlace> {
    let unreadable = |e: LedgerError| bad(next, "header", e);
    let (bytes, _) = store.read_disk(next, to, STEP_BYTES).map_err(unreadable)?;
    let span = if next == 0 {
        let length = record_length(&bytes)
            .ok()
            .flatten()
            .ok_or_else(|| bad(0, "header", "no whole record"))?;
        check_genesis(&store.namespace, bytes.slice(..length.min(bytes.len())))
    } else {
        let parent = position_below(store, next)?;
        check_span(&store.namespace, parent, bytes)
    };
    let span = span.map_err(|e| bad(e.height, &e.part.to_string(), e.reason))?;
    if let (Some(tip), Some(first)) = (tip.as_ref(), span.records().next()) {
        tip.check_next(&first)
            .map_err(|e| bad(e.height, &e.part.to_string(), e.reason))?;
    }
    *tip = span.records().last().map(|record| ChainTip::of(&record));
    if let Some(replay) = replay {
        replay.follow(&span)?;
    }
    Ok(span.last().height)
}

fn position_below(store: &Store, height: Height) -> Result<Position, BadPlace> {
    let below = height - 1;
    let (bytes, _) = store.read_disk(below, below, 1).map_err(|e| bad(below, "header", e))?;
    parse(&bytes)
        .map(|record| record.position())
        .map_err(|e| bad(below, "header", e.what))
}

impl Replay {
    fn follow(&mut self, span: &Span) -> Result<(), BadPlace> {
        for record in span.records() {
            let height = record.header().height;
            let delta = record.delta().map_err(|e| bad(height, "delta", e.what))?;
            for entry in delta.iter() {
                let (key, new) = entry.map_err(|e| bad(height, "delta", e.what))?;
                self.sum.replace(key, self.values.get(key).map(Vec::as_slice), new);
                match new {
                    Some(value) => self.values.insert(key.to_vec(), value.to_vec()),
                    None => self.values.remove(key),
                };
            }
            let (found, expected) = (self.sum.digest(), record.header().state);
            if found != expected {
                let message = format!("the deltas give commitment {found}, the header says {expected}");
                return Err(bad(height, "state", message));
            }
        }
        Ok(())
    }
}

/// Sums up every key of the state and compares with the header of the record it stands at.
fn check_state(store: &Store) -> Result<Option<BadPlace>, LedgerError> {
    let Some((marker, sum)) = store.databases.sum_state()? else {
        return Ok(Some(bad(0, "state", "the state database is empty")));
    };
    let height = marker.position.height;
    let (bytes, _) = store.read_disk(height, height, 1)?;
    let expected = match parse(&bytes) {
        Ok(record) if record.position() == marker.position => record.header().state,
        Ok(record) => {
            let message = format!(
                "the state is of {}, the log has {}",
                marker.position.hash,
                record.hash()
            );
            return Ok(Some(bad(height, "state", message)));
        }
        Err(e) => return Ok(Some(bad(height, "header", e.what))),
    };
    let found = sum.digest();
    Ok((found != expected).then(|| {
        bad(
            height,
            "state",
            format!("all keys give {found}, the header says {expected}"),
        )
    }))
}

fn bad(height: Height, part: &str, message: impl ToString) -> BadPlace {
    BadPlace {
        height,
        part: part.to_owned(),
        message: message.to_string(),
    }
}
