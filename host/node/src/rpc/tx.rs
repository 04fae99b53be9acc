//! `tx_get*`: transactions and receipts by hash and place, counts and times. Ranges and pages are in `tx_range`.

use serde::Serialize;

use super::Context;
use super::envelope::{Outcome, json};
use super::error::RpcError;
use super::page::{self, PAGE_ITEMS_MAX, check_scan};
use super::params::{self, Params};
use super::shape::{self, ReceiptShape, TransactionShape, quantity};
use super::view::{Block, ChainView};
use crate::namespace::TX_VERSION;

/// Answers `method` (without its prefix), or None if the family has no such method.
pub fn answer(method: &str, params: &Params, context: &Context) -> Option<Outcome> {
    let view = &context.view();
    Some(match method {
        "getTransactionsVersion" => json(&TX_VERSION),
        "getGasPrice" => json(&0),
        "getTransactionByHash" => by_hash(view, params),
        "getTransactionByBlockHashAndIndex" => block_of_hash(view, params).and_then(|block| by_index(&block, params)),
        "getTransactionByBlockNumberAndIndex" => {
            block_of_number(view, params).and_then(|block| by_index(&block, params))
        }
        "getTransactionReceipt" | "getConfirmedTransactionReceipt" | "getTransactionReceiptWithGas" => {
            hash_of(params).and_then(|hash| json(&receipt(view, &hash)?.0))
        }
        "getTransactionReceiptWithSignature" => receipt_with_signature(view, params),
        "getBatchReceipt" => batch_receipt(view, params),
        "getBatchTransactions" => batch_transactions(view, params),
        "getTransactionsCount" => total(view, false),
        "getInvalidTransactionsCount" => total(view, true),
        "getTransactionsCountByTime" => count_by_time(view, params, false),
        "getInvalidTransactionsCountByTime" => count_by_time(view, params, true),
        "getTxAvgTimeByBlockNumber" => average_time(view, params),
        "getBlockTransactionCountByHash" => block_of_hash(view, params).and_then(|block| count_in(&block)),
        "getBlockTransactionCountByNumber" => block_of_number(view, params).and_then(|block| count_in(&block)),
        "getInvalidTransactionsByBlockHash" => {
            block_of_hash(view, params).and_then(|block| json(&shape::invalid_transactions(&block)?))
        }
        "getInvalidTransactionsByBlockNumber" => {
            block_of_number(view, params).and_then(|block| json(&shape::invalid_transactions(&block)?))
        }
        other => return super::tx_range::answer(other, params, view),
    })
}

fn hash_of(params: &Params) -> Result<[u8; 32], RpcError> {
    params::bytes(params.required(0, "transaction hash")?, "transaction hash")
}

fn block_of_hash(view: &ChainView<'_>, params: &Params) -> Result<Block, RpcError> {
    view.block_by_hash(&params::bytes(params.required(0, "block hash")?, "block hash")?)
}

fn block_of_number(view: &ChainView<'_>, params: &Params) -> Result<Block, RpcError> {
    view.block(params::height(params.required(0, "block number")?, view.latest)?)
}

fn by_hash(view: &ChainView<'_>, params: &Params) -> Outcome {
    json(&transaction(view, &hash_of(params)?)?)
}

fn transaction(view: &ChainView<'_>, hash: &[u8; 32]) -> Result<TransactionShape, RpcError> {
    let missing = || RpcError::not_found(format!("Not found transaction {}", shape::bytes(hash)));
    let (block, index) = view.find(hash)?.ok_or_else(missing)?;
    let lists = block.lists()?;
    shape::transaction(&block, &lists, index)?.ok_or_else(missing)
}

fn by_index(block: &Block, params: &Params) -> Outcome {
    let index = page::index(params::quantity(
        params.required(1, "transaction index")?,
        "transaction index",
    )?)?;
    if index >= block.header.valid {
        return Err(RpcError::params(format!(
            "transaction index {index} is out of range: block {} has {} transactions",
            block.header.height, block.header.valid
        )));
    }
    let lists = block.lists()?;
    let found = shape::transaction(block, &lists, index)?;
    json(&found.ok_or_else(|| RpcError::internal("a record lists fewer transactions than its header says"))?)
}

