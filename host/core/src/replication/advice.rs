//! What strategies are told, and what becomes of what they say. Events carry whole views and are coalesced: one call a batch or change of
//! state, never one a record. A call that does not pass the check (`scrutiny`) costs its instance what a trap costs; the stream goes on.

use crate::frame::{Frame, Kind};
use crate::types::strategy::chain_sync::{Action as Advice, Event as Told, Fetch, View};
use crate::types::strategy::{self, Fault, Level, Role};
use crate::types::{Millis, Refusal, Writer};

use super::api::Action;
use super::archive::ArchiveWork;
use super::control_file::ControlFile;
use super::lane::{Calling, Lane, STALL_MS};
use super::offer::Offer;
use super::pair::Pair;
use super::scrutiny::Ground;

/// Least time between two calls that only tell of progress.
const PROGRESS_MS: Millis = 10;

/// Bytes that may be under way in all namespaces that catch up together, and in each of them at least.
const WINDOWS_BYTES: u64 = 128 << 20;
const WINDOW_BYTES_MIN: u64 = 2 << 20;

/// Time between two ticks.
const TICK_MS: Millis = 1_000;

/// What a provider can hand over is waited for so long; longer where its records do not reach back.
const OFFER_MS: (Millis, Millis) = (300, 2_000);

/// A strategy that has not answered for so long is stalled.
pub(super) const CALL_MS: Millis = 2_000;

fn position(position: crate::types::Position) -> strategy::Position {
    strategy::Position {
        height: position.height,
        hash: position.hash.0,
    }
}

impl Pair {
    pub(super) fn view(&self, lane: &Lane) -> View {
        let role = self.setup.role;
        let (tip, durable) = lane.heights(role);
        let window = self.window_share();
        let (fetch, next, in_flight, backlog) = match role {
            Role::Receiver => {
                let backlog = lane.intake.backlog_bytes();
                (lane.intake.fetch(), lane.intake.next(), backlog, backlog)
            }
            Role::Provider => {
                let fetch = lane.sender.fetch().map(|(last, credit)| Fetch {
                    first: lane.sender.next(),
                    last,
                    bytes_in_flight: credit,
                });
                (fetch, lane.sender.next(), lane.sender.sent_bytes(), 0)
            }
        };
        View {
            now: self.now,
            local: position(lane.local),
            peer: lane.peer.map(position),
            history_from: lane.history_from,
            fetch,
            next,
            in_flight_bytes: in_flight,
            backlog_bytes: backlog,
            window_bytes_max: window,
            record_bytes_mean: lane.record_bytes_16 / 16,
            applied: lane.batch,
            applied_batches: lane.batches,
            lag_blocks: tip - durable.min(tip),
            lag_bytes: lane.lag_bytes(role),
            lag_millis: lane.marks.age(self.now),
            idle_millis: self.stands_ms(lane, self.now),
            disk_wait_millis: lane
                .intake
                .disk_since()
                .map_or(0, |since| self.now.saturating_sub(since)),
            round_trip_micros: self
                .session
                .as_ref()
                .map_or(0, |session| session.round_trip.lowest_micros()),
            max_rate: self.setup.limits.max_rate,
            snapshots: lane.offer.iter().map(Offer::snapshot).collect(),
            ..View::new(role, lane.setup.namespace.as_str())
        }
    }

