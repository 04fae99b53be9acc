//! Signs transactions as the JavaScript SDK does (the form with gas members): what `cvp bench` feeds its producer and process tests send.
//!
//! Knows nothing of the verifier: text and signature are built here from the published rules, so the two check each other.

use ed25519_dalek::Signer as _;
use secp256k1::ecdsa::RecoverableSignature;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sha3::Keccak256;

use super::Kind;
use crate::types::UnixNanos;

/// Identity that SM2 signatures of the platform hash in.
const SM2_ID: &str = "1234567812345678";
/// Time a transaction stays valid, as the SDK sets it: 5 minutes.
const EXPIRES_AFTER_NANOS: u64 = 300 * 1_000_000_000;
const GAS_LIMIT: u64 = 1_000_000_000;

/// A secret that is not a key of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no {0} secret key")]
pub struct BadSecret(&'static str);

enum Key {
    Ec(secp256k1::SecretKey),
    Sm2(Box<sm2::dsa::SigningKey>),
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

/// One account that signs.
pub struct Signer {
    key: Key,
    address: [u8; 20],
}

/// What a transaction says, beside who sends it.
#[derive(Debug, Clone, Default)]
pub struct Transfer<'a> {
    /// Receiver's address.
    pub to: [u8; 20],
    /// Value moved.
    pub value: u64,
    /// Evidence text; may be empty.
    pub extra: &'a str,
    /// When it was made.
    pub timestamp: UnixNanos,
    /// Any number; makes the text unique. At most 2^63-1.
    pub nonce: u64,
}

impl Signer {
    /// A secp256k1 account (signature flag 00).
    pub fn ec(secret: [u8; 32]) -> Result<Self, BadSecret> {
        let key = secp256k1::SecretKey::from_secret_bytes(secret).map_err(|_| BadSecret("secp256k1"))?;
        let public = secp256k1::PublicKey::from_secret_key(&key).serialize_uncompressed();
        Ok(Self {
            key: Key::Ec(key),
            address: last_20(&Keccak256::digest(&public[1..])),
        })
    }

    /// An SM2 account (signature flag 01).
    pub fn sm2(secret: [u8; 32]) -> Result<Self, BadSecret> {
        let key = sm2::dsa::SigningKey::from_slice(SM2_ID, &secret).map_err(|_| BadSecret("SM2"))?;
        let public = key.verifying_key().to_sec1_bytes();
        Ok(Self {
            address: last_20(&Keccak256::digest(&public)),
            key: Key::Sm2(Box::new(key)),
        })
    }

    /// An Ed25519 account (signature flag 02).
    pub fn ed25519(secret: [u8; 32]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(&secret);
        Self {
            address: last_20(&Sha256::digest(key.verifying_key().to_bytes())),
            key: Key::Ed25519(Box::new(key)),
        }
    }

    /// The account's address.
    pub fn address(&self) -> [u8; 20] {
        self.address
    }

    /// The one member of `params` of a signed TRANSFER.
    pub fn transfer(&self, transfer: &Transfer<'_>) -> Value {
        self.transaction(Kind::Transfer, &[], transfer)
    }

    /// As [`Signer::transfer`], of any kind and with a payload: an EVM-typed transfer, a call of a built-in contract.
    pub fn transaction(&self, kind: Kind, payload: &[u8], transfer: &Transfer<'_>) -> Value {
        let expiration = transfer.timestamp + EXPIRES_AFTER_NANOS;
        let from = format!("0x{}", hex::encode(self.address));
        let to = format!("0x{}", hex::encode(transfer.to));
        let payload = if payload.is_empty() {
            "0x0".to_owned()
        } else {
            format!("0x{}", hex::encode(payload))
        };
        let text = format!(
            "from={from}&to={to}&value=0x{:x}&payload={payload}&timestamp=0x{:x}&nonce=0x{:x}&opcode=0&extra={}&vmtype={}&version=3.0\
             &extraid=&cname=&price=0x0&gasLimit=0x{GAS_LIMIT:x}&expirationTimestamp=0x{expiration:x}&initiator=&withholding=",
            transfer.value,
            transfer.timestamp,
            transfer.nonce,
            transfer.extra,
            kind.as_str()
        );
        json!({
            "from": from, "to": to, "timestamp": transfer.timestamp, "nonce": transfer.nonce, "type": kind.as_str(), "opCode": 0,
            "value": transfer.value, "payload": payload, "extra": transfer.extra, "simulate": false,
            "signature": hex::encode(self.sign(text.as_bytes())), "gasPrice": 0, "gasLimit": GAS_LIMIT,
            "expirationTimestamp": expiration, "version": "3.0",
        })
    }

    /// Flag, public key where the kind needs it, signature.
    fn sign(&self, text: &[u8]) -> Vec<u8> {
        match &self.key {
            Key::Ec(key) => {
                let digest: [u8; 32] = Keccak256::digest(text).into();
                let message = secp256k1::Message::from_digest(digest);
                let signature = RecoverableSignature::sign_ecdsa_recoverable(message, key);
                let (recovery, compact) = signature.serialize_compact();
                [&[0][..], &compact, &[recovery.to_u8()]].concat()
            }
            Key::Sm2(key) => {
                let signature: sm2::dsa::Signature = key.sign(text);
                let public = key.verifying_key().to_sec1_bytes();
                [&[1][..], &public, signature.to_der().as_bytes()].concat()
            }
            Key::Ed25519(key) => {
                let public = key.verifying_key().to_bytes();
                [&[2][..], &public, &key.sign(text).to_bytes()].concat()
            }
        }
    }
}

fn last_20(hash: &[u8]) -> [u8; 20] {
    let mut address = [0; 20];
    address.copy_from_slice(&hash[hash.len() - 20..]);
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_published_rules() {
        let secret = |text: &str| -> [u8; 32] { hex::decode(text).unwrap().try_into().unwrap() };
        let ec = Signer::ec(secret(
            "67bf3d9573c76de902349f6001007abd340a7f93d27468b18be2565e8f1e4194",
        ))
        .unwrap();
        assert_eq!(hex::encode(ec.address()), "52ca039c10121c19b785b953c4f1169fcc126ab7");
        let sm2 = Signer::sm2(secret(
            "435150974b4eee33ccf7592b28fc0a8a8458be012ef8879a0a20f2fcb07f49fd",
        ))
        .unwrap();
        assert_eq!(hex::encode(sm2.address()), "42ffde2868edc504ffef4f1b87c652b5e18aba0f");
        let ed = Signer::ed25519(secret(
            "01772ccc20dd0186147e4c495040b0ae749fc52d50194e1365e3a6e65da71912",
        ));
        assert_eq!(hex::encode(ed.address()), "692971aff773149a4d2fa32366a76602b8199b92");
    }
}
