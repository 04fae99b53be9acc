//! The receiver's half of a bootstrap: a snapshot comes in beside what is here, is made durable group by group, and is adopted as a whole.
//!
//! How far it is outlives sessions and restarts, so an interrupted one goes on; a tip that moves meanwhile changes nothing of it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::frame::{Frame, Kind};
use crate::ledger::Manifest;
use crate::session::hello::write_position;
use crate::session::refuse;
use crate::types::strategy::Level;
use crate::types::{Micros, Millis, Position, Reader, Refusal, Writer};

use super::api::Action;
use super::archive::ArchiveWork;
use super::chunk::{CHUNK_HEAD_BYTES, ChunkSum, read_chunk_head};
use super::linking::Linking;
use super::pair::Pair;
use super::staged::StagedPart;
use super::status::{BootstrapStatus, BootstrappedStatus};

/// Bytes that may be sent and not yet durable here.
const CREDIT_BYTES: u64 = 32 << 20;
/// Written bytes that are worth an fsync while more come.
const GROUP_BYTES: u64 = 8 << 20;
/// Of a slow stream whatever came is made durable so often.
const GROUP_MS: Millis = 500;
/// A wish that is not answered for so long is said again: making a snapshot flushes what the provider holds in memory.
const ASK_AGAIN_MS: Millis = 30_000;
/// Snapshots that come in at one time; further namespaces wait for their turn.
const TAKINGS_MAX: usize = 4;
/// Damaged chunks in a row that end it.
const DAMAGED_MAX: u32 = 5;

/// A snapshot on its way in.
#[derive(Clone, Debug)]
pub(super) struct Taking {
    pub(super) stream: u32,
    asked_at: Millis,
    pub(super) manifest: Option<Arc<Manifest>>,
    /// The store has made room for it, or found what it has of it.
    staged: bool,
    /// The next byte that comes.
    expected: u64,
    queue: VecDeque<(u64, ChunkSum, Bytes)>,
    queued: u64,
    writing: Option<Millis>,
    written: u64,
    syncing: Option<Millis>,
    /// When the last group became durable.
    kept_at: Millis,
    durable: u64,
    damaged: u32,
    /// How the snapshot's record is linked to the provider's tip.
    pub(super) linking: Option<Linking>,
    adopting: bool,
    begun: Millis,
    begun_micros: Micros,
    /// When the last byte was durable.
    whole_micros: Micros,
    from: u64,
}

impl Taking {
    fn total(&self) -> Option<u64> {
        self.manifest.as_ref().map(|manifest| manifest.bytes())
    }

    /// How far it is.
    pub fn progress(&self, now: Millis) -> BootstrapStatus {
        BootstrapStatus {
            bytes: self.durable,
            total: self.total().unwrap_or(0),
            before: self.from,
            elapsed_ms: now.saturating_sub(self.begun),
        }
    }

    /// What the store needs room for next, bytes: all of it before the first byte; when it is adopted, a log that begins with its record.
    pub fn room_bytes(&self) -> u64 {
        match &self.manifest {
            Some(manifest) if !self.staged => manifest.bytes(),
            Some(manifest) if self.adopting => manifest.record.len() as u64,
            _ => 0,
        }
    }

    /// The whole is here and being checked.
    pub fn is_adopting(&self) -> bool {
        self.adopting
    }

    /// Since when the disk works on it.
    pub fn disk_since(&self) -> Option<Millis> {
        self.writing.into_iter().chain(self.syncing).min()
    }
}

impl Pair {
    /// A strategy wants to begin from a snapshot: the stream ends, and it begins once the log is quiet.
    pub(super) fn advise_bootstrap(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.taking.is_some() || lane.halt.is_some() || lane.store.is_some() {
            return;
        }
        lane.intake.forget_stream();
        (lane.advisor.paused, lane.wants_snapshot) = (None, true);
        lane.moved_at = self.now;
    }

