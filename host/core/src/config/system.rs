//! `system.toml`: what belongs to the whole node and is fixed while it runs.

use super::keys::Keys;
use super::log::{LogLevel, read_level};

/// The keys of `system.toml` that we honour.
#[derive(Clone, PartialEq, Debug)]
pub struct System {
    /// `log.*`.
    pub log: LogKeys,
    /// `http.*`: the JSON-RPC server.
    pub http: HttpKeys,
    /// `p2p.*`: the pair's link and the operator's socket.
    pub p2p: P2pKeys,
    /// `metrics.*`.
    pub metrics: MetricsKeys,
}

/// `log.*`.
#[derive(Clone, PartialEq, Debug)]
pub struct LogKeys {
    /// `log.dump_file`: also write files.
    pub dump_file: bool,
    /// `log.log_dir`, relative to the root.
    pub log_dir: String,
    /// `log.log_level`.
    pub log_level: LogLevel,
}

/// `http.*`.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpKeys {
    /// `http.address`: where JSON-RPC listens (our own key).
    pub address: String,
    /// `http.allowedOrigins`.
    pub allowed_origins: Vec<String>,
    /// `http.security`: HTTPS, with the three files below.
    pub security: bool,
    /// `http.tlsCA`, relative to the root: who signs clients' certificates. None: clients are asked for none.
    pub tls_ca: Option<String>,
    /// `http.tlsCert`, relative to the root.
    pub tls_cert: String,
    /// `http.tlsCertPriv`, relative to the root.
    pub tls_cert_priv: String,
    /// `http.request.max_content_length`, bytes.
    pub body_bytes_max: u64,
    /// `http.request.read_timeout`, milliseconds.
    pub read_timeout_ms: u64,
}

/// `p2p.*`.
#[derive(Clone, PartialEq, Debug)]
pub struct P2pKeys {
    /// `p2p.address`: where the pair's port listens (our own key).
    pub address: String,
    /// `p2p.ipc`: file name of the operator's socket.
    pub ipc: String,
    /// `p2p.enableTLS`: both ends must agree.
    pub enable_tls: bool,
    /// `p2p.tlsCA`, relative to the root.
    pub tls_ca: String,
    /// `p2p.tlsCert`, relative to the root.
    pub tls_cert: String,
    /// `p2p.tlsCertPriv`, relative to the root.
    pub tls_cert_priv: String,
    /// `p2p.tlsServerHostOverride`: the name checked when both nodes share one TLS set.
    pub tls_server_host_override: Option<String>,
    /// `p2p.retrytime`: longest pause between two dials, milliseconds.
    pub retry_ms: u64,
}

/// `metrics.*`.
#[derive(Clone, PartialEq, Debug)]
pub struct MetricsKeys {
    /// `metrics.enable`.
    pub enable: bool,
    /// `metrics.port`; 0 lets the system choose.
    pub port: u16,
}

/// Longest time a client gets to send a request's body: one that is slower holds a connection for nothing.
const READ_TIMEOUT_MS_MAX: u64 = 30_000;

impl System {
    /// `standby`: an audit trail is the provider's business, and asks a standby for nothing.
    pub(super) fn read(keys: &mut Keys, standby: bool) -> Self {
        let system = Self {
            log: LogKeys {
                dump_file: keys.flag("log.dump_file", true),
                log_dir: keys.text("log.log_dir", "./logs"),
                log_level: read_level(keys, "log.log_level", LogLevel::Notice),
            },
            http: read_http(keys),
            p2p: read_p2p(keys),
            metrics: MetricsKeys {
                enable: keys.flag("metrics.enable", true),
                port: keys.port("metrics.port", 9001),
            },
        };
        // A label.
        keys.text("title", "");
        for (key, what) in [
            ("audit.level", "an audit trail"),
            ("audit.file.encrypt", "encrypted audit files"),
        ] {
            if standby {
                let what = "a standby keeps no audit trail, and its provider's is not copied";
                keys.remark_unsupported(
                    key,
                    what,
                    "collect the provider's by ELK or Graylog, and switch it off here",
                );
            } else {
                keys.refuse_when(key, what);
            }
        }
        keys.refuse_when("auth.enable", "interface permissions");
        check_address(keys, "http.address", &system.http.address);
        check_address(keys, "p2p.address", &system.p2p.address);
        if system.p2p.ipc.contains('/') || system.p2p.ipc.starts_with('.') {
            keys.problem(
                "p2p.ipc",
                format!("{:?} is not a plain file name", system.p2p.ipc),
                "write a file name such as \"hpc_1.ipc\"",
            );
        }
        system
    }
}

