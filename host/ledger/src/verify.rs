//! Verification of what is on the disk, of an open store and of one that is only inspected: core walks the records and replays the state
//! chain; the sum of the whole state is made here, on a snapshot, so a running node goes on.

use bytes::Bytes;
use cvp_core::ledger::{BadPlace, Chain, LedgerError, Progress, VerifyReport, state_place, verify_chain};
use cvp_core::record::parse;
use cvp_core::types::{Digest, Height, Position};

use crate::base::Base;
use crate::databases::Databases;

/// Reads stored bytes past every cache: (first, last, about how many) -> whole records from `first`, and the height of the last one.
type Read<'a> = &'a dyn Fn(Height, Height, usize) -> Result<(Bytes, Height), LedgerError>;

/// What is on the disk of a running or a stopped node.
pub(crate) struct Stored<'a> {
    pub(crate) namespace: Digest,
    /// Where the history begins: what is below is not there to be verified.
    pub(crate) base: Base,
    /// The last record that counts.
    pub(crate) last: Height,
    /// Where the log ends by now: a running node goes on while it is verified.
    pub(crate) ends: &'a dyn Fn() -> Height,
    pub(crate) read: Read<'a>,
    /// State and indexes; none when they hold nothing yet.
    pub(crate) databases: Option<&'a Databases>,
}

/// What the sum of the whole state said.
struct StateSum {
    /// The record that the state is of.
    height: Height,
    bad: Option<BadPlace>,
}

impl Stored<'_> {
    /// Verifies the records `from..=to` and, where the range reaches the last one, the state.
    pub(crate) fn verify(&self, from: Height, to: Height, progress: Progress<'_>) -> Result<VerifyReport, LedgerError> {
        let (from, to, whole) = (from.max(self.base.history_from()), to.min(self.last), to >= self.last);
        let below = match from.checked_sub(1).filter(|below| *below < self.last) {
            Some(below) => match self.position_at(below)? {
                Ok(position) => Some(position),
                Err(bad) => return Ok(report_of(bad)),
            },
            None => None,
        };
        let mut read = |first, last, bytes_max| (self.read)(first, last, bytes_max);
        let chain = Chain {
            namespace: self.namespace,
            below,
            from,
            to,
            read: &mut read,
        };
        let chain = verify_chain(chain, progress)?;
        let mut report = VerifyReport {
            checked: chain.checked,
            first_bad: chain.first_bad,
            state_checked: false,
            state_chain_checked: chain.state_chain_checked,
        };
        if whole && report.first_bad.is_none() {
            let sum = self
                .databases
                .map(|found| self.sum_state(found, progress))
                .transpose()?;
            // What was stored since is of records that were stored since.
            if let Some(sum) = sum.as_ref().filter(|sum| sum.bad.is_none() && sum.height > self.last) {
                let since = self.verify_since(sum.height, progress)?;
                report.checked += since.checked;
                report.first_bad = since.first_bad;
                if report.first_bad.is_some() {
                    return Ok(report);
                }
            }
            // What is stored below the last record is the whole state together with the deltas above it, which were replayed.
            let stored = sum
                .as_ref()
                .is_some_and(|sum| sum.bad.is_some() || sum.height >= self.last);
            report.state_checked = stored || report.state_chain_checked;
            report.first_bad = sum.and_then(|sum| sum.bad);
        }
        Ok(report)
    }

    /// Verifies the records above the last one that counted when this began.
    fn verify_since(&self, to: Height, progress: Progress<'_>) -> Result<VerifyReport, LedgerError> {
        let below = match self.position_at(self.last)? {
            Ok(position) => position,
            Err(bad) => return Ok(report_of(bad)),
        };
        let mut read = |first, last, bytes_max| (self.read)(first, last, bytes_max);
        let chain = Chain {
            namespace: self.namespace,
            below: Some(below),
            from: self.last.saturating_add(1),
            to,
            read: &mut read,
        };
        let chain = verify_chain(chain, progress)?;
        Ok(VerifyReport {
            checked: chain.checked,
            first_bad: chain.first_bad,
            state_checked: false,
            state_chain_checked: false,
        })
    }

    /// Position of the stored record at `height`, or what is wrong with it.
    fn position_at(&self, height: Height) -> Result<Result<Position, BadPlace>, LedgerError> {
        if let Some(below) = self.base.below.filter(|below| below.height == height) {
            return Ok(Ok(below));
        }
        let (bytes, _) = (self.read)(height, height, 1)?;
        let parsed = parse(&bytes).map(|record| record.position());
        Ok(parsed.map_err(|e| place(height, "header", e.what)))
    }

    /// Sums up every key of the state and compares with the header of the record it stands at.
    fn sum_state(&self, databases: &Databases, progress: Progress<'_>) -> Result<StateSum, LedgerError> {
        let bad = |height, part, message: String| StateSum {
            height,
            bad: Some(place(height, part, message)),
        };
        let summed = match databases.sum_state(progress) {
            Err(error @ LedgerError::Corrupt { .. }) => return Ok(bad(self.last, "state", error.to_string())),
            summed => summed?,
        };
        let Some((marker, sum)) = summed else {
            return Ok(bad(0, "state", "the state database is empty".to_owned()));
        };
        let height = marker.position.height;
        let end = (self.ends)();
        if height > end {
            let message = format!("the state is of record {height}, and the log ends at {end}");
            return Ok(bad(end.saturating_add(1), "header", message));
        }
        let (bytes, _) = (self.read)(height, height, 1)?;
        let Ok(record) = parse(&bytes) else {
            return Ok(bad(height, "header", "the record does not parse".to_owned()));
        };
        if record.position() != marker.position {
            let message = format!(
                "the state is of {}, the log has {}",
                marker.position.hash,
                record.hash()
            );
            return Ok(bad(height, "state", message));
        }
        if marker.accumulator != sum {
            let message = "the sum kept beside the state is not the sum of its keys";
            return Ok(bad(height, "state", message.to_owned()));
        }
        let bad = state_place(height, record.header().state, sum.digest());
        Ok(StateSum { height, bad })
    }
}

fn report_of(bad: BadPlace) -> VerifyReport {
    VerifyReport {
        checked: 0,
        first_bad: Some(bad),
        state_checked: false,
        state_chain_checked: false,
    }
}

pub(crate) fn place(height: Height, part: impl ToString, message: impl ToString) -> BadPlace {
    BadPlace {
        height,
        part: part.to_string(),
        message: message.to_string(),
    }
}