    pub(super) fn settle_wish(&mut self, index: usize) {
        let (now, under_way) = (self.now, self.lanes.iter().filter(|lane| lane.taking.is_some()).count());
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if !lane.wants_snapshot || lane.peer.is_none() || !lane.intake.is_quiet() {
            return;
        }
        if under_way >= TAKINGS_MAX {
            // It waits for its turn: the stream does not stand still.
            lane.moved_at = now;
            return;
        }
        if now < lane.beginnings.next_at() {
            lane.moved_at = now;
            return;
        }
        lane.wants_snapshot = false;
        lane.snapshot_streams += 1;
        let from = lane.staged.map_or(0, |staged| staged.durable);
        lane.taking = Some(Taking {
            stream: lane.snapshot_streams,
            asked_at: now,
            manifest: None,
            staged: false,
            expected: from,
            queue: VecDeque::new(),
            queued: 0,
            writing: None,
            written: from,
            syncing: None,
            kept_at: now,
            durable: from,
            damaged: 0,
            linking: None,
            adopting: false,
            begun: now,
            begun_micros: self.now_micros,
            whole_micros: 0,
            from,
        });
        self.ask_snapshot(index);
        let Some(lane) = self.lanes.get(index) else { return };
        let text = match from {
            0 => "beginning from a snapshot of the provider's state".to_owned(),
            from => format!("going on with a snapshot of the provider's state, {from} bytes are here"),
        };
        let ns = Some(lane.setup.namespace.clone());
        self.out.push(Action::Log {
            level: Level::Info,
            ns,
            text,
        });
    }

