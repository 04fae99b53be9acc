//! Real components in the real runtime: the contract suite, a trace in both worlds, and every way to misbehave.

mod built;
mod config_sync;
mod index_check;
mod mq_sync;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cvp_core::strategy::{ChainSync, ChainSyncStrategy, Native, Strategy, contract, trace};
use cvp_core::types::strategy::chain_sync::{Action, Event, View};
use cvp_core::types::strategy::{Fault, Role};
use cvp_strategy::{AnyComponent, COMPONENT_BYTES_MAX, Component, LoadError, Plugin, Stamp};
use sha2::{Digest as _, Sha256};

use built::{bytes_of, runtime};

fn default_component() -> &'static Component {
    static IT: OnceLock<Component> = OnceLock::new();
    IT.get_or_init(|| runtime().load(&bytes_of("cvp_chain_sync.wasm")).unwrap())
}

fn pauser() -> &'static Component {
    static IT: OnceLock<Component> = OnceLock::new();
    IT.get_or_init(|| runtime().load(&bytes_of("cvp_example_strategy.wasm")).unwrap())
}

fn wasm(role: Role) -> Result<ChainSyncStrategy, Fault> {
    Ok(Box::new(default_component().open(role, "global", "{}")?))
}

fn native(role: Role) -> Result<ChainSyncStrategy, Fault> {
    Ok(Box::new(Native::<cvp_chain_sync::Default>::open(role, "global", "{}")?))
}

fn opened() -> Vec<Event> {
    vec![Event::Opened {
        view: View::new(Role::Receiver, "global"),
        stored: Vec::new(),
    }]
}

