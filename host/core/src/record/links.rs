//! Links alone: that records lead from one position to another is shown by their headers, without their parts.

use crate::types::{Digest, Position, Reader, UnixNanos};

use super::header::{HASHED_BYTES, Header};
use super::span::{BadPart, BadRecord};

/// When the block of the first of these headers was made, as it says itself: unchecked. None where there is no whole header.
pub fn first_time(headers: &[u8]) -> Option<UnixNanos> {
    let header = Header::read(&mut Reader::new(headers.get(..HASHED_BYTES)?), None);
    header.ok().map(|header| header.time)
}

/// Checks that headers, back to back, follow `from` in the namespace with this digest, each linked to the one below. Answers the position
/// of the last; `from` itself when there is none.
///
/// # Errors
/// The first header that is malformed, of another namespace, or does not link.
pub fn check_headers(namespace: &Digest, from: Position, headers: &[u8]) -> Result<Position, BadRecord> {
    let (headers, rest) = headers.as_chunks::<HASHED_BYTES>();
    let mut at = from;
    for bytes in headers {
        let height = at.height.saturating_add(1);
        let bad = |part, reason: String| BadRecord::new(height, part, reason);
        let header = Header::read(&mut Reader::new(bytes), None).map_err(|error| bad(BadPart::Header, error.what))?;
        if header.namespace != *namespace {
            return Err(bad(BadPart::Header, "it is of another namespace".to_owned()));
        }
        if header.height != height || header.parent != at.hash {
            let reason = format!(
                "height {} and parent {} where {height} and {} are wanted",
                header.height,
                header.parent.short(),
                at.hash.short()
            );
            return Err(bad(BadPart::Link, reason));
        }
        at = Position {
            height,
            hash: Digest::of(bytes),
        };
    }
    if !rest.is_empty() {
        let reason = format!("{} bytes that are no whole header", rest.len());
        return Err(BadRecord::new(at.height.saturating_add(1), BadPart::Header, reason));
    }
    Ok(at)
}
