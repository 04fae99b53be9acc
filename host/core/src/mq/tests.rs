//! What queues rest on: a refused call changes nothing, every format bears any bytes, events are the same everywhere, no height is skipped.

mod changes;
mod places;

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::chain::{Address, Kind, Log, Receipt, Transaction};
use crate::record::{Delta, Draft, Local, encode, namespace_digest, parse};
use crate::types::{Digest, Height, Hostname, Incarnation, Namespace};

fn registration(more: Value) -> Result<Registration, Refused> {
    let mut object = json!({"queueName": "q1", "routingKeys": ["MQBlock"]});
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    Registration::from_json(&object)
}

fn registry() -> Registry {
    let (namespace, host) = (Namespace::new("global").unwrap(), Hostname::new("node1").unwrap());
    Registry::new(exchanger_name(&namespace, &host, 1_530_265_355_500_005_853))
}

fn queue(more: Value) -> Queue {
    registry()
        .register(registration(more).unwrap(), (0, 0))
        .unwrap()
        .clone()
}

fn transaction(n: u8) -> Transaction {
    Transaction {
        hash: [n; 32],
        text: Digest([n; 32]),
        from: Address([1; 20]),
        to: Some(Address([2; 20])),
        kind: Kind::Transfer,
        value: 7,
        payload: Vec::new(),
        timestamp: 5,
        nonce: 6,
        opcode: 0,
        extra: String::new(),
        extra_ids: String::new(),
        version: "3.0".into(),
        cname: String::new(),
        gas_price: 0,
        gas_limit: 0,
        expiration: 0,
        signature: vec![0; 65],
    }
}

/// A block of `logs.len()` transactions, each with one log.
fn block(height: Height, logs: Vec<Log>) -> Bytes {
    let count = logs.len();
    let receipt = |log: Log| Receipt {
        logs: vec![log],
        ..Receipt::success(Kind::Transfer)
    };
    let draft = Draft {
        namespace: namespace_digest(&Namespace::new("global").unwrap()),
        height,
        parent: Digest([8; 32]),
        time: 10,
        incarnation: Incarnation { number: 1, id: [3; 16] },
        proposer: Hostname::new("node1").unwrap(),
        second_root: None,
        valid: count as u32,
        invalid: 0,
        valid_total: count as u64,
        invalid_total: 0,
        transactions: (0..count).map(|n| transaction(n as u8).encode()).collect(),
        receipts: logs.into_iter().map(|log| receipt(log).encode()).collect(),
        delta: Delta::default(),
        local: Local {
            write_time: 1_600_000_000_000_000_077,
            average_time_ms: 5,
        },
    };
    encode(&draft, Digest([5; 32])).unwrap()
}

fn log(address: u8, topics: &[u8]) -> Log {
    Log {
        address: Address([address; 20]),
        topics: topics.iter().map(|topic| [*topic; 32]).collect(),
        data: vec![0xab],
    }
}

fn told(record: &Bytes, queue: &Queue, notice: Option<Notice>) -> Vec<(RoutingKey, String, Value)> {
    let events = events_of(&parse(record).unwrap(), queue, notice).unwrap();
    let event = |event: Event| {
        (
            event.key,
            event.after.to_string(),
            serde_json::from_str(&event.message).unwrap(),
        )
    };
    events.into_iter().map(event).collect()
}

fn hex_of(byte: u8, bytes: usize) -> String {
    format!("0x{}", hex::encode(vec![byte; bytes]))
}

#[test]
fn the_exchange_is_named_after_namespace_node_and_time() {
    assert_eq!(registry().exchanger(), "global_fa34664e_1530265355500005853");
}

