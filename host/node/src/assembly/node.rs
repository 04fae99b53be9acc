//! A running node: start order, stop order.
//!
//! Start: lock, configuration, logs, chains, JSON-RPC, operator's socket, ready. Stop, within 5 s: socket, JSON-RPC, link, chains, lock.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cvp_core::config::{NodeConfig, PairRole};
use cvp_core::session::{Identity, Lineage};
use cvp_core::types::{Incarnation, NodeId};
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};

use super::chains::{close_all, open_all};
use super::view;
use crate::config::Root;
use crate::durable::{self, LockFile};
use crate::ipc::{Failure, IncarnationView, Server, StatusView};
use crate::namespace::ChainSet;
use crate::rpc::{HttpOptions, NodeFacts, Rpc, RpcServer};
use crate::telemetry::{self, Level, LogOptions};

/// The stop must be over within 5 s; JSON-RPC requests under way get 2 of them.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Where a node serves, said when it does.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// JSON-RPC.
    pub jsonrpc: Option<String>,
    /// The pair's port.
    pub p2p: Option<String>,
    /// Metrics.
    pub metrics: Option<String>,
}

/// A running node.
pub(super) struct Node {
    root: Root,
    config: ArcSwap<NodeConfig>,
    chains: ChainSet,
    identity: Mutex<Identity>,
    ready: Mutex<Ready>,
    http: tokio::sync::Mutex<Option<RpcServer>>,
    /// One change of the node at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
}

/// Runs a node until it is told to stop. `on_ready` is called once, when it serves.
///
/// # Errors
/// The start was refused: configuration, lock, ports, a store. A running node does not end by itself.
pub fn run(root: &Root, on_ready: impl FnOnce(&Ready)) -> Result<(), Failure> {
    let loaded = root.load()?;
    durable::create_directories(&root.system())?;
    let lock = LockFile::acquire(&root.lock_file())?;
    let config = loaded.config;
    let _logs = start_logs(root, &config)?;
    view::log_warnings(&loaded.warnings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("no-thread", error.to_string(), "raise the limit of threads"))?;
    let chains = open_all(root, &config)?;
    let outcome = runtime.block_on(serve(root, config, chains.clone(), on_ready));
    // Threads that hang in the disk do not hold the stop.
    runtime.shutdown_timeout(STOP_MAX / 5);
    close_all(&chains);
    drop(lock);
    outcome
}

fn start_logs(root: &Root, config: &NodeConfig) -> Result<telemetry::LogGuard, Failure> {
    let log = &config.system.log;
    let options = LogOptions {
        level: log.log_level.parse::<Level>().unwrap_or(Level::Notice),
        modules: Vec::new(),
        directory: log.dump_file.then(|| root.resolve(&log.log_dir)),
    };
    telemetry::start_logs(&options)
        .map_err(|error| Failure::failed("no-logs", error.to_string(), "check the directory and its permissions"))
}

async fn serve(
    root: &Root,
    config: NodeConfig,
    chains: ChainSet,
    on_ready: impl FnOnce(&Ready),
) -> Result<(), Failure> {
    let stop = stop_signal()?;
    let node = Arc::new(Node {
        identity: Mutex::new(own_identity(root, config.role())?),
        root: root.clone(),
        config: ArcSwap::from_pointee(config),
        chains,
        ready: Mutex::default(),
        http: tokio::sync::Mutex::new(None),
        changing: tokio::sync::Mutex::new(()),
    });
    let server = Server::bind(root.directory(), &node.config().system.p2p.ipc).map_err(|error| {
        let what = format!("cannot make the operator's socket: {error}");
        Failure::failed(
            "no-socket",
            what,
            "check p2p.ipc of system.toml and the root's permissions",
        )
    })?;
    node.open_http().await?;
    node.begin_making()?;
    let talking = tokio::spawn(server.serve(Arc::clone(&node) as _));
    let ready = node.ready.lock().clone();
    on_ready(&ready);
    stop.await;
    tracing::info!("stopping");
    talking.abort();
    node.close_http().await;
    Ok(())
}

/// SIGTERM or SIGINT. Installed before anything serves, so that no signal is lost.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let refused = |error: std::io::Error| Failure::failed("no-signals", error.to_string(), "report it");
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The identity of `system/cvp/identity`; drawn and written at the first start.
fn own_identity(root: &Root, role: PairRole) -> Result<Identity, Failure> {
    const MAGIC: &[u8; 8] = b"CVPIDENT";
    let path = root.system().join("identity");
    if let Some((_, bytes)) = durable::read_file(&path, MAGIC)? {
        return Identity::decode(&bytes).map_err(|error| {
            let what = format!("{}: {error}", path.display());
            Failure::failed("damaged", what, "restore the file; do not remove it")
        });
    }
    let lineage = match role {
        PairRole::Provider => Lineage::begin(Incarnation {
            number: 1,
            id: rand::random(),
        }),
        PairRole::Receiver => Lineage::default(),
    };
    let identity = Identity {
        node_id: NodeId(rand::random()),
        lineage,
    };
    durable::write_file(&path, MAGIC, 1, &identity.encode())?;
    Ok(identity)
}

