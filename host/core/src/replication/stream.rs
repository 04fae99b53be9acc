//! A session's frames and the stores' answers: the path of records and of their acknowledgement.

use crate::frame::{Frame, Kind};
use crate::session::hello::{read_position, write_position};
use crate::session::refuse;
use crate::types::strategy::{Level, Role};
use crate::types::{Height, Malformed, Millis, Position, Reader, Refusal, Writer};

use super::advice::{fetch_frame, halt_frame};
use super::api::{Action, ConnId};
use super::budget::{Cargo, at_most};
use super::lane::Halt;
use super::pair::Pair;
use super::sender::{BadAck, Wanted};
use super::turns::Owed;

/// How often a store whose failure may pass is looked at again.
const PROBE_MS: Millis = 1_000;

impl Pair {
    pub(super) fn on_session_frame(&mut self, frame: Frame) {
        let Some(session) = &mut self.session else { return };
        session.judge.signal(self.now);
        let conn = session.conn;
        let (role, standby) = (self.setup.role, self.is_standby());
        let done = match (frame.kind, role) {
            (Kind::Goodbye, _) => {
                self.on_goodbye(conn, &frame.payload);
                Ok(())
            }
            (Kind::Heartbeat, _) => self.on_heartbeat(&frame.payload),
            (Kind::Inventory | Kind::File, Role::Receiver) | (Kind::FileRequest | Kind::TreeHeld, Role::Provider)
                if standby =>
            {
                self.on_tree_frame(&frame)
            }
            (Kind::Prepare | Kind::Commit | Kind::Abort, Role::Receiver)
            | (Kind::Staged | Kind::Prepared | Kind::Aborted, Role::Provider)
                if standby =>
            {
                self.on_change_frame(&frame)
            }
            (Kind::Passed, Role::Receiver) if !standby => self.on_passed(&frame.payload),
            (kind, _) => {
                let index = self.lane_of(frame.namespace);
                let unknown = || refuse::unexpected(&format!("namespace in a frame {kind:?}"));
                index.ok_or_else(unknown).and_then(|index| match (kind, role) {
                    (Kind::Records, Role::Receiver) => self.on_records(index, frame),
                    (Kind::Fetch | Kind::Ack, Role::Provider) => self.on_request(index, frame),
                    (Kind::PassOn, Role::Provider) if !standby => self.on_pass_on(index, &frame.payload),
                    (Kind::Queues | Kind::Cursors, Role::Receiver) if standby => self.on_queues_frame(index, &frame),
                    (Kind::QueuesKept | Kind::CursorsKept, Role::Provider) if standby => {
                        self.on_queues_frame(index, &frame)
                    }
                    (Kind::SnapshotFetch, Role::Provider) if standby => self.on_snapshot_fetch(index, &frame),
                    (Kind::SnapshotAck, Role::Provider) if standby => self.on_snapshot_ack(index, &frame),
                    (Kind::HistoryFetch, Role::Provider) if standby => self.on_history_fetch(index, &frame),
                    (Kind::HeadersFetch, Role::Provider) if standby => self.on_headers_fetch(index, &frame),
                    (Kind::Headers, Role::Receiver) => self.on_headers(index, &frame),
                    (Kind::SnapshotOffer, Role::Receiver) => self.on_offer(index, &frame.payload),
                    (Kind::SnapshotManifest, Role::Receiver) => self.on_snapshot_manifest(index, &frame),
                    (Kind::SnapshotChunk, Role::Receiver) => self.on_snapshot_chunk(index, &frame),
                    (Kind::History, Role::Receiver) => self.on_history(index, frame.stream, frame.payload),
                    (Kind::Halt, _) => self.on_halt(index, &frame.payload),
                    (Kind::IndexState, _) => self.on_peer_index(index, &frame.payload),
                    // Nobody reads them: they are not kept either.
                    (Kind::StrategyMessage | Kind::StrategyState, Role::Provider) if !standby => Ok(()),
                    (Kind::StrategyMessage, _) => {
                        self.on_strategy_message(index, &frame.payload);
                        Ok(())
                    }
                    (Kind::StrategyState, _) => {
                        self.on_peer_strategy(index, &frame.payload);
                        Ok(())
                    }
                    (kind, _) => Err(refuse::unexpected(&format!("frame {kind:?} in a session"))),
                })
            }
        };
        if let Err(refusal) = done {
            self.end_session_for(refusal);
        }
    }