#[test]
fn a_registration_is_read_as_any_client_spells_it() {
    let read = Registration::from_json(&json!({
        "queuename": "orders", "routingkeys": ["MQLog", "MQBlock"], "from": "0xabc", "signature": "x", "isverbose": true,
        "fromBlock": "0x10", "toBlock": "20", "addresses": [hex_of(1, 20)], "topics": [hex_of(2, 32), null, [hex_of(3, 32), hex_of(4, 32)]],
        "delay": "true",
    }))
    .unwrap();
    assert_eq!((read.queue.as_str(), read.from.as_str()), ("orders", "0xabc"));
    assert_eq!(read.keys, BTreeSet::from([RoutingKey::Block, RoutingKey::Log]));
    assert_eq!((read.from_block, read.to_block), (Some(16), Some(20)));
    assert!(read.verbose && read.delay);
    assert_eq!(read.filter.addresses, BTreeSet::from([Address([1; 20])]));
    assert_eq!(
        read.filter.topics.iter().map(BTreeSet::len).collect::<Vec<_>>(),
        [1, 0, 2]
    );
    let empty = registration(json!({"fromBlock": "", "toBlock": "latest", "addresses": [], "topics": null})).unwrap();
    assert_eq!(
        (empty.from_block, empty.to_block, empty.filter),
        (None, None, Filter::default())
    );
}

#[test]
fn a_bad_registration_is_refused_with_its_code_and_named() {
    let many = vec![hex_of(1, 20); 300];
    for (more, word) in [
        (json!({"routingKeys": ["MQNonsense"]}), "MQNonsense"),
        (json!({"routingKeys": []}), "at least one"),
        (json!({"routingKeys": "MQBlock"}), "list"),
        (json!({"routingKeys": ["SignedMQBlock"]}), "certificate"),
        (json!({"routingKeys": ["MQFileInfo"]}), "makes no such events"),
        (json!({"queueName": "n".repeat(1 << 20)}), "1048576 bytes"),
        (json!({"queueName": ""}), "queueName"),
        (json!({"queueName": 7}), "queueName"),
        (json!({"queueName": "a/b"}), "queueName"),
        (json!({"queueName": "amq.x"}), "reserve"),
        (json!({"queueName": "MQBlock"}), "is a routing key"),
        (json!({"queueName": "SignedMQLog"}), "is a routing key"),
        (json!({"queueName": ".."}), "begin"),
        (json!({"from": "f".repeat(1 << 20)}), "from"),
        (json!({"fromBlock": "-1"}), "fromBlock"),
        (json!({"fromBlock": 1.5}), "fromBlock"),
        (json!({"fromBlock": u64::MAX}), "fromBlock"),
        (json!({"toBlock": {}}), "toBlock"),
        (json!({"fromBlock": 9, "toBlock": 8}), "above"),
        (json!({"addresses": ["0x12"]}), "address"),
        (json!({"addresses": many}), "300 entries"),
        (json!({"topics": [[], [], [], [], []]}), "5 entries"),
        (json!({"topics": [vec![hex_of(1, 32); 65]]}), "65 entries"),
        (json!({"topics": [7]}), "list"),
        (json!({"delay": 3}), "delay"),
    ] {
        let refused = registration(more.clone()).unwrap_err();
        assert_eq!(refused.code, code::INVALID_PARAMS, "{more}");
        assert!(
            refused.message.contains(word) && refused.message.len() < 400,
            "{refused}"
        );
    }
    assert!(Registration::from_json(&json!([])).is_err());
}

#[test]
fn a_refused_change_leaves_the_registry_as_it_was() {
    let mut registry = registry();
    let exchanger = registry.exchanger().to_owned();
    assert_eq!(
        registry
            .register(registration(json!({})).unwrap(), (0, 41))
            .unwrap()
            .first,
        42
    );
    let before = registry.clone();
    let codes = [
        registry
            .register(registration(json!({})).unwrap(), (0, 41))
            .unwrap_err()
            .code,
        registry
            .register(
                registration(json!({"queueName": "q2", "toBlock": 41})).unwrap(),
                (0, 41),
            )
            .unwrap_err()
            .code,
        registry.unregister("q1", "global_fa34664e_1").unwrap_err().code,
        registry.unregister("q9", &exchanger).unwrap_err().code,
        registry.delete_exchanger("other", "x".into()).unwrap_err().code,
        registry.delete_exchanger(&exchanger, "x".into()).unwrap_err().code,
    ];
    assert_eq!(codes, [-32007, -32602, -32602, -32001, -32602, -32602]);
    assert_eq!(registry, before);
    let first = registry.unregister("q1", &exchanger).unwrap();
    let again = registry
        .register(registration(json!({"fromBlock": 3})).unwrap(), (0, 41))
        .unwrap();
    assert!(again.number > first.number && again.first == 3);
}

