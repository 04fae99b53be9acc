//! A receiver's disk without room: what waits for it, for how much, and that nothing which is here already is fetched again. And how long a
//! provider's disk holds what nobody fetches.

use super::archive::pruned;
use super::*;

/// Bytes of the state.
const STATE: usize = 300_000;

fn full(status: &PairStatus) -> bool {
    status.reasons.iter().any(|reason| reason.code == "disk-full")
}

#[test]
fn a_snapshot_that_does_not_fit_waits_for_room_for_all_of_it() {
    let mut ends = pruned(STATE, false);
    ends.archives.room = Some(STATE as u64 - 1);
    ends.run(20_000);
    let (ours, theirs) = (ends.status(RECEIVER), ends.status(PROVIDER));
    assert!(full(&ours) && full(&theirs), "{:?} {:?}", ours.reasons, theirs.reasons);
    // One reason for it on either end, which says whose disk it is.
    for status in [&ours, &theirs] {
        let stalled = status.reasons.iter().any(|reason| reason.code == "stream-stalled");
        assert!(!stalled, "{:?}", status.reasons);
    }
    let said = |status: &PairStatus| {
        let reason = status.reasons.iter().find(|reason| reason.code == "disk-full");
        reason.map(|reason| reason.text.to_string())
    };
    assert_eq!(said(&ours).as_deref(), Some("global: full"));
    assert_eq!(said(&theirs).as_deref(), Some("global: on the receiver: full"));
    // Nor is the provider asked for one after the other.
    assert_eq!((ends.archives.fulls, ends.archives.makes), (1, 1));
    assert!(
        ends.archives.chunks <= 1,
        "one was on its way: {}",
        ends.archives.chunks
    );
    ends.archives.room = None;
    ends.run(5_000);
    assert_eq!(ends.appended, 500);
    let ours = ends.status(RECEIVER);
    assert!(ours.normal, "{:?}", ours.reasons);
}

#[test]
fn a_session_with_a_receiver_whose_disk_is_full_is_not_a_stream_that_stalls() {
    let mut ends = pruned(STATE, true);
    ends.archives.room = Some(STATE as u64 - 1);
    ends.run(5_000);
    for end in [PROVIDER, RECEIVER] {
        let closed = Event::Closed {
            conn: CONN,
            reason: None,
        };
        ends.queue.push_back((end, closed));
    }
    ends.run(10_000);
    for end in [PROVIDER, RECEIVER] {
        let status = ends.status(end);
        assert!(status.peer.is_some(), "it dialled again: {status:?}");
        let codes: Vec<&str> = status.reasons.iter().map(|reason| reason.code.as_ref()).collect();
        assert!(
            codes.contains(&"disk-full") && !codes.contains(&"stream-stalled"),
            "{codes:?}"
        );
    }
}

#[test]
fn what_is_staged_waits_for_room_to_be_adopted() {
    let mut ends = pruned(STATE, false);
    ends.archives.full = true;
    ends.run(10_000);
    assert!(full(&ends.status(RECEIVER)), "{:?}", ends.status(RECEIVER).reasons);
    let chunks = ends.archives.chunks;
    assert_eq!((ends.appended, ends.archives.fulls), (0, 1));
    ends.archives.full = false;
    ends.run(5_000);
    assert_eq!((ends.appended, ends.archives.makes), (500, 1));
    assert_eq!(ends.archives.chunks, chunks, "nothing of it came again");
}

#[test]
fn history_is_filled_in_when_there_is_room_and_the_stream_goes_on_meanwhile() {
    let mut ends = pruned(STATE, false);
    while ends.appended < 500 {
        ends.run(10);
    }
    ends.archives.full = true;
    ends.run(2_000);
    let from = ends.archives.history_from[RECEIVER];
    ends.grow(510);
    ends.run(20_000);
    assert_eq!((ends.appended, ends.archives.history_from[RECEIVER]), (510, from));
    let ours = ends.status(RECEIVER);
    assert!(ours.normal, "{:?}", ours.reasons);
    assert!(
        ours.namespaces[0].warnings[0].contains("when there is room"),
        "{:?}",
        ours.namespaces[0].warnings
    );
    assert!(ends.archives.fulls < 4, "{} tries", ends.archives.fulls);
    ends.archives.full = false;
    ends.run(30_000);
    assert_eq!(ends.archives.history_from[RECEIVER], 400);
}

#[test]
fn a_snapshot_that_nobody_comes_back_for_goes_after_an_hour() {
    let mut ends = pruned(40 << 20, true);
    ends.archives.held_back = true;
    ends.run(1_000);
    assert!(ends.archives.made.is_some());
    let provider = &mut ends.pairs[PROVIDER];
    let lost = ends.now;
    let gone = |ready: Ready| {
        let mut works = ready.now.into_iter();
        works.any(|action| {
            matches!(
                action,
                Action::Archive {
                    work: ArchiveWork::DropMade,
                    ..
                }
            )
        })
    };
    let closed = Event::Closed {
        conn: CONN,
        reason: None,
    };
    assert!(!gone(provider.step(lost * 1_000, closed)));
    let mut at = |minutes: u64| gone(provider.step((lost + minutes * 60_000) * 1_000, Event::Tick));
    assert!(!at(1) && !at(59), "it may come back");
    assert!(at(61) && !at(62), "once");
    // So does one that an earlier process left.
    let mut again = Pair::new(setup(Role::Provider));
    assert!(!gone(again.step(0, Event::Tick)) && !gone(again.step(3_599_000_000, Event::Tick)));
    assert!(gone(again.step(3_600_000_000, Event::Tick)));
}
