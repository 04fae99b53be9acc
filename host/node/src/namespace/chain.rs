//! One chain and its handle: what the rest of the node calls. Threads and their loops are in `maker` and `committer`.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use cvp_core::chain::{Rejected, Request, Transaction, Window, admission, check_known, code};
use cvp_core::config::IndexSettings;
use cvp_core::ledger::{Ledger, LedgerError, Tips};
use cvp_core::record::Delta;
use cvp_core::types::{Height, Hostname, Incarnation, Namespace, NodeRole, Position, Refusal, UnixNanos};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::commit_times::CommitTimes;
use super::committer::{self, CommitSignal};
use super::maker::{self, Maker};
use super::{ChainError, ChainState, Onward, SubmitError, Verifier};
use crate::consensus::{Order, OrderOptions};
use crate::telemetry::counters;

/// Transaction version this node speaks for all clients (see docs/json-rpc.md).
pub const TX_VERSION: &str = "3.0";

/// What a chain must know beside its ledger.
#[derive(Debug, Clone)]
pub struct ChainOptions {
    /// Its name.
    pub namespace: Namespace,
    /// What this node is in it (`self.type`); for status and `node_*` answers.
    pub role: NodeRole,
    /// Pool, batches and their times.
    pub order: OrderOptions,
    /// `duplicate.tx_active_time`: how old a transaction may be.
    pub active_time: Duration,
    /// `duplicate.tx_drift_time`: how far in the future its time may be.
    pub drift_time: Duration,
    /// `database.indexdb`.
    pub index: IndexSettings,
}

impl ChainOptions {
    /// The platform's defaults.
    pub fn new(namespace: Namespace, role: NodeRole) -> Self {
        Self {
            namespace,
            role,
            order: OrderOptions::default(),
            active_time: Duration::from_secs(24 * 3600),
            drift_time: Duration::from_secs(300),
            index: IndexSettings::default(),
        }
    }

    fn window(&self) -> Window {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Window {
            active_nanos: nanos(self.active_time),
            drift_nanos: nanos(self.drift_time),
        }
    }
}

/// What both threads and the handle share.
pub(super) struct Shared {
    pub(super) namespace: Namespace,
    options: ArcSwap<ChainOptions>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) order: Order,
    pub(super) tips: watch::Sender<Tips>,
    pub(super) state: watch::Sender<ChainState>,
    pub(super) signal: CommitSignal,
    pub(super) commits: CommitTimes,
    /// Why no block is made for now: the disk is full.
    pub(super) no_room: Mutex<Option<Refusal>>,
    /// What a standby holds durably; none while none is attached.
    pub(super) copy: watch::Sender<Option<Height>>,
    /// Where clients' transactions go while another node makes the blocks.
    onward: Mutex<Option<Arc<dyn Onward>>>,
}

impl Shared {
    /// Goes to `next` if the table of states allows it; says whether it did.
    pub(super) fn go(&self, next: ChainState) -> bool {
        self.state.send_if_modified(|state| {
            let allowed = state.valid_transition(&next);
            if allowed {
                *state = next;
            }
            allowed
        })
    }

    /// The chain failed: state, log line, and both threads wake to end.
    pub(super) fn fail(&self, refusal: Refusal) {
        if self.go(ChainState::Failed(refusal.clone())) {
            error!(namespace = %self.namespace, %refusal, "namespace stopped");
        }
        self.order.close();
        self.signal.stop();
    }

    /// A ledger error as ours.
    pub(super) fn ledger_error(&self, source: LedgerError) -> ChainError {
        ChainError::Ledger {
            namespace: self.namespace.clone(),
            source,
        }
    }
}

