//! The default mq-sync strategy: every registration is made on both nodes, whatever the broker does meanwhile; and the receiver has the queues
//! that the provider has, no more and no fewer.
//!
//! Keeps nothing: every view holds all that it needs.

use cvp_sdk::mq_sync::{Action, Event, KIND, MqSync, View};
use cvp_sdk::settings::Settings;
use cvp_sdk::{Descriptor, Fault, Problem, Role};

/// JSON Schema of its settings: there are none.
const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"properties":{}}"#;

/// The default strategy of kind mq-sync.
#[derive(Debug)]
pub struct Default;

impl MqSync for Default {
    fn describe() -> Descriptor {
        Descriptor {
            id: "default".into(),
            kind: KIND.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            settings_schema: SCHEMA.into(),
            extra: Vec::new(),
        }
    }

    fn check_settings(settings: &str) -> Result<(), Vec<Problem>> {
        Settings::parse(settings).finish()
    }

    fn open(_role: Role, _namespace: &str, settings: &str) -> Result<Self, Fault> {
        Self::check_settings(settings).map_err(|problems| {
            let text: Vec<_> = problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect();
            Fault::new("bad-settings", text.join("; "))
        })?;
        Ok(Self)
    }

    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
        let mut said = Vec::new();
        let view = events.iter().rev().find_map(|event| match event {
            Event::Opened { view, .. } | Event::Inventories(view) | Event::Broker(view) => Some(view),
            _ => None,
        });
        said.extend(view.into_iter().flat_map(align));
        let asked = events.iter().filter_map(|event| match event {
            Event::Registered(change) | Event::Unregistered(change) => Some(Action::Replicate(change.id)),
            _ => None,
        });
        said.extend(asked);
        Ok(said)
    }
}

/// What makes a receiver's queues the provider's.
fn align(view: &View) -> Vec<Action> {
    if view.role != Role::Receiver {
        return Vec::new();
    }
    let missing: Vec<_> = view.missing().map(|queue| queue.name.clone()).collect();
    let extra: Vec<_> = view.extra_queues().map(|queue| queue.name.clone()).collect();
    let mut said = Vec::new();
    if !missing.is_empty() {
        said.push(Action::Apply(missing));
    }
    if !extra.is_empty() {
        said.push(Action::Drop(extra));
    }
    said
}

cvp_sdk::export_mq_sync!(Default);

#[cfg(test)]
mod tests {
    use cvp_sdk::mq_sync::{Change, Inventory, Queue, UNREACHABLE};

    use super::*;

    fn inventory(queues: &[(&str, u64)]) -> Inventory {
        Inventory {
            exchange: "global_fa34664e_1".into(),
            queues: queues
                .iter()
                .map(|(name, number)| Queue::new(*name, *number, 1))
                .collect(),
            extra: Vec::new(),
        }
    }

    fn view(role: Role, local: Option<Inventory>, peer: Option<Inventory>) -> View {
        View {
            local,
            peer,
            ..View::new(role, "global")
        }
    }

    fn said(events: Vec<Event>) -> Vec<Action> {
        Default::open(Role::Receiver, "global", "{}")
            .unwrap()
            .handle(events)
            .unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_receiver_takes_what_the_provider_has_and_drops_what_it_lacks() {
        let here = inventory(&[("again", 1), ("gone", 2), ("same", 3)]);
        let there = inventory(&[("again", 5), ("fresh", 4), ("same", 3)]);
        let view = view(Role::Receiver, Some(here.clone()), Some(there.clone()));
        let wanted = [
            Action::Apply(names(&["again", "fresh"])),
            Action::Drop(names(&["gone"])),
        ];
        for event in [
            Event::Opened {
                view: view.clone(),
                stored: Vec::new(),
            },
            Event::Inventories(view.clone()),
        ] {
            assert_eq!(said(vec![event]), wanted);
        }
        let nothing = super::tests::view(Role::Receiver, None, Some(there.clone()));
        assert_eq!(
            said(vec![Event::Inventories(nothing)]),
            [Action::Apply(names(&["again", "fresh", "same"]))]
        );
        for (role, local, peer) in [
            (Role::Receiver, Some(there.clone()), Some(there.clone())),
            (Role::Receiver, Some(here.clone()), None),
            (Role::Provider, Some(here), Some(there)),
        ] {
            let view = super::tests::view(role, local, peer);
            assert_eq!(said(vec![Event::Inventories(view)]), []);
        }
    }

    #[test]
    fn a_queue_that_was_only_told_more_is_the_same() {
        let (here, mut there) = (inventory(&[("q", 1)]), inventory(&[("q", 1)]));
        there.queues[0].cursor = 99;
        let view = view(Role::Receiver, Some(here), Some(there));
        assert_eq!(said(vec![Event::Inventories(view)]), []);
    }

    #[test]
    fn every_change_is_made_whatever_the_broker_does() {
        let change = |id: u64, broker: &str| Change {
            broker: broker.into(),
            ..Change::new(id, Queue::new("q", id, 1))
        };
        let events = vec![
            Event::Registered(change(7, "embedded")),
            Event::Unregistered(change(8, UNREACHABLE)),
            Event::Registered(change(9, "of-a-later-release")),
        ];
        assert_eq!(
            said(events),
            [Action::Replicate(7), Action::Replicate(8), Action::Replicate(9)]
        );
    }

    #[test]
    fn nothing_else_is_answered_and_there_are_no_settings() {
        let events = vec![
            Event::Tick(1),
            Event::Message(vec![1]),
            Event::Fault(Fault::new("a", "b")),
            Event::Other("of-a-later-release".into(), Vec::new()),
        ];
        assert_eq!(said(events), []);
        assert!(Default::check_settings(r#"{"colour":"red"}"#).is_err());
        assert!(Default::open(Role::Provider, "global", "nonsense").is_err());
    }
}
