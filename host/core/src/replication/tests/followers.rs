//! Followers: chain data and transactions alone, at most so many, and never in the place of the standby.

use super::*;
use crate::frame::{Frame, Kind};
use crate::session::{
    Binding, ExpectReply, FOLLOWERS_MAX, IndexOffer, LastReceiver, Own, OwnNamespace, SessionKind, Start,
};

fn of_kind(role: Role) -> Setup {
    let mut setup = setup(role);
    setup.kind = SessionKind::Follower;
    if role == Role::Receiver {
        setup.hostname = Hostname::new("node2").unwrap();
        setup.namespaces[0].role = NodeRole::Nvp;
    }
    setup
}

#[test]
fn a_follower_copies_the_chain_and_nothing_else() {
    let mut ends = Ends::apart([of_kind(Role::Provider), of_kind(Role::Receiver)], fetch_all);
    ends.grow(9);
    ends.run(3_000);
    for end in [PROVIDER, RECEIVER] {
        let status = ends.status(end);
        assert!(status.peer.is_some() && status.tree.is_none(), "{status:?}");
        assert_eq!(
            (status.namespaces[0].durable, status.reasons.len()),
            (9, 0),
            "{status:?}"
        );
    }
    // Nobody looked at a tree, and no strategy was compared.
    assert_eq!(ends.trees[RECEIVER], MemoryTree::default());
    assert_eq!((ends.defaulted, ends.answers.len()), ([false; 2], 0));
}

#[test]
fn a_chain_that_does_not_fit_is_left_out_and_the_others_are_followed() {
    let mut setups = [of_kind(Role::Provider), of_kind(Role::Receiver)];
    for (name, genesis) in [("ns1", [1, 2]), ("ns2", [0, 0])] {
        for (setup, genesis) in setups.iter_mut().zip(genesis) {
            let mut more = setup.namespaces[0].clone();
            more.namespace = Namespace::new(name).unwrap();
            more.genesis = at(genesis).hash;
            setup.namespaces.push(more);
        }
    }
    setups[PROVIDER].namespaces.pop();
    let mut ends = Ends::apart(setups, fetch_all);
    ends.grow(3);
    ends.run(1_000);
    let status = ends.status(RECEIVER);
    assert_eq!(status.namespaces[0].durable, 3, "{status:?}");
    let left: Vec<_> = status
        .left_out
        .iter()
        .map(|(ns, why)| (ns.as_str(), why.code.as_ref()))
        .collect();
    assert_eq!(left, [("ns1", "genesis"), ("ns2", "namespace-not-served")]);
    assert!(!status.left_out[0].1.text.contains("standby"), "{status:?}");
}

/// The pair's machine of a VP, and links that bring hellos of followers.
struct Vp {
    pair: Pair,
    conns: ConnId,
    told: Vec<Action>,
}

fn vp(change: impl FnOnce(&mut Setup)) -> Vp {
    let mut setup = setup(Role::Provider);
    change(&mut setup);
    let mut vp = Vp {
        pair: Pair::new(setup),
        conns: 0,
        told: Vec::new(),
    };
    vp.step(Event::Tick);
    vp
}

fn follower(node_id: u8) -> Own {
    Own {
        role: Role::Receiver,
        kind: SessionKind::Follower,
        program: "test".into(),
        hostname: Hostname::new("node2").unwrap(),
        node_id: NodeId([node_id; 16]),
        lineage: Lineage::begin(Incarnation {
            number: 1,
            id: [node_id; 16],
        }),
        binding: None,
        tls: true,
        listen: ":1".into(),
        namespaces: vec![OwnNamespace {
            namespace: namespace(),
            role: NodeRole::Nvp,
            genesis: at(0).hash,
            tip: at(0),
            history_from: 0,
            strategies: Vec::new(),
            index: IndexOffer::new(false),
        }],
        self_section: Vec::new(),
    }
}

impl Vp {
    fn step(&mut self, event: Event) {
        self.told.extend(self.pair.step(1_000, event).now);
        self.pair.invariants().unwrap();
    }

    /// A link comes with this hello; the answer: `none` for a link that was handed over, else the code of the refusal.
    fn hello(&mut self, own: &Own) -> String {
        self.conns += 1;
        let conn = self.conns;
        let peer = PeerTls {
            tls: true,
            names: vec!["node2".into(), "cvp".into()],
            ..PeerTls::default()
        };
        self.told.clear();
        self.step(Event::Accepted { conn, peer });
        let (hello, _) = ExpectReply::open(own, [conn as u8; 16]);
        let frame = Frame::node(Kind::Hello, hello.encode());
        self.step(Event::Frame { conn, frame });
        let refused = self.told.iter().find_map(|action| match action {
            Action::Close { conn: closed, refusal } if *closed == conn => refusal.clone(),
            _ => None,
        });
        refused.map_or_else(|| "none".into(), |refusal| refusal.code.into_owned())
    }

