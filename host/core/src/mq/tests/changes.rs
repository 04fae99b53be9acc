//! Changes on their way: to the other node, and to a broker that is away.

use super::*;
use crate::types::Writer;

fn here() -> Place {
    Place::new("host:5672/")
}

#[test]
fn what_a_broker_is_to_remove_is_neither_forgotten_nor_somebody_elses() {
    let mut registry = registry();
    let first = registry
        .register(registration(json!({})).unwrap(), (0, 0))
        .unwrap()
        .clone();
    let mut leaving = Leaving::default();
    leaving.add(&first, "", Some(here()));
    let fresh = |queue: &Queue| queue.start();
    // On its way out, and perhaps not to go at all.
    assert_eq!(leaving.due(&registry, fresh, &here()), []);
    let exchanger = registry.exchanger().to_owned();
    registry.unregister("q1", &exchanger).unwrap();
    let due = [(first.number, "q1".to_owned())];
    assert_eq!(leaving.due(&registry, fresh, &here()), due);
    assert_eq!(Leaving::decode(&leaving.encode()).unwrap(), leaving);
    // Registered anew: it goes as long as the new one was told nothing, and never with what is the new one's.
    registry.register(registration(json!({})).unwrap(), (0, 0)).unwrap();
    assert_eq!(leaving.due(&registry, fresh, &here()), due);
    assert_eq!(leaving.due(&registry, |_| Cursor::before(9), &here()), []);
    leaving.gone(first.number);
    assert_eq!(leaving, Leaving::default());
    // A registration that stayed after all is no longer noted after a start.
    let mut leaving = Leaving::default();
    leaving.add(registry.get("q1").unwrap(), "", Some(here()));
    leaving.settle(&registry, fresh, Some(&here()));
    assert!(leaving.is_empty());
    for n in 0..5_000 {
        let queue = Queue {
            number: n,
            ..first.clone()
        };
        leaving.add(&queue, "", Some(here()));
    }
    let due = leaving.due(&registry, fresh, &here());
    assert!(due.len() == 1_024 && due[1_023].0 == 4_999, "{} due", due.len());
    assert!(
        Leaving::decode(&[1, 0, 0, 1, 0]).is_err() && Leaving::decode(&[2]).is_err() && Leaving::decode(&[4]).is_err()
    );
}

#[test]
fn only_what_was_made_at_a_broker_is_this_nodes_to_remove() {
    let mut registry = registry();
    let queue = |registry: &mut Registry, name: &str| {
        let wanted = registration(json!({"queueName": name})).unwrap();
        registry.register(wanted, (0, 0)).unwrap().number
    };
    let told = |queue: &Queue| queue.start();
    let earlier = queue(&mut registry, "earlier");
    // Of an earlier release, or of a node that took another one's place: nobody noted what was made.
    let mut note = Leaving::default();
    assert!(note.may_stand(earlier));
    note.settle(&registry, told, Some(&here()));
    let later = queue(&mut registry, "later");
    assert!(note.may_stand(earlier) && !note.may_stand(later));
    note.makes(later, &here());
    assert!(note.may_stand(later));
    assert_eq!(Leaving::decode(&note.encode()).unwrap(), note);
    note.made_not(earlier);
    note.settle(&registry, told, Some(&here()));
    assert!(note.may_stand(later) && !note.may_stand(earlier));
    // It goes, and what is known of it with it: the note does not grow for ever.
    let exchanger = registry.exchanger().to_owned();
    let gone = registry.unregister("later", &exchanger).unwrap();
    note.add(&gone, &exchanger, Some(here()));
    note.settle(&registry, told, Some(&here()));
    assert!(note.may_stand(later), "until the broker has removed it");
    note.gone(later);
    assert!(!note.may_stand(later) && note.is_empty());
    for number in 0..5_000 {
        note.makes(number, &here());
        note.gone(number);
    }
    assert_eq!(Leaving::decode(&note.encode()).unwrap(), note);
}

