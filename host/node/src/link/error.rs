//! What can go wrong on a link before a session lives on it, and after; each says whose fault it is and what to do.

use std::io;

use cvp_core::types::Refusal;
use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};

/// A link that did not come about, or ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// The address cannot be used or reached; the system's words.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// Connection refused: the machine is there, nobody listens.
    #[error("{0} refuses the connection: nobody listens there")]
    ConnectionRefused(String),
    /// Something was not answered in time.
    #[error("{what} was not answered within {millis} ms")]
    Silent {
        /// What was waited for.
        what: &'static str,
        /// The deadline.
        millis: u64,
    },
    /// One end speaks TLS, the other does not.
    #[error("{0}")]
    TlsMismatch(&'static str),
    /// The peer's certificate was refused here.
    #[error("the peer's certificate is refused: {text}")]
    PeerCertificate {
        /// `certificate-untrusted`, `certificate-expired`, `certificate-name` or `certificate-bad`.
        code: &'static str,
        /// Why, with names and times.
        text: String,
    },
    /// The peer refuses our certificate.
    #[error("the peer refuses this node's certificate: {text}")]
    OwnCertificate {
        /// As in [`LinkError::PeerCertificate`].
        code: &'static str,
        /// The alert in words.
        text: &'static str,
    },
    /// The peer said why it does not want this link.
    #[error("refused by the peer: {0}")]
    Refused(Refusal),
    /// The far end is something else.
    #[error("the far end is no cvp node: {0}")]
    NotANode(String),
    /// Bytes that are no frame of ours.
    #[error("malformed frame: {0}")]
    Malformed(String),
    /// The connection ended.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// This end closed it; with the reason told to the peer, if any.
    #[error("closed by this node")]
    Closed(Option<Refusal>),
    /// Files of the own TLS set cannot be used.
    #[error("TLS file {path}: {what}")]
    OwnFiles {
        /// Which.
        path: String,
        /// What is wrong with it.
        what: String,
    },
}

impl LinkError {
    /// The same as code, text and hint, for status, logs and the peer.
    pub fn refusal(&self) -> Refusal {
        let (code, hint) = match self {
            LinkError::Unreachable(..) => ("unreachable", "check the address in cvp.remote and the network"),
            LinkError::ConnectionRefused(_) => ("connection-refused", "start the node there, or correct cvp.remote"),
            LinkError::Silent { .. } => (
                "peer-silent",
                "look at the node there: it hangs, or something else listens",
            ),
            LinkError::TlsMismatch(_) => (
                "tls-mismatch",
                "set p2p.enableTLS in system.toml to the same value on both nodes",
            ),
            LinkError::PeerCertificate { code, .. } => (*code, hint_of(code, true)),
            LinkError::OwnCertificate { code, .. } => (*code, hint_of(code, false)),
            LinkError::Refused(refusal) => return refusal.clone(),
            LinkError::NotANode(_) => ("not-a-node", "check the address in cvp.remote"),
            LinkError::Malformed(_) => ("malformed-frame", "check that both nodes run releases that go together"),
            LinkError::Lost(_) => ("connection-lost", ""),
            LinkError::Closed(Some(refusal)) => return refusal.clone(),
            LinkError::Closed(None) => ("closed", ""),
            LinkError::OwnFiles { .. } => ("tls-files", "see `cvp certgen --help`"),
        };
        Refusal::new(code, self.to_string(), hint)
    }
}

fn hint_of(code: &str, peer: bool) -> &'static str {
    match (code, peer) {
        ("certificate-untrusted", _) => "both certificates must be issued by the CA in tls/tlsca.ca of both nodes",
        ("certificate-expired", true) => "renew tls/tls_peer.cert there, and compare the clocks of both machines",
        ("certificate-expired", false) => "renew tls/tls_peer.cert here, and compare the clocks of both machines",
        ("certificate-name", _) => {
            "the certificate must carry the hostname that cvp.remote names as a subject alternative name (cvp certgen --host NAME), or set p2p.tlsServerHostOverride to a shared name"
        }
        _ => "look at tls/tls_peer.cert of both nodes",
    }
}

/// The link error inside what reading, writing or the TLS handshake answered.
pub(super) fn from_io(error: &io::Error) -> LinkError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(tls) => from_tls(tls),
        None => LinkError::Lost(error.to_string()),
    }
}

fn from_tls(error: &TlsError) -> LinkError {
    match error {
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            LinkError::TlsMismatch("this node speaks TLS and the peer does not")
        }
        TlsError::InvalidCertificate(reason) => LinkError::PeerCertificate {
            code: certificate_code(reason),
            text: reason.to_string(),
        },
        TlsError::NoCertificatesPresented => LinkError::PeerCertificate {
            code: "certificate-bad",
            text: "it presented none".into(),
        },
        TlsError::AlertReceived(alert) => match alert_code(*alert) {
            Some((code, text)) => LinkError::OwnCertificate { code, text },
            None => LinkError::Lost(error.to_string()),
        },
        other => LinkError::Lost(other.to_string()),
    }
}

fn certificate_code(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "certificate-untrusted",
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "certificate-expired",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "certificate-name",
        _ => "certificate-bad",
    }
}

fn alert_code(alert: AlertDescription) -> Option<(&'static str, &'static str)> {
    Some(match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            ("certificate-untrusted", "it is not issued by the peer's TLS CA")
        }
        AlertDescription::CertificateExpired => ("certificate-expired", "it has expired or is not valid yet"),
        AlertDescription::BadCertificate => (
            "certificate-name",
            "it does not carry the name that the peer's cvp.remote gives this node",
        ),
        AlertDescription::CertificateRequired => ("certificate-bad", "none was presented"),
        AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked => ("certificate-bad", "it is not acceptable there"),
        _ => return None,
    })
}
