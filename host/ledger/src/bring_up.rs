//! After a crash: brings state and index databases up from the log, which is the record of truth.
//!
//! Each database holds a prefix of the batches that were written to it and says in its marker how far it is; the two may differ. Every
//! batch that is written here is checked like an append: digests, links, and the state commitment at its end.

use bytes::Bytes;
use cvp_core::ledger::{LedgerError, end_of};
use cvp_core::record::{Accumulator, Span, check_genesis, check_span, record_length};
use cvp_core::types::{Digest, Height, Position};

use crate::changes::Changes;
use crate::databases::{Databases, Entries, Marker};
use crate::log::Log;
use crate::pending::PendingSpan;

/// Log bytes read and applied at once.
const REPLAY_BYTES: usize = 4 << 20;

/// Brings both databases up to `tip` and answers the accumulator there. `marker` is the state's own.
pub(crate) fn bring_up(
    log: &Log,
    databases: &Databases,
    namespace: Digest,
    tip: Position,
    marker: Option<Marker>,
) -> Result<Accumulator, LedgerError> {
    let indexed = databases.index_height()?;
    if indexed > Some(tip.height) {
        let what = format!("the index knows records above the log's last, {}", tip.height);
        return Err(LedgerError::corrupt("data/index", what));
    }
    let kept_from = log.history_from();
    let state_from = marker.as_ref().map_or(0, |m| m.position.height + 1);
    if state_from < kept_from {
        let what = format!("it ends before record {kept_from}, where the history kept begins: it cannot be made again");
        return Err(LedgerError::corrupt("data/state", what));
    }
    let mut accumulator = marker.map_or_else(Accumulator::new, |m| m.accumulator);
    let indexed_from = indexed.map_or(0, |height| height + 1).max(kept_from);
    let mut next = state_from.min(indexed_from);
    if next <= tip.height {
        tracing::info!(
            from = next,
            to = tip.height,
            "bringing state and indexes up from the log"
        );
    }
    while next <= tip.height {
        // A run ends where the state's marker stands, so that no batch of state is written twice.
        let last = if next < state_from { state_from - 1 } else { tip.height };
        let span = checked_run(log, &namespace, next, last)?;
        let mut pending = PendingSpan::of(&span, accumulator)?;
        if indexed.is_none_or(|height| span.last().height > height) {
            let index = Entries {
                state: &Changes::default(),
                index: &pending.index,
            };
            databases.write_index(&[index], span.last().height)?;
        }
        if next >= state_from {
            write_state(databases, &span, &mut pending)?;
        }
        accumulator = pending.accumulator;
        next = span.last().height + 1;
    }
    Ok(accumulator)
}

fn checked_run(log: &Log, namespace: &Digest, first: Height, last: Height) -> Result<Span, LedgerError> {
    let missing = || LedgerError::corrupt("data/log", format!("record {first} is missing"));
    let bytes: Bytes = log.place(first, last, REPLAY_BYTES).ok_or_else(missing)?.read()?;
    let span = if first == 0 {
        let length = record_length(&bytes).ok().flatten().ok_or_else(missing)?;
        check_genesis(namespace, bytes.slice(..length.min(bytes.len())))
    } else {
        check_span(namespace, log.position_of(first - 1)?, bytes)
    };
    // These are our own bytes: what is wrong with them happened on this disk.
    span.map_err(|bad| LedgerError::corrupt("data/log", bad))
}

fn write_state(databases: &Databases, span: &Span, pending: &mut PendingSpan) -> Result<(), LedgerError> {
    let old = databases.states(pending.state.iter().map(|(key, _)| key))?;
    for ((key, new), old) in pending.state.iter().zip(&old) {
        pending.accumulator.replace(key, old.as_deref(), new);
    }
    let (_, expected) = end_of(span)?;
    let found = pending.accumulator.digest();
    if found != expected {
        let height = span.last().height;
        return Err(LedgerError::StateMismatch {
            height,
            expected,
            found,
        });
    }
    let marker = Marker {
        position: span.last(),
        accumulator: pending.accumulator.clone(),
    };
    let state = Entries {
        state: &pending.state,
        index: &[],
    };
    databases.write_state(&[state], &marker)
}
