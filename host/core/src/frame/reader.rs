//! Cuts a stream of bytes into frames: for tests, the simulator and links that read into a buffer. A link that reads exact lengths from
//! its socket uses [`FrameHeader::parse`] and [`FrameHeader::finish`] directly, under the same bounds.

use bytes::{Buf, Bytes, BytesMut};

use super::{Frame, FrameError, FrameHeader, HEADER_BYTES, Side};

/// What the bytes at hand gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A whole frame.
    Frame(Frame),
    /// At least so many bytes more are needed.
    More(usize),
}

/// Collects bytes and gives frames. Holds at most one frame beyond what was pushed in one go.
#[derive(Debug)]
pub struct FrameReader {
    side: Side,
    checksums: bool,
    buffer: BytesMut,
    header: Option<FrameHeader>,
}

impl FrameReader {
    /// A reader of one link.
    pub fn new(side: Side, checksums: bool) -> Self {
        Self {
            side,
            checksums,
            buffer: BytesMut::new(),
            header: None,
        }
    }

    /// Adds what a socket gave.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if it is whole. Unknown optional kinds are skipped.
    ///
    /// # Errors
    /// The bytes are no frame: close the link.
    pub fn take(&mut self) -> Result<Parsed, FrameError> {
        loop {
            let header = match self.header {
                Some(header) => header,
                None => {
                    let Some((first, _)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else {
                        return Ok(Parsed::More(HEADER_BYTES - self.buffer.len()));
                    };
                    let header = FrameHeader::parse(first, self.side, self.checksums)?;
                    self.buffer.advance(HEADER_BYTES);
                    self.header = Some(header);
                    header
                }
            };
            if self.buffer.len() < header.length {
                return Ok(Parsed::More(header.length - self.buffer.len()));
            }
            let payload: Bytes = self.buffer.split_to(header.length).freeze();
            self.header = None;
            if let Some(frame) = header.finish(payload)? {
                return Ok(Parsed::Frame(frame));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{FLAG_OPTIONAL, Kind, NamespaceTag};
    use super::*;

    fn frame(code: u8, namespace: u64, stream: u32, payload: Vec<u8>) -> Frame {
        Frame::of(Kind::from_code(code), NamespaceTag(namespace), stream, payload.into())
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_bounded(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), magic: bool, plain: bool,
        ) {
            let mut bytes = bytes;
            if magic && bytes.len() >= 2 { bytes[..2].copy_from_slice(b"cv"); }
            for side in [Side::Provider, Side::Receiver] {
                let mut reader = FrameReader::new(side, plain);
                reader.push(&bytes);
                while let Ok(Parsed::Frame(frame)) = reader.take() {
                    prop_assert!(frame.payload.len() <= frame.kind.payload_bytes_max(side));
                }
                prop_assert!(reader.buffer.capacity() <= 1024);
            }
        }

        #[test]
        fn frames_survive_any_cut(
            code in 1u8..=19, namespace: u64, stream: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..2000), cut in 0usize..2100, plain: bool,
        ) {
            let frame = frame(code, namespace, stream, payload);
            let mut bytes = frame.encode_header(plain).to_vec();
            bytes.extend_from_slice(&frame.payload);
            let mut reader = FrameReader::new(Side::Receiver, plain);
            let cut = cut.min(bytes.len());
            reader.push(&bytes[..cut]);
            if cut < bytes.len() {
                prop_assert!(matches!(reader.take(), Ok(Parsed::More(_))));
            }
            reader.push(&bytes[cut..]);
            prop_assert_eq!(reader.take(), Ok(Parsed::Frame(frame)));
            prop_assert_eq!(reader.take(), Ok(Parsed::More(HEADER_BYTES)));
        }

        #[test]
        fn a_flipped_bit_on_a_plain_link_is_seen(
            code in 1u8..=19, payload in proptest::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let frame = frame(code, 7, 3, payload);
            let mut bytes = frame.encode_header(true).to_vec();
            bytes.extend_from_slice(&frame.payload);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut reader = FrameReader::new(Side::Receiver, true);
            reader.push(&bytes);
            let seen = !matches!(reader.take(), Ok(Parsed::Frame(_)));
            prop_assert!(seen);
        }
    }

    #[test]
    fn a_giant_length_is_refused_before_the_payload() {
        for code in 1..=19 {
            for side in [Side::Provider, Side::Receiver] {
                let mut bytes = frame(code, 0, 0, Vec::new()).encode_header(false);
                bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
                let refused = FrameHeader::parse(&bytes, side, false);
                assert!(matches!(refused, Err(FrameError::TooLong { .. })), "{code}");
            }
        }
    }

    #[test]
    fn unknown_kinds_are_skipped_only_when_optional() {
        let mut later = frame(200, 0, 0, vec![1, 2, 3]);
        let mut reader = FrameReader::new(Side::Provider, false);
        reader.push(&later.encode_header(false));
        assert_eq!(reader.take(), Err(FrameError::UnknownKind(200)));

        later.flags = FLAG_OPTIONAL;
        let mut reader = FrameReader::new(Side::Provider, false);
        reader.push(&later.encode_header(false));
        reader.push(&later.payload);
        let known = frame(4, 0, 0, vec![9]);
        reader.push(&known.encode_header(false));
        reader.push(&known.payload);
        assert_eq!(reader.take(), Ok(Parsed::Frame(known)));
    }

    #[test]
    fn plain_and_tls_links_are_told_apart() {
        let beat = frame(4, 0, 0, Vec::new());
        let plain = FrameHeader::parse(&beat.encode_header(true), Side::Provider, false);
        assert!(matches!(plain, Err(FrameError::ChecksumState(_))));
        let tls = FrameHeader::parse(&beat.encode_header(false), Side::Provider, true);
        assert!(matches!(tls, Err(FrameError::ChecksumState(_))));
        let client_hello = [0x16; HEADER_BYTES];
        let text = FrameHeader::parse(&client_hello, Side::Provider, true)
            .unwrap_err()
            .to_string();
        assert!(text.contains("enableTLS"), "{text}");
    }
}
