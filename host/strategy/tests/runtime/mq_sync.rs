//! Kind mq-sync in the real runtime: the same suite, traces, limits and loading as the others.

use std::sync::OnceLock;

use cvp_core::strategy::scrutiny::QueueGround;
use cvp_core::strategy::{MqSync, MqSyncStrategy, Native, Strategy, contract, trace};
use cvp_core::types::strategy::mq_sync::{Action, Change, EMBEDDED, Event, Inventory, Queue, UNREACHABLE, View};
use cvp_core::types::strategy::{Fault, Role};
use cvp_strategy::{AnyComponent, Component};

use super::built::{bytes_of, runtime};

fn default_component() -> &'static Component<MqSync> {
    static IT: OnceLock<Component<MqSync>> = OnceLock::new();
    IT.get_or_init(|| runtime().load(&bytes_of("cvp_mq_sync.wasm")).unwrap())
}

fn doorman() -> &'static Component<MqSync> {
    static IT: OnceLock<Component<MqSync>> = OnceLock::new();
    IT.get_or_init(|| runtime().load(&bytes_of("cvp_example_mq_strategy.wasm")).unwrap())
}

fn wasm(role: Role) -> Result<MqSyncStrategy, Fault> {
    Ok(Box::new(default_component().open(role, "global", "{}")?))
}

fn native(role: Role) -> Result<MqSyncStrategy, Fault> {
    let strategy = Native::<cvp_mq_sync::Default, MqSync>::open(role, "global", "{}")?;
    Ok(Box::new(strategy))
}

fn inventory(queues: &[(&str, u64)]) -> Option<Inventory> {
    Some(Inventory {
        exchange: "global_fa34664e_1".into(),
        queues: queues
            .iter()
            .map(|(name, number)| Queue::new(*name, *number, 1))
            .collect(),
        extra: Vec::new(),
    })
}

/// A receiver that lacks `orders` and has `old` too many.
fn differing() -> View {
    View {
        local: inventory(&[("old", 1)]),
        peer: inventory(&[("orders", 2)]),
        ..View::new(Role::Receiver, "global")
    }
}

fn register(name: &str, broker: &str) -> Vec<Event> {
    vec![Event::Registered(Change {
        broker: broker.into(),
        ..Change::new(7, Queue::new(name, 7, 1))
    })]
}

#[test]
fn the_contract_holds_native_in_wasm_and_for_a_third_party() {
    contract::check::<MqSync>(&mut native).unwrap();
    contract::check::<MqSync>(&mut wasm).unwrap();
    contract::check::<MqSync>(&mut |role| Ok(Box::new(doorman().open(role, "global", "{}")?))).unwrap();
}

#[test]
fn a_trace_replays_to_the_same_actions_native_and_in_wasm() {
    for role in [Role::Provider, Role::Receiver] {
        let it = default_component();
        let opening = trace::Opening {
            kind: it.descriptor().kind.clone(),
            role,
            namespace: "global".into(),
            settings: "{}".into(),
            id: it.descriptor().id.clone(),
            version: it.descriptor().version.clone(),
            sha256: it.sha256(),
        };
        let (mut bytes, mut told) = (opening.encode(), wasm(role).unwrap());
        let mut decided = 0;
        for events in contract::script::<MqSync>(role) {
            let answer = told.handle(events.clone());
            decided += answer.iter().flatten().count();
            bytes.extend(trace::Call::<MqSync> { events, answer }.encode());
        }
        let (again, calls) = trace::read::<MqSync>(&bytes).unwrap();
        assert_eq!(again, opening);
        assert_eq!(calls.len(), contract::script::<MqSync>(role).len());
        assert!(decided > 4, "the {} decides {decided} times", role.as_str());
        trace::replay(&calls, &mut native(role).unwrap()).unwrap();
        trace::replay(&calls, &mut wasm(role).unwrap()).unwrap();
    }
}

fn said_by(settings: &str, role: Role, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
    doorman().open(role, "global", settings).unwrap().handle(events)
}

#[test]
fn the_example_refuses_by_name_and_holds_while_the_broker_is_away() {
    let settings = r#"{"refused":["secret"]}"#;
    let said = |events| said_by(settings, Role::Provider, events).unwrap();
    assert_eq!(said(register("orders", EMBEDDED)), [Action::Replicate(7)]);
    assert_eq!(said(register("orders", UNREACHABLE)), [Action::Hold(7)]);
    let refused = said(register("secret", EMBEDDED));
    assert!(matches!(&refused[..], [Action::Refuse { change: 7, reason }] if reason.contains("secret")));
    let change = Change::new(8, Queue::new("secret", 7, 1));
    assert_eq!(said(vec![Event::Unregistered(change)]), [Action::Replicate(8)]);
    let said = wasm(Role::Provider).unwrap().handle(register("secret", UNREACHABLE));
    assert_eq!(said, Ok(vec![Action::Replicate(7)]), "the default lets everything in");
}

#[test]
fn misbehaviour_is_named() {
    let told = |mode: &str, role: Role| {
        let settings = format!(r#"{{"mode":"{mode}"}}"#);
        let view = differing();
        let (events, changes): (_, &[u64]) = match role {
            Role::Provider => (register("orders", EMBEDDED), &[7]),
            Role::Receiver => (vec![Event::Inventories(view.clone())], &[]),
        };
        let ground = QueueGround {
            role,
            view: (role == Role::Receiver).then_some(&view),
            told: role == Role::Receiver,
            changes,
        };
        said_by(&settings, role, events).and_then(|actions| ground.check(&actions))
    };
    for role in [Role::Provider, Role::Receiver] {
        assert_eq!(told("doorman", role), Ok(()));
    }
    for (mode, role, code) in [
        ("silent", Role::Provider, "change-not-decided"),
        ("both", Role::Provider, "change-not-decided"),
        ("trap", Role::Provider, "trap"),
        ("deaf", Role::Receiver, "queue-left-out"),
        ("robber", Role::Receiver, "queue-of-provider"),
        ("crowd", Role::Receiver, "bad-count"),
    ] {
        assert_eq!(told(mode, role).unwrap_err().code, code, "{mode}");
    }
    let refused = doorman().open(Role::Receiver, "global", r#"{"mode":"other"}"#);
    assert_eq!(refused.err().unwrap().code, "bad-settings");
}

#[test]
fn the_kind_is_found_by_loading_and_the_default_has_no_settings() {
    let it = runtime().load_any(&bytes_of("cvp_mq_sync.wasm")).unwrap();
    assert!(matches!(it, AnyComponent::MqSync(_)));
    let said = &it.about().descriptor;
    assert_eq!(
        (said.id.as_str(), said.kind.as_str(), said.version.as_str()),
        ("default", "mq-sync", "1.0.0")
    );
    assert_eq!(it.check_settings(r#"{"colour":1}"#).unwrap()[0].path, "colour");
    assert!(it.check_settings("{}").unwrap().is_empty());
    let other = runtime().load::<MqSync>(&bytes_of("cvp_config_sync.wasm"));
    assert_eq!(other.unwrap_err().code(), "plugin-contract");
}
