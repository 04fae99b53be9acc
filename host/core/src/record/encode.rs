//! A record is encoded once, by the node that makes the block; from then on its bytes are stored, sent and checked, never re-encoded.

use bytes::Bytes;

use crate::types::{Digest, Height, Hostname, Incarnation, Malformed, UnixNanos, Writer};

use super::Delta;
use super::header::{HASHED_BYTES, Header};
use super::items::{Local, write_items};
use super::parse::{PART_ENTRY_BYTES, PREFIX_BYTES, PartKind, RECORD_BYTES_MAX, RECORD_MAGIC, checksum};

/// What the maker of a block decides; digests and lengths follow from it.
#[derive(Clone, Debug)]
pub struct Draft {
    /// [`super::namespace_digest`] of the namespace.
    pub namespace: Digest,
    /// Height of the block.
    pub height: Height,
    /// Hash of the record below.
    pub parent: Digest,
    /// Time of the block, ns since the Unix epoch; not below the parent's.
    pub time: UnixNanos,
    /// Incarnation of the maker.
    pub incarnation: Incarnation,
    /// Hostname of the maker.
    pub proposer: Hostname,
    /// See [`Header::second_root`].
    pub second_root: Option<Digest>,
    /// Valid transactions in this block.
    pub valid: u32,
    /// Invalid ones; `valid + invalid` is the number of transactions.
    pub invalid: u32,
    /// Chain total of valid transactions, this block included.
    pub valid_total: u64,
    /// Chain total of invalid transactions, this block included.
    pub invalid_total: u64,
    /// Encoded transactions: valid ones first in execution order, then the failed ones.
    pub transactions: Vec<Vec<u8>>,
    /// Encoded receipts, one a transaction, in the same order.
    pub receipts: Vec<Vec<u8>>,
    /// What the block changes in the state.
    pub delta: Delta,
    /// The maker's own measurements, outside the hash.
    pub local: Local,
}

/// Encodes a block as a record. `state` is the commitment after the block. Fails when the record would be larger than
/// [`RECORD_BYTES_MAX`], a state key or value is over its bound, or the counts do not match the lists: the maker's fault each time.
pub fn encode(draft: &Draft, state: Digest) -> Result<Bytes, Malformed> {
    let count = u64::from(draft.valid) + u64::from(draft.invalid);
    if draft.transactions.len() as u64 != count || draft.receipts.len() as u64 != count {
        return Err(Malformed::new(format!(
            "{} transactions, {} receipts, {} valid and {} invalid",
            draft.transactions.len(),
            draft.receipts.len(),
            draft.valid,
            draft.invalid
        )));
    }
    let parts = [
        (PartKind::Transactions, write_items(&draft.transactions)?),
        (PartKind::Receipts, write_items(&draft.receipts)?),
        (PartKind::Delta, draft.delta.encode()?),
        (PartKind::Local, draft.local.encode()),
        (PartKind::Proof, Vec::new()),
    ];
    let digests = parts.each_ref().map(|(_, bytes)| Digest::of(bytes));
    let header = Header {
        namespace: draft.namespace,
        height: draft.height,
        parent: draft.parent,
        time: draft.time,
        incarnation: draft.incarnation,
        proposer: draft.proposer.clone(),
        transactions: digests[0],
        receipts: digests[1],
        delta: digests[2],
        state,
        second_root: draft.second_root,
        valid: draft.valid,
        invalid: draft.invalid,
        valid_total: draft.valid_total,
        invalid_total: draft.invalid_total,
    };
    let header_bytes = PREFIX_BYTES + HASHED_BYTES + parts.len() * PART_ENTRY_BYTES;
    let record_bytes = header_bytes + parts.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    if record_bytes > RECORD_BYTES_MAX {
        return Err(Malformed::new(format!(
            "record of {record_bytes} bytes (at most {RECORD_BYTES_MAX})"
        )));
    }
    let mut hashed = Writer::with_capacity(HASHED_BYTES);
    header.write(&mut hashed);
    let mut table = Writer::with_capacity(parts.len() * PART_ENTRY_BYTES);
    let mut offset = header_bytes;
    for ((kind, bytes), digest) in parts.iter().zip(&digests) {
        table.u16(kind.number());
        table.u16(0);
        table.u32(offset as u32);
        table.u32(bytes.len() as u32);
        table.digest(digest);
        offset += bytes.len();
    }
    let mut out = Writer::with_capacity(record_bytes);
    out.raw(RECORD_MAGIC);
    out.u32(record_bytes as u32);
    out.u16(header_bytes as u16);
    out.u16(parts.len() as u16);
    let sum = checksum(out.as_slice(), &Digest::of(hashed.as_slice()), table.as_slice());
    out.digest(&sum);
    out.raw(hashed.as_slice());
    out.raw(table.as_slice());
    for (_, bytes) in &parts {
        out.raw(bytes);
    }
    Ok(Bytes::from(out.into_bytes()))
}