/// The handle of one chain.
pub struct Chain {
    shared: Arc<Shared>,
    verifier: Verifier,
    maker: Mutex<Option<JoinHandle<()>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl Chain {
    /// Takes an open ledger into service: brings it to applied, then follows. Blocks while the ledger applies what a crash left behind.
    ///
    /// # Errors
    /// The ledger cannot be applied, or the system gave no thread.
    pub fn open(options: ChainOptions, ledger: Arc<dyn Ledger>, verifier: Verifier) -> Result<Arc<Self>, ChainError> {
        let namespace = options.namespace.clone();
        let failed = |source| ChainError::Ledger {
            namespace: namespace.clone(),
            source,
        };
        ledger.sync().map_err(failed)?;
        ledger.apply().map_err(failed)?;
        let tips = ledger.tips();
        let shared = Arc::new(Shared {
            order: Order::new(&options.order),
            namespace: namespace.clone(),
            options: ArcSwap::from_pointee(options),
            ledger,
            tips: watch::Sender::new(tips),
            state: watch::Sender::new(ChainState::Following),
            signal: CommitSignal::default(),
            commits: CommitTimes::default(),
            no_room: Mutex::new(None),
            copy: watch::Sender::new(None),
            onward: Mutex::new(None),
        });
        let committer = committer::start(Arc::clone(&shared)).map_err(|source| ChainError::Thread {
            namespace: namespace.clone(),
            source,
        })?;
        info!(%namespace, height = tips.applied.height, "namespace opened");
        Ok(Arc::new(Self {
            shared,
            verifier,
            maker: Mutex::new(None),
            committer: Mutex::new(Some(committer)),
        }))
    }

    /// Its name.
    pub fn namespace(&self) -> &Namespace {
        &self.shared.namespace
    }

    /// What it goes by.
    pub fn options(&self) -> Arc<ChainOptions> {
        self.shared.options.load_full()
    }

    /// For how long a node that makes blocks takes no transaction that is made now: it began from a snapshot, and might have taken it before.
    pub fn takes_none_for(&self) -> Option<Duration> {
        let since = self.shared.ledger.known_since();
        let until = since.saturating_add(self.options().window().drift_nanos);
        let left = Duration::from_nanos(until.saturating_sub(wall_clock()));
        (since > 0 && !left.is_zero()).then_some(left)
    }

    /// Goes by `options` when it makes blocks the next time: a standby's own, until it takes its provider's place. The index stays as it runs.
    pub fn set_options(&self, options: ChainOptions) {
        let index = self.options().index.clone();
        self.shared.options.store(Arc::new(ChainOptions { index, ..options }));
    }

    /// Its ledger. Replication appends and syncs here while the chain follows; nobody else writes.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.shared.ledger
    }

    /// Why no block is made for now, where the disk is full: it goes on by itself when there is room.
    pub fn no_room(&self) -> Option<Refusal> {
        self.shared.no_room.lock().clone()
    }

    /// How far it is: what was last published.
    pub fn tips(&self) -> Tips {
        *self.shared.tips.borrow()
    }

    /// Changes of the tips, coalesced: durable and applied heights as they grow.
    pub fn watch_tips(&self) -> watch::Receiver<Tips> {
        self.shared.tips.subscribe()
    }

    /// What it is doing.
    pub fn state(&self) -> ChainState {
        self.shared.state.borrow().clone()
    }

    /// Changes of the state.
    pub fn watch_state(&self) -> watch::Receiver<ChainState> {
        self.shared.state.subscribe()
    }

    /// Checks a transaction as a client sent it and puts it into the pool; answers its hash. The signature is checked on a verifier
    /// thread. Waits for nothing else: neither a block nor the disk's writes.
    ///
    /// # Errors
    /// The platform's code and text: parameters, signature, expiry, duplicate, full pool, or a chain that makes no blocks.
    pub async fn submit(&self, transaction: &serde_json::Value) -> Result<[u8; 32], SubmitError> {
        let outcome = self.admit(transaction).await;
        counters::submitted(
            self.namespace(),
            outcome.as_ref().map_or_else(|error| error.code, |_| 0),
        );
        outcome
    }

    async fn admit(&self, transaction: &serde_json::Value) -> Result<[u8; 32], SubmitError> {
        let following = *self.shared.state.borrow() == ChainState::Following;
        let onward = self.shared.onward.lock().clone().filter(|_| following);
        if onward.is_none() {
            self.must_make()?;
        }
        let request = Request::from_json(transaction).map_err(|bad| SubmitError {
            code: bad.code,
            message: bad.message,
        })?;
        if self.shared.order.is_full() {
            return Err(SubmitError::busy());
        }
        let json = transaction;
        let transaction = self.verifier.verify(request, TX_VERSION).await?;
        let options = self.options();
        admission(&transaction, wall_clock(), options.window()).map_err(refused)?;
        if onward.is_none() {
            check_known(&transaction, self.shared.ledger.known_since(), options.window()).map_err(refused)?;
        }
        let hash = transaction.hash;
        if let Some(onward) = onward {
            if self.in_ledger(&transaction).map_err(refused)? {
                return Err(refused(Rejected::new(code::DUPLICATE, "repeated tx")));
            }
            // As the client sent it: the node that makes the blocks checks it all again.
            return onward.pass_on(self.namespace(), json).await;
        }
        self.must_make()?;
        self.shared
            .order
            .admit(transaction, |it| self.in_ledger(it))
            .map_err(refused)?;
        Ok(hash)
    }

    /// Passes clients' transactions on from now on, once they were checked here; none: this chain makes blocks itself, or takes none.
    pub fn set_onward(&self, onward: Option<Arc<dyn Onward>>) {
        *self.shared.onward.lock() = onward;
    }

    /// The node that makes the blocks, where this one follows it and hears it now.
    pub fn reaches(&self) -> Option<Hostname> {
        let onward = self.shared.onward.lock().clone();
        onward?.reaches(self.namespace())
    }

    /// Whether the chain holds it, by hash or by signed text.
    fn in_ledger(&self, transaction: &Transaction) -> Result<bool, Rejected> {
        let ledger = &self.shared.ledger;
        let known = match ledger.find_transaction(&transaction.hash) {
            Ok(None) => ledger.knows_text(&transaction.text),
            found => found.map(|place| place.is_some()),
        };
        known.map_err(|error| {
            error!(namespace = %self.namespace(), %error, "the duplicate check failed in the ledger");
            Rejected::new(-32000, "the ledger of this node failed; see its log")
        })
    }

