//! Accepting: bounded, with deadlines, so that strangers can neither hold a slot nor grow the memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsStream;

use super::dial::{HANDSHAKE_MS_MAX, SharedTls, certificate_of, within};
use super::error::{LinkError, from_io};
use super::names::Proof;
use super::stream::{Stream, below_tls, check_first_byte, prepare, welcome};
use super::{Link, Peer};

/// Connections that may be before the end of their greeting at one time; more are closed at once.
const GREETING_MAX: usize = 32;

/// Accepts links on one address until it is dropped.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

/// A link, or why one did not come about, and from where.
pub type Accepted = (SocketAddr, Result<Link, LinkError>);

impl Listener {
    /// Binds `address` (port 0 picks a free one) and accepts into `accepted`, whose bound is the backpressure.
    pub async fn bind(address: &str, tls: SharedTls, accepted: mpsc::Sender<Accepted>) -> io::Result<Listener> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        let task = tokio::spawn(accept_all(socket, tls, accepted));
        Ok(Listener { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept_all(socket: TcpListener, tls: SharedTls, accepted: mpsc::Sender<Accepted>) {
    let slots = Arc::new(Semaphore::new(GREETING_MAX));
    loop {
        let (stream, from) = match socket.accept().await {
            Ok(pair) => pair,
            Err(error) => {
                // Out of descriptors, or a connection that ended meanwhile: the next one may do.
                tracing::debug!(%error, "accept link");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            tracing::debug!(%from, "close connection: too many are greeting");
            continue;
        };
        let (tls, accepted) = (tls.clone(), accepted.clone());
        tokio::spawn(async move {
            let link = within(HANDSHAKE_MS_MAX, "the greeting", receive(stream, from, tls)).await;
            drop(slot);
            // The receiver is gone only when the node stops.
            let _ = accepted.send((from, link)).await;
        });
    }
}

async fn receive(mut socket: TcpStream, address: SocketAddr, tls: SharedTls) -> Result<Link, LinkError> {
    prepare(&socket).map_err(|error| from_io(&error))?;
    check_first_byte(&mut socket, tls.is_some()).await?;
    let (mut stream, certificate) = match tls {
        None => (Stream::Plain(socket), None),
        Some(tls) => {
            let accepting = tls.acceptor().accept(below_tls(socket));
            let stream = accepting.await.map_err(|error| from_io(&error))?;
            let stream = TlsStream::from(stream);
            // Who a client says it is comes with its hello; its certificate proves membership and lists its names.
            let certificate = certificate_of(&stream, Proof::Membership)?;
            (Stream::Tls(Box::new(stream)), Some(certificate))
        }
    };
    welcome(&mut stream).await?;
    Ok(Link {
        stream,
        peer: Peer { address, certificate },
    })
}
