//! Which part of the machine an event is for.

use super::api::Event;
use super::limits::Limits;
use super::pair::Pair;
use super::status::RefusedDial;

impl Pair {
    pub(super) fn dispatch(&mut self, event: Event) {
        match event {
            Event::Accepted { conn, peer } => self.on_accepted(conn, peer),
            Event::Dialed { conn, purpose, peer } => self.on_dialed(conn, purpose, peer),
            Event::DialFailed { purpose, refusal } => self.on_dial_failed(purpose, refusal),
            Event::Frame { conn, frame } => self.on_frame(conn, frame),
            Event::Arriving(conn) => self.on_arriving(conn),
            Event::Leaving(conn, moved) => self.on_line(conn, moved),
            Event::Closed { conn, reason } => self.on_closed(conn, reason),
            Event::Found { conn, found } => self.on_found(conn, &found),
            Event::Persisted(token) => self.on_persisted(token),
            Event::PersistFailed(token, refusal) => self.on_persist_failed(token, refusal),
            Event::FollowerGone(conn) => self.followers.leave(conn),
            Event::PassOn {
                ticket,
                ns,
                transaction,
            } => self.pass_on(ticket, &ns, &transaction),
            Event::Submitted { number, answer } => self.on_submitted(number, &answer),
            Event::SetEnabled(enabled) => self.on_enabled(enabled),
            Event::SetLimits(limits) => self.on_limits(limits),
            Event::Held(held) => self.held = held,
            Event::Tree(event) => self.on_tree(event),
            Event::Change(event) => self.on_change(event),
            Event::Queues(event) => self.on_queues(event),
            Event::Turned { address, refusal } => self.note_refused(RefusedDial {
                hostname: None,
                names: Vec::new(),
                address,
                refusal,
                at: self.now,
            }),
            Event::Tick => {}
            other => self.dispatch_lane(other),
        }
    }

    fn dispatch_lane(&mut self, event: Event) {
        match event {
            Event::LocalTip { ns, durable, applied } => {
                self.each(&ns, |it, lane| it.on_local_tip(lane, durable, applied))
            }
            Event::Ingested { ns, tip, micros, .. } => self.each(&ns, |it, lane| it.on_ingested(lane, tip, micros)),
            Event::Rejected { ns, refusal } => self.each(&ns, |it, lane| it.on_rejected(lane, refusal)),
            Event::Synced {
                ns,
                durable,
                applied,
                micros,
            } => {
                self.each(&ns, |it, lane| it.on_synced(lane, durable, applied, micros));
            }
            Event::StoreFailed { ns, refusal } => self.each(&ns, |it, lane| it.on_store_failed(lane, refusal)),
            Event::StoreRecovered { ns, appended } => self.each(&ns, |it, lane| it.on_store_recovered(lane, appended)),
            Event::ReadDone {
                conn,
                ns,
                stream,
                first,
                last,
                bytes,
            } => {
                self.each(&ns, |it, lane| it.on_read_done(lane, conn, stream, first, last, bytes));
            }
            Event::Archive { ns, event } => self.each(&ns, |it, lane| it.on_archive(lane, event)),
            Event::Strategy { ns, result } => self.each(&ns, |it, lane| it.on_strategy(lane, result)),
            Event::ConfigStrategy { ns, result } => self.each(&ns, |it, lane| it.on_file_advice(lane, result)),
            Event::IndexStrategy { ns, result } => self.each(&ns, |it, lane| it.on_index_advice(lane, result)),
            Event::QueueStrategy { ns, result } => self.each(&ns, |it, lane| it.on_queue_advice(lane, result)),
            Event::IndexSeen { ns, state } => self.each(&ns, |it, lane| it.on_index_seen(lane, state)),
            Event::StrategyState {
                ns,
                id,
                run,
                faults,
                configured,
                problem,
            } => self.each(&ns, |it, lane| {
                it.on_strategy_problem(lane, &id.kind, configured, problem);
                it.on_strategy_state(lane, id, run, faults);
            }),
            _ => {}
        }
    }

    fn on_limits(&mut self, limits: Limits) {
        if limits.max_rate != self.setup.limits.max_rate {
            // Strategies limit by it, too, and would hear of it with their next tick.
            self.lanes
                .iter_mut()
                .for_each(|lane| lane.advisor.owes_progress = lane.peer.is_some());
            self.forget_limits();
        }
        self.setup.limits = limits;
        self.budget.set(limits.max_rate, self.now_micros);
    }
}
