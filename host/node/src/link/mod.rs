//! The link: dial, accept, TLS, frames in and out. Knows peers by certificate and address, and no blocks.
//!
//! Owns the TLS set, the greeting, the bounded write queue (large frames wait for as much room as the line takes in a moment) and the deadlines of a link. What a frame means, who may attach and when a
//! silent peer is given up is decided above.

mod dial;
mod error;
mod frames;
mod listen;
mod names;
mod room;
mod stream;
mod tls;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use dial::{SharedTls, dial};
pub use error::LinkError;
pub use frames::{Connection, FrameSender, LinkEvent};
pub use listen::{Accepted, Listener};
pub use names::{CertificateNames, Proof, names_of};
pub use tls::{Tls, TlsFiles, bad_file, certificates, provider};

/// Who is at the far end, as far as the link knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// Its certificate; `None` on a plain link.
    pub certificate: Option<PeerCertificate>,
}

/// A verified certificate of the peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerCertificate {
    /// What it says.
    pub names: CertificateNames,
    /// What it proved when we dialled; on an accepted link membership alone.
    pub proof: Proof,
}

/// A link that is ready for frames.
pub struct Link {
    stream: stream::Stream,
    /// The far end.
    pub peer: Peer,
}
