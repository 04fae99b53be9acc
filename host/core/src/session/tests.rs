//! The handshake's order: who is spoken to comes before what the chains hold, on both ends.

use super::*;
use crate::types::strategy::Role;
use crate::types::{Digest, Hostname, Incarnation, Namespace, NodeId, NodeRole, Position, Refusal};

fn incarnation(number: u64, id: u8) -> Incarnation {
    Incarnation { number, id: [id; 16] }
}

fn own(role: Role, node_id: u8, genesis: &[u8]) -> Own {
    let provider = role == Role::Provider;
    let genesis = Digest::of(genesis);
    Own {
        role,
        kind: SessionKind::Standby,
        program: "test".into(),
        hostname: Hostname::new(if provider { "node1" } else { "cvp" }).unwrap(),
        node_id: NodeId([node_id; 16]),
        lineage: if provider {
            Lineage::begin(incarnation(1, node_id))
        } else {
            Lineage::default()
        },
        binding: None,
        tls: true,
        listen: ":1".into(),
        namespaces: vec![OwnNamespace {
            namespace: Namespace::new("global").unwrap(),
            role: if provider { NodeRole::Vp } else { NodeRole::Cvp },
            genesis,
            tip: Position {
                height: 0,
                hash: genesis,
            },
            history_from: 0,
            strategies: Vec::new(),
            index: IndexOffer::new(false),
        }],
        self_section: Vec::new(),
    }
}

/// A standby that is bound to `provider`.
fn bound_to(provider: &Own, genesis: &[u8]) -> Own {
    let mut standby = own(Role::Receiver, 9, genesis);
    standby.binding = Some(Binding {
        node_id: provider.node_id,
        hostname: provider.hostname.clone(),
        lineage: provider.lineage.clone(),
        namespaces: vec![BoundNamespace {
            namespace: standby.namespaces[0].namespace.clone(),
            genesis: standby.namespaces[0].genesis,
        }],
    });
    standby
}

/// What the provider says to the standby's hello.
fn provider_says(provider: &Own, standby: &Own) -> Result<(), Stop> {
    let (hello, _) = ExpectReply::open(standby, [7; 16]);
    ExpectHello::open().on_hello(provider, &hello.encode()).map(|_| ())
}

/// What the standby says to a reply that the provider would have sent.
fn standby_says(provider: &Own, standby: &Own) -> Result<(), Refusal> {
    let (_, state) = ExpectReply::open(standby, [7; 16]);
    let (reply, _) = ExpectReply::open(provider, [7; 16]);
    state.on_hello(standby, Some("node1"), &reply.encode()).map(|_| ())
}

fn code(said: Result<(), Stop>) -> String {
    match said {
        Ok(()) => "ok".into(),
        Err(Stop::Refused(refusal)) => refusal.code.into_owned(),
        Err(Stop::Taken(_)) => "taken".into(),
    }
}

#[test]
fn a_standby_at_a_wrong_provider_hears_that_it_is_the_wrong_one() {
    let right = own(Role::Provider, 1, b"one chain");
    // Everything differs: node-id, genesis, namespaces, TLS switch. None of the others' hints (one is `cvp clear`) may come first.
    let mut wrong = own(Role::Provider, 2, b"another chain");
    wrong.tls = false;
    wrong.namespaces[0].namespace = Namespace::new("ns1").unwrap();
    let standby = bound_to(&right, b"one chain");
    assert_eq!(code(provider_says(&right, &standby)), "ok");
    assert_eq!(code(provider_says(&wrong, &standby)), "other-provider");
    assert_eq!(standby_says(&wrong, &standby).unwrap_err().code, "other-provider");
}

#[test]
fn an_old_provider_is_known_before_its_chains_are_looked_at() {
    let old = own(Role::Provider, 1, b"one chain");
    let mut new = old.clone();
    new.lineage = old.lineage.extended(incarnation(2, 2), Vec::new(), Vec::new()).unwrap();
    let mut standby = bound_to(&new, b"one chain");
    standby.namespaces[0].namespace = Namespace::new("ns1").unwrap();
    assert_eq!(code(provider_says(&old, &standby)), "taken");
    assert_eq!(standby_says(&old, &standby).unwrap_err().code, "lower-incarnation");
}

#[test]
fn the_hello_of_a_node_with_a_thousand_namespaces_is_read() {
    let mut provider = own(Role::Provider, 1, b"one chain");
    let standby = bound_to(&provider, b"one chain");
    for number in 0..1_000 {
        provider.namespaces.push(crate::session::OwnNamespace {
            namespace: Namespace::new(&format!("ns{number}")).unwrap(),
            ..provider.namespaces[0].clone()
        });
        let keys = ["hostname", "type", "n"].map(|key| (format!("ns{number}/self.{key}"), "1".to_owned()));
        provider.self_section.extend(keys);
    }
    assert_eq!(standby_says(&provider, &standby), Ok(()));
}

