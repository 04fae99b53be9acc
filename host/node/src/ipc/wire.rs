//! Lines on the socket: one JSON object each, bounded before it is kept.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use super::Failure;

/// Longest request line, bytes: a request is a few names.
pub(super) const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Longest answer line, bytes: a status of many namespaces.
pub(super) const ANSWER_BYTES_MAX: usize = 16 << 20;

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// Something on the way.
    Progress(Value),
    /// The result.
    Done(Value),
    /// It was not done.
    Failed(Failure),
}

/// Reads one line; `None` at the end of the stream.
pub(super) async fn read_line<T: DeserializeOwned>(
    input: &mut (impl AsyncBufRead + Unpin),
    bytes_max: usize,
) -> std::io::Result<Option<T>> {
    let bad = |text: String| std::io::Error::new(std::io::ErrorKind::InvalidData, text);
    let mut line = Vec::new();
    loop {
        let chunk = input.fill_buf().await?;
        if chunk.is_empty() {
            if line.is_empty() {
                return Ok(None);
            }
            return Err(bad("the stream ended inside a line".to_owned()));
        }
        let (part, ended) = match chunk.iter().position(|b| *b == b'\n') {
            Some(at) => (at + 1, true),
            None => (chunk.len(), false),
        };
        if line.len() + part > bytes_max {
            return Err(bad(format!("a line of more than {bytes_max} bytes")));
        }
        line.extend_from_slice(&chunk[..part]);
        input.consume(part);
        if ended {
            return serde_json::from_slice(&line)
                .map(Some)
                .map_err(|error| bad(error.to_string()));
        }
    }
}

/// Writes one line.
pub(super) async fn write_line(output: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(std::io::Error::other)?;
    line.push(b'\n');
    output.write_all(&line).await?;
    output.flush().await
}
