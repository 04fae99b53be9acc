//! The checks of `append` that need the tip but no storage; every implementation makes them before it writes a byte.

use std::collections::BTreeMap;

use crate::record::{BadPart, BadRecord, ChainTip, Span};
use crate::types::{Malformed, Position};

use super::LedgerError;

/// Whether `span` follows `tip`: height, parent hash, and time, incarnation and totals against the tip's.
pub fn check_follows(span: &Span, tip: Position, below: &ChainTip) -> Result<(), LedgerError> {
    if span.first() != tip.height.saturating_add(1) {
        return Err(LedgerError::Gap {
            tip,
            first: span.first(),
        });
    }
    #[cfg(feature = "planted-faults")]
    if crate::planted::active(crate::planted::Fault::SkippedParentCheck) {
        return Ok(());
    }
    if span.parent() != tip.hash {
        return Err(LedgerError::Diverged {
            height: tip.height,
            ours: tip.hash,
            theirs: span.parent(),
        });
    }
    let first = span.records().next().ok_or_else(|| defect(span, "no record".into()))?;
    Ok(below.check_next(&first)?)
}

/// The change of state a span makes: each key once, with its last value.
pub fn coalesce(span: &Span) -> Result<BTreeMap<&[u8], Option<&[u8]>>, LedgerError> {
    let mut out = BTreeMap::new();
    for record in span.records() {
        let delta = record.delta().map_err(|e| malformed(record.header().height, e))?;
        for entry in delta.iter() {
            let (key, value) = entry.map_err(|e| malformed(record.header().height, e))?;
            out.insert(key, value);
        }
    }
    Ok(out)
}

/// The tip that `span` leaves, and the state commitment in its last header.
pub fn end_of(span: &Span) -> Result<(ChainTip, crate::types::Digest), LedgerError> {
    let last = span.last_record().ok_or_else(|| defect(span, "no record".into()))?;
    if last.header().height != span.last().height {
        return Err(defect(span, "records are missing".into()));
    }
    Ok((ChainTip::of(&last), last.header().state))
}

fn malformed(height: u64, source: Malformed) -> LedgerError {
    BadRecord {
        height,
        part: BadPart::Part(crate::record::PartKind::Delta),
        reason: source.what,
    }
    .into()
}

fn defect(span: &Span, reason: String) -> LedgerError {
    BadRecord {
        height: span.first(),
        part: BadPart::Header,
        reason,
    }
    .into()
}
