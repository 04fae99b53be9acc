//! The messages that a block gives a queue. Made from the record and the registration alone, so that every node that holds the record makes
//! the same bytes.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::registration::RoutingKey;
use super::{Announced, Cursor, Queue};
use crate::chain::shape::{InBlock, LogShape, PLATFORM_VERSION, TransactionShape, bytes};
use crate::chain::{Receipt, Transaction};
use crate::record::{RecordRef, public_hash};
use crate::types::{Height, Malformed, Position, UnixNanos};

/// One message for one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its routing key.
    pub key: RoutingKey,
    /// The queue's cursor once this message is confirmed; as text, the message's id.
    pub after: Cursor,
    /// The envelope, JSON on one line.
    pub message: String,
}

/// A queue must be told, before block `from`, that heights from it on may come again with another hash: its node was taken over by a
/// standby that held less than the queue may have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// First height that may come again.
    pub from: Height,
}

impl Notice {
    /// On a node whose first block is `first`: what is due below it comes before that one.
    pub fn on_node_from(self, first: Height) -> Self {
        let from = self.from.max(first);
        Self { from }
    }
}

#[derive(Serialize)]
struct Envelope<'a, B> {
    timestamp: UnixNanos,
    #[serde(rename = "type")]
    kind: &'a str,
    body: B,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockBody {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    version: &'static str,
    number: String,
    hash: String,
    parent_hash: String,
    write_time: UnixNanos,
    avg_time: u64,
    txcounts: u32,
    merkle_root: String,
    txs: Vec<TransactionShape>,
}

