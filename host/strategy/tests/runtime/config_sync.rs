//! Kind config-sync in the real runtime: the same suite, traces, limits and loading as chain-sync.

use std::sync::OnceLock;
use std::time::Instant;

use cvp_core::config;
use cvp_core::strategy::scrutiny::ConfigGround;
use cvp_core::strategy::{ConfigSync, ConfigSyncStrategy, Native, Strategy, contract, trace};
use cvp_core::types::strategy::config_sync::{Action, Edit, Event, FILES_MAX, FileEntry, PATH_BYTES_MAX, View};
use cvp_core::types::strategy::{Fault, Role};
use cvp_strategy::{AnyComponent, Component, LoadError, Plugin};
use sha2::{Digest as _, Sha256};

use super::built::{bytes_of, runtime};

fn default_component() -> &'static Component<ConfigSync> {
    static IT: OnceLock<Component<ConfigSync>> = OnceLock::new();
    IT.get_or_init(|| runtime().load(&bytes_of("cvp_config_sync.wasm")).unwrap())
}

fn careful() -> &'static Component<ConfigSync> {
    static IT: OnceLock<Component<ConfigSync>> = OnceLock::new();
    IT.get_or_init(|| runtime().load(&bytes_of("cvp_example_config_strategy.wasm")).unwrap())
}

fn wasm(role: Role) -> Result<ConfigSyncStrategy, Fault> {
    Ok(Box::new(default_component().open(role, "global", "{}")?))
}

fn native(role: Role) -> Result<ConfigSyncStrategy, Fault> {
    let strategy = Native::<cvp_config_sync::Default, ConfigSync>::open(role, "global", "{}")?;
    Ok(Box::new(strategy))
}

fn file(path: String, content: u8) -> FileEntry {
    FileEntry {
        path,
        size: 1,
        digest: [content; 32],
    }
}

fn opened(view: &View) -> Vec<Event> {
    vec![Event::Opened {
        view: view.clone(),
        stored: Vec::new(),
    }]
}

#[test]
fn native_and_wasm_pass_the_same_contract_suite() {
    contract::check::<ConfigSync>(&mut native).unwrap();
    contract::check::<ConfigSync>(&mut wasm).unwrap();
    contract::check::<ConfigSync>(&mut |role| Ok(Box::new(careful().open(role, "global", "{}")?))).unwrap();
}

#[test]
fn a_recorded_trace_replays_the_same_in_both_worlds() {
    for role in [Role::Receiver, Role::Provider] {
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
        let mut said = 0;
        for events in contract::script::<ConfigSync>(role) {
            let answer = told.handle(events.clone());
            said += answer.as_ref().unwrap().len();
            bytes.extend(trace::Call::<ConfigSync> { events, answer }.encode());
        }
        let (again, calls) = trace::read::<ConfigSync>(&bytes).unwrap();
        assert_eq!(again, opening);
        assert_eq!(calls.len(), contract::script::<ConfigSync>(role).len());
        assert!(said > 5, "the script makes the {} say {said} things", role.as_str());
        trace::replay(&calls, &mut native(role).unwrap()).unwrap();
        trace::replay(&calls, &mut wasm(role).unwrap()).unwrap();
    }
}

