//! Failing and full disks, flipped bits, shared commits.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cvp_core::ledger::contract::{ChainMaker, key};
use cvp_core::ledger::{BadPlace, Ledger, LedgerError};
use cvp_core::record::{PartKind, Span, parse};
use tempfile::TempDir;

use super::{on, open_in, options, segments, settle};
use crate::changes::Changes;
use crate::databases::{Databases, Entries};
use crate::{Shared, Store, StoreOptions};

fn chain(count: usize, transactions: u32, bytes: usize) -> (TempDir, ChainMaker, Store) {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let store = open_in(directory.path(), &maker).unwrap();
    maker.extend(&store, count, transactions, bytes);
    settle(&store);
    (directory, maker, store)
}

#[test]
fn callers_share_one_group_commit() {
    let (_directory, maker, store) = chain(1, 1, 100);
    let before = store.fsyncs();
    maker.extend(&store, 5, 1, 100);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(store.sync().unwrap().height, 6));
        }
    });
    assert_eq!(store.fsyncs() - before, 1);
}

#[test]
fn a_failed_fsync_is_sticky() {
    let (directory, maker, store) = chain(2, 1, 100);
    maker.extend(&store, 1, 1, 100);
    // The device takes every write and cannot be synced.
    store.dangerous_replace_file(File::options().read(true).write(true).open("/dev/null").unwrap());
    let error = store.sync().unwrap_err();
    assert!(
        matches!(
            error,
            LedgerError::Disk {
                operation: "fdatasync",
                ..
            }
        ),
        "{error}"
    );
    sticks(&store, &maker, &error);
    assert_eq!(store.tips().durable.height, 2);
    drop(store);
    let store = open_in(directory.path(), &maker).unwrap();
    maker.extend(&store, 1, 1, 100);
    settle(&store);
}

#[test]
fn a_failed_write_is_sticky() {
    let (_directory, maker, store) = chain(2, 1, 100);
    store.dangerous_replace_file(File::options().read(true).write(true).open("/dev/full").unwrap());
    let span = Span::of_own_record(maker.record(&store, 1, 100)).unwrap();
    let error = store.append(span).unwrap_err();
    assert!(matches!(error, LedgerError::Disk { operation: "write", .. }), "{error}");
    sticks(&store, &maker, &error);
    assert_eq!(store.tips().appended.height, 2);
}

fn sticks(store: &Store, maker: &ChainMaker, error: &LedgerError) {
    assert!(error.is_sticky());
    assert_eq!(store.sync().as_ref().unwrap_err(), error);
    assert_eq!(store.apply().as_ref().unwrap_err(), error);
    assert_eq!(store.read(0, 1, 1).as_ref().unwrap_err(), error);
    assert_eq!(store.state(&key(1)).as_ref().unwrap_err(), error);
    assert_eq!(store.record(1).as_ref().unwrap_err(), error);
    assert_eq!(store.knows_text(&maker_digest(maker)).as_ref().unwrap_err(), error);
}

fn maker_digest(maker: &ChainMaker) -> cvp_core::types::Digest {
    cvp_core::types::Digest::of(&maker.genesis)
}

#[test]
fn a_full_disk_stops_cleanly_and_is_not_sticky() {
    let (directory, maker, store) = chain(2, 4, 50_000);
    drop(store);
    let open = |reserve_bytes| {
        let options = StoreOptions {
            reserve_bytes,
            ..options()
        };
        Store::open(directory.path(), &maker.namespace, maker.genesis.clone(), options).unwrap()
    };
    let store = open(u64::MAX / 2);
    let error = loop {
        let span = Span::of_own_record(maker.record(&store, 4, 50_000)).unwrap();
        if let Err(error) = store.append(span) {
            break error;
        }
    };
    assert!(
        matches!(error, LedgerError::Full { .. }) && !error.is_sticky(),
        "{error}"
    );
    assert!(matches!(store.room(0), Err(LedgerError::Full { .. })));
    let tip = store.tips().appended.height;
    settle(&store);
    assert_eq!((store.tips().applied.height, segments(directory.path())), (tip, 1));
    drop(store);
    let store = open(0);
    store.room(0).unwrap();
    assert!(matches!(store.room(u64::MAX / 2), Err(LedgerError::Full { .. })));
    maker.extend(&store, 5, 4, 50_000);
    settle(&store);
    assert_eq!(store.tips().applied.height, tip + 5);
    assert_eq!(store.verify(0, u64::MAX, &mut on).unwrap().first_bad, None);
}

