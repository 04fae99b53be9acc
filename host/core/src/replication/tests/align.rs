//! Two ends that run different namespaces: what both have streams, the rest is named and aligned.

use super::*;

fn named(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

/// As [`setup`], with further namespaces at genesis.
fn with(role: Role, names: &[&str]) -> Setup {
    let mut setup = setup(role);
    let first = setup.namespaces[0].clone();
    setup.namespaces.extend(names.iter().map(|name| NamespaceSetup {
        namespace: named(name),
        genesis: Digest::of(name.as_bytes()),
        durable: Position {
            height: 0,
            hash: Digest::of(name.as_bytes()),
        },
        ..first.clone()
    }));
    setup
}

fn differs(status: &PairStatus) -> Option<String> {
    let found = status.reasons.iter().find(|reason| reason.code == "namespaces-differ");
    found.map(|reason| reason.text.clone())
}

#[test]
fn what_both_run_streams_and_the_receiver_is_told_of_the_rest() {
    let setups = [with(Role::Provider, &["ns1"]), with(Role::Receiver, &["ns2"])];
    let mut ends = Ends::apart(setups, fetch_all);
    ends.grow(5);
    ends.run(600);
    assert_eq!(ends.aligned, [(vec![named("ns1")], vec![named("ns2")])]);
    for end in [PROVIDER, RECEIVER] {
        let status = ends.status(end);
        assert!(!status.normal && status.peer.is_some(), "{status:?}");
        let text = "ns1 runs on the provider alone; ns2 runs on the receiver alone";
        assert_eq!(differs(&status).as_deref(), Some(text));
        assert_eq!(
            (status.namespaces[0].phase, status.namespaces[0].durable),
            (Phase::Live, 5)
        );
        assert_eq!(status.namespaces[1].phase, Phase::Detached);
    }
    // A store or a strategy of what one end runs alone is no business of the other end.
    for (end, ns) in [(PROVIDER, "ns1"), (RECEIVER, "ns2")] {
        let (ns, refusal) = (named(ns), Refusal::new("disk-failed", "planted", ""));
        ends.queue.push_back((end, Event::StoreFailed { ns, refusal }));
    }
    ends.grow(7);
    ends.run(600);
    assert_eq!(ends.status(RECEIVER).namespaces[0].durable, 7);
}

#[test]
fn what_a_receiver_holds_is_looked_at_again_where_both_run_the_same() {
    let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
    ends.run(600);
    assert!(ends.aligned.is_empty(), "{:?}", ends.aligned);
    let held = vec![(named("ns3"), Refusal::new("genesis", "another one", ""))];
    ends.queue.push_back((RECEIVER, Event::Held(held)));
    ends.run(600);
    assert_eq!(ends.aligned, [(Vec::new(), Vec::new())]);
    // The host has found that the provider gave it up.
    ends.queue.push_back((RECEIVER, Event::Held(Vec::new())));
    ends.run(40_000);
    assert_eq!(ends.aligned.len(), 1);
}

#[test]
fn the_receiver_is_asked_again_with_the_next_configuration_and_after_a_while() {
    let setups = [with(Role::Provider, &["ns1"]), setup(Role::Receiver)];
    let mut ends = Ends::apart(setups, fetch_all);
    ends.run(2_000);
    assert_eq!(ends.aligned.len(), 1);
    let file = Bytes::from_static(b"new");
    ends.trees[PROVIDER]
        .files
        .insert("configuration/ns1/ns_static.toml".into(), file);
    ends.queue.push_back((PROVIDER, Event::Tree(TreeEvent::Touched)));
    ends.run(2_000);
    assert_eq!(ends.aligned.len(), 2);
    ends.run(31_000);
    assert_eq!(ends.aligned.len(), 3);
}

#[test]
fn the_binding_keeps_what_was_copied_and_takes_what_is_copied_now() {
    let mut receiver = with(Role::Receiver, &["ns2"]);
    let stopped = crate::session::BoundNamespace {
        namespace: named("ns0"),
        genesis: Digest::of(b"ns0"),
    };
    receiver.binding = Some(crate::session::Binding {
        node_id: NodeId([2; 16]),
        hostname: Hostname::new("node1").unwrap(),
        lineage: Lineage::default(),
        namespaces: vec![stopped],
    });
    let mut ends = Ends::apart([with(Role::Provider, &["ns1"]), receiver], fetch_all);
    ends.run(600);
    let binding = ends.pairs[RECEIVER].setup.binding.clone().unwrap();
    let names: Vec<&str> = binding
        .namespaces
        .iter()
        .map(|bound| bound.namespace.as_str())
        .collect();
    assert_eq!(names, ["ns0", "global"]);
}

#[test]
fn a_namespace_that_is_held_is_named_on_both_ends() {
    let mut ends = Ends::attached(fetch_all);
    let held = vec![(
        named("ns1"),
        Refusal::new("bad-configuration", "a file is missing", "restore it"),
    )];
    ends.queue.push_back((PROVIDER, Event::Held(held)));
    ends.run(1_000);
    for end in [PROVIDER, RECEIVER] {
        let status = ends.status(end);
        let reason = status
            .reasons
            .iter()
            .find(|reason| reason.code == "namespace-held")
            .unwrap();
        assert!(
            reason
                .text
                .ends_with("ns1 does not run: a file is missing (bad-configuration)"),
            "{reason}"
        );
        assert!(!status.normal);
    }
    ends.queue.push_back((PROVIDER, Event::Held(Vec::new())));
    ends.run(1_000);
    assert!(ends.status(PROVIDER).normal && ends.status(RECEIVER).normal);
}

#[test]
fn a_machine_in_the_place_of_another_knows_what_that_one_heard() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(1_000);
    let before = &ends.pairs[RECEIVER];
    let after = Pair::in_place_of(before, with(Role::Receiver, &["ns1"]));
    assert!(before.last_heard.is_some());
    assert_eq!(after.status(0).last_heard, before.last_heard);
    assert_eq!(after.status(0).namespaces.len(), 2);
}
