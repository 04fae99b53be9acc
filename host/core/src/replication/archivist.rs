//! What the host's worker does for [`ArchiveWork`], the same in the node and in the simulator.

use bytes::Bytes;

use crate::frame::{Frame, Kind, NamespaceTag};
use crate::ledger::{Ledger, LedgerError};
use crate::record::{check_headers, namespace_digest};
use crate::types::{Height, Millis, Namespace, Refusal, Slab};

use super::api::ConnId;
use super::archive::{ArchiveEvent, ArchiveWork};
use super::chunk::{CHUNK_HEAD_BYTES, ChunkSum, chunk_head};
use super::linking::unlinked;

/// What came of a piece of work: a frame that must be queued on its link before the answer is told, and the answer.
#[derive(Default)]
pub struct Archived {
    /// The frame.
    pub frame: Option<(ConnId, Frame)>,
    /// The answer.
    pub answer: Option<ArchiveEvent>,
}

impl Archived {
    /// Says with a survey what message queues still have to be told, which a ledger does not know.
    pub fn needing(mut self, height: Option<u64>) -> Archived {
        if let Some(ArchiveEvent::Surveyed { needed, .. }) = &mut self.answer {
            *needed = height;
        }
        self
    }

    /// Says with a survey how old the first block above is that was asked about, for which a clock is needed.
    pub fn lacking(mut self, millis: Option<Millis>) -> Archived {
        if let Some(ArchiveEvent::Surveyed { age, .. }) = &mut self.answer {
            *age = millis;
        }
        self
    }

    fn answer(answer: ArchiveEvent) -> Archived {
        Archived {
            frame: None,
            answer: Some(answer),
        }
    }
}

/// Does a piece of work on the ledger of a namespace, with buffers of `slab` for what is shipped. It blocks.
pub fn archive(ledger: &dyn Ledger, namespace: &Namespace, work: ArchiveWork, slab: &Slab) -> Archived {
    let tag = NamespaceTag::of(namespace);
    match work {
        ArchiveWork::Survey { held } => surveyed(ledger, held),
        ArchiveWork::Prune { below } => match ledger.prune(below) {
            Ok(_) => Archived::default(),
            Err(error) => failed(&error),
        },
        ArchiveWork::Make { id } => {
            let at_hand = ledger.snapshot().filter(|made| Some(made.manifest().id()) == id);
            let made = at_hand.map_or_else(|| ledger.make_snapshot(), Ok);
            let made = made.map(|made| made.manifest().clone().into());
            Archived::answer(ArchiveEvent::Made(made.map_err(|error| error.refusal())))
        }
        ArchiveWork::DropMade => {
            ledger.drop_snapshot();
            Archived::default()
        }
        ArchiveWork::Ship {
            conn,
            stream,
            offset,
            bytes_max,
        } => {
            let read = chunk(ledger, offset, bytes_max, slab);
            shipped((conn, Kind::SnapshotChunk, tag, stream), read, None)
        }
        ArchiveWork::ReadBack {
            conn,
            stream,
            last,
            bytes_max,
        } => {
            let read = ledger.read_back(last, bytes_max);
            let first = read.as_ref().ok().map(|run| run.first);
            let read = read.map(|run| (run.bytes.len() as u64, run.bytes));
            shipped((conn, Kind::History, tag, stream), read, first)
        }
        ArchiveWork::Headers {
            conn,
            stream,
            first,
            last,
        } => {
            let read = ledger
                .headers(first, last)
                .map(|headers| (headers.len() as u64, headers));
            shipped((conn, Kind::Headers, tag, stream), read, None)
        }
        ArchiveWork::Link { from, headers } => {
            let linked =
                check_headers(&namespace_digest(namespace), from, &headers).map_err(|bad| unlinked(bad.to_string()));
            Archived::answer(ArchiveEvent::Linked(linked))
        }
        ArchiveWork::Stage(manifest) => {
            let staged = ledger.stage(&manifest).map_err(|error| error.refusal());
            Archived::answer(ArchiveEvent::Staged(staged))
        }
        ArchiveWork::Write { offset, sum, bytes } => written(ledger, offset, sum, &bytes),
        ArchiveWork::Sync => match ledger.sync_staged() {
            Ok(durable) => Archived::answer(ArchiveEvent::Kept(durable)),
            Err(error) if error.is_sticky() => failed(&error),
            // It was dropped meanwhile.
            Err(_) => Archived::default(),
        },
        ArchiveWork::Adopt => match ledger.adopt() {
            Ok(tip) => Archived::answer(ArchiveEvent::Adopted { tip }),
            // What is staged stays, and is adopted when there is room.
            Err(error) if error.is_sticky() || matches!(error, LedgerError::Full { .. }) => failed(&error),
            Err(error) => Archived::answer(ArchiveEvent::NotAdopted(snapshot_refused(&error))),
        },
        ArchiveWork::DropStaged => match ledger.drop_staged() {
            Ok(()) => Archived::default(),
            Err(error) => failed(&error),
        },
        ArchiveWork::Prepend(records) => match ledger.prepend(records) {
            Ok(from) => Archived::answer(ArchiveEvent::Prepended(from)),
            Err(error) if error.is_sticky() => failed(&error),
            Err(error) => Archived::answer(ArchiveEvent::NotPrepended(error.refusal())),
        },
    }
}

