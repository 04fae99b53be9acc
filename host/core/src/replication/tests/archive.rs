//! Old history that goes, and snapshots that come in its place.

use std::sync::Arc;

use super::*;
use crate::frame::{Frame, Kind, NamespaceTag};
use crate::ledger::{Kept, Manifest, SnapshotFile};
use crate::replication::chunk::{ChunkSum, chunk_head};

pub(super) const CHUNK: usize = 1 << 20;

/// Numbers and bytes in the place of two stores.
#[derive(Default)]
pub(super) struct Archives {
    pub history_from: [Height; 2],
    /// Of the oldest block that is asked about.
    pub age: Option<Millis>,
    /// Bytes a record takes.
    record_bytes: u64,
    /// Bytes of the state.
    state: usize,
    pub made: Option<Arc<Manifest>>,
    pub makes: usize,
    staged: Option<(Digest, Vec<u8>, u64)>,
    /// What was asked of the provider's disk.
    pub pruned: Vec<Height>,
    /// The next so many chunks are damaged on their way.
    damaged: u32,
    /// What the receiver finds of the whole.
    adopt: Option<Refusal>,
    /// What the receiver finds of the next headers.
    linked: Option<Result<Position, Refusal>>,
    /// Headers sent.
    headers: u64,
    /// Chunks sent.
    pub chunks: usize,
    /// Bytes that the receiver's disk has left; none: enough.
    pub room: Option<u64>,
    /// It has nothing left for more than it staged.
    pub full: bool,
    /// Works that found no room.
    pub fulls: usize,
    /// Works that wait, by a test.
    pub held_back: bool,
    pub waiting: Vec<ArchiveWork>,
}

impl Archives {
    pub(super) fn at(history_from: [Height; 2]) -> Self {
        Self {
            history_from,
            ..Self::default()
        }
    }

    fn of(record_bytes: u64, state: usize) -> Self {
        Self {
            record_bytes,
            state,
            ..Self::default()
        }
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        !self.full && self.room.is_none_or(|room| room >= bytes)
    }

    /// Why there is none, and that it was asked for.
    fn no_room(&mut self) -> Refusal {
        self.fulls += 1;
        Refusal::new("disk-full", "full", "")
    }

