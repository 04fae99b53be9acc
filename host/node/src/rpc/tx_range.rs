//! `tx_get*` over many blocks: ranges, times, pages around a transaction, counts by contract. Each walk is bounded.

use cvp_core::types::Height;
use serde::Serialize;

use super::envelope::{Outcome, json};
use super::error::RpcError;
use super::page::{self, Filling, PAGE_ITEMS_MAX, Wanted, check_scan};
use super::params::{self, Fields, Params};
use super::shape::{self, TransactionShape, quantity};
use super::view::{Block, ChainView, Lists};

/// Which of a block's transactions a walk visits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Valid,
    Invalid,
}

/// Answers `method` (without its prefix), or None if there is no such method.
pub fn answer(method: &str, params: &Params, view: &ChainView<'_>) -> Option<Outcome> {
    Some(match method {
        "getTransactions" => whole_range(view, params, Which::Valid),
        "getTransactionsByTime" => whole_time(view, params, Which::Valid),
        "getDiscardTransactions" => whole_chain_invalid(view),
        "getDiscardTransactionsByTime" => whole_time(view, params, Which::Invalid),
        "getTransactionsWithLimit" => with_limit(view, params, Which::Valid),
        "getInvalidTransactionsWithLimit" => with_limit(view, params, Which::Invalid),
        "getTransactionsByTimeWithLimit" => time_with_limit(view, params, Which::Valid),
        "getInvalidTransactionsByTimeWithLimit" => time_with_limit(view, params, Which::Invalid),
        "getNextPageTransactions" => around(view, params, Which::Valid, true),
        "getPrevPageTransactions" => around(view, params, Which::Valid, false),
        "getNextPageInvalidTransactions" => around(view, params, Which::Invalid, true),
        "getPrevPageInvalidTransactions" => around(view, params, Which::Invalid, false),
        "getTransactionsCountByContractAddr" => count_by_contract(view, params, "address"),
        "getTransactionsCountByContractName" => count_by_contract(view, params, "cname"),
        _ => return None,
    })
}

fn indexes(block: &Block, which: Which) -> std::ops::Range<u32> {
    let valid = block.header.valid;
    match which {
        Which::Valid => 0..valid,
        Which::Invalid => valid..valid.saturating_add(block.header.invalid),
    }
}

