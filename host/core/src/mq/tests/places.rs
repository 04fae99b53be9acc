//! Places of events, what is told in their order, and how much of it is under way.

use super::*;

#[test]
fn several_events_of_a_block_have_ids_in_order_and_the_last_is_the_height() {
    let record = block(9, vec![log(1, &[])]);
    let both = queue(json!({"routingKeys": ["MQLog", "MQBlock"]}));
    let ids = |notice| {
        told(&record, &both, notice)
            .into_iter()
            .map(|(key, id, _)| (key.as_str(), id))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(None), [("MQBlock", "9.0".to_owned()), ("MQLog", "9".to_owned())]);
    assert_eq!(ids(Some(Notice { from: 8 })), ids(None));
    let announced = ids(Some(Notice { from: 9 }));
    assert_eq!(announced[0], ("MQException", "9.stateUpdate".to_owned()));
    assert_eq!(
        announced[1..],
        ids(None),
        "the block's own have the same ids with it and without"
    );
    let events = told(&record, &both, Some(Notice { from: 9 }));
    let body = &events[0].2["body"];
    assert_eq!((&body["subType"], &body["height"]), (&json!("stateUpdate"), &json!(9)));
    assert_eq!(body["date"], "2020-09-13T12:26:40.000000077Z");
}

#[test]
fn blocks_that_are_not_here_come_as_one_word_that_is_confirmed_by_itself() {
    let first_there = block(61, vec![]);
    let word = |first, last| word_of_missing(&parse(&first_there).unwrap(), first, last).unwrap();
    let slow = queue(json!({"fromBlock": 1}));
    let at = Cursor::before(4);
    assert_eq!(slow.missing(at, 61), Some((4, 60)));
    let mut delivery = Delivery::new(at, None);
    assert_eq!(delivery.wants(70), Some(4));
    delivery.missing(4, 60, word(4, 60));
    assert_eq!(delivery.wants(70), Some(61));
    let notice = Some(Notice { from: 61 });
    delivery.loaded(61, events_of(&parse(&first_there).unwrap(), &slow, notice).unwrap());
    let window = delivery.publish().to_vec();
    let ids: Vec<String> = window.iter().map(|event| event.after.to_string()).collect();
    assert_eq!(ids, ["61.recovery", "61.stateUpdate", "61"]);
    let message: Value = serde_json::from_str(&window[0].message).unwrap();
    let body = &message["body"];
    assert_eq!(
        (&body["subType"], &body["height"], &body["toHeight"]),
        (&json!("recovery"), &json!(4), &json!(60))
    );
    // Confirmed alone, it does not come again, and nothing of the block is skipped.
    let mut again = Delivery::new(window[0].after, None);
    assert_eq!((slow.missing(window[0].after, 61), again.wants(70)), (None, Some(61)));
    again.loaded(61, events_of(&parse(&first_there).unwrap(), &slow, notice).unwrap());
    assert_eq!(again.publish(), &window[1..]);
    // Where the range ends among them, the word is its end.
    let ends = queue(json!({"fromBlock": 1, "toBlock": 20}));
    assert_eq!(ends.missing(at, 61), Some((4, 20)));
    let last = word(4, 20);
    assert_eq!(last.after.to_string(), "21.recovery");
    assert!(ends.is_finished(last.after) && ends.missing(last.after, 61).is_none());
    assert_eq!(
        (
            ends.missing(Cursor::before(21), 61),
            ends.missing(at, 4),
            ends.missing(at, 0)
        ),
        (None, None, None)
    );
}

#[test]
fn blocks_out_of_the_range_give_nothing() {
    let ranged = queue(json!({"fromBlock": 5, "toBlock": 6}));
    let given = (3..9).filter(|height| !told(&block(*height, vec![]), &ranged, None).is_empty());
    assert_eq!(given.collect::<Vec<_>>(), [5, 6]);
    assert!(!ranged.is_finished(Cursor::before(6)) && ranged.is_finished(Cursor::before(7)));
}

#[test]
fn ids_are_read_back_and_nothing_else_is_one() {
    for text in ["0", "12", "12.0", "12.7", "12.recovery", "12.stateUpdate"] {
        assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
    }
    assert_eq!(Cursor::default().to_string(), "-");
    for bad in [
        "",
        "-",
        "-1",
        "+1",
        ".1",
        "1.2.3",
        "1.stateupdate",
        "1.",
        ".recovery",
        "x",
        "18446744073709551615",
        "1.4294967295",
        "1 ",
    ] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad}");
    }
    let (inside, above) = (Cursor::inside(9, 2), Cursor::before(12));
    assert_eq!((inside.cut_above(8), inside.cut_above(9)), (Cursor::before(9), inside));
    assert_eq!(above.cut_above(9), Cursor::before(10));
}

#[test]
fn a_delayed_queue_waits_for_the_copy_while_there_is_one() {
    assert_eq!(
        [
            gate(true, 9, Some(4)),
            gate(true, 9, Some(12)),
            gate(true, 9, None),
            gate(false, 9, Some(4))
        ],
        [4, 9, 9, 9]
    );
}

#[test]
fn no_more_than_a_window_is_told_ahead_of_the_standby() {
    let mut ahead = Ahead::default();
    assert!(ahead.has_room(300, 256), "the first one, whatever its size");
    ahead.told(Cursor::before(2), 1);
    ahead.told(Cursor::before(101), 99);
    assert!(ahead.has_room(156, 256) && !ahead.has_room(157, 256));
    ahead.held(Cursor::before(50));
    assert!(
        ahead.has_room(157, 256) && !ahead.has_room(158, 256),
        "the window of 99 counts as a whole"
    );
    ahead.held(Cursor::before(101));
    assert!(ahead.has_room(300, 256));
    let mut again = Ahead::at(Cursor::before(9), 256);
    assert!(
        !again.has_room(1, 256),
        "a restart does not know what the standby holds"
    );
    again.held(Cursor::before(9));
    assert!(again.has_room(256, 256));
    // Nobody is there for long, and then somebody is.
    for next in 102..10_000 {
        ahead.told(Cursor::before(next), 1);
    }
    ahead.held(Cursor::before(5_000));
    assert!(!ahead.has_room(1, 256));
    ahead.held(Cursor::before(9_999));
    assert!(ahead.has_room(300, 256));
}

#[test]
fn a_window_is_bounded_and_nothing_is_read_while_it_is_out() {
    let mut delivery = Delivery::new(Cursor::before(1), None);
    let event = |height: Height| Event {
        key: RoutingKey::Block,
        after: Cursor::before(height + 1),
        message: "x".repeat(100_000),
    };
    while let Some(height) = delivery.wants(1_000) {
        delivery.loaded(height, vec![event(height)]);
    }
    assert_eq!(delivery.publish().len(), WINDOW_BYTES_MAX.div_ceil(100_000));
    assert_eq!((delivery.wants(1_000), delivery.publish().len()), (None, 0));
    delivery.failed();
    assert_eq!(delivery.wants(1_000), Some(1));
    let mut quiet = Delivery::new(Cursor::before(1), None);
    while let Some(height) = quiet.wants(10_000) {
        quiet.loaded(height, vec![]);
    }
    assert_eq!(
        quiet.cursor(),
        Cursor::before(10_001),
        "blocks without events move the cursor by themselves"
    );
}
