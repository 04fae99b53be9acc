//! Bounded reader and plain writer of our binary formats. Integers are little-endian; every length is checked against the caller's
//! bound and the bytes at hand before anything is allocated.

use super::{Digest, Hostname, Incarnation, Namespace, NodeId};

/// Bytes that are not what a format says. `what` names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed bytes: {what}")]
pub struct Malformed {
    /// The field or rule that did not hold.
    pub what: String,
}

impl Malformed {
    /// Names the rule that did not hold.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// Reads fields off the front of a byte slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| Malformed::new(format!("{count} bytes wanted, {} left", self.rest.len())))?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// A `u16`.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// A `u32`.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A `u64`.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A flag byte, 0 or 1.
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::new(format!("flag byte {other}"))),
        }
    }

    /// A `u32` count of at most `max` items, each at least `item_bytes_min` long: refused when the bytes at hand cannot hold them.
    pub fn count(&mut self, max: usize, item_bytes_min: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count > max || count.saturating_mul(item_bytes_min.max(1)) > self.rest.len() {
            return Err(Malformed::new(format!("count {count} (at most {max})")));
        }
        Ok(count)
    }

    /// Bytes behind a `u32` length of at most `max`.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        if length > max {
            return Err(Malformed::new(format!("length {length} (at most {max})")));
        }
        self.take(length)
    }

    /// UTF-8 text behind a `u32` length of at most `max` bytes.
    pub fn text(&mut self, max: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(max)?).map_err(|_| Malformed::new("text is not UTF-8"))
    }

    /// A 32-byte digest.
    pub fn digest(&mut self) -> Result<Digest, Malformed> {
        Ok(Digest(self.array()?))
    }

    /// A node-id, 16 bytes.
    pub fn node_id(&mut self) -> Result<NodeId, Malformed> {
        Ok(NodeId(self.array()?))
    }

    /// An incarnation: number and id, 24 bytes.
    pub fn incarnation(&mut self) -> Result<Incarnation, Malformed> {
        Ok(Incarnation {
            number: self.u64()?,
            id: self.array()?,
        })
    }

    /// A namespace name.
    pub fn namespace(&mut self) -> Result<Namespace, Malformed> {
        Namespace::new(self.text(64)?).map_err(|e| Malformed::new(e.to_string()))
    }

    /// A hostname.
    pub fn hostname(&mut self) -> Result<Hostname, Malformed> {
        Hostname::new(self.text(64)?).map_err(|e| Malformed::new(e.to_string()))
    }

    /// An optional field behind a flag byte.
    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Malformed>) -> Result<Option<T>, Malformed> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Fails when bytes are left over.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::new(format!("{} bytes left over", self.rest.len())))
        }
    }
}

/// Appends fields to a growing buffer; the mirror of [`Reader`].
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The buffer.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// What was written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// A `u16`.
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    /// A `u32`.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// A `u64`.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// A flag byte.
    pub fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    /// A `u32` length and the bytes. Callers bound what they write; beyond 4 GiB is a programming error.
    pub fn bytes(&mut self, bytes: &[u8]) {
        debug_assert!(u32::try_from(bytes.len()).is_ok());
        self.u32(bytes.len() as u32);
        self.raw(bytes);
    }

    /// A `u32` length and UTF-8 text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A digest.
    pub fn digest(&mut self, digest: &Digest) {
        self.raw(&digest.0);
    }

    /// A node-id.
    pub fn node_id(&mut self, id: &NodeId) {
        self.raw(&id.0);
    }

    /// An incarnation.
    pub fn incarnation(&mut self, incarnation: &Incarnation) {
        self.u64(incarnation.number);
        self.raw(&incarnation.id);
    }

    /// A namespace name.
    pub fn namespace(&mut self, namespace: &Namespace) {
        self.text(namespace.as_str());
    }

    /// A hostname.
    pub fn hostname(&mut self, hostname: &Hostname) {
        self.text(hostname.as_str());
    }

    /// An optional field behind a flag byte.
    pub fn option<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_bounded_before_it_is_read() {
        let mut out = Writer::new();
        out.u32(u32::MAX);
        let bytes = out.into_bytes();
        assert!(Reader::new(&bytes).bytes(1 << 20).is_err());
        assert!(Reader::new(&bytes).count(usize::MAX, 1).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Writer::new();
        out.text("käse");
        out.option(Some(&7u64), |w, v| w.u64(*v));
        out.option(None::<&u64>, |w, v| w.u64(*v));
        let bytes = out.into_bytes();
        let mut input = Reader::new(&bytes);
        assert_eq!(input.text(16).unwrap(), "käse");
        assert_eq!(input.option(|r| r.u64()).unwrap(), Some(7));
        assert_eq!(input.option(|r| r.u64()).unwrap(), None);
        input.finish().unwrap();
    }
}