    /// Calls the strategy of a lane if it is owed something and is free.
    pub(super) fn pump_strategy(&mut self, index: usize) {
        if self.serves_follower() {
            return;
        }
        let (role, standby) = (self.setup.role, self.is_standby());
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let advisor = &mut lane.advisor;
        if lane.peer.is_none() || lane.halt.is_some() || lane.store.is_some() || advisor.calling.is_some() {
            return;
        }
        if !lane.index.is_accepted() {
            return;
        }
        // What the provider offers comes right behind the handshake, unless it is of an earlier release.
        let waits = if lane.history_from > lane.local.height + 1 {
            OFFER_MS.1
        } else {
            OFFER_MS.0
        };
        let silent = standby && role == Role::Receiver && lane.offer.is_none();
        if silent && self.now.saturating_sub(lane.attached_at) < waits {
            return;
        }
        if self.now < advisor.desk.quiet_until {
            return;
        }
        let tick = self.now.saturating_sub(advisor.desk.ticked_at) >= TICK_MS;
        let progress = advisor.owes_progress && self.now.saturating_sub(advisor.desk.called_at) >= PROGRESS_MS;
        let waiting = advisor.desk.is_waited_for();
        if !(advisor.desk.owes_opened || progress || tick || advisor.owes_stall || waiting) {
            return;
        }
        if advisor.desk.owes_opened {
            // What an instance before it advised is forgotten with it.
            self.advise_rate(index, 0);
            self.advise_depth(index, 0);
        }
        let Some(lane) = self.lanes.get(index) else { return };
        let view = self.view(lane);
        let advisor = &lane.advisor;
        let stall = advisor.owes_stall && !advisor.desk.owes_opened;
        let mut events = Vec::new();
        if advisor.desk.owes_opened {
            events.push(Told::Opened {
                view: view.clone(),
                stored: advisor.desk.stored.clone(),
            });
        } else if advisor.owes_stall {
            let millis = view.idle_millis;
            events.push(Told::Stall {
                view: view.clone(),
                millis,
            });
        } else if tick {
            events.push(Told::Tick(view.clone()));
        } else if advisor.owes_progress {
            events.push(Told::Progress(view.clone()));
        }
        let told = view.local.height;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let advisor = &mut lane.advisor;
        let (messages, answers) = advisor.desk.take_waiting();
        events.extend(messages.into_iter().map(Told::Message));
        events.extend(answers.into_iter().map(Told::Fault));
        (advisor.desk.owes_opened, advisor.owes_progress, advisor.owes_stall) = (false, false, false);
        advisor.calling = Some(Calling {
            since: self.now,
            told,
            stall,
        });
        advisor.desk.called_at = self.now;
        if tick {
            advisor.desk.ticked_at = self.now;
        }
        self.out.push(Action::Strategy {
            ns: lane.setup.namespace.clone(),
            events,
        });
    }

    /// A strategy answered.
    pub(super) fn on_strategy(&mut self, index: usize, result: Result<Vec<Advice>, Fault>) {
        let (now, role) = (self.now, self.setup.role);
        let window_bytes_max = self.setup.limits.window_bytes_max;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let call = lane.advisor.calling.take();
        let Ok(actions) = result else {
            // The host's actor has dealt with the instance.
            lane.advisor.desk.on_fault(lane.peer.is_some(), now);
            return;
        };
        if lane.peer.is_none() {
            return;
        }
        let ground = Ground {
            role,
            told: call.map_or(lane.local.height, |call| call.told),
            next: lane.intake.next(),
            window_bytes_max,
            offered: lane.offer.map(|offer| offer.at.height),
        };
        if let Err(fault) = ground.check(&actions) {
            return self.refuse_advice(index, fault);
        }
        for action in actions {
            self.take_advice(index, action);
        }
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if call.is_some_and(|call| call.stall) && lane.is_left_alone(role) {
            let text = "blocks are owed, and it says neither fetch, pause nor refuse";
            return self.refuse_advice(index, Fault::new("no-advice", text));
        }
        lane.advisor.desk.fault_streak = 0;
    }

