//! The other end of a link, as its certificate shows it: whom it may say that it is.

use crate::types::Hostname;

/// What the host knows of the other end of a link.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerTls {
    /// `IP:PORT` of the socket.
    pub address: String,
    /// Whether the link is TLS with both certificates verified.
    pub tls: bool,
    /// The hostname `cvp.remote` gives the address; none on accepted links.
    pub dialled: Option<String>,
    /// Names that the peer's certificate carries; none on a plain link.
    pub names: Vec<String>,
    /// The certificate carries the shared name of `p2p.tlsServerHostOverride`: it proves membership, whatever its holder is called.
    pub shared: bool,
    /// End of the certificate's validity, Unix seconds; none on a plain link.
    pub not_after: Option<i64>,
}

impl PeerTls {
    /// Whether the peer's certificate stands for `hostname`: by its name, or by a wildcard in place of its first label.
    pub fn proves(&self, hostname: &Hostname) -> bool {
        let name = hostname.as_str();
        let domain = name.split_once('.').map(|(_, domain)| domain);
        let stands = |own: &String| match own.strip_prefix("*.") {
            Some(any) => domain.is_some_and(|domain| domain.eq_ignore_ascii_case(any)),
            None => own.eq_ignore_ascii_case(name),
        };
        self.tls && self.names.iter().any(stands)
    }

    /// What the operator should know when the certificate of a peer that is called `hostname` does not carry that name.
    pub(super) fn warning(&self, hostname: &Hostname) -> Option<String> {
        let text = "certificate-shared: the TLS certificate proves membership only: its name is the shared one of p2p.tlsServerHostOverride";
        (self.tls && !self.proves(hostname)).then(|| text.to_owned())
    }

    /// Whether the peer may say that it is `hostname`. On plain links the operator has chosen to trust the network.
    pub fn may_be(&self, hostname: &Hostname) -> bool {
        !self.tls || self.shared || self.proves(hostname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(names: &[&str], shared: bool) -> PeerTls {
        PeerTls {
            tls: true,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            shared,
            ..PeerTls::default()
        }
    }

    #[test]
    fn a_certificate_stands_for_the_names_it_carries() {
        let name = |text: &str| Hostname::new(text).unwrap();
        let own = peer(&["node1", "10.0.0.1", "*.chain.example"], false);
        for (claimed, stands) in [
            ("node1", true),
            ("NODE1", true),
            ("node2", false),
            ("a.chain.example", true),
            ("chain.example", false),
            ("a.b.chain.example", false),
        ] {
            assert_eq!(own.proves(&name(claimed)), stands, "{claimed}");
            assert_eq!(own.may_be(&name(claimed)), stands, "{claimed}");
        }
        assert_eq!(own.warning(&name("node1")), None);
    }

    #[test]
    fn a_shared_certificate_lets_in_and_proves_nothing_and_a_plain_link_too() {
        let name = Hostname::new("node1").unwrap();
        let shared = peer(&["pair.example"], true);
        assert!(shared.may_be(&name) && !shared.proves(&name));
        assert!(shared.warning(&name).is_some());
        let plain = PeerTls {
            names: vec!["node1".to_owned()],
            ..PeerTls::default()
        };
        assert!(plain.may_be(&name) && !plain.proves(&name) && plain.warning(&name).is_none());
    }
}
