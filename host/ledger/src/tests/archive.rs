//! History and state as a whole, on a disk that outlives the process: what a restart finds after a pruning, and after a snapshot that was
//! interrupted anywhere.

use cvp_core::ledger::contract::copy_snapshot;
use cvp_core::record::{check_span, namespace_digest};

use super::*;

fn chain(data: &Path, maker: &ChainMaker, blocks: usize) -> Store {
    let store = open_in(data, maker).unwrap();
    maker.extend(&store, blocks, 2, 100_000);
    settle(&store);
    store
}

fn sound(store: &Store) -> u64 {
    let report = store.verify(0, u64::MAX, &mut on).unwrap();
    assert!(report.first_bad.is_none() && report.state_checked, "{report:?}");
    report.checked
}

#[test]
fn a_chain_that_grows_while_it_is_verified_is_good() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let store = chain(directory.path(), &maker, 40);
    let mut grown = false;
    let mut grow = |_| {
        if !std::mem::replace(&mut grown, true) {
            maker.extend(&store, 5, 2, 100);
            settle(&store);
        }
        ControlFlow::Continue(())
    };
    let report = store.verify(0, u64::MAX, &mut grow).unwrap();
    assert_eq!((report.checked, report.first_bad), (46, None));
    assert!(report.state_checked && grown);
}

#[test]
fn a_pruned_chain_opens_again_with_and_without_its_databases_written_out() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let store = chain(directory.path(), &maker, 40);
    let before = segments(directory.path());
    let from = store.prune(30).unwrap();
    assert!(from > 10 && segments(directory.path()) < before);
    maker.extend(&store, 3, 2, 100);
    settle(&store);
    drop(store);
    for round in 0..2 {
        let store = open_in(directory.path(), &maker).unwrap();
        assert_eq!(
            (store.history_from(), store.tips().applied.height),
            (from, 43),
            "round {round}"
        );
        assert_eq!(sound(&store), 44 - from);
        store.close().unwrap();
    }
    let stopped = crate::Inspection::open(directory.path(), &maker.namespace, &maker.genesis).unwrap();
    let report = stopped.verify(0, u64::MAX, &mut on).unwrap();
    assert_eq!((report.checked, report.first_bad), (44 - from, None));
    let other = open_in(directory.path(), &ChainMaker::new("global", 17)).err().unwrap();
    assert!(matches!(other, LedgerError::Diverged { height: 0, .. }), "{other}");
}

#[test]
fn a_pruning_that_was_cut_short_is_finished_at_the_next_start() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let store = chain(directory.path(), &maker, 40);
    let log = directory.path().join("log");
    let kept = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&log).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), kept.path().join(entry.file_name())).unwrap();
    }
    let from = store.prune(30).unwrap();
    let left = segments(directory.path());
    drop(store);
    // The files that went are there again, as if the process had ended before it removed them.
    for entry in std::fs::read_dir(kept.path()).unwrap() {
        let entry = entry.unwrap();
        let to = log.join(entry.file_name());
        if !to.exists() {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
    let store = open_in(directory.path(), &maker).unwrap();
    assert_eq!((store.history_from(), segments(directory.path())), (from, left));
    sound(&store);
}

#[test]
fn a_state_that_pruned_history_could_not_make_again_is_an_error() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let store = chain(directory.path(), &maker, 40);
    store.prune(30).unwrap();
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(directory.path().join("state")).unwrap();
    let error = open_in(directory.path(), &maker).err().unwrap();
    assert!(error.to_string().contains("cannot be made again"), "{error}");
}

#[test]
fn a_snapshot_interrupted_at_fifty_places_goes_on_after_each() {
    let maker = ChainMaker::new("global", 16);
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut provider = chain(there.path(), &maker, 20);
    let id = provider.make_snapshot().unwrap().manifest().id();
    let bytes = provider.snapshot().unwrap().manifest().bytes();
    let mut at = 0;
    let mut draw = 7u64;
    for round in 0..50u64 {
        let standby = open_in(here.path(), &maker).unwrap();
        let snapshot = provider.snapshot().unwrap();
        assert_eq!(snapshot.manifest().id(), id, "it outlives the provider's restarts");
        let durable = standby.stage(snapshot.manifest()).unwrap();
        assert_eq!(durable, at, "round {round}");
        draw = draw
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let step = (draw >> 33) % (bytes / 40);
        let part = snapshot.read(at, step.max(1) as usize).unwrap();
        if at < bytes {
            standby.write_staged(at, &part).unwrap();
            at = standby.sync_staged().unwrap();
        }
        if at < bytes {
            // Written, and lost: the process ends before it is durable.
            standby.write_staged(at, &snapshot.read(at, 100).unwrap()).unwrap();
        }
        assert_eq!(standby.tips().appended.height, 0);
        drop(standby);
        if round % 10 == 5 {
            drop((snapshot, provider));
            provider = open_in(there.path(), &maker).unwrap();
        }
    }
    let standby = open_in(here.path(), &maker).unwrap();
    copy_snapshot(&*provider.snapshot().unwrap(), &standby, at, 4_096);
    standby.adopt().unwrap();
    assert_eq!((standby.tips().applied.height, standby.history_from()), (20, 20));
    drop(standby);
    let standby = open_in(here.path(), &maker).unwrap();
    assert_eq!((standby.tips().applied.height, sound(&standby)), (20, 1));
    let left: Vec<_> = std::fs::read_dir(here.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(left.iter().all(|name| name != "state" && name != "staged"), "{left:?}");
}

#[test]
fn history_put_before_a_snapshot_is_there_after_a_restart() {
    let maker = ChainMaker::new("global", 16);
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let provider = chain(there.path(), &maker, 20);
    let snapshot = provider.make_snapshot().unwrap();
    let standby = open_in(here.path(), &maker).unwrap();
    standby.stage(snapshot.manifest()).unwrap();
    copy_snapshot(&*snapshot, &standby, 0, 1 << 20);
    standby.adopt().unwrap();
    let run = provider.read_back(19, 500_000).unwrap();
    let from = standby.prepend(run.bytes).unwrap();
    assert!(from > 1);
    drop(standby);
    let standby = open_in(here.path(), &maker).unwrap();
    assert_eq!((standby.history_from(), sound(&standby)), (from, 21 - from));
    while standby.history_from() > 0 {
        let run = provider.read_back(standby.history_from() - 1, 1 << 20).unwrap();
        standby.prepend(run.bytes).unwrap();
    }
    drop(standby);
    let standby = open_in(here.path(), &maker).unwrap();
    let report = standby.verify(0, u64::MAX, &mut on).unwrap();
    assert!(report.first_bad.is_none() && report.state_chain_checked && report.checked == 21);
    // The whole history, and more blocks: a chain like any other.
    maker.extend(&provider, 2, 2, 100);
    provider.sync().unwrap();
    let run = provider.read(21, 22, 1 << 20).unwrap();
    let span = check_span(&namespace_digest(&maker.namespace), standby.tips().appended, run.bytes).unwrap();
    standby.append(span).unwrap();
    settle(&standby);
}

#[test]
fn a_snapshot_without_its_tail_is_dropped_at_the_next_start() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let store = chain(directory.path(), &maker, 8);
    store.make_snapshot().unwrap();
    maker.extend(&store, 40, 2, 100_000);
    settle(&store);
    assert!(store.prune(40).unwrap() > 9);
    drop(store);
    let store = open_in(directory.path(), &maker).unwrap();
    assert!(store.snapshot().is_none() && !directory.path().join("snapshot").exists());
}
