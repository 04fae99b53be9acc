//! Kind index-check in the real runtime: the same suite, traces, limits and loading as the others.

use std::sync::OnceLock;

use cvp_core::strategy::scrutiny::IndexGround;
use cvp_core::strategy::{IndexCheck, IndexCheckStrategy, Native, Strategy, contract, trace};
use cvp_core::types::strategy::index_check::{Action, Event, Side, UNHEALTHY, View};
use cvp_core::types::strategy::{Fault, Role};
use cvp_strategy::{AnyComponent, Component};

use super::built::{bytes_of, runtime};

fn default_component() -> &'static Component<IndexCheck> {
    static IT: OnceLock<Component<IndexCheck>> = OnceLock::new();
    IT.get_or_init(|| runtime().load(&bytes_of("cvp_index_check.wasm")).unwrap())
}

fn strict() -> &'static Component<IndexCheck> {
    static IT: OnceLock<Component<IndexCheck>> = OnceLock::new();
    IT.get_or_init(|| runtime().load(&bytes_of("cvp_example_index_strategy.wasm")).unwrap())
}

fn wasm(role: Role) -> Result<IndexCheckStrategy, Fault> {
    Ok(Box::new(default_component().open(role, "global", "{}")?))
}

fn native(role: Role) -> Result<IndexCheckStrategy, Fault> {
    let strategy = Native::<cvp_index_check::Default, IndexCheck>::open(role, "global", "{}")?;
    Ok(Box::new(strategy))
}

/// A pair with an index whose standby has a backend that does not answer.
fn unhealthy(role: Role) -> Vec<Event> {
    let down = Side {
        backend: UNHEALTHY.into(),
        problem: "10.0.0.1:27017: connection refused".into(),
        ..Side::new(true)
    };
    let (local, peer) = match role {
        Role::Receiver => (down, Side::new(true)),
        Role::Provider => (Side::new(true), down),
    };
    let view = View {
        local,
        peer,
        ..View::new(role, "global")
    };
    vec![Event::Opened {
        view,
        stored: Vec::new(),
    }]
}

#[test]
fn the_contract_holds_native_in_wasm_and_for_a_third_party() {
    contract::check::<IndexCheck>(&mut native).unwrap();
    contract::check::<IndexCheck>(&mut wasm).unwrap();
    contract::check::<IndexCheck>(&mut |role| Ok(Box::new(strict().open(role, "global", "{}")?))).unwrap();
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
        let mut warnings = 0;
        for events in contract::script::<IndexCheck>(role) {
            let answer = told.handle(events.clone());
            let said = answer.iter().flatten();
            warnings += said.filter(|action| matches!(action, Action::Warn(_))).count();
            bytes.extend(trace::Call::<IndexCheck> { events, answer }.encode());
        }
        let (again, calls) = trace::read::<IndexCheck>(&bytes).unwrap();
        assert_eq!(again, opening);
        assert_eq!(calls.len(), contract::script::<IndexCheck>(role).len());
        assert!(
            warnings > 5,
            "the script makes the {} warn {warnings} times",
            role.as_str()
        );
        trace::replay(&calls, &mut native(role).unwrap()).unwrap();
        trace::replay(&calls, &mut wasm(role).unwrap()).unwrap();
    }
}

#[test]
fn where_the_default_warns_the_example_refuses() {
    for role in [Role::Provider, Role::Receiver] {
        let said = wasm(role).unwrap().handle(unhealthy(role)).unwrap();
        assert!(matches!(&said[..], [Action::Accept, Action::Warn(text)] if text.contains("10.0.0.1:27017")));
        let mut strict = strict().open(role, "global", "{}").unwrap();
        let said = strict.handle(unhealthy(role)).unwrap();
        assert!(matches!(&said[..], [Action::Refuse(text)] if text.contains("10.0.0.1:27017")));
    }
}

#[test]
fn misbehaviour_is_named() {
    let told = |mode: &str| {
        let settings = format!(r#"{{"mode":"{mode}"}}"#);
        let mut it = strict().open(Role::Receiver, "global", &settings).unwrap();
        let answer = it.handle(unhealthy(Role::Receiver));
        answer.and_then(|actions| IndexGround { told: true }.check(&actions))
    };
    assert_eq!(told("strict"), Ok(()));
    assert_eq!(told("yes"), Ok(()));
    for (mode, code) in [
        ("silent", "one-verdict"),
        ("both", "one-verdict"),
        ("crowd", "bad-count"),
        ("trap", "trap"),
    ] {
        assert_eq!(told(mode).unwrap_err().code, code, "{mode}");
    }
    let refused = strict().open(Role::Receiver, "global", r#"{"mode":"other"}"#);
    assert_eq!(refused.err().unwrap().code, "bad-settings");
}

#[test]
fn the_kind_is_found_by_loading_and_the_default_has_no_settings() {
    let it = runtime().load_any(&bytes_of("cvp_index_check.wasm")).unwrap();
    assert!(matches!(it, AnyComponent::IndexCheck(_)));
    let said = &it.about().descriptor;
    assert_eq!(
        (said.id.as_str(), said.kind.as_str(), said.version.as_str()),
        ("default", "index-check", "1.0.0")
    );
    assert_eq!(it.check_settings(r#"{"colour":1}"#).unwrap()[0].path, "colour");
    assert!(it.check_settings("{}").unwrap().is_empty());
    let other = runtime().load::<IndexCheck>(&bytes_of("cvp_config_sync.wasm"));
    assert_eq!(other.unwrap_err().code(), "plugin-contract");
}
