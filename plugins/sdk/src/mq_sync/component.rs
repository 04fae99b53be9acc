//! Turns an [`MqSync`] into the exported resource: lifts events, lowers actions. No decision of its own.

use std::cell::RefCell;
use std::marker::PhantomData;

use cvp_types::mq_sync as plain;
use cvp_types::mq_sync::MqSync;

use super::bindings::exports::cvp::mq_sync::mq_sync as wit;
use crate::chain_sync::bindings::cvp::types::types as shared;
use crate::shared::{lift_digest, lift_fault, lift_role, lower_descriptor, lower_fault, lower_level, lower_problems};

/// The exported component of a strategy.
pub struct Component<S>(PhantomData<S>);

/// One instance of it, behind the resource handle.
pub struct Instance<S>(RefCell<S>);

impl<S: MqSync> wit::Guest for Component<S> {
    type Strategy = Instance<S>;

    fn describe() -> shared::Descriptor {
        lower_descriptor(S::describe())
    }

    fn check_settings(settings: String) -> Result<(), Vec<shared::Problem>> {
        S::check_settings(&settings).map_err(lower_problems)
    }
}

impl<S: MqSync> wit::GuestStrategy for Instance<S> {
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

fn lift_queue(it: wit::Queue) -> plain::Queue {
    plain::Queue {
        name: it.name,
        number: it.number,
        keys: it.keys,
        filter: lift_digest(it.filter),
        registration: lift_digest(it.registration),
        delay: it.delay,
        registered: it.registered,
        cursor: it.cursor,
        extra: it.extra,
    }
}

fn lift_inventory(it: wit::Inventory) -> plain::Inventory {
    plain::Inventory {
        exchange: it.exchange,
        queues: it.queues.into_iter().map(lift_queue).collect(),
        extra: it.extra,
    }
}

fn lift_view(it: wit::View) -> plain::View {
    plain::View {
        role: lift_role(it.role),
        namespace: it.namespace,
        now: it.now,
        local: it.local.map(lift_inventory),
        peer: it.peer.map(lift_inventory),
        broker: it.broker,
        extra: it.extra,
    }
}

fn lift_change(it: wit::Change) -> plain::Change {
    plain::Change {
        id: it.id,
        exchange: it.exchange,
        queue: lift_queue(it.queue),
        broker: it.broker,
        attached: it.attached,
        extra: it.extra,
    }
}

fn lift_event(event: wit::Event) -> plain::Event {
    match event {
        wit::Event::Opened(it) => plain::Event::Opened {
            view: lift_view(it.view),
            stored: it.stored,
        },
        wit::Event::Inventories(view) => plain::Event::Inventories(lift_view(view)),
        wit::Event::Broker(view) => plain::Event::Broker(lift_view(view)),
        wit::Event::Registered(it) => plain::Event::Registered(lift_change(it)),
        wit::Event::Unregistered(it) => plain::Event::Unregistered(lift_change(it)),
        wit::Event::Tick(now) => plain::Event::Tick(now),
        wit::Event::Message(bytes) => plain::Event::Message(bytes),
        wit::Event::Fault(it) => plain::Event::Fault(lift_fault(it)),
        wit::Event::Other((name, bytes)) => plain::Event::Other(name, bytes),
    }
}

fn lower_action(action: plain::Action) -> wit::Action {
    match action {
        plain::Action::Replicate(change) => wit::Action::Replicate(change),
        plain::Action::Hold(change) => wit::Action::Hold(change),
        plain::Action::Refuse { change, reason } => wit::Action::Refuse(wit::Refusal { change, reason }),
        plain::Action::Apply(queues) => wit::Action::Apply(queues),
        plain::Action::Drop(queues) => wit::Action::Drop(queues),
        plain::Action::Warn(text) => wit::Action::Warn(text),
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
