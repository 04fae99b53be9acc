//! The hashed region of a record: what the block hash covers.

use crate::types::{Digest, Height, Hostname, Incarnation, Malformed, Namespace, Position, Reader, UnixNanos, Writer};

/// Record format written and read by this release.
pub const FORMAT: u32 = 1;

/// Bytes of the hashed region in format 1.
pub(super) const HASHED_BYTES: usize = 4 + 32 + 8 + 32 + 8 + 24 + HOSTNAME_BYTES + 4 * 32 + 33 + 4 + 4 + 8 + 8;

/// A hostname in the header: one length byte, the name, zeros.
const HOSTNAME_BYTES: usize = 65;

/// What a block's hash commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`namespace_digest`] of the namespace's name.
    pub namespace: Digest,
    /// Height; genesis is 0.
    pub height: Height,
    /// Hash of the record below; zero in genesis.
    pub parent: Digest,
    /// When the block was made, ns since the Unix epoch; never decreases along a chain; 0 in genesis.
    pub time: UnixNanos,
    /// Incarnation of the maker.
    pub incarnation: Incarnation,
    /// Hostname of the maker.
    pub proposer: Hostname,
    /// Digest of the part `transactions`.
    pub transactions: Digest,
    /// Digest of the part `receipts`.
    pub receipts: Digest,
    /// Digest of the part `delta`.
    pub delta: Digest,
    /// State commitment after this block: digest of the accumulator.
    pub state: Digest,
    /// A second state root (of another state structure), if the chain keeps one.
    pub second_root: Option<Digest>,
    /// Valid transactions in this block; they come first in the part.
    pub valid: u32,
    /// Invalid (failed) transactions in this block.
    pub invalid: u32,
    /// Valid transactions of the chain, this block included.
    pub valid_total: u64,
    /// Invalid transactions of the chain, this block included.
    pub invalid_total: u64,
}

impl Header {
    /// Appends the hashed region, `HASHED_BYTES` long.
    pub(super) fn write(&self, out: &mut Writer) {
        out.u32(FORMAT);
        out.digest(&self.namespace);
        out.u64(self.height);
        out.digest(&self.parent);
        out.u64(self.time);
        out.incarnation(&self.incarnation);
        let name = self.proposer.as_str().as_bytes();
        let mut fixed = [0u8; HOSTNAME_BYTES];
        // A Hostname is at most 64 bytes by construction.
        fixed[0] = name.len() as u8;
        fixed[1..=name.len()].copy_from_slice(name);
        out.raw(&fixed);
        out.digest(&self.transactions);
        out.digest(&self.receipts);
        out.digest(&self.delta);
        out.digest(&self.state);
        out.flag(self.second_root.is_some());
        out.digest(&self.second_root.unwrap_or(Digest::ZERO));
        out.u32(self.valid);
        out.u32(self.invalid);
        out.u64(self.valid_total);
        out.u64(self.invalid_total);
    }

    /// Reads the hashed region. Every byte is significant: padding must be zero, so one header has one encoding. A proposer that is the same
    /// as `like` shares its memory.
    pub(super) fn read(input: &mut Reader<'_>, like: Option<&Hostname>) -> Result<Self, Malformed> {
        let format = input.u32()?;
        if format != FORMAT {
            return Err(Malformed::new(format!(
                "record format {format}; this release knows {FORMAT}"
            )));
        }
        Ok(Self {
            namespace: input.digest()?,
            height: input.u64()?,
            parent: input.digest()?,
            time: input.u64()?,
            incarnation: input.incarnation()?,
            proposer: read_hostname(input, like)?,
            transactions: input.digest()?,
            receipts: input.digest()?,
            delta: input.digest()?,
            state: input.digest()?,
            second_root: read_second_root(input)?,
            valid: input.u32()?,
            invalid: input.u32()?,
            valid_total: input.u64()?,
            invalid_total: input.u64()?,
        })
    }

    /// The hash of the record: BLAKE3 of the hashed region.
    pub fn hash(&self) -> Digest {
        let mut out = Writer::with_capacity(HASHED_BYTES);
        self.write(&mut out);
        Digest::of(out.as_slice())
    }
}

fn read_hostname(input: &mut Reader<'_>, like: Option<&Hostname>) -> Result<Hostname, Malformed> {
    let fixed = input.take(HOSTNAME_BYTES)?;
    let (length, rest) = (usize::from(fixed[0]), &fixed[1..]);
    let (name, padding) = rest
        .split_at_checked(length)
        .ok_or_else(|| Malformed::new(format!("proposer of {length} bytes")))?;
    if padding.iter().any(|b| *b != 0) {
        return Err(Malformed::new("proposer is followed by bytes that are not zero"));
    }
    let name = std::str::from_utf8(name).map_err(|_| Malformed::new("proposer is not UTF-8"))?;
    match like {
        Some(like) if like.as_str() == name => Ok(like.clone()),
        _ => Hostname::new(name).map_err(|e| Malformed::new(e.to_string())),
    }
}

fn read_second_root(input: &mut Reader<'_>) -> Result<Option<Digest>, Malformed> {
    let (present, root) = (input.flag()?, input.digest()?);
    if !present && root != Digest::ZERO {
        return Err(Malformed::new("second state root without its flag"));
    }
    Ok(present.then_some(root))
}

/// The namespace id that records carry: BLAKE3 of `cvp namespace v1` and the name.
pub fn namespace_digest(namespace: &Namespace) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"cvp namespace v1");
    hasher.update(namespace.as_str().as_bytes());
    Digest(*hasher.finalize().as_bytes())
}

/// The block hash that the RPC shows: height as 8 bytes big-endian, then the first 24 bytes of the record's hash. So a query by hash
/// needs no index.
pub fn public_hash(position: &Position) -> [u8; 32] {
    let mut out = [0; 32];
    out[..8].copy_from_slice(&position.height.to_be_bytes());
    out[8..].copy_from_slice(&position.hash.0[..24]);
    out
}

/// The height inside a [`public_hash`]; whether the rest matches the record there is for the caller to compare.
pub fn public_height(hash: &[u8; 32]) -> Height {
    let mut height = [0; 8];
    height.copy_from_slice(&hash[..8]);
    Height::from_be_bytes(height)
}
