//! The ports and files that a node serves with: JSON-RPC, the pair's port, its TLS set.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cvp_core::config::{FlowControl, NodeConfig, NsConfig, PairRole};
use cvp_core::types::{Hostname, Namespace};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::config::Root;
use crate::ipc::Failure;
use crate::link::{Accepted, Listener, SharedTls, Tls, TlsFiles};
use crate::rpc::{HttpOptions, Https, HttpsFiles, NodeFacts, Rpc, RpcServer};

/// Links that were accepted and wait for replication; more wait in the listener.
const ACCEPTED_MAX: usize = 16;

/// Loads the TLS set; `None` when the link is plain.
pub(super) fn load_tls(root: &Root, config: &NodeConfig) -> Result<SharedTls, Failure> {
    if !config.system.p2p.enable_tls {
        tracing::warn!("p2p.enableTLS is false: the pair's link is neither encrypted nor authenticated");
    }
    read_tls(root, config)
}

fn read_tls(root: &Root, config: &NodeConfig) -> Result<SharedTls, Failure> {
    let p2p = &config.system.p2p;
    if !p2p.enable_tls {
        return Ok(None);
    }
    let files = TlsFiles {
        ca: root.resolve(&p2p.tls_ca),
        cert: root.resolve(&p2p.tls_cert),
        key: root.resolve(&p2p.tls_cert_priv),
    };
    for file in [&files.ca, &files.cert, &files.key] {
        if !file.exists() {
            let name = &config.dynamic.hostname;
            return Err(Failure::failed(
                "tls-files",
                format!("the TLS file {} is missing", file.display()),
                format!(
                    "run `cvp certgen DIR --host {name}` with the DIR of the pair's CA, and copy tlsca.ca, tls_peer.cert and tls_peer.priv of DIR/{name} to {}",
                    file.parent().unwrap_or(root.directory()).display()
                ),
            ));
        }
    }
    let tls = Tls::load(&files, p2p.tls_server_host_override.clone()).map_err(|error| {
        let refusal = error.refusal();
        Failure::failed(&refusal.code, refusal.text, refusal.hint)
    })?;
    Ok(Some(Arc::new(tls)))
}

/// Whether the next start finds what `key` of `system.toml` names, as `config` has it: the files of TLS and HTTPS, read as the start reads
/// them, and a place for the log's files.
///
/// # Errors
/// What would stop the start.
pub(super) fn check_files(root: &Root, config: &NodeConfig, key: &str) -> Result<(), Failure> {
    let log = &config.system.log;
    if key == "p2p.enableTLS" || key.starts_with("p2p.tls") {
        read_tls(root, config).map(|_| ())
    } else if key == "http.security" || key.starts_with("http.tls") {
        load_https(root, config).map(|_| ())
    } else if matches!(key, "log.log_dir" | "log.dump_file") && log.dump_file {
        let directory = root.resolve(&log.log_dir);
        let there = directory.ancestors().find(|path| path.symlink_metadata().is_ok());
        match there {
            Some(path) if !path.is_dir() => {
                let what = format!("log.log_dir: {} is no directory", path.display());
                Err(Failure::failed(
                    "no-logs",
                    what,
                    "name a directory; it is made where it is missing",
                ))
            }
            _ => Ok(()),
        }
    } else {
        Ok(())
    }
}

/// Listens for the peer.
pub(super) async fn listen(
    config: &NodeConfig,
    tls: SharedTls,
) -> Result<(Listener, mpsc::Receiver<Accepted>), Failure> {
    let address = format!("{}:{}", config.system.p2p.address, config.dynamic.p2p_port);
    let (accepted, arrived) = mpsc::channel(ACCEPTED_MAX);
    let listener = Listener::bind(&address, tls, accepted).await.map_err(|error| {
        let what = format!("cannot listen for the peer at {address}: {error}");
        Failure::failed("port-taken", what, "free the port, or change port.grpc of dynamic.toml")
    })?;
    Ok((listener, arrived))
}

