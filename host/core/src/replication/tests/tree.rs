//! The copy of the tree and strong changes, both ends against each other.

use super::*;
use crate::frame::{Frame, Kind};
use crate::session::{Claim, TakeOver};
use crate::types::strategy::config_sync;

const DYNAMIC: &str = "configuration/dynamic.toml";

pub(super) fn provider_tree() -> MemoryTree {
    let files = [
        (DYNAMIC, "[cvp]\n"),
        ("configuration/system.toml", "[p2p]\n"),
        ("certificates/global/CA/root.ca", "certificate"),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), Bytes::from_static(text.as_bytes())));
    let mut tree = MemoryTree::default();
    tree.files = files.into();
    tree
}

pub(super) fn strategy() -> StrategyId {
    StrategyId {
        kind: config_sync::KIND.into(),
        id: "default".into(),
        version: "1".into(),
        sha256: [0; 32],
    }
}

/// Takes everything that differs, keeps the ports, and finds every edit weak.
pub(super) fn mirror(events: &[config_sync::Event]) -> Vec<config_sync::Action> {
    use config_sync::{Action as Say, Event as Told};
    let mut said = Vec::new();
    for event in events {
        match event {
            Told::Opened { view, .. } | Told::Inventories(view) if view.role == Role::Receiver => {
                let peer = view.peer.clone().unwrap_or_default();
                let differs = peer.iter().filter(|file| !view.local.contains(file));
                let wanted: Vec<String> = differs.map(|file| file.path.clone()).collect();
                let goes = |path: &str| !peer.iter().any(|file| file.path == path);
                let gone: Vec<String> = view.local.iter().map(|f| f.path.clone()).filter(|p| goes(p)).collect();
                said.extend((!wanted.is_empty()).then_some(Say::Request(wanted)));
                said.extend((!gone.is_empty() && !peer.is_empty()).then_some(Say::Delete(gone)));
                if peer.iter().any(|file| file.path == DYNAMIC) {
                    let (file, key) = (DYNAMIC.to_owned(), "port".to_owned());
                    said.extend(matches!(event, Told::Opened { .. }).then_some(Say::KeepLocal { file, key }));
                }
            }
            Told::Edit(edit) => said.push(Say::Weigh {
                edit: edit.id,
                strong: edit.key == "strong",
            }),
            _ => {}
        }
    }
    said
}

fn idle(_: &[Told]) -> Answer {
    Ok(Vec::new())
}

impl<S: FnMut(&[Told]) -> Answer> Ends<S> {
    fn edit(&mut self, path: &str, text: &'static str) {
        self.trees[PROVIDER]
            .files
            .insert(path.to_owned(), Bytes::from_static(text.as_bytes()));
        self.queue.push_back((PROVIDER, Event::Tree(TreeEvent::Touched)));
    }

    fn propose(&mut self, ticket: Ticket, text: &'static str, must_replicate: bool) {
        let change = FileChange {
            path: DYNAMIC.into(),
            old: None,
            content: Bytes::from_static(text.as_bytes()),
        };
        let proposal = Proposal {
            ticket,
            kind: CONFIG_CHANGE.into(),
            body: change.encode().into(),
            note: "dynamic.toml cvp.max_rate".into(),
            must_replicate,
            queue: None,
        };
        self.queue
            .push_back((PROVIDER, Event::Change(ChangeEvent::Proposed(proposal))));
    }

    fn is_equal(&self) -> bool {
        self.trees[0].files == self.trees[1].files
    }

    fn reason(&self, end: usize, code: &str) -> Option<String> {
        let reasons = self.status(end).reasons;
        reasons
            .into_iter()
            .find(|reason| reason.code == code)
            .map(|reason| reason.text)
    }
}

#[test]
fn the_copy_is_the_tree_and_follows_it() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(600);
    assert!(ends.is_equal(), "{:?}", ends.trees[RECEIVER]);
    assert!(
        ends.status(PROVIDER).normal && ends.status(RECEIVER).normal,
        "{:?}",
        ends.status(PROVIDER)
    );
    ends.edit("configuration/global/ns_static.toml", "new");
    ends.edit(DYNAMIC, "[cvp]\nenable = true\n");
    ends.trees[PROVIDER].files.remove("configuration/system.toml");
    ends.run(600);
    assert!(ends.is_equal());
    assert!(ends.status(RECEIVER).normal, "{:?}", ends.status(RECEIVER));
}

