//! Kind chain-sync at the component boundary: events into the WIT types, WIT actions into core's. No decision here.

use cvp_core::strategy::ChainSync;
use cvp_core::types::strategy::chain_sync as plain;
use cvp_core::types::strategy::{self as types, SEND_BYTES_MAX, STORE_BYTES_MAX, TEXT_BYTES_MAX};
use wasmtime::Store;
use wasmtime::component::{InstancePre, ResourceAny};

use super::{
    World, calls_of, lift_descriptor, lift_fault, lift_level, lift_problems, lower_digest, lower_fault, lower_role,
};
use crate::bindings::chain_sync::exports::cvp::chain_sync::chain_sync as wit;
use crate::bindings::{chain_sync as bindings, shared};
use crate::sandbox::Sandbox;

impl World for ChainSync {
    calls_of!(
        bindings,
        ChainSyncStrategyPre,
        ChainSyncStrategy,
        cvp_chain_sync_chain_sync
    );

    fn sizes(action: &plain::Action) -> Vec<(&'static str, usize, usize)> {
        match action {
            plain::Action::Store(bytes) => vec![("store", bytes.len(), STORE_BYTES_MAX)],
            plain::Action::Send(bytes) => vec![("send", bytes.len(), SEND_BYTES_MAX)],
            plain::Action::Pause(text) => vec![("pause", text.len(), TEXT_BYTES_MAX)],
            plain::Action::Refuse(text) => vec![("refuse", text.len(), TEXT_BYTES_MAX)],
            plain::Action::Log(_, text) => vec![("log", text.len(), TEXT_BYTES_MAX)],
            plain::Action::Metric(name, _) => vec![("metric", name.len(), TEXT_BYTES_MAX)],
            plain::Action::Other(name, bytes) => vec![("other", name.len().max(bytes.len()), TEXT_BYTES_MAX)],
            plain::Action::Fetch(_)
            | plain::Action::Window(_)
            | plain::Action::Bootstrap(_)
            | plain::Action::VerifyEvery(_)
            | plain::Action::Throttle(_) => Vec::new(),
        }
    }
}

fn lower_position(it: types::Position) -> shared::Position {
    shared::Position {
        height: it.height,
        hash: lower_digest(it.hash),
    }
}

fn lower_view(it: plain::View) -> wit::View {
    wit::View {
        role: lower_role(it.role),
        namespace: it.namespace,
        now: it.now,
        local: lower_position(it.local),
        peer: it.peer.map(lower_position),
        history_from: it.history_from,
        fetch: it.fetch.map(|f| wit::Fetch {
            first: f.first,
            last: f.last,
            bytes_in_flight: f.bytes_in_flight,
        }),
        next: it.next,
        in_flight_bytes: it.in_flight_bytes,
        backlog_bytes: it.backlog_bytes,
        window_bytes_max: it.window_bytes_max,
        record_bytes_mean: it.record_bytes_mean,
        applied: it.applied.map(|b| wit::Batch {
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
            .map(|s| wit::Snapshot {
                at: lower_position(s.at),
                bytes: s.bytes,
            })
            .collect(),
        extra: it.extra,
    }
}

fn lower_event(event: plain::Event) -> wit::Event {
    match event {
        plain::Event::Opened { view, stored } => wit::Event::Opened(wit::Opened {
            view: lower_view(view),
            stored,
        }),
        plain::Event::Progress(view) => wit::Event::Progress(lower_view(view)),
        plain::Event::Stall { view, millis } => wit::Event::Stall(wit::Stall {
            view: lower_view(view),
            millis,
        }),
        plain::Event::Tick(view) => wit::Event::Tick(lower_view(view)),
        plain::Event::Message(bytes) => wit::Event::Message(bytes),
        plain::Event::Fault(it) => wit::Event::Fault(lower_fault(it)),
        plain::Event::Other(name, bytes) => wit::Event::Other((name, bytes)),
    }
}

fn lift_action(action: wit::Action) -> plain::Action {
    match action {
        wit::Action::Fetch(f) => plain::Action::Fetch(plain::Fetch {
            first: f.first,
            last: f.last,
            bytes_in_flight: f.bytes_in_flight,
        }),
        wit::Action::Window(bytes) => plain::Action::Window(bytes),
        wit::Action::Pause(reason) => plain::Action::Pause(reason),
        wit::Action::Bootstrap(height) => plain::Action::Bootstrap(height),
        wit::Action::VerifyEvery(records) => plain::Action::VerifyEvery(records),
        wit::Action::Throttle(rate) => plain::Action::Throttle(rate),
        wit::Action::Refuse(reason) => plain::Action::Refuse(reason),
        wit::Action::Store(bytes) => plain::Action::Store(bytes),
        wit::Action::Send(bytes) => plain::Action::Send(bytes),
        wit::Action::Log(it) => plain::Action::Log(lift_level(it.level), it.text),
        wit::Action::Metric(it) => plain::Action::Metric(it.name, it.value),
        wit::Action::Other((name, bytes)) => plain::Action::Other(name, bytes),
    }
}