/// The receipt and its block; a failed transaction answers with its own code.
fn receipt(view: &ChainView<'_>, hash: &[u8; 32]) -> Result<(ReceiptShape, Block), RpcError> {
    let missing = || RpcError::not_found(format!("Not found receipt by {}", shape::bytes(hash)));
    let (block, index) = view.find(hash)?.ok_or_else(missing)?;
    let (transaction, receipt) = block.lists()?.get(index)?.ok_or_else(missing)?;
    if receipt.code != 0 {
        return Err(RpcError::new(receipt.code, receipt.message));
    }
    Ok((ReceiptShape::of(&block, index, &transaction, &receipt), block))
}

#[derive(Serialize)]
struct SignedReceipt {
    hostname: String,
    signature: &'static str,
    result: ReceiptShape,
}

/// `hostname` is the block's maker, so that a standby answers the same; receipts are not signed yet.
fn receipt_with_signature(view: &ChainView<'_>, params: &Params) -> Outcome {
    let (result, block) = receipt(view, &hash_of(params)?)?;
    json(&SignedReceipt {
        hostname: block.header.proposer.to_string(),
        signature: "",
        result,
    })
}

/// One entry a hash asked for: failed and unknown ones with `valid` false and the reason.
fn batch_receipt(view: &ChainView<'_>, params: &Params) -> Outcome {
    let mut receipts = Vec::new();
    for hash in params.fields(0)?.list("hashes", PAGE_ITEMS_MAX as usize)? {
        let hash = params::bytes(hash, "transaction hash")?;
        let found = match view.find(&hash)? {
            None => None,
            Some((block, index)) => {
                let found = block.lists()?.get(index)?;
                found.map(|(transaction, receipt)| ReceiptShape::of(&block, index, &transaction, &receipt))
            }
        };
        receipts.push(found.unwrap_or_else(|| ReceiptShape::unknown(&hash)));
    }
    json(&receipts)
}

fn batch_transactions(view: &ChainView<'_>, params: &Params) -> Outcome {
    let hashes = params.fields(0)?.list("hashes", PAGE_ITEMS_MAX as usize)?;
    let found: Result<Vec<_>, RpcError> = hashes
        .iter()
        .map(|hash| transaction(view, &params::bytes(hash, "transaction hash")?))
        .collect();
    json(&found?)
}

#[derive(Serialize)]
struct Count {
    count: String,
    timestamp: u64,
}

/// `timestamp` is the time of the latest block: when the count became true, the same on every node.
fn total(view: &ChainView<'_>, invalid: bool) -> Outcome {
    let header = view.block(view.latest)?.header;
    let count = if invalid {
        header.invalid_total
    } else {
        header.valid_total
    };
    json(&Count {
        count: quantity(count),
        timestamp: header.time,
    })
}

fn count_by_time(view: &ChainView<'_>, params: &Params, invalid: bool) -> Outcome {
    let fields = params.fields(0)?;
    let found = view.heights_within(fields.quantity("startTime")?, fields.quantity("endTime")?)?;
    let (valid_count, invalid_count) = match found {
        None => (0, 0),
        Some((first, last)) => view.counts(first, last)?,
    };
    json(&quantity(if invalid { invalid_count } else { valid_count }))
}

/// Milliseconds from arrival to writing, on average over the transactions of the range.
fn average_time(view: &ChainView<'_>, params: &Params) -> Outcome {
    let (from, to) = page::range(params.fields(0)?, view.latest)?;
    check_scan(from, to)?;
    let (mut sum, mut count) = (0_u128, 0_u128);
    for height in from..=to {
        let block = view.block(height)?;
        let transactions = u128::from(block.header.valid) + u128::from(block.header.invalid);
        sum += u128::from(block.local.average_time_ms) * transactions;
        count += transactions;
    }
    json(&quantity(u64::try_from(sum / count.max(1)).unwrap_or(u64::MAX)))
}

fn count_in(block: &Block) -> Outcome {
    json(&quantity(u64::from(block.header.valid)))
}
