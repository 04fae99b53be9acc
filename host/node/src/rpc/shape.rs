//! The JSON shapes of blocks, transactions and receipts. Everything in them comes from the record, so two nodes with the same record
//! answer the same bytes.

use cvp_core::chain::{Kind, Receipt, Transaction};
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::RpcError;
use super::view::{Block, Lists};

/// Version text of blocks and receipts.
pub const PLATFORM_VERSION: &str = "3.0";
/// Address where a contract's would stand.
const NO_ADDRESS: &str = "0x0000000000000000000000000000000000000000";

/// 0x and minimal hex.
pub fn quantity(value: u64) -> String {
    format!("0x{value:x}")
}

/// 0x and the bytes in hex.
pub fn bytes(value: &[u8]) -> String {
    format!("0x{}", hex::encode(value))
}

/// As [`bytes`], and `0x0` for none: how the platform writes empty payloads and results.
fn bytes_or_zero(value: &[u8]) -> String {
    if value.is_empty() {
        "0x0".to_owned()
    } else {
        bytes(value)
    }
}

/// A block.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockShape {
    version: &'static str,
    number: String,
    hash: String,
    parent_hash: String,
    write_time: u64,
    avg_time: String,
    txcounts: String,
    merkle_root: String,
    tx_root: String,
    author: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    transactions: Option<Vec<TransactionShape>>,
}

impl BlockShape {
    /// `parent` is the public hash of the block below, zeros for genesis; `plain` leaves the transactions out.
    pub fn of(block: &Block, parent: &[u8; 32], plain: bool) -> Result<Self, RpcError> {
        let transactions = if plain { None } else { Some(valid_transactions(block)?) };
        let header = &block.header;
        Ok(Self {
            version: PLATFORM_VERSION,
            number: quantity(header.height),
            hash: bytes(&block.hash),
            parent_hash: bytes(parent),
            write_time: block.local.write_time,
            avg_time: quantity(block.local.average_time_ms),
            txcounts: quantity(u64::from(header.valid)),
            merkle_root: bytes(&header.state.0),
            tx_root: bytes(&header.transactions.0),
            author: header.proposer.to_string(),
            transactions,
        })
    }
}

/// A block's valid transactions in order.
pub fn valid_transactions(block: &Block) -> Result<Vec<TransactionShape>, RpcError> {
    let lists = block.lists()?;
    (0..block.header.valid)
        .map(|index| required(block, &lists, index))
        .collect()
}

/// A block's failed transactions in order.
pub fn invalid_transactions(block: &Block) -> Result<Vec<TransactionShape>, RpcError> {
    let lists = block.lists()?;
    let count = block.header.valid.saturating_add(block.header.invalid);
    (block.header.valid..count)
        .map(|index| required(block, &lists, index))
        .collect()
}

fn required(block: &Block, lists: &Lists<'_>, index: u32) -> Result<TransactionShape, RpcError> {
    transaction(block, lists, index)?
        .ok_or_else(|| RpcError::internal("a record lists fewer transactions than its header says"))
}

/// The transaction at `index` of the record (valid ones first), if there is one.
pub fn transaction(block: &Block, lists: &Lists<'_>, index: u32) -> Result<Option<TransactionShape>, RpcError> {
    let found = lists.get(index)?;
    Ok(found.map(|(transaction, receipt)| TransactionShape::of(block, index, &transaction, &receipt)))
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
    fn of(block: &Block, index: u32, transaction: &Transaction, receipt: &Receipt) -> Self {
        let failed = receipt.code != 0;
        let place = PlaceShape {
            block_number: quantity(block.header.height),
            block_hash: bytes(&block.hash),
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

impl BlockShape {
    /// About how many bytes of JSON it takes.
    pub fn json_bytes(&self) -> usize {
        let transactions = self.transactions.iter().flatten();
        700 + transactions.map(TransactionShape::json_bytes).sum::<usize>()
    }
}

/// A receipt.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptShape {
    version: String,
    tx_hash: String,
    vm_type: &'static str,
    contract_address: String,
    contract_name: String,
    ret: String,
    log: Vec<LogShape>,
    gas_used: u64,
    valid: bool,
    error_msg: String,
}

/// An event in a receipt.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LogShape {
    address: String,
    topics: Vec<String>,
    data: String,
    block_number: u64,
    block_hash: String,
    tx_hash: String,
    tx_index: u32,
    index: usize,
}

impl ReceiptShape {
    /// The receipt of the transaction at `index` of `block`.
    pub fn of(block: &Block, index: u32, transaction: &Transaction, receipt: &Receipt) -> Self {
        let log = |(at, log): (usize, &cvp_core::chain::Log)| LogShape {
            address: log.address.to_hex(),
            topics: log.topics.iter().map(|topic| bytes(topic)).collect(),
            data: hex::encode(&log.data),
            block_number: block.header.height,
            block_hash: bytes(&block.hash),
            tx_hash: bytes(&transaction.hash),
            tx_index: index,
            index: at,
        };
        Self {
            version: transaction.version.clone(),
            tx_hash: bytes(&transaction.hash),
            vm_type: receipt.kind.as_str(),
            contract_address: receipt
                .contract
                .map_or_else(|| NO_ADDRESS.to_owned(), |contract| contract.to_hex()),
            contract_name: transaction.cname.clone(),
            ret: bytes_or_zero(&receipt.ret),
            log: receipt.logs.iter().enumerate().map(log).collect(),
            gas_used: receipt.gas_used,
            valid: receipt.code == 0,
            error_msg: receipt.message.clone(),
        }
    }

    /// The entry of a batch for a transaction that the chain does not have (yet).
    pub fn unknown(hash: &[u8; 32]) -> Self {
        Self {
            version: PLATFORM_VERSION.to_owned(),
            tx_hash: bytes(hash),
            vm_type: Kind::Transfer.as_str(),
            contract_address: NO_ADDRESS.to_owned(),
            contract_name: String::new(),
            ret: bytes_or_zero(&[]),
            log: Vec::new(),
            gas_used: 0,
            valid: false,
            error_msg: format!("Not found receipt by {}", bytes(hash)),
        }
    }
}
