//! Reading a record in place: first the bounds ([`parse`]), then the digests ([`RecordRef::verify_parts`]).

use crate::types::{Digest, Hostname, Malformed, Position, Reader};

use super::header::{HASHED_BYTES, Header};
use super::span::BadPart;
use super::{DeltaRef, Items, Local};

/// First bytes of every record.
pub const RECORD_MAGIC: &[u8; 8] = b"CVPREC\r\n";

/// Magic, record length, header length, part count, checksum.
pub(super) const PREFIX_BYTES: usize = 8 + 4 + 2 + 2 + 32;

/// Where in a record the region lies that its hash covers, encoded as [`check_headers`](super::check_headers) takes it.
pub const HEADER_REGION: std::ops::Range<usize> = PREFIX_BYTES..PREFIX_BYTES + HASHED_BYTES;

/// One entry of the part table: kind, flags, offset, length, digest.
pub(super) const PART_ENTRY_BYTES: usize = 2 + 2 + 4 + 4 + 32;

/// The parts this release knows; each is in every record.
const PARTS_KNOWN: usize = 5;

/// Room for parts of later releases.
const PARTS_MAX: usize = 16;

/// Largest record, bytes.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Smallest record, bytes: a header with the table of the known parts.
pub const RECORD_BYTES_MIN: usize = PREFIX_BYTES + HASHED_BYTES + PARTS_KNOWN * PART_ENTRY_BYTES;

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartKind {
    /// The block's transactions ([`Items`]).
    Transactions,
    /// One receipt a transaction ([`Items`]).
    Receipts,
    /// The state delta ([`DeltaRef`]).
    Delta,
    /// The maker's measurements ([`Local`]); outside the hash.
    Local,
    /// Proof of consensus; empty in SOLO; outside the hash.
    Proof,
}

impl PartKind {
    /// The known parts in their order in a record.
    pub const ALL: [PartKind; PARTS_KNOWN] = [
        PartKind::Transactions,
        PartKind::Receipts,
        PartKind::Delta,
        PartKind::Local,
        PartKind::Proof,
    ];

    /// The number in the part table.
    pub(super) fn number(self) -> u16 {
        self as u16 + 1
    }

    /// As messages spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            PartKind::Transactions => "transactions",
            PartKind::Receipts => "receipts",
            PartKind::Delta => "delta",
            PartKind::Local => "local",
            PartKind::Proof => "proof",
        }
    }
}

/// A record whose bounds hold; digests are not checked yet.
#[derive(Clone, Debug)]
pub struct RecordRef<'a> {
    bytes: &'a [u8],
    header: Header,
    table: &'a [[u8; PART_ENTRY_BYTES]],
}

/// The length of the record that begins with `prefix` (at least 16 bytes): what a scan of a log or stream needs to wait for.
/// `Ok(None)` when fewer bytes are at hand.
pub fn record_length(prefix: &[u8]) -> Result<Option<usize>, Malformed> {
    if prefix.len() < 16 {
        return Ok(None);
    }
    let mut input = Reader::new(prefix);
    if input.take(8)? != RECORD_MAGIC {
        return Err(Malformed::new("magic of a record"));
    }
    let length = input.u32()? as usize;
    if !(RECORD_BYTES_MIN..=RECORD_BYTES_MAX).contains(&length) {
        return Err(Malformed::new(format!(
            "record of {length} bytes ({RECORD_BYTES_MIN} to {RECORD_BYTES_MAX})"
        )));
    }
    Ok(Some(length))
}

/// Reads the record at the front of `bytes` (more may follow): magic, lengths, header fields and part table, without copying a part.
/// Says nothing about digests: see [`RecordRef::verify_parts`] and [`super::check_span`].
pub fn parse(bytes: &[u8]) -> Result<RecordRef<'_>, Malformed> {
    parse_like(bytes, None)
}

/// As [`parse`], of one record among many: the proposer is mostly that of the one before (`like`), and then nothing is allocated.
pub(super) fn parse_like<'a>(bytes: &'a [u8], like: Option<&Hostname>) -> Result<RecordRef<'a>, Malformed> {
    let length = record_length(bytes)?.ok_or_else(|| Malformed::new("record cut short"))?;
    let bytes = bytes.get(..length).ok_or_else(|| Malformed::new("record cut short"))?;
    let mut input = Reader::new(bytes);
    input.take(12)?;
    let header_bytes = usize::from(input.u16()?);
    let part_count = usize::from(input.u16()?);
    input.take(32)?;
    if !(PARTS_KNOWN..=PARTS_MAX).contains(&part_count)
        || header_bytes != PREFIX_BYTES + HASHED_BYTES + part_count * PART_ENTRY_BYTES
    {
        return Err(Malformed::new(format!(
            "record header of {header_bytes} bytes with {part_count} parts"
        )));
    }
    let header = Header::read(&mut Reader::new(input.take(HASHED_BYTES)?), like)?;
    let table = input
        .take(part_count * PART_ENTRY_BYTES)?
        .as_chunks::<PART_ENTRY_BYTES>()
        .0;
    check_table(&header, table, header_bytes, length)?;
    Ok(RecordRef { bytes, header, table })
}

