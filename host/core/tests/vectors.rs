//! The signed vectors: every well-signed transaction verifies with its hash, every badly signed one is found invalid.

use cvp_core::chain::{Request, Transaction, verify};
use proptest::prelude::*;
use serde_json::Value;

const VECTORS: &str = include_str!("data/tx-vectors.jsonl");

fn vectors() -> impl Iterator<Item = Value> {
    VECTORS
        .lines()
        .map(|line| serde_json::from_str(line).expect("a vector is JSON"))
}

fn text<'a>(vector: &'a Value, member: &str) -> &'a str {
    vector[member].as_str().unwrap_or_default()
}

fn verified(vector: &Value) -> Result<Transaction, String> {
    let request = Request::from_json(&vector["params"][0]).map_err(|e| e.to_string())?;
    let node_version = vector["node_version"].as_str().unwrap_or("3.0");
    verify(&request, node_version).map_err(|e| e.to_string())
}

#[test]
fn every_vector_is_judged_as_listed() {
    let (mut good, mut bad, mut other_hash) = (0, 0, 0);
    for vector in vectors() {
        let id = text(&vector, "id");
        let judged = verified(&vector);
        match (vector["valid"] == true, text(&vector, "class")) {
            (true, _) => {
                let transaction = judged.unwrap_or_else(|e| panic!("{id}: {e}"));
                assert_eq!(
                    format!("0x{}", hex::encode(transaction.hash)),
                    text(&vector, "hash"),
                    "{id}"
                );
                assert_eq!(
                    Transaction::decode(&transaction.encode()).as_ref(),
                    Ok(&transaction),
                    "{id}"
                );
                assert_eq!(
                    Transaction::index_keys(&transaction.encode()),
                    Ok((transaction.hash, transaction.text))
                );
                good += 1;
            }
            (false, "hash-bit") => {
                let transaction = judged.unwrap_or_else(|e| panic!("{id}: {e}"));
                assert_ne!(
                    format!("0x{}", hex::encode(transaction.hash)),
                    text(&vector, "hash"),
                    "{id}"
                );
                other_hash += 1;
            }
            (false, _) => {
                assert!(
                    judged.is_err_and(|e| e.contains("invalid signature")),
                    "{id} was accepted"
                );
                bad += 1;
            }
        }
    }
    assert_eq!((good, bad, other_hash), (71, 9, 3));
}

#[test]
fn the_other_root_of_a_signature_is_the_same_transaction() {
    let mut seen = 0;
    for vector in vectors().filter(|v| v["valid"] == true && v["algo"] == "EC") {
        let mut request = Request::from_json(&vector["params"][0]).expect("it parses");
        let first = verify(&request, "3.0").expect("it is valid");
        // (r, n - s) with the other recovery id verifies as well; anyone can make it without the key.
        let s: [u8; 32] = request.signature[33..65].try_into().expect("32 bytes");
        let other = secp256k1::SecretKey::from_secret_bytes(s)
            .expect("s is a scalar")
            .negate();
        request.signature[33..65].copy_from_slice(&other.to_secret_bytes());
        request.signature[65] ^= 1;
        let second = verify(&request, "3.0").expect("the other root is valid");
        assert_eq!(first.text, second.text, "the duplicate check must see one transaction");
        assert_ne!(first.hash, second.hash);
        seen += 1;
    }
    assert!(seen > 10);
}

/// JSON of any shape, most of it with member names that mean something.
fn any_params() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[0-9a-fA-Fx]{0,80}".prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        prop::collection::vec(any::<i64>().prop_map(Value::from), 0..4).prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "from",
        "To",
        "VALUE",
        "payload",
        "timestamp",
        "nonce",
        "type",
        "opCode",
        "extra",
        "extraIdInt64",
        "extraIdString",
        "signature",
        "gasPrice",
        "expirationTimestamp",
        "version",
        "txVersion",
        "participant",
        "cName",
    ]);
    prop::collection::vec((names, scalar), 0..18)
        .prop_map(|members| Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()))
}

proptest! {
    #[test]
    fn no_parameters_panic(params in any_params()) {
        if let Ok(request) = Request::from_json(&params) {
            let _ = verify(&request, "3.0");
        }
    }

    #[test]
    fn any_signature_bytes_are_judged(index in 0usize..71, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let vector = vectors().nth(index).expect("83 vectors");
        let mut request = Request::from_json(&vector["params"][0]).expect("a vector parses");
        let kept = request.signature == bytes;
        request.signature = bytes;
        prop_assert_eq!(verify(&request, "3.0").is_ok() && !kept, false);
    }

    #[test]
    fn no_encoded_transaction_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Transaction::decode(&bytes);
        let _ = Transaction::index_keys(&bytes);
    }
}

/// `cargo test --release -p cvp-core --test vectors -- --ignored --nocapture`: microseconds of one verification.
#[test]
#[ignore = "a measurement"]
fn time_of_a_verification() {
    for algo in ["EC", "SM2", "ED25519"] {
        let vector = vectors()
            .find(|v| text(v, "algo") == algo)
            .expect("each kind is listed");
        let request = Request::from_json(&vector["params"][0]).expect("it parses");
        let began = std::time::Instant::now();
        for _ in 0..1_000 {
            verify(&request, "3.0").expect("it is valid");
        }
        println!("{algo}: {} us", began.elapsed().as_micros() as f64 / 1_000.0);
    }
}
