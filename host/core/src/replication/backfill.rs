//! History older than a snapshot is filled in from behind, newest first, at the lowest priority: one piece at a time, only while the receiver
//! follows the tip, and with a pause as long as the work took. An upgrade ends it for good.

use bytes::Bytes;

use crate::frame::{Frame, Kind};
use crate::session::refuse;
use crate::types::strategy::{Level, Role};
use crate::types::{Height, Malformed, Millis, Reader, Refusal, Writer};

use super::api::{Action, ConnId};
use super::archive::ArchiveWork;
use super::budget::{Cargo, PieceSize, at_most};
use super::lane::Lane;
use super::pair::Pair;
use super::status::BackfillStatus;

/// Bytes of the largest piece: what the live tail may have to wait for on the link.
const PIECE_BYTES: u64 = 4 << 20;
/// Least pause between two pieces.
const PAUSE_MS: Millis = 10;
/// A disk without room for a piece is tried again after so long.
const ROOM_MS: Millis = 15_000;
/// A piece that has not come for so long is asked for again.
const ASK_AGAIN_MS: Millis = 60_000;

/// One namespace's backfill, on either end.
#[derive(Clone, Debug, Default)]
pub(super) struct Backfill {
    /// Receiver: number of the piece that is asked for, and when it was.
    asked: Option<(u32, Millis)>,
    prepending: bool,
    next_at: Millis,
    /// Receiver: of the next piece.
    size: PieceSize,
    /// Receiver: where the history began when the first piece of this session was asked for, and when that was.
    begun: Option<(Height, Millis)>,
    /// Receiver: why it has ended before its time, in this session.
    pub refused: Option<Refusal>,
    /// Receiver: the disk has no room for the next piece; the stream has, as long as its log has.
    pub waits_for_room: Option<Refusal>,
    /// Provider: what the receiver asked for: number, last height, bytes.
    wanted: Option<(u32, Height, usize)>,
    /// Provider: the number of the piece that is being read.
    reading: Option<u32>,
    /// Provider: what this session's wishes tell of the receiver's history.
    served: Option<Served>,
}

/// How far a receiver is, as its provider knows.
#[derive(Clone, Copy, Debug)]
struct Served {
    /// Where its history begins, or will with what was sent.
    from: Height,
    /// Where it began at the first wish, and when that came.
    begun: (Height, Millis),
    /// When the last one came.
    asked: Millis,
}

impl Backfill {
    /// Provider: the piece to read now: number, last height, bytes.
    fn to_read(&self) -> Option<(u32, Height, usize)> {
        self.wanted.filter(|_| self.reading.is_none())
    }

    /// The session is over.
    pub fn detach(&mut self) {
        (self.asked, self.wanted, self.refused, self.begun) = (None, None, None, None);
        // Its answer belongs to the session's link, and numbers begin anew with the next one.
        (self.reading, self.served) = (None, None);
    }

    /// Provider: a piece that begins at `first` was sent, or cannot be; false: it was something else.
    pub fn on_sent(&mut self, stream: u32, first: Option<Height>) -> bool {
        if self.reading != Some(stream) {
            return false;
        }
        self.reading = None;
        if let (Some(served), Some(first)) = (&mut self.served, first) {
            served.from = first;
        }
        true
    }

    /// Provider: the receiver wishes for what ends at `last`.
    fn serve(&mut self, last: Height, now: Millis) {
        let from = last.saturating_add(1);
        let begun = self.served.map_or((from, now), |served| served.begun);
        self.served = Some(Served {
            from,
            begun,
            asked: now,
        });
    }
}

/// Whether a receiver lacks history that its provider has.
pub(super) fn is_wanted(lane: &Lane) -> bool {
    lane.setup.backfill && lane.offer.is_some() && lane.setup.history_from > lane.history_from
}

impl Lane {
    /// How far it is, as long as it is wanted; on a provider, as long as the receiver goes on asking.
    pub fn backfill_status(&self, role: Role, now: Millis) -> Option<BackfillStatus> {
        let (from, to, (before, at)) = match role {
            Role::Provider => {
                let to = self.survey.kept.history_from;
                let asks = |served: &Served| served.from > to && now.saturating_sub(served.asked) < 2 * ASK_AGAIN_MS;
                let served = self.backfill.served.filter(asks)?;
                (served.from, to, served.begun)
            }
            Role::Receiver => {
                if self.backfill.refused.is_some() || !is_wanted(self) {
                    return None;
                }
                let from = self.setup.history_from;
                (from, self.history_from, self.backfill.begun.unwrap_or((from, now)))
            }
        };
        let begun = before;
        let lately = self.courses.1.since(now).filter(|(before, _)| *before >= from);
        let (before, elapsed_ms) = lately.unwrap_or((before, now.saturating_sub(at)));
        Some(BackfillStatus {
            from,
            to,
            begun,
            before,
            elapsed_ms,
        })
    }

    /// What an operator should know of a receiver's history.
    pub fn history_warning(&self, role: Role) -> Option<String> {
        let from = self.setup.history_from;
        if role == Role::Provider || from == 0 {
            return None;
        }
        let more = match (&self.backfill.refused, &self.backfill.waits_for_room) {
            (Some(refusal), _) => format!(", and is filled in no further: {}", refusal.text),
            (None, _) if !is_wanted(self) => String::new(),
            (None, Some(refusal)) => format!(", and is filled in when there is room: {}", refusal.text),
            (None, None) if self.peer.is_none() => {
                ", and is filled in once the provider is there: an upgrade before leaves it so for good".to_owned()
            }
            (None, None) => ", and is being filled in: an upgrade before its end leaves it so for good".to_owned(),
        };
        Some(format!("history-incomplete: the history begins at block {from}{more}"))
    }
}

