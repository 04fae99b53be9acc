//! Both halves against each other: every order of loss, crash and delay leaves a change on both ends or on neither, and no answer lies.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::types::{Millis, NodeId};

const TIMEOUT: Millis = 5_000;

/// What is on a wire, in order.
#[derive(Clone, Debug)]
enum Wire {
    Prepare(Change),
    Commit(ChangeId),
    Abort(ChangeId),
    Prepared(ChangeId),
    Aborted(ChangeId, Option<Refusal>),
}

/// A change's body is the ticket of who asked for it.
fn of(change: &Change) -> Ticket {
    Ticket::from(change.body[0])
}

/// Two ends, their disks, and the link between them.
struct World {
    now: Millis,
    proposer: Proposer,
    runs: u32,
    stager: Stager,
    attached: bool,
    down: VecDeque<Wire>,
    up: VecDeque<Wire>,
    /// Changes that are on the provider's disk, in order, and the last one that a receiver held.
    provider: Vec<Ticket>,
    replicated: Option<ChangeId>,
    /// Changes that are on the receiver's disk, and what is staged there.
    receiver: Vec<Ticket>,
    staged: Option<Change>,
    /// Writes that are under way.
    provider_write: Option<(Change, bool)>,
    receiver_write: Option<ReceiverDo>,
    answers: Vec<(Ticket, Outcome)>,
}

impl World {
    fn new() -> World {
        World {
            now: 0,
            proposer: Proposer::new([1; 16], None, 0),
            runs: 0,
            stager: Stager::new(None),
            attached: false,
            down: VecDeque::new(),
            up: VecDeque::new(),
            provider: Vec::new(),
            replicated: None,
            receiver: Vec::new(),
            staged: None,
            provider_write: None,
            receiver_write: None,
            answers: Vec::new(),
        }
    }

    fn attach(&mut self) {
        if self.attached || self.receiver_write.is_some() {
            return;
        }
        match self.proposer.settle(self.stager.staged(), None) {
            Settlement::Wait => return,
            Settlement::Nothing => {}
            Settlement::Commit(id) => {
                let work = self.stager.on_commit(id).unwrap();
                self.receive(Some(work));
                self.write_receiver(true);
            }
            Settlement::Abort(id) => {
                let work = self.stager.on_abort(id);
                self.receive(work);
                self.write_receiver(true);
            }
        }
        self.attached = true;
        self.proposer.attach();
        self.stager.attach();
    }

    fn detach(&mut self) {
        self.attached = false;
        self.down.clear();
        self.up.clear();
        let told = self.proposer.detach();
        self.provide(told);
        self.stager.detach();
    }

    fn crash_provider(&mut self) {
        self.detach();
        self.provider_write = None;
        self.runs += 1;
        self.proposer = Proposer::new([1; 16], self.replicated, self.runs);
    }

    fn crash_receiver(&mut self) {
        self.detach();
        self.receiver_write = None;
        self.stager = Stager::new(self.staged.as_ref().map(|change| change.id));
    }

    fn begin(&mut self, ticket: Ticket) {
        let change = ("config".to_owned(), Bytes::from(vec![ticket as u8]));
        if let Ok(told) = self.proposer.begin(self.now, TIMEOUT, ticket, change, false) {
            self.provide(Some(told));
        }
    }

    fn provide(&mut self, told: impl IntoIterator<Item = ProviderDo>) {
        for told in told {
            match told {
                ProviderDo::Prepare(change) => self.down.push_back(Wire::Prepare(change)),
                ProviderDo::Commit { change, replicated } => self.provider_write = Some((change, replicated)),
                ProviderDo::TellCommit(id) => self.down.push_back(Wire::Commit(id)),
                ProviderDo::TellAbort(id) => self.down.push_back(Wire::Abort(id)),
                ProviderDo::Answer(ticket, outcome) => self.answer(ticket, outcome),
            }
        }
    }

