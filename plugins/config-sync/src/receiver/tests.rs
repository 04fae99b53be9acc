//! The receiver's half, told as a node would tell it.

use super::*;
use cvp_sdk::config_sync::{ConfigSync, FILES_MAX};
use cvp_sdk::{ACTIONS_MAX, Role};

fn file(path: &str, size: u64, content: u8) -> FileEntry {
    FileEntry {
        path: path.into(),
        size,
        digest: [content; 32],
    }
}

/// A view in which nothing matches a built-in rule, so that rules do not stand among the actions.
fn view(local: &[FileEntry], peer: &[FileEntry]) -> View {
    View {
        now: 10_000,
        local: local.to_vec(),
        peer: Some(peer.to_vec()),
        ..View::new(Role::Receiver, "ns1")
    }
}

fn opened(view: &View) -> Event {
    Event::Opened {
        view: view.clone(),
        stored: Vec::new(),
    }
}

fn strategy(settings: &str) -> crate::Default {
    crate::Default::open(Role::Receiver, "ns1", settings).unwrap()
}

/// Answers without gauges and log lines.
fn tell(it: &mut crate::Default, event: Event) -> Vec<Action> {
    let mut actions = it.handle(vec![event]).unwrap();
    actions.retain(|action| !matches!(action, Action::Metric(..) | Action::Log(..)));
    actions
}

fn request(paths: &[&str]) -> Action {
    Action::Request(paths.iter().map(|&path| path.to_owned()).collect())
}

fn delete(paths: &[&str]) -> Action {
    Action::Delete(paths.iter().map(|&path| path.to_owned()).collect())
}

#[test]
fn what_differs_is_asked_for_small_things_first_and_what_is_gone_goes() {
    let peer = [
        file("a.bin", 1 << 20, 1),
        file("b.ca", 100, 1),
        file("ns1/big.toml", 1 << 20, 1),
        file("ns1/x.toml", 10, 2),
        file("same", 1, 1),
    ];
    let local = [file("ns1/x.toml", 10, 1), file("old", 1, 1), file("same", 1, 1)];
    assert_eq!(
        tell(&mut strategy(""), opened(&view(&local, &peer))),
        [
            delete(&["old"]),
            request(&["ns1/x.toml", "ns1/big.toml", "b.ca", "a.bin"])
        ]
    );
}

#[test]
fn equal_trees_and_an_unknown_peer_need_nothing() {
    let files = [file("a.toml", 1, 1), file("b", 2, 2)];
    let mut it = strategy("");
    let level = view(&files, &files);
    let answer = it.handle(vec![opened(&level)]).unwrap();
    assert_eq!(answer, [Action::Metric("files_behind".into(), 0)]);
    assert_eq!(it.handle(vec![Event::Inventories(level.clone())]).unwrap(), []);
    assert_eq!(it.handle(vec![Event::Tick(99_999)]).unwrap(), []);
    let alone = View { peer: None, ..level };
    assert_eq!(strategy("").handle(vec![opened(&alone)]).unwrap(), []);
    assert_eq!(strategy("").handle(vec![Event::Tick(1)]).unwrap(), [], "not opened yet");
}

