//! The published transaction hash and node hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha3::{Digest as _, Keccak256};

use super::Request;
use super::canonical::{Candidate, version_number};

/// Gas price in every transaction hash, whatever the request says.
const HASH_PRICE: u64 = 10_000;
/// Gas limit in the hash from version 2.0.
const HASH_GAS_LIMIT: u64 = 10_000_000;
/// Gas limit in the hash below version 2.0.
const HASH_GAS_LIMIT_FIRST: u64 = 1_000_000_000;

/// Keccak-256 (the original padding).
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// Hash of a node in a namespace: hex of keccak256(hostname ++ namespace), without 0x.
pub fn node_hash(hostname: &str, namespace: &str) -> String {
    hex::encode(keccak256(format!("{hostname}{namespace}").as_bytes()))
}

/// The hash of `request`, given the text that verified.
pub(super) fn transaction_hash(request: &Request, signed: &Candidate) -> [u8; 32] {
    let version = version_number(&signed.version);
    let limit = if version < (2, 0) {
        HASH_GAS_LIMIT_FIRST
    } else {
        HASH_GAS_LIMIT
    };
    let value = value_message(request, &signed.extra_ids, limit);
    let to = request
        .to
        .map_or_else(|| "null".to_owned(), |to| format!("\"{}\"", BASE64.encode(to.0)));
    let text = format!(
        "[\"{}\",{to},\"{}\",{},{},\"{}\"]",
        BASE64.encode(request.from.0),
        BASE64.encode(value),
        request.timestamp,
        request.nonce,
        BASE64.encode(&request.signature)
    );
    let mut hash = keccak256(text.as_bytes());
    if version >= (2, 5) {
        hash[..8].copy_from_slice(&request.timestamp.to_be_bytes());
    }
    hash
}

/// The protobuf message inside the hash; zero and empty fields are left out, as proto3 does.
fn value_message(request: &Request, extra_ids: &str, gas_limit: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + request.payload.len() + request.extra.len());
    field_number(&mut out, 1, HASH_PRICE);
    field_number(&mut out, 2, gas_limit);
    field_number(&mut out, 3, request.value);
    field_bytes(&mut out, 4, &request.payload);
    field_number(&mut out, 8, u64::from(request.opcode));
    field_bytes(&mut out, 9, request.extra.as_bytes());
    field_bytes(&mut out, 10, extra_ids.as_bytes());
    field_number(&mut out, 11, request.kind as u64);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field_number(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        varint(out, field << 3);
        varint(out, value);
    }
}

fn field_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        varint(out, (field << 3) | 2);
        varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_by_host_and_namespace() {
        assert!(node_hash("node1", "global").starts_with("fa34664e"));
    }
}