    /// The promise is judged at the moment it is given.
    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        let there = self.receiver.contains(&ticket) || self.staged.as_ref().is_some_and(|change| of(change) == ticket);
        let here = self.provider.contains(&ticket);
        match &outcome {
            Outcome::Replicated => assert!(here && there, "{outcome:?}"),
            Outcome::Local => assert!(here && !there),
            Outcome::Failed(_) => assert!(!here && !there, "{outcome:?}"),
            Outcome::Undecided(_) => assert!(!here),
        }
        self.answers.push((ticket, outcome));
    }

    fn receive(&mut self, told: impl IntoIterator<Item = ReceiverDo>) {
        for told in told {
            match told {
                ReceiverDo::TellPrepared(id) => self.up.push_back(Wire::Prepared(id)),
                ReceiverDo::TellAborted(id, why) => self.up.push_back(Wire::Aborted(id, why)),
                work => self.receiver_write = Some(work),
            }
        }
    }

    fn write_provider(&mut self, good: bool) {
        let Some((change, replicated)) = self.provider_write.take() else {
            return;
        };
        let result = if good {
            self.provider.push(of(&change));
            self.replicated = if replicated { Some(change.id) } else { self.replicated };
            Ok(())
        } else {
            Err(Refusal::new("disk-failed", "EIO", ""))
        };
        let told = self.proposer.on_committed(self.now, result);
        self.provide(told);
    }

    fn write_receiver(&mut self, good: bool) {
        let told = match self.receiver_write.take() {
            Some(ReceiverDo::Stage(change)) if good => {
                self.staged = Some(change);
                Vec::from_iter(self.stager.on_staged(Ok(())))
            }
            Some(ReceiverDo::Stage(_)) => {
                Vec::from_iter(self.stager.on_staged(Err(Refusal::new("bad-value", "no", ""))))
            }
            Some(ReceiverDo::Commit(id)) => {
                let change = self.staged.take().unwrap();
                assert_eq!(change.id, id);
                self.receiver.push(of(&change));
                self.stager.on_settled()
            }
            Some(ReceiverDo::Drop(_)) => {
                self.staged = None;
                self.stager.on_settled()
            }
            _ => Vec::new(),
        };
        self.receive(told);
    }

    fn deliver_down(&mut self) {
        let told = match self.down.pop_front() {
            Some(Wire::Prepare(change)) => self.stager.on_prepare(change).unwrap(),
            Some(Wire::Commit(id)) => Some(self.stager.on_commit(id).unwrap()),
            Some(Wire::Abort(id)) => self.stager.on_abort(id),
            _ => None,
        };
        self.receive(told);
    }

    fn deliver_up(&mut self) {
        let told = match self.up.pop_front() {
            Some(Wire::Prepared(id)) => self.proposer.on_prepared(id),
            Some(Wire::Aborted(id, why)) => self.proposer.on_aborted(id, why),
            _ => None,
        };
        self.provide(told);
    }

    fn pass(&mut self, millis: Millis) {
        self.now += millis;
        let told = self.proposer.tick(self.now);
        self.provide(told);
    }

    fn quiet(&mut self) {
        for _ in 0..20 {
            self.attach();
            self.deliver_down();
            self.write_receiver(true);
            self.deliver_up();
            self.write_provider(true);
            self.pass(2_000);
        }
    }
}

#[test]
fn a_change_is_staged_committed_answered_and_committed_there() {
    let mut world = World::new();
    world.attach();
    world.begin(1);
    world.deliver_down();
    world.write_receiver(true);
    world.deliver_up();
    assert!(world.answers.is_empty());
    world.write_provider(true);
    assert_eq!(world.answers, [(1, Outcome::Replicated)]);
    assert!(world.receiver.is_empty());
    world.deliver_down();
    world.write_receiver(true);
    assert_eq!(world.receiver, world.provider);
}