#[test]
fn a_namespace_takes_so_many_queues_and_so_many_bytes() {
    let fill = |more: Value| {
        let mut registry = registry();
        let refused = (0..).find_map(|n| {
            let mut more = more.clone();
            more["queueName"] = json!(format!("q{n}"));
            registry.register(registration(more).unwrap(), (0, 0)).err()
        });
        assert_eq!(refused.unwrap().code, code::INVALID_PARAMS);
        let bytes = registry.encode();
        assert!(bytes.len() <= REGISTRY_BYTES_MAX);
        assert_eq!(Registry::decode(&bytes).unwrap(), registry);
        registry.queues().len()
    };
    assert_eq!(fill(json!({})), QUEUES_MAX);
    let topics: Vec<Vec<String>> = (0..4u8)
        .map(|at| (0..64).map(|n| hex_of(at * 64 + n, 32)).collect())
        .collect();
    assert!(fill(json!({"topics": topics})) < QUEUES_MAX);
}

#[test]
fn a_block_is_told_in_the_platforms_shape() {
    let record = block(9, vec![log(1, &[7])]);
    let events = told(&record, &queue(json!({})), None);
    let hash = hex_of_hash(&record);
    assert_eq!(events.len(), 1);
    let (key, id, message) = &events[0];
    assert_eq!((*key, id.as_str()), (RoutingKey::Block, "9"));
    assert_eq!(message["type"], "MQBlock");
    assert_eq!(message["timestamp"], json!(1_600_000_000_000_000_077_u64));
    let body = &message["body"];
    assert_eq!(
        (&body["type"], &body["name"], &body["number"]),
        (&json!("MQBlock"), &json!("BlockInfo"), &json!("9"))
    );
    assert_eq!(
        (&body["hash"], &body["avgTime"], &body["txcounts"]),
        (&json!(hash), &json!(5), &json!(1))
    );
    assert_eq!(body["txs"], json!([]));
    let verbose = told(&record, &queue(json!({"isVerbose": true})), None);
    assert_eq!(verbose[0].2["body"]["txs"][0]["blockNumber"], "0x9");
    assert_eq!(verbose[0].2["body"]["txs"][0]["hash"], json!(hex_of(0, 32)));
}

fn hex_of_hash(record: &Bytes) -> String {
    let position = parse(record).unwrap().position();
    format!("0x{}", hex::encode(crate::record::public_hash(&position)))
}

#[test]
fn logs_are_told_by_contract_and_topics() {
    let record = block(9, vec![log(1, &[7, 8]), log(2, &[7]), log(1, &[9, 8])]);
    let indexes = |filter: Value| {
        let mut more = filter;
        more["routingKeys"] = json!(["MQLog"]);
        let events = told(&record, &queue(more), None);
        let logs = events.first().map(|(_, _, message)| message["body"]["logs"].clone());
        let logs = logs.unwrap_or(json!([]));
        let index = |log: &Value| log["txIndex"].as_u64().unwrap();
        logs.as_array().unwrap().iter().map(index).collect::<Vec<_>>()
    };
    let (seven, eight, nine) = (hex_of(7, 32), hex_of(8, 32), hex_of(9, 32));
    assert_eq!(indexes(json!({})), [0, 1, 2]);
    assert_eq!(indexes(json!({"addresses": [hex_of(1, 20)]})), [0, 2]);
    assert_eq!(indexes(json!({"topics": [seven]})), [0, 1]);
    assert_eq!(indexes(json!({"topics": [null, eight]})), [0, 2]);
    assert_eq!(indexes(json!({"topics": [[seven, nine], [eight]]})), [0, 2]);
    assert_eq!(
        indexes(json!({"addresses": [hex_of(2, 20)], "topics": [nine]})),
        [0_u64; 0]
    );
    let whole = told(&record, &queue(json!({"routingKeys": ["MQLog"]})), None);
    let first = &whole[0].2["body"]["logs"][0];
    assert_eq!(
        (&first["blockNumber"], &first["data"], &first["index"]),
        (&json!(9), &json!("ab"), &json!(0))
    );
}