    /// The peer said what cannot be.
    pub(super) fn end_session_for(&mut self, refusal: Refusal) {
        let Some(conn) = self.session.as_ref().map(|session| session.conn) else {
            return;
        };
        self.close(conn, Some(refusal.clone()), true);
        self.remember(refusal);
    }

    pub(super) fn on_fetch(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        let mut input = Reader::new(&frame.payload);
        let mut read = || -> Result<_, Malformed> { Ok(((input.u64()?, input.u64()?), input.u64()?, input.u64()?)) };
        let (span, credit, run_records) = read().map_err(|error| refuse::malformed("a fetch", &error))?;
        let window = self.setup.limits.window_bytes_max;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        lane.sender
            .on_fetch(frame.stream, span, credit.min(window), run_records)
            .map_err(|text| Refusal::new("protocol", text, "a defect of the standby: report it with both logs"))?;
        lane.halt = None;
        lane.moved_at = self.now;
        Ok(())
    }

    pub(super) fn on_ack(&mut self, index: usize, payload: &[u8]) -> Result<(), Refusal> {
        let durable = read_position(&mut Reader::new(payload)).map_err(|error| refuse::malformed("an ack", &error))?;
        let (now, now_micros, role) = (self.now, self.now_micros, self.setup.role);
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        match lane.sender.on_ack(durable, now_micros) {
            Ok(false) => {}
            Ok(true) => {
                lane.hear_peer(role, durable, now);
                (lane.moved_at, lane.acked) = (now, lane.acked.max(durable.height));
                lane.batches += 1;
                self.turns.acknowledged(index, lane.sender.is_quiet(), now);
                let ns = lane.setup.namespace.clone();
                self.flows(index);
                if self.is_standby_ack() {
                    self.out.push(Action::Acknowledged {
                        ns,
                        durable: durable.height,
                    });
                }
            }
            Err(BadAck::NotSent { height }) => {
                return Err(refuse::unexpected(&format!(
                    "ack of height {height}, which ends no run under way"
                )));
            }
            Err(BadAck::Diverged { ours, theirs }) => {
                return Err(refuse::diverged(
                    &lane.setup.namespace,
                    ours.height,
                    &theirs,
                    Some(&ours.hash),
                ));
            }
        }
        Ok(())
    }

    fn on_records(&mut self, index: usize, frame: Frame) -> Result<(), Refusal> {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        let taken = lane
            .intake
            .on_records(frame.stream, frame.payload)
            .map_err(|text| Refusal::new("window", text, "a defect of the provider: report it with both logs"))?;
        if taken {
            lane.moved_at = now;
            self.flows(index);
        }
        Ok(())
    }

    fn on_halt(&mut self, index: usize, payload: &[u8]) -> Result<(), Refusal> {
        let refusal = Refusal::read(&mut Reader::new(payload)).map_err(|error| refuse::malformed("a halt", &error))?;
        let refusal = Refusal {
            text: format!("on the {}: {}", self.other(), refusal.text),
            ..refusal
        };
        match self.setup.role {
            // Until the receiver asks again.
            Role::Provider => {
                if let Some(lane) = self.lanes.get_mut(index) {
                    lane.sender.stop();
                    let until = u64::MAX;
                    lane.halt = Some(Halt { refusal, until });
                }
            }
            Role::Receiver => self.halted_by_provider(index, refusal),
        }
        Ok(())
    }

