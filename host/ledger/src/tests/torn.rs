//! A log whose newest record was cut or damaged at any byte opens without it, and goes on.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use cvp_core::ledger::contract::ChainMaker;
use cvp_core::ledger::{Ledger, LedgerError, MemoryLedger};
use cvp_core::record::namespace_digest;

use super::{on, open_in, options, settle};
use crate::base::Base;
use crate::log::Log;
use crate::segment::{HEADER_BYTES, file_name};

/// A directory where fsync costs nothing, if there is one: these tests make thousands.
fn quick_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

struct Torn {
    directory: tempfile::TempDir,
    maker: ChainMaker,
    records: Vec<Bytes>,
    /// File offset of the last record.
    last: u64,
}

impl Torn {
    fn new() -> Self {
        let maker = ChainMaker::new("global", 2);
        let memory = MemoryLedger::open(&maker.namespace, maker.genesis.clone()).unwrap();
        let records = maker.extend(&memory, 3, 1, 64);
        let kept: usize = records[..2].iter().map(Bytes::len).sum();
        let last = HEADER_BYTES + (maker.genesis.len() + kept) as u64;
        let torn = Self {
            directory: quick_directory(),
            maker,
            records,
            last,
        };
        torn.open(None)
            .unwrap()
            .0
            .append(&torn.lengths(), 1, &torn.records.concat())
            .unwrap();
        torn
    }

    fn lengths(&self) -> Vec<usize> {
        self.records.iter().map(Bytes::len).collect()
    }

    fn open(&self, applied: Option<u64>) -> Result<(Log, cvp_core::types::Position), LedgerError> {
        let namespace = namespace_digest(&self.maker.namespace);
        Log::open(
            self.directory.path(),
            (namespace, Base::whole(namespace)),
            &self.maker.genesis,
            &options(),
            applied,
        )
    }

    fn file(&self) -> File {
        let path = self.directory.path().join(file_name(0));
        File::options().read(true).write(true).open(path).unwrap()
    }

    /// Opens after the damage: the last record is gone, and can be appended again.
    fn heals(&self, what: &str) {
        let (mut log, tip) = self.open(Some(2)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(tip.height, 2, "{what}");
        let last = &self.records[2];
        log.append(&[last.len()], 3, last).unwrap();
        drop(log);
        let (log, tip) = self.open(Some(3)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(tip.height, 3, "{what}");
        assert!(log.place(3, 3, 1).unwrap().read().unwrap() == *last, "{what}");
    }
}

#[test]
fn a_tail_cut_at_any_byte_is_dropped() {
    let torn = Torn::new();
    // The record ends with zeros of its own: cut within them, it is whole in a preallocated file.
    let last_byte = torn.records[2].iter().rposition(|byte| *byte != 0).unwrap();
    assert!(torn.records[2].len() - last_byte <= 8);
    for cut in 0..=last_byte as u64 {
        // As a crash leaves a preallocated file: zeros behind.
        let file = torn.file();
        let size = file.metadata().unwrap().len();
        file.set_len(torn.last + cut).unwrap();
        file.set_len(size).unwrap();
        torn.heals(&format!("zeros from byte {cut}"));
    }
}

#[test]
fn a_log_that_ends_at_any_byte_is_cut_there() {
    for cut in 0..Torn::new().records[2].len() as u64 {
        // The file keeps no room, so the record goes into a second segment: a fresh log each time.
        let torn = Torn::new();
        torn.file().set_len(torn.last + cut).unwrap();
        torn.heals(&format!("file ends at byte {cut}"));
    }
}

#[test]
fn a_tail_damaged_at_any_byte_is_dropped() {
    let torn = Torn::new();
    for at in 0..torn.records[2].len() {
        let byte = torn.records[2][at] ^ (1 << (at % 8));
        torn.file().write_all_at(&[byte], torn.last + at as u64).unwrap();
        torn.heals(&format!("bit flipped in byte {at}"));
    }
}

#[test]
fn what_stands_far_behind_the_tail_is_dropped_on_any_file_system() {
    for directory in [quick_directory(), tempfile::tempdir().unwrap()] {
        let torn = Torn {
            directory,
            ..Torn::new()
        };
        let (mut log, _) = torn.open(None).unwrap();
        log.append(&torn.lengths(), 1, &torn.records.concat()).unwrap();
        drop(log);
        // In room that nothing was written to, at its very end, and between the two.
        let room = torn.file().metadata().unwrap().len();
        for at in [torn.last + (1 << 20) + 77, room / 2, room - 1] {
            torn.file().write_all_at(&[1], at).unwrap();
            let (log, tip) = torn.open(Some(3)).unwrap();
            assert_eq!(tip.height, 3, "byte {at}");
            drop(log);
            let mut byte = [1];
            torn.file().read_exact_at(&mut byte, at).unwrap();
            assert_eq!(byte, [0], "byte {at}");
        }
    }
}

#[test]
fn damage_below_what_was_applied_is_no_torn_tail() {
    let torn = Torn::new();
    torn.file().write_all_at(&[0xff; 4], torn.last + 700).unwrap();
    let error = torn.open(Some(3)).err().unwrap();
    assert!(
        matches!(&error, LedgerError::Corrupt { what, .. } if what.contains("record 3")),
        "{error}"
    );
}

#[test]
fn a_first_start_cut_short_begins_again() {
    let maker = ChainMaker::new("global", 2);
    let namespace = namespace_digest(&maker.namespace);
    for cut in (0..maker.genesis.len() as u64).step_by(7) {
        let directory = quick_directory();
        let open = || {
            Log::open(
                directory.path(),
                (namespace, Base::whole(namespace)),
                &maker.genesis,
                &options(),
                None,
            )
        };
        drop(open().unwrap());
        let path = directory.path().join(file_name(0));
        let file = File::options().write(true).open(&path).unwrap();
        let size = file.metadata().unwrap().len();
        file.set_len(HEADER_BYTES + cut).unwrap();
        file.set_len(size).unwrap();
        // A second one was being made.
        std::fs::write(directory.path().join(file_name(1)).with_extension("new"), b"CVP").unwrap();
        assert_eq!(open().unwrap().1.height, 0, "genesis cut at byte {cut}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_whole_store_opens_on_a_torn_log() {
    let maker = ChainMaker::new("global", 16);
    for cut in [1u64, 40, 300, 690, 5_000] {
        let directory = quick_directory();
        let store = open_in(directory.path(), &maker).unwrap();
        maker.extend(&store, 4, 2, 3_000);
        settle(&store);
        store.close().unwrap();
        let last = maker.extend(&store, 1, 2, 3_000);
        store.sync().unwrap();
        drop(store);
        let path = directory.path().join("log").join(file_name(0));
        let bytes = std::fs::read(&path).unwrap();
        let start = bytes
            .windows(last[0].len())
            .position(|window| window == last[0])
            .unwrap() as u64;
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(start + cut)
            .unwrap();
        let store = open_in(directory.path(), &maker).unwrap();
        assert_eq!(store.tips().applied.height, 4, "cut at {cut}");
        maker.extend(&store, 2, 2, 3_000);
        settle(&store);
        assert_eq!(store.verify(0, u64::MAX, &mut on).unwrap().first_bad, None);
    }
}
