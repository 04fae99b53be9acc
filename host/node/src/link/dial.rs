//! Dialling one address of `cvp.remote`, with its deadlines, each answer said in words.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cvp_core::config::Remote;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::error::{LinkError, from_io};
use super::names::{Proof, names_of};
use super::stream::{Socket, Stream, below_tls, greet, prepare};
use super::tls::Tls;
use super::{Link, Peer, PeerCertificate};

/// Longest time for connecting, and again for TLS and greeting together, milliseconds.
pub const HANDSHAKE_MS_MAX: u64 = 2_000;

/// Dials `remote`; over TLS when `tls` is given. The link is ready for frames.
///
/// # Errors
/// Everything that can be wrong with the address, the far end, either certificate, or the two TLS switches, named.
pub async fn dial(remote: &Remote, tls: Option<&Tls>) -> Result<Link, LinkError> {
    let (socket, address) = connect(&remote.address).await?;
    let greeting = async {
        let (mut stream, certificate) = match tls {
            None => (Stream::Plain(socket), None),
            Some(tls) => {
                let (stream, certificate) = handshake(socket, remote, tls).await?;
                (stream, Some(certificate))
            }
        };
        greet(&mut stream).await?;
        Ok(Link {
            stream,
            peer: Peer { address, certificate },
        })
    };
    within(HANDSHAKE_MS_MAX, "the greeting", greeting).await
}

async fn connect(address: &str) -> Result<(TcpStream, SocketAddr), LinkError> {
    let connecting = async {
        let socket = TcpStream::connect(address).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => LinkError::ConnectionRefused(address.to_owned()),
            _ => LinkError::Unreachable(address.to_owned(), error.to_string()),
        })?;
        prepare(&socket).map_err(|error| from_io(&error))?;
        let peer = socket.peer_addr().map_err(|error| from_io(&error))?;
        Ok((socket, peer))
    };
    match tokio::time::timeout(Duration::from_millis(HANDSHAKE_MS_MAX), connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(LinkError::Unreachable(
            address.to_owned(),
            format!("no answer within {HANDSHAKE_MS_MAX} ms"),
        )),
    }
}

async fn handshake(socket: TcpStream, remote: &Remote, tls: &Tls) -> Result<(Stream, PeerCertificate), LinkError> {
    let (connector, check) = tls.connector()?;
    let name = ServerName::try_from(remote.hostname.as_str().to_owned())
        .map_err(|_| LinkError::Unreachable(remote.hostname.to_string(), "it cannot be a TLS name".into()))?;
    let stream =
        connector
            .connect(name, below_tls(socket))
            .await
            .map_err(|error| match (from_io(&error), check.detail()) {
                (LinkError::PeerCertificate { code, .. }, Some(detail)) => LinkError::PeerCertificate {
                    code,
                    text: detail.to_owned(),
                },
                (other, _) => other,
            })?;
    let stream = TlsStream::from(stream);
    let certificate = certificate_of(&stream, check.proof())?;
    Ok((Stream::Tls(Box::new(stream)), certificate))
}

/// What the peer's certificate says, after the handshake verified it.
pub(super) fn certificate_of(stream: &TlsStream<Socket>, proof: Proof) -> Result<PeerCertificate, LinkError> {
    let bad = |text: String| LinkError::PeerCertificate {
        code: "certificate-bad",
        text,
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let first = chain.first().ok_or_else(|| bad("it presented none".into()))?;
    let names = names_of(first).map_err(bad)?;
    Ok(PeerCertificate { names, proof })
}

/// Runs `work` under a deadline.
pub(super) async fn within<T>(
    millis: u64,
    what: &'static str,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    match tokio::time::timeout(Duration::from_millis(millis), work).await {
        Ok(done) => done,
        Err(_) => Err(LinkError::Silent { what, millis }),
    }
}

/// The TLS set as the driver keeps it: shared, or none when `p2p.enableTLS = false`.
pub type SharedTls = Option<Arc<Tls>>;
