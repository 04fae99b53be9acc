//! A span: consecutive records that were checked to follow a position. It is the only thing a ledger appends, so a skipped check does
//! not compile.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::{Digest, Height, Hostname, Incarnation, Malformed, Position, UnixNanos};

use super::parse::{PartKind, RecordRef, parse, parse_like};

/// Which part of a record is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPart {
    /// Lengths, header fields, part table or their checksum.
    Header,
    /// The link to the record below.
    Link,
    /// The state commitment.
    State,
    /// A known part.
    Part(PartKind),
    /// A part of a later release.
    Unknown,
}

impl fmt::Display for BadPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadPart::Header => "header",
            BadPart::Link => "link",
            BadPart::State => "state",
            BadPart::Part(kind) => kind.as_str(),
            BadPart::Unknown => "unknown part",
        })
    }
}

/// A record that is not what it must be. Whoever sent or stored it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {height} is bad: {part}: {reason}")]
pub struct BadRecord {
    /// The height where the record was expected.
    pub height: Height,
    /// What of it is bad.
    pub part: BadPart,
    /// What was expected and found.
    pub reason: String,
}

impl BadRecord {
    pub(super) fn new(height: Height, part: BadPart, reason: impl Into<String>) -> Self {
        Self {
            height,
            part,
            reason: reason.into(),
        }
    }
}

/// What the next record of a chain is measured against, beyond its parent's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainTip {
    /// Time of the last record.
    pub time: UnixNanos,
    /// Incarnation of the last record.
    pub incarnation: Incarnation,
    /// Chain total of valid transactions.
    pub valid_total: u64,
    /// Chain total of invalid transactions.
    pub invalid_total: u64,
}

impl ChainTip {
    /// The tip that `record` leaves.
    pub fn of(record: &RecordRef<'_>) -> Self {
        let header = record.header();
        Self {
            time: header.time,
            incarnation: header.incarnation,
            valid_total: header.valid_total,
            invalid_total: header.invalid_total,
        }
    }

    /// Time and incarnation number do not decrease, totals grow by the block's counts.
    pub fn check_next(&self, record: &RecordRef<'_>) -> Result<(), BadRecord> {
        let header = record.header();
        let bad = |reason: String| Err(BadRecord::new(header.height, BadPart::Header, reason));
        if header.time < self.time {
            return bad(format!("time {} is before its parent's {}", header.time, self.time));
        }
        if header.incarnation.number < self.incarnation.number {
            return bad(format!("incarnation {} after {}", header.incarnation, self.incarnation));
        }
        if Some(header.valid_total) != self.valid_total.checked_add(u64::from(header.valid))
            || Some(header.invalid_total) != self.invalid_total.checked_add(u64::from(header.invalid))
        {
            return bad("chain totals of transactions do not follow the parent's".into());
        }
        Ok(())
    }
}

/// Consecutive records whose digests, parts and links hold. Only [`check_span`], [`check_genesis`] and [`Span::of_own_record`] make one.
#[derive(Clone, Debug)]
pub struct Span {
    bytes: Bytes,
    first: Height,
    last: Position,
    parent: Digest,
    /// End offset of each record in `bytes`, so that nobody walks them again to find one.
    ends: Arc<[u32]>,
}

impl Span {
    /// The records, back to back.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Height of the first record.
    pub fn first(&self) -> Height {
        self.first
    }

    /// Position of the last record.
    pub fn last(&self) -> Position {
        self.last
    }

    /// Hash of the record below the first.
    pub fn parent(&self) -> Digest {
        self.parent
    }

    /// The position below the first record; of genesis, which has none, its own height.
    pub fn parent_position(&self) -> Position {
        Position {
            height: self.first.saturating_sub(1),
            hash: self.parent,
        }
    }

    /// How many records there are; at least one.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// End offset of each record in [`Span::bytes`].
    pub fn ends(&self) -> &Arc<[u32]> {
        &self.ends
    }

    /// The last record; `None` only where its bytes are not what was checked.
    pub fn last_record(&self) -> Option<RecordRef<'_>> {
        let start = self
            .ends
            .len()
            .checked_sub(2)
            .map_or(0, |before| self.ends[before] as usize);
        parse(self.bytes.get(start..)?).ok()
    }

    /// The records in order. Their bounds were checked when the span was made; iteration ends at the first that does not parse.
    pub fn records(&self) -> impl Iterator<Item = RecordRef<'_>> {
        let mut rest: &[u8] = &self.bytes;
        let mut like = None;
        std::iter::from_fn(move || {
            let record = parse_like(rest, like.as_ref()).ok()?;
            keep_proposer(&mut like, &record);
            rest = &rest[record.len()..];
            Some(record)
        })
    }

    /// The record that this node has just encoded itself: its digests are trusted, its bounds are not.
    pub fn of_own_record(bytes: Bytes) -> Result<Span, Malformed> {
        let record = parse(&bytes)?;
        if record.len() != bytes.len() {
            return Err(Malformed::new("more than one record"));
        }
        let (first, last, parent) = (record.header().height, record.position(), record.header().parent);
        Ok(Span {
            first,
            last,
            parent,
            ends: Arc::new([bytes.len() as u32]),
            bytes,
        })
    }
}

