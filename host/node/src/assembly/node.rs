//! A running node: what it is made of, its state, its change of role in place.
//!
//! Start and stop order are in `life`, what an operator is answered in `operator`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use cvp_core::config::{NodeConfig, NsConfig, PairRole, Problem};
use cvp_core::promotion::{HeldNamespace, Plan, PortView};
use cvp_core::replication::Setup;
use cvp_core::session::CopyBehind;
use cvp_core::types::strategy::Role;
use cvp_core::types::{Namespace, NodeRole, Position, Refusal};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::chains::{Held, Opener, chain_options, check_genesis};
use super::fleet::Fleet;
use super::looks::Looks;
use super::stopped::{self, Stopped};
use super::{certificates, copied, fitness, secrets, uncopied, view};
use crate::config::{Places, Root};
use crate::ipc::{Failure, ReasonView, StatusView};
use crate::link::SharedTls;
use crate::mq::QueueSet;
use crate::namespace::{ChainSet, ChainState};
use crate::promotion::{self, Ground, Hooks};
use crate::replication::{ControlFiles, Following, Remotes, Replication, SetupSource};
use crate::rpc::{Https, Rpc, RpcServer};
use crate::telemetry::LogControl;

/// Where a node serves, said when it does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ready {
    /// JSON-RPC.
    pub jsonrpc: Option<String>,
    /// It is served over HTTPS.
    pub https: bool,
    /// The pair's port.
    pub p2p: Option<String>,
    /// Metrics.
    pub metrics: Option<String>,
}

/// A running node.
pub(super) struct Node {
    pub(super) root: Root,
    pub(super) config: ArcSwap<NodeConfig>,
    /// Keys that have no effect here, as the start found them.
    pub(super) remarks: Vec<Problem>,
    pub(super) chains: ChainSet,
    pub(super) opener: Opener,
    /// Configured, and not running.
    pub(super) held: Mutex<Held>,
    pub(super) files: ControlFiles,
    pub(super) logs: LogControl,
    pub(super) tls: SharedTls,
    /// What JSON-RPC is served with, where it is not plain.
    pub(super) https: Option<Https>,
    pub(super) remotes: Remotes,
    pub(super) fleet: Fleet,
    pub(super) queues: QueueSet,
    pub(super) following: Following,
    /// Told whenever cursors of queues were written.
    pub(super) queues_moved: Arc<tokio::sync::Notify>,
    /// Told when a queue waits until the standby has its cursor.
    pub(super) queues_awaited: Arc<tokio::sync::Notify>,
    pub(super) rpc: Arc<Rpc>,
    /// Set once, when replication runs.
    pub(super) replication: Mutex<Option<Replication>>,
    pub(super) http: tokio::sync::Mutex<Option<RpcServer>>,
    pub(super) ready: Mutex<Ready>,
    pub(super) looks: Looks,
    pub(super) stopped: Arc<Stopped>,
    /// One change of the node at a time: switches, upgrades, the begin of block making.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Told when the node is to stop by itself.
    pub(super) stopping: tokio::sync::Notify,
    pub(super) tasks: Handle,
    /// Threads for clients alone: however many requests are read, nothing between the nodes waits for it.
    pub(super) clients: Handle,
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

    /// Replication, once it runs.
    pub(super) fn replication(&self) -> Option<Replication> {
        self.replication.lock().clone()
    }

    /// The machine's setup for the role that the configuration says, and the names of peers that it does not.
    pub(super) fn setup(&self, config: &NodeConfig) -> Result<(Setup, Vec<cvp_core::config::Remote>), Refusal> {
        let predecessor = promotion::standing(&self.files)?.predecessor;
        let listen = self.ready.lock().p2p.clone().unwrap_or_default();
        let source = SetupSource {
            config,
            files: &self.files,
            chains: &self.chains,
            strategy: &|namespace, kind| self.fleet.offered(namespace, kind),
            copied: Places::copy(&self.root),
            node_key: self.root.node_key(),
            listen,
            stopped: self.stopped.chains(&self.chains),
            predecessor,
        };
        let read = source.read().and_then(|setup| Ok((setup, source.known()?)));
        read.map_err(|error| error.refusal())
    }

    /// A provider makes blocks where it is a VP; called when the pair allows it.
    pub(super) async fn begin_making(self: &Arc<Self>) -> Result<(), Failure> {
        // Waits for an upgrade under way: its take-over blocks come first.
        let _one_at_a_time = self.changing.lock().await;
        self.make_blocks().await
    }

