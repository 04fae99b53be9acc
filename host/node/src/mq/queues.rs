//! The queues of one namespace: the door for their calls. A change is written before anybody sees it; readers never wait for a change.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use cvp_core::config::Broker;
use cvp_core::mq::{
    Cursor, EventId, Left, Missing, Queue, QueueChange, QueueEdit, Refused, Registry, Reigns, exchanger_name,
};
use cvp_core::types::{Digest, Height, Hostname, Incarnation, Namespace, Refusal};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::calls::QueuesError;
use super::files::{QueueFileError, QueueFiles};
use super::history::reigns_of;
use super::leaving::LeavingNote;
use super::names::{BrokerNames, HeldNames, Owner, place_of};
use super::rabbit::Rabbit;
use super::set::HeldThere;
use super::standby::StandbyBound;
use super::striking::Striking;
use super::writer::CursorBoard;
use crate::namespace::{Chain, wall_clock};

/// Makes a change of a registry on both nodes, or on this one alone where no standby is attached; told which queue comes or goes, and in
/// words what it is.
pub type Commit = Arc<dyn Fn(QueueChange, Option<QueueEdit>, String) -> Committing + Send + Sync>;

/// A change on its way.
pub type Committing = Pin<Box<dyn Future<Output = Result<(), QueuesError>> + Send>>;

/// The incarnation that a node speaks under, and where it began in a namespace that was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reign {
    /// Who speaks.
    pub incarnation: Incarnation,
    /// Height of its first block; none where it took over nothing.
    pub first: Option<Height>,
}

/// What queues need beside their chain and their files.
#[derive(Clone)]
pub struct Surroundings {
    /// Own hostname: part of the exchange's name.
    pub hostname: Hostname,
    /// Who carries the messages.
    pub broker: Broker,
    /// Makes the changes of the registry.
    pub commit: Commit,
    /// Told whenever cursors were written, and when a broker comes or goes.
    pub moved: Arc<Notify>,
    /// Under which incarnation the queues are told from now on.
    pub incarnation: Incarnation,
    /// All incarnations so far, as the node's lineage has them, oldest first.
    pub lineage: Vec<Reign>,
    /// Whose each queue at a broker is, of all namespaces of the node.
    pub names: BrokerNames,
    /// How far the standby has the queues.
    pub standby: watch::Receiver<HeldThere>,
    /// Told when a queue waits for the standby.
    pub awaited: Arc<Notify>,
}

/// What a queue's row in a table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRow {
    /// Its registration.
    pub queue: Queue,
    /// Everything before it is confirmed.
    pub cursor: Cursor,
}

/// The queues of one namespace.
pub struct Queues {
    pub(super) chain: Arc<Chain>,
    pub(super) hostname: Hostname,
    commit: Commit,
    registry: ArcSwap<Registry>,
    /// One change at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) files: QueueFiles,
    pub(super) board: Arc<CursorBoard>,
    /// Where the chain was taken over, for the ids of its events.
    pub(super) reigns: Reigns,
    /// What is still to be removed at the broker.
    pub(super) leaving: LeavingNote,
    /// The names that this namespace has at the broker, where one carries the messages.
    pub(super) held: Option<HeldNames>,
    /// What goes from the registry because the broker has removed it.
    pub(super) striking: Striking,
    moved: Arc<Notify>,
    standby: watch::Receiver<HeldThere>,
    awaited: Arc<Notify>,
    /// Grows with each change of the registry, and when this closes.
    changes: watch::Sender<u64>,
    closed: watch::Sender<bool>,
    writing: Mutex<Option<JoinHandle<()>>>,
    /// Set at the opening, where a broker carries the messages.
    rabbit: OnceLock<Rabbit>,
}