#[test]
fn without_a_receiver_it_is_local_or_fails_as_asked() {
    let mut world = World::new();
    world.begin(1);
    world.write_provider(true);
    assert_eq!(world.answers, [(1, Outcome::Local)]);
    let told = world
        .proposer
        .begin(0, TIMEOUT, 2, ("config".into(), Bytes::new()), true);
    assert!(matches!(told, Ok(ProviderDo::Answer(2, Outcome::Failed(why))) if why.code == "no-receiver"));
}

#[test]
fn a_refusal_changes_nothing_anywhere() {
    let mut world = World::new();
    world.attach();
    world.begin(1);
    world.deliver_down();
    world.write_receiver(false);
    world.deliver_up();
    assert!(matches!(&world.answers[..], [(1, Outcome::Failed(why))] if why.code == "bad-value"));
    assert!(world.provider.is_empty() && world.staged.is_none());
}

#[test]
fn a_commit_that_cannot_be_taken_back_is_undecided() {
    for attached in [true, false] {
        let mut world = World::new();
        if attached {
            world.attach();
        }
        world.begin(1);
        world.deliver_down();
        world.write_receiver(true);
        world.deliver_up();
        let (change, _) = world.provider_write.take().unwrap();
        let half = Err(Refusal::new(NOT_UNDONE, "EIO", ""));
        let told = world.proposer.on_committed(world.now, half);
        world.provide(told);
        assert!(matches!(&world.answers[..], [(1, Outcome::Undecided(_))]));
        // The next start finds its record, and writes it.
        world.crash_provider();
        world.provider.push(of(&change));
        world.proposer = Proposer::new([1; 16], attached.then_some(change.id), 9);
        world.quiet();
        assert!(world.staged.is_none());
        assert_eq!(world.receiver, if attached { vec![1] } else { Vec::new() });
    }
}

#[test]
fn a_lost_session_is_undecided_and_settled_by_the_next() {
    let mut world = World::new();
    world.attach();
    world.begin(1);
    world.deliver_down();
    world.write_receiver(true);
    world.detach();
    assert!(matches!(&world.answers[..], [(1, Outcome::Undecided(_))]));
    assert!(world.staged.is_some());
    world.quiet();
    assert!(world.staged.is_none() && world.receiver.is_empty() && world.provider.is_empty());
}

#[test]
fn a_silent_receiver_is_asked_to_drop_it() {
    let mut world = World::new();
    world.attach();
    world.begin(1);
    world.pass(TIMEOUT);
    assert!(world.answers.is_empty());
    world.deliver_down();
    world.deliver_down();
    world.write_receiver(true);
    world.write_receiver(true);
    world.deliver_up();
    assert!(matches!(&world.answers[..], [(1, Outcome::Failed(why))] if why.code == "timeout"));
    world.begin(2);
    world.pass(TIMEOUT);
    world.pass(5_000);
    assert!(matches!(&world.answers[..], [_, (2, Outcome::Undecided(_))]));
}

#[test]
fn a_commit_that_is_under_way_is_waited_for_by_the_handshake() {
    let mut world = World::new();
    world.attach();
    world.begin(1);
    world.deliver_down();
    world.write_receiver(true);
    world.deliver_up();
    world.detach();
    assert_eq!(world.proposer.settle(world.stager.staged(), None), Settlement::Wait);
    world.write_provider(true);
    assert_eq!(world.answers, [(1, Outcome::Replicated)]);
    world.quiet();
    assert_eq!(world.receiver, world.provider);
}

#[test]
fn a_number_given_before_a_crash_is_not_given_again() {
    let mut world = World::new();
    world.attach();
    world.begin(1);
    world.deliver_down();
    world.write_receiver(true);
    let staged = world.stager.staged().unwrap();
    world.crash_provider();
    world.answers.clear();
    // The handshake asks for the drop; the next change is on its way before the receiver answers.
    assert_eq!(world.proposer.settle(Some(staged), None), Settlement::Abort(staged));
    world.proposer.attach();
    world.begin(2);
    assert_eq!(world.proposer.on_aborted(staged, None), None);
    assert!(matches!(world.down.front(), Some(Wire::Prepare(next)) if next.id != staged));
    assert!(world.answers.is_empty() && world.proposer.is_busy());
}