impl Pair {
    /// Receiver: asks for the next piece when there is time for it. Provider: reads the piece that is wanted.
    pub(super) fn settle_backfill(&mut self, index: usize) {
        let now = self.now;
        let Some(conn) = self.session.as_ref().map(|session| session.conn) else {
            return;
        };
        let wanted = self.lanes.get(index).and_then(|lane| lane.backfill.to_read());
        if let Some((stream, last, bytes_max)) = wanted
            && let Some(piece) = self.piece(index, Cargo::History)
        {
            let bytes_max = at_most(piece, bytes_max);
            self.pay_ahead(index, Cargo::History, bytes_max);
            let Some(lane) = self.lanes.get_mut(index) else { return };
            (lane.backfill.wanted, lane.backfill.reading) = (None, Some(stream));
            let ns = lane.setup.namespace.clone();
            let work = ArchiveWork::ReadBack {
                conn,
                stream,
                last,
                bytes_max,
            };
            return self.out.push(Action::Archive { ns, work });
        }
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let busy = lane.taking.is_some() || lane.halt.is_some() || lane.intake.backlog_bytes() > PIECE_BYTES;
        let waits = lane.backfill.prepending || lane.backfill.refused.is_some() || now < lane.backfill.next_at;
        let asked = lane
            .backfill
            .asked
            .is_some_and(|(_, at)| now.saturating_sub(at) < ASK_AGAIN_MS);
        if !lane.live || busy || waits || asked || !is_wanted(lane) {
            return;
        }
        lane.snapshot_streams += 1;
        let stream = lane.snapshot_streams;
        lane.backfill.asked = Some((stream, now));
        lane.backfill.begun.get_or_insert((lane.setup.history_from, now));
        let mut out = Writer::with_capacity(16);
        out.u64(lane.setup.history_from.saturating_sub(1));
        out.u64(lane.backfill.size.bytes());
        let frame = Frame::of(Kind::HistoryFetch, lane.tag, stream, out.into_bytes().into());
        self.send_session(frame);
    }

    pub(super) fn on_history_fetch(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        let mut input = Reader::new(&frame.payload);
        let mut read = || -> Result<_, Malformed> { Ok((input.u64()?, input.u64()?)) };
        let (last, bytes) = read().map_err(|error| refuse::malformed("a wish for history", &error))?;
        if let Some(lane) = self.lanes.get_mut(index) {
            let bytes = usize::try_from(bytes.min(PIECE_BYTES)).unwrap_or(0);
            lane.backfill.serve(last, self.now);
            lane.backfill.wanted = Some((frame.stream, last, bytes));
        }
        Ok(())
    }

    pub(super) fn on_history(&mut self, index: usize, stream: u32, records: Bytes) -> Result<(), Refusal> {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        if lane.backfill.asked.is_none_or(|(asked, _)| asked != stream) {
            return Ok(());
        }
        lane.backfill.prepending = true;
        // The pause is as long as the work: from the question on.
        if let Some((_, at)) = &mut lane.backfill.asked {
            lane.backfill.size.took(now.saturating_sub(*at));
            lane.backfill.next_at = *at;
            *at = now;
        }
        let ns = lane.setup.namespace.clone();
        let work = ArchiveWork::Prepend(records);
        self.out.push(Action::Archive { ns, work });
        Ok(())
    }

    pub(super) fn on_prepended(&mut self, index: usize, result: Result<Height, Refusal>) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let took = now.saturating_sub(lane.backfill.next_at);
        lane.backfill.next_at = now + took.max(PAUSE_MS);
        (lane.backfill.prepending, lane.backfill.asked) = (false, None);
        let ns = Some(lane.setup.namespace.clone());
        let (level, text) = match result {
            Ok(from) => {
                lane.backfill.waits_for_room = None;
                lane.setup.history_from = from;
                if is_wanted(lane) {
                    return;
                }
                (Level::Info, format!("the history is filled in, from block {from} on"))
            }
            Err(refusal) if refusal.code == "disk-full" => {
                lane.backfill.next_at = now + ROOM_MS;
                let text = format!("the history is filled in when there is room: {refusal}");
                if lane.backfill.waits_for_room.replace(refusal).is_some() {
                    return;
                }
                (Level::Warn, text)
            }
            Err(refusal) => {
                lane.backfill.refused = Some(refusal.clone());
                (
                    Level::Warn,
                    format!("the history is filled in no further in this session: {refusal}"),
                )
            }
        };
        self.out.push(Action::Log { level, ns, text });
    }

    /// The provider could not read a piece, or a disk failed in work that no stream waits for.
    pub(super) fn on_archive_failed(&mut self, index: usize, refusal: Refusal) {
        let mut room = 0;
        if let Some(lane) = self.lanes.get_mut(index) {
            (lane.survey.under_way, lane.backfill.prepending) = (false, false);
            room = lane.taking.take().map_or(0, |taking| taking.room_bytes());
        }
        self.on_store_failed(index, refusal);
        // Looked at for less, a store would take work again that ends there at once, over and over.
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.room_bytes = lane.room_bytes.max(room);
        }
    }

    /// The connection that an answer is for is the session's.
    pub(super) fn is_session(&self, conn: ConnId) -> bool {
        self.session.as_ref().is_some_and(|session| session.conn == conn)
    }
}
