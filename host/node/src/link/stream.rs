//! One byte stream, with TLS or without, and the greeting that both ends exchange before the first frame.
//!
//! The greeting is what makes mistakes speak: a plain peer on a TLS port (and the reverse) meets it at once, and a certificate that the
//! acceptor refuses is known to the dialer before it hands the link on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cvp_core::types::{Reader, Refusal, Writer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::error::{LinkError, from_io};

/// What each end sends first; the digit is the version of the greeting.
pub(super) const GREETING: &[u8; 8] = b"CVPLINK1";
/// What an acceptor sends instead, followed by a length (u16) and a refusal.
const REFUSAL: &[u8; 8] = b"CVPREFUS";
/// Bounded text of a refusal.
const REFUSAL_BYTES_MAX: usize = 4096;
/// First byte of a TLS record that opens a handshake, and of an alert.
const TLS_HANDSHAKE: u8 = 0x16;
const TLS_ALERT: u8 = 0x15;

/// Read from the socket at once: TLS by itself asks the system for 4 KiB at a time.
const SOCKET_BYTES: usize = 128 << 10;
/// Bytes that the system takes to send and has not sent yet.
const UNSENT_BYTES_MAX: u32 = 256 << 10;

/// A socket below TLS.
pub(super) type Socket = BufReader<TcpStream>;

/// What TLS is spoken over.
pub(super) fn below_tls(socket: TcpStream) -> Socket {
    BufReader::with_capacity(SOCKET_BYTES, socket)
}

/// A connected stream.
pub(super) enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS 1.3 over TCP.
    Tls(Box<TlsStream<Socket>>),
}

macro_rules! each {
    ($self:expr, $stream:ident => $body:expr) => {
        match $self.get_mut() {
            Stream::Plain($stream) => {
                let $stream = Pin::new($stream);
                $body
            }
            Stream::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $body
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, out))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, bytes))
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(cx, slices))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}

/// Prepares a fresh socket: no delay of small frames, keepalive as a last resort below the heartbeats.
pub(super) fn prepare(socket: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(5))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(2))?;
    sockopt::set_tcp_keepcnt(socket, 3)?;
    // What the system holds beyond what is on the line is ahead of everything that is said later.
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok(())
}

/// The dialer's greeting: sends ours, reads the acceptor's.
pub(super) async fn greet(stream: &mut Stream) -> Result<(), LinkError> {
    let io = |error: io::Error| from_io(&error);
    stream.write_all(GREETING).await.map_err(io)?;
    stream.flush().await.map_err(io)?;
    let mut found = [0; 8];
    stream.read_exact(&mut found[..1]).await.map_err(io)?;
    // One byte is enough to know a TLS peer, which may send no more than an alert of seven.
    if matches!(found[0], TLS_HANDSHAKE | TLS_ALERT) {
        return Err(LinkError::TlsMismatch("the peer speaks TLS and this node does not"));
    }
    stream.read_exact(&mut found[1..]).await.map_err(io)?;
    match &found {
        GREETING => Ok(()),
        REFUSAL => Err(read_refusal(stream).await),
        other => Err(LinkError::NotANode(format!(
            "it answers {:?}",
            String::from_utf8_lossy(other)
        ))),
    }
}

async fn read_refusal(stream: &mut Stream) -> LinkError {
    let read = async {
        let length = usize::from(stream.read_u16_le().await.ok()?);
        if length > REFUSAL_BYTES_MAX {
            return None;
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await.ok()?;
        Refusal::read(&mut Reader::new(&bytes)).ok()
    };
    match read.await {
        Some(refusal) => LinkError::Refused(refusal),
        None => LinkError::Lost("it was refused, and the reason did not arrive".into()),
    }
}

/// The acceptor's greeting on a stream that is ready for frames: reads the dialer's, answers ours.
pub(super) async fn welcome(stream: &mut Stream) -> Result<(), LinkError> {
    let io = |error: io::Error| from_io(&error);
    let mut found = [0; 8];
    stream.read_exact(&mut found).await.map_err(io)?;
    if &found != GREETING {
        return Err(LinkError::NotANode(format!(
            "it sent {:?}",
            String::from_utf8_lossy(&found)
        )));
    }
    stream.write_all(GREETING).await.map_err(io)?;
    stream.flush().await.map_err(io)
}

/// Looks at the first byte of a fresh connection without taking it, and says so when the two ends do not agree on TLS.
pub(super) async fn check_first_byte(socket: &mut TcpStream, own_tls: bool) -> Result<(), LinkError> {
    let mut first = [0; 1];
    if socket.peek(&mut first).await.map_err(|error| from_io(&error))? == 0 {
        return Err(LinkError::Lost("closed before the first byte".into()));
    }
    let peer_tls = first[0] == TLS_HANDSHAKE;
    if peer_tls == own_tls {
        return Ok(());
    }
    if !peer_tls && first[0] != GREETING[0] {
        // Neither TLS nor ours: a stranger gets no answer.
        return Err(LinkError::NotANode(format!("it begins with byte {:#04x}", first[0])));
    }
    let (here, told) = if own_tls {
        (
            "this node speaks TLS and the peer does not",
            "the node there speaks TLS (p2p.enableTLS = true) and this one does not",
        )
    } else {
        (
            "the peer speaks TLS and this node does not",
            "this node speaks TLS and the one there does not (p2p.enableTLS = false)",
        )
    };
    refuse(
        socket,
        &Refusal::new(
            "tls-mismatch",
            told,
            "set p2p.enableTLS in system.toml to the same value on both nodes",
        ),
    )
    .await;
    Err(LinkError::TlsMismatch(here))
}

/// Sends a refusal in place of the greeting, as well as that works: the link is given up either way.
pub(super) async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S, refusal: &Refusal) {
    let mut body = Writer::new();
    refusal.write(&mut body);
    let mut out = Writer::new();
    out.raw(REFUSAL);
    out.u16(body.len().min(REFUSAL_BYTES_MAX) as u16);
    out.raw(body.as_slice());
    if socket.write_all(out.as_slice()).await.is_ok() && socket.shutdown().await.is_ok() {
        // Unread input makes the close a reset, which can overtake the words: take in what is there first.
        let mut sink = [0; 1024];
        let drain = async { while matches!(socket.read(&mut sink).await, Ok(read) if read > 0) {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), drain).await;
    }
}
