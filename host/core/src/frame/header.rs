//! The header's 32 bytes, and its checks.

use crate::types::Digest;

use super::{FLAG_CHECKSUM, FLAG_OPTIONAL, Frame, FrameError, Kind, NamespaceTag, Side};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 32;

/// The first two bytes of each frame. A TLS record begins with 0x14 to 0x17, so the two cannot be taken for each other.
pub const MAGIC: [u8; 2] = *b"cv";

/// A header that was checked: the length is within the bound of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub length: usize,
    /// What the frame is for.
    pub kind: Kind,
    /// As [`Frame::flags`], and `FLAG_CHECKSUM` on plain links.
    pub flags: u8,
    /// As [`Frame::namespace`].
    pub namespace: NamespaceTag,
    /// As [`Frame::stream`].
    pub stream: u32,
    /// As sent; 0 without `FLAG_CHECKSUM`.
    pub checksum: u64,
}

impl FrameHeader {
    /// The header of a frame, without checksum.
    pub fn of(frame: &Frame) -> FrameHeader {
        FrameHeader {
            length: frame.payload.len(),
            kind: frame.kind,
            flags: frame.flags & FLAG_OPTIONAL,
            namespace: frame.namespace,
            stream: frame.stream,
            checksum: 0,
        }
    }

    /// Encodes; with `payload`, a checksum over header and payload is added.
    pub fn encode(mut self, payload: Option<&[u8]>) -> [u8; HEADER_BYTES] {
        self.checksum = 0;
        match payload {
            None => {
                self.flags &= !FLAG_CHECKSUM;
                self.bytes()
            }
            Some(payload) => {
                self.flags |= FLAG_CHECKSUM;
                self.checksum = checksum(&self.bytes(), payload);
                self.bytes()
            }
        }
    }

    fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..2].copy_from_slice(&MAGIC);
        out[2] = self.kind.code();
        out[3] = self.flags;
        out[4..8].copy_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes());
        out[8..16].copy_from_slice(&self.namespace.0.to_le_bytes());
        out[16..20].copy_from_slice(&self.stream.to_le_bytes());
        out[24..32].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    /// Parses and checks the header that `side` read from a link, plain (`checksums`) or TLS. Nothing may be allocated before this
    /// said yes.
    pub fn parse(bytes: &[u8; HEADER_BYTES], side: Side, checksums: bool) -> Result<FrameHeader, FrameError> {
        let [m0, m1, kind, flags, l0, l1, l2, l3, rest @ ..] = *bytes;
        if [m0, m1] != MAGIC {
            return Err(FrameError::Magic { found: [m0, m1] });
        }
        if flags & !(FLAG_OPTIONAL | FLAG_CHECKSUM) != 0 {
            return Err(FrameError::Reserved("flags"));
        }
        if rest[12..16] != [0; 4] {
            return Err(FrameError::Reserved("bytes"));
        }
        match (checksums, flags & FLAG_CHECKSUM != 0) {
            (true, false) => return Err(FrameError::ChecksumState("without checksum on a plain link")),
            (false, true) => return Err(FrameError::ChecksumState("with checksum on a TLS link")),
            _ => {}
        }
        let header = FrameHeader {
            length: u32::from_le_bytes([l0, l1, l2, l3]) as usize,
            kind: Kind::from_code(kind),
            flags,
            namespace: NamespaceTag(u64_at(&rest, 0)),
            stream: u64_at(&rest, 8) as u32,
            checksum: u64_at(&rest, 16),
        };
        if let Kind::Unknown(code) = header.kind
            && flags & FLAG_OPTIONAL == 0
        {
            return Err(FrameError::UnknownKind(code));
        }
        let max = header.kind.payload_bytes_max(side);
        if header.length > max {
            return Err(FrameError::TooLong {
                kind: header.kind,
                length: header.length,
                max,
            });
        }
        Ok(header)
    }

    /// The frame of this header and the payload read behind it; `None` for an unknown kind, which is skipped.
    ///
    /// # Errors
    /// The checksum does not match.
    pub fn finish(&self, payload: bytes::Bytes) -> Result<Option<Frame>, FrameError> {
        if self.flags & FLAG_CHECKSUM != 0 {
            let blank = FrameHeader { checksum: 0, ..*self };
            if checksum(&blank.bytes(), &payload) != self.checksum {
                return Err(FrameError::Checksum(self.kind));
            }
        }
        if matches!(self.kind, Kind::Unknown(_)) {
            return Ok(None);
        }
        Ok(Some(Frame {
            kind: self.kind,
            flags: self.flags & FLAG_OPTIONAL,
            namespace: self.namespace,
            stream: self.stream,
            payload,
        }))
    }
}

fn u64_at(bytes: &[u8; 24], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

fn checksum(header: &[u8; HEADER_BYTES], payload: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    let digest = Digest(*hasher.finalize().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.0[..8]);
    u64::from_le_bytes(first)
}