#[test]
fn a_registration_from_below_the_first_block_is_refused_with_the_first_there_is() {
    let mut registry = registry();
    let refused = registry
        .register(registration(json!({"fromBlock": 60})).unwrap(), (61, 70))
        .unwrap_err();
    assert!(
        refused.code == code::INVALID_PARAMS && refused.message.contains("61, the first block"),
        "{refused}"
    );
    assert_eq!(
        registry
            .register(registration(json!({"fromBlock": 61})).unwrap(), (61, 70))
            .unwrap()
            .first,
        61
    );
}

/// What one block gives in the properties below: none, one or two events, by height.
fn events_at(height: Height) -> Vec<Event> {
    let count = (height % 3) as usize;
    (0..count)
        .map(|index| Event {
            key: RoutingKey::Block,
            after: Cursor::after(height, index, count),
            message: format!("{height}.{index}"),
        })
        .collect()
}

proptest! {
    #[test]
    fn no_bytes_make_a_format_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), flips in any::<u64>()) {
        let _ = (Registry::decode(&bytes), Cursors::decode(&bytes));
        let mut registry = registry();
        registry.register(registration(json!({"topics": [hex_of(1, 32)]})).unwrap(), (0, 3)).unwrap();
        let mut encoded = registry.encode();
        let at = (flips as usize / 8) % encoded.len();
        encoded[at] ^= 1 << (flips % 8);
        if let Ok(read) = Registry::decode(&encoded) {
            prop_assert_eq!(read.encode(), encoded);
        }
    }

    #[test]
    fn cursors_are_read_back(at in proptest::collection::btree_map(any::<u64>(), (any::<u64>(), 0..4_u32, 0..3_u8), 0..20), known: bool) {
        let place = |(next, done, announced): (u64, u32, u8)| match (done, announced) {
            (0, 1) => Cursor::behind(Announced::Missing, next),
            (0, 2) => Cursor::behind(Announced::Anew, next),
            _ => Cursor::inside(next, done),
        };
        let cursors = Cursors {
            incarnation: known.then_some(Incarnation { number: 2, id: [7; 16] }),
            notices: at.iter().map(|(number, (next, ..))| (*number, next.wrapping_add(1))).collect(),
            at: at.into_iter().map(|(number, at)| (number, place(at))).collect(),
        };
        prop_assert_eq!(Cursors::decode(&cursors.encode()).unwrap(), cursors);
    }

    /// Whatever fails when, a consumer sees every event, in order, and what comes twice was never confirmed; at most one window is out.
    #[test]
    fn every_event_is_told_in_order_at_least_once(
        steps in proptest::collection::vec((0..4_u8, 0..8_u64), 1..400), first in 0..5_u64, inside: bool,
    ) {
        let mut delivery = Delivery::new(Cursor::inside(first, u32::from(inside && first % 3 == 2)), Some(900));
        let (mut gate, mut told) = (0, Vec::<Event>::new());
        let begin = delivery.cursor();
        for (step, by) in steps {
            match step {
                0 => gate += by,
                1 => for _ in 0..by {
                    if let Some(height) = delivery.wants(gate) {
                        prop_assert!(height <= gate);
                        delivery.loaded(height, events_at(height));
                    }
                },
                2 => {
                    let window = delivery.publish().to_vec();
                    for event in window {
                        let repeats = told.iter().position(|earlier| earlier.after == event.after);
                        if let Some(at) = repeats {
                            // A repetition begins at the cursor and follows the same order.
                            prop_assert!(event.after > delivery.cursor());
                            told.truncate(at);
                        }
                        prop_assert!(told.last().is_none_or(|last| last.after < event.after));
                        told.push(event);
                    }
                }
                _ if by < 5 => delivery.confirmed(),
                _ => delivery.failed(),
            }
            let confirmed = delivery.cursor();
            let expected: Vec<Event> = (0..confirmed.next + 1).flat_map(events_at)
                .filter(|event| event.after > begin && event.after <= confirmed).collect();
            let seen: Vec<Event> = told.iter().filter(|event| event.after <= confirmed).cloned().collect();
            prop_assert_eq!(seen, expected);
            prop_assert!(confirmed >= begin);
        }
    }
}