impl Queues {
    /// Opens the queues of `chain`; the name of their exchange is made at the first time, and what was told under an incarnation before
    /// this one is cut to what this node's chain goes on from. Blocks on the disk; the tasks that write cursors and talk to a broker run
    /// on `tasks`.
    ///
    /// # Errors
    /// A file is damaged or cannot be written.
    pub fn open(
        chain: Arc<Chain>,
        files: QueueFiles,
        around: Surroundings,
        tasks: &tokio::runtime::Handle,
    ) -> Result<Arc<Self>, Refusal> {
        let failed = |error: QueueFileError| {
            let text = format!("the message queues of {}: {error}", chain.namespace());
            Refusal::new(
                "queues-failed",
                text,
                "check the disk; restore the file, do not remove it",
            )
        };
        let (registry, mut cursors) = files.read().map_err(failed)?;
        let mut registry = match registry {
            Some(registry) => registry,
            None => {
                let registry = Registry::new(exchanger_name(chain.namespace(), &around.hostname, wall_clock()));
                files.write_registry(&registry).map_err(failed)?;
                registry
            }
        };
        let reigns = reigns_of(&chain, &around.lineage)?;
        // Of all take-overs that nobody told the queues of: a standby may have its cursors from a provider that was replaced before.
        let first = reigns.first_since(cursors.incarnation);
        // Before the cursors say that it is done.
        if let Some(first) = first.filter(|_| cursors.incarnation != Some(around.incarnation))
            && registry.begin_at(first)
        {
            files.write_registry(&registry).map_err(failed)?;
        }
        let took_over = cursors.take_over(&registry, around.incarnation, first);
        let here = match &around.broker {
            Broker::Embedded => None,
            Broker::Rabbit(url) => Some(place_of(url)),
        };
        let told = |queue: &Queue| cursors.of(queue);
        let leaving = LeavingNote::open(files.clone(), &registry, told, took_over, here.clone());
        let (leaving, noted) = leaving.map_err(failed)?;
        if cursors.begin_at(chain.ledger().history_from()) || took_over {
            files.write_cursors(&cursors).map_err(failed)?;
        }
        let held = match here {
            // What it made at a broker, or left there, stays there.
            None => {
                around.names.open(None, &noted, chain.namespace());
                None
            }
            // One that is another namespace's is not delivered, and its status says so.
            Some(here) => {
                let registered = registry.queues().keys().map(|name| (None, name.clone()));
                let names: Vec<_> = registered.chain(noted).collect();
                Some(HeldNames::open(around.names, here, chain.namespace(), &names))
            }
        };
        let board = CursorBoard::new(cursors, Arc::clone(&around.moved));
        let writing = tasks.spawn(Arc::clone(&board).drive(files.clone()));
        let queues = Arc::new(Self {
            chain,
            hostname: around.hostname,
            commit: around.commit,
            registry: ArcSwap::from_pointee(registry),
            changing: tokio::sync::Mutex::new(()),
            files,
            board,
            reigns,
            leaving,
            held,
            striking: Striking::default(),
            moved: around.moved,
            standby: around.standby,
            awaited: around.awaited,
            changes: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            writing: Mutex::new(Some(writing)),
            rabbit: OnceLock::new(),
        });
        if let Broker::Rabbit(url) = &around.broker {
            let rabbit = Rabbit::start(&queues, url, tasks);
            let _ = queues.rabbit.set(rabbit);
        }
        queues.striking.begin(&queues, tasks);
        Ok(queues)
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        self.chain.namespace()
    }

    /// The chain that events are read from.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// The broker that carries the messages, where there is one.
    pub fn rabbit(&self) -> Option<&Rabbit> {
        self.rabbit.get()
    }

