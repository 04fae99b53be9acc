//! The namespaces of this node that follow a VP: one session a VP, each with a machine of its own, and the way of clients' transactions to
//! it. Whom a namespace follows is the roster's decision (`core::replication`); here machines are opened, changed and ended for it.
//!
//! Nobody else writes the ledgers of these namespaces: a session is quiet before another one, or the end of its chain, comes.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cvp_core::config::Remote;
use cvp_core::replication::{Heard, PairStatus, Passed, Phase, Roster, Setup, StrategySetup};
use cvp_core::session::{STANDBY_KEY, SessionKind};
use cvp_core::strategy::{ChainSync, Kind};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Hostname, Millis, Namespace, Refusal};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinHandle;

use super::strategies::NamespaceStrategies;
use super::{ControlFiles, Options, Remotes, Replication};
use crate::config::Root;
use crate::durable;
use crate::link::SharedTls;
use crate::mq::QueueSet;
use crate::namespace::{Chain, ChainSet, Onward, SubmitError};

/// Beside what a VP told of itself: where it was met last.
pub(super) const MET_AT: &str = "met-at";
/// How often the sessions are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// The ending of a session takes at most so long.
const END_MAX: Duration = Duration::from_secs(1);
/// Code of an answer that nobody gave: clients try another node, or again.
const UNANSWERED: i64 = -32024;

/// A namespace that follows.
#[derive(Clone)]
pub struct Target {
    /// Its chain.
    pub chain: Arc<Chain>,
    /// The VPs it may follow, in order.
    pub candidates: Vec<Hostname>,
    /// Its strategies; of kind chain-sync one of a receiver.
    pub strategies: NamespaceStrategies,
}

/// One VP that is followed, as its session's machine sees it.
pub struct Followed {
    /// The VP.
    pub hostname: Hostname,
    /// The namespaces that follow it.
    pub namespaces: Vec<Namespace>,
    /// The session, and the time it is of on its machine's clock; none while there is no machine.
    pub status: Option<(PairStatus, Millis)>,
}

/// The sessions of this node with the VPs it follows; clones share them.
#[derive(Clone)]
pub struct Following {
    shared: Arc<Shared>,
    /// Ends with the last handle.
    _watch: Arc<Watching>,
}

struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads where a node is, from the configuration as it is on the disk.
pub type Addresses = Arc<dyn Fn(&Hostname) -> Result<Vec<Remote>, Refusal> + Send + Sync>;

struct Shared {
    root: Root,
    tls: SharedTls,
    addresses: Addresses,
    begun: Instant,
    state: AsyncMutex<State>,
    /// Who takes transactions of which namespace.
    ways: Mutex<HashMap<Namespace, (Hostname, Replication)>>,
    /// Whom each namespace heard when it was looked at last.
    reached: Mutex<BTreeMap<Namespace, Hostname>>,
}

#[derive(Default)]
struct State {
    /// The node as the pair's machine has it.
    base: Option<Setup>,
    targets: BTreeMap<Namespace, Target>,
    roster: Roster,
    groups: BTreeMap<Hostname, Group>,
}

struct Group {
    replication: Replication,
    chains: ChainSet,
    files: ControlFiles,
}

