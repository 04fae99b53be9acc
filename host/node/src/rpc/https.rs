//! HTTPS on the JSON-RPC port: the files of `http.security`, what makes them usable, and what a client's certificate proves.
//!
//! TLS 1.2 and 1.3. A client's certificate is asked for where `http.tlsCA` names a CA, and must then be good; without one every method but
//! those of the configuration is answered. Each connection proves its certificate anew: sessions are not resumed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::failure::Failure;
use crate::link::{CertificateNames, LinkError, bad_file, certificates, names_of, provider};

/// Permission bits of all but the owner.
const NOT_THE_OWNER: u32 = 0o077;

/// Where the files are.
#[derive(Clone, Debug)]
pub struct HttpsFiles {
    /// `http.tlsCA`: who signs clients' certificates. None: clients are asked for none.
    pub ca: Option<PathBuf>,
    /// `http.tlsCert`: own certificate and intermediates, PEM.
    pub cert: PathBuf,
    /// `http.tlsCertPriv`: its key, PEM, mode 0600.
    pub key: PathBuf,
}

/// What HTTPS is served with.
#[derive(Clone)]
pub struct Https {
    acceptor: TlsAcceptor,
    not_after: i64,
}

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Https")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What a caller's connection proved of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Its verified certificate.
    pub certificate: Option<CertificateNames>,
}

impl Https {
    /// Loads the files; `now` must be within the own certificate's time.
    ///
    /// # Errors
    /// Names the key of `system.toml`, the file, what is wrong with it and what to do.
    pub fn load(files: &HttpsFiles, now: SystemTime) -> Result<Self, Failure> {
        let chain = named("http.tlsCert", &files.cert, certificates)?;
        let own = named("http.tlsCert", &files.cert, |path| {
            let own = names_of(&chain[0]).map_err(|what| bad_file(path, what))?;
            in_time(&own, now).map_err(|what| bad_file(path, what)).map(|()| own)
        })?;
        let key = named("http.tlsCertPriv", &files.key, private_key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| Failure::failed("https-files", error.to_string(), "report it"))?;
        let builder = match &files.ca {
            None => builder.with_no_client_auth(),
            Some(ca) => builder.with_client_cert_verifier(named("http.tlsCA", ca, |path| {
                let mut roots = RootCertStore::empty();
                for root in certificates(path)? {
                    roots.add(root).map_err(|error| bad_file(path, error))?;
                }
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| bad_file(path, error))
            })?),
        };
        let mut config = named("http.tlsCertPriv", &files.key, |path| {
            let made = builder.with_single_cert(chain, key);
            let cert = files.cert.display();
            made.map_err(|error| bad_file(path, format!("it does not go with the certificate {cert}: {error}")))
        })?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            not_after: own.not_after,
        })
    }

    /// End of the own certificate, Unix seconds.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The handshake; `accept` of a client that shows a bad certificate fails.
    pub(super) async fn accept<S>(&self, stream: S) -> std::io::Result<(TlsStream<S>, Caller)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.acceptor.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        // It was verified: one that x509-parser cannot read proves nothing more.
        let certificate = shown.and_then(|chain| names_of(chain.first()?).ok());
        Ok((stream, Caller { tls: true, certificate }))
    }
}

impl Caller {
    /// The name of who may read and change the configuration: of a certificate that is still good at `now`.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn operator(&self, now: SystemTime) -> Result<String, String> {
        if !self.tls {
            return Err(
                "this node serves JSON-RPC without encryption; set http.security of system.toml to true, start it again, and call with a client certificate"
                    .to_owned(),
            );
        }
        let Some(certificate) = &self.certificate else {
            return Err(
                "the caller showed none; call with a certificate of the CA in http.tlsCA of system.toml".to_owned(),
            );
        };
        in_time(certificate, now).map_err(|what| format!("the caller's cannot be used: {what}"))?;
        let name = certificate.common_name.clone().or(certificate.names.first().cloned());
        Ok(name.unwrap_or_else(|| "a certificate without a name".to_owned()))
    }
}

/// `now` in Unix seconds, against the times in a certificate.
fn in_time(certificate: &CertificateNames, now: SystemTime) -> Result<(), String> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let date = |at: i64| {
        let since = std::time::Duration::from_secs(u64::try_from(at).unwrap_or(0).min(253_402_300_799));
        humantime::format_rfc3339_seconds(UNIX_EPOCH + since)
    };
    let now = i64::try_from(seconds).unwrap_or(i64::MAX);
    if now > certificate.not_after {
        return Err(format!("it ended at {}", date(certificate.not_after)));
    }
    if now < certificate.not_before {
        return Err(format!("it begins at {}", date(certificate.not_before)));
    }
    Ok(())
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LinkError> {
    let mode = std::fs::metadata(path)
        .map_err(|error| bad_file(path, error))?
        .permissions()
        .mode();
    if mode & NOT_THE_OWNER != 0 {
        let mode = mode & 0o7777;
        return Err(bad_file(
            path,
            format!("others than its owner may use this private key (mode {mode:04o}): chmod 600 it"),
        ));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| bad_file(path, error))
}

fn named<T>(key: &str, path: &Path, read: impl FnOnce(&Path) -> Result<T, LinkError>) -> Result<T, Failure> {
    read(path).map_err(|error| {
        let error = match error {
            LinkError::OwnFiles { path, what } => format!("{path}: {what}"),
            other => other.to_string(),
        };
        Failure::failed(
            "https-files",
            format!("configuration/system.toml: {key}: {error}"),
            "make the files with `cvp certgen DIR --host NAME`, or set http.security to false",
        )
    })
}
