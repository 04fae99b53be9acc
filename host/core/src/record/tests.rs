//! What every record must withstand: any flipped bit is found, no input panics, the commitment is a sum.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::types::{Digest, Hostname, Incarnation, Namespace, Position};

fn namespace() -> Digest {
    namespace_digest(&Namespace::new("global").unwrap())
}

fn draft(height: u64, parent: Digest, transactions: usize) -> Draft {
    Draft {
        namespace: namespace(),
        height,
        parent,
        time: height * 10,
        incarnation: Incarnation { number: 1, id: [3; 16] },
        proposer: Hostname::new("node1").unwrap(),
        second_root: height.is_multiple_of(2).then_some(Digest([4; 32])),
        valid: transactions as u32,
        invalid: 0,
        valid_total: height * transactions as u64,
        invalid_total: 0,
        transactions: (0..transactions).map(|n| vec![n as u8; 70 + n]).collect(),
        receipts: (0..transactions).map(|n| vec![n as u8; 9]).collect(),
        delta: Delta([(b"a".to_vec(), Some(vec![1; 9])), (b"b".to_vec(), None)].into()),
        local: Local {
            write_time: 77,
            average_time_ms: 5,
        },
    }
}

/// `count` linked records above a made-up parent.
fn chain(count: u64) -> (Position, Vec<Bytes>) {
    let below = Position {
        height: 6,
        hash: Digest([8; 32]),
    };
    let mut parent = below.hash;
    let records = (7..7 + count)
        .map(|height| {
            let bytes = encode(&draft(height, parent, 3), Digest([5; 32])).unwrap();
            parent = parse(&bytes).unwrap().hash();
            bytes
        })
        .collect();
    (below, records)
}

#[test]
fn what_is_encoded_is_parsed() {
    let draft = draft(9, Digest([1; 32]), 3);
    let bytes = encode(&draft, Digest([5; 32])).unwrap();
    let record = parse(&bytes).unwrap();
    assert_eq!(record.len(), bytes.len());
    assert_eq!(record.hash(), record.header().hash());
    assert_eq!(
        record.transactions().unwrap().iter().collect::<Vec<_>>(),
        draft.transactions
    );
    assert_eq!(record.receipts().unwrap().get(2).unwrap(), draft.receipts[2]);
    assert!(record.receipts().unwrap().get(3).is_none());
    assert_eq!(Delta::decode(record.part(PartKind::Delta)).unwrap(), draft.delta);
    assert_eq!(record.local().unwrap(), draft.local);
    assert_eq!(
        (record.header().state, record.header().proposer.as_str()),
        (Digest([5; 32]), "node1")
    );
    let public = public_hash(&record.position());
    assert_eq!(public_height(&public), 9);
    assert_eq!(public[8..], record.hash().0[..24]);
}

#[test]
fn every_flipped_bit_is_found() {
    let (below, records) = chain(3);
    let good = records.concat();
    assert_eq!(check_span(&namespace(), below, good.clone().into()).unwrap().count(), 3);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let found = check_span(&namespace(), below, bad.into()).expect_err("a flipped bit");
        let index = (bit / 8) / records[0].len();
        assert_eq!(found.height, 7 + index.min(2) as u64, "bit {bit}: {found}");
    }
}

#[test]
fn every_cut_is_found() {
    let (below, records) = chain(2);
    let good: Bytes = records.concat().into();
    for length in (0..good.len()).filter(|length| *length != records[0].len()) {
        assert!(
            check_span(&namespace(), below, good.slice(..length)).is_err(),
            "{length} bytes"
        );
    }
}

#[test]
fn links_heights_and_namespace_are_checked() {
    let (below, records) = chain(3);
    let check = |parts: &[&Bytes]| {
        let bytes: Vec<u8> = parts.iter().flat_map(|b| b.iter().copied()).collect();
        check_span(&namespace(), below, bytes.into()).map_err(|bad| (bad.height, bad.part))
    };
    assert!(check(&[&records[0], &records[1]]).is_ok());
    assert_eq!(check(&[&records[0], &records[2]]).unwrap_err(), (8, BadPart::Header));
    assert_eq!(check(&[&records[1]]).unwrap_err(), (7, BadPart::Header));
    let stranger = encode(&draft(8, Digest([9; 32]), 3), Digest([5; 32])).unwrap();
    assert_eq!(check(&[&records[0], &stranger]).unwrap_err(), (8, BadPart::Link));
    let other = namespace_digest(&Namespace::new("ns1").unwrap());
    assert!(check_span(&other, below, records[0].clone()).is_err());
}

