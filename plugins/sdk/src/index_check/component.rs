//! Turns an [`IndexCheck`] into the exported resource: lifts events, lowers actions. No decision of its own.

use std::cell::RefCell;
use std::marker::PhantomData;

use cvp_types::index_check as plain;
use cvp_types::index_check::IndexCheck;

use super::bindings::exports::cvp::index_check::index_check as wit;
use crate::chain_sync::bindings::cvp::types::types as shared;
use crate::shared::{lift_fault, lift_role, lower_descriptor, lower_fault, lower_level, lower_problems};

/// The exported component of a strategy.
pub struct Component<S>(PhantomData<S>);

/// One instance of it, behind the resource handle.
pub struct Instance<S>(RefCell<S>);

impl<S: IndexCheck> wit::Guest for Component<S> {
    type Strategy = Instance<S>;

    fn describe() -> shared::Descriptor {
        lower_descriptor(S::describe())
    }

    fn check_settings(settings: String) -> Result<(), Vec<shared::Problem>> {
        S::check_settings(&settings).map_err(lower_problems)
    }
}

impl<S: IndexCheck> wit::GuestStrategy for Instance<S> {
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

fn lift_side(it: wit::Side) -> plain::Side {
    plain::Side {
        enabled: it.enabled,
        configured: it.configured,
        backend: it.backend,
        problem: it.problem,
        extra: it.extra,
    }
}

fn lift_view(it: wit::View) -> plain::View {
    plain::View {
        role: lift_role(it.role),
        namespace: it.namespace,
        now: it.now,
        local: lift_side(it.local),
        peer: lift_side(it.peer),
        extra: it.extra,
    }
}

fn lift_event(event: wit::Event) -> plain::Event {
    match event {
        wit::Event::Opened(it) => plain::Event::Opened {
            view: lift_view(it.view),
            stored: it.stored,
        },
        wit::Event::State(view) => plain::Event::State(lift_view(view)),
        wit::Event::Tick(now) => plain::Event::Tick(now),
        wit::Event::Message(bytes) => plain::Event::Message(bytes),
        wit::Event::Fault(it) => plain::Event::Fault(lift_fault(it)),
        wit::Event::Other((name, bytes)) => plain::Event::Other(name, bytes),
    }
}

fn lower_action(action: plain::Action) -> wit::Action {
    match action {
        plain::Action::Accept => wit::Action::Accept,
        plain::Action::Refuse(reason) => wit::Action::Refuse(reason),
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
