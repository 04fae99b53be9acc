//! Kind mq-sync at the component boundary: events into the WIT types, WIT actions into core's. No decision here.

use cvp_core::strategy::MqSync;
use cvp_core::types::strategy::mq_sync::{self as plain, NAME_BYTES_MAX, QUEUES_MAX};
use cvp_core::types::strategy::{self as types, SEND_BYTES_MAX, STORE_BYTES_MAX, TEXT_BYTES_MAX};
use wasmtime::Store;
use wasmtime::component::{InstancePre, ResourceAny};

use super::{
    World, calls_of, lift_descriptor, lift_fault, lift_level, lift_problems, lower_digest, lower_fault, lower_role,
};
use crate::bindings::mq_sync as bindings;
use crate::bindings::mq_sync::exports::cvp::mq_sync::mq_sync as wit;
use crate::sandbox::Sandbox;

impl World for MqSync {
    calls_of!(bindings, MqSyncStrategyPre, MqSyncStrategy, cvp_mq_sync_mq_sync);

    fn sizes(action: &plain::Action) -> Vec<(&'static str, usize, usize)> {
        match action {
            plain::Action::Replicate(_) | plain::Action::Hold(_) => Vec::new(),
            plain::Action::Refuse { reason, .. } => vec![("refuse", reason.len(), TEXT_BYTES_MAX)],
            plain::Action::Apply(names) => sizes_of_names("apply", names),
            plain::Action::Drop(names) => sizes_of_names("drop", names),
            plain::Action::Warn(text) => vec![("warn", text.len(), TEXT_BYTES_MAX)],
            plain::Action::Store(bytes) => vec![("store", bytes.len(), STORE_BYTES_MAX)],
            plain::Action::Send(bytes) => vec![("send", bytes.len(), SEND_BYTES_MAX)],
            plain::Action::Log(_, text) => vec![("log", text.len(), TEXT_BYTES_MAX)],
            plain::Action::Metric(name, _) => vec![("metric", name.len(), TEXT_BYTES_MAX)],
            plain::Action::Other(name, bytes) => vec![("other", name.len().max(bytes.len()), TEXT_BYTES_MAX)],
        }
    }
}

fn sizes_of_names(what: &'static str, names: &[String]) -> Vec<(&'static str, usize, usize)> {
    let longest = names.iter().map(String::len).max().unwrap_or_default();
    vec![(what, names.len(), QUEUES_MAX), (what, longest, NAME_BYTES_MAX)]
}

fn lower_queue(it: plain::Queue) -> wit::Queue {
    wit::Queue {
        name: it.name,
        number: it.number,
        keys: it.keys,
        filter: lower_digest(it.filter),
        registration: lower_digest(it.registration),
        delay: it.delay,
        registered: it.registered,
        cursor: it.cursor,
        extra: it.extra,
    }
}

fn lower_inventory(it: plain::Inventory) -> wit::Inventory {
    wit::Inventory {
        exchange: it.exchange,
        queues: it.queues.into_iter().map(lower_queue).collect(),
        extra: it.extra,
    }
}

fn lower_view(it: plain::View) -> wit::View {
    wit::View {
        role: lower_role(it.role),
        namespace: it.namespace,
        now: it.now,
        local: it.local.map(lower_inventory),
        peer: it.peer.map(lower_inventory),
        broker: it.broker,
        extra: it.extra,
    }
}

fn lower_change(it: plain::Change) -> wit::Change {
    wit::Change {
        id: it.id,
        exchange: it.exchange,
        queue: lower_queue(it.queue),
        broker: it.broker,
        attached: it.attached,
        extra: it.extra,
    }
}

fn lower_event(event: plain::Event) -> wit::Event {
    match event {
        plain::Event::Opened { view, stored } => wit::Event::Opened(wit::Opened {
            view: lower_view(view),
            stored,
        }),
        plain::Event::Inventories(view) => wit::Event::Inventories(lower_view(view)),
        plain::Event::Broker(view) => wit::Event::Broker(lower_view(view)),
        plain::Event::Registered(it) => wit::Event::Registered(lower_change(it)),
        plain::Event::Unregistered(it) => wit::Event::Unregistered(lower_change(it)),
        plain::Event::Tick(now) => wit::Event::Tick(now),
        plain::Event::Message(bytes) => wit::Event::Message(bytes),
        plain::Event::Fault(it) => wit::Event::Fault(lower_fault(it)),
        plain::Event::Other(name, bytes) => wit::Event::Other((name, bytes)),
    }
}

fn lift_action(action: wit::Action) -> plain::Action {
    match action {
        wit::Action::Replicate(change) => plain::Action::Replicate(change),
        wit::Action::Hold(change) => plain::Action::Hold(change),
        wit::Action::Refuse(it) => plain::Action::Refuse {
            change: it.change,
            reason: it.reason,
        },
        wit::Action::Apply(names) => plain::Action::Apply(names),
        wit::Action::Drop(names) => plain::Action::Drop(names),
        wit::Action::Warn(text) => plain::Action::Warn(text),
        wit::Action::Store(bytes) => plain::Action::Store(bytes),
        wit::Action::Send(bytes) => plain::Action::Send(bytes),
        wit::Action::Log(it) => plain::Action::Log(lift_level(it.level), it.text),
        wit::Action::Metric(it) => plain::Action::Metric(it.name, it.value),
        wit::Action::Other((name, bytes)) => plain::Action::Other(name, bytes),
    }
}