#[test]
fn who_takes_a_nodes_place_removes_at_the_broker_what_that_one_had_not() {
    let mut registry = registry();
    registry.register(registration(json!({})).unwrap(), (0, 0)).unwrap();
    let (exchanger, plain) = (registry.exchanger().to_owned(), registry.encode());
    let mut other = registry.clone();
    let gone = other.unregister("q1", &exchanger).unwrap();
    other.leave(&gone, None);
    other.delete_exchanger(&exchanger, "global_fa34664e_2".into()).unwrap();
    other.leave_exchanger(&exchanger, None);
    assert_eq!(Registry::decode(&other.encode()).unwrap(), other);
    assert_eq!(
        (plain[0], other.encode()[0]),
        (1, 2),
        "an earlier release reads one without"
    );
    let mut note = Leaving::default();
    note.take_over(&other);
    note.settle(&other, |queue| queue.start(), Some(&here()));
    // Where that is nobody knows before its seal is seen to stand there.
    let standing = [exchanger.clone(), seal(&exchanger, gone.number)].into();
    assert!(note.arrive(&other, &here(), &standing).is_empty());
    assert_eq!(
        note.due(&other, |queue| queue.start(), &here()),
        [(gone.number, "q1".to_owned())]
    );
    assert!(note.may_stand(gone.number));
    assert_eq!(note.due_exchangers(&other, &here()), std::slice::from_ref(&exchanger));
    // What is struck out in the note goes from the registry, at its next change.
    assert!(!other.strike(&note));
    note.gone(gone.number);
    note.remove_exchanger(&exchanger);
    assert!(other.strike(&note) && other.leaving().is_empty());
}

#[test]
fn an_exchange_that_was_given_up_is_removed_and_the_one_in_its_place_is_not() {
    let mut registry = registry();
    let old = registry.exchanger().to_owned();
    let mut leaving = Leaving::default();
    leaving.add_exchanger(&old, None);
    assert!(
        leaving.due_exchangers(&registry, &here()).is_empty(),
        "it may stay after all"
    );
    registry.delete_exchanger(&old, "global_fa34664e_2".into()).unwrap();
    assert_eq!(leaving.due_exchangers(&registry, &here()), std::slice::from_ref(&old));
    assert_eq!(Leaving::decode(&leaving.encode()).unwrap(), leaving);
    // A note of an earlier release knows of queues alone.
    let queue = super::queue(json!({}));
    let mut earlier = Writer::with_capacity(32);
    earlier.u8(1);
    earlier.u32(1);
    earlier.u64(queue.number);
    earlier.text(&queue.registration.queue);
    let read = Leaving::decode(&earlier.into_bytes()).unwrap();
    assert!(read.has(queue.number) && read.seal_of(&registry, queue.number).is_none());
    assert!(read.due_exchangers(&registry, &here()).is_empty());
    leaving.remove_exchanger(&old);
    assert_eq!(leaving, Leaving::default());
}

#[test]
fn the_last_bytes_of_a_registry_are_counted() {
    // Each registration a little longer than the one before, so that every rest is met.
    for first in 0..40_usize {
        let mut registry = registry();
        let topics: Vec<Vec<String>> = (0..4u8)
            .map(|at| (0..64).map(|n| hex_of(at * 64 + n, 32)).collect())
            .collect();
        let mut name = first;
        let refused = loop {
            let more = json!({"queueName": format!("q{}", "x".repeat(name)), "topics": topics});
            match registry.register(registration(more).unwrap(), (0, 0)) {
                Ok(_) => name += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.code, code::INVALID_PARAMS);
        assert!(
            registry.encode().len() <= REGISTRY_BYTES_MAX,
            "{}",
            registry.encode().len()
        );
    }
}

#[test]
fn a_change_of_queues_is_told_in_words() {
    let mut registry = registry();
    let namespace = Namespace::new("global").unwrap();
    registry.register(registration(json!({})).unwrap(), (0, 0)).unwrap();
    let change = |registry: &Registry| QueueChange {
        namespace: namespace.clone(),
        old: None,
        registry: registry.clone(),
    };
    assert_eq!(change(&registry).in_words(None), "queue q1 of global registered");
    let mut other = registry.clone();
    let exchanger = other.exchanger().to_owned();
    other.unregister("q1", &exchanger).unwrap();
    let text = change(&other).in_words(Some(&registry));
    assert_eq!(text, "queue q1 of global unregistered");
    other
        .register(registration(json!({"queueName": "q2"})).unwrap(), (0, 0))
        .unwrap();
    let text = change(&other).in_words(Some(&registry));
    assert_eq!(text, "queue q1 of global unregistered, queue q2 of global registered");
    let text = change(&registry).in_words(Some(&registry));
    assert_eq!(text, "the exchange of the message queues of global");
    let mut left = registry.clone();
    left.leave(registry.get("q1").unwrap(), None);
    let text = change(&registry).in_words(Some(&left));
    assert_eq!(text, "what the broker of global is still to remove");
}