/// Opens the example in a mode and makes one call.
fn told(mode: &str) -> Result<Vec<Action>, Fault> {
    let settings = format!(r#"{{"mode":"{mode}"}}"#);
    let mut it = pauser().open(Role::Receiver, "global", &settings)?;
    let answer = it.handle(opened());
    if answer.is_err() {
        assert_eq!(it.handle(opened()).unwrap_err().code, "spent");
    }
    answer
}

#[test]
fn native_and_wasm_pass_the_same_contract_suite() {
    contract::check::<ChainSync>(&mut native).unwrap();
    contract::check::<ChainSync>(&mut wasm).unwrap();
    contract::check::<ChainSync>(&mut |role| Ok(Box::new(pauser().open(role, "global", "{}")?))).unwrap();
}

#[test]
fn a_recorded_trace_replays_the_same_in_both_worlds() {
    for role in [Role::Receiver, Role::Provider] {
        let opening = trace::Opening {
            kind: default_component().descriptor().kind.clone(),
            role,
            namespace: "global".into(),
            settings: "{}".into(),
            id: default_component().descriptor().id.clone(),
            version: default_component().descriptor().version.clone(),
            sha256: default_component().sha256(),
        };
        let (mut bytes, mut told) = (opening.encode(), wasm(role).unwrap());
        for events in contract::script::<ChainSync>(role) {
            let answer = told.handle(events.clone());
            bytes.extend(trace::Call::<ChainSync> { events, answer }.encode());
        }
        let (again, calls) = trace::read::<ChainSync>(&bytes).unwrap();
        assert_eq!(again, opening);
        assert_eq!(calls.len(), contract::script::<ChainSync>(role).len());
        trace::replay(&calls, &mut native(role).unwrap()).unwrap();
        trace::replay(&calls, &mut wasm(role).unwrap()).unwrap();
    }
}

#[test]
fn descriptor_and_settings_are_checked_by_the_component() {
    let it = default_component();
    assert_eq!(
        (it.descriptor().id.as_str(), it.descriptor().version.as_str()),
        ("default", "1.0.0")
    );
    assert!(it.check_settings("{}").unwrap().is_empty());
    assert_eq!(it.check_settings(r#"{"colour":1}"#).unwrap()[0].path, "colour");
    assert_eq!(
        it.open(Role::Receiver, "global", r#"{"colour":1}"#).err().unwrap().code,
        "bad-settings"
    );
}

#[test]
fn misbehaviour_ends_the_instance_and_is_named() {
    assert!(matches!(told("pause").unwrap()[..], [Action::Pause(_)]));
    let trap = told("trap").unwrap_err();
    assert_eq!(trap.code, "trap");
    assert!(trap.text.contains("told to trap"), "{trap}");
    assert_eq!(told("allocate").unwrap_err().code, "memory");
    assert_eq!(told("many").unwrap_err().code, "too-many-actions");
    assert_eq!(told("large").unwrap_err().code, "oversize-action");
    assert_eq!(told("fault").unwrap_err().code, "told-so");
    // Nonsense that is well-formed is for core::replication to refuse.
    assert!(matches!(told("nonsense").unwrap()[..], [Action::Fetch(_)]));
}

#[test]
fn a_loop_is_cut_off_by_its_deadline() {
    pauser();
    let begun = Instant::now();
    assert_eq!(told("loop").unwrap_err().code, "deadline");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(told("open-loop").unwrap_err().code, "deadline");
}

#[test]
fn what_is_not_a_fitting_component_is_refused() {
    // Of whatever kind, and of one kind: the same is refused.
    for load in [
        |bytes: &[u8]| runtime().load_any(bytes).map(drop),
        |bytes: &[u8]| runtime().load::<ChainSync>(bytes).map(drop),
    ] {
        refuses_what_does_not_fit(&load);
    }
    let other = runtime().load::<ChainSync>(&bytes_of("cvp_config_sync.wasm"));
    assert_eq!(other.unwrap_err().code(), "plugin-contract", "another kind");
}

fn refuses_what_does_not_fit(load: &dyn Fn(&[u8]) -> Result<(), LoadError>) {
    assert_eq!(load(b"not wasm").unwrap_err().code(), "plugin-does-not-compile");
    assert_eq!(load(b"(component)").unwrap_err().code(), "plugin-does-not-compile");
    let empty = b"\0asm\x0d\0\x01\0";
    assert_eq!(load(empty).unwrap_err().code(), "plugin-contract");
    let large = vec![0; COMPONENT_BYTES_MAX as usize + 1];
    assert_eq!(load(&large).unwrap_err().code(), "plugin-too-large");
    // The smallest component that imports an (empty) instance `wasi:sockets/tcp@0.2.0`.
    let mut forbidden = empty.to_vec();
    forbidden.extend([7, 3, 1, 0x42, 0]);
    let name = b"wasi:sockets/tcp@0.2.0";
    forbidden.extend([10, name.len() as u8 + 5, 1, 0, name.len() as u8]);
    forbidden.extend(name);
    forbidden.extend([5, 0]);
    let refused = load(&forbidden).unwrap_err();
    assert_eq!(refused.code(), "plugin-forbidden-import", "{refused}");
}

fn pauser_of(plugin: &Plugin) -> Result<Component, LoadError> {
    runtime().load_plugin(plugin)
}

#[test]
fn a_plugin_directory_must_be_what_its_manifest_says() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("pauser");
    std::fs::create_dir(&directory).unwrap();
    let bytes = bytes_of("cvp_example_strategy.wasm");
    std::fs::write(directory.join("plugin.wasm"), &bytes).unwrap();
    let write = |sha256: &str, version: &str| {
        let text = format!(
            "id=\"pauser\"\nkind=\"chain-sync\"\nversion=\"{version}\"\ncontract=\"cvp:chain-sync@0.1.0\"\nsha256=\"{sha256}\"\n"
        );
        std::fs::write(directory.join("plugin.toml"), text).unwrap();
        Plugin::open(&directory).unwrap()
    };
    let right: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let before = Stamp::of(&directory);
    assert_eq!(pauser_of(&write(&right, "0.1.0")).unwrap().descriptor().id, "pauser");
    let any = runtime().load_any_plugin(&write(&right, "0.1.0")).unwrap();
    assert!(matches!(any, AnyComponent::ChainSync(_)), "{any:?}");
    assert_ne!(Stamp::of(&directory), before, "the manifest appeared");
    let wrong = pauser_of(&write(&"0".repeat(64), "0.1.0")).unwrap_err();
    assert!(matches!(wrong, LoadError::WrongDigest { .. }), "{wrong}");
    let wrong = pauser_of(&write(&right, "9.9.9")).unwrap_err();
    assert!(matches!(wrong, LoadError::Mismatch { field: "version", .. }), "{wrong}");
    std::fs::write(directory.join("plugin.wasm"), vec![0; COMPONENT_BYTES_MAX as usize + 1]).unwrap();
    let wrong = pauser_of(&write(&right, "0.1.0")).unwrap_err();
    assert!(matches!(wrong, LoadError::TooLarge { .. }), "{wrong}");
    std::fs::write(directory.join("plugin.toml"), "id = 7").unwrap();
    assert_eq!(Plugin::open(&directory).unwrap_err().code(), "plugin-manifest");
}

/// Prints what a call costs: `cargo test --release -p cvp-strategy -- --nocapture what_a_call_costs`.
#[test]
fn what_a_call_costs() {
    let mut it = wasm(Role::Receiver).unwrap();
    it.handle(opened()).unwrap();
    let mut nanos: Vec<u128> = (0..20_000)
        .map(|round| {
            let mut view = View::new(Role::Receiver, "global");
            view.now = round;
            let begun = Instant::now();
            it.handle(vec![Event::Progress(view)]).unwrap();
            begun.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let (p50, p99) = (nanos[nanos.len() / 2], nanos[nanos.len() * 99 / 100]);
    println!(
        "call_ns_p50 {p50} call_ns_p99 {p99}, component {} bytes",
        default_component().bytes()
    );
    assert!(p50 < 1_000_000, "a call takes {p50} ns");
}