    pub(super) fn work(
        &mut self,
        end: usize,
        work: ArchiveWork,
        tip: Position,
    ) -> (Option<(ConnId, Frame)>, Option<ArchiveEvent>) {
        let tag = NamespaceTag::of(&namespace());
        let event = match work {
            work if self.held_back && end == RECEIVER => {
                self.waiting.push(work);
                return (None, None);
            }
            ArchiveWork::Survey { held } => ArchiveEvent::Surveyed {
                kept: Kept {
                    history_from: self.history_from[PROVIDER],
                    log_bytes: tip.height.saturating_sub(self.history_from[PROVIDER]) * self.record_bytes,
                    state_bytes: self.state as u64,
                },
                above: (tip.height + 1).saturating_sub(self.history_from[PROVIDER].max(held + 1)) * self.record_bytes,
                age: self.age,
                needed: None,
                snapshot: self.made.as_ref().map(|made| made.at.height),
            },
            ArchiveWork::Prune { below } => {
                self.pruned.push(below);
                self.history_from[PROVIDER] = below;
                return (None, None);
            }
            ArchiveWork::Make { id } => {
                let at_hand = self.made.clone().filter(|made| Some(made.id()) == id);
                let made = at_hand.unwrap_or_else(|| {
                    self.makes += 1;
                    let file = SnapshotFile {
                        name: "000001.sst".into(),
                        bytes: self.state as u64,
                    };
                    Arc::new(Manifest {
                        nonce: self.makes as u64,
                        at: tip,
                        record: Bytes::from_static(b"record"),
                        files: vec![file],
                    })
                });
                self.made = Some(Arc::clone(&made));
                ArchiveEvent::Made(Ok(made))
            }
            ArchiveWork::DropMade => {
                self.made = None;
                return (None, None);
            }
            ArchiveWork::Ship {
                conn,
                stream,
                offset,
                bytes_max,
            } => {
                self.chunks += 1;
                let length = (self.state as u64 - offset).min(bytes_max as u64);
                let bytes: Vec<u8> = (offset..offset + length).map(|at| at as u8).collect();
                let mut payload = chunk_head(offset, &bytes).to_vec();
                payload.extend_from_slice(&bytes);
                if self.damaged > 0 {
                    self.damaged -= 1;
                    payload[50] ^= 1;
                }
                let frame = Frame::of(Kind::SnapshotChunk, tag, stream, payload.into());
                let result = Ok(length);
                let event = ArchiveEvent::Shipped {
                    conn,
                    stream,
                    result,
                    first: None,
                };
                return (Some((conn, frame)), Some(event));
            }
            ArchiveWork::ReadBack { conn, stream, last, .. } => {
                let payload = Bytes::from(last.to_le_bytes().to_vec());
                let frame = Frame::of(Kind::History, tag, stream, payload);
                let result = Ok(8);
                let event = ArchiveEvent::Shipped {
                    conn,
                    stream,
                    result,
                    first: Some(last.saturating_sub(9)),
                };
                return (Some((conn, frame)), Some(event));
            }
            ArchiveWork::Stage(manifest) if self.room.is_some_and(|room| room < manifest.bytes()) => {
                ArchiveEvent::Staged(Err(self.no_room()))
            }
            ArchiveWork::Adopt if self.full => ArchiveEvent::Failed(self.no_room()),
            ArchiveWork::Prepend(_) if self.full => ArchiveEvent::NotPrepended(self.no_room()),
            ArchiveWork::Stage(manifest) => {
                let id = manifest.id();
                let staged = self.staged.take().filter(|(known, ..)| *known == id);
                let (bytes, durable) = staged.map_or((Vec::new(), 0), |(_, mut bytes, durable)| {
                    bytes.truncate(durable as usize);
                    (bytes, durable)
                });
                self.staged = Some((id, bytes, durable));
                ArchiveEvent::Staged(Ok(durable))
            }
            ArchiveWork::Write { offset, sum, bytes } => {
                let (_, staged, _) = self.staged.as_mut().unwrap();
                assert_eq!(offset, staged.len() as u64);
                if ChunkSum::of(&bytes) == sum {
                    staged.extend_from_slice(&bytes);
                    ArchiveEvent::Written(staged.len() as u64)
                } else {
                    ArchiveEvent::Damaged
                }
            }
            ArchiveWork::Sync => {
                let (_, staged, durable) = self.staged.as_mut().unwrap();
                *durable = staged.len() as u64;
                ArchiveEvent::Kept(*durable)
            }
            ArchiveWork::Headers {
                conn,
                stream,
                first,
                last,
            } => {
                assert!(self.history_from[PROVIDER] <= first, "what links it is kept");
                let last = last.min(first + 6);
                self.headers += last + 1 - first;
                let frame = Frame::of(Kind::Headers, tag, stream, last.to_le_bytes().to_vec().into());
                let result = Ok(8);
                let event = ArchiveEvent::Shipped {
                    conn,
                    stream,
                    result,
                    first: None,
                };
                return (Some((conn, frame)), Some(event));
            }
            ArchiveWork::Link { headers, .. } => {
                let last = u64::from_le_bytes(headers.as_ref().try_into().unwrap());
                ArchiveEvent::Linked(self.linked.take().unwrap_or_else(|| Ok(at(last))))
            }
            ArchiveWork::Adopt => {
                let (id, staged, durable) = self.staged.take().unwrap();
                let made = self.made.clone().unwrap();
                assert_eq!((id, durable), (made.id(), made.bytes()));
                assert!(staged.iter().enumerate().all(|(at, byte)| *byte == at as u8));
                match self.adopt.take() {
                    Some(refusal) => ArchiveEvent::NotAdopted(refusal),
                    None => {
                        self.history_from[RECEIVER] = made.at.height;
                        ArchiveEvent::Adopted { tip: made.at }
                    }
                }
            }
            ArchiveWork::DropStaged => {
                self.staged = None;
                return (None, None);
            }
            ArchiveWork::Prepend(records) => {
                let last = u64::from_le_bytes(records.as_ref().try_into().unwrap());
                assert_eq!(last + 1, self.history_from[RECEIVER]);
                self.history_from[RECEIVER] = last.saturating_sub(9);
                ArchiveEvent::Prepended(self.history_from[RECEIVER])
            }
        };
        (None, Some(event))
    }
}

impl<S: FnMut(&[Told]) -> Answer> Ends<S> {
    pub(super) fn archive(&mut self, end: usize, work: ArchiveWork) {
        let (ns, other) = (namespace(), 1 - end);
        let (frame, event) = self.archives.work(end, work, at(self.tip));
        self.queue
            .extend(frame.map(|(conn, frame)| (other, Event::Frame { conn, frame })));
        if let Some(ArchiveEvent::Adopted { tip }) = &event {
            self.appended = tip.height;
        }
        self.queue
            .extend(event.map(|event| (end, Event::Archive { ns, event })));
    }
}