/// Loads the files of HTTPS; `None` where JSON-RPC is plain.
pub(super) fn load_https(root: &Root, config: &NodeConfig) -> Result<Option<Https>, Failure> {
    let http = &config.system.http;
    if !http.security {
        return Ok(None);
    }
    let files = HttpsFiles {
        ca: http.tls_ca.as_deref().map(|ca| root.resolve(ca)),
        cert: root.resolve(&http.tls_cert),
        key: root.resolve(&http.tls_cert_priv),
    };
    Https::load(&files, SystemTime::now()).map(Some)
}

/// Serves JSON-RPC from the threads of `tasks`.
pub(super) async fn serve_http(
    config: &NodeConfig,
    https: Option<Https>,
    rpc: Arc<Rpc>,
    tasks: &Handle,
) -> Result<RpcServer, Failure> {
    let http = &config.system.http;
    let ip: IpAddr = http.address.parse().unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let address = SocketAddr::new(ip, config.dynamic.jsonrpc_port);
    RpcServer::start(address, http_options(config), https, rpc, tasks)
        .await
        .map_err(|error| {
            let what = format!("cannot serve JSON-RPC at {address}: {error}");
            Failure::failed(
                "port-taken",
                what,
                "free the port, or change port.jsonrpc of dynamic.toml",
            )
        })
}

/// The limits of JSON-RPC.
pub(super) fn http_options(config: &NodeConfig) -> HttpOptions {
    let http = &config.system.http;
    HttpOptions {
        body_bytes_max: http.body_bytes_max as usize,
        body_time: Duration::from_millis(http.read_timeout_ms),
        allowed_origins: http.allowed_origins.clone(),
        ..HttpOptions::default()
    }
}

/// What JSON-RPC says of the node.
pub(super) fn facts(config: &NodeConfig) -> NodeFacts {
    // "<domain> <ip:port>": how our own domain reaches this node, else whichever comes first.
    let addresses = &config.dynamic.self_addresses;
    let own = addresses
        .iter()
        .find(|a| a.split_whitespace().next() == Some(&config.dynamic.domain));
    let address = own.or(addresses.first());
    let ip = address.and_then(|a| a.split_whitespace().last()?.rsplit_once(':'));
    NodeFacts {
        hostname: config.dynamic.hostname.clone(),
        ip: ip.map_or("127.0.0.1", |(ip, _)| ip).to_owned(),
        p2p_port: config.dynamic.p2p_port,
        roles: config
            .namespaces
            .iter()
            .map(|(name, ns)| (name.clone(), ns.dynamic.role))
            .collect(),
        vps: config
            .followed()
            .into_iter()
            .map(|(name, vps)| (name, places(config, vps)))
            .collect(),
        receiver: config.role() == PairRole::Receiver,
    }
}

/// Where the nodes are by the configuration.
fn places(config: &NodeConfig, hostnames: Vec<Hostname>) -> Vec<(Hostname, String, u16)> {
    let place = |hostname: Hostname| {
        let remote = config.addresses_of(&hostname).into_iter().next()?;
        let (ip, port) = remote.address.rsplit_once(':')?;
        Some((hostname, ip.to_owned(), port.parse().ok()?))
    };
    hostnames.into_iter().filter_map(place).collect()
}

/// How many calls each namespace takes.
pub(super) fn flow_control(config: &NodeConfig) -> BTreeMap<Namespace, FlowControl> {
    let of = |(name, ns): (&Namespace, &NsConfig)| (name.clone(), ns.fixed.flow_control.clone());
    config.namespaces.iter().map(of).collect()
}

/// An address that a client on this machine can use: "every network" becomes loopback.
pub(super) fn reachable(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::from([127, 0, 0, 1]), address.port()).to_string(),
        _ => address.to_string(),
    }
}
