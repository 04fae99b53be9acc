//! Before a snapshot counts, its record is linked to the provider's tip: by the headers between them, some two thousand a frame, each
//! checked to follow the one below. A snapshot of another chain is found before anything here goes.

use crate::frame::{Frame, Kind};
use crate::session::refuse;
use crate::types::strategy::Level;
use crate::types::{Malformed, Millis, Position, Reader, Refusal, Writer};

use super::api::Action;
use super::archive::ArchiveWork;
use super::pair::Pair;

/// A wish that is not answered for so long is said again.
const ASK_AGAIN_MS: Millis = 30_000;

/// How far a snapshot's record is linked to the provider's tip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linking {
    /// Linked up to here.
    at: Position,
    /// The provider's tip when it began: a tip that moves meanwhile changes nothing of it.
    target: Position,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next headers are to be asked for.
    Due,
    /// They were asked for at this time.
    Asked(Millis),
    /// They came, and are being checked.
    Checking,
}

/// What a receiver does not stand on.
pub(super) fn unlinked(what: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        "snapshot-unlinked",
        format!("the snapshot's record does not lead to the provider's tip: {what}"),
        "what was here stays, and another one is fetched by itself; if it comes again, run `cvp verify` on the provider",
    )
}

impl Pair {
    /// Receiver: all bytes are here. Asks for the next headers, or adopts.
    pub(super) fn settle_linking(&mut self, index: usize) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some((taking, peer)) = lane.taking.as_mut().zip(lane.peer) else {
            return;
        };
        let Some(place) = taking.manifest.as_ref().map(|manifest| manifest.at) else {
            return;
        };
        if taking.linking.is_none() && peer.height < place.height {
            // It was told before the snapshot was made; the next one comes with a heartbeat.
            return;
        }
        let linking = taking.linking.get_or_insert(Linking {
            at: place,
            target: peer,
            step: Step::Due,
        });
        let is_due = match linking.step {
            Step::Due => true,
            Step::Asked(at) => now.saturating_sub(at) >= ASK_AGAIN_MS,
            Step::Checking => false,
        };
        let Linking { at, target, .. } = *linking;
        if !is_due {
            return;
        }
        if at == target {
            return self.adopt(index);
        }
        if at.height >= target.height {
            let what = format!(
                "{} stands at {} there, {} leads to it",
                target.hash.short(),
                target.height,
                at.hash.short()
            );
            return self.give_up_snapshot(index, unlinked(what), true);
        }
        (linking.step, lane.moved_at) = (Step::Asked(now), now);
        let mut out = Writer::with_capacity(16);
        out.u64(at.height + 1);
        out.u64(target.height);
        let frame = Frame::of(Kind::HeadersFetch, lane.tag, taking.stream, out.into_bytes().into());
        self.send_session(frame);
    }

    /// The provider kept the blocks after this snapshot as long as it may, and they are gone: begins with another one. Whether it did.
    pub(super) fn begin_with_another(&mut self, index: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(index) else {
            return false;
        };
        let taking = lane.taking.as_ref().filter(|taking| !taking.is_adopting());
        let manifest = taking.and_then(|taking| taking.manifest.as_ref());
        if lane.offer.is_none() || manifest.is_none_or(|it| lane.history_from <= it.at.height + 1) {
            return false;
        }
        (lane.taking, lane.staged, lane.wants_snapshot) = (None, None, true);
        let (ns, work) = (lane.setup.namespace.clone(), ArchiveWork::DropStaged);
        let named = Some(ns.clone());
        self.out.push(Action::Archive { ns, work });
        self.out.push(Action::Log {
            level: Level::Warn,
            ns: named,
            text: "the provider let the blocks after this snapshot go (cvp.retain_bytes): beginning with another one"
                .to_owned(),
        });
        true
    }

    pub(super) fn on_headers(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        let Some(taking) = lane.taking.as_mut().filter(|taking| taking.stream == frame.stream) else {
            return Ok(());
        };
        let Some(linking) = taking.linking.as_mut().filter(|it| matches!(it.step, Step::Asked(_))) else {
            return Err(refuse::unexpected("headers that were not asked for"));
        };
        if frame.payload.is_empty() {
            return Err(refuse::unexpected("no header"));
        }
        (linking.step, lane.moved_at) = (Step::Checking, now);
        let work = ArchiveWork::Link {
            from: linking.at,
            headers: frame.payload.clone(),
        };
        let ns = lane.setup.namespace.clone();
        self.out.push(Action::Archive { ns, work });
        Ok(())
    }

    pub(super) fn on_linked(&mut self, index: usize, result: Result<Position, Refusal>) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let linking = lane.taking.as_mut().and_then(|taking| taking.linking.as_mut());
        // Of a stream that was given up meanwhile.
        let Some(linking) = linking.filter(|it| matches!(it.step, Step::Checking)) else {
            return;
        };
        match result {
            Ok(at) => (linking.at, linking.step, lane.moved_at) = (at, Step::Due, now),
            Err(refusal) => self.give_up_snapshot(index, refusal, true),
        }
    }

    /// Provider: the receiver has the whole snapshot, and asks how its record is linked to the tip.
    pub(super) fn on_headers_fetch(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        let mut input = Reader::new(&frame.payload);
        let mut read = || -> Result<_, Malformed> { Ok((input.u64()?, input.u64()?)) };
        let (first, last) = read().map_err(|error| refuse::malformed("a wish for headers", &error))?;
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        let shipping = &mut lane.shipping;
        let Some(place) = shipping.place(frame.stream) else {
            return Ok(());
        };
        if !shipping.is_whole() || first <= place.height || first > last {
            return Err(refuse::unexpected("wish for headers"));
        }
        // One at a time: another one takes its place.
        (shipping.headers, lane.moved_at) = (Some((first, last)), now);
        Ok(())
    }

    /// Provider: reads the headers that are wanted, when nothing else is being read.
    pub(super) fn settle_headers(&mut self, index: usize) {
        let conn = self.session.as_ref().map(|session| session.conn);
        let Some((lane, conn)) = self.lanes.get_mut(index).zip(conn) else {
            return;
        };
        let Some((first, last)) = lane.shipping.begin_headers() else {
            return;
        };
        let ns = lane.setup.namespace.clone();
        let work = ArchiveWork::Headers {
            conn,
            stream: lane.shipping.stream(),
            first,
            last,
        };
        self.out.push(Action::Archive { ns, work });
    }
}
