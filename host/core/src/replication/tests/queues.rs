//! Message queues between the two ends: told after each handshake and when they move, never before what was staged is settled.

use super::*;
use crate::mq::{Cursor, Cursors, QUEUE_CHANGE, QueueChange, Registration, Registry};

pub(super) fn registry(queues: &[&str]) -> Registry {
    let mut registry = Registry::new("global_fa34664e_1".into());
    for queue in queues {
        let wanted = serde_json::json!({"queueName": queue, "routingKeys": ["MQBlock"]});
        registry.register(Registration::from_json(&wanted).unwrap(), 3).unwrap();
    }
    registry
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

#[test]
fn queues_are_told_at_the_handshake_and_what_moves_later_alone() {
    let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
    ends.queues = Some((registry(&["q"]), cursors(4)));
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
    ends.queues = Some((registry(&["q"]), cursors(9)));
    touch(&mut ends);
    assert_eq!(ends.kept, [QueueWork::KeepCursors(namespace(), cursors(9))]);
    ends.kept.clear();
    ends.queues = Some((registry(&["q", "r"]), cursors(9)));
    touch(&mut ends);
    assert_eq!(ends.kept, [QueueWork::KeepRegistry(namespace(), registry(&["q", "r"]))]);
}

#[test]
fn many_moves_are_told_together() {
    let mut ends = Ends::attached(fetch_all);
    ends.queues = Some((registry(&["q"]), cursors(1)));
    touch(&mut ends);
    ends.looks = 0;
    for next in 2..22 {
        ends.queues = Some((registry(&["q"]), cursors(next)));
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
    let mut ends = Ends::attached(fetch_all);
    ends.run(200);
    let tag = crate::frame::NamespaceTag::of(&namespace());
    let frame = crate::frame::Frame::of(crate::frame::Kind::Queues, tag, 0, Bytes::from_static(b"nonsense"));
    let ready = ends.pairs[RECEIVER].step(ends.now * 1000, Event::Frame { conn: CONN, frame });
    let closed = |action: &Action| matches!(action, Action::Close { refusal: Some(_), .. });
    assert!(ready.now.iter().any(closed), "{:?}", ready.now);
}
