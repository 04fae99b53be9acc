//! The provider's half of a bootstrap: the snapshot that a receiver asked for goes out in chunks, as many as the receiver allows.
//!
//! The snapshot outlives sessions and restarts. It goes once the receiver stands on it, or another one is asked for.

use std::sync::Arc;

use crate::frame::{Frame, Kind};
use crate::ledger::Manifest;
use crate::session::hello::read_position;
use crate::session::refuse;
use crate::types::strategy::Level;
use crate::types::{Digest, Height, Malformed, Millis, Position, Reader, Refusal};

use super::advice::halt_frame;
use super::api::{Action, ConnId};
use super::archive::ArchiveWork;
use super::budget::{Cargo, at_most};
use super::pair::Pair;
use super::status::BootstrapStatus;

/// Bytes of one chunk: what an interruption may cost.
const CHUNK_BYTES: usize = 1 << 20;

/// A snapshot that no receiver asked for in so long goes from the disk: its files hold what the database has dropped since.
const UNUSED_MS: Millis = 3_600_000;

/// A namespace's snapshot on its way out.
#[derive(Clone, Debug, Default)]
pub(super) struct Shipping {
    stream: u32,
    /// What the receiver has of one, and how far; while one is being made.
    making: Option<(Option<Digest>, u64)>,
    manifest: Option<Arc<Manifest>>,
    /// Since when nobody has asked for what may be at hand.
    unused_since: Option<Millis>,
    /// The receiver wants its bytes.
    open: bool,
    next: u64,
    acked: u64,
    /// What the receiver had of it when this stream began, and when that was.
    begun: (u64, Millis),
    credit: u64,
    reading: bool,
    /// What is read are headers.
    reads_headers: bool,
    /// Headers that the receiver wants.
    pub(super) headers: Option<(Height, Height)>,
}

impl Shipping {
    /// The node has started: the one before may have left a snapshot.
    pub fn start(&mut self, now: Millis) {
        self.unused_since = Some(now);
    }

    /// The session is over; the snapshot stays for a while.
    pub fn detach(&mut self, now: Millis) {
        if self.making.is_some() || self.open {
            self.unused_since = Some(now);
        }
        (self.open, self.making, self.stream) = (false, None, 0);
        (self.reading, self.reads_headers, self.headers) = (false, false, None);
    }

    /// The record after the snapshot: its tail must be kept.
    pub fn needs_from(&self) -> Option<Height> {
        let manifest = self.manifest.as_ref()?;
        Some(manifest.at.height + 1)
    }

    /// Where the snapshot was taken that this stream hands over.
    pub fn place(&self, stream: u32) -> Option<Position> {
        let manifest = self.manifest.as_ref().filter(|_| self.open && self.stream == stream)?;
        Some(manifest.at)
    }

    /// Number of the stream.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// The headers to read now, if any are wanted and nothing else is being read.
    pub fn begin_headers(&mut self) -> Option<(Height, Height)> {
        let wanted = self.headers.take_if(|_| self.open && !self.reading)?;
        (self.reading, self.reads_headers) = (true, true);
        Some(wanted)
    }

    /// Bytes that may have left: what is being read may be on its way before the answer comes.
    fn sent_at_most(&self) -> u64 {
        let on_its_way = self.reading && !self.reads_headers;
        self.next + if on_its_way { CHUNK_BYTES as u64 } else { 0 }
    }

    /// The receiver holds all of it, and has not said yet that it stands on it.
    pub fn is_whole(&self) -> bool {
        let sent = self.manifest.as_ref().filter(|_| self.open);
        sent.is_some_and(|manifest| self.acked >= manifest.bytes())
    }

    /// Whether one is on its way.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// How far the snapshot is that is on its way.
    pub fn progress(&self, now: Millis) -> Option<BootstrapStatus> {
        let manifest = self.manifest.as_ref().filter(|_| self.open)?;
        let (before, at) = self.begun;
        Some(BootstrapStatus {
            bytes: self.acked,
            total: manifest.bytes(),
            before,
            elapsed_ms: now.saturating_sub(at),
        })
    }
}

impl Pair {
    pub(super) fn on_snapshot_fetch(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        let mut input = Reader::new(&frame.payload);
        let mut read = || -> Result<_, Malformed> { Ok((input.option(Reader::digest)?, input.u64()?, input.u64()?)) };
        let (id, from, credit) = read().map_err(|error| refuse::malformed("a wish for a snapshot", &error))?;
        let window = self.setup.limits.window_bytes_max;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        let shipping = &mut lane.shipping;
        if frame.stream <= shipping.stream {
            return Err(refuse::unexpected("number of a wish for a snapshot"));
        }
        lane.sender.stop();
        (shipping.stream, shipping.open, shipping.headers) = (frame.stream, false, None);
        shipping.unused_since = None;
        shipping.credit = credit.min(window).max(1);
        // Wishes that come while one is being made are answered by it: whoever floods them costs no more than one snapshot at a time.
        let asked = shipping.making.replace((id, from)).is_some();
        lane.moved_at = self.now;
        let ns = lane.setup.namespace.clone();
        if !asked {
            let work = ArchiveWork::Make { id };
            self.out.push(Action::Archive { ns, work });
        }
        Ok(())
    }