impl Following {
    /// Follows nobody yet.
    pub fn start(root: Root, tls: SharedTls, addresses: Addresses) -> Following {
        let shared = Arc::new(Shared {
            root,
            tls,
            addresses,
            begun: Instant::now(),
            state: AsyncMutex::default(),
            ways: Mutex::default(),
            reached: Mutex::default(),
        });
        let watched = Arc::downgrade(&shared);
        let watch = tokio::spawn(async move {
            let mut looks = tokio::time::interval(LOOK);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                let Some(shared) = watched.upgrade() else { return };
                shared.look().await;
            }
        });
        Following {
            shared,
            _watch: Arc::new(Watching(watch)),
        }
    }

    /// Follows with these namespaces, and no others, from now on. When it returns, nothing of those that left writes their ledgers.
    pub async fn set(&self, base: Setup, targets: Vec<Target>) {
        let mut state = self.shared.state.lock().await;
        let targets = targets
            .into_iter()
            .map(|target| (target.chain.namespace().clone(), target));
        let targets: BTreeMap<Namespace, Target> = targets.collect();
        for (namespace, before) in &state.targets {
            if !targets.contains_key(namespace) {
                before.chain.set_onward(None);
            }
        }
        for target in targets.values() {
            target
                .chain
                .set_onward(Some(Arc::clone(&self.shared) as Arc<dyn Onward>));
        }
        let wanted = targets
            .iter()
            .map(|(name, target)| (name.clone(), target.candidates.clone()));
        state.roster.set(wanted.collect());
        state.targets = targets;
        state.base = Some(base);
        self.shared.arrange(&mut state).await;
    }

    /// Follows nobody any more. When it returns, no ledger is written.
    pub async fn stop(&self) {
        let mut state = self.shared.state.lock().await;
        for target in state.targets.values() {
            target.chain.set_onward(None);
        }
        state.targets.clear();
        state.roster.set(Vec::new());
        self.shared.arrange(&mut state).await;
    }

    /// Every VP that is followed.
    pub async fn view(&self) -> Vec<Followed> {
        let state = self.shared.state.lock().await;
        let mut view = Vec::new();
        for (hostname, namespaces) in state.roster.groups() {
            let status = match state.groups.get(&hostname) {
                Some(group) => group.replication.status().await,
                None => None,
            };
            view.push(Followed {
                hostname,
                namespaces,
                status,
            });
        }
        view
    }
}

/// Whether a namespace streams, as the machine of its VP says.
pub(crate) fn streams(status: &PairStatus, namespace: &Namespace) -> bool {
    let found = status.namespaces.iter().find(|found| found.name == *namespace);
    status.peer.is_some() && found.is_some_and(|found| matches!(found.phase, Phase::Live | Phase::CatchUp))
}

impl Shared {
    /// Leaves VPs that give nothing for others, and begins what could not be begun before.
    async fn look(self: &Arc<Self>) {
        let mut state = self.state.lock().await;
        let mut statuses = BTreeMap::new();
        for (hostname, group) in &state.groups {
            if let Some((status, _)) = group.replication.status().await {
                statuses.insert(hostname.clone(), status);
            }
        }
        let mut reached = BTreeMap::new();
        for (hostname, status) in &statuses {
            let heard = status.namespaces.iter().filter(|ns| streams(status, &ns.name));
            reached.extend(heard.map(|ns| (ns.name.clone(), hostname.clone())));
        }
        *self.reached.lock() = reached;
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let moved = state.roster.judge(now, |namespace, hostname| {
            match statuses.get(hostname).is_some_and(|status| streams(status, namespace)) {
                true => Heard::Streams,
                false => Heard::Nothing,
            }
        });
        if moved || state.groups.len() != state.roster.groups().len() {
            self.arrange(&mut state).await;
        }
    }

    /// Machines as the roster says: first those that lose a namespace fall quiet, then others take it.
    async fn arrange(self: &Arc<Self>, state: &mut State) {
        let wanted = state.roster.groups();
        let mut changed = Vec::new();
        let mut ways = self.ways.lock().clone();
        for (hostname, group) in &state.groups {
            let chains = chains_of(state, wanted.get(hostname).map_or(&[], Vec::as_slice));
            if same(&group.chains, &chains) {
                continue;
            }
            group.replication.quiesce().await;
            for name in group.chains.names() {
                group.chains.remove(name.as_str());
                ways.remove(&name);
            }
            changed.push(hostname.clone());
        }
        *self.ways.lock() = ways;
        for hostname in changed.iter().filter(|hostname| !wanted.contains_key(*hostname)) {
            if let Some(group) = state.groups.remove(hostname) {
                let _ = tokio::time::timeout(END_MAX, group.replication.shutdown()).await;
            }
        }
        for (hostname, names) in &wanted {
            let fresh = !state.groups.contains_key(hostname);
            if !fresh && !changed.contains(hostname) {
                continue;
            }
            if let Err(refusal) = self.begin(state, hostname, names).await {
                tracing::error!(vp = %hostname, "follow: {refusal}");
            }
        }
    }

