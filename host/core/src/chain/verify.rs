//! Signature checks: which candidate text, if any, the sender signed.
//!
//! Pure and heavy (tens of microseconds): callers run it in parallel with block making.

use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use sha2::{Digest as _, Sha256};
use sm2::dsa::signature::Verifier as _;

use super::canonical::{Candidate, candidates};
use super::hash::{keccak256, transaction_hash};
use super::transaction::Transaction;
use super::{Address, Request, code};
use crate::types::Digest;

/// Identity that SM2 signatures of the platform hash in.
const SM2_ID: &str = "1234567812345678";

/// A signature that is not the sender's. Answered with code -32003.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signature: {message}")]
pub struct Invalid {
    /// JSON-RPC code.
    pub code: i64,
    /// What did not hold.
    pub message: String,
}

impl Invalid {
    fn new(message: impl Into<String>) -> Self {
        Self {
            code: code::SIGNATURE_FAILED,
            message: message.into(),
        }
    }
}

/// The signature taken apart once, tried against each candidate.
enum Parsed {
    Ec(RecoverableSignature),
    Sm2(Box<sm2::dsa::VerifyingKey>, Box<sm2::dsa::Signature>),
    Ed25519(Box<ed25519_dalek::VerifyingKey>, Box<ed25519_dalek::Signature>),
}

/// Checks that `request.from` signed one of the texts that `request` stands for, and makes the transaction it is. `node_version` is
/// the transaction version of this node ("3.0").
pub fn verify(request: &Request, node_version: &str) -> Result<Transaction, Invalid> {
    let parsed = parse(&request.signature, request.from)?;
    let signed = candidates(request, node_version)
        .into_iter()
        .find(|candidate| holds(&parsed, candidate.text.as_bytes(), request.from))
        .ok_or_else(|| {
            Invalid::new(format!(
                "no text of this transaction was signed by {}",
                request.from.to_hex()
            ))
        })?;
    Ok(accepted(request, &signed))
}

fn accepted(request: &Request, signed: &Candidate) -> Transaction {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&request.from.0);
    hasher.update(signed.text.as_bytes());
    let gas = request.gas;
    Transaction {
        hash: transaction_hash(request, signed),
        text: Digest(*hasher.finalize().as_bytes()),
        from: request.from,
        to: request.to,
        kind: request.kind,
        value: request.value,
        payload: request.payload.clone(),
        timestamp: request.timestamp,
        nonce: request.nonce,
        opcode: request.opcode,
        extra: request.extra.clone(),
        extra_ids: signed.extra_ids.clone(),
        version: signed.version.clone(),
        cname: request.cname.clone(),
        gas_price: gas.map_or(0, |g| g.price),
        gas_limit: gas.map_or(0, |g| g.limit),
        expiration: gas.map_or(0, |g| g.expiration),
        signature: request.signature.clone(),
    }
}

/// Takes the signature apart; where it carries a public key, the key must be `from`'s, or anyone could sign for anyone.
fn parse(signature: &[u8], from: Address) -> Result<Parsed, Invalid> {
    let (flag, rest) = signature
        .split_first()
        .ok_or_else(|| Invalid::new("the signature is empty"))?;
    match flag {
        0x00 => {
            let (compact, recovery) = rest
                .split_at_checked(64)
                .filter(|(_, tail)| tail.len() == 1)
                .ok_or_else(|| Invalid::new("a secp256k1 signature has 65 bytes behind its flag"))?;
            if recovery[0] > 3 {
                return Err(Invalid::new("the recovery id is not 0 to 3"));
            }
            let id = RecoveryId::from_u8_masked(recovery[0]);
            RecoverableSignature::from_compact(compact, id)
                .map(Parsed::Ec)
                .map_err(|_| Invalid::new("r or s of the signature is out of range"))
        }
        0x01 => parse_sm2(rest, from),
        0x02 => parse_ed25519(rest, from),
        other => Err(Invalid::new(format!(
            "signature kind {other:02x} is not supported; sign with secp256k1 (00), SM2 (01) or Ed25519 (02)"
        ))),
    }
}

fn parse_sm2(rest: &[u8], from: Address) -> Result<Parsed, Invalid> {
    let (public, der) = rest
        .split_at_checked(65)
        .ok_or_else(|| Invalid::new("an SM2 signature carries a public key of 65 bytes"))?;
    if last_20(&keccak256(public)) != from {
        return Err(Invalid::new("the public key is not the sender's"));
    }
    let key = sm2::dsa::VerifyingKey::from_sec1_bytes(SM2_ID, public)
        .map_err(|_| Invalid::new("the public key is no point of the SM2 curve"))?;
    let signature = sm2::dsa::Signature::from_der(der).map_err(|_| Invalid::new("the SM2 signature is not DER"))?;
    Ok(Parsed::Sm2(Box::new(key), Box::new(signature)))
}

fn parse_ed25519(rest: &[u8], from: Address) -> Result<Parsed, Invalid> {
    let (public, signature) = rest
        .split_first_chunk::<32>()
        .ok_or_else(|| Invalid::new("an Ed25519 signature carries a public key of 32 bytes"))?;
    if last_20(&Sha256::digest(public)) != from {
        return Err(Invalid::new("the public key is not the sender's"));
    }
    let key = ed25519_dalek::VerifyingKey::from_bytes(public)
        .map_err(|_| Invalid::new("the public key is no Ed25519 point"))?;
    let signature = ed25519_dalek::Signature::from_slice(signature)
        .map_err(|_| Invalid::new("an Ed25519 signature has 64 bytes"))?;
    Ok(Parsed::Ed25519(Box::new(key), Box::new(signature)))
}

fn holds(parsed: &Parsed, text: &[u8], from: Address) -> bool {
    match parsed {
        Parsed::Ec(signature) => {
            let message = secp256k1::Message::from_digest(keccak256(text));
            // Recovery takes a high s as it is; clients make them (two fifths of the JavaScript SDK's).
            let Ok(public) = signature.recover_ecdsa(message) else {
                return false;
            };
            last_20(&keccak256(&public.serialize_uncompressed()[1..])) == from
        }
        Parsed::Sm2(key, signature) => key.verify(text, signature).is_ok(),
        Parsed::Ed25519(key, signature) => key.verify_strict(text, signature).is_ok(),
    }
}

fn last_20(hash: &[u8]) -> Address {
    let mut address = [0; 20];
    address.copy_from_slice(&hash[hash.len() - 20..]);
    Address(address)
}
