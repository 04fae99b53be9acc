//! A snapshot on its way: what both ends show of it, and what wishes cost.

use super::archive::{CHUNK, pruned};
use super::*;
use crate::frame::{Frame, Kind, NamespaceTag};

#[test]
fn both_ends_show_how_far_a_snapshot_is_and_the_receiver_without_a_session_too() {
    let mut ends = pruned(40 * CHUNK, false);
    ends.archives.held_back = true;
    ends.run(1_000);
    // The machine staged it, and lost the next chunk.
    for work in std::mem::take(&mut ends.archives.waiting) {
        ends.archives.held_back = !matches!(work, ArchiveWork::Stage(_));
        ends.archive(RECEIVER, work);
    }
    ends.archives.held_back = true;
    ends.run(1_000);
    let shown = |end: usize| ends.status(end).namespaces[0].bootstrap.expect("it is under way");
    for end in [PROVIDER, RECEIVER] {
        let bootstrap = shown(end);
        assert_eq!((bootstrap.bytes, bootstrap.total), (0, 40 << 20), "{end}");
        assert!((1_000..=2_000).contains(&bootstrap.elapsed_ms), "{end}: {bootstrap:?}");
    }
    let mut alone = setup(Role::Receiver);
    alone.namespaces[0].staged = Some(StagedPart {
        id: Digest([1; 32]),
        durable: 3,
        total: 10,
        height: 70,
    });
    let mut alone = Pair::new(alone);
    let _ = alone.step(0, Event::Tick);
    let status = &alone.status(5_000).namespaces[0];
    let bootstrap = status.bootstrap.expect("what is staged shows");
    assert_eq!((status.tip, status.durable, status.lag_blocks), (70, 0, 70));
    assert_eq!((bootstrap.bytes, bootstrap.before, bootstrap.total), (3, 3, 10));
    assert_eq!((bootstrap.elapsed_ms, status.phase), (0, Phase::Detached));
}

#[test]
fn a_flood_of_wishes_costs_one_snapshot_at_a_time() {
    let mut ends = Ends::attached(|_: &[Told]| Ok(Vec::new()));
    for stream in 1..=20 {
        let mut wish = crate::types::Writer::new();
        wish.flag(false);
        wish.u64(0);
        wish.u64(1 << 20);
        let tag = NamespaceTag::of(&namespace());
        let frame = Frame::of(Kind::SnapshotFetch, tag, stream, wish.into_bytes().into());
        ends.queue.push_back((PROVIDER, Event::Frame { conn: CONN, frame }));
    }
    ends.run(0);
    assert_eq!(ends.archives.makes, 1);
}