/// Every file of the provider's configuration goes; what it has of certificates stays. Answers what was there.
fn vanish<S: FnMut(&[Told]) -> Answer>(ends: &mut Ends<S>) -> std::collections::BTreeMap<String, Bytes> {
    let files = &mut ends.trees[PROVIDER].files;
    let whole = files.clone();
    files.retain(|path, _| !path.starts_with("configuration/"));
    assert!(!files.is_empty(), "the strategy would not ask to delete otherwise");
    ends.queue.push_back((PROVIDER, Event::Tree(TreeEvent::Touched)));
    whole
}

#[test]
fn a_tree_that_is_no_configuration_takes_no_copys_place() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(600);
    let whole = vanish(&mut ends);
    ends.run(600);
    assert_eq!(ends.trees[RECEIVER].files, whole);
    for end in [PROVIDER, RECEIVER] {
        let reason = ends.reason(end, "configuration-gone").unwrap();
        assert!(!ends.status(end).normal && reason.contains("dynamic.toml"), "{reason}");
    }
    assert!(!ends.status(RECEIVER).tree.unwrap().equal);
    // It comes back, with another file.
    ends.trees[PROVIDER].files = whole;
    ends.edit("configuration/global/ns_static.toml", "new");
    ends.run(600);
    assert!(
        ends.is_equal() && ends.status(RECEIVER).normal,
        "{:?}",
        ends.status(RECEIVER)
    );
}

#[test]
fn a_standby_that_starts_while_its_providers_tree_is_gone_keeps_its_copy() {
    let mut standby = setup(Role::Receiver);
    let copy = provider_tree();
    standby.copy = copy.inventory();
    let mut ends = Ends::apart([setup(Role::Provider), standby], fetch_all);
    ends.trees[RECEIVER] = copy;
    let whole = vanish(&mut ends);
    ends.run(1_000);
    assert_eq!(ends.trees[RECEIVER].files, whole);
    for end in [PROVIDER, RECEIVER] {
        assert!(
            ends.reason(end, "configuration-gone").is_some(),
            "{:?}",
            ends.status(end)
        );
    }
}

#[test]
fn what_the_provider_told_last_is_kept_where_the_copy_is_another() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(600);
    assert_eq!(ends.trees[RECEIVER].told, None);
    ends.silent_files = true;
    ends.edit("configuration/global/ns_static.toml", "new");
    ends.run(600);
    let lacking = |ends: &Ends<_>| -> Option<String> {
        let tree: &MemoryTree = &ends.trees[RECEIVER];
        tree.told.as_ref()?.lacking(&tree.written)
    };
    let said = lacking(&ends).unwrap();
    assert!(said.contains("1 file(s)") && said.contains("ns_static.toml"), "{said}");
    // A change by command is no difference; the other stays.
    ends.propose(1, "a", true);
    ends.run(0);
    assert_eq!(ends.trees[RECEIVER].files[DYNAMIC], "a");
    assert_eq!(lacking(&ends), Some(said));
    ends.silent_files = false;
    ends.edit("configuration/global/ns_static.toml", "newer");
    ends.run(600);
    assert!(ends.is_equal());
    assert_eq!(ends.trees[RECEIVER].told, None);
}

#[test]
fn what_was_changed_in_the_copy_is_named_and_replaced() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(600);
    ends.trees[RECEIVER]
        .files
        .insert(DYNAMIC.into(), Bytes::from_static(b"by hand"));
    let event = Event::Tree(TreeEvent::Touched);
    ends.queue.push_back((RECEIVER, event));
    // Looked at, and not yet replaced: the status names it.
    let mut named = false;
    for _ in 0..4 {
        let Some((end, event)) = ends.queue.pop_front() else {
            break;
        };
        for action in ends.pairs[end].step(ends.now * 1000, event).now {
            if let Action::Log { text, .. } = &action {
                named |= text.contains(DYNAMIC);
            }
            ends.act(end, action);
        }
    }
    assert!(named);
    ends.run(600);
    assert!(ends.is_equal());
}

#[test]
fn a_strong_change_is_on_both_ends_when_it_is_answered() {
    let mut ends = Ends::attached(idle);
    ends.run(600);
    for ticket in 1..=3 {
        ends.propose(ticket, ["a", "b", "c"][ticket as usize - 1], true);
    }
    ends.run(0);
    let answers: Vec<_> = ends.answers.drain(..).collect();
    assert_eq!(answers, [1, 2, 3].map(|ticket| (ticket, Outcome::Replicated)));
    ends.run(100);
    assert_eq!(ends.trees[RECEIVER].files[DYNAMIC], "c");
    assert!(ends.is_equal() && ends.trees[RECEIVER].staged.is_none());
    assert!(ends.reason(PROVIDER, "configuration-behind").is_none());
}

