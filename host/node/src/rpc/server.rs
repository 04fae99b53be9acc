//! The HTTP side: accepts a bounded number of connections, plain or TLS, reads bodies in bounded time and size, hands them to [`Rpc`], and
//! gives a client up that does not read its answer.
//!
//! Any path, any method, any content type; answers are JSON with status 200, but 413 for a body over the cap, and 400 for plain HTTP where
//! TLS is served. Owns the listening socket: [`RpcServer::close`] gives the port back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, info, warn};

use super::Rpc;
use super::body::{self, BodyError};
use super::envelope::render;
use super::error::{BAD_REQUEST, HTTP_TIMEOUT, RpcError};
use super::events;
use super::https::{Caller, Https};
use super::socket::Socket;
use crate::telemetry::counters::ConnectionGauge;

/// Requests under way get this long to finish when the server closes.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Pause after a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Headers of one request, at most.
const HEADERS_MAX: usize = 64;
/// Buffer of one connection; bounds the header block. Bytes.
const CONNECTION_BUFFER_BYTES: usize = 64 << 10;
/// What a client of TLS says first: the type of a handshake's record.
const TLS_HANDSHAKE: u8 = 0x16;
/// Of a plain request on a TLS port so much is read and thrown away, so that its client gets to read the answer instead of a reset.
const PLAIN_BYTES_MAX: u64 = 1 << 20;

/// Limits of the HTTP side.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// `http.request.max_content_length`, bytes; the platform's default is 100 KiB.
    pub body_bytes_max: usize,
    /// Time for the TLS handshake.
    pub handshake_time: Duration,
    /// Time for a request's headers; also how long an idle connection is kept.
    pub header_time: Duration,
    /// Time for a request's body (`http.request.read_timeout`).
    pub body_time: Duration,
    /// Time in which a client must take some of its answer.
    pub write_time: Duration,
    /// Connections at once; more wait in the system's backlog.
    pub connections_max: usize,
    /// `http.allowedOrigins`; `*` allows all.
    pub allowed_origins: Vec<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            body_bytes_max: 100 << 10,
            handshake_time: Duration::from_secs(10),
            header_time: Duration::from_secs(60),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            connections_max: 1024,
            allowed_origins: vec!["*".to_owned()],
        }
    }
}

/// A serving JSON-RPC port.
pub struct RpcServer {
    address: SocketAddr,
    served: Arc<Served>,
    closing: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

struct Served {
    rpc: Arc<Rpc>,
    options: ArcSwap<HttpOptions>,
    https: Option<Https>,
    closed: watch::Receiver<bool>,
}

/// What a request needs of its connection.
#[derive(Clone)]
struct Connection {
    served: Arc<Served>,
    caller: Arc<Caller>,
}

impl RpcServer {
    /// Listens on `address` (port 0 picks a free one) and serves from the threads of `tasks`: over TLS alone with `https`, else plainly.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn start(
        address: SocketAddr,
        options: HttpOptions,
        https: Option<Https>,
        rpc: Arc<Rpc>,
        tasks: &Handle,
    ) -> std::io::Result<Self> {
        let bound = tasks.spawn(TcpListener::bind(address));
        let listener = bound.await.map_err(std::io::Error::other)??;
        let address = listener.local_addr()?;
        let (closing, closed) = watch::channel(false);
        let tls = https.is_some();
        let served = Arc::new(Served {
            rpc,
            options: ArcSwap::from_pointee(options),
            https,
            closed: closed.clone(),
        });
        let serving = tasks.spawn(accept(listener, Arc::clone(&served), closed));
        info!(%address, tls, "serving JSON-RPC");
        Ok(Self {
            address,
            served,
            closing,
            serving,
        })
    }

    /// The address served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other limits for the requests that begin from now on. How many connections there may be stays as it was.
    pub fn set_options(&self, options: HttpOptions) {
        self.served.options.store(Arc::new(options));
    }

    /// Closes the port at once; requests under way get up to 2 s.
    pub async fn close(self) {
        self.closing.send_replace(true);
        if self.serving.await.is_err() {
            warn!(address = %self.address, "the JSON-RPC server ended abnormally");
        }
        info!(address = %self.address, "JSON-RPC port closed");
    }
}

