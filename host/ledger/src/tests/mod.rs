//! What the store must withstand: crashes, torn tails, failing and full disks, flipped bits.

mod archive;
mod crash;
mod faults;
mod inspect;
mod speed;
mod torn;

use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use cvp_core::ledger::contract::{self, ChainMaker};
use cvp_core::ledger::{Archive, Ledger, LedgerError};
use cvp_core::types::Namespace;
use tempfile::TempDir;

use crate::{Shared, Store, StoreOptions};

/// Small segments, so that a test meets several.
fn options() -> StoreOptions {
    StoreOptions {
        segment_bytes: 1 << 20,
        ring_bytes: 64 << 10,
        flush_every_bytes: 1 << 20,
        shared: Shared::new(8 << 20, 8 << 20),
        ..StoreOptions::default()
    }
}

fn open_in(data: &Path, maker: &ChainMaker) -> Result<Store, LedgerError> {
    Store::open(data, &maker.namespace, maker.genesis.clone(), options())
}

/// A verification that nobody abandons.
fn on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn settle(store: &Store) {
    store.sync().unwrap();
    store.apply().unwrap();
}

/// A store in a directory that goes with it.
struct InDirectory {
    store: Store,
    _directory: TempDir,
}

macro_rules! delegate {
    ($interface:ident: $($name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        impl $interface for InDirectory {
            $(fn $name(&self, $($argument: $kind),*) -> $result { self.store.$name($($argument),*) })*
        }
    };
}

delegate! {
    Ledger:
    genesis() -> cvp_core::types::Position;
    tips() -> cvp_core::ledger::Tips;
    history_from() -> u64;
    append(span: cvp_core::record::Span) -> Result<cvp_core::types::Position, LedgerError>;
    room(bytes: u64) -> Result<(), LedgerError>;
    sync() -> Result<cvp_core::types::Position, LedgerError>;
    apply() -> Result<cvp_core::types::Position, LedgerError>;
    read(first: u64, last: u64, bytes_max: usize) -> Result<cvp_core::ledger::Run, LedgerError>;
    close() -> Result<(), LedgerError>;
    hash_at(height: u64) -> Result<Option<cvp_core::types::Digest>, LedgerError>;
    record(height: u64) -> Result<Option<Bytes>, LedgerError>;
    state(key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError>;
    state_applied(key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError>;
    commitment_after(delta: &cvp_core::record::Delta) -> Result<cvp_core::types::Digest, LedgerError>;
    find_transaction(hash: &[u8; 32]) -> Result<Option<cvp_core::ledger::Place>, LedgerError>;
    knows_text(digest: &cvp_core::types::Digest) -> Result<bool, LedgerError>;
    verify(from: u64, to: u64, progress: cvp_core::ledger::Progress<'_>) -> Result<cvp_core::ledger::VerifyReport, LedgerError>;
}

delegate! {
    Archive:
    kept() -> cvp_core::ledger::Kept;
    known_since() -> u64;
    bytes_above(height: u64) -> u64;
    prune(below: u64) -> Result<u64, LedgerError>;
    make_snapshot() -> Result<std::sync::Arc<dyn cvp_core::ledger::Snapshot>, LedgerError>;
    snapshot() -> Option<std::sync::Arc<dyn cvp_core::ledger::Snapshot>>;
    drop_snapshot() -> ();
    stage(manifest: &cvp_core::ledger::Manifest) -> Result<u64, LedgerError>;
    staged() -> Option<(cvp_core::ledger::Manifest, u64)>;
    write_staged(offset: u64, bytes: &[u8]) -> Result<(), LedgerError>;
    sync_staged() -> Result<u64, LedgerError>;
    adopt() -> Result<cvp_core::types::Position, LedgerError>;
    drop_staged() -> Result<(), LedgerError>;
    read_back(last: u64, bytes_max: usize) -> Result<cvp_core::ledger::Run, LedgerError>;
    headers(first: u64, last: u64) -> Result<Bytes, LedgerError>;
    prepend(records: Bytes) -> Result<u64, LedgerError>;
}

#[test]
fn it_keeps_the_contract() {
    contract::run_all(&|namespace: &Namespace, genesis| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), namespace, genesis, options()).unwrap();
        Box::new(InDirectory {
            store,
            _directory: directory,
        })
    });
}

#[test]
fn it_opens_again_with_the_same_chain() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let mut records = Vec::new();
    for round in 0..3 {
        let store = open_in(directory.path(), &maker).unwrap();
        assert_eq!(store.tips().applied.height, round * 30);
        records.extend(maker.extend(&store, 30, 3, 20_000));
        settle(&store);
        assert!(store.directory() == directory.path());
        if round == 1 {
            // Closed in order: state and index are on disk. Else they come from the log.
            store.close().unwrap();
        }
    }
    let store = open_in(directory.path(), &maker).unwrap();
    let mut next = 1;
    while next <= 90 {
        let run = store.read(next, 90, 200_000).unwrap();
        let expected = &records[next as usize - 1..run.last.height as usize];
        assert!(run.bytes == expected.concat(), "records from {next}");
        next = run.last.height + 1;
    }
    let report = store.verify(0, u64::MAX, &mut on).unwrap();
    assert_eq!((report.checked, report.first_bad), (91, None));
    assert!(report.state_checked && report.state_chain_checked);
    assert!(segments(directory.path()) > 3);
    drop(store);
    for entry in std::fs::read_dir(directory.path().join("log")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "idx") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let store = open_in(directory.path(), &maker).unwrap();
    assert!(
        store.record(45).unwrap().unwrap() == records[44],
        "offsets are found without sidecars"
    );
}

#[test]
fn a_copy_under_way_fills_one_growing_segment_and_small_blocks_roll() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let open = |segment_bytes| {
        let options = StoreOptions {
            segment_bytes,
            ..options()
        };
        Store::open(directory.path(), &maker.namespace, maker.genesis.clone(), options).unwrap()
    };
    let store = open(64 << 20);
    let mut records = maker.extend(&store, 30, 3, 110_000);
    settle(&store);
    assert_eq!(segments(directory.path()), 1, "10 MB of long records");
    // 16 MiB were made of 4: what does not fit is short.
    records.extend(maker.extend(&store, 40, 3, 70_000));
    settle(&store);
    assert_eq!(segments(directory.path()), 2);
    drop(store);
    let store = open(8 << 20);
    assert_eq!(store.tips().applied.height, 70);
    // The newest has 16 MiB and grows no further than what is set now.
    records.extend(maker.extend(&store, 60, 3, 110_000));
    settle(&store);
    assert_eq!(segments(directory.path()), 3);
    for (record, height) in records.iter().zip(1..) {
        assert!(
            store.record(height).unwrap().as_ref() == Some(record),
            "record {height}"
        );
    }
    let report = store.verify(0, u64::MAX, &mut on).unwrap();
    assert_eq!((report.checked, report.first_bad), (131, None));
}

fn segments(data: &Path) -> usize {
    let entries = std::fs::read_dir(data.join("log")).unwrap();
    entries
        .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "seg"))
        .count()
}

#[test]
fn another_genesis_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    open_in(directory.path(), &ChainMaker::new("global", 16)).unwrap();
    let other = open_in(directory.path(), &ChainMaker::new("global", 17)).err().unwrap();
    assert!(matches!(other, LedgerError::Diverged { height: 0, .. }), "{other}");
    let other = open_in(directory.path(), &ChainMaker::new("ns1", 16)).err().unwrap();
    assert!(
        matches!(other, LedgerError::Corrupt { .. } | LedgerError::Refused(_)),
        "{other}"
    );
}
