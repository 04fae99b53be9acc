//! Strong changes: acknowledged only when both ends hold them durably. The order of prepare, commit and abort, both halves, and nothing
//! else: what a change means, how it is written and who asked for it is the host's.
//!
//! The rules (contract.md §4): the receiver stages a change durably before it says prepared; the provider commits durably before it
//! answers its client or says commit; a change begun with a session never becomes a local one; what was staged when a session ended is
//! settled by the next handshake before anything else, and the provider's copy is the truth.

mod promised;
mod proposer;
mod stager;

use bytes::Bytes;

use crate::types::{Malformed, Reader, Refusal, Writer};

pub use promised::Promised;
pub use proposer::{NOT_UNDONE, Outcome, Proposer, ProviderDo, Settlement, Ticket};
pub use stager::{ReceiverDo, Stager};

/// Longest name of a change's kind, bytes.
pub const KIND_BYTES_MAX: usize = 64;

/// Longest body of a change, bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Names a change: numbered within the incarnation that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ChangeId {
    /// Random id of the provider's incarnation.
    pub incarnation: [u8; 16],
    /// Above, a number drawn at each start of the provider; below, 32 bits that grow by one with each change that a receiver was asked to
    /// hold.
    pub sequence: u64,
}

impl std::fmt::Display for ChangeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}.{}", self.sequence >> 32, self.sequence & u64::from(u32::MAX))
    }
}

impl ChangeId {
    /// 24 bytes.
    pub fn write(&self, out: &mut Writer) {
        out.raw(&self.incarnation);
        out.u64(self.sequence);
    }

    /// Reads [`ChangeId::write`]'s bytes.
    pub fn read(input: &mut Reader<'_>) -> Result<ChangeId, Malformed> {
        Ok(ChangeId {
            incarnation: input.array()?,
            sequence: input.u64()?,
        })
    }
}

/// One change on its way. Core does not look into the body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Its name.
    pub id: ChangeId,
    /// What it is: an open set (`config`, `namespace`, `queue`, ...). A receiver that does not know one refuses it.
    pub kind: String,
    /// What the kind says it is.
    pub body: Bytes,
}

impl Change {
    /// Payload of a prepare frame, and content of the file of what is staged.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(self.body.len() + self.kind.len() + 40);
        self.id.write(&mut out);
        out.text(&self.kind);
        out.bytes(&self.body);
        out.into_bytes()
    }

    /// Reads [`Change::encode`]'s bytes.
    ///
    /// # Errors
    /// They are not a change, or one beyond the bounds.
    pub fn decode(bytes: &[u8]) -> Result<Change, Malformed> {
        let mut input = Reader::new(bytes);
        let change = Change {
            id: ChangeId::read(&mut input)?,
            kind: input.text(KIND_BYTES_MAX)?.to_owned(),
            body: Bytes::copy_from_slice(input.bytes(BODY_BYTES_MAX)?),
        };
        input.finish()?;
        Ok(change)
    }
}

/// Payload of an aborted frame: which change, and why the receiver refused it (none: the provider had asked to drop it).
pub(in crate::replication) fn encode_aborted(id: &ChangeId, refusal: Option<&Refusal>) -> Vec<u8> {
    let mut out = Writer::new();
    id.write(&mut out);
    out.flag(refusal.is_some());
    if let Some(refusal) = refusal {
        refusal.write(&mut out);
    }
    out.into_bytes()
}

/// Reads [`encode_aborted`]'s bytes.
pub(in crate::replication) fn decode_aborted(bytes: &[u8]) -> Result<(ChangeId, Option<Refusal>), Malformed> {
    let mut input = Reader::new(bytes);
    let id = ChangeId::read(&mut input)?;
    let refusal = if input.flag()? {
        Some(Refusal::read(&mut input)?)
    } else {
        None
    };
    input.finish()?;
    Ok((id, refusal))
}

#[cfg(test)]
mod tests;