#[test]
fn a_receiver_that_attaches_during_a_commit_is_told_nothing_of_it() {
    let mut world = World::new();
    world.attach();
    world.begin(1);
    world.deliver_down();
    world.write_receiver(true);
    world.deliver_up();
    world.detach();
    // Another standby, which holds nothing staged.
    assert_eq!(world.proposer.settle(None, None), Settlement::Nothing);
    world.proposer.attach();
    world.write_provider(true);
    assert_eq!(world.answers, [(1, Outcome::Replicated)]);
    assert!(world.down.is_empty());
}

#[test]
fn a_receiver_that_comes_back_after_another_keeps_what_it_was_promised() {
    let mut world = World::new();
    world.attach();
    world.begin(1);
    world.deliver_down();
    world.write_receiver(true);
    world.deliver_up();
    world.detach();
    let staged = world.stager.staged().unwrap();
    assert!(world.proposer.is_promising());
    world.write_provider(true);
    assert_eq!(world.answers, [(1, Outcome::Replicated)]);
    assert!(!world.proposer.is_promising());
    // Another one takes its place, and holds the next.
    let mut promised = Promised::default();
    promised.keep(NodeId([7; 16]), world.proposer.committed().unwrap());
    world.proposer.attach();
    world.begin(2);
    let Some(Wire::Prepare(next)) = world.down.pop_front() else {
        panic!("the next change is prepared")
    };
    world.proposer.on_prepared(next.id);
    world.proposer.on_committed(0, Ok(()));
    assert_eq!(world.proposer.committed(), Some(next.id));
    let settle = |of: u8| world.proposer.settle(Some(staged), promised.to(&NodeId([of; 16])));
    assert_eq!(settle(7), Settlement::Commit(staged));
    assert_eq!(settle(8), Settlement::Abort(staged));
}

#[test]
fn a_change_travels_byte_for_byte_and_within_bounds() {
    let change = Change {
        id: ChangeId {
            incarnation: [3; 16],
            sequence: 9,
        },
        kind: "config".into(),
        body: Bytes::from_static(b"text"),
    };
    assert_eq!(Change::decode(&change.encode()), Ok(change.clone()));
    let long = Change {
        kind: "k".repeat(KIND_BYTES_MAX + 1),
        ..change
    };
    assert!(Change::decode(&long.encode()).is_err());
    assert!(Change::decode(&[0; 10]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn whatever_happens_both_ends_agree_in_the_end(steps in proptest::collection::vec(0u8..12, 1..80)) {
        let mut world = World::new();
        for (at, step) in steps.iter().enumerate() {
            match step {
                0 => world.attach(),
                1 => world.detach(),
                2 => world.begin(at as Ticket),
                3 => world.deliver_down(),
                4 => world.write_receiver(true),
                5 => world.write_receiver(false),
                6 => world.deliver_up(),
                7 => world.write_provider(true),
                8 => world.write_provider(false),
                9 => world.pass(1_500),
                10 => world.crash_provider(),
                _ => world.crash_receiver(),
            }
        }
        world.quiet();
        prop_assert!(world.staged.is_none());
        prop_assert!(!world.proposer.is_busy());
        // What only the provider has was answered as local; nothing is on the receiver alone.
        for id in &world.receiver {
            prop_assert!(world.provider.contains(id));
        }
        for (ticket, outcome) in &world.answers {
            let (here, there) = (world.provider.contains(ticket), world.receiver.contains(ticket));
            match outcome {
                Outcome::Replicated => prop_assert!(here && there),
                Outcome::Failed(_) | Outcome::Undecided(_) => prop_assert!(!here && !there),
                Outcome::Local => prop_assert!(here && !there),
            }
        }
    }
}
