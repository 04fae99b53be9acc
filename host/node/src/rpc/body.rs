//! Reads a request's body within its cap and its time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

/// An oversize body is read to its end up to this many bytes, so that the client gets to read the refusal instead of a reset.
const DISCARD_BYTES_MAX: usize = 16 << 20;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than the cap.
    TooLarge,
    /// Not complete in time.
    TooSlow,
    /// The connection broke, or its chunks are malformed.
    Broken,
}

/// The whole body, at most `bytes_max`, complete within `time`.
///
/// # Errors
/// See [`BodyError`]. Memory never holds more than `bytes_max` and one network read.
pub async fn collect(headers: &HeaderMap, body: Body, bytes_max: usize, time: Duration) -> Result<Bytes, BodyError> {
    tokio::time::timeout(time, collect_capped(headers, body, bytes_max))
        .await
        .unwrap_or(Err(BodyError::TooSlow))
}

async fn collect_capped(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<Bytes, BodyError> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let mut kept = BytesMut::with_capacity(declared.unwrap_or(1024).min(bytes_max));
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        seen = seen.saturating_add(data.len());
        if seen <= bytes_max {
            kept.extend_from_slice(data);
        } else if seen > DISCARD_BYTES_MAX {
            break;
        }
    }
    if seen > bytes_max {
        return Err(BodyError::TooLarge);
    }
    Ok(kept.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_taken_up_to_the_cap_and_refused_beyond_it() {
        let headers = HeaderMap::new();
        let time = Duration::from_secs(5);
        let whole = collect(&headers, Body::from("12345"), 5, time).await;
        assert_eq!(whole.unwrap(), "12345");
        let over = collect(&headers, Body::from("123456"), 5, time).await;
        assert_eq!(over, Err(BodyError::TooLarge));
    }
}
