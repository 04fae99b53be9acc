//! `GET /mq/<namespace>/<queue>`: a queue's events as server-sent events. `id` is the cursor after the event, `event` its routing key, `data`
//! the envelope. The stream goes on for ever; `Last-Event-ID` resumes it, and what was not acknowledged by `mq_ack` comes again to a
//! stream without one.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use cvp_core::mq::{Event, EventId};
use hyper::body::Frame;
use percent_encoding::percent_decode_str;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::envelope::render;
use super::error::{NO_NAMESPACE, NOT_FOUND, RpcError};
use super::{Context, Rpc, mq};
use crate::mq::Feed;

/// Where the streams are.
const PREFIX: &str = "/mq/";
/// Streams at once; each keeps a connection.
pub const STREAMS_MAX: usize = 256;
/// Chunks that wait for a client that reads slowly: one is being sent, one is ready.
const CHUNKS: usize = 1;
/// A stream without events says so, so that both ends see a dead connection.
const QUIET: Duration = Duration::from_secs(15);

/// The namespace and the queue that a path asks for. Bytes that are no text after decoding name nothing.
pub fn wanted(path: &str) -> Option<(String, String)> {
    let (namespace, queue) = path.strip_prefix(PREFIX)?.trim_end_matches('/').split_once('/')?;
    let decoded = |name: &str| percent_decode_str(name).decode_utf8_lossy().into_owned();
    Some((decoded(namespace), decoded(queue)))
}

/// Answers with the stream, or says why not.
pub fn answer(
    rpc: &Arc<Rpc>,
    (namespace, queue): &(String, String),
    headers: &HeaderMap,
    closed: watch::Receiver<bool>,
) -> Response<Body> {
    match open(rpc, namespace, queue, headers) {
        Ok((feed, permit)) => {
            let (chunks, waiting) = mpsc::channel(CHUNKS);
            tokio::spawn(send(feed, chunks, closed, permit));
            stream(waiting)
        }
        Err(error) => refuse(namespace, &error),
    }
}

fn open(
    rpc: &Rpc,
    namespace: &str,
    queue: &str,
    headers: &HeaderMap,
) -> Result<(Feed, OwnedSemaphorePermit), RpcError> {
    let facts = rpc.facts.load_full();
    if facts.receiver {
        return Err(RpcError::cvp_closed("GET /mq"));
    }
    let chain = rpc
        .chains
        .get(namespace)
        .ok_or_else(|| RpcError::namespace(namespace))?;
    let queues = mq::embedded("GET /mq", &Context { chain, facts }, &rpc.queues)?;
    let after = match headers.get("last-event-id").map(HeaderValue::to_str) {
        None => None,
        Some(Ok("")) => None,
        Some(Ok(id)) => Some(id.parse::<EventId>().map_err(|bad| RpcError::params(bad.what))?),
        Some(Err(_)) => return Err(RpcError::params("Last-Event-ID is no id of an event")),
    };
    let feed = queues
        .feed(queue, after)
        .map_err(|refused| RpcError::new(refused.code, refused.message))?;
    let busy = |_| {
        RpcError::new(
            super::error::BUSY,
            format!("{STREAMS_MAX} streams of events are open already"),
        )
    };
    let permit = Semaphore::try_acquire_owned(Arc::clone(&rpc.streams)).map_err(busy)?;
    Ok((feed, permit))
}

/// Reads windows and hands them to the connection until one of the three ends.
async fn send(
    mut feed: Feed,
    chunks: mpsc::Sender<Bytes>,
    mut closed: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let sending = async {
        let mut next = Bytes::from_static(b"retry: 1000\n\n");
        loop {
            if chunks.send(next).await.is_err() {
                return;
            }
            feed.confirmed();
            next = match tokio::time::timeout(QUIET, feed.window()).await {
                Ok(Ok(events)) => chunk(&feed, &events),
                Ok(Err(end)) => {
                    tracing::debug!(%end, "a stream of events ended");
                    return;
                }
                Err(_) => Bytes::from_static(b":\n\n"),
            };
        }
    };
    tokio::select! {
        () = sending => {}
        () = chunks.closed() => {}
        _ = closed.wait_for(|closed| *closed) => {}
    }
}

/// The events as the client reads them. An envelope is JSON on one line.
fn chunk(feed: &Feed, events: &[Event]) -> Bytes {
    let mut out = String::with_capacity(events.iter().map(|event| event.message.len() + 64).sum());
    for event in events {
        // Writing to a String does not fail.
        let _ = write!(
            out,
            "id: {}\nevent: {}\ndata: {}\n\n",
            feed.id(event),
            event.key.as_str(),
            event.message
        );
    }
    out.into()
}

fn stream(waiting: mpsc::Receiver<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Chunks(waiting)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(namespace: &str, error: &RpcError) -> Response<Body> {
    let status = match error.code {
        NOT_FOUND | NO_NAMESPACE | super::error::NO_METHOD => StatusCode::NOT_FOUND,
        super::error::BAD_PARAMS => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let shown: String = namespace.chars().take(64).collect();
    let mut response = Response::new(Body::from(render(Some(&shown), None, &Err(error.clone()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The body of a stream.
struct Chunks(mpsc::Receiver<Bytes>);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn names_are_read_as_a_client_writes_them() {
        let names = |path: &str| wanted(path).unwrap();
        let plain = ("global".to_owned(), "a:b@c".to_owned());
        assert_eq!(names("/mq/global/a:b@c"), plain);
        assert_eq!(names("/mq/global/a%3Ab%40c/"), plain);
        assert_eq!(names("/mq/%67lobal/a%3ab@c"), plain);
        // One slash divides; what is no text or no escape is no name of a queue either.
        assert_eq!(names("/mq/global/a%2Fb").1, "a/b");
        assert_eq!(names("/mq/global/%ff%4").1, "\u{fffd}%4");
        assert!(wanted("/mq/global").is_none() && wanted("/other/global/q").is_none());
    }
}
