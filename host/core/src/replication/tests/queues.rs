//! Message queues between the two ends: told after each handshake and when they move, never before what was staged is settled; and what the
//! mq-sync strategies make of it.

use super::*;
use crate::mq::{Cursor, Cursors, QUEUE_CHANGE, QueueChange, QueueEdit, Registration, Registry};
use crate::types::strategy::mq_sync::{self, Action as Say, Event as Heard, UNREACHABLE, View};

pub(super) type Says = fn(&[Heard]) -> Result<Vec<Say>, Fault>;

pub(super) fn strategy() -> StrategyId {
    StrategyId {
        kind: mq_sync::KIND.into(),
        id: "default".into(),
        version: "1".into(),
        sha256: [0; 32],
    }
}

fn view_told(events: &[Heard]) -> Option<&View> {
    events.iter().rev().find_map(|event| match event {
        Heard::Opened { view, .. } | Heard::Inventories(view) | Heard::Broker(view) => Some(view),
        _ => None,
    })
}

fn asked(events: &[Heard]) -> impl Iterator<Item = &mq_sync::Change> {
    events.iter().filter_map(|event| match event {
        Heard::Registered(change) | Heard::Unregistered(change) => Some(change),
        _ => None,
    })
}

/// The receiver takes what the provider has and drops what it lacks; the provider replicates everything.
pub(super) fn follow(events: &[Heard]) -> Result<Vec<Say>, Fault> {
    let mut said: Vec<Say> = asked(events).map(|change| Say::Replicate(change.id)).collect();
    let names = |queues: Vec<&mq_sync::Queue>| queues.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    if let Some(view) = view_told(events).filter(|view| view.role == Role::Receiver) {
        let (missing, extra) = (names(view.missing().collect()), names(view.extra_queues().collect()));
        said.extend((!missing.is_empty()).then_some(Say::Apply(missing)));
        said.extend((!extra.is_empty()).then_some(Say::Drop(extra)));
    }
    Ok(said)
}

/// As [`follow`], without dropping anything.
fn hoard(events: &[Heard]) -> Result<Vec<Say>, Fault> {
    let said = follow(events)?.into_iter();
    Ok(said.filter(|it| !matches!(it, Say::Drop(_))).collect())
}

/// Takes nothing of the provider's.
fn deaf(_events: &[Heard]) -> Result<Vec<Say>, Fault> {
    Ok(Vec::new())
}

fn trap(_events: &[Heard]) -> Result<Vec<Say>, Fault> {
    Err(Fault::new("trap", "planted"))
}

/// Refuses `secret`, and holds while the broker is away.
fn doorman(events: &[Heard]) -> Result<Vec<Say>, Fault> {
    let decide = |change: &mq_sync::Change| match change.queue.name.as_str() {
        "secret" => Say::Refuse {
            change: change.id,
            reason: "secret is not for you".into(),
        },
        _ if change.broker == UNREACHABLE => Say::Hold(change.id),
        _ => Say::Replicate(change.id),
    };
    let aligned = follow(events)?.into_iter();
    let aligned = aligned.filter(|it| !matches!(it, Say::Replicate(_)));
    Ok(aligned.chain(asked(events).map(decide)).collect())
}

/// What the disk of an end holds once `work` is done.
pub(super) fn keep(held: &mut Option<(Registry, Cursors)>, work: &QueueWork) {
    match work {
        QueueWork::Look => {}
        QueueWork::KeepRegistry(_, registry) => {
            let cursors = held.take().map(|(_, cursors)| cursors).unwrap_or_default();
            *held = Some((registry.clone(), cursors));
        }
        QueueWork::KeepCursors(_, cursors) => {
            let (registry, _) = held.take().expect("cursors without a registry");
            *held = Some((registry, cursors.clone()));
        }
    }
}

/// What it holds once this change is made.
pub(super) fn write(held: &mut Option<(Registry, Cursors)>, change: &Change) {
    let wanted = QueueChange::decode(&change.body).unwrap();
    keep(held, &QueueWork::KeepRegistry(wanted.namespace, wanted.registry));
}