    /// A call that cannot be carried out: its instance is spent, as after a trap. Whoever comes next is opened.
    fn refuse_advice(&mut self, index: usize, fault: Fault) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.advisor.desk.refused += 1;
        lane.advisor.desk.on_fault(lane.peer.is_some(), now);
        let ns = lane.setup.namespace.clone();
        let kind = strategy::chain_sync::KIND;
        self.out.push(Action::StrategyFault { ns, kind, fault });
    }

    /// Does what was checked.
    fn take_advice(&mut self, index: usize, action: Advice) {
        match action {
            Advice::Fetch(fetch) => self.advise_fetch(index, fetch),
            Advice::Window(bytes) => self.advise_window(index, bytes),
            Advice::Pause(reason) => self.advise_pause(index, reason),
            Advice::Throttle(rate) => self.advise_rate(index, rate),
            Advice::Refuse(reason) => self.halt(index, Refusal::new("strategy-refused", reason, ""), true),
            Advice::Store(bytes) => self.advise_store(index, bytes),
            Advice::Send(bytes) => self.advise_send(index, &bytes),
            Advice::Log(level, text) => self.advise_log(index, level, text),
            Advice::Metric(name, value) => self.advise_metric(index, name, value),
            Advice::VerifyEvery(records) => self.advise_depth(index, records),
            Advice::Bootstrap(_) => self.advise_bootstrap(index),
            Advice::Other(name, _) => self.answer_unknown(index, &name),
        }
    }

    fn advise_log(&mut self, index: usize, level: Level, text: String) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let ns = lane.setup.namespace.clone();
        let lines = lane.advisor.desk.lines(level, text, now);
        self.log_lines(&ns, lines);
    }

    fn advise_metric(&mut self, index: usize, name: String, value: i64) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.advisor.desk.may_gauge(&name) {
            let ns = lane.setup.namespace.clone();
            self.out.push(Action::Metric { ns, name, value });
        }
    }

    fn answer_unknown(&mut self, index: usize, name: &str) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.advisor.desk.answer_unknown(name);
    }

    /// The widest window of one namespace: those that catch up at one time share the receiver's memory.
    fn window_share(&self) -> u64 {
        let catching_up = |lane: &&Lane| lane.peer.is_some() && !lane.live && lane.owed(self.setup.role);
        let lanes = self.lanes.iter().filter(catching_up).count().max(1) as u64;
        (WINDOWS_BYTES / lanes)
            .max(WINDOW_BYTES_MIN)
            .min(self.setup.limits.window_bytes_max)
    }

    fn advise_fetch(&mut self, index: usize, mut fetch: Fetch) {
        let window = self.window_share();
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.halt.is_some() || lane.store.is_some() || lane.taking.is_some() {
            return;
        }
        lane.wants_snapshot = false;
        if lane.staged.take().is_some() {
            // It streams after all.
            let (ns, work) = (lane.setup.namespace.clone(), ArchiveWork::DropStaged);
            self.out.push(Action::Archive { ns, work });
        }
        fetch.bytes_in_flight = fetch.bytes_in_flight.min(window);
        lane.advisor.paused = None;
        lane.moved_at = self.now;
        lane.intake.want(fetch);
    }

    fn advise_window(&mut self, index: usize, bytes: u64) {
        let bytes = bytes.min(self.window_share());
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if let Some((stream, fetch)) = lane.intake.set_window(bytes) {
            let frame = fetch_frame(lane, stream, fetch);
            self.send_session(frame);
        }
    }

    fn advise_pause(&mut self, index: usize, reason: String) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.intake.forget_stream();
        lane.advisor.paused = Some(reason.clone());
        let refusal = Refusal::new("stream-paused", reason, "");
        let frame = halt_frame(lane, &refusal);
        self.send_session(frame);
    }

    /// What the strategy allows its namespace, bytes a second; 0: no limit.
    pub(super) fn advise_rate(&mut self, index: usize, rate: u64) {
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.budget.set(rate, self.now_micros);
        }
    }

    /// The state is checked once a run, so the provider is asked for runs that are no longer.
    fn advise_depth(&mut self, index: usize, records: u64) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.advisor.verify_every == records {
            return;
        }
        lane.advisor.verify_every = records;
        if let Some((stream, fetch)) = lane.intake.stream() {
            let frame = fetch_frame(lane, stream, fetch);
            self.send_session(frame);
        }
    }

    fn advise_store(&mut self, index: usize, bytes: Vec<u8>) {
        let token = self.next_token();
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.advisor.desk.stored.clone_from(&bytes);
        let what = ControlFile::Stored {
            ns: lane.setup.namespace.clone(),
            kind: strategy::chain_sync::KIND,
            bytes,
        };
        self.out.push(Action::Persist { token, what });
    }

    fn advise_send(&mut self, index: usize, bytes: &[u8]) {
        self.send_to_half(index, strategy::chain_sync::KIND, bytes);
    }

    /// Tells a strategy of a stream that stands still.
    pub(super) fn judge_stall(&mut self, index: usize) {
        let stands = self.lanes.get(index).map_or(0, |lane| self.stands_ms(lane, self.now));
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let stalled = stands >= STALL_MS && lane.advisor.paused.is_none();
        if stalled && self.now.saturating_sub(lane.advisor.stalled_at) >= STALL_MS {
            lane.advisor.stalled_at = self.now;
            lane.advisor.owes_stall = true;
        }
    }
}

/// The frame that asks for a stream, or changes end, credit and runs of the one under this number.
pub(super) fn fetch_frame(lane: &Lane, stream: u32, fetch: Fetch) -> Frame {
    let mut out = Writer::with_capacity(32);
    out.u64(fetch.first);
    out.u64(fetch.last);
    out.u64(fetch.bytes_in_flight);
    out.u64(lane.advisor.verify_every);
    Frame::of(Kind::Fetch, lane.tag, stream, out.into_bytes().into())
}

/// The frame that stops a stream.
pub(super) fn halt_frame(lane: &Lane, refusal: &Refusal) -> Frame {
    let mut out = Writer::new();
    refusal.write(&mut out);
    Frame::of(Kind::Halt, lane.tag, 0, out.into_bytes().into())
}
