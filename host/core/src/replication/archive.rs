//! History and state as a whole, in the machine: what goes, what is handed over, what is taken in. Here is what the host does for it and
//! answers; the decisions are in `retention`, `shipping`, `taking`, `linking` and `backfill`.

use std::sync::Arc;

use bytes::Bytes;

use crate::ledger::{Kept, Manifest};
use crate::types::strategy::Role;
use crate::types::{Digest, Height, Millis, Position, Refusal};

use super::api::ConnId;
use super::chunk::ChunkSum;
use super::pair::Pair;

/// Work on one namespace's ledger as a whole. Nothing of it is on the way of the live stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ArchiveWork {
    /// Say how much is kept, and how much of it is above this height; answer with `Surveyed`.
    Survey {
        /// What the receiver holds.
        held: Height,
    },
    /// Provider: drop whole segments below this height; the next survey shows it. `Failed` when the disk does.
    Prune {
        /// Kept from here on at the latest.
        below: Height,
    },
    /// Provider: the snapshot of this id, if it is the one at hand; else make one. Answer with `Made`.
    Make {
        /// What the receiver has of one.
        id: Option<Digest>,
    },
    /// Provider: drop the snapshot at hand; there is no answer.
    DropMade,
    /// Provider: read the snapshot's bytes and queue them as ONE chunk frame of this stream on the link; answer with `Shipped`.
    Ship {
        /// The link.
        conn: ConnId,
        /// Number of the stream.
        stream: u32,
        /// First byte.
        offset: u64,
        /// About how many.
        bytes_max: usize,
    },
    /// Receiver: begin to take this snapshot in, or go on with it; answer with `Staged`.
    Stage(Arc<Manifest>),
    /// Receiver: check these bytes of it and write them; answer with `Written` or `Damaged`.
    Write {
        /// First byte.
        offset: u64,
        /// What they must have.
        sum: ChunkSum,
        /// The bytes.
        bytes: Bytes,
    },
    /// Receiver: make durable what was written; answer with `Kept`.
    Sync,
    /// Provider: read headers from `first` on and queue them as ONE frame on the link; answer with `Shipped`.
    Headers {
        /// The link.
        conn: ConnId,
        /// Number of the stream.
        stream: u32,
        /// The first one.
        first: Height,
        /// The last one at most.
        last: Height,
    },
    /// Receiver: check that these headers link to a position; answer with `Linked`.
    Link {
        /// The position that they follow.
        from: Position,
        /// The headers.
        headers: Bytes,
    },
    /// Receiver: check the whole and put it in the place of what is there; answer with `Adopted` or `NotAdopted`.
    Adopt,
    /// Receiver: drop what is staged; there is no answer.
    DropStaged,
    /// Provider: read records that end with `last` and queue them as ONE frame on the link; answer with `Shipped`.
    ReadBack {
        /// The link.
        conn: ConnId,
        /// Number of the request.
        stream: u32,
        /// The last one.
        last: Height,
        /// About how many bytes.
        bytes_max: usize,
    },
    /// Receiver: check these records and put them before the history here; answer with `Prepended` or `NotPrepended`.
    Prepend(Bytes),
}

/// What happened to one namespace's ledger as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ArchiveEvent {
    /// How much is kept, and bytes of it above the height asked for.
    Surveyed {
        /// How much.
        kept: Kept,
        /// Bytes above.
        above: u64,
        /// Age of the first block above, by its own time.
        age: Option<Millis>,
        /// Lowest height that a message queue still has to be told; none where no queue has.
        needed: Option<Height>,
        /// Provider: of which record a snapshot is at hand.
        snapshot: Option<Height>,
    },
    /// Provider: a snapshot is at hand, or why there is none.
    Made(Result<Arc<Manifest>, Refusal>),
    /// Provider: bytes of a snapshot, records or headers were queued; or why not.
    Shipped {
        /// As in the work.
        conn: ConnId,
        /// As in the work.
        stream: u32,
        /// Bytes queued.
        result: Result<u64, Refusal>,
        /// Of records: the height of the first.
        first: Option<Height>,
    },
    /// Receiver: a snapshot is staged up to here, durably; or why it is not taken.
    Staged(Result<u64, Refusal>),
    /// Receiver: bytes were written, up to here.
    Written(u64),
    /// Receiver: bytes were not what their sum says; nothing was written.
    Damaged,
    /// Receiver: so many bytes are durable.
    Kept(u64),
    /// Receiver: headers link up to here; or where they do not.
    Linked(Result<Position, Refusal>),
    /// Receiver: the chain goes on from here.
    Adopted {
        /// Its tip.
        tip: Position,
    },
    /// Receiver: the snapshot is not what it says; it was dropped, and what was here stays.
    NotAdopted(Refusal),
    /// Receiver: the history begins here now.
    Prepended(Height),
    /// Receiver: the records do not fit.
    NotPrepended(Refusal),
    /// The disk failed in any of this. The stream's own work says so too, if it meets it.
    Failed(Refusal),
}

impl Pair {
    pub(super) fn on_archive(&mut self, index: usize, event: ArchiveEvent) {
        match event {
            ArchiveEvent::Surveyed {
                kept,
                above,
                age,
                needed,
                snapshot,
            } => self.on_surveyed(index, (kept, above, age), (needed, snapshot)),
            ArchiveEvent::Made(made) => self.on_snapshot_made(index, made),
            ArchiveEvent::Shipped {
                conn,
                stream,
                result,
                first,
            } => self.on_shipped(index, (conn, stream), result, first),
            ArchiveEvent::Staged(result) => self.on_staged(index, result),
            ArchiveEvent::Written(written) => self.on_snapshot_written(index, written),
            ArchiveEvent::Damaged => self.on_snapshot_damaged(index),
            ArchiveEvent::Kept(durable) => self.on_snapshot_kept(index, durable),
            ArchiveEvent::Linked(result) => self.on_linked(index, result),
            ArchiveEvent::Adopted { tip } => self.on_adopted(index, tip),
            ArchiveEvent::NotAdopted(refusal) => self.give_up_snapshot(index, refusal, false),
            ArchiveEvent::Prepended(from) => self.on_prepended(index, Ok(from)),
            ArchiveEvent::NotPrepended(refusal) => self.on_prepended(index, Err(refusal)),
            ArchiveEvent::Failed(refusal) => self.on_archive_failed(index, refusal),
        }
    }

    /// Moves history and state as a whole as far as they go.
    pub(super) fn settle_archive(&mut self, index: usize) {
        match self.setup.role {
            Role::Provider => {
                self.settle_survey(index);
                self.settle_unused_snapshot(index);
                self.settle_shipping(index);
                self.settle_headers(index);
            }
            Role::Receiver => {
                self.settle_wish(index);
                self.settle_taking(index);
            }
        }
        self.settle_backfill(index);
    }
}