    /// As [`Node::begin_making`], for who changes the node already.
    pub(super) async fn make_blocks(self: &Arc<Self>) -> Result<(), Failure> {
        let node = Arc::clone(self);
        let work = move || -> Result<(), Refusal> {
            if promotion::standing(&node.files)?.unfinished {
                return Ok(());
            }
            let identity = node.files.identity().map_err(|error| error.refusal())?;
            let Some(incarnation) = identity.and_then(|identity| identity.lineage.current()) else {
                return Ok(());
            };
            let config = node.config();
            let mut failed = Ok(());
            for chain in node.chains.all() {
                let role = config.namespaces.get(chain.namespace()).map(|ns| ns.dynamic.role);
                if role == Some(NodeRole::Vp) && chain.state() == ChainState::Following {
                    let begun = chain.begin_making(config.dynamic.hostname.clone(), incarnation, None);
                    // One that cannot is no reason for the others not to.
                    failed = failed.and(begun.map(|_| ()).map_err(|error| error.refusal()));
                }
            }
            failed
        };
        let worked = tokio::task::spawn_blocking(work).await;
        self.follow().await;
        match worked {
            Ok(done) => done.map_err(|refusal| Failure::from_refusal(&refusal)),
            Err(error) => Err(Failure::failed("internal", error.to_string(), "see the node's log")),
        }
    }

    /// Closes the JSON-RPC port; requests under way are finished.
    pub(super) async fn close_http(&self) {
        if let Some(server) = self.http.lock().await.take() {
            self.ready.lock().jsonrpc = None;
            server.close().await;
        }
    }

    /// What a promotion works on.
    pub(super) fn ground(self: &Arc<Self>) -> Arc<Ground> {
        Arc::new(Ground {
            root: self.root.clone(),
            chains: self.chains.clone(),
            files: self.files.clone(),
            tls: self.tls.clone(),
            remotes: Arc::clone(&self.remotes),
            replication: self.replication(),
            hooks: Arc::new(NodeHooks(Arc::clone(self))),
        })
    }

    /// The node as its operator sees it.
    pub(super) async fn status(&self) -> StatusView {
        let config = self.config();
        let status = match self.replication() {
            Some(replication) => replication.status().await,
            None => None,
        };
        let ready = self.ready.lock().clone();
        let ends = certificates::Ends {
            own: self.tls.as_ref().map(|tls| tls.own().not_after),
            peer: status.as_ref().and_then(|(status, _)| status.peer.as_ref()?.not_after),
            https: self.https.as_ref().map(Https::not_after),
        };
        let behind = status
            .as_ref()
            .map(|(status, _)| status.behind.clone())
            .unwrap_or_default();
        let mut view = match status {
            Some((status, now)) => view::of_pair(&status, now, &config),
            None => view::without_pair(&self.chains, &config),
        };
        view::add_local(&mut view, &self.chains, &ready, &config);
        view::add_held(&mut view, &self.held.lock());
        let known = self.known();
        if let Ok(standing) = promotion::standing(&self.files) {
            if standing.unfinished {
                view::add_unfinished(&mut view);
            } else if config.role() == PairRole::Provider {
                view.warnings.extend(uncopied::warnings(&standing.uncopied, &known));
                view.warnings.extend(stopped::warnings(config.role(), &behind, ""));
                view.warnings
                    .extend(self.behind_predecessor(&standing.predecessor).await);
            }
        }
        view::add_queues(&mut view, self.view_queues());
        self.add_following(&mut view, &config).await;
        certificates::add(&mut view, ends, SystemTime::now());
        view.warnings.extend(secrets::exposed(&self.root, &config));
        let found = self.look_at_files(&config, &ready, known).await;
        copied::add_unusable(&mut view, found.own);
        if let Some(seen) = found.copy {
            copied::add(&mut view, seen);
            let unsupported = self.remarks.iter().filter(|remark| remark.unsupported);
            view.warnings
                .extend(unsupported.map(|remark| ReasonView::new("unsupported", remark.to_string())));
        }
        view
    }

    /// Promoted: what the predecessor had more of when it was last heard, and does not run here.
    async fn behind_predecessor(&self, predecessor: &[String]) -> Vec<ReasonView> {
        if predecessor.is_empty() {
            return Vec::new();
        }
        let (stopped, files, chains) = (Arc::clone(&self.stopped), self.files.clone(), self.chains.clone());
        let behind = tokio::task::spawn_blocking(move || stopped.behind(&files, &chains)).await;
        stopped::warnings_of_promoted(&behind.unwrap_or_default(), &predecessor.join(", "))
    }

