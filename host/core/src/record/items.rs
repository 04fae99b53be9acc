//! What is inside the parts: lists of transactions and receipts, and the values outside the hash.

use crate::types::{Digest, Malformed, Reader, UnixNanos, Writer};

/// Most items in one list; the bytes at hand bound it further.
const ITEMS_MAX: usize = 1 << 22;

/// A list of byte strings inside a part: `u32` count, the end offset of each (`u32`, from the first byte of content), the content.
/// Any item is found in constant time.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a> {
    ends: &'a [u8],
    content: &'a [u8],
}

impl<'a> Items<'a> {
    /// Checks the offsets of an encoded list.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let count = input.count(ITEMS_MAX, 4)?;
        let ends = input.take(count * 4)?;
        let content = input.take(input.remaining())?;
        let mut last = 0;
        for end in ends.as_chunks::<4>().0 {
            let end = u32::from_le_bytes(*end) as usize;
            if end < last || end > content.len() {
                return Err(Malformed::new(format!("item ends at {end} of {} bytes", content.len())));
            }
            last = end;
        }
        if last != content.len() {
            return Err(Malformed::new("bytes after the last item"));
        }
        Ok(Self { ends, content })
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.ends.len() / 4
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn end(&self, index: usize) -> Option<usize> {
        let ends = self.ends.as_chunks::<4>().0;
        Some(u32::from_le_bytes(*ends.get(index)?) as usize)
    }

    /// The item at `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let end = self.end(index)?;
        let start = if index == 0 { 0 } else { self.end(index - 1)? };
        self.content.get(start..end)
    }

    /// All items in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let items = *self;
        (0..items.len()).filter_map(move |index| items.get(index))
    }
}

pub(super) fn write_items(items: &[Vec<u8>]) -> Result<Vec<u8>, Malformed> {
    let content: usize = items.iter().map(Vec::len).sum();
    if items.len() > ITEMS_MAX || content > super::RECORD_BYTES_MAX {
        return Err(Malformed::new(format!(
            "{} items of {content} bytes in one record",
            items.len()
        )));
    }
    let mut out = Writer::with_capacity(4 + items.len() * 4 + content);
    out.u32(items.len() as u32);
    let mut end = 0;
    for item in items {
        end += item.len();
        out.u32(end as u32);
    }
    for item in items {
        out.raw(item);
    }
    Ok(out.into_bytes())
}

/// The part `local`: what the maker measured; outside the hash, copied to the standby as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Local {
    /// When the maker wrote the block, ns since the Unix epoch.
    pub write_time: UnixNanos,
    /// Average time from the arrival of the block's transactions to its writing, ms.
    pub average_time_ms: u64,
}

impl Local {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(16);
        out.u64(self.write_time);
        out.u64(self.average_time_ms);
        out.into_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let local = Self {
            write_time: input.u64()?,
            average_time_ms: input.u64()?,
        };
        input.finish()?;
        Ok(local)
    }
}

/// The two keys under which a ledger finds an encoded transaction: its hash and the digest of (from, signed text). Every encoded
/// transaction begins with them.
pub fn index_keys(transaction: &[u8]) -> Result<([u8; 32], Digest), Malformed> {
    let mut input = Reader::new(transaction);
    Ok((input.array()?, input.digest()?))
}