#[derive(Serialize)]
struct LogBody {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    logs: Vec<LogShape>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExceptionBody {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    module: &'static str,
    status: bool,
    sub_type: &'static str,
    error_code: i64,
    message: String,
    date: String,
    height: Height,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_height: Option<Height>,
}

/// What the block in `record` gives `queue`, in order: a notice that is due, the block, its logs.
///
/// # Errors
/// The record's parts are not what its header says: a damaged disk.
pub fn events_of(record: &RecordRef<'_>, queue: &Queue, notice: Option<Notice>) -> Result<Vec<Event>, Malformed> {
    let header = record.header();
    let (wanted, local) = (&queue.registration, record.local()?);
    if header.height < queue.first || wanted.to_block.is_some_and(|last| header.height > last) {
        return Ok(Vec::new());
    }
    let hash = public_hash(&record.position());
    let block = InBlock {
        header,
        local,
        hash: &hash,
    };
    let mut messages = Vec::new();
    if wanted.keys.contains(&RoutingKey::Block) {
        messages.push((RoutingKey::Block, block_message(record, &block, wanted.verbose)?));
    }
    if wanted.keys.contains(&RoutingKey::Log) {
        let logs = matching_logs(record, &block, queue)?;
        if !logs.is_empty() {
            messages.push((RoutingKey::Log, log_message(&block, logs)?));
        }
    }
    let count = messages.len();
    let numbered = messages.into_iter().enumerate().map(|(index, (key, message))| Event {
        key,
        after: Cursor::after(header.height, index, count),
        message,
    });
    let due = notice.filter(|notice| notice.from == header.height);
    let announced = due.map(|notice| anew(&block, notice)).transpose()?;
    Ok(announced.into_iter().chain(numbered).collect())
}

/// What a queue is told in place of the blocks `first` to `last`, which are not on this node; `record` is the first block that is, and lends
/// its time.
///
/// # Errors
/// As for [`events_of`].
pub fn word_of_missing(record: &RecordRef<'_>, first: Height, last: Height) -> Result<Event, Malformed> {
    let (header, local) = (record.header(), record.local()?);
    let hash = public_hash(&record.position());
    let block = InBlock {
        header,
        local,
        hash: &hash,
    };
    let message = format!(
        "blocks {first} to {last} are not on this node, which holds blocks from {} on: this queue is told of none of them here, and what it was \
         told of them before may be of a node that was lost",
        header.height
    );
    exception(
        &block,
        Announced::Missing,
        message,
        (first, Some(last)),
        last.saturating_add(1),
    )
}

fn envelope<B: Serialize>(block: &InBlock<'_>, key: RoutingKey, body: B) -> Result<String, Malformed> {
    let envelope = Envelope {
        timestamp: block.local.write_time,
        kind: key.as_str(),
        body,
    };
    serde_json::to_string(&envelope).map_err(|error| Malformed::new(error.to_string()))
}

fn block_message(record: &RecordRef<'_>, block: &InBlock<'_>, verbose: bool) -> Result<String, Malformed> {
    let header = block.header;
    let parent = match header.height.checked_sub(1) {
        None => [0; 32],
        Some(height) => public_hash(&Position {
            height,
            hash: header.parent,
        }),
    };
    let mut txs = Vec::new();
    if verbose {
        let (transactions, receipts) = (record.transactions()?, record.receipts()?);
        let valid = transactions.iter().zip(receipts.iter()).take(header.valid as usize);
        for (index, (transaction, receipt)) in (0..).zip(valid) {
            let (transaction, receipt) = (Transaction::decode(transaction)?, Receipt::decode(receipt)?);
            txs.push(TransactionShape::of(block, index, &transaction, &receipt));
        }
    }
    let body = BlockBody {
        kind: RoutingKey::Block.as_str(),
        name: "BlockInfo",
        version: PLATFORM_VERSION,
        number: header.height.to_string(),
        hash: bytes(block.hash),
        parent_hash: bytes(&parent),
        write_time: block.local.write_time,
        avg_time: block.local.average_time_ms,
        txcounts: header.valid,
        merkle_root: bytes(&header.state.0),
        txs,
    };
    envelope(block, RoutingKey::Block, body)
}

fn matching_logs(record: &RecordRef<'_>, block: &InBlock<'_>, queue: &Queue) -> Result<Vec<LogShape>, Malformed> {
    let (transactions, receipts) = (record.transactions()?, record.receipts()?);
    let filter = &queue.registration.filter;
    let mut found = Vec::new();
    for (index, receipt) in (0..block.header.valid).zip(receipts.iter()) {
        let receipt = Receipt::decode(receipt)?;
        let mut logs = receipt
            .logs
            .iter()
            .enumerate()
            .filter(|(_, log)| filter.takes(log))
            .peekable();
        if logs.peek().is_none() {
            continue;
        }
        let transaction = transactions
            .get(index as usize)
            .ok_or_else(|| Malformed::new("fewer transactions than receipts"))?;
        let (hash, _) = Transaction::index_keys(transaction)?;
        found.extend(logs.map(|(at, log)| LogShape::of(block, &hash, index, at, log)));
    }
    Ok(found)
}

fn log_message(block: &InBlock<'_>, logs: Vec<LogShape>) -> Result<String, Malformed> {
    let body = LogBody {
        kind: RoutingKey::Log.as_str(),
        name: "Log",
        logs,
    };
    envelope(block, RoutingKey::Log, body)
}

fn anew(block: &InBlock<'_>, notice: Notice) -> Result<Event, Malformed> {
    let from = notice.from;
    let message = format!(
        "a standby took this node's place: blocks from height {from} on that were told before may come again with another hash, which counts"
    );
    exception(block, Announced::Anew, message, (from, None), from)
}

/// What is announced before the block at `next`.
fn exception(
    block: &InBlock<'_>,
    announced: Announced,
    message: String,
    (height, to_height): (Height, Option<Height>),
    next: Height,
) -> Result<Event, Malformed> {
    let when = OffsetDateTime::from_unix_timestamp_nanos(i128::from(block.local.write_time));
    let body = ExceptionBody {
        kind: RoutingKey::Exception.as_str(),
        name: "Exception",
        module: "cvp",
        status: false,
        sub_type: announced.as_str(),
        error_code: 0,
        message,
        date: when
            .ok()
            .and_then(|when| when.format(&Rfc3339).ok())
            .unwrap_or_default(),
        height,
        to_height,
    };
    Ok(Event {
        key: RoutingKey::Exception,
        after: Cursor::behind(announced, next),
        message: envelope(block, RoutingKey::Exception, body)?,
    })
}
