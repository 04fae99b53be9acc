//! A ledger that is only looked at: nothing on the disk changes, whatever is wrong there, and what is wrong is named.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cvp_core::ledger::contract::ChainMaker;
use cvp_core::ledger::{Ledger, LedgerError, VerifyReport};
use cvp_core::record::{PartKind, parse};
use tempfile::TempDir;

use super::{on, open_in, settle};
use crate::Inspection;

/// Records of 3 KB and more: several segments of 1 MiB.
const RECORDS: usize = 40;

struct Stopped {
    directory: TempDir,
    maker: ChainMaker,
    records: Vec<Bytes>,
}

impl Stopped {
    /// A chain whose node was stopped in the ordinary way.
    fn new() -> Self {
        let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
        let store = open_in(directory.path(), &maker).unwrap();
        let records = maker.extend(&store, RECORDS, 4, 20_000);
        settle(&store);
        store.close().unwrap();
        Self {
            directory,
            maker,
            records,
        }
    }

    fn look(&self) -> Inspection {
        look(self.directory.path(), &self.maker)
    }

    /// The segment that holds the record at `height`, and the record's offset in it.
    fn find(&self, height: u64) -> (PathBuf, u64) {
        let record = &self.records[height as usize - 1];
        for entry in std::fs::read_dir(self.directory.path().join("log")).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(600).position(|window| window == &record[..600]) {
                return (path, at as u64);
            }
        }
        panic!("record {height} is in no segment");
    }

    /// Flips a bit of the record at `height`; answers what undoes it.
    fn flip(&self, height: u64, offset: u64) -> impl Fn() + use<> {
        let (path, start) = self.find(height);
        let byte = self.records[height as usize - 1][offset as usize];
        let write = move |byte: u8| {
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[byte], start + offset).unwrap();
        };
        write(byte ^ 4);
        move || write(byte)
    }
}

fn look(data: &Path, maker: &ChainMaker) -> Inspection {
    Inspection::open(data, &maker.namespace, &maker.genesis).unwrap()
}

fn all(inspection: &Inspection) -> VerifyReport {
    inspection.verify(0, u64::MAX, &mut on).unwrap()
}