    async fn begin(
        self: &Arc<Self>,
        state: &mut State,
        hostname: &Hostname,
        names: &[Namespace],
    ) -> Result<(), Refusal> {
        let files = match state.groups.get(hostname) {
            Some(group) => group.files.clone(),
            None => self.files_of(hostname)?,
        };
        let setup = setup_of(state, &files, names)?;
        let strategies: super::StrategyHandles = state
            .targets
            .iter()
            .filter(|(name, _)| names.contains(name))
            .map(|(name, target)| (name.clone(), target.strategies.clone()))
            .collect();
        let chains = chains_of(state, names);
        let replication = match state.groups.get(hostname) {
            Some(group) => {
                chains.into_iter().for_each(|chain| {
                    group.chains.insert(chain);
                });
                group.replication.become_role(setup, strategies).await;
                group.replication.clone()
            }
            None => {
                let set = ChainSet::new();
                chains.into_iter().for_each(|chain| {
                    set.insert(chain);
                });
                let replication = self.open(hostname, setup, strategies, set.clone(), files.clone())?;
                let group = Group {
                    replication: replication.clone(),
                    chains: set,
                    files,
                };
                state.groups.insert(hostname.clone(), group);
                replication
            }
        };
        let mut ways = self.ways.lock();
        for name in names {
            ways.insert(name.clone(), (hostname.clone(), replication.clone()));
        }
        tracing::info!(vp = %hostname, namespaces = names.len(), "following");
        Ok(())
    }

    /// What was heard of a VP, in a directory of its own.
    fn files_of(&self, hostname: &Hostname) -> Result<ControlFiles, Refusal> {
        let directory = self.root.system().join("followed").join(hostname.as_str());
        durable::create_directories(&directory).map_err(|error| {
            let text = format!("cannot make {}: {error}", directory.display());
            Refusal::new("disk-failed", text, "check the disk")
        })?;
        Ok(ControlFiles::new(directory))
    }

    fn open(
        &self,
        hostname: &Hostname,
        setup: Setup,
        strategies: super::StrategyHandles,
        chains: ChainSet,
        files: ControlFiles,
    ) -> Result<Replication, Refusal> {
        // Nothing is accepted for it.
        let (_, accepted) = mpsc::channel(1);
        let options = Options {
            setup,
            chains,
            tls: self.tls.clone(),
            remotes: self.remotes(hostname, &files),
            known: Vec::new(),
            files,
            root: self.root.clone(),
            strategies,
            // Queues are copied with a whole node.
            queues: QueueSet::default(),
            accepted,
        };
        Replication::start(options)
            .map_err(|error| Refusal::new("no-thread", error.to_string(), "raise the limit of threads"))
    }

    /// Where the configuration says that the VP is, where it was met last, and where its standby listened, which may have taken its place.
    fn remotes(&self, hostname: &Hostname, files: &ControlFiles) -> Remotes {
        let (addresses, files, hostname) = (Arc::clone(&self.addresses), files.clone(), hostname.clone());
        Arc::new(move || {
            let mut remotes = addresses(&hostname)?;
            let told = files.provider_self().map_err(|error| error.refusal())?;
            for (key, address) in told.unwrap_or_default() {
                let known = remotes.iter().any(|remote| remote.address == address);
                if [STANDBY_KEY, MET_AT].contains(&key.as_str()) && !known {
                    remotes.push(Remote {
                        hostname: hostname.clone(),
                        address,
                    });
                }
            }
            if remotes.is_empty() {
                let hint = "write \"<hostname> <ip:port>\" into p2p.ip.remote.hosts of dynamic.toml or ns_dynamic.toml";
                return Err(Refusal::new(
                    "unreachable",
                    format!("no address of {hostname} is known"),
                    hint,
                ));
            }
            Ok(remotes)
        })
    }
}