pub(super) fn registry(queues: &[&str]) -> Registry {
    let mut registry = Registry::new("global_fa34664e_1".into());
    for queue in queues {
        register(&mut registry, queue);
    }
    registry
}

fn register(registry: &mut Registry, queue: &str) -> QueueEdit {
    let wanted = serde_json::json!({"queueName": queue, "routingKeys": ["MQBlock"]});
    let queue = registry
        .register(Registration::from_json(&wanted).unwrap(), (0, 3))
        .unwrap();
    QueueEdit::Registered(queue.clone())
}

fn cursors(next: Height) -> Cursors {
    Cursors {
        at: [(1, Cursor::before(next))].into(),
        ..Cursors::default()
    }
}

fn touch<S: FnMut(&[Told]) -> Answer>(ends: &mut Ends<S>) {
    ends.queue.push_back((PROVIDER, Event::Queues(QueueEvent::Touched)));
    ends.run(1_000);
}

impl<S: FnMut(&[Told]) -> Answer> Ends<S> {
    /// What an end's host does for its queues; gives back what is none of it.
    pub(super) fn act_on_queues(&mut self, end: usize, action: Action) -> Option<Action> {
        match action {
            Action::Queues(QueueWork::Look) => {
                self.looks += usize::from(end == PROVIDER);
                let held = self.queues[end].iter().map(|(registry, cursors)| QueuesHeld {
                    namespace: namespace(),
                    registry: registry.encode().into(),
                    cursors: cursors.encode().into(),
                });
                let looked = QueueEvent::Looked(held.collect());
                self.queue.push_back((end, Event::Queues(looked)));
            }
            Action::Queues(work) => {
                keep(&mut self.queues[end], &work);
                if let QueueWork::KeepCursors(namespace, cursors) = &work {
                    let kept = QueueEvent::CursorsKept(namespace.clone(), cursors.clone());
                    self.queue.push_back((end, Event::Queues(kept)));
                }
                self.kept.push(work);
            }
            Action::QueueStrategy { ns, events } => {
                let result = (self.queue_says[end])(&events);
                let answer = Event::QueueStrategy { ns, result };
                match &mut self.queue_waits {
                    Some(waits) if end == RECEIVER => waits.push(answer),
                    _ => self.queue.push_back((end, answer)),
                }
            }
            Action::Change(ChangeWork::Commit { change, .. }) if change.kind == crate::mq::QUEUE_CHANGE => {
                write(&mut self.queues[end], &change);
                self.queue
                    .push_back((end, Event::Change(ChangeEvent::Committed(Ok(())))));
            }
            Action::Change(ChangeWork::Stage(change)) if change.kind == crate::mq::QUEUE_CHANGE => {
                self.staged = Some(change);
                self.queue.push_back((end, Event::Change(ChangeEvent::Staged(Ok(())))));
            }
            Action::Change(ChangeWork::Apply(id)) if self.staged.as_ref().is_some_and(|it| it.id == id) => {
                write(&mut self.queues[end], &self.staged.take().unwrap());
                self.queue
                    .push_back((end, Event::Change(ChangeEvent::Settled(Ok(None)))));
            }
            other => return Some(other),
        }
        None
    }

    /// A client registers `queue` on the provider.
    fn register(&mut self, ticket: Ticket, queue: &str) {
        let before = self.queues[PROVIDER].as_ref().map(|(registry, _)| registry.clone());
        let mut registry = before.clone().unwrap_or_else(|| registry(&[]));
        let edit = register(&mut registry, queue);
        let change = QueueChange {
            namespace: namespace(),
            old: before.map(|it| Digest::of(&it.encode())),
            registry,
        };
        let proposal = Proposal {
            ticket,
            kind: QUEUE_CHANGE.into(),
            body: change.encode().into(),
            note: format!("queue {queue}"),
            must_replicate: false,
            queue: Some((namespace(), edit)),
        };
        self.queue
            .push_back((PROVIDER, Event::Change(ChangeEvent::Proposed(proposal))));
        self.run(200);
    }