    /// What runs, and what is held with its reason.
    fn known(&self) -> BTreeSet<Namespace> {
        let held = self.held.lock().keys().cloned().collect::<Vec<_>>();
        self.chains.names().into_iter().chain(held).collect()
    }

    /// What is configured and does not run, as the pair is told.
    pub(super) fn held_list(&self) -> Vec<(Namespace, Refusal)> {
        let held = self.held.lock();
        held.iter()
            .map(|(name, refusal)| (name.clone(), refusal.clone()))
            .collect()
    }

    /// Reads the configuration afresh and goes on in the role it says.
    fn enter_role(self: &Arc<Self>) -> Result<(), Refusal> {
        let mut config = match self.root.load() {
            Ok(loaded) => loaded.config,
            Err(failure) => {
                return Err(Refusal {
                    code: failure.code.into(),
                    text: failure.message,
                    hint: failure.help,
                });
            }
        };
        let started = |name: &Namespace| {
            let mut entries = config.dynamic.namespaces.iter();
            entries.any(|entry| entry.name == *name && entry.start)
        };
        self.held.lock().retain(|name, _| started(name));
        if config.role() == PairRole::Provider {
            self.keep_back(&promotion::standing(&self.files)?, &mut config);
        }
        self.config.store(Arc::new(config));
        // What a chain was opened with is a standby's own.
        for chain in self.chains.all() {
            if let Some(ns) = self.config().namespaces.get(chain.namespace()) {
                chain.set_options(chain_options(chain.namespace(), ns));
            }
        }
        // At a start replication is built afterwards, from the same files.
        let Some(replication) = self.replication() else {
            return Ok(());
        };
        let config = self.config();
        self.fleet
            .start(&config, strategy_role(config.role()))
            .map_err(|failure| Refusal::new("no-strategy", failure.message, failure.help))?;
        let (setup, _) = self.setup(&config)?;
        self.tasks
            .block_on(replication.become_role(setup, self.fleet.handles()));
        self.tasks.block_on(replication.set_held(self.held_list()));
        Ok(())
    }
}

/// A role as strategies know it.
pub(super) fn strategy_role(role: PairRole) -> Role {
    match role {
        PairRole::Provider => Role::Provider,
        PairRole::Receiver => Role::Receiver,
    }
}

/// What a promotion asks of the assembly. Called from the promotion's threads, which may wait.
pub(super) struct NodeHooks(pub(super) Arc<Node>);

impl Hooks for NodeHooks {
    fn role_changed(&self, plan: &Plan) -> Result<(), Refusal> {
        match plan.late {
            false => self.0.enter_role(),
            true => self.0.take_in(plan),
        }
    }

    fn hold(&self, held: &[HeldNamespace]) -> Result<(), Refusal> {
        self.0.hold(held)
    }

    fn why_held(&self, name: &Namespace) -> Option<Refusal> {
        self.0.held.lock().get(name).cloned()
    }

    fn look_into(&self, name: &Namespace, above: &Plan) -> Result<Position, Refusal> {
        self.0.look_into(name, above)
    }

    fn serve(&self, _plan: &Plan) -> Result<(), Refusal> {
        self.0.follow_config(&self.0.config());
        self.0.tasks.block_on(self.0.refresh_queues());
        Ok(())
    }

    fn ports(&self, config: &NodeConfig) -> Vec<PortView> {
        let ready = self.0.ready.lock().clone();
        fitness::ports(config, &ready)
    }

    fn unfit(&self, config: &NodeConfig) -> Vec<String> {
        fitness::unfit(&self.0.root, config)
    }

    fn uninstalled(&self, config: &NodeConfig) -> Vec<String> {
        fitness::uninstalled(&self.0.root, config)
    }

    fn genesis_fits(&self, name: &Namespace, ns: &NsConfig) -> Result<(), Refusal> {
        match self.0.chains.get(name.as_str()) {
            Some(chain) => check_genesis(name, ns, &chain.ledger().genesis().hash),
            None => Ok(()),
        }
    }

    fn behind(&self) -> Vec<CopyBehind> {
        self.0.stopped.behind(&self.0.files, &self.0.chains)
    }

    fn go_on_receiving(&self) {
        let node = Arc::clone(&self.0);
        // Called from a task too, which may not wait.
        self.0.tasks.spawn_blocking(move || {
            if let Err(refusal) = node.enter_role() {
                tracing::error!("the receiver does not go on: {refusal}");
            }
        });
    }
}