#[test]
fn without_a_receiver_a_change_is_local_and_named_until_it_is_seen() {
    let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
    ends.propose(1, "a", true);
    ends.propose(2, "b", false);
    let event = ends.queue.pop_back().unwrap();
    let first = ends.queue.pop_back().unwrap();
    // The provider alone.
    for (end, event) in [first, event] {
        for action in ends.pairs[end].step(0, event).now {
            ends.act(end, action);
        }
    }
    while let Some((end, event)) = ends.queue.pop_front() {
        for action in ends.pairs[end].step(0, event).now {
            ends.act(end, action);
        }
    }
    assert!(matches!(&ends.answers[0], (1, Outcome::Failed(why)) if why.code == "no-receiver"));
    assert_eq!(ends.answers[1], (2, Outcome::Local));
    assert!(
        ends.reason(PROVIDER, "unreplicated-changes")
            .unwrap()
            .contains("cvp.max_rate")
    );
    ends.run(1_000);
    assert!(ends.is_equal());
    assert_eq!(ends.reason(PROVIDER, "unreplicated-changes"), None);
}

#[test]
fn a_local_change_is_seen_although_the_tree_is_looked_at_when_the_receiver_says_so() {
    let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
    ends.propose(1, "a", false);
    let (end, event) = ends.queue.pop_back().unwrap();
    for action in ends.pairs[end].step(0, event).now {
        ends.act(end, action);
    }
    ends.queue.extend([(PROVIDER, Event::Tick), (RECEIVER, Event::Tick)]);
    let mut looks = 0;
    while let Some((end, event)) = ends.queue.pop_front() {
        let says_so = matches!(&event, Event::Frame { frame, .. } if end == PROVIDER && frame.kind == Kind::TreeHeld);
        let mut actions = Vec::new();
        if says_so {
            let touched = Event::Tree(TreeEvent::Touched);
            actions = ends.pairs[end].step(0, touched).now;
            looks += actions
                .iter()
                .filter(|it| matches!(it, Action::Tree(TreeWork::Scan { .. })))
                .count();
        }
        actions.extend(ends.pairs[end].step(0, event).now);
        for action in actions {
            ends.act(end, action);
        }
    }
    assert!(
        looks > 0 && ends.answers == [(1, Outcome::Local)],
        "{looks} {:?}",
        ends.answers
    );
    assert!(ends.is_equal());
    assert_eq!(ends.reason(PROVIDER, "unreplicated-changes"), None);
}

#[test]
fn a_receiver_refuses_a_change_that_it_does_not_know() {
    let mut ends = Ends::attached(idle);
    let proposal = Proposal {
        ticket: 7,
        kind: "of-a-later-release".into(),
        body: Bytes::new(),
        note: String::new(),
        must_replicate: false,
        queue: None,
    };
    ends.queue
        .push_back((PROVIDER, Event::Change(ChangeEvent::Proposed(proposal))));
    ends.run(0);
    assert!(matches!(&ends.answers[..], [(7, Outcome::Failed(why))] if why.code == "unknown-change"));
    ends.propose(8, "x", true);
    ends.run(0);
    assert_eq!(ends.answers[1], (8, Outcome::Replicated));
}

#[test]
fn a_strategy_weighs_an_edit_and_nobody_waits_without_a_session() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(600);
    let edit = |key: &str| config_sync::Edit {
        id: 0,
        file: DYNAMIC.into(),
        key: key.into(),
        old: None,
        new: None,
    };
    for (ticket, key) in [(1, "strong"), (2, "weak")] {
        let event = Event::Change(ChangeEvent::Weigh(ticket, edit(key)));
        ends.queue.push_back((PROVIDER, event));
    }
    ends.run(0);
    assert_eq!(ends.weighed, [(1, true), (2, false)]);
    let mut alone = Pair::new(setup(Role::Provider));
    let told = alone.step(0, Event::Change(ChangeEvent::Weigh(3, edit("strong")))).now;
    assert!(
        told.contains(&Action::Change(ChangeWork::Weighed(3, false))),
        "{told:?}"
    );
}

#[test]
fn nothing_is_copied_that_no_strategy_asks_for() {
    let mut ends = Ends::attached(fetch_all);
    ends.silent_files = true;
    ends.edit("configuration/global/ns_static.toml", "new");
    ends.run(600);
    assert!(!ends.is_equal());
    assert!(ends.reason(RECEIVER, "configuration-behind").is_some());
    ends.silent_files = false;
    ends.edit("configuration/global/ns_static.toml", "newer");
    ends.run(600);
    assert!(ends.is_equal());
}