    fn handed_over(&self) -> Option<&Setup> {
        self.told.iter().find_map(|action| match action {
            Action::HandOver { setup, .. } => Some(setup.as_ref()),
            _ => None,
        })
    }

    fn dismissed(&self) -> Vec<ConnId> {
        let dismissed = |action: &Action| match action {
            Action::Dismiss { conn, .. } => Some(*conn),
            _ => None,
        };
        self.told.iter().filter_map(dismissed).collect()
    }
}

#[test]
fn so_many_are_served_and_one_more_is_refused_until_one_leaves() {
    let mut vp = vp(|_| ());
    for node in 0..FOLLOWERS_MAX as u8 {
        assert_eq!(vp.hello(&follower(10 + node)), "none");
    }
    assert_eq!(vp.hello(&follower(200)), "too-many-followers");
    // One that dials anew takes its own place.
    assert_eq!((vp.hello(&follower(10)), vp.dismissed()), ("none".into(), vec![1]));
    assert_eq!(vp.pair.status(0).followers.len(), FOLLOWERS_MAX);
    // The standby's place is free all the time, and the pair's status hears of no follower.
    let status = vp.pair.status(1);
    assert_eq!(status.reasons[0].code, "no-receiver", "{status:?}");
    let mut standby = follower(99);
    (standby.kind, standby.hostname) = (SessionKind::Standby, Hostname::new("cvp").unwrap());
    standby.lineage = Lineage::default();
    assert_eq!(vp.hello(&standby), "none");
    assert!(vp.told.iter().any(|action| matches!(action, Action::LookUp { .. })));
    vp.step(Event::FollowerGone(2));
    assert_eq!(vp.hello(&follower(200)), "none");
}

#[test]
fn a_machine_for_a_follower_knows_what_is_made_here_alone_and_where_the_standby_listens() {
    let mut vp = vp(|setup| {
        let mut other = setup.namespaces[0].clone();
        (other.namespace, other.role) = (Namespace::new("ns2").unwrap(), NodeRole::Nvp);
        let mut private = setup.namespaces[0].clone();
        private.namespace = Namespace::new("ns3").unwrap();
        setup.namespaces.extend([other, private]);
        // A provider whose standby is switched off serves followers all the same.
        setup.enabled = false;
        setup.last_receiver = Some(LastReceiver {
            node_id: NodeId([7; 16]),
            hostname: Hostname::new("cvp").unwrap(),
            address: "10.0.0.7:1".into(),
        });
    });
    assert_eq!(vp.hello(&follower(10)), "none");
    let setup = vp.handed_over().unwrap();
    assert_eq!((setup.namespaces.len(), setup.enabled), (1, true));
    assert_eq!(setup.self_section, [("standby".to_owned(), "10.0.0.7:1".to_owned())]);
    let mut stranger = follower(11);
    stranger.namespaces[0].namespace = Namespace::new("ns2").unwrap();
    assert_eq!(vp.hello(&stranger), "namespace-not-served");
}

#[test]
fn a_node_that_was_replaced_neither_follows_nor_is_followed() {
    let mut vp = vp(|_| ());
    let second = Incarnation { number: 2, id: [2; 16] };
    let mut promoted = follower(10);
    promoted.lineage = promoted.lineage.extended(second, Vec::new(), Vec::new()).unwrap();
    assert_eq!(vp.hello(&promoted), "none");
    assert_eq!(vp.hello(&follower(10)), "lower-incarnation");
    // A follower that has met a later incarnation of this VP: the take-over is not signed here, so it is refused and believed no further.
    let own = setup(Role::Provider);
    let heard = own
        .identity
        .lineage
        .extended(second, Vec::<Start>::new(), Vec::new())
        .unwrap();
    let mut wiser = follower(11);
    wiser.binding = Some(Binding {
        node_id: own.identity.node_id,
        hostname: own.hostname,
        lineage: heard,
        namespaces: Vec::new(),
    });
    assert_eq!(vp.hello(&wiser), "take-over-unproven");
    wiser.binding.as_mut().unwrap().node_id = NodeId([77; 16]);
    assert_eq!(vp.hello(&wiser), "other-provider");
}

