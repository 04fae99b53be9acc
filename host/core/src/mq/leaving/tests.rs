//! What is due where: over places, a take-over, an earlier release, and the bounds.

use serde_json::json;

use super::super::Registration;
use super::*;

const EXCHANGER: &str = "global_fa34664e_1";

fn place(text: &str) -> Place {
    Place::new(text)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn registry(names: &[&str]) -> Registry {
    let mut registry = Registry::new(EXCHANGER.into());
    for name in names {
        let wanted = json!({"queueName": name, "routingKeys": ["MQBlock"]});
        let registration = Registration::from_json(&wanted).unwrap();
        registry.register(registration, (0, 0)).unwrap();
    }
    registry
}

fn untold(queue: &Queue) -> Cursor {
    queue.start()
}

/// A note of a node at `here` that made all that is registered.
fn made(registry: &Registry, here: &Place) -> Leaving {
    let mut note = Leaving::default();
    note.settle(registry, untold, Some(here));
    note
}

/// One queue is taken out.
fn unregister(note: &mut Leaving, registry: &mut Registry, name: &str) -> u64 {
    let queue = registry.unregister(name, EXCHANGER).unwrap();
    let at = note.made_at(queue.number).cloned();
    note.add(&queue, EXCHANGER, at.clone());
    registry.leave(&queue, at);
    queue.number
}

fn said(left: &[Left]) -> Vec<String> {
    left.iter().map(ToString::to_string).collect()
}

fn due(note: &Leaving, registry: &Registry, here: &Place) -> Vec<String> {
    let due = note.due(registry, untold, here).into_iter();
    due.map(|(_, name)| name).collect()
}

#[test]
fn what_was_made_at_another_place_is_left_there_and_nothing_of_its_name_is_due_here() {
    let (old, here) = (place("old:5672/"), place("old:5672/other"));
    let mut registry = registry(&["stays", "gone"]);
    let mut note = made(&registry, &old);
    unregister(&mut note, &mut registry, "gone");
    assert_eq!(due(&note, &registry, &old), ["gone"]);
    assert!(due(&note, &registry, &here).is_empty(), "before it arrives, too");
    assert_eq!(
        note.questions(&registry, &here),
        set(&[EXCHANGER, "global_fa34664e_1.1", "global_fa34664e_1.2"])
    );
    let left = note.arrive(&registry, &here, &BTreeSet::new());
    assert_eq!(
        said(&left),
        [
            "queue stays (exchange global_fa34664e_1) at old:5672/",
            "queue gone (exchange global_fa34664e_1) at old:5672/"
        ]
    );
    assert!(due(&note, &registry, &here).is_empty() && note.is_empty());
    assert!(!note.may_stand(1) && !note.may_stand(2));
    // What is made here anew is this place's, and nothing is said twice.
    note.makes(1, &here);
    assert!(note.arrive(&registry, &here, &BTreeSet::new()).is_empty());
    assert_eq!(note.left().count(), 2);
    assert_eq!(Leaving::decode(&note.encode()).unwrap(), note);
}

#[test]
fn a_queue_may_be_half_made_until_its_seal_stands() {
    let here = place("host:5672/");
    let mut registry = registry(&["sealed", "half", "foreign"]);
    let mut note = made(&self::registry(&[]), &here);
    for number in 1..=3 {
        note.begins(number, &here);
    }
    note.sealed(1);
    note.made_not(3);
    let half = |note: &Leaving| [1, 2, 3].map(|number| note.may_be_half_made(number));
    assert_eq!(half(&note), [false, true, false]);
    // Over a crash, and until it is removed; who takes this node's place reads what it always did.
    let number = unregister(&mut note, &mut registry, "half");
    let mut read = Leaving::decode(&note.encode()).unwrap();
    assert_eq!(read, note);
    read.settle(&registry, untold, Some(&here));
    assert_eq!(
        (half(&read), due(&read, &registry, &here)),
        (half(&note), vec!["half".into()])
    );
    assert!(!registry.leaving().may_be_half_made(number));
    read.gone(number);
    assert_eq!(half(&read), [false; 3]);
    // Who takes over goes on with what it alone was to remove; of what the other node had, registered or to be removed, that one made the rest.
    let mut back = note.clone();
    back.begins(1, &here);
    back.take_over(&registry);
    assert_eq!(half(&back), [false; 3], "the other one was to remove it, too");
    let mut back = note.clone();
    back.take_over(&self::registry(&["sealed", "half"]));
    assert_eq!(half(&back), [false; 3], "it is registered there");
    let mut back = note.clone();
    back.take_over(&self::registry(&["sealed"]));
    assert_eq!(half(&back), half(&note));
    // One that is registered no more, and of which nothing is noted to be removed, was never made.
    note.stays(number);
    note.settle(&registry, untold, Some(&here));
    assert_eq!(half(&note), [false; 3]);
}

#[test]
fn a_broker_of_another_name_is_known_by_what_stands_there() {
    let (old, here) = (place("old:5672/"), place("new:5672/"));
    let mut registry = registry(&["stays", "gone"]);
    let mut note = made(&registry, &old);
    unregister(&mut note, &mut registry, "gone");
    note.add_exchanger("global_fa34664e_0", Some(old));
    let standing = note.questions(&registry, &here);
    assert!(note.arrive(&registry, &here, &standing).is_empty());
    assert_eq!(
        (note.made_at(1), due(&note, &registry, &here)),
        (Some(&here), vec!["gone".into()])
    );
    assert_eq!(note.due_exchangers(&registry, &here), ["global_fa34664e_0"]);
    assert_eq!(note.left().count(), 0);
}

#[test]
fn who_comes_back_to_a_place_removes_what_it_left_there_and_leaves_what_took_its_place() {
    let (first, second) = (place("a:5672/"), place("b:5672/"));
    let mut registry = registry(&["stays", "gone", "removed"]);
    let mut note = made(&registry, &first);
    note.arrive(&registry, &second, &BTreeSet::new());
    for number in 1..=3 {
        note.makes(number, &second);
    }
    unregister(&mut note, &mut registry, "gone");
    // By hand, at the first place.
    let standing = set(&[EXCHANGER, "global_fa34664e_1.1", "global_fa34664e_1.2"]);
    assert_eq!(
        note.questions(&registry, &first),
        set(&[
            EXCHANGER,
            "global_fa34664e_1.1",
            "global_fa34664e_1.2",
            "global_fa34664e_1.3"
        ])
    );
    let left = note.arrive(&registry, &first, &standing);
    assert_eq!(
        said(&left),
        [1, 2, 3].map(|number| {
            let name = ["stays", "gone", "removed"][number - 1];
            format!("queue {name} (exchange global_fa34664e_1) at b:5672/")
        })
    );
    assert_eq!(note.left().count(), 3, "nothing is said of the first place");
    assert_eq!(due(&note, &registry, &first), ["gone"]);
    assert_eq!(note.made_at(1), Some(&first));
    assert!(!note.may_stand(3), "what is there under its name is somebody else's");
}

#[test]
fn what_was_made_between_two_names_of_one_broker_is_named_too() {
    let (first, alias, other) = (place("broker:5672/"), place("alias:5672/"), place("broker:5672/other"));
    let registry = registry(&["orders"]);
    let number = registry.queues()["orders"].number;
    let standing = set(&[EXCHANGER, &seal(EXCHANGER, number)]);
    let mut note = made(&registry, &first);
    assert!(note.arrive(&registry, &alias, &standing).is_empty());
    assert_eq!(note.arrive(&registry, &other, &set(&[])).len(), 1);
    note.makes(number, &other);
    let left = note.arrive(&registry, &first, &standing);
    assert_eq!(
        said(&left),
        ["queue orders (exchange global_fa34664e_1) at broker:5672/other"]
    );
    assert_eq!(note.made_at(number), Some(&first), "it goes on");
    // Who never was anywhere else comes under another name alone.
    let mut note = made(&registry, &first);
    assert!(note.arrive(&registry, &alias, &standing).is_empty());
    assert!(note.arrive(&registry, &first, &standing).is_empty());
}

#[test]
fn who_takes_over_has_what_the_other_made_where_its_seals_stand() {
    let here = place("here:5672/");
    let mut registry = registry(&["stays", "gone"]);
    let mut theirs = made(&registry, &place("there:5672/"));
    unregister(&mut theirs, &mut registry, "gone");
    let registry = Registry::decode(&registry.encode()).unwrap();
    let fresh = || {
        let mut note = Leaving::default();
        note.take_over(&registry);
        note.settle(&registry, untold, Some(&here));
        note
    };
    assert!(
        due(&fresh(), &registry, &here).is_empty(),
        "not before it knows the broker"
    );
    let mut same = fresh();
    let seal = seal(EXCHANGER, 2);
    assert!(
        same.arrive(&registry, &here, &set(&[EXCHANGER, &seal, "global_fa34664e_1.1"]))
            .is_empty()
    );
    assert_eq!(
        (due(&same, &registry, &here), same.made_at(1)),
        (vec!["gone".into()], Some(&here))
    );
    // One that the other was refused there is not this node's either.
    let mut refused = fresh();
    assert!(refused.arrive(&registry, &here, &set(&[EXCHANGER, &seal])).is_empty());
    assert!(due(&refused, &registry, &here) == ["gone"] && !refused.may_stand(1));
    // Nor where no seal of the pair stands at all: that its exchange does says nothing of a queue.
    let mut none = fresh();
    none.arrive(&registry, &here, &set(&[EXCHANGER]));
    assert!(due(&none, &registry, &here).is_empty() && !none.may_stand(1) && !none.may_stand(2));
    let mut other = fresh();
    let left = other.arrive(&registry, &here, &BTreeSet::new());
    assert_eq!(said(&left), ["queue gone (exchange global_fa34664e_1) at there:5672/"]);
    assert!(due(&other, &registry, &here).is_empty() && !other.may_stand(1));
}

#[test]
fn a_note_of_an_earlier_release_is_of_the_place_that_is_configured_at_the_first_opening() {
    let (here, other) = (place("here:5672/"), place("other:5672/"));
    let mut registry = registry(&["stays", "gone", "never"]);
    let gone = registry.unregister("gone", EXCHANGER).unwrap();
    let mut old = Leaving {
        made: Made::Numbers([1, 2].into()),
        ..Leaving::default()
    };
    old.add(&gone, "", None);
    let bytes = old.encode();
    assert_eq!(bytes[0], 3);
    let mut note = Leaving::decode(&bytes).unwrap();
    note.settle(&registry, untold, Some(&here));
    assert_eq!(due(&note, &registry, &here), ["gone"]);
    assert_eq!((note.made_at(1), note.may_stand(3)), (Some(&here), false));
    // Once: then it is noted.
    let mut again = Leaving::decode(&note.encode()).unwrap();
    again.settle(&registry, untold, Some(&other));
    assert_eq!(again, note);
}

#[test]
fn a_name_that_is_registered_anew_and_told_elsewhere_leaves_what_is_to_be_removed() {
    let here = place("here:5672/");
    let mut registry = registry(&["orders"]);
    let mut note = made(&registry, &here);
    unregister(&mut note, &mut registry, "orders");
    let wanted = json!({"queueName": "orders", "routingKeys": ["MQBlock"]});
    registry
        .register(Registration::from_json(&wanted).unwrap(), (0, 0))
        .unwrap();
    let told = |queue: &Queue| Cursor::before(queue.first + 5);
    // By the node itself, without a broker.
    note.settle(&registry, told, None);
    assert_eq!(note.due(&registry, told, &here), [(1, "orders".into())]);
    note.makes(2, &here);
    note.settle(&registry, told, Some(&here));
    assert!(note.due(&registry, told, &here).is_empty());
}

#[test]
fn what_is_remembered_is_bounded() {
    let registry = registry(&[]);
    let mut note = Leaving::default();
    note.settle(&registry, untold, None);
    for number in 0..3 * LEFT_MAX as u64 {
        note.leave(number, "q", EXCHANGER, Some(place(&format!("{number:05}:1/"))));
        note.bound();
    }
    assert_eq!(note.left().count(), LEFT_MAX);
    assert_eq!(Leaving::decode(&note.encode()).unwrap(), note);
    for bytes in [&note.encode()[..40], &[4, 255, 255, 255, 255], &[5]] {
        assert!(Leaving::decode(bytes).is_err());
    }
}

#[test]
fn a_registry_that_is_full_says_what_is_to_be_removed_and_not_where() {
    let mut registry = registry(&[]);
    let topics: Vec<Vec<String>> = (0..4)
        .map(|_| (0..64).map(|n| format!("0x{n:064x}")).collect())
        .collect();
    for topics in [json!(topics), json!([])] {
        for n in registry.queues().len().. {
            let wanted = json!({"queueName": format!("q{n}"), "routingKeys": ["MQLog"], "topics": topics});
            let registration = Registration::from_json(&wanted).unwrap();
            if registry.register(registration, (0, 0)).is_err() {
                break;
            }
        }
    }
    let last = registry.queues().values().max_by_key(|queue| queue.number).cloned();
    let last = last.unwrap().registration.queue;
    let gone = registry.unregister(&last, EXCHANGER).unwrap();
    registry.leave(&gone, Some(place(&"p".repeat(2_000))));
    assert!(registry.encode().len() <= super::super::REGISTRY_BYTES_MAX);
    let going = &registry.leaving().queues[&gone.number];
    assert_eq!((going.name.as_str(), &going.at), (last.as_str(), &None));
    assert_eq!(Registry::decode(&registry.encode()).unwrap(), registry);
}

#[test]
fn a_queue_is_known_by_its_seal_and_only_one_of_a_release_without_seals_by_the_note() {
    let here = place("here:5672/");
    let mut registry = registry(&["stays", "gone"]);
    let mut note = made(&registry, &here);
    let number = unregister(&mut note, &mut registry, "gone");
    let seals = |note: &Leaving| [1, number].map(|number| note.seal_of(&registry, number));
    let both = ["global_fa34664e_1.1", "global_fa34664e_1.2"].map(|seal| Some(seal.to_owned()));
    assert_eq!(seals(&note), both);
    // The same queues, in the notes of releases that made no seals.
    for made in [Made::Any, Made::Numbers([1, 2].into())] {
        let going = Going {
            name: "gone".into(),
            at: None,
            exchanger: String::new(),
        };
        let old = Leaving {
            queues: [(number, going)].into(),
            early: made == Made::Any,
            made,
            ..Leaving::default()
        };
        let bytes = old.encode();
        assert!(bytes[0] < 4, "{bytes:?}");
        let mut old = Leaving::decode(&bytes).unwrap();
        assert_eq!(old.encode(), bytes, "nobody changed it");
        old.settle(&registry, untold, Some(&here));
        let mut old = Leaving::decode(&old.encode()).unwrap();
        assert_eq!(seals(&old), [None, None]);
        // Each connection seals what it publishes to.
        old.sealed(1);
        assert_eq!(seals(&old), [both[0].clone(), None]);
        old.gone(number);
        assert_eq!((old.encode()[0], Leaving::decode(&old.encode()).unwrap()), (4, old));
    }
}

#[test]
fn who_takes_over_from_a_release_without_seals_removes_what_that_was_to_remove() {
    let here = place("here:5672/");
    let mut registry = registry(&["stays", "gone"]);
    let gone = registry.unregister("gone", EXCHANGER).unwrap();
    let going = Going {
        name: "gone".into(),
        at: None,
        exchanger: String::new(),
    };
    let theirs = Leaving {
        queues: [(gone.number, going)].into(),
        early: true,
        ..Leaving::default()
    };
    let theirs = Leaving::decode(&theirs.encode()).unwrap();
    *registry.leaving_mut() = theirs;
    let registry = Registry::decode(&registry.encode()).unwrap();
    let mut note = Leaving::default();
    note.take_over(&registry);
    note.settle(&registry, untold, Some(&here));
    note.arrive(&registry, &here, &set(&[EXCHANGER]));
    assert_eq!(due(&note, &registry, &here), ["gone"]);
    assert_eq!(note.seal_of(&registry, gone.number), None);
    // What is registered may be anybody's: its consumer empties it, or it is refused.
    assert!(!note.may_stand(1));
}

#[test]
fn a_name_is_taken_where_its_queue_was_left() {
    let (old, here) = (place("old:5672/"), place("here:5672/"));
    let registry = registry(&["orders"]);
    let mut note = made(&registry, &old);
    let names = |note: &Leaving| -> Vec<String> {
        let names = note.names(Some(&registry));
        names.map(|(at, name)| format!("{name} {}", at.unwrap())).collect()
    };
    assert_eq!(names(&note), ["orders old:5672/"]);
    note.arrive(&registry, &here, &BTreeSet::new());
    assert_eq!(names(&note), ["orders old:5672/"]);
    note.makes(1, &here);
    assert_eq!(names(&note), ["orders here:5672/", "orders old:5672/"]);
    note.arrive(&registry, &old, &BTreeSet::new());
    assert_eq!(names(&note), ["orders here:5672/"], "gone there");
}
