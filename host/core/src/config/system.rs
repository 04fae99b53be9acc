//! `system.toml`: what belongs to the whole node and is fixed while it runs.

use super::keys::Keys;

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
    /// `log.log_level`: DEBUG, INFO, NOTICE, WARNING, ERROR or CRITICAL.
    pub log_level: String,
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
    /// `http.tlsCA`, relative to the root.
    pub tls_ca: String,
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

/// Log levels as the platform names them.
const LEVELS: [&str; 6] = ["DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL"];

impl System {
    pub(super) fn read(keys: &mut Keys) -> Self {
        let log_level = keys.text("log.log_level", "NOTICE").to_ascii_uppercase();
        if !LEVELS.contains(&log_level.as_str()) {
            let levels = LEVELS.join(", ");
            keys.problem(
                "log.log_level",
                format!("{log_level:?} is no log level"),
                format!("write one of {levels}"),
            );
        }
        let system = Self {
            log: LogKeys {
                dump_file: keys.flag("log.dump_file", true),
                log_dir: keys.text("log.log_dir", "./logs"),
                log_level,
            },
            http: read_http(keys),
            p2p: read_p2p(keys),
            metrics: MetricsKeys {
                enable: keys.flag("metrics.enable", true),
                port: keys.port("metrics.port", 9001),
            },
        };
        keys.refuse_when("audit.file.encrypt", "encrypted audit files");
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
    HttpKeys {
        address: keys.text("http.address", "127.0.0.1"),
        allowed_origins: keys.texts("http.allowedOrigins"),
        security: keys.flag("http.security", false),
        tls_ca: keys.text("http.tlsCA", "./tls/tlsca.ca"),
        tls_cert: keys.text("http.tlsCert", "./tls/tls_peer.cert"),
        tls_cert_priv: keys.text("http.tlsCertPriv", "./tls/tls_peer.priv"),
        body_bytes_max: keys.bytes("http.request.max_content_length", 100 << 10, 1 << 10, 64 << 20),
        read_timeout_ms: keys.duration_ms("http.request.read_timeout", 1_000_000, 100, 86_400_000),
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