/// Begins from a snapshot where the provider's records do not reach back, streams otherwise.
fn advise(told: &[Told]) -> Answer {
    let Some(Told::Opened { view, .. } | Told::Progress(view) | Told::Tick(view) | Told::Stall { view, .. }) =
        told.first()
    else {
        return Ok(Vec::new());
    };
    if view.fetch.is_some() || view.peer.is_none() {
        return Ok(Vec::new());
    }
    let first = view.local.height + 1;
    Ok(vec![match view.snapshots.first() {
        Some(snapshot) if view.history_from > first => Advice::Bootstrap(snapshot.at.height),
        _ if view.history_from > first => Advice::Refuse("no history".into()),
        _ => Advice::Fetch(Fetch {
            first,
            last: u64::MAX,
            bytes_in_flight: 1 << 20,
        }),
    }])
}

pub(super) fn pruned(state: usize, may_close: bool) -> Ends<impl FnMut(&[Told]) -> Answer> {
    let mut provider = setup(Role::Provider);
    provider.namespaces[0].durable = at(500);
    (provider.namespaces[0].applied, provider.namespaces[0].history_from) = (500, 400);
    let mut ends = Ends::apart([provider, setup(Role::Receiver)], advise);
    ends.archives = Archives::of(1_000, state);
    ends.archives.history_from = [400, 0];
    (ends.tip, ends.may_close) = (500, may_close);
    ends
}

#[test]
fn a_standby_below_the_history_begins_from_a_snapshot_and_streams_the_rest() {
    let mut ends = pruned(5 * CHUNK + 7, false);
    ends.run(0);
    ends.grow(510);
    let mut filled = [Vec::new(), Vec::new()];
    for _ in 0..40 {
        ends.run(50);
        for end in [PROVIDER, RECEIVER] {
            filled[end].extend(ends.status(end).namespaces[0].backfill);
        }
    }
    assert_eq!((ends.appended, ends.archives.makes), (510, 1));
    for (end, filled) in filled.iter().enumerate() {
        let first = filled.first().expect("the filling in shows");
        assert_eq!((first.to, first.before), (400, 500), "{end}");
        assert!(filled.is_sorted_by(|a, b| a.from >= b.from && a.elapsed_ms < b.elapsed_ms) && filled.len() > 5);
        assert_eq!(ends.status(end).namespaces[0].backfill, None, "it has ended");
    }
    let (ours, theirs) = (ends.status(RECEIVER), ends.status(PROVIDER));
    assert!(ours.normal && theirs.normal, "{:?} {:?}", ours.reasons, theirs.reasons);
    // The rest of what the provider has comes from behind.
    assert_eq!(ours.namespaces[0].history_from, 400);
    assert!(
        ends.archives.made.is_none(),
        "the provider keeps it no longer than it is needed"
    );
    assert!(
        ours.namespaces[0].warnings[0].starts_with("history-incomplete: the history begins at block 400"),
        "{:?}",
        ours.namespaces[0].warnings
    );
}

#[test]
fn damaged_chunks_are_fetched_again_and_too_many_end_it() {
    let mut ends = pruned(5 * CHUNK, false);
    ends.archives.damaged = 3;
    ends.run(2_000);
    assert_eq!(ends.appended, 500);
    let mut ends = pruned(5 * CHUNK, false);
    ends.archives.damaged = 1_000;
    ends.run(1_000);
    let status = ends.status(RECEIVER);
    assert!(
        status.reasons.iter().any(|r| r.code.contains("snapshot-damaged")),
        "{:?}",
        status.reasons
    );
    assert_eq!((ends.appended, ends.archives.staged.is_none()), (0, true));
    assert!(ends.archives.chunks < 50, "{}", ends.archives.chunks);
    ends.archives.damaged = 0;
    ends.run(20_000);
    assert_eq!(ends.appended, 500, "it tries again");
}

/// A snapshot of block 500 is on its way in while the provider goes on to 530.
fn behind_the_tip(linked: Option<Result<Position, Refusal>>) -> Ends<impl FnMut(&[Told]) -> Answer> {
    let mut ends = pruned(3 * CHUNK, false);
    ends.archives.held_back = true;
    ends.archives.linked = linked;
    ends.run(0);
    ends.grow(530);
    ends.run(2_000);
    assert!(!ends.archives.waiting.is_empty());
    ends.archives.held_back = false;
    for work in std::mem::take(&mut ends.archives.waiting) {
        ends.archive(RECEIVER, work);
    }
    ends.run(1_000);
    ends
}

#[test]
fn a_snapshot_is_linked_to_the_tip_before_it_counts() {
    let ends = behind_the_tip(None);
    assert_eq!(
        (ends.appended, ends.archives.makes, ends.archives.headers),
        (530, 1, 30)
    );
}