#[test]
fn what_a_change_replaced_is_not_told_again_after_it() {
    let mut ends = Ends::attached(idle);
    // What the change replaces lies under another name, too: a swap back to it would need no file.
    ends.edit("configuration/spare.toml", "[cvp]\n");
    ends.run(600);
    ends.propose(1, "a", true);
    let mut told = Vec::new();
    while let Some((end, event)) = ends.queue.pop_front() {
        if end == RECEIVER
            && let Event::Frame { frame, .. } = &event
            && [Kind::Commit, Kind::Inventory].contains(&frame.kind)
        {
            told.push(frame.kind);
        }
        for action in ends.pairs[end].step(ends.now * 1000, event).now {
            ends.act(end, action);
        }
        let copied = &ends.trees[RECEIVER].files[DYNAMIC];
        assert!(copied == "a" || !told.contains(&Kind::Inventory), "{copied:?}");
    }
    assert_eq!(told, [Kind::Commit, Kind::Inventory]);
    assert!(ends.is_equal() && ends.answers == [(1, Outcome::Replicated)]);
}

#[test]
fn a_receiver_without_a_copy_refuses_a_change() {
    let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], idle);
    // The provider has not looked at its tree yet when the change comes.
    let mut held = Vec::new();
    for (end, event) in [(PROVIDER, Event::Tick), (RECEIVER, Event::Tick)] {
        for action in ends.pairs[end].step(0, event).now {
            match action {
                Action::Tree(TreeWork::Scan { .. }) => held.push((end, action)),
                action => ends.act(end, action),
            }
        }
    }
    ends.run(0);
    ends.propose(1, "a", false);
    ends.run(0);
    assert!(matches!(&ends.answers[..], [(1, Outcome::Failed(why))] if why.code == "no-copy"));
    assert!(ends.trees[RECEIVER].files.is_empty() && ends.trees[RECEIVER].staged.is_none());
    for (end, action) in held {
        ends.act(end, action);
    }
    ends.run(600);
    ends.propose(2, "b", true);
    ends.run(0);
    assert_eq!(ends.answers[1], (2, Outcome::Replicated));
}

#[test]
fn a_change_that_waits_while_the_place_is_taken_fails() {
    let mut pair = Pair::new(setup(Role::Provider));
    let propose = |pair: &mut Pair, ticket| {
        let proposal = Proposal {
            ticket,
            kind: CONFIG_CHANGE.into(),
            body: Bytes::new(),
            note: String::new(),
            must_replicate: false,
            queue: None,
        };
        pair.step(0, Event::Change(ChangeEvent::Proposed(proposal))).now
    };
    let begun = |actions: &[Action]| {
        actions
            .iter()
            .any(|action| matches!(action, Action::Change(ChangeWork::Commit { .. })))
    };
    assert!(begun(&propose(&mut pair, 1)) && !begun(&propose(&mut pair, 2)));
    let (old, new) = (
        Incarnation { number: 1, id: [1; 16] },
        Incarnation { number: 2, id: [2; 16] },
    );
    let hostname = Hostname::new("node1").unwrap();
    let claim = Claim {
        role: Role::Provider,
        hostname: hostname.clone(),
        node_id: NodeId([2; 16]),
        incarnation: Some(new),
        take_over: Some(TakeOver {
            node_id: NodeId([2; 16]),
            hostname,
            old,
            new,
            signature: Vec::new(),
        }),
        fenced: false,
    };
    let peer = PeerTls {
        tls: true,
        names: vec!["node1".into()],
        ..PeerTls::default()
    };
    let _ = pair.step(0, Event::Accepted { conn: CONN, peer });
    let frame = Frame::node(Kind::Notice, claim.encode());
    let _ = pair.step(0, Event::Frame { conn: CONN, frame });
    let told = pair.step(0, Event::Change(ChangeEvent::Committed(Ok(())))).now;
    let answers: Vec<_> = told
        .iter()
        .filter_map(|action| match action {
            Action::Change(ChangeWork::Answer(ticket, outcome)) => Some((*ticket, outcome.clone())),
            _ => None,
        })
        .collect();
    assert!(!begun(&told), "{told:?}");
    assert!(matches!(&answers[..], [(1, Outcome::Local), (2, Outcome::Failed(why))] if why.code == "fenced"));
}