fn read_http(keys: &mut Keys) -> HttpKeys {
    if keys.flag("http.http_2", false) {
        keys.problem(
            "http.http_2",
            "this node serves HTTP/1.1 alone",
            "set it to false; clients of HTTP/2 speak HTTP/1.1 as well",
        );
    }
    let read_timeout_ms = keys.duration_ms("http.request.read_timeout", READ_TIMEOUT_MS_MAX, 100, 86_400_000);
    keys.remark_when(
        read_timeout_ms > READ_TIMEOUT_MS_MAX,
        "http.request.read_timeout",
        "a client gets 30s at most to send a request",
    );
    HttpKeys {
        address: keys.text("http.address", "127.0.0.1"),
        allowed_origins: keys.texts("http.allowedOrigins"),
        security: keys.flag("http.security", false),
        tls_ca: Some(keys.text("http.tlsCA", "./tls/tlsca.ca")).filter(|ca| !ca.is_empty()),
        tls_cert: keys.text("http.tlsCert", "./tls/tls_peer.cert"),
        tls_cert_priv: keys.text("http.tlsCertPriv", "./tls/tls_peer.priv"),
        body_bytes_max: keys.bytes("http.request.max_content_length", 100 << 10, 1 << 10, 64 << 20),
        read_timeout_ms: read_timeout_ms.min(READ_TIMEOUT_MS_MAX),
    }
}

fn read_p2p(keys: &mut Keys) -> P2pKeys {
    P2pKeys {
        address: keys.text("p2p.address", "0.0.0.0"),
        ipc: keys.text("p2p.ipc", "hpc_1.ipc"),
        enable_tls: keys.flag("p2p.enableTLS", true),
        tls_ca: keys.text("p2p.tlsCA", "./tls/tlsca.ca"),
        tls_cert: keys.text("p2p.tlsCert", "./tls/tls_peer.cert"),
        tls_cert_priv: keys.text("p2p.tlsCertPriv", "./tls/tls_peer.priv"),
        tls_server_host_override: keys.text_option("p2p.tlsServerHostOverride"),
        retry_ms: keys.duration_ms("p2p.retrytime", 3_000, 10, 3_600_000),
    }
}

fn check_address(keys: &mut Keys, key: &str, address: &str) {
    if address.parse::<std::net::IpAddr>().is_err() {
        keys.problem(
            key,
            format!("{address:?} is not an IP address"),
            "write an address of this machine such as \"127.0.0.1\", or \"0.0.0.0\" for all",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (System, usize, Vec<String>) {
        let mut keys = Keys::parse("system.toml", text);
        let system = System::read(&mut keys, false);
        let (problems, remarks) = keys.finish();
        (
            system,
            problems.len(),
            remarks.into_iter().map(|remark| remark.key).collect(),
        )
    }

    #[test]
    fn a_protection_that_we_lack_stops_the_start() {
        for bad in [
            "[audit]\nlevel = \"metadata\"",
            "[audit.file]\nencrypt = true",
            "[auth]\nenable = true",
        ] {
            assert_eq!(read(bad).1, 1, "{bad}");
        }
        assert_eq!(read("[audit]\nlevel = \"none\"").1, 0);
        for (bad, off) in [
            ("[audit]\nlevel = \"metadata\"", "\"none\""),
            ("[auth]\nenable = true", "false"),
        ] {
            let mut keys = Keys::parse("system.toml", bad);
            let _ = System::read(&mut keys, false);
            let problem = keys.finish().0.remove(0);
            assert!(problem.help.starts_with(&format!("set it to {off};")), "{problem:?}");
        }
    }

    #[test]
    fn https_takes_the_links_files_unless_it_is_given_its_own_and_asks_for_no_certificate_without_a_ca() {
        let (system, _, remarks) = read("[http]\nsecurity = true\nhttp_2 = false");
        assert!(system.http.security && remarks.is_empty());
        assert_eq!(system.http.tls_ca.as_deref(), Some("./tls/tlsca.ca"));
        assert_eq!(system.http.tls_cert_priv, "./tls/tls_peer.priv");
        assert_eq!(read("[http]\ntlsCA = \"\"").0.http.tls_ca, None);
        assert_eq!(read("[http]\nhttp_2 = true").1, 1);
    }

    #[test]
    fn a_standby_is_told_that_it_keeps_no_audit_trail() {
        let mut keys = Keys::parse("system.toml", "[audit]\nlevel = \"metadata\"");
        System::read(&mut keys, true);
        let (problems, remarks) = keys.finish();
        assert_eq!((problems.len(), remarks[0].key.as_str()), (0, "audit.level"));
        assert!(remarks[0].unsupported);
    }

    #[test]
    fn a_client_never_gets_longer_than_the_longest_time() {
        let (system, problems, remarks) = read("[http.request]\nread_timeout = \"1000s\"");
        assert_eq!((system.http.read_timeout_ms, problems), (30_000, 0));
        assert_eq!(remarks, ["http.request.read_timeout"]);
        let (system, _, remarks) = read("[http.request]\nread_timeout = \"2s\"\n[http]\ntlsCA = \"x\"");
        assert_eq!((system.http.read_timeout_ms, remarks.len()), (2_000, 0));
    }
}
