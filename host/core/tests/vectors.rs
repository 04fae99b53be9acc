//! The signed vectors: every well-signed transaction verifies with its text and hash, every badly signed one is found invalid, and what
//! verifies enters a pool only inside its window.

use cvp_core::chain::canonical::candidates;
use cvp_core::chain::request::ExtraId;
use cvp_core::chain::{Kind, Receipt, Request, Transaction, Window, admission, code, keccak256, verify};
use cvp_core::types::Digest;
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

/// The hash that `vector` lists.
fn listed_hash(vector: &Value) -> [u8; 32] {
    let digits = text(vector, "hash").trim_start_matches("0x");
    hex::decode(digits).expect("hex").try_into().expect("32 bytes")
}

/// The digest that finds duplicates, from the listed text: sender ++ text.
fn listed_text(vector: &Value, transaction: &Transaction) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&transaction.from.0);
    hasher.update(text(vector, "canonical").as_bytes());
    Digest(*hasher.finalize().as_bytes())
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
                assert_eq!(hex::encode(transaction.hash), hex::encode(listed_hash(&vector)), "{id}");
                assert_eq!(
                    transaction.text,
                    listed_text(&vector, &transaction),
                    "{id}: another text verified"
                );
                let encoded = transaction.encode();
                assert_eq!(Transaction::decode(&encoded).as_ref(), Ok(&transaction), "{id}");
                assert_eq!(
                    Transaction::index_keys(&encoded),
                    Ok((transaction.hash, transaction.text)),
                    "{id}"
                );
                good += 1;
            }
            (false, "hash-bit") => {
                let transaction = judged.unwrap_or_else(|e| panic!("{id}: {e}"));
                assert_eq!(
                    transaction.text,
                    listed_text(&vector, &transaction),
                    "{id}: another text verified"
                );
                let pairs = transaction.hash.iter().zip(listed_hash(&vector));
                let bits: u32 = pairs.map(|(ours, listed)| (ours ^ listed).count_ones()).sum();
                assert_eq!(bits, 1, "{id}: the listed hash has one bit flipped");
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

/// Members that go into the text as they are must not be able to spell the members behind them: a signed expiry could be hidden in a
/// contract name, and an expired transaction sent again by anyone.
#[test]
fn no_member_swallows_those_behind_it() {
    let vector = vectors().find(|v| v["shape"] == "jssdk").expect("listed");
    let mut params = vector["params"][0].clone();
    let signed = text(&vector, "canonical");
    let tail = &signed[signed.find("&price=").expect("the form with gas members")..];
    let object = params.as_object_mut().expect("an object");
    for member in ["gasPrice", "gasLimit", "expirationTimestamp"] {
        object.remove(member);
    }
    object.insert("cname".into(), tail.into());
    let outcome = Request::from_json(&params).map_err(|e| e.to_string());
    assert!(
        outcome
            .and_then(|r| verify(&r, "3.0").map_err(|e| e.to_string()))
            .is_err(),
        "accepted without its expiry"
    );
    params["cname"] = Value::Null;
    params["version"] = "3.0&extraid=".into();
    assert!(Request::from_json(&params).is_err(), "a version is digits and dots");
}

/// Who asks for a trial run must not move value; the member is not signed, so it is all that tells the two apart.
#[test]
fn a_simulation_is_refused_and_never_run_as_the_real_thing() {
    let vector = vectors().find(|v| v["valid"] == true).expect("listed");
    let mut params = vector["params"][0].clone();
    for (asked, answer) in [
        (Value::from(true), "simulation is not supported yet"),
        ("true".into(), "simulate must be true or false"),
        (1.into(), "simulate must be true or false"),
    ] {
        params["simulate"] = asked;
        let refused = Request::from_json(&params).expect_err("a simulation");
        assert_eq!((refused.code, refused.message.as_str()), (-32602, answer));
    }
    let object = params.as_object_mut().expect("an object");
    object.remove("simulate");
    object.insert("SIMULATE".into(), true.into());
    assert!(Request::from_json(&params).is_err(), "names are matched in any case");
    for none in [Value::Null, false.into()] {
        params["SIMULATE"] = none;
        Request::from_json(&params).expect("no simulation is asked for");
    }
}

/// Only the JavaScript SDK has the defect, and it signs gas members at every version: elsewhere the list must be read as written.
#[test]
fn index_ids_of_other_clients_cannot_be_exchanged() {
    let listed = vectors().filter(|v| v["class"] == "extraid-mixed-defect");
    assert!(listed.count() > 0);
    let vector = vectors().find(|v| v["class"] == "shape-gosdk").expect("listed");
    let mut request = Request::from_json(&vector["params"][0]).expect("it parses");
    let secret = [7; 32];
    let key = secp256k1::SecretKey::from_secret_bytes(secret).expect("a key");
    let signer = cvp_core::chain::sign::Signer::ec(secret).expect("a key");
    request.from = cvp_core::chain::Address(signer.address());
    request.extra_ids = vec![ExtraId::Number(7), ExtraId::Number(7)];
    request.version = Some("3.0".into());
    let middle = candidates(&request, "3.0")
        .into_iter()
        .find(|c| !c.text.contains("&price="))
        .expect("a form");
    let message = secp256k1::Message::from_digest(keccak256(middle.text.as_bytes()));
    let (id, compact) =
        secp256k1::ecdsa::RecoverableSignature::sign_ecdsa_recoverable(message, &key).serialize_compact();
    request.signature = [&[0][..], &compact, &[id.to_u8()]].concat();
    assert!(verify(&request, "3.0").is_ok());
    request.extra_ids[1] = ExtraId::Text("another".into());
    assert!(verify(&request, "3.0").is_err(), "the list was exchanged");
}

#[test]
fn a_vector_is_admitted_in_its_window_only() {
    const SECOND: u64 = 1_000_000_000;
    let window = Window {
        active_nanos: 24 * 3600 * SECOND,
        drift_nanos: 300 * SECOND,
    };
    let refused =
        |t: &Transaction, now: u64| admission(t, now, window).map_err(|e| e.code) == Err(code::INVALID_PARAMS);
    let mut without_expiry = 0;
    for vector in vectors().filter(|v| v["valid"] == true) {
        let id = text(&vector, "id");
        let transaction = verified(&vector).unwrap_or_else(|e| panic!("{id}: {e}"));
        let made = transaction.timestamp;
        assert_eq!(admission(&transaction, made, window), Ok(()), "{id}: at its own time");
        assert_eq!(
            admission(&transaction, made - window.drift_nanos, window),
            Ok(()),
            "{id}: slow clock"
        );
        assert!(
            refused(&transaction, made - window.drift_nanos - 1),
            "{id}: from the future"
        );
        let last = match transaction.expiration {
            // The Go SDK's 0, and clients that know no gas members: only the age counts.
            0 => {
                without_expiry += 1;
                made + window.active_nanos
            }
            expiration => expiration.min(made + window.active_nanos),
        };
        assert_eq!(admission(&transaction, last, window), Ok(()), "{id}: just in time");
        assert!(refused(&transaction, last + 1), "{id}: too late");
    }
    assert!(without_expiry > 6);
}

#[test]
fn what_no_machine_here_runs_is_refused_by_code() {
    let vector = vectors().next().expect("83 vectors");
    let plain = verified(&vector).expect("it is valid");
    let window = Window {
        active_nanos: 0,
        drift_nanos: 0,
    };
    let changed = |change: &dyn Fn(&mut Transaction)| {
        let mut transaction = plain.clone();
        change(&mut transaction);
        admission(&transaction, plain.timestamp, window).map_err(|e| e.code)
    };
    assert_eq!(changed(&|_| ()), Ok(()));
    assert_eq!(changed(&|t| t.kind = Kind::Evm), Ok(()));
    assert_eq!(changed(&|t| t.to = None), Err(code::DEPLOY_FAILED));
    assert_eq!(changed(&|t| t.payload = vec![1]), Err(code::INVOKE_FAILED));
    // By name the receiver reads as 40 zeros: the value must not go there.
    assert_eq!(changed(&|t| t.cname = "bank".into()), Err(code::INVOKE_FAILED));
    for kind in [Kind::Jvm, Kind::Hvm, Kind::Bvm, Kind::KvSql, Kind::Fvm] {
        assert_eq!(changed(&|t| t.kind = kind), Err(code::INVOKE_FAILED), "{kind:?}");
    }
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
    fn no_encoded_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Transaction::decode(&bytes);
        let _ = Transaction::index_keys(&bytes);
        let _ = Receipt::decode(&bytes);
    }

    /// One encoding a transaction: what decodes from changed bytes encodes to those bytes again.
    #[test]
    fn a_changed_encoding_is_refused_or_another_transaction(index in 0usize..71, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let vector = vectors().filter(|v| v["valid"] == true).nth(index).expect("71 valid vectors");
        let mut bytes = verified(&vector).expect("it is valid").encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = Transaction::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }
}

/// `cargo test --release -p cvp-core --test vectors -- --ignored --nocapture`: microseconds of one verification.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_types, clippy::disallowed_methods)] // A measurement needs a clock.
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
