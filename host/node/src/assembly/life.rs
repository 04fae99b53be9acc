//! Start order and stop order of a node.
//!
//! Start: lock, configuration, logs, chains, TLS, a promotion that a crash interrupted, the pair's port, strategies, replication,
//! JSON-RPC, the operator's socket, block making once the pair allows it, ready. Stop, within 5 s: socket, JSON-RPC, the link, chains, lock.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cvp_core::config::{Loaded, NodeConfig, PairRole};
use cvp_core::types::Refusal;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::alignment::follow_difference;
use super::chains::{Held, Opened, close_all, open_all};
use super::fleet::Fleet;
use super::looks::Looks;
use super::node::{Node, Ready, strategy_role};
use super::stopped::Stopped;
use super::{copied, following, held, online, ports, secrets, uncopied, view};
use crate::config::Root;
use crate::durable::{self, LockFile};
use crate::ipc::{Failure, Server};
use crate::link::{Listener, SharedTls};
use crate::mq::QueueSet;
use crate::promotion;
use crate::replication::strategies::Strategies;
use crate::replication::{ControlFiles, Following, Options, Remotes, Replication, finish_commit};
use crate::rpc::Rpc;
use crate::telemetry::{self, LogControl, LogOptions};

/// Threads that hang in the disk hold the stop no longer.
const TASKS_END_MAX: Duration = Duration::from_secs(1);

/// Ending the link, and the writes under way for it, takes at most so long.
const LINK_END_MAX: Duration = Duration::from_secs(2);

/// The ready line waits at most so long for the pair's leave to make blocks: the questions to the peers take a second.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// Runs a node until it is told to stop. `on_ready` is called once, when it serves.
///
/// # Errors
/// The start was refused: configuration, lock, ports, a store. A running node does not end by itself.
pub fn run(root: &Root, on_ready: impl FnOnce(&Ready)) -> Result<(), Failure> {
    if !root.exists() {
        // Says what is missing, and makes nothing.
        root.load()?;
    }
    durable::create_directories(&root.system())?;
    let lock = LockFile::acquire(&root.lock_file())?;
    let files = ControlFiles::new(root.system());
    let finished = finish_commit(root, &files).map_err(|r| as_failed(&r))?;
    let mut standing = promotion::standing(&files).map_err(|r| as_failed(&r))?;
    let unfinished = standing.unfinished;
    // In the middle of an upgrade the files may name both hosts: its resumption sets them right.
    let mut loaded = if unfinished {
        root.load_in_upgrade()?
    } else {
        root.load()?
    };
    let (_guard, logs) = start_logs(root, &loaded.config)?;
    view::log_warnings(&loaded.warnings);
    if let Some(finished) = finished {
        finished.log();
    }
    for warning in secrets::exposed(root, &loaded.config) {
        tracing::warn!(code = %warning.code, "{}", warning.message);
    }
    let runtime = threads("cvp-node")?;
    let clients = threads("cvp-client")?;
    let mut kept_back = Held::new();
    if unfinished || loaded.config.role() == PairRole::Provider {
        if !unfinished {
            uncopied::settle(root, &files, &loaded.config, &mut standing).map_err(|r| as_failed(&r))?;
        }
        kept_back = held::kept_back(root, &standing, &mut loaded.config);
    }
    let opened = open_all(root, &loaded, &kept_back)?;
    let serving = (&opened, clients.handle().clone());
    let outcome = runtime.block_on(live(root, loaded, files, serving, logs, unfinished, on_ready));
    clients.shutdown_timeout(TASKS_END_MAX);
    runtime.shutdown_timeout(TASKS_END_MAX);
    close_all(&opened.chains);
    drop(lock);
    outcome
}

/// Threads for tasks, as many as there are processors.
fn threads(name: &str) -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("no-thread", error.to_string(), "raise the limit of threads"))
}

fn start_logs(root: &Root, config: &NodeConfig) -> Result<(telemetry::LogGuard, LogControl), Failure> {
    let log = &config.system.log;
    let options = LogOptions {
        levels: online::log_levels(config),
        files: log
            .dump_file
            .then(|| (root.resolve(&log.log_dir), online::log_rolling(config))),
    };
    telemetry::start_logs(&options)
        .map_err(|error| Failure::failed("no-logs", error.to_string(), "check the directory and its permissions"))
}