/// Every file below `directory` with its digest: segments are large, and mostly zeros.
fn bytes_of(directory: &Path) -> BTreeMap<PathBuf, (u64, [u8; 32])> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(bytes_of(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, (bytes.len() as u64, cvp_core::types::Digest::of(&bytes).0));
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

#[test]
fn a_good_chain_is_good_and_no_byte_changes() {
    let stopped = Stopped::new();
    let log = stopped.directory.path().join("log");
    // What an open would remove, and what it would write.
    std::fs::write(log.join("00000000000000000099.new"), b"CVP").unwrap();
    std::fs::remove_file(log.join("00000000000000000000.idx")).unwrap();
    let before = bytes_of(stopped.directory.path());
    let looked = stopped.look();
    let report = all(&looked);
    assert_eq!((looked.last(), looked.torn_tail()), (Some(RECORDS as u64), None));
    assert_eq!((report.checked, &report.first_bad), (RECORDS as u64 + 1, &None));
    assert!(report.state_checked && report.state_chain_checked);
    let part = looked.verify(5, 9, &mut on).unwrap();
    assert_eq!(
        (part.checked, part.state_checked, part.state_chain_checked),
        (5, false, false)
    );
    drop(looked);
    assert_eq!(bytes_of(stopped.directory.path()), before);
}

#[test]
fn a_flipped_bit_is_named_with_height_and_part() {
    let stopped = Stopped::new();
    // The last record was applied: it is damage there too, no torn tail.
    for height in [3, 17, RECORDS as u64] {
        let record = parse(&stopped.records[height as usize - 1]).unwrap();
        let mut places = vec![(3, "header"), (60, "header")];
        for (kind, name) in [
            (PartKind::Transactions, "transactions"),
            (PartKind::Receipts, "receipts"),
            (PartKind::Delta, "delta"),
            (PartKind::Local, "local"),
        ] {
            let part = record.part(kind);
            let start = part.as_ptr() as u64 - stopped.records[height as usize - 1].as_ptr() as u64;
            places.push((start + part.len() as u64 / 2, name));
        }
        for (offset, part) in places {
            let undo = stopped.flip(height, offset);
            let looked = stopped.look();
            let bad = all(&looked).first_bad.unwrap();
            assert_eq!(
                (bad.height, bad.part.as_str()),
                (height, part),
                "byte {offset}: {bad:?}"
            );
            assert_eq!(looked.torn_tail(), None);
            let below = looked.verify(0, height - 1, &mut on).unwrap();
            assert_eq!(below.first_bad, None, "byte {offset} of {height}");
            undo();
        }
    }
    assert_eq!(all(&stopped.look()).first_bad, None);
}

#[test]
fn a_sealed_segment_that_breaks_off_is_named() {
    let stopped = Stopped::new();
    let (path, start) = stopped.find(2);
    std::fs::remove_file(path.with_extension("idx")).unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(start + 8)
        .unwrap();
    let report = all(&stopped.look());
    let bad = report.first_bad.unwrap();
    assert_eq!(
        (bad.height, bad.part.as_str(), report.state_checked),
        (2, "header", false),
        "{bad:?}"
    );
}

#[test]
fn a_torn_tail_is_told_and_left_alone() {
    let maker = ChainMaker::new("global", 16);
    for cut in [1, 40, 300, 690, 5_000] {
        let directory = tempfile::tempdir().unwrap();
        let store = open_in(directory.path(), &maker).unwrap();
        maker.extend(&store, 4, 2, 3_000);
        settle(&store);
        store.close().unwrap();
        let last = maker.extend(&store, 1, 2, 3_000);
        store.sync().unwrap();
        drop(store);
        let path = directory.path().join("log/00000000000000000000.seg");
        let bytes = std::fs::read(&path).unwrap();
        let start = bytes
            .windows(last[0].len())
            .position(|window| window == last[0])
            .unwrap() as u64;
        let file = File::options().write(true).open(&path).unwrap();
        // As a power cut leaves it: zeros behind what was written.
        let size = file.metadata().unwrap().len();
        file.set_len(start + cut).unwrap();
        file.set_len(size).unwrap();
        let before = bytes_of(directory.path());
        let looked = look(directory.path(), &maker);
        assert_eq!(looked.last(), Some(4), "cut at {cut}");
        assert_eq!(looked.torn_tail().map(|torn| torn.height), Some(5), "cut at {cut}");
        let report = all(&looked);
        assert_eq!((report.checked, report.first_bad), (5, None), "cut at {cut}");
        drop(looked);
        assert_eq!(bytes_of(directory.path()), before, "cut at {cut}");
        let store = open_in(directory.path(), &maker).unwrap();
        assert_eq!(store.tips().applied.height, 4, "the next start cuts the same");
    }
}

#[test]
fn what_a_kill_left_of_the_databases_is_no_damage() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let killed = |name: &str| {
        let at = directory.path().join(name);
        copy(&directory.path().join("data"), &at);
        at
    };
    let store = open_in(&directory.path().join("data"), &maker).unwrap();
    maker.extend(&store, 5, 2, 1_000);
    settle(&store);
    let never_flushed = killed("never-flushed");
    store.close().unwrap();
    maker.extend(&store, 5, 2, 1_000);
    settle(&store);
    let behind = killed("behind");
    for data in [never_flushed, behind] {
        let looked = look(&data, &maker);
        let report = all(&looked);
        assert_eq!(
            (looked.torn_tail(), &report.first_bad),
            (None, &None),
            "{}",
            data.display()
        );
        assert!(report.state_checked && report.state_chain_checked);
        let last = looked.last().unwrap();
        let part = looked.verify(1, u64::MAX, &mut on).unwrap();
        assert_eq!((part.checked, part.first_bad, part.state_checked), (last, None, false));
    }
}