/// The segment file that holds `record`, and the record's offset in it.
fn find(data: &Path, record: &[u8]) -> (PathBuf, u64) {
    for entry in std::fs::read_dir(data.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(600).position(|window| window == &record[..600]) {
            return (path, at as u64);
        }
    }
    panic!("the record is in no segment");
}

#[test]
fn a_flipped_bit_is_named_with_height_and_part() {
    let (directory, _maker, store) = chain(40, 4, 20_000);
    assert!(segments(directory.path()) > 2);
    let flips = [
        (3, PartKind::Transactions, "transactions"),
        (17, PartKind::Receipts, "receipts"),
        (22, PartKind::Delta, "delta"),
        (39, PartKind::Local, "local"),
    ];
    for (height, kind, name) in flips {
        let record = store.record(height).unwrap().unwrap();
        let part = parse(&record).unwrap().part(kind);
        let offset = part.as_ptr() as u64 - record.as_ptr() as u64 + part.len() as u64 / 2;
        named(&directory, &store, height, offset, name);
    }
    named(&directory, &store, 8, 60, "header");
    named(&directory, &store, 8, 3, "header");
}

/// Flips a bit under the running store, verifies, and flips it back.
fn named(directory: &TempDir, store: &Store, height: u64, offset: u64, part: &str) {
    let record = store.record(height).unwrap().unwrap();
    let (path, start) = find(directory.path(), &record);
    let file = File::options().write(true).open(path).unwrap();
    let byte = record[offset as usize];
    file.write_all_at(&[byte ^ 4], start + offset).unwrap();
    for from in [0, height] {
        let bad = store.verify(from, u64::MAX, &mut on).unwrap().first_bad.unwrap();
        assert_eq!((bad.height, bad.part.as_str()), (height, part), "{bad:?}");
    }
    file.write_all_at(&[byte], start + offset).unwrap();
    assert_eq!(store.verify(0, u64::MAX, &mut on).unwrap().first_bad, None);
}

#[test]
fn a_state_that_was_tampered_with_is_found() {
    let (directory, maker, store) = chain(5, 1, 100);
    store.close().unwrap();
    drop(store);
    let databases = Databases::open(
        directory.path(),
        &crate::base::Base::whole(cvp_core::types::Digest::ZERO),
        &Shared::new(8 << 20, 8 << 20),
    )
    .unwrap();
    let marker = databases.state_marker().unwrap().unwrap();
    let mut state = Changes::default();
    state.push(&key(9), Some(b"more"));
    databases
        .write_state(
            &[Entries {
                state: &state,
                index: &[],
            }],
            &marker,
        )
        .unwrap();
    databases.flush(true).unwrap();
    drop(databases);
    let store = open_in(directory.path(), &maker).unwrap();
    let report = store.verify(0, u64::MAX, &mut on).unwrap();
    let BadPlace { height, part, .. } = report.first_bad.unwrap();
    assert_eq!((height, part.as_str(), report.state_chain_checked), (5, "state", true));
}

#[test]
fn memory_is_bounded_when_nobody_applies() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let options = StoreOptions {
        pending_bytes_max: 100_000,
        ..options()
    };
    let store = Store::open(directory.path(), &maker.namespace, maker.genesis.clone(), options).unwrap();
    maker.extend(&store, 30, 1, 20_000);
    assert!(store.tips().appended.height - store.tips().applied.height <= 5);
}
