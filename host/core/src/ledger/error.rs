//! What can go wrong in a ledger, whose fault it is, and what to do.

use crate::record::BadRecord;
use crate::types::{Digest, Height, Position, Refusal};

/// Who must act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The records are wrong: whoever sent them.
    Peer,
    /// The caller broke the order of calls: this program.
    Us,
    /// The disk or what is on it: the operator.
    Disk,
}

/// Why a ledger did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The span does not begin right above the tip.
    #[error("a span that begins at {first} cannot follow the tip {}", tip.height)]
    Gap {
        /// The appended tip.
        tip: Position,
        /// Where the span begins.
        first: Height,
    },
    /// Two different records at one height.
    #[error("the chains differ at height {height}: {ours} here, {theirs} there")]
    Diverged {
        /// Where they differ.
        height: Height,
        /// Hash in this ledger.
        ours: Digest,
        /// Hash in the other chain.
        theirs: Digest,
    },
    /// A record is wrong.
    #[error(transparent)]
    Refused(#[from] BadRecord),
    /// The state after a span is not what its header commits to.
    #[error("the state after record {height} has commitment {found}, its header says {expected}")]
    StateMismatch {
        /// Last height of the span.
        height: Height,
        /// What the header says.
        expected: Digest,
        /// What the deltas give on the own state.
        found: Digest,
    },
    /// A file operation failed. Sticky: every later call of this store answers the same until it is opened again.
    #[error("cannot {operation} {path}: {source_text}")]
    Disk {
        /// What was tried: `fdatasync`, `write`, ...
        operation: &'static str,
        /// On which file or directory.
        path: String,
        /// What the system said.
        source_text: String,
    },
    /// The disk is full; nothing was written. Not sticky: it may be tried again when there is room.
    #[error("no room in {path}: {bytes_free} bytes free, {bytes_wanted} wanted")]
    Full {
        /// The directory that it is for.
        path: String,
        /// What the file system has left for us, bytes.
        bytes_free: u64,
        /// What is needed, bytes.
        bytes_wanted: u64,
    },
    /// What is on disk is not what was written. Sticky.
    #[error("{path} is damaged: {what}")]
    Corrupt {
        /// The file or directory.
        path: String,
        /// What was expected and found, with height and part where known.
        what: String,
    },
    /// The records asked for are not here.
    #[error("record {height} is not here: the ledger holds {from} to {to}")]
    NotFound {
        /// What was asked for.
        height: Height,
        /// Lowest height kept.
        from: Height,
        /// Highest durable height.
        to: Height,
    },
    /// Calls came in an order that makes no sense.
    #[error("calls out of order: {what}")]
    Order {
        /// What was expected and found.
        what: String,
    },
    /// A long work was stopped by whoever asked for it.
    #[error("the work was abandoned")]
    Abandoned,
}

impl LedgerError {
    /// A failed file operation.
    pub fn disk(operation: &'static str, path: impl ToString, source: impl ToString) -> Self {
        LedgerError::Disk {
            operation,
            path: path.to_string(),
            source_text: source.to_string(),
        }
    }

    /// Damaged bytes on disk.
    pub fn corrupt(path: impl ToString, what: impl ToString) -> Self {
        LedgerError::Corrupt {
            path: path.to_string(),
            what: what.to_string(),
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            LedgerError::Diverged { .. } | LedgerError::Refused(_) | LedgerError::StateMismatch { .. } => Fault::Peer,
            LedgerError::Gap { .. }
            | LedgerError::NotFound { .. }
            | LedgerError::Order { .. }
            | LedgerError::Abandoned => Fault::Us,
            LedgerError::Disk { .. } | LedgerError::Full { .. } | LedgerError::Corrupt { .. } => Fault::Disk,
        }
    }

    /// Whether the store answers this to every later call.
    pub fn is_sticky(&self) -> bool {
        matches!(self, LedgerError::Disk { .. } | LedgerError::Corrupt { .. })
    }

    /// As a reason for both ends and the operator.
    pub fn refusal(&self) -> Refusal {
        let (code, hint) = match self {
            LedgerError::Gap { .. } | LedgerError::Order { .. } => {
                ("ledger-gap", "a defect of this program: report it with both logs")
            }
            LedgerError::NotFound { .. } => ("history-missing", "the records must come from a node that keeps them"),
            LedgerError::Abandoned => ("abandoned", "ask again"),
            LedgerError::Diverged { .. } => (
                "diverged",
                "nothing was overwritten: decide which chain is right; `cvp clear` drops the standby's copy",
            ),
            LedgerError::Refused(_) => ("bad-record", "run `cvp verify` on the node that sent it"),
            LedgerError::StateMismatch { .. } => (
                "state-mismatch",
                "run `cvp verify` on both nodes: one has a wrong state",
            ),
            LedgerError::Disk { .. } => ("disk-failed", "repair the disk, then start the node again"),
            LedgerError::Full { .. } => ("disk-full", "make room on the disk; a running copy goes on by itself"),
            LedgerError::Corrupt { .. } => (
                "ledger-damaged",
                "check the disk; what lies in data/state and data/index is made again from data/log when it is moved away; when the log is damaged: on a standby `cvp clear --yes` and copy again, but only while its provider is well; on a provider upgrade its standby",
            ),
        };
        Refusal::new(code, self.to_string(), hint)
    }
}