#[test]
fn records_that_the_databases_know_and_the_log_has_lost_are_damage() {
    let stopped = Stopped::new();
    let (path, start) = stopped.find(RECORDS as u64);
    let file = File::options().write(true).open(&path).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(start).unwrap();
    file.set_len(size).unwrap();
    let looked = stopped.look();
    assert_eq!(looked.torn_tail(), None);
    let bad = all(&looked).first_bad.unwrap();
    assert_eq!((bad.height, bad.part.as_str()), (RECORDS as u64, "header"), "{bad:?}");
}

#[test]
fn a_hole_with_whole_records_behind_it_is_damage() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), ChainMaker::new("global", 16));
    let store = open_in(directory.path(), &maker).unwrap();
    let records = maker.extend(&store, 4, 2, 3_000);
    store.sync().unwrap();
    // Nothing was applied: the databases know of none.
    drop(store);
    let path = directory.path().join("log/00000000000000000000.seg");
    let bytes = std::fs::read(&path).unwrap();
    let start = bytes
        .windows(200)
        .position(|window| window == &records[1][..200])
        .unwrap() as u64;
    let file = File::options().write(true).open(&path).unwrap();
    for offset in [2, 60] {
        let byte = records[1][offset as usize];
        file.write_all_at(&[byte ^ 4], start + offset).unwrap();
        let looked = look(directory.path(), &maker);
        let bad = all(&looked).first_bad.unwrap();
        assert_eq!((bad.height, bad.part.as_str()), (2, "header"), "{bad:?}");
        assert_eq!(looked.torn_tail(), None);
        file.write_all_at(&[byte], start + offset).unwrap();
    }
    assert_eq!(all(&look(directory.path(), &maker)).first_bad, None);
}

#[test]
fn a_segment_that_is_damaged_or_missing_is_named_by_height() {
    let stopped = Stopped::new();
    let log = stopped.directory.path().join("log");
    let mut segments: Vec<PathBuf> = std::fs::read_dir(&log).unwrap().map(|e| e.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|e| e == "seg"));
    segments.sort();
    assert!(segments.len() > 2, "{segments:?}");
    for path in &segments {
        let first: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 30).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 30).unwrap();
        let bad = all(&stopped.look()).first_bad.unwrap();
        assert_eq!((bad.height, bad.part.as_str()), (first, "header"), "{bad:?}");
        file.write_all_at(&byte, 30).unwrap();
        let aside = path.with_extension("aside");
        std::fs::rename(path, &aside).unwrap();
        let bad = all(&stopped.look()).first_bad.unwrap();
        assert_eq!((bad.height, bad.part.as_str()), (first, "header"), "{bad:?}");
        std::fs::rename(&aside, path).unwrap();
    }
    assert_eq!(all(&stopped.look()).first_bad, None);
}

#[test]
fn a_database_that_is_damaged_or_incomplete_is_named() {
    let stopped = Stopped::new();
    for database in ["state", "index"] {
        let directory = stopped.directory.path().join(database);
        let tables = std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path());
        let table = tables
            .filter(|path| path.extension().is_some_and(|e| e == "sst"))
            .max()
            .unwrap();
        let whole = std::fs::read(&table).unwrap();
        let mut flipped = whole.clone();
        flipped[40] ^= 8;
        for damaged in [Some(flipped), None] {
            match damaged {
                Some(bytes) => std::fs::write(&table, bytes).unwrap(),
                None => std::fs::remove_file(&table).unwrap(),
            }
            let report = all(&stopped.look());
            let bad = report.first_bad.unwrap();
            assert_eq!(
                (bad.height, bad.part.as_str()),
                (RECORDS as u64, "state"),
                "{database}: {bad:?}"
            );
            assert!(!report.state_checked);
        }
        std::fs::write(&table, whole).unwrap();
    }
    assert_eq!(all(&stopped.look()).first_bad, None);
}

#[test]
fn another_genesis_is_refused() {
    let stopped = Stopped::new();
    let other = ChainMaker::new("global", 17);
    let refused = Inspection::open(stopped.directory.path(), &other.namespace, &other.genesis).err();
    assert!(
        matches!(refused, Some(LedgerError::Diverged { height: 0, .. })),
        "{refused:?}"
    );
}
