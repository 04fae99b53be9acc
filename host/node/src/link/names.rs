//! Names in certificates: which ones a certificate carries, and whether it may stand for the host that `cvp.remote` names.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a certificate says of its holder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateNames {
    /// DNS names and addresses in its subject alternative names.
    pub names: Vec<String>,
    /// Its common name, which no check looks at.
    pub common_name: Option<String>,
    /// Begin of its validity, Unix seconds.
    pub not_before: i64,
    /// End of its validity, Unix seconds.
    pub not_after: i64,
}

/// Reads the names of a certificate; what is wrong with it otherwise.
pub fn names_of(certificate: &CertificateDer<'_>) -> Result<CertificateNames, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let names = match parsed.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(name_text).collect(),
        Ok(None) => Vec::new(),
        Err(error) => return Err(error.to_string()),
    };
    let common_name = parsed
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .map(str::to_owned);
    Ok(CertificateNames {
        names,
        common_name,
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|b| std::net::Ipv4Addr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|b| std::net::Ipv6Addr::from(b).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// What the peer's certificate proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// It carries the name that `cvp.remote` gives the peer.
    Name,
    /// It carries the shared name of `p2p.tlsServerHostOverride`: membership only.
    Membership,
}

/// rustls's own verifier, with the override tried second and the outcome kept for the caller. One a dial.
#[derive(Debug)]
pub(super) struct NameCheck {
    inner: Arc<WebPkiServerVerifier>,
    name_override: Option<String>,
    proof: OnceLock<Proof>,
    detail: OnceLock<String>,
}

impl NameCheck {
    pub(super) fn new(inner: Arc<WebPkiServerVerifier>, name_override: Option<String>) -> NameCheck {
        NameCheck {
            inner,
            name_override,
            proof: OnceLock::new(),
            detail: OnceLock::new(),
        }
    }

    /// What was proved; of use once the handshake is over.
    pub(super) fn proof(&self) -> Proof {
        self.proof.get().copied().unwrap_or(Proof::Membership)
    }

    /// Why the name was refused, in words; `None` when it was not.
    pub(super) fn detail(&self) -> Option<&str> {
        self.detail.get().map(String::as_str)
    }

    fn explain(&self, certificate: &CertificateDer<'_>, wanted: &ServerName<'_>) -> String {
        let wanted = wanted.to_str();
        match names_of(certificate) {
            Ok(found) if found.names.is_empty() => format!(
                "{wanted} is expected, and the certificate has no subject alternative name; its common name (CN) {:?} is not checked",
                found.common_name.unwrap_or_default()
            ),
            Ok(found) => format!(
                "{wanted} is expected, and the certificate carries {}",
                found.names.join(", ")
            ),
            Err(what) => format!("{wanted} is expected, and the certificate cannot be read: {what}"),
        }
    }
}

impl ServerCertVerifier for NameCheck {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        wanted: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |name: &ServerName<'_>| {
            self.inner
                .verify_server_cert(certificate, intermediates, name, ocsp, now)
        };
        let by_name = verify(wanted);
        let wrong_name = matches!(
            by_name,
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            ))
        );
        if by_name.is_ok() {
            let _ = self.proof.set(Proof::Name);
        }
        if !wrong_name {
            return by_name;
        }
        let shared = self
            .name_override
            .clone()
            .and_then(|name| ServerName::try_from(name).ok());
        if let Some(Ok(verified)) = shared.as_ref().map(verify) {
            let _ = self.proof.set(Proof::Membership);
            return Ok(verified);
        }
        let _ = self.detail.set(self.explain(certificate, wanted));
        by_name
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