/// Visits the transactions of `from..=to` in one direction until `visit` says stop (false). Blocks without a match cost their header.
fn walk(
    view: &ChainView<'_>,
    (from, to): (Height, Height),
    which: Which,
    oldest_first: bool,
    visit: &mut dyn FnMut(&Block, &Lists<'_>, u32) -> Result<bool, RpcError>,
) -> Result<(), RpcError> {
    for height in page::heights(from, to, oldest_first) {
        let block = view.block(height)?;
        let range = indexes(&block, which);
        if range.is_empty() {
            continue;
        }
        let lists = block.lists()?;
        let ordered: Box<dyn Iterator<Item = u32>> = if oldest_first {
            Box::new(range)
        } else {
            Box::new(range.rev())
        };
        for index in ordered {
            if !visit(&block, &lists, index)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn push(
    filling: &mut Filling<TransactionShape>,
    block: &Block,
    lists: &Lists<'_>,
    index: u32,
) -> Result<bool, RpcError> {
    let Some(shape) = shape::transaction(block, lists, index)? else {
        return Ok(true);
    };
    let bytes = shape.json_bytes();
    Ok(filling.push(shape, bytes))
}

fn whole(view: &ChainView<'_>, range: (Height, Height), which: Which) -> Outcome {
    check_scan(range.0, range.1)?;
    let mut filling = Filling::new(PAGE_ITEMS_MAX as usize);
    walk(view, range, which, true, &mut |block, lists, index| {
        push(&mut filling, block, lists, index)
    })?;
    json(&filling.whole("tx_getTransactionsWithLimit")?)
}

fn whole_range(view: &ChainView<'_>, params: &Params, which: Which) -> Outcome {
    whole(view, page::range(params.fields(0)?, view.latest)?, which)
}

fn times(view: &ChainView<'_>, fields: Fields<'_>) -> Result<Option<(Height, Height)>, RpcError> {
    view.heights_within(fields.quantity("startTime")?, fields.quantity("endTime")?)
}

fn whole_time(view: &ChainView<'_>, params: &Params, which: Which) -> Outcome {
    match times(view, params.fields(0)?)? {
        None => json(&[(); 0]),
        Some(range) => whole(view, range, which),
    }
}

fn whole_chain_invalid(view: &ChainView<'_>) -> Outcome {
    if view.block(view.latest)?.header.invalid_total == 0 {
        return Err(RpcError::not_found("Not found discard transactions "));
    }
    whole(view, (view.first, view.latest), Which::Invalid)
}

fn with_limit(view: &ChainView<'_>, params: &Params, which: Which) -> Outcome {
    let fields = params.fields(0)?;
    let range = page::range(fields, view.latest)?;
    limited(view, range, fields, which)
}

fn time_with_limit(view: &ChainView<'_>, params: &Params, which: Which) -> Outcome {
    let fields = params.fields(0)?;
    match times(view, fields)? {
        None => json(&Filling::<TransactionShape>::new(0).finish()),
        Some(range) => limited(view, range, fields, which),
    }
}

fn limited(view: &ChainView<'_>, range: (Height, Height), fields: Fields<'_>, which: Which) -> Outcome {
    let wanted = Wanted::read(fields)?;
    let (from, to) = match wanted.bookmark {
        None => range,
        Some((height, _)) if wanted.oldest_first => (range.0.max(height), range.1),
        Some((height, _)) => (range.0, range.1.min(height)),
    };
    let mut filling = Filling::new(wanted.size);
    if from <= to {
        check_scan(from, to)?;
        walk(
            view,
            (from, to),
            which,
            wanted.oldest_first,
            &mut |block, lists, index| {
                let at = (block.header.height, index);
                let passed = wanted
                    .bookmark
                    .is_some_and(|mark| if wanted.oldest_first { at <= mark } else { at >= mark });
                if passed {
                    Ok(true)
                } else {
                    push(&mut filling, block, lists, index)
                }
            },
        )?;
    }
    json(&filling.finish())
}

/// The page after (`next`) or before a transaction: `separated` matches are skipped, `containCurrent` counts the transaction itself.
/// Always answered oldest first.
fn around(view: &ChainView<'_>, params: &Params, which: Which, next: bool) -> Outcome {
    let fields = params.fields(0)?;
    let current = (
        fields.quantity("blkNumber")?,
        page::index(fields.quantity_or("txIndex", 0)?)?,
    );
    let lowest = fields.quantity_or("minBlkNumber", 1)?.max(view.first);
    let highest = fields.quantity_or("maxBlkNumber", view.latest)?;
    if highest > view.latest {
        return Err(RpcError::out_of_range(highest, view.latest));
    }
    if current.0 < lowest || current.0 > highest {
        return Err(RpcError::params(format!(
            "block number {} is not within {lowest} and {highest}",
            current.0
        )));
    }
    let size = match fields.quantity_or("pageSize", PAGE_ITEMS_MAX)? {
        size if size <= PAGE_ITEMS_MAX => size as usize,
        size => {
            return Err(RpcError::params(format!(
                "pageSize {size} is too large: at most {PAGE_ITEMS_MAX}"
            )));
        }
    };
    let with_current = fields.flag("containCurrent")?;
    let filter = Filter::read(fields)?;
    let mut skip = fields.quantity_or("separated", 0)?;
    let range = if next {
        (current.0, highest)
    } else {
        (lowest, current.0)
    };
    check_scan(range.0, range.1)?;
    let mut filling = Filling::new(size);
    walk(view, range, which, next, &mut |block, lists, index| {
        let first_of_block = if which == Which::Invalid { block.header.valid } else { 0 };
        let at = (block.header.height, index - first_of_block);
        let passed = match at.cmp(&current) {
            std::cmp::Ordering::Equal => !with_current,
            order => (order == std::cmp::Ordering::Less) == next,
        };
        if passed || !filter.admits(lists, index)? {
            return Ok(true);
        }
        if skip > 0 {
            skip -= 1;
            return Ok(true);
        }
        push(&mut filling, block, lists, index)
    })?;
    let mut found = filling.finish().data;
    if !next {
        found.reverse();
    }
    json(&found)
}

/// Transactions to one contract, by address or name; both empty admits all.
struct Filter {
    address: Option<[u8; 20]>,
    name: Option<String>,
}

impl Filter {
    fn read(fields: Fields<'_>) -> Result<Self, RpcError> {
        let address = match fields.text("address")? {
            None => None,
            Some(_) => Some(params::bytes(fields.required("address")?, "address")?),
        };
        Ok(Self {
            address,
            name: fields.text("cName")?.map(str::to_owned),
        })
    }

    fn admits(&self, lists: &Lists<'_>, index: u32) -> Result<bool, RpcError> {
        if self.address.is_none() && self.name.is_none() {
            return Ok(true);
        }
        let Some((transaction, _)) = lists.get(index)? else {
            return Ok(false);
        };
        let by_address = self
            .address
            .is_none_or(|address| transaction.to.is_some_and(|to| to.0 == address));
        let by_name = self.name.as_ref().is_none_or(|name| *name == transaction.cname);
        Ok(by_address && by_name)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContractCount {
    count: String,
    last_index: String,
    last_block_num: String,
}

/// Transactions to a contract in a range, with the place of the last one.
fn count_by_contract(view: &ChainView<'_>, params: &Params, by: &str) -> Outcome {
    let fields = params.fields(0)?;
    fields.required(by)?;
    let filter = Filter::read(fields)?;
    let range = page::range(fields, view.latest)?;
    check_scan(range.0, range.1)?;
    let (mut count, mut last) = (0_u64, (0_u64, 0_u32));
    walk(view, range, Which::Valid, true, &mut |block, lists, index| {
        if filter.admits(lists, index)? {
            count += 1;
            last = (block.header.height, index);
        }
        Ok(true)
    })?;
    json(&ContractCount {
        count: quantity(count),
        last_index: quantity(u64::from(last.1)),
        last_block_num: quantity(last.0),
    })
}
