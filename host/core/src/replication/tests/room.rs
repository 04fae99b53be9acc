//! A receiver's disk without room: what waits for it, for how much, and that nothing which is here already is fetched again.

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
