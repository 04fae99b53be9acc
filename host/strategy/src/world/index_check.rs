//! Kind index-check at the component boundary: events into the WIT types, WIT actions into core's. No decision here.

use cvp_core::strategy::IndexCheck;
use cvp_core::types::strategy::index_check as plain;
use cvp_core::types::strategy::{self as types, SEND_BYTES_MAX, STORE_BYTES_MAX, TEXT_BYTES_MAX};
use wasmtime::Store;
use wasmtime::component::{InstancePre, ResourceAny};

use super::{World, calls_of, lift_descriptor, lift_fault, lift_level, lift_problems, lower_fault, lower_role};
use crate::bindings::index_check as bindings;
use crate::bindings::index_check::exports::cvp::index_check::index_check as wit;
use crate::sandbox::Sandbox;

impl World for IndexCheck {
    calls_of!(
        bindings,
        IndexCheckStrategyPre,
        IndexCheckStrategy,
        cvp_index_check_index_check
    );

    fn sizes(action: &plain::Action) -> Vec<(&'static str, usize, usize)> {
        match action {
            plain::Action::Accept => Vec::new(),
            plain::Action::Refuse(text) => vec![("refuse", text.len(), TEXT_BYTES_MAX)],
            plain::Action::Warn(text) => vec![("warn", text.len(), TEXT_BYTES_MAX)],
            plain::Action::Store(bytes) => vec![("store", bytes.len(), STORE_BYTES_MAX)],
            plain::Action::Send(bytes) => vec![("send", bytes.len(), SEND_BYTES_MAX)],
            plain::Action::Log(_, text) => vec![("log", text.len(), TEXT_BYTES_MAX)],
            plain::Action::Metric(name, _) => vec![("metric", name.len(), TEXT_BYTES_MAX)],
            plain::Action::Other(name, bytes) => vec![("other", name.len().max(bytes.len()), TEXT_BYTES_MAX)],
        }
    }
}

fn lower_side(it: plain::Side) -> wit::Side {
    wit::Side {
        enabled: it.enabled,
        configured: it.configured,
        backend: it.backend,
        problem: it.problem,
        extra: it.extra,
    }
}

fn lower_view(it: plain::View) -> wit::View {
    wit::View {
        role: lower_role(it.role),
        namespace: it.namespace,
        now: it.now,
        local: lower_side(it.local),
        peer: lower_side(it.peer),
        extra: it.extra,
    }
}

fn lower_event(event: plain::Event) -> wit::Event {
    match event {
        plain::Event::Opened { view, stored } => wit::Event::Opened(wit::Opened {
            view: lower_view(view),
            stored,
        }),
        plain::Event::State(view) => wit::Event::State(lower_view(view)),
        plain::Event::Tick(now) => wit::Event::Tick(now),
        plain::Event::Message(bytes) => wit::Event::Message(bytes),
        plain::Event::Fault(it) => wit::Event::Fault(lower_fault(it)),
        plain::Event::Other(name, bytes) => wit::Event::Other((name, bytes)),
    }
}

fn lift_action(action: wit::Action) -> plain::Action {
    match action {
        wit::Action::Accept => plain::Action::Accept,
        wit::Action::Refuse(reason) => plain::Action::Refuse(reason),
        wit::Action::Warn(text) => plain::Action::Warn(text),
        wit::Action::Store(bytes) => plain::Action::Store(bytes),
        wit::Action::Send(bytes) => plain::Action::Send(bytes),
        wit::Action::Log(it) => plain::Action::Log(lift_level(it.level), it.text),
        wit::Action::Metric(it) => plain::Action::Metric(it.name, it.value),
        wit::Action::Other((name, bytes)) => plain::Action::Other(name, bytes),
    }
}