#[test]
fn a_transaction_is_passed_on_and_answered_and_none_is_left_without_an_answer() {
    let mut ends = Ends::apart([of_kind(Role::Provider), of_kind(Role::Receiver)], fetch_all);
    let pass = |ticket| Event::PassOn {
        ticket,
        ns: namespace(),
        transaction: Bytes::from_static(b"{}"),
    };
    ends.queue.push_back((RECEIVER, pass(1)));
    ends.run(1_000);
    assert!(
        matches!(ends.passed[0], (1, Passed::Unanswered(_))),
        "{:?}",
        ends.passed
    );
    ends.pool = Some(Passed::Taken([5; 32]));
    ends.queue.push_back((RECEIVER, pass(2)));
    ends.run(0);
    ends.pool = Some(Passed::Refused {
        code: -32007,
        message: "repeated tx".into(),
    });
    ends.queue.push_back((RECEIVER, pass(3)));
    ends.run(0);
    assert_eq!(ends.passed[1], (2, Passed::Taken([5; 32])));
    assert!(matches!(&ends.passed[2], (3, Passed::Refused { code: -32007, .. })));
    // A pool that says nothing: more than the bound are told to wait, and the others hear after a while that nobody knows.
    ends.pool = None;
    ends.queue.extend((10..310).map(|ticket| (RECEIVER, pass(ticket))));
    ends.run(0);
    assert_eq!(ends.passed.len(), 3 + 300 - 256);
    assert!(ends.passed[3..].iter().all(|(_, answer)| *answer == Passed::Busy));
    ends.run(11_000);
    assert_eq!(ends.passed.len(), 303);
    assert!(
        ends.passed[50..]
            .iter()
            .all(|(_, answer)| matches!(answer, Passed::Unanswered(_)))
    );
}

#[test]
fn frames_of_the_pair_end_a_followers_session() {
    for kind in [Kind::FileRequest, Kind::Staged, Kind::TreeHeld, Kind::Records] {
        let mut provider = Pair::new(of_kind(Role::Provider));
        let mut receiver = Pair::new(of_kind(Role::Receiver));
        let conn = CONN;
        let peer = PeerTls {
            tls: true,
            dialled: None,
            names: vec!["node1".into(), "node2".into()],
            ..PeerTls::default()
        };
        let purpose = DialPurpose::Session;
        let _ = provider.step(
            0,
            Event::Accepted {
                conn,
                peer: peer.clone(),
            },
        );
        let mut sent = receiver.step(0, Event::Dialed { conn, purpose, peer }).now;
        // Hello, look-up, reply, verdict.
        for _ in 0..4 {
            let Some(Action::Send { frame, .. }) =
                sent.into_iter().find(|action| matches!(action, Action::Send { .. }))
            else {
                break;
            };
            let mut told = provider.step(0, Event::Frame { conn, frame }).now;
            if told.iter().any(|action| matches!(action, Action::LookUp { .. })) {
                let found = vec![(namespace(), Some(at(0).hash))];
                told = provider.step(0, Event::Found { conn, found }).now;
            }
            let Some(Action::Send { frame, .. }) =
                told.into_iter().find(|action| matches!(action, Action::Send { .. }))
            else {
                break;
            };
            let told = receiver.step(0, Event::Frame { conn, frame }).now;
            sent = match told.iter().find_map(|action| match action {
                Action::Persist { token, .. } => Some(*token),
                _ => None,
            }) {
                Some(token) => receiver.step(0, Event::Persisted(token)).now,
                None => told,
            };
        }
        assert!(provider.status(0).peer.is_some(), "{:?}", provider.status(0));
        let frame = Frame::node(kind, vec![0; 8]);
        let told = provider.step(0, Event::Frame { conn, frame }).now;
        let closed = |action: &Action| matches!(action, Action::Close { refusal: Some(refusal), .. } if refusal.code == "protocol");
        assert!(told.iter().any(closed), "{kind:?}: {told:?}");
    }
}

#[test]
fn a_follower_that_looks_for_its_vp_at_the_standby_is_no_sign_of_life_of_the_vp() {
    let mut standby = Vp {
        pair: Pair::new(setup(Role::Receiver)),
        conns: 0,
        told: Vec::new(),
    };
    assert_eq!(standby.hello(&follower(10)), "not-provider");
    assert_eq!(standby.pair.status(2_000).last_heard, None);
}
