//! The contract suite: what every [`Ledger`] must do. Implementations run it from their tests with a factory.
//!
//! It panics where the contract is broken, as a test does; nothing of a node calls it.

mod archive;

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::record::{Delta, Draft, Local, RECORD_BYTES_MIN, Span, check_span, encode, namespace_digest, parse};
use crate::types::{Digest, Hostname, Incarnation, Namespace, Position};

use super::{Ledger, LedgerError};
pub use archive::copy_snapshot;

/// Opens a ledger that holds the genesis given (an empty store each time).
pub type Factory<'a> = &'a dyn Fn(&Namespace, Bytes) -> Box<dyn Ledger>;

/// A small chain for tests: makes records that follow each other, the same for the same inputs.
pub struct ChainMaker {
    /// The namespace of the chain.
    pub namespace: Namespace,
    /// Encoded record 0.
    pub genesis: Bytes,
    incarnation: Incarnation,
}

impl ChainMaker {
    /// A chain whose genesis gives `accounts` keys a value.
    pub fn new(name: &str, accounts: u32) -> Self {
        let namespace = must(Namespace::new(name));
        let delta = Delta(
            (0..accounts)
                .map(|n| (key(n), Some(n.to_be_bytes().to_vec())))
                .collect(),
        );
        let mut sum = crate::record::Accumulator::new();
        for (key, value) in &delta.0 {
            sum.add(key, value.as_deref().unwrap_or_default());
        }
        let mut draft = empty(
            &namespace,
            Position {
                height: 0,
                hash: Digest::ZERO,
            },
        );
        (draft.height, draft.time, draft.incarnation.number) = (0, 0, 0);
        draft.delta = delta;
        let genesis = must(encode(&draft, sum.digest()));
        Self {
            namespace,
            genesis,
            incarnation: Incarnation { number: 1, id: [7; 16] },
        }
    }

    /// The next block of `ledger`: `transactions` transactions of `bytes` bytes, and a delta that changes, adds and removes keys.
    pub fn draft(&self, ledger: &dyn Ledger, transactions: u32, bytes: usize) -> Draft {
        let below = ledger.tips().appended;
        let height = below.height + 1;
        let mut draft = empty(&self.namespace, below);
        (draft.time, draft.incarnation) = (height * 1_000, self.incarnation);
        (draft.valid, draft.valid_total) = (transactions, u64::from(transactions) * height);
        draft.transactions = (0..transactions).map(|n| transaction(height, n, bytes)).collect();
        draft.receipts = (0..transactions).map(|n| n.to_le_bytes().to_vec()).collect();
        let number = (height % 16) as u32;
        draft.delta.0.insert(key(number), Some(height.to_be_bytes().to_vec()));
        draft.delta.0.insert(key(1_000 + height as u32), Some(vec![1; 40]));
        if height > 1 {
            draft.delta.0.insert(key(1_000 + height as u32 - 1), None);
        }
        draft.local = Local {
            write_time: height * 1_000 + 5,
            average_time_ms: 3,
        };
        draft
    }

    /// Encodes the next block of `ledger` with its right commitment.
    pub fn record(&self, ledger: &dyn Ledger, transactions: u32, bytes: usize) -> Bytes {
        let draft = self.draft(ledger, transactions, bytes);
        must(encode(&draft, must(ledger.commitment_after(&draft.delta))))
    }

    /// Makes and appends `count` blocks, one span each; answers their bytes.
    pub fn extend(&self, ledger: &dyn Ledger, count: usize, transactions: u32, bytes: usize) -> Vec<Bytes> {
        (0..count)
            .map(|_| {
                let record = self.record(ledger, transactions, bytes);
                must(ledger.append(must(Span::of_own_record(record.clone()))));
                record
            })
            .collect()
    }

    /// The records as a span above `below`, checked as a receiver does.
    pub fn span(&self, below: Position, records: &[Bytes]) -> Span {
        must(check_span(
            &namespace_digest(&self.namespace),
            below,
            records.concat().into(),
        ))
    }
}

fn empty(namespace: &Namespace, below: Position) -> Draft {
    Draft {
        namespace: namespace_digest(namespace),
        height: below.height + 1,
        parent: below.hash,
        time: 0,
        incarnation: Incarnation { number: 0, id: [0; 16] },
        proposer: must(Hostname::new("node1")),
        second_root: None,
        valid: 0,
        invalid: 0,
        valid_total: 0,
        invalid_total: 0,
        transactions: Vec::new(),
        receipts: Vec::new(),
        delta: Delta::default(),
        local: Local::default(),
    }
}