#[test]
fn descriptor_and_settings_are_checked_by_the_component() {
    let it = default_component();
    let said = it.descriptor();
    assert_eq!(
        (said.id.as_str(), said.kind.as_str(), said.version.as_str()),
        ("default", "config-sync", "1.0.0")
    );
    let settings = r#"{"strong":["dynamic.toml:cvp.heartbeat"],"files_max":8}"#;
    assert!(it.check_settings(settings).unwrap().is_empty());
    assert_eq!(it.check_settings(r#"{"strong":[":"]}"#).unwrap()[0].path, "strong");
    let refused = it.open(Role::Receiver, "global", r#"{"strong":[":"]}"#);
    assert_eq!(refused.err().unwrap().code, "bad-settings");
}

#[test]
fn misbehaviour_ends_the_instance_and_is_named() {
    let view = View::new(Role::Receiver, "global");
    let told = |mode: &str| {
        let settings = format!(r#"{{"mode":"{mode}"}}"#);
        let mut it = careful().open(Role::Receiver, "global", &settings).unwrap();
        let answer = it.handle(opened(&view));
        if answer.is_err() {
            assert_eq!(it.handle(Vec::new()).unwrap_err().code, "spent");
        }
        answer
    };
    assert_eq!(told("trap").unwrap_err().code, "trap");
    assert_eq!(told("loop").unwrap_err().code, "deadline");
    assert_eq!(told("many").unwrap_err().code, "too-many-actions");
    assert_eq!(told("crowd").unwrap_err().code, "oversize-action");
    assert_eq!(told("far").unwrap_err().code, "oversize-action");
    // Nonsense that is well-formed is for core's scrutiny.
    let nonsense = told("nonsense").unwrap();
    let ground = ConfigGround {
        view: &view,
        edits: &[],
    };
    assert_eq!(ground.check(&nonsense).unwrap_err().code, "unknown-path");
}

#[test]
fn an_edit_that_is_not_weighed_is_refused() {
    let view = View::new(Role::Provider, "global");
    let edit = || {
        vec![Event::Edit(Edit {
            id: 5,
            file: "dynamic.toml".into(),
            key: "cvp.max_rate".into(),
            old: Some([1; 32]),
            new: Some([2; 32]),
        })]
    };
    let ground = ConfigGround {
        view: &view,
        edits: &[5],
    };
    let mut unweighed = careful()
        .open(Role::Provider, "global", r#"{"mode":"unweighed"}"#)
        .unwrap();
    let answer = unweighed.handle(edit()).unwrap();
    assert_eq!(ground.check(&answer).unwrap_err().code, "edit-not-weighed");
    let answer = wasm(Role::Provider).unwrap().handle(edit()).unwrap();
    assert_eq!(answer, [Action::Weigh { edit: 5, strong: true }]);
    assert_eq!(ground.check(&answer), Ok(()));
}

#[test]
fn the_default_is_no_weaker_than_the_host() {
    let keys = [
        "cvp.strong_timeout",
        "cvp.max_rate",
        "cvp.retain_bytes",
        "cvp.heartbeat",
        "namespace",
        "self",
        "self.hostname",
        "log.module.cvp",
        "log.log_level",
        "strategy.config-sync.id",
        "nodes",
        "service.a",
        "database.indexdb.layer1.enable",
        "consensus.algo",
        "ledger.keep_blocks",
    ];
    let files = [
        "dynamic.toml",
        "global/ns_dynamic.toml",
        "global/ns_static.toml",
        "system.toml",
    ];
    let strong_here = |file: &str, key: &str| config::weight(file, key) == config::Weight::Strong;
    let mut provider = native(Role::Provider).unwrap();
    let mut strong = 0;
    for (file, key) in files.iter().flat_map(|file| keys.iter().map(move |key| (*file, *key))) {
        let edit = Edit {
            id: 1,
            file: format!("configuration/{file}"),
            key: key.into(),
            old: None,
            new: None,
        };
        let answer = provider.handle(vec![Event::Edit(edit)]).unwrap();
        let weighed = answer == [Action::Weigh { edit: 1, strong: true }];
        assert!(weighed || !strong_here(file, key), "{file}:{key}");
        strong += usize::from(weighed);
    }
    assert!(strong > 10 && strong < files.len() * keys.len(), "{strong} strong");

    let mut view = View::new(Role::Receiver, "global");
    view.local = files
        .iter()
        .map(|path| file(format!("configuration/{path}"), 1))
        .collect();
    view.peer = Some(view.local.clone());
    let said = native(Role::Receiver).unwrap().handle(opened(&view)).unwrap();
    for file in files {
        for key in config::local_keys(file) {
            let is_kept = said.iter().any(|action| match action {
                // The host's `p2p.tls` stands for every key that begins so.
                Action::KeepLocal { file: of, key: kept } => {
                    of == &format!("configuration/{file}")
                        && (kept == key || (key == "p2p.tls" && kept.starts_with(key)))
                }
                _ => false,
            });
            assert!(is_kept, "{file}:{key}");
        }
    }
}

/// Shows an instance the largest inventories there can be, all different and then all gone, again and again. The slowest call, milliseconds.
fn show_the_largest(it: &mut dyn Strategy<Event = Event, Action = Action>) -> Result<u128, Fault> {
    let tree = |content| -> Vec<FileEntry> {
        let name = "x".repeat(PATH_BYTES_MAX - 19);
        let path = |n: usize| format!("{n:05}/{name}/dynamic.toml");
        (0..FILES_MAX).map(|n| file(path(n), content)).collect()
    };
    let mut view = View::new(Role::Receiver, "global");
    view.local = tree(1);
    view.peer = Some(tree(2));
    let mut gone = view.clone();
    gone.peer = Some(vec![file("only".into(), 1)]);
    let mut slowest = 0;
    for round in 0..8 {
        for now in [&mut view, &mut gone] {
            now.now = round * 10_000;
            let events = if round == 0 {
                opened(now)
            } else {
                vec![Event::Inventories(now.clone())]
            };
            let begun = Instant::now();
            let answer = it.handle(events)?;
            slowest = slowest.max(begun.elapsed().as_millis());
            ConfigGround { view: now, edits: &[] }.check(&answer)?;
            let files = |action: &Action| matches!(action, Action::Request(_) | Action::Delete(_));
            assert!(answer.iter().any(files), "round {round}");
        }
    }
    Ok(slowest)
}

#[test]
fn the_largest_inventories_fit_into_time_and_memory() {
    default_component();
    // A call takes 16 ms alone; the deadline is of the wall clock, and other tests may hold both processors.
    let mut tries = (0..5).map(|_| show_the_largest(&mut *wasm(Role::Receiver).unwrap()));
    let slowest = tries
        .find(|told| !matches!(told, Err(fault) if fault.code == "deadline"))
        .expect("every try ran into its deadline")
        .unwrap();
    println!("the slowest call with {FILES_MAX} files on both sides took {slowest} ms");
}

#[test]
fn the_kind_is_found_by_loading() {
    let any = |name: &str| runtime().load_any(&bytes_of(name)).unwrap();
    assert!(matches!(any("cvp_chain_sync.wasm"), AnyComponent::ChainSync(_)));
    let it = any("cvp_config_sync.wasm");
    assert!(matches!(it, AnyComponent::ConfigSync(_)));
    assert_eq!(it.about().descriptor.kind, "config-sync");
    assert_eq!(it.check_settings(r#"{"colour":1}"#).unwrap()[0].path, "colour");
    let other = runtime().load::<ConfigSync>(&bytes_of("cvp_chain_sync.wasm"));
    assert_eq!(other.unwrap_err().code(), "plugin-contract");
}

#[test]
fn a_plugin_of_this_kind_is_loaded_from_its_directory() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("careful");
    std::fs::create_dir(&directory).unwrap();
    let bytes = bytes_of("cvp_example_config_strategy.wasm");
    std::fs::write(directory.join("plugin.wasm"), &bytes).unwrap();
    let sha256: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let write = |kind: &str, contract: &str| {
        let text = format!(
            "id=\"careful\"\nkind=\"{kind}\"\nversion=\"0.1.0\"\ncontract=\"{contract}\"\nsha256=\"{sha256}\"\n"
        );
        std::fs::write(directory.join("plugin.toml"), text).unwrap();
        Plugin::open(&directory)
    };
    let right = write("config-sync", "cvp:config-sync@0.1.0").unwrap();
    assert_eq!(
        runtime().load_plugin::<ConfigSync>(&right).unwrap().descriptor().id,
        "careful"
    );
    let any = runtime().load_any_plugin(&right).unwrap();
    assert!(matches!(any, AnyComponent::ConfigSync(_)));
    let wrong = super::pauser_of(&right).unwrap_err();
    assert!(matches!(wrong, LoadError::Mismatch { field: "kind", .. }), "{wrong}");
    let lying = write("chain-sync", "cvp:chain-sync@0.1.0").unwrap();
    let wrong = runtime().load_any_plugin(&lying).unwrap_err();
    assert!(matches!(wrong, LoadError::Mismatch { field: "kind", .. }), "{wrong}");
    for (kind, contract) in [
        ("config-sync", "cvp:chain-sync@0.1.0"),
        ("config-sync", "cvp:config-sync@0.2.0"),
        ("colour-sync", "cvp:colour-sync@0.1.0"),
    ] {
        assert_eq!(
            write(kind, contract).unwrap_err().code(),
            "plugin-manifest",
            "{contract}"
        );
    }
}