#[test]
fn a_snapshot_that_does_not_lead_to_the_tip_is_dropped_and_another_one_fetched() {
    let unlinked = Refusal::new("snapshot-unlinked", "a gap", "");
    let elsewhere = Position {
        height: 530,
        hash: Digest([7; 32]),
    };
    let beyond = Position {
        height: 531,
        ..elsewhere
    };
    for wrong in [Err(unlinked), Ok(elsewhere), Ok(beyond)] {
        let mut ends = behind_the_tip(Some(wrong.clone()));
        let reasons = ends.status(RECEIVER).reasons;
        assert!(
            reasons.iter().any(|reason| reason.code.contains("snapshot-unlinked")),
            "{wrong:?}: {reasons:?}"
        );
        assert_eq!((ends.appended, ends.archives.staged.is_none()), (0, true), "{wrong:?}");
        ends.run(20_000);
        assert_eq!((ends.appended, ends.archives.makes), (530, 2), "{wrong:?}");
    }
}

#[test]
fn headers_that_nobody_may_ask_for_end_the_session() {
    // Before the whole snapshot is there, its own record again, and none at all.
    for (chunks_first, first, last) in [(false, 501, 510), (true, 500, 510), (true, 510, 509)] {
        let mut ends = pruned(CHUNK, true);
        ends.archives.held_back = true;
        ends.run(0);
        assert!(!ends.archives.waiting.is_empty());
        let tag = NamespaceTag::of(&namespace());
        if chunks_first {
            let mut held = crate::types::Writer::new();
            held.u64(CHUNK as u64);
            held.flag(false);
            let frame = Frame::of(Kind::SnapshotAck, tag, 1, held.into_bytes().into());
            ends.queue.push_back((PROVIDER, Event::Frame { conn: CONN, frame }));
        }
        let mut wish = crate::types::Writer::new();
        wish.u64(first);
        wish.u64(last);
        let frame = Frame::of(Kind::HeadersFetch, tag, 1, wish.into_bytes().into());
        ends.queue.push_back((PROVIDER, Event::Frame { conn: CONN, frame }));
        ends.run(0);
        let closed = ends.closed[PROVIDER].as_ref().map(ToString::to_string);
        assert!(
            closed.as_ref().is_some_and(|text| text.contains("wish for headers")),
            "{first} to {last}: {closed:?}"
        );
    }
}

#[test]
fn what_is_refused_as_a_whole_is_fetched_again_after_a_while() {
    let mut ends = pruned(CHUNK, false);
    ends.archives.adopt = Some(Refusal::new("snapshot-refused", "not what it says", ""));
    ends.run(1_000);
    let status = ends.status(RECEIVER);
    assert!(
        status.reasons.iter().any(|r| r.code.contains("snapshot-refused")),
        "{:?}",
        status.reasons
    );
    assert_eq!(ends.appended, 0);
    ends.run(20_000);
    assert_eq!((ends.appended, ends.archives.makes), (500, 2));
}

#[test]
fn what_the_receiver_lacks_is_kept_and_too_much_of_it_goes() {
    let mut provider = setup(Role::Provider);
    provider.namespaces[0].keep_blocks = 10;
    provider.limits.retain_bytes = 50_000;
    let mut ends = Ends::apart([provider, setup(Role::Receiver)], advise);
    ends.archives = Archives::of(1_000, 100);
    ends.run(0);
    ends.grow(30);
    ends.run(3_000);
    assert_eq!((ends.appended, ends.archives.pruned.last()), (30, Some(&21)));
    // The receiver's disk hangs: what it lacks stays.
    ends.failing[RECEIVER] = Some(Refusal::new("disk-full", "full", ""));
    ends.grow(70);
    ends.run(3_000);
    assert_eq!(ends.archives.pruned.last(), Some(&31));
    let lacked = |end: usize| ends.status(end).namespaces[0].lag_bytes;
    assert_eq!(lacked(PROVIDER), 40 * 1_000, "counted, not by what a test's runs weigh");
    let warned = &ends.status(PROVIDER).namespaces[0].warnings;
    assert!(
        warned.iter().any(|line| line.starts_with("retention-nearly-full: ")),
        "{warned:?}"
    );
    ends.grow(90);
    ends.run(3_000);
    assert_eq!(ends.archives.pruned.last(), Some(&81), "too much");
    ends.grow(100);
    ends.run(3_000);
    let pruned = ends.archives.pruned.last();
    assert_eq!(pruned, Some(&91), "of no use to a receiver that must begin anew");
    ends.failing[RECEIVER] = None;
    ends.run(5_000);
    assert_eq!((ends.appended, ends.archives.makes), (100, 1));
    assert!(ends.status(PROVIDER).normal, "{:?}", ends.status(PROVIDER).reasons);
}

#[test]
fn a_strategy_may_not_begin_from_what_nobody_offers() {
    let mut ends = Ends::attached(|_: &[Told]| Ok(vec![Advice::Bootstrap(7)]));
    ends.grow(20);
    ends.run(1_000);
    assert_eq!(ends.archives.makes, 0);
    assert!(
        ends.faults.iter().any(|fault| fault.code == "no-snapshot"),
        "{:?}",
        ends.faults
    );
}
