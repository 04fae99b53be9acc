//! `block_*`: blocks by number, hash, time and in ranges.

use serde::Serialize;

use cvp_core::types::Height;

use super::Context;
use super::envelope::{Outcome, json};
use super::error::{NO_BLOCK, RpcError};
use super::page::{self, Filling, PAGE_ITEMS_MAX, Wanted};
use super::params::{self, Params};
use super::shape::{BlockShape, quantity};
use super::view::{Block, ChainView};

const PAGED: &str = "block_getBlocksWithLimit";

/// Answers `method` (without its prefix), or None if the family has no such method.
pub fn answer(method: &str, params: &Params, context: &Context) -> Option<Outcome> {
    let view = &context.view();
    Some(match method {
        "latestBlock" => latest(view),
        "getBlockByHash" => by_hash(view, params),
        "getBlockByNumber" => by_number(view, params),
        "getBlocks" => blocks(view, params),
        "getBlocksWithLimit" => blocks_with_limit(view, params),
        "getBatchBlocksByHash" => batch_by_hash(view, params),
        "getBatchBlocksByNumber" => batch_by_number(view, params),
        "getAvgGenerateTimeByBlockNumber" => average_generate_time(view, params),
        "getBlocksByTime" => by_time(view, params),
        "getChainHeight" => json(&quantity(view.latest)),
        "getGenesisBlock" => json(&quantity(view.first)),
        "queryTPS" => tps(view, params),
        _ => return None,
    })
}

/// A block with its parent's public hash.
fn shape(view: &ChainView<'_>, block: &Block, plain: bool) -> Result<BlockShape, RpcError> {
    let height = block.header.height;
    let parent = if height > view.first {
        view.block(height - 1)?.hash
    } else {
        // Genesis has none; below the kept history the full parent hash is known, the height with it makes the public one.
        parent_of(block)
    };
    BlockShape::of(block, &parent, plain)
}

fn parent_of(block: &Block) -> [u8; 32] {
    match block.header.height.checked_sub(1) {
        None => [0; 32],
        Some(height) => cvp_core::record::public_hash(&cvp_core::types::Position {
            height,
            hash: block.header.parent,
        }),
    }
}

fn latest(view: &ChainView<'_>) -> Outcome {
    if view.latest == 0 {
        return Err(RpcError::new(NO_BLOCK, "there is no block yet"));
    }
    json(&shape(view, &view.block(view.latest)?, false)?)
}

fn by_hash(view: &ChainView<'_>, params: &Params) -> Outcome {
    let hash = params::bytes(params.required(0, "block hash")?, "block hash")?;
    json(&shape(view, &view.block_by_hash(&hash)?, params.flag(1)?)?)
}

fn by_number(view: &ChainView<'_>, params: &Params) -> Outcome {
    let height = params::height(params.required(0, "block number")?, view.latest)?;
    json(&shape(view, &view.block(height)?, params.flag(1)?)?)
}

fn blocks(view: &ChainView<'_>, params: &Params) -> Outcome {
    let fields = params.fields(0)?;
    let (from, to) = page::range(fields, view.latest)?;
    let plain = fields.flag("isPlain")?;
    let mut filling = Filling::new(PAGE_ITEMS_MAX as usize);
    for height in page::heights(from, to, false) {
        if !push(view, &mut filling, height, plain)? {
            break;
        }
    }
    json(&filling.whole(PAGED)?)
}

fn push(
    view: &ChainView<'_>,
    filling: &mut Filling<BlockShape>,
    height: Height,
    plain: bool,
) -> Result<bool, RpcError> {
    let shape = shape(view, &view.block(height)?, plain)?;
    let bytes = shape.json_bytes();
    Ok(filling.push(shape, bytes))
}

fn blocks_with_limit(view: &ChainView<'_>, params: &Params) -> Outcome {
    let fields = params.fields(0)?;
    let (from, to) = page::range(fields, view.latest)?;
    let plain = fields.flag("isPlain")?;
    let wanted = Wanted::read(fields)?;
    let mut filling = Filling::new(wanted.size);
    for height in page::heights(from, to, wanted.oldest_first) {
        let passed = wanted.bookmark.is_some_and(|(marked, _)| {
            if wanted.oldest_first {
                height <= marked
            } else {
                height >= marked
            }
        });
        if !passed && !push(view, &mut filling, height, plain)? {
            break;
        }
    }
    json(&filling.finish())
}

fn batch_by_hash(view: &ChainView<'_>, params: &Params) -> Outcome {
    let fields = params.fields(0)?;
    let plain = fields.flag("isPlain")?;
    let mut filling = Filling::new(PAGE_ITEMS_MAX as usize);
    for hash in fields.list("hashes", PAGE_ITEMS_MAX as usize)? {
        let block = view.block_by_hash(&params::bytes(hash, "block hash")?)?;
        let shape = shape(view, &block, plain)?;
        let bytes = shape.json_bytes();
        if !filling.push(shape, bytes) {
            break;
        }
    }
    json(&filling.whole(PAGED)?)
}

fn batch_by_number(view: &ChainView<'_>, params: &Params) -> Outcome {
    let fields = params.fields(0)?;
    let plain = fields.flag("isPlain")?;
    let mut filling = Filling::new(PAGE_ITEMS_MAX as usize);
    for number in fields.list("numbers", PAGE_ITEMS_MAX as usize)? {
        if !push(view, &mut filling, params::height(number, view.latest)?, plain)? {
            break;
        }
    }
    json(&filling.whole(PAGED)?)
}

/// Milliseconds between blocks, on average over the range; genesis has no time and does not count.
fn average_generate_time(view: &ChainView<'_>, params: &Params) -> Outcome {
    let (from, to) = page::range(params.fields(0)?, view.latest)?;
    let before = from.saturating_sub(1).max(view.first.max(1));
    let intervals = to.saturating_sub(before);
    if intervals == 0 {
        return json(&quantity(0));
    }
    let nanos = view
        .block(to)?
        .header
        .time
        .saturating_sub(view.block(before)?.header.time);
    json(&quantity(nanos / 1_000_000 / intervals))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ByTime {
    sum_of_blocks: String,
    start_block: Option<String>,
    end_block: Option<String>,
}

fn by_time(view: &ChainView<'_>, params: &Params) -> Outcome {
    let fields = params.fields(0)?;
    let found = view.heights_within(fields.quantity("startTime")?, fields.quantity("endTime")?)?;
    json(&ByTime {
        sum_of_blocks: quantity(found.map_or(0, |(first, last)| last - first + 1)),
        start_block: found.map(|(first, _)| quantity(first)),
        end_block: found.map(|(_, last)| quantity(last)),
    })
}

/// The platform's legacy text of five parts: start, end, blocks, blocks a second, transactions a second.
fn tps(view: &ChainView<'_>, params: &Params) -> Outcome {
    let fields = params.fields(0)?;
    let (start, end) = (fields.quantity("startTime")?, fields.quantity("endTime")?);
    let (blocks, transactions) = match view.heights_within(start, end)? {
        None => (0, 0),
        Some((first, last)) => (last - first + 1, view.counts(first, last)?.0),
    };
    let seconds = (end.saturating_sub(start) as f64 / 1e9).max(f64::MIN_POSITIVE);
    json(&format!(
        "start time:{start};end time:{end};total blocks:{blocks};blocks per second:{:.3};tps:{:.3}",
        blocks as f64 / seconds,
        transactions as f64 / seconds
    ))
}