    /// Who is registered now.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.load_full()
    }

    /// Every queue and how far it was told.
    pub fn rows(&self) -> Vec<QueueRow> {
        let registry = self.registry();
        let row = |queue: &Queue| QueueRow {
            queue: queue.clone(),
            cursor: self.cursor(queue),
        };
        registry.queues().values().map(row).collect()
    }

    /// What is registered and cannot be told here, because the blocks are not on this node.
    pub fn missing(&self) -> Vec<Missing> {
        let from = self.chain.ledger().history_from();
        let registry = self.registry();
        self.board.look(|cursors| cursors.missing(&registry, from))
    }

    /// Why cursors are not kept any more, if so.
    pub fn failure(&self) -> Option<String> {
        self.board.failure()
    }

    /// What stays at brokers where this node does not come any more.
    pub fn left(&self) -> Vec<Left> {
        self.leaving.left()
    }

    /// Changes of the registry, coalesced.
    pub(super) fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Set when this closes.
    pub(super) fn watch_closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Whether this very registration is still there.
    pub(super) fn holds(&self, queue: &Queue) -> bool {
        let registry = self.registry.load();
        let found = registry.queues().get(&queue.registration.queue);
        found.is_some_and(|found| found.number == queue.number)
    }

    /// What bounds how far a queue is told ahead of the standby.
    pub(super) fn standby_bound(&self, queue: &Queue) -> StandbyBound {
        StandbyBound::new(self.cursor(queue), self.standby.clone(), Arc::clone(&self.awaited))
    }

    /// Takes a name at the broker for this namespace.
    ///
    /// # Errors
    /// It is another one's.
    pub(super) fn take_name(&self, name: &str) -> Result<(), Owner> {
        self.held.as_ref().map_or(Ok(()), |held| held.take(name))
    }

    /// How far `queue` was told.
    pub(super) fn cursor(&self, queue: &Queue) -> Cursor {
        self.board.look(|cursors| cursors.of(queue))
    }

    /// Id of the event before a place.
    pub fn id(&self, after: Cursor) -> EventId {
        self.reigns.id(after)
    }

    /// Moves a cursor forward; answers the version that is durable when it is. `anew`: as for [`cvp_core::mq::Cursors::advance`]. A queue
    /// that is gone has none.
    pub(super) fn advance(&self, queue: &Queue, to: Cursor, anew: Option<Height>) -> u64 {
        self.board.change(|cursors| {
            if self.holds(queue) {
                cursors.advance(queue, to, anew);
            }
        })
    }

    /// A feed came from `from` to `to` over blocks without events; counts where the queue is at `from` still. Says whether it does.
    pub(super) fn pass_over(&self, queue: &Queue, from: Cursor, to: Cursor) -> bool {
        if self.cursor(queue) != from || !self.holds(queue) {
            return false;
        }
        self.advance(queue, to, None);
        true
    }

    /// Moves a cursor forward; answers when that is on disk.
    pub(super) async fn advance_for_good(&self, queue: &Queue, to: Cursor) -> Result<(), String> {
        let version = self.advance(queue, to, None);
        self.board.on_disk(version).await
    }

    /// Copy, edit, write on both nodes, then swap: memory never shows what the disks do not hold. Whoever calls holds `changing`.
    pub(super) async fn change(
        &self,
        note: String,
        edit: impl FnOnce(&mut Registry) -> Result<Option<QueueEdit>, Refused>,
    ) -> Result<Arc<Registry>, QueuesError> {
        let before = self.registry.load_full();
        let mut registry = Registry::clone(&before);
        let edit = edit(&mut registry)?;
        let noted = self.leaving.now().await;
        registry.strike(&noted);
        let change = QueueChange {
            namespace: self.namespace().clone(),
            old: Some(Digest::of(&before.encode())),
            registry,
        };
        let changed = Arc::new(change.registry.clone());
        if let Err(error) = (self.commit)(change, edit, note).await {
            self.look_again().await;
            return Err(error);
        }
        self.show(&changed);
        Ok(changed)
    }

    /// A change that was not answered may be made all the same, where the pair went on with another machine meanwhile: what the disk holds counts.
    async fn look_again(&self) {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        match read {
            Ok(Ok((Some(registry), _))) if registry != **self.registry.load() => self.show(&Arc::new(registry)),
            Ok(Err(error)) => tracing::error!(namespace = %self.namespace(), "the registry cannot be read: {error}"),
            _ => {}
        }
    }

    /// From now on this is who is registered.
    fn show(&self, changed: &Arc<Registry>) {
        // At once: nobody is told anything of a queue that is new, and nobody moves the cursor of one that is gone.
        let before = self.registry.load_full();
        self.board.change(|cursors| {
            cursors.follow(&before, changed);
            self.registry.store(Arc::clone(changed));
        });
        self.changes.send_modify(|count| *count += 1);
    }

    /// The broker came or went: the pair hears of it.
    pub(super) fn tell_broker(&self) {
        self.moved.notify_one();
    }

    /// Ends every feed and writes what moved. Its names at a broker stay its own: its queues stay there.
    pub async fn close(&self) {
        self.closed.send_replace(true);
        if let Some(rabbit) = self.rabbit() {
            rabbit.stop();
        }
        self.leaving.close().await;
        self.changes.send_modify(|count| *count += 1);
        let version = self.board.change(|_| ());
        if let Err(failed) = self.board.on_disk(version).await {
            tracing::warn!(namespace = %self.namespace(), "the cursors of queues were not written: {failed}");
        }
        if let Some(task) = self.writing.lock().take() {
            task.abort();
        }
        self.striking.end();
    }
}

impl Drop for Queues {
    /// One that was never closed still ends its tasks.
    fn drop(&mut self) {
        self.striking.end();
        if let Some(task) = self.writing.lock().take() {
            task.abort();
        }
    }
}