    fn broker(&mut self, broker: BrokerState) {
        let event = QueueEvent::Broker(namespace(), broker);
        self.queue.push_back((PROVIDER, Event::Queues(event)));
        self.run(200);
    }

    fn names(&self, end: usize) -> Vec<String> {
        let held = self.queues[end]
            .iter()
            .flat_map(|(registry, _)| registry.queues().keys());
        held.cloned().collect()
    }

    fn answer(&self, ticket: Ticket) -> Option<&Outcome> {
        self.answers.iter().find(|(of, _)| *of == ticket).map(|(_, it)| it)
    }

    fn failed(&self, ticket: Ticket) -> String {
        match self.answer(ticket) {
            Some(Outcome::Failed(refusal)) => refusal.code.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn queues_are_told_at_the_handshake_and_what_moves_later_alone() {
    let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
    ends.queues[PROVIDER] = Some((registry(&["q"]), cursors(4)));
    ends.run(1_000);
    assert_eq!(
        ends.kept,
        [
            QueueWork::KeepRegistry(namespace(), registry(&["q"])),
            QueueWork::KeepCursors(namespace(), cursors(4))
        ]
    );
    ends.kept.clear();
    touch(&mut ends);
    assert_eq!(ends.kept, [], "nothing moved");
    ends.queues[PROVIDER] = Some((registry(&["q"]), cursors(9)));
    touch(&mut ends);
    assert_eq!(ends.kept, [QueueWork::KeepCursors(namespace(), cursors(9))]);
    ends.kept.clear();
    ends.queues[PROVIDER] = Some((registry(&["q", "r"]), cursors(9)));
    touch(&mut ends);
    assert_eq!(ends.kept, [QueueWork::KeepRegistry(namespace(), registry(&["q", "r"]))]);
    assert!(ends.status(PROVIDER).normal && ends.status(RECEIVER).normal);
}

#[test]
fn many_moves_are_told_together() {
    let mut ends = Ends::attached(fetch_all);
    ends.queues[PROVIDER] = Some((registry(&["q"]), cursors(1)));
    touch(&mut ends);
    ends.looks = 0;
    for next in 2..22 {
        ends.queues[PROVIDER] = Some((registry(&["q"]), cursors(next)));
        ends.queue.push_back((PROVIDER, Event::Queues(QueueEvent::Touched)));
        ends.run(50);
    }
    assert!(ends.looks <= 3, "{} looks in a second", ends.looks);
    ends.run(1_000);
    assert_eq!(
        ends.kept.last(),
        Some(&QueueWork::KeepCursors(namespace(), cursors(21)))
    );
}

#[test]
fn a_queue_that_waits_for_the_standby_is_told_of_it_at_once() {
    let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
    ends.queues[PROVIDER] = Some((registry(&["q"]), cursors(4)));
    let kept = |ends: &Ends<_>| {
        let (_, kept) = ends.pairs[PROVIDER].cursors_kept().next().unwrap();
        kept.map(|kept| Cursors::clone(kept))
    };
    assert_eq!(kept(&ends), None);
    ends.run(1_000);
    assert_eq!(kept(&ends), Some(cursors(4)));
    assert_eq!(ends.pairs[RECEIVER].cursors_kept().next().unwrap().1, None);
    touch(&mut ends);
    for next in 5..15 {
        ends.queues[PROVIDER] = Some((registry(&["q"]), cursors(next)));
        ends.queue.push_back((PROVIDER, Event::Queues(QueueEvent::Awaited)));
        ends.run(20);
        assert_eq!(kept(&ends), Some(cursors(next)), "ten times in a fifth of a second");
    }
}

#[test]
fn what_is_no_registry_ends_the_session() {
    let change = QueueChange {
        namespace: namespace(),
        old: Some(Digest::of(b"before")),
        registry: registry(&["q"]),
    };
    let bytes = change.encode();
    assert_eq!(QueueChange::decode(&bytes).unwrap(), change);
    for end in 0..bytes.len() {
        assert!(QueueChange::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(QUEUE_CHANGE, "queue");
    use crate::frame::Kind;
    for (end, kind) in [
        (RECEIVER, Kind::Queues),
        (RECEIVER, Kind::Cursors),
        (PROVIDER, Kind::QueuesKept),
        (PROVIDER, Kind::CursorsKept),
    ] {
        let mut ends = Ends::attached(fetch_all);
        ends.run(200);
        let tag = crate::frame::NamespaceTag::of(&namespace());
        let frame = crate::frame::Frame::of(kind, tag, 0, Bytes::from_static(b"nonsense"));
        let ready = ends.pairs[end].step(ends.now * 1000, Event::Frame { conn: CONN, frame });
        let closed = |action: &Action| matches!(action, Action::Close { refusal: Some(_), .. });
        assert!(ready.now.iter().any(closed), "{kind:?}: {:?}", ready.now);
    }
}

#[test]
fn a_receiver_with_other_queues_is_aligned_at_the_handshake() {
    let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
    ends.queues = [
        Some((registry(&["a", "b"]), cursors(4))),
        Some((registry(&["old", "b"]), cursors(2))),
    ];
    ends.run(1_000);
    assert_eq!(ends.queues[RECEIVER], Some((registry(&["a", "b"]), cursors(4))));
    assert!(ends.status(PROVIDER).normal && ends.status(RECEIVER).normal);
}

#[test]
fn a_queue_that_is_not_dropped_stays_and_both_ends_say_so() {
    let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
    ends.queue_says[RECEIVER] = hoard;
    let mut held = registry(&["one", "two"]);
    let name = held.exchanger().to_owned();
    held.unregister("one", &name).unwrap();
    ends.queues = [Some((registry(&["a"]), cursors(4))), Some((held, cursors(2)))];
    ends.run(4_000);
    assert_eq!(ends.names(RECEIVER), ["a", "two"]);
    for end in [PROVIDER, RECEIVER] {
        let reasons = ends.status(end).reasons;
        assert!(
            reasons.iter().any(|it| it.code == "queues-differ"),
            "{end}: {reasons:?}"
        );
    }
    ends.register(1, "b");
    ends.run(4_000);
    assert_eq!(ends.names(RECEIVER), ["a", "b"], "a change takes the whole registry");
    assert!(ends.status(PROVIDER).normal && ends.status(RECEIVER).normal);
}

#[test]
fn who_leaves_a_queue_of_the_provider_out_faults_and_the_next_instance_takes_it() {
    for (says, code) in [(deaf as Says, "queue-left-out"), (trap as Says, "trap")] {
        let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
        ends.queue_says[RECEIVER] = says;
        ends.queues[PROVIDER] = Some((registry(&["q"]), cursors(4)));
        ends.run(500);
        assert_eq!(ends.names(RECEIVER), Vec::<String>::new(), "{code}");
        ends.queue_says[RECEIVER] = follow;
        ends.run(1_000);
        assert_eq!(ends.names(RECEIVER), ["q"], "{code}");
        let refused = ends.faults.iter().filter(|fault| fault.code == code).count();
        assert_eq!(refused > 0, code != "trap", "{:?}", ends.faults);
        assert!(ends.status(RECEIVER).namespaces[0].strategies[3].faults > 0);
    }
}

#[test]
fn a_registration_is_on_both_ends_or_refused_with_the_strategys_reason() {
    let mut ends = Ends::attached(fetch_all);
    ends.queue_says[PROVIDER] = doorman;
    ends.run(500);
    ends.register(1, "orders");
    assert_eq!(ends.answer(1), Some(&Outcome::Replicated));
    ends.run(1_000);
    ends.register(2, "secret");
    match ends.answer(2) {
        Some(Outcome::Failed(refusal)) => {
            assert_eq!(
                (refusal.code.as_ref(), refusal.text.as_str()),
                ("strategy-refused", "secret is not for you")
            );
            assert!(refusal.hint.contains("strategy.mq-sync"), "{}", refusal.hint);
        }
        other => panic!("{other:?}"),
    }
    for end in [PROVIDER, RECEIVER] {
        assert_eq!(ends.names(end), ["orders"]);
    }
}

#[test]
fn without_a_session_the_strategy_is_asked_all_the_same() {
    let receiver = Setup {
        enabled: false,
        ..setup(Role::Receiver)
    };
    let mut alone = Ends::apart([setup(Role::Provider), receiver], fetch_all);
    alone.queue_says[PROVIDER] = doorman;
    alone.register(1, "secret");
    assert_eq!(alone.failed(1), "strategy-refused");
    alone.register(2, "orders");
    assert_eq!(alone.answer(2), Some(&Outcome::Local));
    assert_eq!(
        (alone.names(PROVIDER), alone.names(RECEIVER)),
        (vec!["orders".to_owned()], vec![])
    );
    alone.run(1_000);
    let looks = alone.looks;
    for _ in 0..20 {
        alone.queue.push_back((PROVIDER, Event::Queues(QueueEvent::Touched)));
        alone.run(500);
    }
    assert_eq!(alone.looks, looks, "cursors alone are looked at for a receiver only");
}

#[test]
fn what_is_held_is_made_when_the_broker_comes_and_given_up_when_it_does_not() {
    let mut ends = Ends::attached(fetch_all);
    ends.queue_says[PROVIDER] = doorman;
    ends.broker(BrokerState::Unreachable);
    ends.register(1, "orders");
    ends.run(2_000);
    assert_eq!(ends.answer(1), None, "it waits");
    ends.broker(BrokerState::Reachable);
    assert_eq!(ends.answer(1), Some(&Outcome::Replicated));
    ends.run(1_000);
    ends.broker(BrokerState::Unreachable);
    ends.register(2, "refunds");
    ends.run(Limits::default().strong_timeout_ms);
    assert_eq!(ends.failed(2), "queue-held");
    ends.broker(BrokerState::Reachable);
    assert_eq!(
        (ends.names(PROVIDER), ends.names(RECEIVER)),
        (vec!["orders".to_owned()], vec!["orders".to_owned()])
    );
}

#[test]
fn a_change_over_which_instances_fault_is_asked_about_again_and_made_in_the_end() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(500);
    ends.queue_says[PROVIDER] = trap;
    ends.register(1, "orders");
    ends.run(2_000);
    assert_eq!(ends.answer(1), Some(&Outcome::Replicated));
    assert!(ends.status(PROVIDER).namespaces[0].strategies[3].faults >= 4);
    ends.queue_says[PROVIDER] = deaf;
    ends.register(2, "refunds");
    ends.run(50);
    ends.queue_says[PROVIDER] = doorman;
    ends.run(1_000);
    assert_eq!(ends.answer(2), Some(&Outcome::Replicated));
    assert!(ends.faults.iter().any(|fault| fault.code == "change-not-decided"));
}

#[test]
fn an_inventory_that_is_pondered_over_takes_no_commit_back() {
    let mut ends = Ends::attached(fetch_all);
    ends.queues[PROVIDER] = Some((registry(&["a"]), cursors(1)));
    ends.run(1_000);
    ends.queue_waits = Some(Vec::new());
    ends.queues[PROVIDER] = Some((registry(&["a", "b"]), cursors(1)));
    touch(&mut ends);
    let late = ends.queue_waits.replace(Vec::new()).unwrap();
    assert!(
        matches!(&late[..], [Event::QueueStrategy { result: Ok(said), .. }] if !said.is_empty()),
        "{late:?}"
    );
    ends.register(1, "c");
    assert_eq!(ends.answer(1), Some(&Outcome::Replicated));
    ends.queue_waits = None;
    ends.kept.clear();
    ends.queue.extend(late.into_iter().map(|event| (RECEIVER, event)));
    ends.run(0);
    assert_eq!(ends.names(RECEIVER), ["a", "b", "c"], "{:?}", ends.kept);
    ends.run(2_000);
    assert_eq!(
        ends.queues[RECEIVER].as_ref().map(|(it, _)| it),
        Some(&registry(&["a", "b", "c"]))
    );
    assert!(ends.status(PROVIDER).normal && ends.status(RECEIVER).normal);
}