async fn live(
    root: &Root,
    loaded: Loaded,
    files: ControlFiles,
    (opened, clients): (&Opened, Handle),
    logs: LogControl,
    unfinished: bool,
    on_ready: impl FnOnce(&Ready),
) -> Result<(), Failure> {
    let stop = stop_signal()?;
    let node = build(root, loaded, files, (opened, clients), logs)?;
    if unfinished {
        tracing::warn!("an upgrade was interrupted: it goes on");
        node.ground().resume().await?;
    }
    let listener = attach(&node).await?;
    serve_clients(&node).await?;
    let socket = node.config().system.p2p.ipc.clone();
    let server = Server::bind(root.directory(), &socket).map_err(|error| {
        let what = format!("cannot make the operator's socket: {error}");
        Failure::failed(
            "no-socket",
            what,
            "check p2p.ipc of system.toml and the root's permissions",
        )
    })?;
    let talking = tokio::spawn(server.serve(Arc::clone(&node) as _));
    let standing = tokio::spawn(follow_standing(Arc::clone(&node)));
    let moving = tokio::spawn(Arc::clone(&node).follow_cursors());
    let aligning = tokio::spawn(follow_difference(Arc::clone(&node)));
    await_leave(&node).await;
    let ready = node.ready.lock().clone();
    on_ready(&ready);
    tokio::select! {
        () = stop => {}
        () = node.stopping.notified() => {}
    }
    tracing::info!("stopping");
    talking.abort();
    standing.abort();
    aligning.abort();
    moving.abort();
    drop(listener);
    let link = async {
        let _ = tokio::time::timeout(LINK_END_MAX, node.following.stop()).await;
        if let Some(replication) = node.replication() {
            let _ = tokio::time::timeout(LINK_END_MAX, replication.shutdown()).await;
        }
    };
    tokio::join!(node.close_http(), node.close_queues(), link);
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

/// Everything that does not talk to anybody yet.
fn build(
    root: &Root,
    loaded: Loaded,
    files: ControlFiles,
    (opened, clients): (&Opened, Handle),
    logs: LogControl,
) -> Result<Arc<Node>, Failure> {
    let (config, remarks) = (loaded.config, loaded.warnings);
    if config.role() == PairRole::Receiver {
        copied::log_keys(root, &config);
    }
    let tls: SharedTls = ports::load_tls(root, &config)?;
    let https = ports::load_https(root, &config)?;
    let cache = root.directory().join("system/cache");
    let traces = root.resolve(&config.system.log.log_dir).join("strategies");
    let runtime = Strategies::new(&cache, &root.plugins()).map_err(|error| {
        let what = format!("the strategies cannot be loaded: {error}");
        Failure::failed("no-strategy", what, "report it: the embedded one always loads")
    })?;
    let queues = QueueSet::default();
    let node = Arc::new(Node {
        root: root.clone(),
        rpc: Rpc::new(opened.chains.clone(), queues.clone(), ports::facts(&config)),
        queues,
        queues_moved: Arc::default(),
        queues_awaited: Arc::default(),
        remotes: remotes(root),
        config: ArcSwap::from_pointee(config),
        remarks,
        chains: opened.chains.clone(),
        opener: opened.opener.clone(),
        held: parking_lot::Mutex::new(opened.held.clone()),
        files,
        logs,
        https,
        fleet: Fleet::new(runtime.record_into(&traces)),
        following: Following::start(root.clone(), tls.clone(), following::addresses(root)),
        tls,
        replication: parking_lot::Mutex::new(None),
        http: tokio::sync::Mutex::new(None),
        ready: parking_lot::Mutex::default(),
        looks: Looks::default(),
        stopped: Arc::new(Stopped::new(root.clone())),
        changing: tokio::sync::Mutex::new(()),
        stopping: tokio::sync::Notify::new(),
        tasks: Handle::current(),
        clients,
    });
    let configuration = Arc::downgrade(&node);
    node.rpc.set_configuration(configuration);
    Ok(node)
}

/// `cvp.remote`, read afresh from the disk at each dial.
fn remotes(root: &Root) -> Remotes {
    let root = root.clone();
    Arc::new(move || match root.load() {
        Ok(loaded) => Ok(loaded.config.dynamic.cvp.remote),
        Err(failure) => Err(Refusal {
            code: failure.code.into(),
            text: failure.message,
            hint: failure.help,
        }),
    })
}

/// The pair's port, the strategies and replication.
async fn attach(node: &Arc<Node>) -> Result<Listener, Failure> {
    let config = node.config();
    let (listener, accepted) = ports::listen(&config, node.tls.clone()).await?;
    node.ready.lock().p2p = Some(ports::reachable(listener.address()));
    node.fleet.start(&config, strategy_role(config.role()))?;
    let (setup, known) = node.setup(&config).map_err(|refusal| as_failed(&refusal))?;
    let options = Options {
        setup,
        chains: node.chains.clone(),
        tls: node.tls.clone(),
        remotes: Arc::clone(&node.remotes),
        known,
        files: node.files.clone(),
        root: node.root.clone(),
        strategies: node.fleet.handles(),
        queues: node.queues.clone(),
        accepted,
    };
    let replication = Replication::start(options)
        .map_err(|error| Failure::failed("no-thread", error.to_string(), "raise the limit of threads"))?;
    replication.set_held(node.held_list()).await;
    *node.replication.lock() = Some(replication);
    Ok(listener)
}

/// JSON-RPC, unless this node's place was taken, and metrics.
async fn serve_clients(node: &Arc<Node>) -> Result<(), Failure> {
    let config = node.config();
    if config.system.metrics.enable {
        serve_metrics(node, &config);
    }
    let fenced = node.files.fenced().map_err(|error| as_failed(&error.refusal()))?;
    if config.role() == PairRole::Provider && fenced.is_some() {
        return Ok(());
    }
    node.follow_config(&config);
    node.refresh_queues().await;
    let server = ports::serve_http(&config, node.https.clone(), Arc::clone(&node.rpc), &node.clients).await?;
    {
        let mut ready = node.ready.lock();
        ready.jsonrpc = Some(ports::reachable(server.address()));
        ready.https = node.https.is_some();
    }
    *node.http.lock().await = Some(server);
    Ok(())
}

/// Metrics cost their page only: a taken port is logged.
fn serve_metrics(node: &Arc<Node>, config: &NodeConfig) {
    let mut address = std::net::SocketAddr::from(([127, 0, 0, 1], config.system.metrics.port));
    if address.port() == 0 {
        let free = std::net::TcpListener::bind(address).and_then(|listener| listener.local_addr());
        address = free.unwrap_or(address);
    }
    match telemetry::serve_metrics(address) {
        Ok(()) => node.ready.lock().metrics = Some(address.to_string()),
        Err(error) => tracing::warn!("metrics are not served: {error}"),
    }
}

/// Does what the pair allows: block making, or its end when this node's place was taken.
async fn follow_standing(node: Arc<Node>) {
    let Some(replication) = node.replication() else {
        return;
    };
    let mut standing = replication.watch_standing();
    loop {
        let now = standing.borrow_and_update().clone();
        if now.fenced.is_some() {
            node.close_http().await;
            node.following.stop().await;
        } else if now.may_make
            && let Err(failure) = node.begin_making().await
        {
            tracing::error!("no blocks are made: {failure}");
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until a provider makes blocks or learns that it may not; a while at most.
async fn await_leave(node: &Arc<Node>) {
    if node.config().role() != PairRole::Provider {
        return;
    }
    let Some(replication) = node.replication() else {
        return;
    };
    if leave_or_fence(&replication).await == Some(false) {
        node.close_http().await;
        return;
    }
    // The same call as the follower's: whoever comes second finds it done.
    if let Err(failure) = making_if_allowed(node, &replication).await {
        tracing::error!("no blocks are made: {failure}");
    }
}

/// Whether the pair allows this node to make blocks; none where it has not said so in time.
async fn leave_or_fence(replication: &Replication) -> Option<bool> {
    let mut standing = replication.watch_standing();
    let said = standing.wait_for(|standing| standing.may_make || standing.fenced.is_some());
    let said = tokio::time::timeout(LEAVE_MAX, said).await.ok()?.ok()?;
    Some(said.fenced.is_none())
}

/// A namespace was started while others run: its blocks are made once the new machine allows it. For who changes the node already.
pub(super) async fn await_making(node: &Arc<Node>) {
    let Some(replication) = node.replication() else {
        return;
    };
    if leave_or_fence(&replication).await == Some(true)
        && let Err(failure) = node.make_blocks().await
    {
        tracing::error!("no blocks are made: {failure}");
    }
}

async fn making_if_allowed(node: &Arc<Node>, replication: &Replication) -> Result<(), Failure> {
    let allowed = replication.watch_standing().borrow().may_make;
    if allowed { node.begin_making().await } else { Ok(()) }
}

/// A refusal of the start.
fn as_failed(refusal: &Refusal) -> Failure {
    Failure::failed(&refusal.code, refusal.text.clone(), refusal.hint.clone())
}
