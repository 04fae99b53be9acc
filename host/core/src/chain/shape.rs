//! The JSON shapes of transactions and of contracts' logs, as JSON-RPC answers them and queues are told them. Everything in them comes from
//! the record, so two nodes with the same record write the same bytes.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Log, Receipt, Transaction};
use crate::record::{Header, Local};

/// Version text of blocks and receipts.
pub const PLATFORM_VERSION: &str = "3.0";
/// Address where a contract's would stand.
pub const NO_ADDRESS: &str = "0x0000000000000000000000000000000000000000";

/// 0x and minimal hex.
pub fn quantity(value: u64) -> String {
    format!("0x{value:x}")
}

/// 0x and the bytes in hex.
pub fn bytes(value: &[u8]) -> String {
    format!("0x{}", hex::encode(value))
}

/// As [`bytes`], and `0x0` for none: how the platform writes empty payloads and results.
pub fn bytes_or_zero(value: &[u8]) -> String {
    if value.is_empty() {
        "0x0".to_owned()
    } else {
        bytes(value)
    }
}

/// The block around a transaction or a log.
#[derive(Clone, Copy, Debug)]
pub struct InBlock<'a> {
    /// Its header.
    pub header: &'a Header,
    /// The maker's measurements.
    pub local: Local,
    /// Its public hash.
    pub hash: &'a [u8; 32],
}

/// A transaction. A failed one has `invalid` and `invalidMsg`, and no place in a block.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionShape {
    version: String,
    hash: String,
    #[serde(flatten)]
    place: Option<PlaceShape>,
    from: String,
    to: String,
    c_name: String,
    amount: String,
    timestamp: u64,
    nonce: u64,
    extra: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_id: Option<Box<RawValue>>,
    execute_time: String,
    payload: String,
    signature: String,
    op: u32,
    vm_type: &'static str,
    gas_price: u64,
    gas_limit: u64,
    expiration_timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    invalid: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invalid_msg: Option<String>,
}

/// Where a valid transaction stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlaceShape {
    block_number: String,
    block_hash: String,
    tx_index: String,
    block_timestamp: u64,
    block_write_time: u64,
}

impl TransactionShape {
    /// The transaction at `index` of the block.
    pub fn of(block: &InBlock<'_>, index: u32, transaction: &Transaction, receipt: &Receipt) -> Self {
        let failed = receipt.code != 0;
        let place = PlaceShape {
            block_number: quantity(block.header.height),
            block_hash: bytes(block.hash),
            tx_index: quantity(u64::from(index)),
            block_timestamp: block.header.time,
            block_write_time: block.local.write_time,
        };
        Self {
            version: transaction.version.clone(),
            hash: bytes(&transaction.hash),
            place: (!failed).then_some(place),
            from: transaction.from.to_hex(),
            to: transaction.to.map_or_else(|| NO_ADDRESS.to_owned(), |to| to.to_hex()),
            c_name: transaction.cname.clone(),
            amount: quantity(transaction.value),
            timestamp: transaction.timestamp,
            nonce: transaction.nonce,
            extra: transaction.extra.clone(),
            // Compact JSON by construction; a text that is none is left out rather than failing the block around it.
            extra_id: RawValue::from_string(transaction.extra_ids.clone()).ok(),
            execute_time: quantity(block.local.average_time_ms),
            payload: bytes_or_zero(&transaction.payload),
            signature: hex::encode(&transaction.signature),
            op: transaction.opcode,
            vm_type: transaction.kind.as_str(),
            gas_price: transaction.gas_price,
            gas_limit: transaction.gas_limit,
            expiration_timestamp: transaction.expiration,
            invalid: failed.then_some(true),
            invalid_msg: failed.then(|| receipt.message.clone()),
        }
    }

    /// About how many bytes of JSON it takes.
    pub fn json_bytes(&self) -> usize {
        // Fixed members take under 900 bytes; a character of `extra` can become six.
        900 + self.payload.len()
            + self.signature.len()
            + 2 * self.extra.len()
            + self.extra_id.as_ref().map_or(0, |ids| ids.get().len())
    }
}

/// An event that a contract logged.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogShape {
    address: String,
    topics: Vec<String>,
    data: String,
    block_number: u64,
    block_hash: String,
    tx_hash: String,
    tx_index: u32,
    index: usize,
}

impl LogShape {
    /// Log number `at` of the transaction at `tx_index`, whose hash is `tx`.
    pub fn of(block: &InBlock<'_>, tx: &[u8; 32], tx_index: u32, at: usize, log: &Log) -> Self {
        Self {
            address: log.address.to_hex(),
            topics: log.topics.iter().map(|topic| bytes(topic)).collect(),
            data: hex::encode(&log.data),
            block_number: block.header.height,
            block_hash: bytes(block.hash),
            tx_hash: bytes(tx),
            tx_index,
            index: at,
        }
    }
}
