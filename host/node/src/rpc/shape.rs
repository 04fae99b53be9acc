//! The JSON shapes of blocks, transactions and receipts. Everything in them comes from the record, so two nodes with the same record
//! answer the same bytes.

pub use cvp_core::chain::shape::{LogShape, TransactionShape, bytes, quantity};
use cvp_core::chain::shape::{NO_ADDRESS, PLATFORM_VERSION, bytes_or_zero};
use cvp_core::chain::{Kind, Receipt, Transaction};
use serde::Serialize;

use super::error::RpcError;
use super::view::{Block, Lists};

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
    Ok(found.map(|(transaction, receipt)| TransactionShape::of(&block.place(), index, &transaction, &receipt)))
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

impl ReceiptShape {
    /// The receipt of the transaction at `index` of `block`.
    pub fn of(block: &Block, index: u32, transaction: &Transaction, receipt: &Receipt) -> Self {
        let (place, tx) = (block.place(), &transaction.hash);
        Self {
            version: transaction.version.clone(),
            tx_hash: bytes(&transaction.hash),
            vm_type: receipt.kind.as_str(),
            contract_address: receipt
                .contract
                .map_or_else(|| NO_ADDRESS.to_owned(), |contract| contract.to_hex()),
            contract_name: transaction.cname.clone(),
            ret: bytes_or_zero(&receipt.ret),
            log: (receipt.logs.iter().enumerate())
                .map(|(at, log)| LogShape::of(&place, tx, index, at, log))
                .collect(),
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