#[test]
fn what_one_end_runs_alone_is_no_reason_to_refuse() {
    let mut provider = own(Role::Provider, 1, b"one chain");
    let mut standby = bound_to(&provider, b"one chain");
    let alone = |own: &Own, name: &str| crate::session::OwnNamespace {
        namespace: Namespace::new(name).unwrap(),
        ..own.namespaces[0].clone()
    };
    provider.namespaces.push(alone(&provider, "ns1"));
    standby.namespaces.push(alone(&standby, "ns2"));
    assert_eq!(code(provider_says(&provider, &standby)), "ok");
    assert_eq!(
        standby_says(&provider, &standby),
        Ok(()),
        "the reply is the provider's whole list"
    );
}

#[test]
fn a_switch_of_the_index_that_differs_is_refused_with_namespace_and_both_values() {
    let indexed = |own: &Own, name: &str, enabled: bool| crate::session::OwnNamespace {
        namespace: Namespace::new(name).unwrap(),
        index: IndexOffer::new(enabled),
        ..own.namespaces[0].clone()
    };
    let mut provider = own(Role::Provider, 1, b"one chain");
    let mut standby = bound_to(&provider, b"one chain");
    for (name, at_provider, at_standby) in [("ns1", true, false), ("ns2", true, true), ("ns3", false, true)] {
        provider.namespaces.push(indexed(&provider, name, at_provider));
        standby.namespaces.push(indexed(&standby, name, at_standby));
    }
    // What one end alone runs is not compared.
    provider.namespaces.push(indexed(&provider, "ns4", true));
    let Err(Stop::Refused(at_provider)) = provider_says(&provider, &standby) else {
        panic!("accepted");
    };
    let at_standby = standby_says(&provider, &standby).unwrap_err();
    assert_eq!(at_provider, at_standby);
    assert_eq!(
        at_standby.to_string(),
        "namespace ns1: database.indexdb.layer1.enable is false on the standby, true on the provider; \
         namespace ns3: database.indexdb.layer1.enable is true on the standby, false on the provider (index-switch); \
         set it to the same value in ns_static.toml on both nodes, and start the one anew that was changed"
    );
    provider.namespaces[1].index = IndexOffer::new(false);
    provider.namespaces[3].index = IndexOffer::new(true);
    assert_eq!(standby_says(&provider, &standby), Ok(()));
    // The last word is not this check's: another chain comes first.
    provider.namespaces[1].index = IndexOffer::new(true);
    provider.namespaces[2].genesis = Digest::of(b"another chain");
    assert_eq!(standby_says(&provider, &standby).unwrap_err().code, "genesis");
}

#[test]
fn a_hello_that_tells_of_no_index_is_read_and_compared_with_nothing() {
    let mut provider = own(Role::Provider, 1, b"one chain");
    provider.namespaces[0].index = IndexOffer::new(true);
    let standby = bound_to(&provider, b"one chain");
    let (hello, _) = ExpectReply::open(&standby, [7; 16]);
    let mut told = hello.clone();
    told.namespaces[0].index = None;
    // What an earlier release sends ends before it.
    let bytes = told.encode();
    let earlier = &bytes[..bytes.len() - 1];
    assert_eq!(Hello::decode(earlier), Ok(told.clone()));
    assert_eq!(Hello::decode(&bytes), Ok(told));
    let state = ExpectHello::open().on_hello(&provider, earlier).unwrap();
    let found = [(
        standby.namespaces[0].namespace.clone(),
        Some(standby.namespaces[0].tip.hash),
    )];
    let (_, state) = state.found(&provider, &found).unwrap();
    let agreement = state.on_verdict(&[7; 16]).unwrap();
    assert_eq!(agreement.namespaces()[0].their_index, None);
    let bytes = hello.encode();
    assert_eq!(Hello::decode(&bytes), Ok(hello));
    assert!(Hello::decode(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn what_differs_at_the_right_provider_is_named() {
    let provider = own(Role::Provider, 1, b"one chain");
    let (mut plain, mut other) = (bound_to(&provider, b"one chain"), bound_to(&provider, b"one chain"));
    plain.tls = false;
    other.namespaces[0].namespace = Namespace::new("ns1").unwrap();
    for (standby, expected) in [
        (plain, "tls"),
        (other, "namespaces"),
        (bound_to(&provider, b"another chain"), "genesis"),
    ] {
        assert_eq!(code(provider_says(&provider, &standby)), expected);
        assert_eq!(standby_says(&provider, &standby).unwrap_err().code, expected);
    }
}
