//! The ledger of one namespace behind one trait: what the node and the simulator know of storage.
//!
//! Owns the trait, its errors, a memory implementation for simulations and the contract suite that every implementation passes. The
//! implementation on disk is the crate `cvp-ledger`. A ledger does not know the link, the peer or the strategies.
//!
//! Three positions grow, each at most the one before: *appended* (in the log, may be lost in a crash), *durable* (fsynced), *applied*
//! (state and indexes show it to queries).

mod archive;
mod error;
mod follow;
mod memory;
mod verify;

pub mod contract;

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::record::{Delta, Span};
use crate::types::{Digest, Height, Position};

pub use archive::{
    Archive, HEADERS_MAX, Kept, Manifest, SNAPSHOT_FILES_MAX, Snapshot, SnapshotFile, bad_state, check_below,
    check_manifest, is_part_of_state,
};
pub use error::{Fault, LedgerError};
pub use follow::{check_follows, coalesce, end_of};
pub use memory::{CrashReport, MemoryLedger};
pub use verify::{Chain, ChainReport, REPLAY_BYTES_MAX, state_place, verify_chain};

/// How far a ledger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tips {
    /// Highest record appended; may be lost in a crash.
    pub appended: Position,
    /// Highest record on disk for good.
    pub durable: Position,
    /// Highest record visible to queries.
    pub applied: Position,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Height of its record.
    pub height: Height,
    /// Its index in the record's list of transactions.
    pub index: u32,
}

/// Consecutive durable records as they are stored.
#[derive(Clone, Debug)]
pub struct Run {
    /// The records, back to back.
    pub bytes: Bytes,
    /// Height of the first.
    pub first: Height,
    /// Position of the last.
    pub last: Position,
}

/// The first thing a verification found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPlace {
    /// Height of the bad record (or of the state).
    pub height: Height,
    /// `header`, `link`, `transactions`, `receipts`, `delta`, `local`, `proof`, `state`.
    pub part: String,
    /// What was expected and found.
    pub message: String,
}

/// What a verification did and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Records checked: bounds, checksum, the digest of every part, links, times, totals.
    pub checked: u64,
    /// The first bad place, if any.
    pub first_bad: Option<BadPlace>,
    /// Whether the full state was summed up and compared with the header at the applied tip (done when the range reaches it).
    pub state_checked: bool,
    /// Whether every header's state commitment was recomputed by replaying the deltas (done when the range begins at genesis).
    pub state_chain_checked: bool,
}

/// Told the height reached by a long work now and then; says whether the work goes on.
pub type Progress<'a> = &'a mut dyn FnMut(Height) -> ControlFlow<()>;

/// One namespace's chain. Calls block; the node makes them on threads of its own. One writer appends; everything else may be called
/// from anywhere at any time.
pub trait Ledger: Archive + Send + Sync + 'static {
    /// Position of record 0.
    fn genesis(&self) -> Position;

    /// How far the ledger is.
    fn tips(&self) -> Tips;

    /// Lowest height whose record is kept; 0 when all history is.
    fn history_from(&self) -> Height;

    /// Appends a span that follows the appended tip, all of it or nothing; answers the new appended tip. Checks time and totals against
    /// the tip and the state commitment at the span's end. Nothing is durable before [`Ledger::sync`].
    ///
    /// # Errors
    /// `Gap` or `Diverged` when it does not follow, `Refused` or `StateMismatch` when the records are wrong, `Full` when the disk is (try
    /// again later), `Disk` after a failure (sticky).
    fn append(&self, span: Span) -> Result<Position, LedgerError>;

    /// Whether there is room for what [`Ledger::append`] may need next, and for `bytes` where that is more: what a caller asks that was
    /// answered `Full`.
    ///
    /// # Errors
    /// `Full` still, or `Disk` when the file system does not answer.
    fn room(&self, bytes: u64) -> Result<(), LedgerError>;

    /// Makes all that was appended at the call durable; answers the durable tip. Concurrent callers share one fsync.
    fn sync(&self) -> Result<Position, LedgerError>;

    /// Brings state and indexes to the durable tip: visible to queries. Answers the applied tip.
    fn apply(&self) -> Result<Position, LedgerError>;

    /// Durable records from `first`, at most to `last` and about `bytes_max` bytes: whole records, at least one.
    ///
    /// # Errors
    /// `NotFound` when `first` is above the durable tip or below the kept history.
    fn read(&self, first: Height, last: Height, bytes_max: usize) -> Result<Run, LedgerError>;

    /// As [`Ledger::read`] where it costs neither the disk nor a wait; `None` where it might, or would fail.
    fn read_at_once(&self, _first: Height, _last: Height, _bytes_max: usize) -> Option<Run> {
        None
    }

    /// Hash of the record at `height`, up to the appended tip; `None` above it or below the kept history.
    fn hash_at(&self, height: Height) -> Result<Option<Digest>, LedgerError>;

    /// The record at `height`; `None` above the applied tip.
    fn record(&self, height: Height) -> Result<Option<Bytes>, LedgerError>;

    /// Value of a state key at the appended tip: for the executor.
    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError>;

    /// Value of a state key at the applied tip: for queries.
    fn state_applied(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError>;

    /// The state commitment after `delta` on the appended tip: for the maker of a block.
    fn commitment_after(&self, delta: &Delta) -> Result<Digest, LedgerError>;

    /// Where the transaction with this hash is, appended records included.
    fn find_transaction(&self, hash: &[u8; 32]) -> Result<Option<Place>, LedgerError>;

    /// Whether a transaction with this digest of (from, signed text) is in the chain, appended records included.
    fn knows_text(&self, digest: &Digest) -> Result<bool, LedgerError>;

    /// Recomputes everything that can be recomputed of the records `from..=to` (cut to what is kept and durable), and of the state; calls
    /// `progress` with the height reached now and then. Blocks no append.
    ///
    /// # Errors
    /// `Abandoned` once `progress` breaks; `Disk`.
    fn verify(&self, from: Height, to: Height, progress: Progress<'_>) -> Result<VerifyReport, LedgerError>;

    /// Writes out what memory holds, so that the next open is quick and knows every record. What was not synced stays not durable.
    fn close(&self) -> Result<(), LedgerError>;
}

#[cfg(test)]
mod tests;