#[test]
fn time_totals_and_counts_are_checked() {
    let (below, records) = chain(1);
    let parent = parse(&records[0]).unwrap().hash();
    let next = |change: fn(&mut Draft)| {
        let mut draft = draft(8, parent, 3);
        change(&mut draft);
        let bytes = [records[0].clone(), encode(&draft, Digest::ZERO).unwrap()].concat();
        check_span(&namespace(), below, bytes.into())
    };
    assert!(next(|_| ()).is_ok());
    assert!(next(|d| d.time = 69).is_err());
    assert!(next(|d| d.valid_total += 1).is_err());
    assert!(next(|d| d.incarnation.number = 0).is_err());
    let mut uncounted = draft(8, parent, 3);
    uncounted.valid = 2;
    assert!(encode(&uncounted, Digest::ZERO).is_err());
}

#[test]
fn a_delta_out_of_order_is_refused() {
    let good = Delta([(b"a".to_vec(), None), (b"b".to_vec(), None)].into())
        .encode()
        .unwrap();
    assert!(Delta::decode(&good).is_ok());
    let mut swapped = good.clone();
    (swapped[6], swapped[10]) = (good[10], good[6]);
    assert!(Delta::decode(&swapped).is_err());
    assert!(Delta::decode(&[good, vec![0]].concat()).is_err());
    assert!(Delta([(Vec::new(), None)].into()).encode().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = parse(&bytes);
        let _ = Delta::decode(&bytes);
        let _ = Items::parse(&bytes).map(|items| items.iter().count());
        let _ = check_span(&namespace(), Position { height: 0, hash: Digest::ZERO }, bytes.into());
    }

    #[test]
    fn no_damage_panics(damage in proptest::collection::vec((0usize..4_000, any::<u8>()), 1..20)) {
        let (below, records) = chain(2);
        let mut bytes = records.concat();
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(record) = parse(&bytes) {
            let _ = (record.verify_parts(), record.transactions(), record.local());
            let _ = record.delta().map(|delta| delta.iter().count());
        }
        let whole = bytes == records.concat();
        prop_assert_eq!(check_span(&namespace(), below, bytes.into()).is_ok(), whole);
    }

    #[test]
    fn the_commitment_is_a_sum(values in proptest::collection::btree_map(any::<[u8; 4]>(), any::<[u8; 9]>(), 1..12)) {
        let mut forward = Accumulator::new();
        let mut backward = Accumulator::new();
        for (key, value) in &values {
            forward.add(key, value);
        }
        for (key, value) in values.iter().rev() {
            backward.add(key, b"old");
            backward.replace(key, Some(b"old"), Some(value));
        }
        prop_assert_eq!(forward.digest(), backward.digest());
        prop_assert_eq!(Accumulator::from_bytes(&forward.to_bytes()), forward.clone());
        for (key, value) in &values {
            forward.remove(key, value);
        }
        prop_assert_eq!(forward, Accumulator::new());
    }
}

/// `cargo test --release -p cvp-core check_span_speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a check"]
#[allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a measurement needs the clock"
)]
fn check_span_speed() {
    let mut parent = Digest([8; 32]);
    let mut bytes = Vec::new();
    for height in 7..7 + 16 {
        let mut draft = draft(height, parent, 8);
        draft.transactions = (0..8).map(|n| vec![n as u8; 8_000]).collect();
        let record = encode(&draft, Digest::ZERO).unwrap();
        parent = parse(&record).unwrap().hash();
        bytes.extend_from_slice(&record);
    }
    let bytes = Bytes::from(bytes);
    let below = Position {
        height: 6,
        hash: Digest([8; 32]),
    };
    let (rounds, start) = (2_000, std::time::Instant::now());
    for _ in 0..rounds {
        check_span(&namespace(), below, bytes.clone()).unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(blake3::hash(&bytes));
    }
    let hash_seconds = start.elapsed().as_secs_f64();
    let total = (bytes.len() * rounds) as f64 / 1e6;
    println!(
        "check_span {:.0} MB/s, BLAKE3 of the span {:.0} MB/s",
        total / seconds,
        total / hash_seconds
    );
    let start = std::time::Instant::now();
    let mut sum = Accumulator::new();
    for n in 0..1_000_000u32 {
        sum.add(&n.to_le_bytes(), b"12345678901234567890123456789012");
    }
    println!(
        "{:.0} ns an element, {}",
        start.elapsed().as_nanos() as f64 / 1e6,
        sum.digest().short()
    );
}