    fn ask_snapshot(&mut self, index: usize) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let id = lane.staged.map(|staged| staged.id);
        let Some(taking) = &mut lane.taking else { return };
        taking.asked_at = now;
        lane.moved_at = now;
        let mut out = Writer::with_capacity(56);
        out.option(id.as_ref(), |out, id| out.digest(id));
        out.u64(taking.durable);
        out.u64(CREDIT_BYTES);
        let frame = Frame::of(Kind::SnapshotFetch, lane.tag, taking.stream, out.into_bytes().into());
        self.send_session(frame);
    }

    /// Asks anew, from what is durable: what is under way of the stream before is dropped when it comes.
    fn ask_snapshot_anew(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.snapshot_streams += 1;
        if let Some(taking) = &mut lane.taking {
            taking.stream = lane.snapshot_streams;
            (taking.manifest, taking.staged, taking.linking) = (None, false, None);
            taking.queue.clear();
            taking.queued = 0;
            (taking.expected, taking.written) = (taking.durable, taking.durable);
        }
        self.ask_snapshot(index);
    }

    pub(super) fn on_snapshot_manifest(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        let Some(taking) = lane.taking.as_mut().filter(|taking| taking.stream == frame.stream) else {
            return Ok(());
        };
        if taking.manifest.is_some() {
            return Err(refuse::unexpected("second manifest of a snapshot"));
        }
        let manifest =
            Manifest::decode(&frame.payload).map_err(|error| refuse::malformed("a snapshot's manifest", &error))?;
        let same = lane.staged.is_some_and(|staged| staged.id == manifest.id());
        if !same {
            (taking.expected, taking.written, taking.durable, taking.from) = (0, 0, 0, 0);
        }
        let manifest = Arc::new(manifest);
        taking.manifest = Some(Arc::clone(&manifest));
        lane.moved_at = now;
        let ns = lane.setup.namespace.clone();
        let work = ArchiveWork::Stage(manifest);
        self.out.push(Action::Archive { ns, work });
        Ok(())
    }

    pub(super) fn on_staged(&mut self, index: usize, result: Result<u64, Refusal>) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(taking) = &mut lane.taking else { return };
        let durable = match result {
            Ok(durable) => durable,
            // The store is looked at until there is room.
            Err(refusal) if refusal.code == "disk-full" => return self.on_archive_failed(index, refusal),
            Err(refusal) => return self.give_up_snapshot(index, refusal, true),
        };
        let Some(manifest) = &taking.manifest else { return };
        lane.staged = Some(StagedPart {
            id: manifest.id(),
            durable,
            total: manifest.bytes(),
            height: manifest.at.height,
        });
        lane.moved_at = now;
        if durable == taking.durable {
            taking.staged = true;
        } else {
            // What was staged is not what this machine knew.
            taking.durable = durable;
            self.ask_snapshot_anew(index);
        }
    }

    pub(super) fn on_snapshot_chunk(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        let Some(taking) = lane.taking.as_mut().filter(|taking| taking.stream == frame.stream) else {
            return Ok(());
        };
        let Some(total) = taking.total() else {
            return Err(refuse::unexpected("chunk of a snapshot before its manifest"));
        };
        let mut input = Reader::new(&frame.payload);
        let (offset, sum) =
            read_chunk_head(&mut input).map_err(|error| refuse::malformed("a chunk of a snapshot", &error))?;
        let bytes = frame.payload.slice(CHUNK_HEAD_BYTES..);
        let length = bytes.len() as u64;
        let allowed = taking.durable.saturating_add(CREDIT_BYTES).min(total);
        if offset != taking.expected || length == 0 || offset.saturating_add(length) > allowed {
            return Err(refuse::unexpected(&format!(
                "chunk of {length} bytes at {offset} of a snapshot: {} to {allowed} may come",
                taking.expected
            )));
        }
        taking.expected += length;
        taking.queued += length;
        taking.queue.push_back((offset, sum, bytes));
        lane.moved_at = now;
        self.flows(index);
        Ok(())
    }

    pub(super) fn on_snapshot_written(&mut self, index: usize, written: u64) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(taking) = &mut lane.taking else { return };
        taking.writing = None;
        // Of a stream that was given up meanwhile: the bytes are right, and those that follow come again.
        if taking.staged && written <= taking.expected {
            taking.written = taking.written.max(written);
        }
        lane.moved_at = now;
    }

    /// A chunk was damaged on its way, or where it came from: it is fetched again.
    pub(super) fn on_snapshot_damaged(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(taking) = &mut lane.taking else { return };
        taking.writing = None;
        taking.damaged += 1;
        let ns = Some(lane.setup.namespace.clone());
        if taking.damaged >= DAMAGED_MAX {
            let refusal = Refusal::new(
                "snapshot-damaged",
                format!("{DAMAGED_MAX} chunks of a snapshot in a row are not what their sums say"),
                "check memory and disk of the provider",
            );
            return self.give_up_snapshot(index, refusal, true);
        }
        let text = format!(
            "a chunk of the snapshot is damaged: fetching again from byte {}",
            taking.durable
        );
        self.out.push(Action::Log {
            level: Level::Warn,
            ns,
            text,
        });
        // What was written above the durable bytes is written again.
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if let Some(taking) = &mut lane.taking {
            taking.staged = false;
        }
        self.rewind(index);
    }

    /// The store goes back to what is durable, and the provider is asked from there.
    fn rewind(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let ns = lane.setup.namespace.clone();
        let work = ArchiveWork::Sync;
        if let Some(taking) = &mut lane.taking {
            taking.queue.clear();
            taking.queued = 0;
            taking.syncing = Some(self.now);
        }
        self.out.push(Action::Archive { ns, work });
    }

    pub(super) fn on_snapshot_kept(&mut self, index: usize, durable: u64) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if let Some(staged) = &mut lane.staged {
            staged.durable = durable;
        }
        let Some(taking) = &mut lane.taking else { return };
        (taking.syncing, taking.kept_at) = (None, now);
        // An fsync may end after the store went back to what was durable before it.
        let durable = durable.min(taking.written);
        if durable > taking.durable {
            taking.damaged = 0;
        }
        (taking.durable, lane.moved_at) = (durable, now);
        if !taking.staged {
            return self.ask_snapshot_anew(index);
        }
        let frame = held_frame(lane.tag, taking.stream, durable, None);
        self.send_session(frame);
    }

    pub(super) fn on_adopted(&mut self, index: usize, tip: Position) {
        let (now, now_micros, role) = (self.now, self.now_micros, self.setup.role);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let taking = lane.taking.take();
        lane.beginnings.count(now);
        lane.bootstrapped = taking.as_ref().map(|taking| BootstrappedStatus {
            height: tip.height,
            bytes: taking.durable - taking.from,
            copy_micros: taking.whole_micros.saturating_sub(taking.begun_micros),
            check_micros: now_micros.saturating_sub(taking.whole_micros),
        });
        let stream = taking.map(|taking| (taking.stream, taking.durable));
        (lane.staged, lane.setup.history_from) = (None, tip.height);
        if let Some(offer) = &mut lane.offer {
            // It counted from what was here before; the provider counts anew. Until then nobody knows how large the next records are.
            (offer.above, offer.came) = (Some((tip.height, 0)), 0);
            lane.record_bytes_16 = 0;
        }
        lane.intake.stand_on(tip);
        lane.move_local(role, tip, tip.height, now);
        (lane.moved_at, lane.halts) = (now, 0);
        lane.advisor.desk.owes_opened = lane.peer.is_some();
        let (tag, ns) = (lane.tag, Some(lane.setup.namespace.clone()));
        if let Some((stream, durable)) = stream.filter(|_| lane.peer.is_some()) {
            lane.acked = lane.acked.max(tip.height);
            let peer = lane.peer.filter(|peer| peer.height >= tip.height).unwrap_or(tip);
            lane.hear_peer(role, peer, now);
            self.send_session(held_frame(tag, stream, durable, Some(tip)));
        }
        self.out.push(Action::Log {
            level: Level::Info,
            ns,
            text: format!(
                "standing on the snapshot at {}: its state has the sum that the record's header says",
                tip.height
            ),
        });
    }

    /// It is not what it should be, or the store has no room for it.
    pub(super) fn give_up_snapshot(&mut self, index: usize, refusal: Refusal, drop: bool) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        (lane.taking, lane.staged) = (None, None);
        let ns = lane.setup.namespace.clone();
        if drop {
            let work = ArchiveWork::DropStaged;
            self.out.push(Action::Archive { ns, work });
        }
        self.halt(index, refusal, true);
    }

    /// The provider stands still: it is asked anew when the stream goes on.
    pub(super) fn halted_by_provider(&mut self, index: usize, refusal: Refusal) {
        self.keep_what_came(index);
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.taking = lane.taking.take().filter(Taking::is_adopting);
        }
        self.halt(index, refusal, false);
    }

    /// The session is over: what was written of a snapshot is made durable, so that the next one goes on there.
    pub(super) fn keep_what_came(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let came = lane.taking.as_ref().is_some_and(|taking| {
            let busy = taking.syncing.is_some() || taking.adopting || !taking.staged;
            !busy && (taking.written > taking.durable || taking.writing.is_some())
        });
        if came {
            let (ns, work) = (lane.setup.namespace.clone(), ArchiveWork::Sync);
            self.out.push(Action::Archive { ns, work });
        }
    }

    pub(super) fn settle_taking(&mut self, index: usize) {
        if self.begin_with_another(index) {
            return;
        }
        let (now, now_micros) = (self.now, self.now_micros);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let streams = lane.peer.is_some();
        let Some(taking) = &mut lane.taking else { return };
        let ns = lane.setup.namespace.clone();
        if taking.manifest.is_none() {
            if streams && now.saturating_sub(taking.asked_at) >= ASK_AGAIN_MS {
                self.ask_snapshot_anew(index);
            }
            return;
        }
        if !taking.staged || taking.adopting {
            return;
        }
        if taking.writing.is_none()
            && let Some((offset, sum, bytes)) = taking.queue.pop_front()
        {
            taking.queued -= bytes.len() as u64;
            taking.writing = Some(now);
            let work = ArchiveWork::Write { offset, sum, bytes };
            self.out.push(Action::Archive { ns: ns.clone(), work });
        }
        let Some(taking) = self.lanes.get_mut(index).and_then(|lane| lane.taking.as_mut()) else {
            return;
        };
        let total = taking.total().unwrap_or(0);
        let waits = taking.written.saturating_sub(taking.durable);
        let last = taking.written >= total && taking.writing.is_none();
        let long = now.saturating_sub(taking.kept_at) >= GROUP_MS;
        if taking.syncing.is_none() && waits > 0 && (waits >= GROUP_BYTES || last || long) {
            taking.syncing = Some(now);
            let work = ArchiveWork::Sync;
            self.out.push(Action::Archive { ns, work });
        } else if taking.syncing.is_none() && taking.durable >= total {
            if taking.linking.is_none() {
                taking.whole_micros = now_micros;
            }
            self.settle_linking(index);
        }
    }

    /// The whole is here, and its record is one of the provider's chain.
    pub(super) fn adopt(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(taking) = &mut lane.taking else { return };
        taking.adopting = true;
        let (ns, work) = (lane.setup.namespace.clone(), ArchiveWork::Adopt);
        self.out.push(Action::Archive { ns, work });
    }
}

/// The receiver holds so much of a snapshot; or stands on it.
fn held_frame(tag: crate::frame::NamespaceTag, stream: u32, durable: u64, adopted: Option<Position>) -> Frame {
    let mut out = Writer::with_capacity(56);
    out.u64(durable);
    out.option(adopted.as_ref(), write_position);
    Frame::of(Kind::SnapshotAck, tag, stream, out.into_bytes().into())
}