/// A state key of test chains.
pub fn key(number: u32) -> Vec<u8> {
    let mut key = b"account ".to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The hash and text digest of a test transaction.
pub fn keys_of(height: u64, index: u32) -> ([u8; 32], Digest) {
    let seed = [height.to_le_bytes(), u64::from(index).to_le_bytes()].concat();
    let hash = Digest::of(&seed);
    (hash.0, Digest::of(&hash.0))
}

fn transaction(height: u64, index: u32, bytes: usize) -> Vec<u8> {
    let (hash, text) = keys_of(height, index);
    let mut out = hash.to_vec();
    out.extend_from_slice(&text.0);
    out.resize(bytes.max(64), index as u8);
    out
}

/// Unwraps in tests; names the error.
fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the contract is broken: {error}"),
    }
}

/// Runs every case.
pub fn run_all(factory: Factory<'_>) {
    positions_grow_one_after_another(factory);
    a_standby_ends_with_the_same_bytes_and_state(factory);
    what_does_not_follow_is_refused(factory);
    a_wrong_state_is_refused_and_leaves_no_trace(factory);
    reads_are_whole_records_of_durable_history(factory);
    indexes_know_appended_transactions(factory);
    verification_passes_on_a_good_chain(factory);
    an_abandoned_verification_stops(factory);
    archive::run_all(factory);
}

fn positions_grow_one_after_another(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let ledger = factory(&maker.namespace, maker.genesis.clone());
    let genesis = ledger.genesis();
    let tips = ledger.tips();
    assert_eq!((tips.appended, tips.durable, tips.applied), (genesis, genesis, genesis));
    assert_eq!(must(ledger.state_applied(&key(3))), Some(3u32.to_be_bytes().to_vec()));
    maker.extend(&*ledger, 3, 2, 100);
    let tips = ledger.tips();
    assert_eq!(
        (tips.appended.height, tips.durable, tips.applied),
        (3, genesis, genesis)
    );
    assert_eq!(must(ledger.state(&key(3))), Some(3u64.to_be_bytes().to_vec()));
    assert_eq!(must(ledger.state_applied(&key(3))), Some(3u32.to_be_bytes().to_vec()));
    assert_eq!(must(ledger.apply()), genesis, "what is not durable is not applied");
    assert_eq!(must(ledger.sync()), tips.appended);
    assert!(must(ledger.record(1)).is_none(), "a record is visible once applied");
    assert_eq!(must(ledger.apply()), tips.appended);
    assert_eq!(must(ledger.state_applied(&key(3))), Some(3u64.to_be_bytes().to_vec()));
    assert_eq!(must(ledger.state_applied(&key(1_002))), None, "removed by block 3");
    assert!(must(ledger.record(3)).is_some() && must(ledger.record(4)).is_none());
    assert_eq!(must(ledger.hash_at(3)), Some(tips.appended.hash));
    assert_eq!(must(ledger.hash_at(4)), None);
}

fn a_standby_ends_with_the_same_bytes_and_state(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let (provider, standby) = (
        factory(&maker.namespace, maker.genesis.clone()),
        factory(&maker.namespace, maker.genesis.clone()),
    );
    maker.extend(&*provider, 40, 3, 200);
    must(provider.sync());
    let mut next = 1;
    while next <= 40 {
        let run = must(provider.read(next, u64::MAX, 4_096));
        let span = must(check_span(
            &namespace_digest(&maker.namespace),
            standby.tips().appended,
            run.bytes,
        ));
        assert_eq!(span.last(), run.last);
        must(standby.append(span));
        next = run.last.height + 1;
    }
    must(standby.sync());
    must(standby.apply());
    must(provider.apply());
    assert_eq!(standby.tips(), provider.tips());
    for height in 0..=40 {
        assert_eq!(
            must(standby.record(height)),
            must(provider.record(height)),
            "height {height}"
        );
    }
    for number in (0..16).chain(1_000..1_042) {
        assert_eq!(
            must(standby.state(&key(number))),
            must(provider.state(&key(number))),
            "key {number}"
        );
    }
}

fn what_does_not_follow_is_refused(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let (ours, other) = (
        factory(&maker.namespace, maker.genesis.clone()),
        factory(&maker.namespace, maker.genesis.clone()),
    );
    let records = maker.extend(&*other, 3, 1, 100);
    let second = maker.span(
        Position {
            height: 1,
            hash: must(parse(&records[0])).hash(),
        },
        &records[1..],
    );
    assert!(matches!(ours.append(second.clone()), Err(LedgerError::Gap { .. })));
    // Another block 1: the chains differ below the span.
    maker.extend(&*ours, 1, 2, 100);
    assert!(matches!(
        ours.append(second),
        Err(LedgerError::Diverged { height: 1, .. })
    ));
    let mut early = maker.draft(&*ours, 1, 100);
    early.time = 999;
    (early.valid_total, early.invalid_total) = (3, 0);
    let early = must(encode(&early, must(ours.commitment_after(&early.delta))));
    assert!(matches!(
        ours.append(must(Span::of_own_record(early))),
        Err(LedgerError::Refused(_))
    ));
    assert_eq!(ours.tips().appended.height, 1);
}

