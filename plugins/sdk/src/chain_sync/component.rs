//! Turns a [`ChainSync`] into the exported resource: lifts events, lowers actions. No decision of its own.

use std::cell::RefCell;
use std::marker::PhantomData;

use cvp_types::chain_sync as plain;
use cvp_types::chain_sync::ChainSync;

use super::bindings::cvp::types::types as shared;
use super::bindings::exports::cvp::chain_sync::chain_sync as wit;
use crate::shared::{lift_digest, lift_fault, lift_role, lower_descriptor, lower_fault, lower_level, lower_problems};

/// The exported component of a strategy.
pub struct Component<S>(PhantomData<S>);

/// One instance of it, behind the resource handle.
pub struct Instance<S>(RefCell<S>);

impl<S: ChainSync> wit::Guest for Component<S> {
    type Strategy = Instance<S>;

    fn describe() -> shared::Descriptor {
        lower_descriptor(S::describe())
    }

    fn check_settings(settings: String) -> Result<(), Vec<shared::Problem>> {
        S::check_settings(&settings).map_err(lower_problems)
    }
}

impl<S: ChainSync> wit::GuestStrategy for Instance<S> {
    fn open(role: shared::Role, namespace: String, settings: String) -> Result<wit::Strategy, shared::Fault> {
        let strategy = S::open(lift_role(role), &namespace, &settings).map_err(lower_fault)?;
        Ok(wit::Strategy::new(Instance(RefCell::new(strategy))))
    }

    fn handle(&self, events: Vec<wit::Event>) -> Result<Vec<wit::Action>, shared::Fault> {
        let events = events.into_iter().map(lift_event).collect();
        let actions = self.0.borrow_mut().handle(events).map_err(lower_fault)?;
        Ok(actions.into_iter().map(lower_action).collect())
    }
}

fn lift_position(it: shared::Position) -> cvp_types::Position {
    cvp_types::Position {
        height: it.height,
        hash: lift_digest(it.hash),
    }
}

fn lift_view(it: wit::View) -> plain::View {
    plain::View {
        role: lift_role(it.role),
        namespace: it.namespace,
        now: it.now,
        local: lift_position(it.local),
        peer: it.peer.map(lift_position),
        history_from: it.history_from,
        fetch: it.fetch.map(|f| plain::Fetch {
            first: f.first,
            last: f.last,
            bytes_in_flight: f.bytes_in_flight,
        }),
        next: it.next,
        in_flight_bytes: it.in_flight_bytes,
        backlog_bytes: it.backlog_bytes,
        window_bytes_max: it.window_bytes_max,
        record_bytes_mean: it.record_bytes_mean,
        applied: it.applied.map(|b| plain::Batch {
            records: b.records,
            bytes: b.bytes,
            ingest_micros: b.ingest_micros,
            sync_micros: b.sync_micros,
        }),
        applied_batches: it.applied_batches,
        lag_blocks: it.lag_blocks,
        lag_bytes: it.lag_bytes,
        lag_millis: it.lag_millis,
        idle_millis: it.idle_millis,
        disk_wait_millis: it.disk_wait_millis,
        round_trip_micros: it.round_trip_micros,
        max_rate: it.max_rate,
        snapshots: it
            .snapshots
            .into_iter()
            .map(|s| plain::Snapshot {
                at: lift_position(s.at),
                bytes: s.bytes,
            })
            .collect(),
        extra: it.extra,
    }
}

fn lift_event(event: wit::Event) -> plain::Event {
    match event {
        wit::Event::Opened(it) => plain::Event::Opened {
            view: lift_view(it.view),
            stored: it.stored,
        },
        wit::Event::Progress(view) => plain::Event::Progress(lift_view(view)),
        wit::Event::Stall(it) => plain::Event::Stall {
            view: lift_view(it.view),
            millis: it.millis,
        },
        wit::Event::Tick(view) => plain::Event::Tick(lift_view(view)),
        wit::Event::Message(bytes) => plain::Event::Message(bytes),
        wit::Event::Fault(it) => plain::Event::Fault(lift_fault(it)),
        wit::Event::Other((name, bytes)) => plain::Event::Other(name, bytes),
    }
}

fn lower_action(action: plain::Action) -> wit::Action {
    match action {
        plain::Action::Fetch(f) => wit::Action::Fetch(wit::Fetch {
            first: f.first,
            last: f.last,
            bytes_in_flight: f.bytes_in_flight,
        }),
        plain::Action::Window(bytes) => wit::Action::Window(bytes),
        plain::Action::Pause(reason) => wit::Action::Pause(reason),
        plain::Action::Bootstrap(height) => wit::Action::Bootstrap(height),
        plain::Action::VerifyEvery(records) => wit::Action::VerifyEvery(records),
        plain::Action::Throttle(rate) => wit::Action::Throttle(rate),
        plain::Action::Refuse(reason) => wit::Action::Refuse(reason),
        plain::Action::Store(bytes) => wit::Action::Store(bytes),
        plain::Action::Send(bytes) => wit::Action::Send(bytes),
        plain::Action::Log(level, text) => wit::Action::Log(wit::LogLine {
            level: lower_level(level),
            text,
        }),
        plain::Action::Metric(name, value) => wit::Action::Metric(wit::Metric { name, value }),
        plain::Action::Other(name, bytes) => wit::Action::Other((name, bytes)),
    }
}