/// Checks that `bytes` are whole records that follow `parent` in the chain of `namespace`: bounds, namespace, heights, links, header
/// checksums, the digest of every part, the shape of the parts, times and totals along the span. What needs the ledger (time and totals
/// against the parent, the state commitment) is checked by `append`.
pub fn check_span(namespace: &Digest, parent: Position, bytes: Bytes) -> Result<Span, BadRecord> {
    let first = parent.height.saturating_add(1);
    let mut rest: &[u8] = &bytes;
    let mut last = parent;
    let mut tip: Option<ChainTip> = None;
    let mut ends = Vec::new();
    let mut like = None;
    while !rest.is_empty() {
        let height = last.height.saturating_add(1);
        let record = parse_like(rest, like.as_ref()).map_err(|e| BadRecord::new(height, BadPart::Header, e.what))?;
        keep_proposer(&mut like, &record);
        let hash = record.hash();
        check_record(&record, &hash, namespace, height)?;
        if record.header().parent != last.hash {
            let reason = format!(
                "parent {} expected, {} found",
                last.hash.short(),
                record.header().parent.short()
            );
            return Err(BadRecord::new(height, BadPart::Link, reason));
        }
        if let Some(tip) = tip {
            tip.check_next(&record)?;
        }
        tip = Some(ChainTip::of(&record));
        last = Position { height, hash };
        rest = &rest[record.len()..];
        // A run is bounded by its frame, far below 4 GiB.
        ends.push((bytes.len() - rest.len()) as u32);
    }
    if ends.is_empty() {
        return Err(BadRecord::new(first, BadPart::Header, "no record"));
    }
    Ok(Span {
        first,
        last,
        parent: parent.hash,
        ends: ends.into(),
        bytes,
    })
}

/// Checks record 0 of a chain: as [`check_span`], with a zero parent, time 0 and incarnation 0.
pub fn check_genesis(namespace: &Digest, bytes: Bytes) -> Result<Span, BadRecord> {
    let bad = |reason: String| BadRecord::new(0, BadPart::Header, reason);
    let record = parse(&bytes).map_err(|e| bad(e.what))?;
    let hash = record.hash();
    check_record(&record, &hash, namespace, 0)?;
    let header = record.header();
    if record.len() != bytes.len()
        || header.parent != Digest::ZERO
        || header.time != 0
        || header.incarnation.number != 0
    {
        return Err(bad(
            "genesis is one record with parent, time and incarnation zero".into()
        ));
    }
    if header.valid_total != u64::from(header.valid) || header.invalid_total != u64::from(header.invalid) {
        return Err(bad("genesis totals are not its counts".into()));
    }
    Ok(Span {
        first: 0,
        last: Position { height: 0, hash },
        parent: Digest::ZERO,
        ends: Arc::new([bytes.len() as u32]),
        bytes,
    })
}

fn keep_proposer(like: &mut Option<Hostname>, record: &RecordRef<'_>) {
    let proposer = &record.header().proposer;
    if like.as_ref() != Some(proposer) {
        *like = Some(proposer.clone());
    }
}

fn check_record(record: &RecordRef<'_>, hash: &Digest, namespace: &Digest, height: Height) -> Result<(), BadRecord> {
    let header = record.header();
    if header.namespace != *namespace {
        return Err(BadRecord::new(
            height,
            BadPart::Header,
            "the record belongs to another namespace",
        ));
    }
    if header.height != height {
        return Err(BadRecord::new(
            height,
            BadPart::Header,
            format!("the record has height {}", header.height),
        ));
    }
    record
        .verify_with(hash)
        .map_err(|(part, reason)| BadRecord::new(height, part, reason))?;
    check_shape(record).map_err(|(kind, e)| BadRecord::new(height, BadPart::Part(kind), e.what))
}

/// The digests hold, so a maker meant these bytes; they must still be what the parts' formats say.
fn check_shape(record: &RecordRef<'_>) -> Result<(), (PartKind, Malformed)> {
    let header = record.header();
    let count = u64::from(header.valid) + u64::from(header.invalid);
    let transactions = record.transactions().map_err(|e| (PartKind::Transactions, e))?;
    if transactions.len() as u64 != count {
        return Err((
            PartKind::Transactions,
            Malformed::new(format!("{} of {count}", transactions.len())),
        ));
    }
    if transactions.iter().any(|t| t.len() < 64) {
        return Err((
            PartKind::Transactions,
            Malformed::new("a transaction without its index keys"),
        ));
    }
    let receipts = record.receipts().map_err(|e| (PartKind::Receipts, e))?;
    if receipts.len() as u64 != count {
        return Err((
            PartKind::Receipts,
            Malformed::new(format!("{} of {count}", receipts.len())),
        ));
    }
    let delta = record.delta().map_err(|e| (PartKind::Delta, e))?;
    for entry in delta.iter() {
        entry.map_err(|e| (PartKind::Delta, e))?;
    }
    record.local().map_err(|e| (PartKind::Local, e))?;
    Ok(())
}