    fn must_make(&self) -> Result<(), SubmitError> {
        let state = self.shared.state.borrow();
        match &*state {
            ChainState::Making { .. } => Ok(()),
            other => Err(SubmitError::not_making(other)),
        }
    }

    /// Becomes the maker of this chain's blocks, in place. With a take-over delta the take-over block (empty, carrying that delta) is made
    /// at once, and so over a tip of another incarnation, which a promotion left out because the chain did not run; answers its
    /// position, or the tip without one, when it is durable and applied. Blocks for that long.
    ///
    /// The caller has ended every other writer of the ledger (the replication session) before.
    ///
    /// # Errors
    /// The chain is fenced, failed, stopped or making already; the ledger refused.
    pub fn begin_making(
        &self,
        hostname: Hostname,
        incarnation: Incarnation,
        takeover: Option<Delta>,
    ) -> Result<Position, ChainError> {
        let mut slot = self.maker.lock();
        let shared = &self.shared;
        let state = shared.state.borrow().clone();
        if state != ChainState::Following {
            return Err(ChainError::State {
                namespace: self.namespace().clone(),
                state: state.word(),
                wanted: "begin making blocks",
            });
        }
        let settle = || -> Result<Maker, ChainError> {
            shared.ledger.sync().map_err(|e| shared.ledger_error(e))?;
            shared.ledger.apply().map_err(|e| shared.ledger_error(e))?;
            Maker::at_tip(Arc::clone(shared), hostname, incarnation)
        };
        let mut maker = settle()?;
        if let Some(delta) = takeover.or_else(|| maker.belated_takeover()) {
            maker.make_takeover(delta)?;
            shared.ledger.sync().map_err(|e| shared.ledger_error(e))?;
            shared.ledger.apply().map_err(|e| shared.ledger_error(e))?;
        }
        shared.tips.send_replace(shared.ledger.tips());
        shared.order.open(&self.options().order);
        let thread = maker::start(maker).map_err(|source| ChainError::Thread {
            namespace: self.namespace().clone(),
            source,
        })?;
        *slot = Some(thread);
        if !shared.go(ChainState::Making { incarnation }) {
            shared.order.close();
        }
        let tip = shared.ledger.tips().applied;
        info!(namespace = %self.namespace(), %incarnation, height = tip.height, "making blocks");
        Ok(tip)
    }

    /// Replication made records durable in the ledger: they are applied and the tips published, soon.
    pub fn synced(&self) {
        self.shared.signal.wake();
    }

    /// The receiver holds everything up to `durable`: the time since these blocks were committed goes to the metrics.
    pub fn acknowledged(&self, durable: Height) {
        for (blocks, seconds) in self.shared.commits.take(durable) {
            counters::acknowledged(self.namespace(), blocks, seconds);
        }
    }

    /// A standby is attached and holds everything up to this height; none is.
    pub fn copy_holds(&self, durable: Option<Height>) {
        self.shared.copy.send_replace(durable);
    }

    /// Changes of what [`Chain::copy_holds`] was told, coalesced.
    pub fn watch_copy(&self) -> watch::Receiver<Option<Height>> {
        self.shared.copy.subscribe()
    }

    /// Ends block making for good because this node's place was taken. What was appended becomes durable; the pool is dropped.
    pub fn fence(&self, reason: Refusal) {
        self.shared.go(ChainState::Fenced(reason));
        self.end_making();
    }

    /// Stops the chain: the block being made is finished, synced and applied, then both threads end. Blocks for that long.
    pub fn close(&self) {
        self.end_making();
        self.shared.signal.stop();
        if let Some(thread) = self.committer.lock().take() {
            join(thread);
        }
        // Whoever still holds the ledger may keep it open past the end of the process: what it knows is written out here.
        if let Err(error) = self.shared.ledger.close() {
            warn!(namespace = %self.namespace(), %error, "the databases were not written out: the next start brings them up from the log");
        }
        self.shared.go(ChainState::Stopped);
        info!(namespace = %self.namespace(), height = self.tips().applied.height, "namespace closed");
    }

    fn end_making(&self) {
        self.shared.order.close();
        if let Some(thread) = self.maker.lock().take() {
            join(thread);
        }
    }
}

impl Drop for Chain {
    /// A handle that was never closed still ends its threads; it does not wait for them.
    fn drop(&mut self) {
        self.shared.order.close();
        self.shared.signal.stop();
    }
}

fn refused(rejected: Rejected) -> SubmitError {
    SubmitError {
        code: rejected.code,
        message: rejected.message,
    }
}

/// Threads catch their own panics; an error here is already in the chain's state.
fn join(thread: JoinHandle<()>) {
    let _ = thread.join();
}

/// Wall clock, ns since the epoch; 0 before 1970.
pub fn wall_clock() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