#[test]
fn nothing_is_asked_for_twice_before_its_time() {
    let mut it = strategy(r#"{"ask_again_millis":1000}"#);
    let mut now = view(&[file("old", 1, 1)], &[file("a", 1, 1)]);
    let both = [delete(&["old"]), request(&["a"])];
    assert_eq!(tell(&mut it, opened(&now)), both);
    assert_eq!(tell(&mut it, Event::Inventories(now.clone())), []);
    assert_eq!(tell(&mut it, Event::Tick(10_999)), []);
    let again = it.handle(vec![Event::Tick(11_000)]).unwrap();
    assert!(
        matches!(&again[1], Action::Log(Level::Warn, text) if text.contains("a among them")),
        "{again:?}"
    );
    assert_eq!([&again[0], &again[2]], [&both[0], &both[1]]);
    assert_eq!(tell(&mut it, Event::Tick(11_999)), []);
    // It came, and changes at the provider at once: that is another file to ask for.
    now.now = 12_000;
    now.local = vec![file("a", 1, 1)];
    assert_eq!(tell(&mut it, Event::Inventories(now.clone())), []);
    now.peer = Some(vec![file("a", 1, 2)]);
    assert_eq!(tell(&mut it, Event::Inventories(now.clone())), [request(&["a"])]);
    now.peer = Some(vec![file("a", 1, 3)]);
    assert_eq!(tell(&mut it, Event::Inventories(now)), [request(&["a"])]);
}

#[test]
fn what_is_under_way_is_waited_for_however_long_it_takes() {
    let mut it = strategy(r#"{"ask_again_millis":1000}"#);
    let mut now = view(&[], &[file("a", 1, 1), file("b", 1, 1)]);
    // As after a restart of the strategy: one file is under way already.
    now.requested = vec!["a".into()];
    assert_eq!(tell(&mut it, opened(&now)), [request(&["b"])]);
    now.requested = vec!["a".into(), "b".into()];
    now.now = 50_000;
    assert_eq!(tell(&mut it, Event::Inventories(now.clone())), []);
    // The host gave both up: what this instance asked for waits its time, from when it was last under way.
    now.requested.clear();
    assert_eq!(tell(&mut it, Event::Inventories(now)), [request(&["a"])]);
    assert_eq!(tell(&mut it, Event::Tick(51_000)), [request(&["a", "b"])]);
}

#[test]
fn files_under_way_and_answers_are_bounded() {
    let many: Vec<FileEntry> = (0..FILES_MAX)
        .map(|n| file(&format!("{n:05}/ns_static.toml"), 1, 1))
        .collect();
    let gone: Vec<FileEntry> = (0..FILES_MAX).map(|n| file(&format!("x{n:05}"), 1, 1)).collect();
    let mut it = strategy(r#"{"files_max":3}"#);
    let mut now = view(&gone, &many);
    let mut rules = 0;
    for call in 0..200 {
        let event = if call == 0 {
            opened(&now)
        } else {
            Event::Tick(now.now + call)
        };
        let answer = it.handle(vec![event]).unwrap();
        assert!(answer.len() <= ACTIONS_MAX, "{} actions", answer.len());
        rules += answer.iter().filter(|a| matches!(a, Action::KeepLocal { .. })).count();
        for action in answer {
            match action {
                Action::Request(paths) => assert!(call == 0 && paths.len() == 3, "call {call}: {paths:?}"),
                Action::Delete(paths) => assert!(!paths.is_empty() && paths.len() <= PATHS_MAX),
                _ => {}
            }
        }
    }
    assert_eq!(rules, 5 * FILES_MAX, "each rule of each file once");
    now.local = vec![many[0].clone()];
    assert_eq!(
        tell(&mut it, Event::Inventories(now)),
        [request(&["00003/ns_static.toml"])]
    );
}

#[test]
fn local_keys_are_named_once_a_session_for_the_files_there_are() {
    let mut it = strategy(r#"{"keep_local":["*notes.toml:own.*"]}"#);
    let mut now = view(&[], &[]);
    assert_eq!(tell(&mut it, opened(&now)), []);
    let dynamic = [file("dynamic.toml", 1, 1)];
    (now.local, now.peer) = (dynamic.to_vec(), Some(dynamic.to_vec()));
    let said = tell(&mut it, Event::Inventories(now.clone()));
    let rule = |file: &str, key: &str| Action::KeepLocal {
        file: file.into(),
        key: key.into(),
    };
    for key in ["cvp.enable", "cvp.node_type", "cvp.remote", "port", "p2p.ip.self"] {
        assert!(said.contains(&rule("dynamic.toml", key)), "{key}: {said:?}");
    }
    assert_eq!(tell(&mut it, Event::Tick(10_001)), []);
    now.peer = None;
    now.local.push(file("ns1/notes.toml", 1, 1));
    assert_eq!(
        tell(&mut it, Event::Inventories(now.clone())),
        [rule("ns1/notes.toml", "own")]
    );
    assert_eq!(tell(&mut it, opened(&now)).len(), said.len() + 1, "a new session");
}

#[test]
fn a_provider_without_a_file_does_not_empty_the_copy() {
    let mut it = strategy("");
    let files = [file("a.toml", 1, 1)];
    let mut now = view(&files, &[]);
    let answer = it.handle(vec![opened(&now)]).unwrap();
    assert!(matches!(answer[..], [Action::Log(Level::Warn, _)]), "{answer:?}");
    assert_eq!(it.handle(vec![Event::Tick(10_500)]).unwrap(), [], "said once");
    // Certificates alone are no node's configuration.
    now.namespace = "global".into();
    let certificate = file("certificates/global/CA/root.ca", 1, 2);
    now.local.push(certificate.clone());
    now.peer = Some(vec![certificate]);
    assert_eq!(it.handle(vec![Event::Inventories(now.clone())]).unwrap(), []);
    now.local.pop();
    now.peer = Some(vec![file("b.toml", 1, 1)]);
    assert_eq!(
        tell(&mut it, Event::Inventories(now)),
        [delete(&["a.toml"]), request(&["b.toml"])]
    );
}

#[test]
fn what_it_does_not_know_changes_nothing() {
    let mut it = strategy("");
    tell(&mut it, opened(&view(&[], &[file("a", 1, 1)])));
    let events = vec![
        Event::Message(vec![1]),
        Event::Fault(cvp_sdk::Fault::new("unknown-action", "")),
        Event::Other("new".into(), vec![1]),
    ];
    assert_eq!(it.handle(events).unwrap(), []);
    assert_eq!(it.handle(Vec::new()).unwrap(), []);
}
