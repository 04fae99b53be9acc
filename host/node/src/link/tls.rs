//! The node's TLS set: its CA, certificate and key, and the two configurations made of them. TLS 1.3 only, both certificates verified.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::error::LinkError;
use super::names::{CertificateNames, NameCheck, names_of};

/// Where the files are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// CA certificates, PEM (`tls/tlsca.ca`).
    pub ca: PathBuf,
    /// Own certificate and intermediates, PEM (`tls/tls_peer.cert`).
    pub cert: PathBuf,
    /// Own key, PEM (`tls/tls_peer.priv`).
    pub key: PathBuf,
}

/// A loaded TLS set.
pub struct Tls {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    name_override: Option<String>,
    acceptor: TlsAcceptor,
    own: CertificateNames,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads the files; `name_override` is `p2p.tlsServerHostOverride`.
    ///
    /// # Errors
    /// [`LinkError::OwnFiles`] names the file that is missing, empty, or does not go with the others.
    pub fn load(files: &TlsFiles, name_override: Option<String>) -> Result<Tls, LinkError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&files.ca)? {
            roots.add(root).map_err(|error| bad_file(&files.ca, error))?;
        }
        let chain = certificates(&files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad_file(&files.key, error))?;
        let own = names_of(&chain[0]).map_err(|what| bad_file(&files.cert, what))?;
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|error| bad_file(&files.ca, error))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| bad_file(&files.cert, error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| bad_file(&files.key, error))?;
        // A resumed session would skip the certificates: each link proves both anew.
        server.send_tls13_tickets = 0;
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Ok(Tls {
            roots,
            chain,
            key,
            name_override,
            acceptor,
            own,
        })
    }

    /// Names and end of the own certificate.
    pub fn own(&self) -> &CertificateNames {
        &self.own
    }

    /// `p2p.tlsServerHostOverride`: a name that the certificates of both nodes may share.
    pub fn shared_name(&self) -> Option<&str> {
        self.name_override.as_deref()
    }

    /// For links that are accepted.
    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// For one dial: the connector, and the judge of names that tells afterwards what the peer's certificate proved.
    pub(super) fn connector(&self) -> Result<(TlsConnector, Arc<NameCheck>), LinkError> {
        let inner = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .map_err(|error| LinkError::Lost(error.to_string()))?;
        let check = Arc::new(NameCheck::new(inner, self.name_override.clone()));
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| LinkError::Lost(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(check.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| LinkError::Lost(error.to_string()))?;
        client.resumption = rustls::client::Resumption::disabled();
        Ok((TlsConnector::from(Arc::new(client)), check))
    }
}

/// The cryptography of every TLS connection of this node.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The certificates of a PEM file: one at least.
///
/// # Errors
/// [`LinkError::OwnFiles`]: it cannot be read, or holds none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad_file(path, error))?;
    if found.is_empty() {
        return Err(bad_file(path, "it holds no certificate"));
    }
    Ok(found)
}

/// A file of TLS that cannot be used, and why.
pub fn bad_file(path: &Path, what: impl std::fmt::Display) -> LinkError {
    LinkError::OwnFiles {
        path: path.display().to_string(),
        what: what.to_string(),
    }
}