fn chains_of(state: &State, names: &[Namespace]) -> Vec<Arc<Chain>> {
    let targets = names.iter().filter_map(|name| state.targets.get(name));
    targets.map(|target| Arc::clone(&target.chain)).collect()
}

/// Whether the set holds these very chains.
fn same(set: &ChainSet, chains: &[Arc<Chain>]) -> bool {
    let held = set.all();
    let is_held = |chain: &Arc<Chain>| held.iter().any(|held| Arc::ptr_eq(held, chain));
    held.len() == chains.len() && chains.iter().all(is_held)
}

/// The machine of a session with a VP: this node's own, as far as a follower has one, with what it heard of that VP before.
fn setup_of(state: &State, files: &ControlFiles, names: &[Namespace]) -> Result<Setup, Refusal> {
    let Some(base) = &state.base else {
        return Err(Refusal::new("not-running", "the node is not up yet", ""));
    };
    let mut setup = base.clone();
    setup.role = Role::Receiver;
    setup.kind = SessionKind::Follower;
    setup.enabled = true;
    setup.binding = files.binding().map_err(|error| error.refusal())?;
    setup.fenced = None;
    setup.last_receiver = None;
    setup.last_held = None;
    setup.self_section = Vec::new();
    setup.changes = cvp_core::replication::ChangesSetup::default();
    setup.copy = cvp_core::replication::Inventory::default();
    (setup.ask, setup.notify) = (Vec::new(), Vec::new());
    setup.seed = rand::random();
    setup
        .namespaces
        .retain(|namespace| names.contains(&namespace.namespace));
    for namespace in &mut setup.namespaces {
        let Some(target) = state.targets.get(&namespace.namespace) else {
            continue;
        };
        let tips = target.chain.ledger().tips();
        (namespace.durable, namespace.applied) = (tips.durable, tips.applied.height);
        namespace.chain_sync = StrategySetup {
            id: target.strategies.chain_sync.state().offered,
            stored: files
                .stored(&namespace.namespace, ChainSync::NAME)
                .map_err(|error| error.refusal())?,
        };
    }
    Ok(setup)
}

impl Onward for Shared {
    fn reaches(&self, namespace: &Namespace) -> Option<Hostname> {
        self.reached.lock().get(namespace).cloned()
    }

    fn pass_on<'a>(
        &'a self,
        namespace: &'a Namespace,
        transaction: &'a serde_json::Value,
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 32], SubmitError>> + Send + 'a>> {
        Box::pin(async move {
            let unanswered = |vp: &str, why: &str| SubmitError {
                code: UNANSWERED,
                message: format!("consensus status is abnormal: {vp} of namespace {namespace}: {why}"),
            };
            let way = self.ways.lock().get(namespace).cloned();
            let Some((vp, replication)) = way else {
                return Err(unanswered("the VP", "it is not followed now"));
            };
            let bytes = serde_json::to_vec(transaction).map_err(|error| SubmitError {
                code: -32602,
                message: error.to_string(),
            })?;
            match replication.pass_on(namespace.clone(), Bytes::from(bytes)).await {
                Some(Passed::Taken(hash)) => Ok(hash),
                Some(Passed::Refused { code, message }) => Err(SubmitError { code, message }),
                Some(Passed::Busy) => Err(SubmitError::busy()),
                Some(Passed::Unanswered(why)) => Err(unanswered(vp.as_str(), &why)),
                None => Err(unanswered(vp.as_str(), "its session ended; it may have been taken")),
            }
        })
    }
}
