//! The state delta of a block: which keys got which values.

use std::collections::BTreeMap;

use crate::types::{Malformed, Reader, Writer};

/// Longest state key, bytes.
pub const STATE_KEY_BYTES_MAX: usize = 1024;

/// Longest state value, bytes (contract code is the largest).
pub const STATE_VALUE_BYTES_MAX: usize = 16 << 20;

/// State key -> new value; `None` removes the key. Encoded sorted, each key once.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Delta(pub BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Delta {
    /// The bytes of the part `delta`: `u32` count, then per key: `u16` length, key, one byte 0 (removed) or 1, and for 1 `u32` length
    /// and value. Fails when a key or value is over its bound.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let bytes: usize = self
            .0
            .iter()
            .map(|(k, v)| k.len() + 7 + v.as_ref().map_or(0, Vec::len))
            .sum();
        let mut out = Writer::with_capacity(4 + bytes);
        out.u32(u32::try_from(self.0.len()).map_err(|_| Malformed::new("too many keys in a delta"))?);
        for (key, value) in &self.0 {
            check_lengths(key.len(), value.as_ref().map_or(0, Vec::len))?;
            out.u16(key.len() as u16);
            out.raw(key);
            out.flag(value.is_some());
            if let Some(value) = value {
                out.bytes(value);
            }
        }
        Ok(out.into_bytes())
    }

    /// The inverse of [`Delta::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let entries = DeltaRef::parse(bytes)?;
        entries
            .iter()
            .map(|entry| entry.map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn check_lengths(key: usize, value: usize) -> Result<(), Malformed> {
    if key == 0 || key > STATE_KEY_BYTES_MAX {
        return Err(Malformed::new(format!(
            "state key of {key} bytes (1 to {STATE_KEY_BYTES_MAX})"
        )));
    }
    if value > STATE_VALUE_BYTES_MAX {
        return Err(Malformed::new(format!(
            "state value of {value} bytes (at most {STATE_VALUE_BYTES_MAX})"
        )));
    }
    Ok(())
}

/// An encoded delta, read in place.
#[derive(Clone, Copy, Debug)]
pub struct DeltaRef<'a> {
    count: usize,
    entries: &'a [u8],
}

/// One key of a delta and its new value (`None`: removed).
pub type DeltaEntry<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'a> DeltaRef<'a> {
    /// Reads the count; the entries are checked as they are iterated.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        // The shortest entry: a length, one byte of key, a flag.
        let count = input.count(usize::MAX, 4)?;
        Ok(Self {
            count,
            entries: input.take(input.remaining())?,
        })
    }

    /// How many keys it changes.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries in key order. Stops at the first malformed one: a key out of order, a length over its bound, bytes left over.
    pub fn iter(&self) -> impl Iterator<Item = Result<DeltaEntry<'a>, Malformed>> + use<'a> {
        let mut input = Reader::new(self.entries);
        let mut left = self.count;
        let mut previous: &[u8] = &[];
        std::iter::from_fn(move || {
            if left == 0 {
                let end = input.finish();
                // After an error or the end the reader is empty, so this ends.
                input = Reader::new(&[]);
                return end.err().map(Err);
            }
            left -= 1;
            let entry = read_entry(&mut input, previous);
            match &entry {
                Ok((key, _)) => previous = key,
                Err(_) => {
                    left = 0;
                    input = Reader::new(&[]);
                }
            }
            Some(entry)
        })
    }
}

fn read_entry<'a>(input: &mut Reader<'a>, previous: &[u8]) -> Result<DeltaEntry<'a>, Malformed> {
    let length = usize::from(input.u16()?);
    check_lengths(length, 0)?;
    let key = input.take(length)?;
    if key <= previous {
        return Err(Malformed::new("state keys of a delta are not in order"));
    }
    let value = if input.flag()? {
        Some(input.bytes(STATE_VALUE_BYTES_MAX)?)
    } else {
        None
    };
    Ok((key, value))
}