/// Entries are in order of kind, contiguous, and repeat the header's digests.
fn check_table(
    header: &Header,
    table: &[[u8; PART_ENTRY_BYTES]],
    header_bytes: usize,
    record_bytes: usize,
) -> Result<(), Malformed> {
    let mut next = header_bytes;
    let mut kind_before = 0;
    for (index, entry) in table.iter().enumerate() {
        let entry = Entry::read(entry)?;
        let known = index < PARTS_KNOWN;
        if entry.flags != 0 || entry.kind <= kind_before || (known && usize::from(entry.kind) != index + 1) {
            return Err(Malformed::new(format!(
                "part {index} has kind {} and flags {}",
                entry.kind, entry.flags
            )));
        }
        if entry.offset != next || entry.length > record_bytes - next {
            return Err(Malformed::new(format!(
                "part {index} is at {} with {} bytes",
                entry.offset, entry.length
            )));
        }
        let hashed = [header.transactions, header.receipts, header.delta];
        if hashed.get(index).is_some_and(|digest| *digest != entry.digest) {
            return Err(Malformed::new(format!(
                "part {index} has not the digest that the header commits to"
            )));
        }
        next += entry.length;
        kind_before = entry.kind;
    }
    if next != record_bytes {
        return Err(Malformed::new("bytes after the last part"));
    }
    Ok(())
}

struct Entry {
    kind: u16,
    flags: u16,
    offset: usize,
    length: usize,
    digest: Digest,
}

impl Entry {
    fn read(bytes: &[u8; PART_ENTRY_BYTES]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        Ok(Self {
            kind: input.u16()?,
            flags: input.u16()?,
            offset: input.u32()? as usize,
            length: input.u32()? as usize,
            digest: input.digest()?,
        })
    }
}

/// Covers what the hash does not: the lengths and the part table, bound to the record's hash.
pub(super) fn checksum(prefix: &[u8], hash: &Digest, table: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(prefix);
    hasher.update(&hash.0);
    hasher.update(table);
    Digest(*hasher.finalize().as_bytes())
}

impl<'a> RecordRef<'a> {
    /// Bytes of the whole record.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a record has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The whole record as encoded.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What the hash covers.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// BLAKE3 of the hashed region: computed at each call.
    pub fn hash(&self) -> Digest {
        Digest::of(&self.bytes[HEADER_REGION])
    }

    /// Height and hash.
    pub fn position(&self) -> Position {
        Position {
            height: self.header.height,
            hash: self.hash(),
        }
    }

    /// The bytes of a known part.
    pub fn part(&self, kind: PartKind) -> &'a [u8] {
        let entry = self.table.get(usize::from(kind.number() - 1)).map(Entry::read);
        // The table was checked by `parse`.
        match entry {
            Some(Ok(entry)) => &self.bytes[entry.offset..entry.offset + entry.length],
            _ => &[],
        }
    }

    /// Recomputes the checksum of header and table and the digest of every part, unknown ones included.
    pub fn verify_parts(&self) -> Result<(), (BadPart, String)> {
        self.verify_with(&self.hash())
    }

    /// [`RecordRef::verify_parts`] for a caller that has the hash already.
    pub(super) fn verify_with(&self, hash: &Digest) -> Result<(), (BadPart, String)> {
        let table = self.table.as_flattened();
        let found = checksum(&self.bytes[..16], hash, table);
        if found.0[..] != self.bytes[16..PREFIX_BYTES] {
            return Err((BadPart::Header, "the header does not have its checksum".into()));
        }
        for (index, entry) in self.table.iter().enumerate() {
            let part = PartKind::ALL
                .get(index)
                .map_or(BadPart::Unknown, |kind| BadPart::Part(*kind));
            let entry = Entry::read(entry).map_err(|e| (part, e.what))?;
            let found = Digest::of(&self.bytes[entry.offset..entry.offset + entry.length]);
            if found != entry.digest {
                return Err((
                    part,
                    format!("digest {} expected, {} found", entry.digest.short(), found.short()),
                ));
            }
        }
        Ok(())
    }

    /// The transactions, valid ones first.
    pub fn transactions(&self) -> Result<Items<'a>, Malformed> {
        Items::parse(self.part(PartKind::Transactions))
    }

    /// The receipts, one a transaction.
    pub fn receipts(&self) -> Result<Items<'a>, Malformed> {
        Items::parse(self.part(PartKind::Receipts))
    }

    /// The state delta.
    pub fn delta(&self) -> Result<DeltaRef<'a>, Malformed> {
        DeltaRef::parse(self.part(PartKind::Delta))
    }

    /// The maker's measurements.
    pub fn local(&self) -> Result<Local, Malformed> {
        Local::decode(self.part(PartKind::Local))
    }
}
