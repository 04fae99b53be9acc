//! Events into the WIT types, WIT actions into core's. Two spellings of one thing; no decision here.

use cvp_core::types::strategy as types;
use cvp_core::types::strategy::chain_sync as plain;

use crate::bindings::{shared, wit};

pub fn lower_role(role: types::Role) -> shared::Role {
    match role {
        types::Role::Provider => shared::Role::Provider,
        types::Role::Receiver => shared::Role::Receiver,
    }
}

pub fn descriptor(it: shared::Descriptor) -> types::Descriptor {
    types::Descriptor {
        id: it.id,
        kind: it.kind,
        version: it.version,
        settings_schema: it.settings_schema,
        extra: it.extra,
    }
}

pub fn problem(it: shared::Problem) -> types::Problem {
    types::Problem {
        path: it.path,
        message: it.message,
    }
}

pub fn fault(it: shared::Fault) -> types::Fault {
    types::Fault::new(it.code, it.text)
}

fn lower_position(it: types::Position) -> shared::Position {
    let word = |n: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&it.hash[n * 8..n * 8 + 8]);
        u64::from_be_bytes(bytes)
    };
    shared::Position {
        height: it.height,
        hash: (word(0), word(1), word(2), word(3)),
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

pub fn lower_event(event: plain::Event) -> wit::Event {
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
        plain::Event::Fault(it) => wit::Event::Fault(shared::Fault {
            code: it.code,
            text: it.text,
        }),
        plain::Event::Other(name, bytes) => wit::Event::Other((name, bytes)),
    }
}

pub fn action(action: wit::Action) -> plain::Action {
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
        wit::Action::Log(it) => {
            let level = match it.level {
                shared::Level::Debug => types::Level::Debug,
                shared::Level::Info => types::Level::Info,
                shared::Level::Warn => types::Level::Warn,
            };
            plain::Action::Log(level, it.text)
        }
        wit::Action::Metric(it) => plain::Action::Metric(it.name, it.value),
        wit::Action::Other((name, bytes)) => plain::Action::Other(name, bytes),
    }
}