async fn accept(listener: TcpListener, served: Arc<Served>, mut closed: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(served.options.load().connections_max.max(1)));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        match (slot, accepted) {
            (Ok(slot), Ok((stream, peer))) => {
                let (served, closed) = (Arc::clone(&served), closed.clone());
                open.spawn(async move {
                    let _gauge = ConnectionGauge::open();
                    if let Err(error) = talk(stream, served, closed).await {
                        debug!(%peer, %error, "connection ended early");
                    }
                    drop(slot);
                });
            }
            (_, Err(error)) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(listener);
    let drained = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSE_TIME, drained).await.is_err() {
        open.shutdown().await;
    }
}

/// One connection, from its first byte to its last.
async fn talk(stream: TcpStream, served: Arc<Served>, closed: watch::Receiver<bool>) -> std::io::Result<()> {
    // Small answers must not wait for the peer's delayed acknowledgement; a socket that refuses is as good without.
    let _ = stream.set_nodelay(true);
    let (write_time, handshake_time) = {
        let options = served.options.load();
        (options.write_time, options.handshake_time)
    };
    let Some(https) = &served.https else {
        let stream = Socket::new(stream, write_time);
        return serve(stream, Caller::default(), served, closed).await;
    };
    let handshake = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(None);
        }
        if first[0] != TLS_HANDSHAKE {
            refuse_plain(stream).await?;
            return Ok(None);
        }
        https.accept(Socket::new(stream, write_time)).await.map(Some)
    };
    match tokio::time::timeout(handshake_time, handshake).await {
        Ok(Ok(Some((stream, caller)))) => serve(stream, caller, Arc::clone(&served), closed).await,
        Ok(Ok(None)) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// Says to a client of plain HTTP, in its own language, that this port speaks TLS.
async fn refuse_plain(mut stream: TcpStream) -> std::io::Result<()> {
    let error = RpcError::request("this port serves HTTPS (http.security of system.toml): call it by https://");
    let body = render(None, None, &Err(error));
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(PLAIN_BYTES_MAX);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

async fn serve<S>(
    stream: S,
    caller: Caller,
    served: Arc<Served>,
    mut closed: watch::Receiver<bool>,
) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let header_time = served.options.load().header_time;
    let caller = Arc::new(caller);
    let router = Router::new().fallback(answer).with_state(Connection { served, caller });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_headers(HEADERS_MAX)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(std::io::Error::other),
        _ = closed.wait_for(|closed| *closed) => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(std::io::Error::other)
}

async fn answer(State(connection): State<Connection>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let Connection { served, caller } = connection;
    let options = served.options.load_full();
    let (head, body) = request.into_parts();
    let origin = allowed_origin(&head.headers, &options.allowed_origins);
    if head.method == Method::OPTIONS {
        return Ok(preflight(origin));
    }
    if head.method == Method::GET
        && let Some(wanted) = events::wanted(head.uri.path())
    {
        let closed = served.closed.clone();
        return Ok(with_origin(
            events::answer(&served.rpc, &wanted, &head.headers, closed),
            origin,
        ));
    }
    let collected = if head.method == Method::POST {
        body::collect(&head.headers, body, options.body_bytes_max, options.body_time).await
    } else {
        Ok(bytes::Bytes::new())
    };
    let mut close = false;
    let (status, text) = match collected {
        Ok(body) => (StatusCode::OK, served.rpc.answer(body, &caller).await),
        Err(error) => {
            close = true;
            refuse_body(error, options.body_bytes_max)
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(with_origin(response, origin))
}

fn with_origin(mut response: Response<Body>, origin: Option<HeaderValue>) -> Response<Body> {
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

fn refuse_body(error: BodyError, bytes_max: usize) -> (StatusCode, String) {
    let (status, error) = match error {
        BodyError::TooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            RpcError::new(
                BAD_REQUEST,
                format!("request body is too large: at most {bytes_max} bytes are taken"),
            ),
        ),
        BodyError::TooSlow => (
            StatusCode::OK,
            RpcError::new(HTTP_TIMEOUT, "the request did not arrive in time"),
        ),
        BodyError::Broken => (StatusCode::OK, RpcError::request("the request body is malformed")),
    };
    (status, render(None, None, &Err(error)))
}

fn allowed_origin(headers: &HeaderMap, allowed: &[String]) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    if allowed.iter().any(|entry| entry == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let known = allowed.iter().any(|entry| entry.as_bytes() == origin.as_bytes());
    known.then(|| origin.clone())
}

fn preflight(origin: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST"),
        );
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    response
}
