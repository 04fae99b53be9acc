//! A verified transaction and its encoding inside a record's transactions part.
//!
//! The encoding begins with hash (32 bytes) and text digest (32 bytes), so that an index is built without decoding the rest; then a
//! version byte and the fields.

use super::request::{
    EXTRA_BYTES_MAX, EXTRA_ID_CHARS_MAX, EXTRA_IDS_MAX, PAYLOAD_BYTES_MAX, SHORT_TEXT_BYTES_MAX, SIGNATURE_BYTES_MAX,
};
use super::{Address, Kind};
use crate::types::{Digest, Malformed, Reader, UnixNanos, Writer};

/// Version byte of the encoding.
const ENCODING: u8 = 1;
/// Longest list of index ids as JSON: every character escaped.
const EXTRA_IDS_BYTES_MAX: usize = EXTRA_IDS_MAX * (EXTRA_ID_CHARS_MAX * 12 + 4);

/// A transaction whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The published transaction hash.
    pub hash: [u8; 32],
    /// BLAKE3 of sender and signed text: the same for every spelling and every signature of one transaction.
    pub text: Digest,
    /// Sender.
    pub from: Address,
    /// Receiver; none for a deployment.
    pub to: Option<Address>,
    /// Kind.
    pub kind: Kind,
    /// Value moved.
    pub value: u64,
    /// Contract code or call.
    pub payload: Vec<u8>,
    /// When the client made it.
    pub timestamp: UnixNanos,
    /// Makes the text unique.
    pub nonce: u64,
    /// Operation on a contract.
    pub opcode: u32,
    /// Evidence text.
    pub extra: String,
    /// Index ids as compact JSON; empty for none.
    pub extra_ids: String,
    /// Transaction version of the text that verified.
    pub version: String,
    /// Contract name.
    pub cname: String,
    /// Gas price, 0 where the client sent none.
    pub gas_price: u64,
    /// Gas limit, 0 where the client sent none.
    pub gas_limit: u64,
    /// Void after this time; 0 for never.
    pub expiration: UnixNanos,
    /// Flag, public key where the kind has one, signature.
    pub signature: Vec<u8>,
}

impl Transaction {
    /// Hash and text digest from the front of an encoded transaction.
    pub fn index_keys(bytes: &[u8]) -> Result<([u8; 32], Digest), Malformed> {
        let mut input = Reader::new(bytes);
        Ok((input.array()?, input.digest()?))
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(256 + self.payload.len() + self.extra.len());
        out.raw(&self.hash);
        out.digest(&self.text);
        out.u8(ENCODING);
        out.raw(&self.from.0);
        out.option(self.to.as_ref(), |w, to| w.raw(&to.0));
        out.u8(self.kind as u8);
        for number in [
            self.value,
            self.timestamp,
            self.nonce,
            self.gas_price,
            self.gas_limit,
            self.expiration,
        ] {
            out.u64(number);
        }
        out.u32(self.opcode);
        out.bytes(&self.payload);
        out.text(&self.extra);
        out.text(&self.extra_ids);
        out.text(&self.version);
        out.text(&self.cname);
        out.bytes(&self.signature);
        out.into_bytes()
    }

    /// Reads the whole of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let (hash, text) = (input.array()?, input.digest()?);
        let encoding = input.u8()?;
        if encoding != ENCODING {
            return Err(Malformed::new(format!("transaction encoding {encoding}")));
        }
        let from = Address(input.array()?);
        let to = input.option(|r| r.array().map(Address))?;
        let number = input.u8()?;
        let kind = Kind::from_number(number).ok_or_else(|| Malformed::new(format!("transaction kind {number}")))?;
        let transaction = Self {
            hash,
            text,
            from,
            to,
            kind,
            value: input.u64()?,
            timestamp: input.u64()?,
            nonce: input.u64()?,
            gas_price: input.u64()?,
            gas_limit: input.u64()?,
            expiration: input.u64()?,
            opcode: input.u32()?,
            payload: input.bytes(PAYLOAD_BYTES_MAX)?.to_vec(),
            extra: input.text(EXTRA_BYTES_MAX)?.to_owned(),
            extra_ids: input.text(EXTRA_IDS_BYTES_MAX)?.to_owned(),
            version: input.text(SHORT_TEXT_BYTES_MAX)?.to_owned(),
            cname: input.text(SHORT_TEXT_BYTES_MAX)?.to_owned(),
            signature: input.bytes(SIGNATURE_BYTES_MAX)?.to_vec(),
        };
        input.finish()?;
        Ok(transaction)
    }
}
