//! `cargo test --release -p cvp-ledger speed -- --ignored --nocapture`: measurements, not checks. `CVP_LEDGER_SPEED_DIR` names the disk.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cvp_core::ledger::contract::ChainMaker;
use cvp_core::ledger::{Ledger, MemoryLedger};
use cvp_core::record::{check_span, namespace_digest};

use super::on;
use crate::{Store, StoreOptions};

fn directory() -> tempfile::TempDir {
    match std::env::var_os("CVP_LEDGER_SPEED_DIR") {
        Some(path) => tempfile::tempdir_in(path),
        None => tempfile::tempdir(),
    }
    .unwrap()
}

/// 1 MiB spans of 64 KiB records (each of `transactions` transactions), made beforehand.
fn spans(maker: &ChainMaker, count: usize, transactions: u32) -> Vec<Bytes> {
    let memory = MemoryLedger::open(&maker.namespace, maker.genesis.clone()).unwrap();
    let bytes = (64 << 10) / transactions as usize;
    (0..count)
        .map(|_| maker.extend(&memory, 16, transactions, bytes).concat().into())
        .collect()
}

#[test]
#[ignore = "a measurement"]
fn speed_of_a_copy() {
    for transactions in [8, 64, 256] {
        let (directory, maker) = (directory(), ChainMaker::new("global", 16));
        let store = Store::open(
            directory.path(),
            &maker.namespace,
            maker.genesis.clone(),
            StoreOptions::default(),
        )
        .unwrap();
        let spans = spans(&maker, 512, transactions);
        let total: usize = spans.iter().map(Bytes::len).sum();
        let namespace = namespace_digest(&maker.namespace);
        let [mut check, mut append, mut sync, mut apply] = [Duration::ZERO; 4];
        let start = Instant::now();
        for (index, bytes) in spans.into_iter().enumerate() {
            let lap = Instant::now();
            let span = check_span(&namespace, store.tips().appended, bytes).unwrap();
            check += lap.elapsed();
            let lap = Instant::now();
            store.append(span).unwrap();
            append += lap.elapsed();
            if index % 8 == 7 {
                let lap = Instant::now();
                store.sync().unwrap();
                sync += lap.elapsed();
                let lap = Instant::now();
                store.apply().unwrap();
                apply += lap.elapsed();
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{transactions:3} transactions a record: {:.0} MB/s on one thread; s: check {:.2} append {:.2} sync {:.2} apply {:.2}",
            total as f64 / 1e6 / seconds,
            check.as_secs_f64(),
            append.as_secs_f64(),
            sync.as_secs_f64(),
            apply.as_secs_f64(),
        );
        let start = Instant::now();
        store.close().unwrap();
        drop(store);
        let closed = start.elapsed();
        let start = Instant::now();
        let store = Store::open(
            directory.path(),
            &maker.namespace,
            maker.genesis.clone(),
            StoreOptions::default(),
        )
        .unwrap();
        let opened = start.elapsed();
        let start = Instant::now();
        assert_eq!(store.verify(0, u64::MAX, &mut on).unwrap().first_bad, None);
        println!(
            "    close {closed:.2?}, open {opened:.2?}, verify {:.2?}",
            start.elapsed()
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_the_live_tail() {
    for bytes in [1 << 10, 64 << 10] {
        let (directory, maker) = (directory(), ChainMaker::new("global", 16));
        let store = Store::open(
            directory.path(),
            &maker.namespace,
            maker.genesis.clone(),
            StoreOptions::default(),
        )
        .unwrap();
        let mut micros: Vec<u128> = (0..2_000)
            .map(|_| {
                let record = maker.record(&store, 1, bytes);
                let span = cvp_core::record::Span::of_own_record(record).unwrap();
                let start = Instant::now();
                store.append(span).unwrap();
                store.sync().unwrap();
                let passed = start.elapsed().as_micros();
                store.apply().unwrap();
                passed
            })
            .collect();
        micros.sort_unstable();
        println!(
            "{bytes} bytes, append and fdatasync: p50 {} us, p99 {} us",
            micros[1_000], micros[1_980]
        );
    }
}
