//! The queues of one namespace: the door for their calls. A change is written before anybody sees it; readers never wait for a change.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use cvp_core::config::Broker;
use cvp_core::mq::{Cursor, Notice, Queue, QueueChange, QueueEdit, Refused, Registration, Registry, exchanger_name};
use cvp_core::types::{Digest, Height, Hostname, Incarnation, Namespace, Refusal};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::feed::{Feed, events_at};
use super::files::{QueueFileError, QueueFiles};
use super::history::first_made;
use super::leaving::LeavingNote;
use super::rabbit::Rabbit;
use super::writer::CursorBoard;
use crate::namespace::{Chain, wall_clock};

/// Blocks looked through, at most, to count what a queue was not told yet.
const COUNTED_MAX: u64 = 1_000;

/// Why a call did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueuesError {
    /// The caller's fault: code and text.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The disk's.
    #[error("{0}")]
    Disk(String),
    /// The change was not made on either node.
    #[error("{0}")]
    NotMade(Refusal),
    /// Whether the standby holds the change is not known; this node has not made it.
    #[error("{0}")]
    Undecided(Refusal),
}

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
    pub reign: Reign,
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
    chain: Arc<Chain>,
    hostname: Hostname,
    commit: Commit,
    registry: ArcSwap<Registry>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    pub(super) files: QueueFiles,
    board: Arc<CursorBoard>,
    /// What is still to be removed at the broker.
    leaving: LeavingNote,
    moved: Arc<Notify>,
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
        let registry = match registry {
            Some(registry) => registry,
            None => {
                let registry = Registry::new(exchanger_name(chain.namespace(), &around.hostname, wall_clock()));
                files.write_registry(&registry).map_err(failed)?;
                registry
            }
        };
        let Reign { incarnation, first } = around.reign;
        let first = match first {
            Some(first) => Some(first),
            None if cursors.incarnation == Some(incarnation) => None,
            // One that did not run when its node was promoted is in no list: its chain says where it goes on.
            None => Some(first_made(&chain, incarnation)?),
        };
        if cursors.take_over(&registry, incarnation, first) {
            files.write_cursors(&cursors).map_err(failed)?;
        }
        let told = |queue: &Queue| cursors.at.get(&queue.number).copied().unwrap_or_else(|| queue.start());
        let leaving = LeavingNote::open(files.clone(), &registry, told).map_err(failed)?;
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
            leaving,
            moved: around.moved,
            changes: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            writing: Mutex::new(Some(writing)),
            rabbit: OnceLock::new(),
        });
        if let Broker::Rabbit(url) = &around.broker {
            let rabbit = Rabbit::start(&queues, url, tasks);
            let _ = queues.rabbit.set(rabbit);
        }
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

    /// Why cursors are not kept any more, if so.
    pub fn failure(&self) -> Option<String> {
        self.board.failure()
    }

    /// Changes of the registry, coalesced.
    pub(super) fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
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

    /// How far `queue` was told.
    pub(super) fn cursor(&self, queue: &Queue) -> Cursor {
        self.board
            .look(|cursors| cursors.at.get(&queue.number).copied())
            .unwrap_or_else(|| queue.start())
    }

    /// Registers a queue; answers its name and that of its exchange, once it is on disk.
    ///
    /// # Errors
    /// See [`QueuesError`]; nothing changed.
    pub async fn register(&self, registration: Registration) -> Result<(String, String), QueuesError> {
        let name = registration.queue.clone();
        let tip = self.chain.tips().applied.height;
        let note = format!("queue {name} of {} registered", self.namespace());
        let changed = self
            .change(note, |registry| {
                let queue = registry.register(registration, tip)?;
                Ok(Some(QueueEdit::Registered(queue.clone())))
            })
            .await?;
        tracing::info!(namespace = %self.namespace(), queue = name, "queue registered");
        if let (Some(rabbit), Some(queue)) = (self.rabbit(), changed.queues().get(&name)) {
            // So that a consumer finds it.
            rabbit.declared(queue).await;
        }
        Ok((name, changed.exchanger().to_owned()))
    }

    /// Takes a queue out; answers how many events it was not told (counted over so many blocks at most).
    ///
    /// # Errors
    /// See [`QueuesError`]; nothing changed.
    pub async fn unregister(self: &Arc<Self>, name: &str, exchanger: &str) -> Result<u64, QueuesError> {
        let note = format!("queue {name} of {} unregistered", self.namespace());
        let leaving = self.registry().get(name).ok().cloned();
        let left = match &leaving {
            Some(queue) => self.count_untold(queue.clone()).await?,
            None => 0,
        };
        if let (Some(_), Some(queue)) = (self.rabbit(), &leaving) {
            // Before it goes: whatever is lost between the two, the broker's queue is not forgotten.
            let noted = self.leaving.change(|leaving| leaving.add(queue)).await;
            noted.map_err(QueuesError::Disk)?;
        }
        let changed = self.change(note, |registry| {
            let queue = registry.unregister(name, exchanger)?;
            Ok(Some(QueueEdit::Unregistered(queue)))
        });
        if let Err(error) = changed.await {
            if let (Some(queue), false) = (&leaving, matches!(error, QueuesError::Undecided(_))) {
                self.left_broker(queue.number).await;
            }
            return Err(error);
        }
        tracing::info!(namespace = %self.namespace(), queue = name, "queue unregistered");
        let (Some(rabbit), Some(queue)) = (self.rabbit(), leaving) else {
            return Ok(left);
        };
        let at_broker = rabbit.remove_queue(name).await;
        if at_broker.is_some() {
            self.left_broker(queue.number).await;
        }
        Ok(left + at_broker.unwrap_or_default())
    }

    /// A queue has nothing to be removed at the broker any more.
    pub(super) async fn left_broker(&self, number: u64) {
        if let Err(error) = self.leaving.change(|leaving| leaving.remove(number)).await {
            tracing::warn!(namespace = %self.namespace(), "note that a queue was removed at the broker: {error}");
        }
    }

    /// Queues that are registered no more and are still to be removed at the broker: number and name.
    pub(super) async fn leaving(&self) -> Vec<(u64, String)> {
        self.leaving.due(&self.registry(), |queue| self.cursor(queue)).await
    }

    /// Forgets the exchange; the next one has another name.
    ///
    /// # Errors
    /// See [`QueuesError`]; nothing changed.
    pub async fn delete_exchanger(&self, exchanger: &str) -> Result<(), QueuesError> {
        let fresh = exchanger_name(self.namespace(), &self.hostname, wall_clock());
        self.change(format!("exchanger {exchanger} deleted"), |registry| {
            registry.delete_exchanger(exchanger, fresh).map(|()| None)
        })
        .await?;
        if let Some(rabbit) = self.rabbit() {
            rabbit.remove_exchange(exchanger).await;
        }
        Ok(())
    }

    /// A consumer has everything up to the event with this id; answers how far the queue is told, once that is on disk. What was
    /// acknowledged before stays.
    ///
    /// # Errors
    /// No such queue, or no such event yet.
    pub async fn acknowledge(&self, name: &str, to: Cursor) -> Result<Cursor, QueuesError> {
        let registry = self.registry();
        let queue = registry.get(name)?;
        let latest = self.chain.tips().applied.height;
        if to != to.cut_above(latest) {
            let message = format!("invalid params: event {to} was not told yet, the latest block is {latest}");
            return Err(QueuesError::Refused(Refused {
                code: cvp_core::mq::code::INVALID_PARAMS,
                message,
            }));
        }
        let version = self.advance(queue, to);
        self.board.on_disk(version).await.map_err(QueuesError::Disk)?;
        Ok(self.cursor(queue))
    }

    /// Moves a cursor forward; answers the version that is durable when it is.
    fn advance(&self, queue: &Queue, to: Cursor) -> u64 {
        self.board.change(|cursors| {
            let at = cursors.at.entry(queue.number).or_insert_with(|| queue.start());
            *at = to.max(*at);
            let told = *at;
            if cursors.notices.get(&queue.number).is_some_and(|from| told.next > *from) {
                cursors.notices.remove(&queue.number);
            }
        })
    }

    /// A feed came from `from` to `to` over blocks without events; counts where the queue is at `from` still. Says whether it does.
    pub(super) fn pass_over(&self, queue: &Queue, from: Cursor, to: Cursor) -> bool {
        if self.cursor(queue) != from || !self.holds(queue) {
            return false;
        }
        self.advance(queue, to);
        true
    }

    /// The events of a queue from its cursor on, or after the event that a consumer says it saw last.
    ///
    /// # Errors
    /// No such queue.
    pub fn feed(self: &Arc<Self>, name: &str, after: Option<Cursor>) -> Result<Feed, Refused> {
        let registry = self.registry();
        let queue = registry.get(name)?.clone();
        let notice = self.board.look(|cursors| cursors.notices.get(&queue.number).copied());
        let notice = notice.map(|from| Notice { from });
        let at = match after {
            None => self.cursor(&queue),
            // What lies above the chain was seen of another node before it was taken over.
            Some(after) => {
                let seen = after.cut_above(self.chain.tips().applied.height);
                let due = notice.map_or(seen, |notice| seen.min(Cursor::before(notice.from)));
                due.max(queue.start())
            }
        };
        Ok(Feed::new(Arc::clone(self), queue, at, notice))
    }

    /// The events of this very registration from its cursor on; none where it is gone.
    pub(super) fn feed_of(self: &Arc<Self>, queue: &Queue) -> Option<Feed> {
        let feed = self.feed(&queue.registration.queue, None).ok()?;
        self.holds(queue).then_some(feed)
    }

    /// Moves a cursor forward; answers when that is on disk.
    pub(super) async fn advance_for_good(&self, queue: &Queue, to: Cursor) -> Result<(), String> {
        let version = self.advance(queue, to);
        self.board.on_disk(version).await
    }

    /// Copy, edit, write on both nodes, then swap: memory never shows what the disks do not hold.
    async fn change(
        &self,
        note: String,
        edit: impl FnOnce(&mut Registry) -> Result<Option<QueueEdit>, Refused>,
    ) -> Result<Arc<Registry>, QueuesError> {
        let _one_at_a_time = self.changing.lock().await;
        let before = self.registry.load_full();
        let mut registry = Registry::clone(&before);
        let edit = edit(&mut registry)?;
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
        // Before anybody is told anything of a queue that is new.
        let before = self.registry.load_full();
        self.board.change(|cursors| cursors.follow(&before, changed));
        self.registry.store(Arc::clone(changed));
        self.changes.send_modify(|count| *count += 1);
    }

    /// The broker came or went: the pair hears of it.
    pub(super) fn tell_broker(&self) {
        self.moved.notify_one();
    }

    async fn count_untold(&self, queue: Queue) -> Result<u64, QueuesError> {
        let (ledger, from) = (Arc::clone(self.chain.ledger()), self.cursor(&queue));
        let counted = tokio::task::spawn_blocking(move || {
            let latest = ledger.tips().applied.height;
            let last = latest.min(from.next.saturating_add(COUNTED_MAX));
            let mut count = 0;
            for height in from.next..=last {
                let events = events_at(ledger.as_ref(), height, &queue, None)?;
                count += events.iter().filter(|event| event.after > from).count() as u64;
            }
            Ok::<u64, super::feed::FeedEnd>(count)
        });
        let counted = counted.await.map_err(|join| QueuesError::Disk(join.to_string()))?;
        counted.map_err(|end| QueuesError::Disk(end.to_string()))
    }

    /// Ends every feed and writes what moved.
    pub async fn close(&self) {
        self.closed.send_replace(true);
        if let Some(rabbit) = self.rabbit() {
            rabbit.stop();
        }
        self.changes.send_modify(|count| *count += 1);
        let version = self.board.change(|_| ());
        if let Err(failed) = self.board.on_disk(version).await {
            tracing::warn!(namespace = %self.namespace(), "the cursors of queues were not written: {failed}");
        }
        if let Some(task) = self.writing.lock().take() {
            task.abort();
        }
    }
}

impl Drop for Queues {
    /// One that was never closed still ends its task.
    fn drop(&mut self) {
        if let Some(task) = self.writing.lock().take() {
            task.abort();
        }
    }
}
