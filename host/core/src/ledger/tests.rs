//! The memory ledger: the contract, crashes, failures, and what a verification names.

use std::ops::ControlFlow;

use super::contract::{self, ChainMaker, key};
use super::{CrashReport, Ledger, MemoryLedger};
use crate::record::{PartKind, parse};

fn open(maker: &ChainMaker) -> MemoryLedger {
    MemoryLedger::open(&maker.namespace, maker.genesis.clone()).unwrap()
}

#[test]
fn it_keeps_the_contract() {
    contract::run_all(&|namespace, genesis| Box::new(MemoryLedger::open(namespace, genesis).unwrap()));
}

#[test]
fn a_crash_drops_what_was_not_synced() {
    let maker = ChainMaker::new("global", 16);
    let ledger = open(&maker);
    maker.extend(&ledger, 5, 2, 100);
    ledger.sync().unwrap();
    let durable = ledger.tips().durable;
    maker.extend(&ledger, 3, 2, 100);
    let report = ledger.crash(None);
    assert_eq!(
        report,
        CrashReport {
            records_lost: 3,
            records_kept: 0,
            torn_bytes: 0
        }
    );
    let tips = ledger.tips();
    assert_eq!((tips.appended, tips.durable, tips.applied), (durable, durable, durable));
    assert_eq!(ledger.state(&key(1_005)).unwrap(), Some(vec![1; 40]));
    maker.extend(&ledger, 1, 2, 100);
}

#[test]
fn torn_tails_keep_a_prefix_and_never_a_damaged_record() {
    let maker = ChainMaker::new("global", 16);
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let ledger = open(&maker);
        maker.extend(&ledger, 2, 1, 100);
        ledger.sync().unwrap();
        maker.extend(&ledger, 3, 1, 100);
        let report = ledger.crash(Some(seed));
        assert_eq!(report.records_lost + report.records_kept, 3);
        assert_eq!(ledger.tips().durable.height, 2 + report.records_kept);
        assert_eq!(
            ledger
                .verify(0, u64::MAX, &mut |_| ControlFlow::Continue(()))
                .unwrap()
                .first_bad,
            None
        );
        lost += report.records_lost;
        kept += report.records_kept;
        torn += u64::from(report.torn_bytes > 0);
    }
    assert!(
        lost > 100 && kept > 100 && torn > 100,
        "{lost} lost, {kept} kept, {torn} torn"
    );
}

#[test]
fn a_failed_sync_is_sticky() {
    let maker = ChainMaker::new("global", 16);
    let ledger = open(&maker);
    maker.extend(&ledger, 1, 1, 100);
    ledger.fail_next_sync();
    let first = ledger.sync().unwrap_err();
    assert!(first.is_sticky());
    assert_eq!(ledger.sync().unwrap_err(), first);
    assert_eq!(ledger.read(0, 0, 1).unwrap_err(), first);
    ledger.crash(None);
    assert_eq!(ledger.tips().durable.height, 0);
    ledger.sync().unwrap();
}

#[test]
fn verification_names_the_first_flipped_record_and_its_part() {
    let maker = ChainMaker::new("global", 16);
    let ledger = open(&maker);
    let records = maker.extend(&ledger, 6, 2, 100);
    ledger.sync().unwrap();
    ledger.apply().unwrap();
    let start = records[3].len() - parse(&records[3]).unwrap().part(PartKind::Local).len();
    ledger.dangerous_flip_bit(4, start * 8);
    ledger.dangerous_flip_bit(5, 3);
    let bad = ledger
        .verify(0, u64::MAX, &mut |_| ControlFlow::Continue(()))
        .unwrap()
        .first_bad
        .unwrap();
    assert_eq!((bad.height, bad.part.as_str()), (4, "local"));
    let bad = ledger
        .verify(5, 6, &mut |_| ControlFlow::Continue(()))
        .unwrap()
        .first_bad
        .unwrap();
    assert_eq!((bad.height, bad.part.as_str()), (5, "header"));
}