fn a_wrong_state_is_refused_and_leaves_no_trace(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let ledger = factory(&maker.namespace, maker.genesis.clone());
    maker.extend(&*ledger, 2, 1, 100);
    let mut draft = maker.draft(&*ledger, 1, 100);
    let commitment = must(ledger.commitment_after(&draft.delta));
    draft.delta.0.insert(key(5), Some(b"stolen".to_vec()));
    let wrong = must(Span::of_own_record(must(encode(&draft, commitment))));
    let expected = commitment;
    match ledger.append(wrong) {
        Err(LedgerError::StateMismatch {
            height: 3,
            expected: said,
            ..
        }) => assert_eq!(said, expected),
        other => panic!("a wrong state was answered with {other:?}"),
    }
    assert_eq!(must(ledger.state(&key(5))), Some(5u32.to_be_bytes().to_vec()));
    assert_eq!(must(ledger.find_transaction(&keys_of(3, 0).0)), None);
    maker.extend(&*ledger, 1, 1, 100);
    must(ledger.sync());
    must(ledger.apply());
    assert_eq!(ledger.tips().applied.height, 3);
}

fn reads_are_whole_records_of_durable_history(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let ledger = factory(&maker.namespace, maker.genesis.clone());
    let records = maker.extend(&*ledger, 10, 2, 300);
    assert!(matches!(
        ledger.read(1, 9, 1),
        Err(LedgerError::NotFound { height: 1, .. })
    ));
    must(ledger.sync());
    let one = must(ledger.read(4, 9, 1));
    assert_eq!(
        (one.bytes.as_ref(), one.first, one.last.height),
        (records[3].as_ref(), 4, 4)
    );
    let all = must(ledger.read(1, 10, usize::MAX));
    let mut bytes = all.bytes.to_vec();
    let mut height = all.last.height;
    while height < 10 {
        let run = must(ledger.read(height + 1, 10, usize::MAX));
        bytes.extend_from_slice(&run.bytes);
        height = run.last.height;
    }
    assert_eq!(bytes, records.concat());
    assert_eq!(must(ledger.read(0, 0, 0)).bytes, maker.genesis);
    assert_eq!(must(ledger.read(5, 6, usize::MAX)).last.height, 6);
    assert!(matches!(
        ledger.read(11, 20, 1),
        Err(LedgerError::NotFound { height: 11, .. })
    ));
    assert!(records.iter().all(|record| record.len() >= RECORD_BYTES_MIN));
}

fn indexes_know_appended_transactions(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let ledger = factory(&maker.namespace, maker.genesis.clone());
    for stage in 0..3 {
        match stage {
            0 => drop(maker.extend(&*ledger, 5, 4, 100)),
            1 => drop(must(ledger.sync())),
            _ => drop(must(ledger.apply())),
        }
        for height in 1..=5 {
            for index in 0..4 {
                let (hash, text) = keys_of(height, index);
                let place = must(ledger.find_transaction(&hash));
                assert_eq!(
                    place.map(|p| (p.height, p.index)),
                    Some((height, index)),
                    "stage {stage}"
                );
                assert!(must(ledger.knows_text(&text)), "stage {stage}");
            }
        }
        assert_eq!(must(ledger.find_transaction(&[9; 32])), None);
        assert!(!must(ledger.knows_text(&Digest([9; 32]))));
    }
}

fn verification_passes_on_a_good_chain(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let ledger = factory(&maker.namespace, maker.genesis.clone());
    maker.extend(&*ledger, 20, 2, 100);
    must(ledger.sync());
    must(ledger.apply());
    let mut reached = 0;
    let report = must(ledger.verify(0, u64::MAX, &mut |height| {
        reached = height;
        ControlFlow::Continue(())
    }));
    assert_eq!((report.checked, report.first_bad, reached), (21, None, 20));
    assert!(report.state_checked && report.state_chain_checked);
    let report = must(ledger.verify(5, 9, &mut |_| ControlFlow::Continue(())));
    assert_eq!((report.checked, report.first_bad), (5, None));
    assert!(!report.state_checked && !report.state_chain_checked);
}

fn an_abandoned_verification_stops(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let ledger = factory(&maker.namespace, maker.genesis.clone());
    // More than is read at once.
    maker.extend(&*ledger, 12, 1, 1 << 20);
    must(ledger.sync());
    must(ledger.apply());
    let mut reached = Vec::new();
    let abandoned = ledger.verify(0, u64::MAX, &mut |height| {
        reached.push(height);
        ControlFlow::Break(())
    });
    assert_eq!(abandoned, Err(LedgerError::Abandoned));
    assert!(reached.len() == 1 && reached[0] < 12, "went on to {reached:?}");
    assert!(!LedgerError::Abandoned.is_sticky() && ledger.state(&key(1)).is_ok());
}