    /// One stream stands still; the session goes on.
    pub(super) fn halt(&mut self, index: usize, refusal: Refusal, tell: bool) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.stand(refusal.clone(), self.now);
        let ns = Some(lane.setup.namespace.clone());
        let frame = halt_frame(lane, &refusal);
        if tell {
            self.send_session(frame);
        }
        self.out.push(Action::Log {
            level: Level::Warn,
            ns,
            text: format!("stream halted: {refusal}"),
        });
    }

    pub(super) fn on_local_tip(&mut self, index: usize, durable: Position, applied: Height) {
        let (now, role) = (self.now, self.setup.role);
        if role != Role::Provider {
            return;
        }
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if durable.height >= lane.local.height {
            lane.move_local(role, durable, applied, now);
        }
    }

    pub(super) fn on_ingested(&mut self, index: usize, tip: Position, micros: u64) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.intake.on_ingested(tip, micros);
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::AckBeforeFsync) {
            let mut out = Writer::with_capacity(40);
            write_position(&mut out, &tip);
            let frame = Frame::of(Kind::Ack, lane.tag, 0, out.into_bytes().into());
            self.send_session(frame);
        }
    }

    /// The records were bad, and nothing of the run is in the log. One namespace is at fault, not the session; but two different records
    /// at one height are the operator's business.
    pub(super) fn on_rejected(&mut self, index: usize, refusal: Refusal) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.intake.on_ingest_failed();
        let Some(conn) = self.session.as_ref().map(|session| session.conn) else {
            return;
        };
        if refusal.code == "diverged" {
            self.close(conn, Some(refusal.clone()), true);
            return self.remember(refusal);
        }
        self.halt(index, refusal, true);
    }

    /// The only place where an ack is made: after the fsync.
    pub(super) fn on_synced(&mut self, index: usize, durable: Position, applied: Height, micros: u64) {
        let (now, role) = (self.now, self.setup.role);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(batch) = lane.intake.on_synced(durable, micros) else {
            return;
        };
        lane.move_local(role, durable, applied, now);
        lane.count_records(batch.records, batch.bytes);
        if let Some(offer) = &mut lane.offer {
            offer.came += batch.bytes;
        }
        lane.batch = Some(batch);
        lane.batches += 1;
        (lane.moved_at, lane.halts) = (now, 0);
        let tag = lane.tag;
        if self.session.is_none() || lane.peer.is_none() {
            return;
        }
        lane.acked = durable.height;
        let peer = lane
            .peer
            .filter(|peer| peer.height >= durable.height)
            .unwrap_or(durable);
        lane.hear_peer(role, peer, now);
        let mut out = Writer::with_capacity(40);
        write_position(&mut out, &durable);
        self.send_session(Frame::of(Kind::Ack, tag, 0, out.into_bytes().into()));
    }

    pub(super) fn on_store_failed(&mut self, index: usize, refusal: Refusal) {
        // Let go while it was wanted: no fault of the store. The receiver hears where the history begins now.
        let gone = refusal.code == "history-missing" && self.setup.role == Role::Provider;
        self.spend(index, 0);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let ns = Some(lane.setup.namespace.clone());
        lane.store = Some(refusal.clone());
        lane.probe_at = self.now + PROBE_MS;
        lane.intake.on_store_failed();
        lane.sender.on_store_failed();
        if gone {
            (lane.survey.at, lane.survey.told) = (None, None);
        }
        let frame = halt_frame(lane, &refusal);
        self.send_session(frame);
        self.out.push(Action::Log {
            level: if gone { Level::Info } else { Level::Warn },
            ns,
            text: format!("store failed: {refusal}"),
        });
        // What waited for a read that failed.
        self.take_early(index);
    }

    /// The store takes work again; `appended` is where its log ends, whatever was under way when it stopped.
    pub(super) fn on_store_recovered(&mut self, index: usize, appended: Position) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.store.take().is_none() {
            return;
        }
        (lane.moved_at, lane.room_bytes) = (self.now, 0);
        lane.advisor.desk.owes_opened = lane.peer.is_some();
        if self.setup.role == Role::Receiver {
            lane.intake.on_store_recovered(appended);
        }
        let ns = Some(lane.setup.namespace.clone());
        self.out.push(Action::Log {
            level: Level::Info,
            ns,
            text: "the store takes work again".into(),
        });
    }

    /// A store that failed for want of room is looked at again now and then, and what it holds is made durable meanwhile; one whose disk
    /// failed takes no more work at all.
    fn probe_store(&mut self, index: usize) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if !lane.may_sync() {
            return;
        }
        let (ns, bytes) = (lane.setup.namespace.clone(), lane.room_bytes);
        if self.setup.role == Role::Receiver && lane.intake.begin_sync(now) {
            self.out.push(Action::Sync { ns: ns.clone() });
        }
        if now >= lane.probe_at {
            lane.probe_at = now + PROBE_MS;
            self.out.push(Action::Probe { ns, bytes });
        }
    }

    pub(super) fn on_read_done(
        &mut self,
        index: usize,
        conn: ConnId,
        stream: u32,
        first: Height,
        last: Position,
        bytes: u64,
    ) {
        if self.session.as_ref().is_none_or(|session| session.conn != conn) {
            return;
        }
        let now = self.now_micros;
        self.spend(index, bytes);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.sender.on_read_done(stream, first, last, bytes, now) {
            lane.count_records((last.height + 1).saturating_sub(first), bytes);
            self.turns.sent(index, bytes, self.now);
        }
        self.take_early(index);
    }

    /// Those who wait for a turn go on where one passed on.
    pub(super) fn pass_turns(&mut self) {
        for _ in 0..self.lanes.len() {
            let next = self.turns.next(self.now).filter(|_| self.defect.is_none());
            let Some(next) = next else { return };
            self.settle_lane(next);
            if self.turns.next(self.now) != Some(next) {
                continue;
            }
            if self.own_piece(next).is_some() && self.common_piece(next, Cargo::Backlog).is_none() {
                // The rate of all holds it up: it keeps its place.
                return;
            }
            // Whatever it may not send for now, nobody waits behind it.
            self.turns.leave(next);
        }
    }

    /// Provider: reads what the rate, and its turn, let it send now.
    fn begin_read(&mut self, index: usize, conn: ConnId, wanted: Wanted) {
        let live = self.lanes.get(index).is_some_and(|lane| lane.live);
        let cargo = if live { Cargo::Tail } else { Cargo::Backlog };
        let Some(piece) = self.piece(index, cargo) else { return };
        let (role, lanes, binds) = (self.setup.role, self.lanes.len(), self.rate_binds());
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if binds {
            self.turns.leave(index);
        } else if !self.turns.may_send(index, lanes, Owed::of(lane, role), self.now) {
            return;
        }
        let bytes_max = at_most(piece, wanted.bytes_max);
        self.pay_ahead(index, cargo, bytes_max);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.sender.begin_read(self.now);
        self.out.push(Action::Read {
            conn,
            ns: lane.setup.namespace.clone(),
            stream: lane.sender.stream(),
            first: wanted.first,
            last: wanted.last,
            bytes_max,
        });
    }

    /// Moves one namespace as far as it goes: reads, runs, fsyncs, fetches, its strategy.
    pub(super) fn settle_lane(&mut self, index: usize) {
        let (now, role) = (self.now, self.setup.role);
        self.pump_index(index);
        if self.is_standby() {
            self.pump_queues(index);
        }
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.judge_live(role, now);
        lane.judge_pace(role, now);
        if role == Role::Receiver && lane.halt.as_ref().is_some_and(|halt| now >= halt.until) {
            lane.halt = None;
            lane.moved_at = now;
            lane.advisor.desk.owes_opened = lane.peer.is_some();
        }
        if lane.store.is_some() {
            self.settle_survey(index);
            return self.probe_store(index);
        }
        self.settle_archive(index);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let ns = lane.setup.namespace.clone();
        match role {
            Role::Provider => {
                let Some(conn) = self.session.as_ref().map(|session| session.conn) else {
                    return;
                };
                let wanted = lane.sender.wanted(lane.local.height);
                let wanted = wanted.filter(|_| lane.index.is_accepted());
                if wanted.is_none() && lane.sender.is_quiet() {
                    self.turns.leave(index);
                }
                if let Some(wanted) = wanted {
                    self.begin_read(index, conn, wanted);
                }
            }
            Role::Receiver => {
                self.out.extend(lane.next_run(now));
                if lane.intake.begin_sync(now) {
                    self.out.push(Action::Sync { ns });
                }
                if self.session.is_some()
                    && let Some((stream, fetch)) = lane.intake.open_stream()
                {
                    let frame = fetch_frame(lane, stream, fetch);
                    self.send_session(frame);
                }
            }
        }
        self.judge_stall(index);
        self.pump_strategy(index);
    }
}