impl Node {
    /// The configuration now.
    pub(super) fn config(&self) -> Arc<NodeConfig> {
        self.config.load_full()
    }

    /// Changes the configuration in memory; the disk was changed before.
    pub(super) fn change_config(&self, change: impl Fn(&mut NodeConfig)) {
        self.config.rcu(|config| {
            let mut changed = NodeConfig::clone(config);
            change(&mut changed);
            changed
        });
    }

    /// The node's root directory.
    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// The node's chains.
    pub(super) fn chains(&self) -> &ChainSet {
        &self.chains
    }

    /// Tells the running pair that `cvp.enable` changed.
    pub(super) async fn pair_enabled(&self, _enabled: bool) {}

    async fn open_http(&self) -> Result<(), Failure> {
        let config = self.config();
        let http = &config.system.http;
        if http.security {
            return Err(Failure::failed(
                "bad-configuration",
                "configuration/system.toml: http.security: this node does not serve HTTPS yet",
                "set it to false and put a TLS proxy in front",
            ));
        }
        let ip: IpAddr = http.address.parse().unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let address = SocketAddr::new(ip, config.dynamic.jsonrpc_port);
        let defaults = HttpOptions::default();
        let options = HttpOptions {
            body_bytes_max: http.body_bytes_max as usize,
            body_time: defaults.body_time.min(Duration::from_millis(http.read_timeout_ms)),
            allowed_origins: http.allowed_origins.clone(),
            ..defaults
        };
        let rpc = Rpc::new(self.chains.clone(), self.facts());
        let server = RpcServer::start(address, options, rpc).await.map_err(|error| {
            let what = format!("cannot serve JSON-RPC at {address}: {error}");
            Failure::failed(
                "port-taken",
                what,
                "free the port, or change port.jsonrpc of dynamic.toml",
            )
        })?;
        self.ready.lock().jsonrpc = Some(reachable(server.address()));
        *self.http.lock().await = Some(server);
        Ok(())
    }

    async fn close_http(&self) {
        if let Some(server) = self.http.lock().await.take() {
            self.ready.lock().jsonrpc = None;
            server.close().await;
        }
    }

    fn facts(&self) -> NodeFacts {
        let config = self.config();
        let address = config.dynamic.self_addresses.first();
        let ip = address.and_then(|a| a.split_whitespace().last()?.rsplit_once(':'));
        NodeFacts {
            hostname: config.dynamic.hostname.clone(),
            ip: ip.map_or("127.0.0.1", |(ip, _)| ip).to_owned(),
            p2p_port: config.dynamic.p2p_port,
            receiver: config.role() == PairRole::Receiver,
        }
    }

    /// A provider makes blocks in every namespace.
    fn begin_making(&self) -> Result<(), Failure> {
        let Some(incarnation) = self.identity.lock().lineage.current() else {
            return Ok(());
        };
        let hostname = self.config().dynamic.hostname.clone();
        for chain in self.chains.all() {
            chain
                .begin_making(hostname.clone(), incarnation, None)
                .map_err(|error| Failure::from_refusal(&error.refusal()))?;
        }
        Ok(())
    }

    /// The node as its operator sees it.
    pub(super) async fn status(&self) -> StatusView {
        let config = self.config();
        let ready = self.ready.lock().clone();
        let (node_id, incarnation) = {
            let identity = self.identity.lock();
            (identity.node_id, identity.lineage.current())
        };
        let mut view = StatusView {
            normal: false,
            role: config.role().to_string(),
            hostname: config.dynamic.hostname.to_string(),
            node_id: Some(node_id.to_string()),
            incarnation: incarnation.map(|i| IncarnationView {
                number: i.number,
                id: hex::encode(i.id),
            }),
            enabled: config.dynamic.cvp.enable,
            peer: None,
            reasons: Vec::new(),
            warnings: Vec::new(),
            namespaces: view::detached(&self.chains),
            jsonrpc: ready.jsonrpc,
            p2p: ready.p2p,
            metrics: ready.metrics,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        view::add_local(&mut view, &self.chains, &config);
        view
    }
}

/// An address that a client on this machine can use: "every network" becomes loopback.
fn reachable(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::from([127, 0, 0, 1]), address.port()).to_string(),
        _ => address.to_string(),
    }
}
