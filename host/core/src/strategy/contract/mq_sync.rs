//! The contract suite of mq-sync.

use super::Suite;
use crate::strategy::{MqSync, scrutiny::QueueGround};
use crate::types::strategy::mq_sync::{
    Change, EMBEDDED, Event, Inventory, Queue, REACHABLE, UNKNOWN, UNREACHABLE, View,
};
use crate::types::strategy::{Fault, Role};

impl Suite for MqSync {
    /// Open without a registry; queues that come, go and come anew on both ends; a broker that comes and goes; clients that register and
    /// unregister; the end of the session, and what it does not know.
    fn script(role: Role) -> Vec<Vec<Event>> {
        let mut view = View::new(role, "global");
        if role == Role::Provider {
            view.broker = EMBEDDED.into();
        }
        let mut calls = vec![vec![Event::Opened {
            view: view.clone(),
            stored: vec![1, 2, 3],
        }]];
        for (receiver, provider) in [
            (None, Some(inventory(&[]))),
            (None, Some(inventory(&[("a", 1), ("b", 2)]))),
            (Some(inventory(&[("a", 1)])), Some(inventory(&[("a", 1), ("b", 2)]))),
            (Some(inventory(&[("a", 1), ("b", 2)])), Some(inventory(&[("b", 3)]))),
            (Some(inventory(&[("c", 9)])), Some(inventory(&[]))),
            (Some(inventory(&[("b", 3)])), Some(inventory(&[("b", 3)]))),
        ] {
            view.now += 2_000;
            show(&mut view, receiver, provider);
            calls.push(vec![Event::Inventories(view.clone())]);
            calls.push(vec![Event::Tick(view.now + 500)]);
        }
        if role == Role::Provider {
            calls.extend(clients(&mut view));
        }
        view.extra = vec![("unknown".into(), "name".into())];
        view.peer = None;
        calls.push(vec![Event::Inventories(view.clone())]);
        calls.push(vec![
            Event::Message(vec![0; 100]),
            Event::Fault(Fault::new("unknown-action", "refused")),
            Self::unknown(),
        ]);
        calls.push(vec![Event::Message(Vec::new()), Event::Tick(view.now + 1_000)]);
        view.broker = UNKNOWN.into();
        calls.push(vec![Event::Opened {
            view,
            stored: Vec::new(),
        }]);
        calls.push(Vec::new());
        calls
    }

    fn unknown() -> Event {
        Event::Other("of-a-later-release".into(), Vec::new())
    }

    fn judge(role: Role, events: &[Event], actions: &[Self::Action]) -> Result<(), String> {
        let view = events.iter().rev().find_map(|event| match event {
            Event::Opened { view, .. } | Event::Inventories(view) | Event::Broker(view) => Some(view),
            _ => None,
        });
        let changes: Vec<u64> = events
            .iter()
            .filter_map(|event| match event {
                Event::Registered(change) | Event::Unregistered(change) => Some(change.id),
                _ => None,
            })
            .collect();
        let ground = QueueGround {
            role,
            view,
            told: view.is_some(),
            changes: &changes,
        };
        ground.check(actions).map_err(|fault| fault.to_string())
    }
}

/// The broker comes and goes, and at each of its states clients register and unregister.
fn clients(view: &mut View) -> Vec<Vec<Event>> {
    let mut calls = Vec::new();
    let mut id = 0;
    for (broker, attached) in [
        (UNREACHABLE, true),
        (REACHABLE, false),
        ("of-a-later-release", true),
        (EMBEDDED, false),
    ] {
        view.now += 100;
        view.broker = broker.into();
        calls.push(vec![Event::Broker(view.clone())]);
        let mut change = |name: &str| {
            id += 1;
            Change {
                exchange: "global_fa34664e_1".into(),
                broker: broker.into(),
                attached,
                ..Change::new(id, queue(name, id))
            }
        };
        calls.push(vec![Event::Registered(change("orders"))]);
        calls.push(vec![
            Event::Inventories(view.clone()),
            Event::Unregistered(change("orders")),
            Event::Registered(change("refunds")),
        ]);
    }
    calls
}

fn queue(name: &str, number: u64) -> Queue {
    Queue {
        keys: vec!["MQBlock".into(), "MQLog".into()],
        registration: [number as u8; 32],
        filter: [name.len() as u8; 32],
        delay: number.is_multiple_of(2),
        cursor: 7 + number,
        ..Queue::new(name, number, 3)
    }
}

fn inventory(queues: &[(&str, u64)]) -> Inventory {
    Inventory {
        exchange: "global_fa34664e_1".into(),
        queues: queues.iter().map(|(name, number)| queue(name, *number)).collect(),
        extra: Vec::new(),
    }
}

/// Lets the view show the receiver's queues and the provider's, each on its side.
fn show(view: &mut View, receiver: Option<Inventory>, provider: Option<Inventory>) {
    (view.local, view.peer) = match view.role {
        Role::Receiver => (receiver, provider),
        Role::Provider => (provider, receiver),
    };
}