fn surveyed(ledger: &dyn Ledger, held: u64) -> Archived {
    Archived::answer(ArchiveEvent::Surveyed {
        kept: ledger.kept(),
        above: ledger.bytes_above(held),
        age: None,
        needed: None,
        snapshot: ledger.snapshot().map(|made| made.manifest().at.height),
    })
}

fn failed(error: &LedgerError) -> Archived {
    Archived::answer(ArchiveEvent::Failed(error.refusal()))
}

/// It was the provider's, so that is where to look.
fn snapshot_refused(error: &LedgerError) -> Refusal {
    Refusal::new(
        "snapshot-refused",
        format!("the snapshot is not taken, what was here stays: {error}"),
        "another one is fetched by itself; if it comes again, run `cvp verify` on the provider",
    )
}

fn chunk(ledger: &dyn Ledger, offset: u64, bytes_max: usize, slab: &Slab) -> Result<(u64, Bytes), LedgerError> {
    let snapshot = ledger.snapshot().ok_or_else(|| LedgerError::Order {
        what: "the snapshot is gone".to_owned(),
    })?;
    // Read where it is sent from: no copy in between.
    let length = snapshot.at_most(offset, bytes_max);
    let mut payload = slab.take(CHUNK_HEAD_BYTES + length);
    payload.resize(CHUNK_HEAD_BYTES + length, 0);
    let (head, bytes) = payload.split_at_mut(CHUNK_HEAD_BYTES);
    snapshot.fill(offset, bytes)?;
    head.copy_from_slice(&chunk_head(offset, bytes));
    Ok((length as u64, slab.lend(payload)))
}

fn shipped(
    (conn, kind, tag, stream): (ConnId, Kind, NamespaceTag, u32),
    read: Result<(u64, Bytes), LedgerError>,
    first: Option<Height>,
) -> Archived {
    let (frame, result) = match read {
        Ok((bytes, payload)) => (Some((conn, Frame::of(kind, tag, stream, payload))), Ok(bytes)),
        Err(error) => (None, Err(error.refusal())),
    };
    let answer = Some(ArchiveEvent::Shipped {
        conn,
        stream,
        result,
        first,
    });
    Archived { frame, answer }
}

fn written(ledger: &dyn Ledger, offset: u64, sum: ChunkSum, bytes: &[u8]) -> Archived {
    if ChunkSum::of(bytes) != sum {
        return Archived::answer(ArchiveEvent::Damaged);
    }
    match ledger.write_staged(offset, bytes) {
        Ok(()) => Archived::answer(ArchiveEvent::Written(offset + bytes.len() as u64)),
        // It does not follow what is there: fetched again from what does.
        Err(LedgerError::Order { .. }) => Archived::answer(ArchiveEvent::Damaged),
        Err(error) => failed(&error),
    }
}