    pub(super) fn on_snapshot_made(&mut self, index: usize, made: Result<Arc<Manifest>, Refusal>) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some((id, from)) = lane.shipping.making.take() else {
            return;
        };
        let manifest = match made {
            Ok(manifest) => manifest,
            Err(refusal) => {
                let frame = halt_frame(lane, &refusal);
                let ns = Some(lane.setup.namespace.clone());
                self.send_session(frame);
                let text = format!("no snapshot for the standby: {refusal}");
                return self.out.push(Action::Log {
                    level: Level::Warn,
                    ns,
                    text,
                });
            }
        };
        let shipping = &mut lane.shipping;
        let goes_on = id == Some(manifest.id()) && from <= manifest.bytes();
        (shipping.next, shipping.acked) = if goes_on { (from, from) } else { (0, 0) };
        (shipping.open, shipping.begun) = (true, (shipping.acked, self.now));
        let frame = Frame::of(
            Kind::SnapshotManifest,
            lane.tag,
            shipping.stream,
            manifest.encode().into(),
        );
        lane.shipping.manifest = Some(manifest);
        lane.moved_at = self.now;
        self.send_session(frame);
    }

    /// The receiver holds so much of it durably; or it stands on it now.
    pub(super) fn on_snapshot_ack(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        let mut input = Reader::new(&frame.payload);
        let mut read = || -> Result<_, Malformed> { Ok((input.u64()?, input.option(read_position)?)) };
        let (durable, adopted) = read().map_err(|error| refuse::malformed("what is held of a snapshot", &error))?;
        let (now, role) = (self.now, self.setup.role);
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        if frame.stream != lane.shipping.stream || !lane.shipping.open {
            return Ok(());
        }
        if durable < lane.shipping.acked || durable > lane.shipping.sent_at_most() {
            return Err(refuse::unexpected(
                "bytes held of a snapshot, more than were sent or fewer than before",
            ));
        }
        lane.shipping.acked = durable;
        lane.moved_at = now;
        let Some(adopted) = adopted else { return Ok(()) };
        let at = lane.shipping.manifest.take().map(|manifest| manifest.at);
        if at != Some(adopted) {
            return Err(refuse::unexpected("place where a snapshot was taken"));
        }
        lane.shipping.open = false;
        lane.sender.stand_on(adopted);
        lane.acked = lane.acked.max(adopted.height);
        lane.hear_peer(role, adopted, now);
        // It is told how much it lacks now.
        (lane.survey.at, lane.survey.told) = (None, None);
        let ns = lane.setup.namespace.clone();
        let (work, from) = (ArchiveWork::DropMade, ns.clone());
        self.out.push(Action::Archive { ns, work });
        self.out.push(Action::Log {
            level: Level::Info,
            ns: Some(from),
            text: format!("the standby stands on the snapshot at {}", adopted.height),
        });
        Ok(())
    }

    /// A receiver that vanished in the middle of it may come back; not for ever.
    pub(super) fn settle_unused_snapshot(&mut self, index: usize) {
        let (now, standby) = (self.now, self.is_standby());
        let Some(lane) = self.lanes.get_mut(index).filter(|_| standby) else {
            return;
        };
        let shipping = &mut lane.shipping;
        let long = |since: &mut Millis| now.saturating_sub(*since) >= UNUSED_MS;
        if shipping.unused_since.take_if(long).is_some() {
            (shipping.open, shipping.manifest) = (false, None);
            let (ns, work) = (lane.setup.namespace.clone(), ArchiveWork::DropMade);
            self.out.push(Action::Archive { ns, work });
        }
    }

    pub(super) fn settle_shipping(&mut self, index: usize) {
        let Some(conn) = self.session.as_ref().map(|session| session.conn) else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let shipping = &mut lane.shipping;
        let Some(total) = shipping.manifest.as_ref().filter(|_| shipping.open).map(|m| m.bytes()) else {
            return;
        };
        let room = shipping
            .credit
            .saturating_sub(shipping.next.saturating_sub(shipping.acked));
        if shipping.reading || shipping.next >= total || room == 0 {
            return;
        }
        let Some(piece) = self.piece(index, Cargo::Backlog) else {
            return;
        };
        let bytes_max = at_most(room.min(piece), CHUNK_BYTES);
        self.pay_ahead(index, Cargo::Backlog, bytes_max);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let shipping = &mut lane.shipping;
        shipping.reading = true;
        let work = ArchiveWork::Ship {
            conn,
            stream: shipping.stream,
            offset: shipping.next,
            bytes_max,
        };
        let ns = lane.setup.namespace.clone();
        self.out.push(Action::Archive { ns, work });
    }

    pub(super) fn on_shipped(
        &mut self,
        index: usize,
        (conn, stream): (ConnId, u32),
        result: Result<u64, Refusal>,
        first: Option<Height>,
    ) {
        if !self.is_session(conn) {
            return;
        }
        self.spend(index, result.as_ref().map_or(0, |bytes| *bytes));
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.backfill.on_sent(stream, first) {
            return;
        }
        let shipping = &mut lane.shipping;
        shipping.reading = false;
        let headers = std::mem::take(&mut shipping.reads_headers);
        if stream != shipping.stream {
            return;
        }
        match result {
            Ok(_) if headers => {}
            Ok(bytes) => shipping.next += bytes,
            // The files of the snapshot cannot be read: the next wish makes another.
            Err(refusal) => {
                (shipping.open, shipping.manifest) = (false, None);
                let frame = halt_frame(lane, &refusal);
                let ns = lane.setup.namespace.clone();
                let work = ArchiveWork::DropMade;
                self.out.push(Action::Archive { ns, work });
                self.send_session(frame);
            }
        }
    }
}
