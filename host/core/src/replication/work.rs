//! What the host does for the copy of the tree and for strong changes, and what it answers. One thread of the host does all of it, in order.

use bytes::Bytes;

use crate::mq::QueueEdit;
use crate::types::strategy::config_sync::Edit;
use crate::types::{Digest, Namespace, Refusal};

use super::api::ConnId;
use super::strong::{Change, ChangeId, Outcome, Ticket};
use super::tree::Inventory;

/// Work on the tree of configuration and certificates: a provider's own, a receiver's copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeWork {
    /// Look at every file; answer with `Scanned`.
    Scan {
        /// To be named in the answer.
        generation: u64,
        /// Also at those of which nothing says that they changed.
        whole: bool,
    },
    /// Provider: read a file for the receiver, if it still has this digest; answer with `FileRead`.
    ReadFile {
        /// The link that wants it.
        conn: ConnId,
        /// Version of the inventory it is of.
        version: u64,
        /// Which.
        path: String,
        /// SHA-256 it must have.
        digest: Digest,
    },
    /// Receiver: keep this content durably until a swap needs it; answer with `FileStaged`.
    StageFile {
        /// SHA-256 of it.
        digest: Digest,
        /// The content.
        content: Bytes,
    },
    /// Receiver: remove every content that is staged; there is no answer.
    Forget,
    /// Receiver: keep durably what the provider told last, as far as it can: what the copy lacks of it is said at an upgrade. There is no answer.
    Note {
        /// Its inventory; none where the copy's own record says it all.
        told: Option<Inventory>,
    },
    /// Receiver: put a copy of this inventory in the place of the one before, as a whole and durably; its contents are staged or in the
    /// copy already. Staged contents go. Answer with `Swapped`.
    Swap {
        /// What the copy is to hold.
        inventory: Inventory,
    },
}

/// What happened to the tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeEvent {
    /// Something below the provider's tree changed, or may have.
    Touched,
    /// A scan is done.
    Scanned {
        /// As in the work.
        generation: u64,
        /// What is there.
        inventory: Inventory,
    },
    /// A file was read, or is not what the inventory said any more.
    FileRead {
        /// As in the work.
        conn: ConnId,
        /// As in the work.
        version: u64,
        /// As in the work.
        path: String,
        /// Its content.
        content: Result<Bytes, Refusal>,
    },
    /// A content is staged.
    FileStaged {
        /// As in the work.
        digest: Digest,
        /// Whether it is.
        result: Result<(), Refusal>,
    },
    /// A swap has ended.
    Swapped {
        /// As in the work.
        inventory: Inventory,
        /// Whether the copy holds it now.
        result: Result<(), Refusal>,
    },
}

/// Work on strong changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeWork {
    /// Provider: make the change durable; from here on it counts. Answer with `Committed`.
    Commit {
        /// The change.
        change: Change,
        /// Whether a receiver holds it: then its id is recorded as the last replicated one, before anything else.
        replicated: bool,
    },
    /// Receiver: check the change and make it durable as staged; answer with `Staged`.
    Stage(Change),
    /// Receiver: write what is staged into the copy and forget it, durably; doing it again changes nothing. Answer with `Settled`.
    Apply(ChangeId),
    /// Receiver: forget what is staged, durably. Answer with `Settled`.
    Drop(ChangeId),
    /// Tell the client.
    Answer(Ticket, Outcome),
    /// Tell whoever asked whether a strategy wants a change strong.
    Weighed(Ticket, bool),
}

/// What happened to a strong change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeEvent {
    /// Provider: an operator wants a change.
    Proposed(Proposal),
    /// Provider: how much does this change weigh? Answered with `Weighed`.
    Weigh(Ticket, Edit),
    /// A commit has ended.
    Committed(Result<(), Refusal>),
    /// A change is staged, or was refused and is not.
    Staged(Result<(), Refusal>),
    /// An `Apply` or `Drop` has ended; after an `Apply` the copy is this. An error is sticky.
    Settled(Result<Option<Inventory>, Refusal>),
}

/// What an operator wants changed on both ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// Comes back with the answer.
    pub ticket: Ticket,
    /// What it is: an open set.
    pub kind: String,
    /// What the kind says it is.
    pub body: Bytes,
    /// In words, for the status: `dynamic.toml cvp.max_rate`.
    pub note: String,
    /// Fail rather than change this node alone.
    pub must_replicate: bool,
    /// The queue that it registers or unregisters, and in which namespace: then that one's mq-sync strategy is asked first.
    pub queue: Option<(Namespace, QueueEdit)>,
}
