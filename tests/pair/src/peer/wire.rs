//! One link as a peer of the tests holds it: TLS, greeting, frames or raw bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cvp_core::frame::{Frame, FrameReader, Parsed, Side};
use cvp_core::types::{Reader, Refusal};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream as TlsStream};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// What each end sends first.
const GREETING: &[u8; 8] = b"CVPLINK1";
/// How long one read waits: heartbeats are due in between.
const READ_TURN: Duration = Duration::from_millis(20);
/// Time for connecting, TLS and greeting.
const GREETING_WITHIN: Duration = Duration::from_secs(10);

/// CA, certificate and key of a node.
pub struct TlsSet {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl TlsSet {
    /// The set in `root`/tls.
    pub fn of(root: &Path) -> Result<Self> {
        let file = |name: &str| root.join("tls").join(name);
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_file_iter(file("tlsca.ca"))? {
            roots.add(ca?)?;
        }
        let roots = Arc::new(roots);
        let chain = CertificateDer::pem_file_iter(file("tls_peer.cert"))?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(file("tls_peer.priv"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key.clone_key())?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

enum Tls {
    Client(Box<ClientConnection>),
    Server(Box<ServerConnection>),
}

/// What came in.
#[derive(Debug)]
pub enum Heard {
    /// A frame.
    Frame(Frame),
    /// The node ended the link.
    End,
    /// Nothing in time.
    Nothing,
}

/// A link that is ready for frames.
pub struct Wire {
    socket: TcpStream,
    tls: Tls,
    reader: FrameReader,
}

impl Wire {
    /// Dials `address` as `hostname`, and greets.
    pub fn dial(address: &str, hostname: &str, set: &TlsSet) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        let name = ServerName::try_from(hostname.to_owned())?;
        let client = ClientConnection::new(set.client.clone(), name)?;
        Self::greet(socket, Tls::Client(Box::new(client)), Side::Receiver)
    }

    /// Accepts one link, and greets.
    pub fn accept(listener: &TcpListener, set: &TlsSet) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let socket = crate::wait::until("a node dials", Duration::from_secs(20), || match listener.accept() {
            Ok((socket, _)) => Ok(Ok(socket)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Err("nobody came".into())),
            Err(error) => Err(error.into()),
        })?;
        socket.set_nonblocking(false)?;
        let server = ServerConnection::new(set.server.clone())?;
        Self::greet(socket, Tls::Server(Box::new(server)), Side::Provider)
    }

    fn greet(socket: TcpStream, tls: Tls, side: Side) -> Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(GREETING_WITHIN))?;
        socket.set_read_timeout(Some(GREETING_WITHIN))?;
        let mut wire = Self {
            socket,
            tls,
            reader: FrameReader::new(side, false),
        };
        wire.say(GREETING)?;
        let mut answer = [0; 8];
        let mut read = 0;
        while read < answer.len() {
            match wire.read(&mut answer[read..])? {
                0 => bail!("no greeting"),
                count => read += count,
            }
        }
        ensure!(&answer == GREETING, "the node greets with {answer:?}");
        wire.socket.set_read_timeout(Some(READ_TURN))?;
        Ok(wire)
    }

    /// Sends bytes as they are.
    pub fn say(&mut self, bytes: &[u8]) -> Result<()> {
        let socket = &mut self.socket;
        match &mut self.tls {
            Tls::Client(tls) => {
                let mut stream = TlsStream::new(tls.as_mut(), socket);
                stream.write_all(bytes)?;
                stream.flush()?;
            }
            Tls::Server(tls) => {
                let mut stream = TlsStream::new(tls.as_mut(), socket);
                stream.write_all(bytes)?;
                stream.flush()?;
            }
        }
        Ok(())
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &Frame) -> Result<()> {
        let mut bytes = frame.encode_header(false).to_vec();
        bytes.extend_from_slice(&frame.payload);
        self.say(&bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let socket = &mut self.socket;
        match &mut self.tls {
            Tls::Client(tls) => TlsStream::new(tls.as_mut(), socket).read(into),
            Tls::Server(tls) => TlsStream::new(tls.as_mut(), socket).read(into),
        }
    }

    /// The next frame if one comes within a turn.
    pub fn turn(&mut self) -> Result<Heard> {
        if let Parsed::Frame(frame) = self.reader.take()? {
            return Ok(Heard::Frame(frame));
        }
        let mut bytes = vec![0; 64 << 10];
        match self.read(&mut bytes) {
            Ok(0) => Ok(Heard::End),
            Ok(read) => {
                self.reader.push(&bytes[..read]);
                match self.reader.take()? {
                    Parsed::Frame(frame) => Ok(Heard::Frame(frame)),
                    Parsed::More(_) => Ok(Heard::Nothing),
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(Heard::Nothing),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Heard::Nothing),
            // Reset, or TLS that ended without its own goodbye.
            Err(_) => Ok(Heard::End),
        }
    }

    /// Reads until the node has ended the link; answers the refusal of its goodbye, if it said one.
    pub fn until_end(&mut self, within: Duration) -> Result<Option<Refusal>> {
        let begun = Instant::now();
        let mut last = None;
        loop {
            match self.turn()? {
                Heard::End => return Ok(last),
                Heard::Frame(frame) => {
                    if frame.kind == cvp_core::frame::Kind::Goodbye {
                        let refusal = Refusal::read(&mut Reader::new(&frame.payload));
                        last = Some(refusal.ok().context("a goodbye that cannot be read")?);
                    }
                }
                Heard::Nothing => {}
            }
            ensure!(
                begun.elapsed() < within,
                "the link still stands after {within:?}; goodbye: {last:?}"
            );
        }
    }
}
