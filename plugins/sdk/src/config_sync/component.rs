//! Turns a [`ConfigSync`] into the exported resource: lifts events, lowers actions. No decision of its own.

use std::cell::RefCell;
use std::marker::PhantomData;

use cvp_types::config_sync as plain;
use cvp_types::config_sync::ConfigSync;

use super::bindings::exports::cvp::config_sync::config_sync as wit;
use crate::chain_sync::bindings::cvp::types::types as shared;
use crate::shared::{lift_digest, lift_fault, lift_role, lower_descriptor, lower_fault, lower_level, lower_problems};

/// The exported component of a strategy.
pub struct Component<S>(PhantomData<S>);

/// One instance of it, behind the resource handle.
pub struct Instance<S>(RefCell<S>);

impl<S: ConfigSync> wit::Guest for Component<S> {
    type Strategy = Instance<S>;

    fn describe() -> shared::Descriptor {
        lower_descriptor(S::describe())
    }

    fn check_settings(settings: String) -> Result<(), Vec<shared::Problem>> {
        S::check_settings(&settings).map_err(lower_problems)
    }
}

impl<S: ConfigSync> wit::GuestStrategy for Instance<S> {
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

fn lift_inventory(files: Vec<wit::FileEntry>) -> Vec<plain::FileEntry> {
    let lift = |it: wit::FileEntry| plain::FileEntry {
        path: it.path,
        size: it.size,
        digest: lift_digest(it.digest),
    };
    files.into_iter().map(lift).collect()
}

fn lift_view(it: wit::View) -> plain::View {
    plain::View {
        role: lift_role(it.role),
        namespace: it.namespace,
        now: it.now,
        local: lift_inventory(it.local),
        peer: it.peer.map(lift_inventory),
        requested: it.requested,
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
        wit::Event::Edit(it) => plain::Event::Edit(plain::Edit {
            id: it.id,
            file: it.file,
            key: it.key,
            old: it.old.map(lift_digest),
            new: it.new.map(lift_digest),
        }),
        wit::Event::Tick(now) => plain::Event::Tick(now),
        wit::Event::Message(bytes) => plain::Event::Message(bytes),
        wit::Event::Fault(it) => plain::Event::Fault(lift_fault(it)),
        wit::Event::Other((name, bytes)) => plain::Event::Other(name, bytes),
    }
}

fn lower_action(action: plain::Action) -> wit::Action {
    match action {
        plain::Action::Request(paths) => wit::Action::Request(paths),
        plain::Action::Delete(paths) => wit::Action::Delete(paths),
        plain::Action::Weigh { edit, strong } => wit::Action::Weigh(wit::Weight { edit, strong }),
        plain::Action::KeepLocal { file, key } => wit::Action::KeepLocal(wit::LocalKey { file, key }),
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
