//! Reads a chain for one queue: windows of events, as far as the queue may be told, for whoever carries them to the consumer.

use std::sync::Arc;

use bytes::Bytes;
use cvp_core::ledger::{Ledger, LedgerError, Tips};
use cvp_core::mq::{Cursor, Delivery, Event, EventId, Notice, Queue, events_of, gate, word_of_missing};
use cvp_core::record;
use cvp_core::types::{Height, NodeRole};
use tokio::sync::watch;

use super::Queues;
use crate::namespace::ChainState;

/// Blocks read in one go: then whoever waits is looked after.
const BLOCKS_AT_ONCE: usize = 1_024;
/// After so many blocks without an event for a queue its cursor is written.
const PASSED_OVER: u64 = 1_024;

/// A queue's events from its cursor on. The future of [`Feed::window`] may be dropped and begun anew.
pub struct Feed {
    queues: Arc<Queues>,
    queue: Queue,
    notice: Option<Notice>,
    delivery: Delivery,
    /// Where it stands on the board, while nothing that was given out waits for its confirmation.
    settled: Option<Cursor>,
    tips: watch::Receiver<Tips>,
    copy: watch::Receiver<Option<Height>>,
    state: watch::Receiver<ChainState>,
    changes: watch::Receiver<u64>,
}

/// Why a feed ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedEnd {
    /// The queue was unregistered.
    #[error("the queue is unregistered")]
    Unregistered,
    /// This node tells nothing of this namespace any more.
    #[error("this node tells nothing of this namespace any more")]
    Closed,
    /// A block cannot be read.
    #[error("block {height} cannot be read: {what}")]
    Unreadable {
        /// Which.
        height: Height,
        /// What the disk says.
        what: String,
    },
}

impl Feed {
    pub(super) fn new(queues: Arc<Queues>, queue: Queue, at: Cursor, notice: Option<Notice>) -> Self {
        let chain = queues.chain();
        Self {
            notice,
            delivery: Delivery::new(at, queue.registration.to_block),
            settled: (queues.cursor(&queue) == at).then_some(at),
            tips: chain.watch_tips(),
            copy: chain.watch_copy(),
            state: chain.watch_state(),
            changes: queues.watch_changes(),
            queue,
            queues,
        }
    }

    /// The next window, once there is one; the caller says by [`Feed::confirmed`] that it was taken.
    ///
    /// # Errors
    /// There will be no more.
    pub async fn window(&mut self) -> Result<Vec<Event>, FeedEnd> {
        loop {
            self.must_go_on()?;
            let gate = self.gate();
            if let Some(gate) = gate
                && self.delivery.wants(gate).is_some()
            {
                self.fill(gate).await?;
            }
            let window = self.delivery.publish().to_vec();
            if !window.is_empty() {
                self.settled = None;
                return Ok(window);
            }
            self.pass_over();
            if gate.is_some_and(|gate| self.delivery.wants(gate).is_some()) {
                continue;
            }
            tokio::select! {
                changed = self.tips.changed() => changed.map_err(|_| FeedEnd::Closed)?,
                changed = self.copy.changed() => changed.map_err(|_| FeedEnd::Closed)?,
                changed = self.state.changed() => changed.map_err(|_| FeedEnd::Closed)?,
                changed = self.changes.changed() => changed.map_err(|_| FeedEnd::Closed)?,
            }
        }
    }

    /// Whether what [`Feed::window`] gave may still be told: for who waited between.
    ///
    /// # Errors
    /// There will be no more.
    pub(super) fn still(&mut self) -> Result<(), FeedEnd> {
        self.must_go_on()
    }

    /// Id of an event of this queue.
    pub fn id(&self, event: &Event) -> EventId {
        self.queues.id(event.after)
    }

    /// The consumer has the window; it acknowledges what it wants to keep by itself.
    pub fn confirmed(&mut self) {
        self.delivery.confirmed();
    }

    /// As [`Feed::confirmed`], by a broker that keeps it: answers the queue's cursor, when it is on disk.
    pub(super) async fn confirmed_for_good(&mut self) -> Result<Cursor, String> {
        self.delivery.confirmed();
        let cursor = self.delivery.cursor();
        self.queues.advance_for_good(&self.queue, cursor).await?;
        self.settled = Some(cursor);
        Ok(cursor)
    }

    /// Blocks without events move the cursor on the board by themselves, now and then.
    fn pass_over(&mut self) {
        let (Some(from), to) = (self.settled, self.delivery.cursor()) else {
            return;
        };
        if to.next.saturating_sub(from.next) >= PASSED_OVER {
            self.settled = self.queues.pass_over(&self.queue, from, to).then_some(to);
        }
    }

    fn must_go_on(&mut self) -> Result<(), FeedEnd> {
        self.changes.borrow_and_update();
        if self.queues.is_closed() {
            return Err(FeedEnd::Closed);
        }
        if !self.queues.holds(&self.queue) {
            return Err(FeedEnd::Unregistered);
        }
        match *self.state.borrow_and_update() {
            ChainState::Making { .. } | ChainState::Following => Ok(()),
            ChainState::Fenced(_) | ChainState::Failed(_) | ChainState::Stopped => Err(FeedEnd::Closed),
        }
    }

    /// Up to where the queue may be told; none before a maker of blocks knows that nobody took its place.
    fn gate(&mut self) -> Option<Height> {
        let waits = *self.state.borrow() == ChainState::Following && self.queues.chain().options().role == NodeRole::Vp;
        let (tips, copy) = (*self.tips.borrow_and_update(), *self.copy.borrow_and_update());
        (!waits).then(|| gate(self.queue.registration.delay, tips.applied.height, copy))
    }

    /// Reads blocks on a thread that may wait for the disk.
    async fn fill(&mut self, gate: Height) -> Result<(), FeedEnd> {
        let (queue, notice) = (self.queue.clone(), self.notice);
        let ledger = Arc::clone(self.queues.chain().ledger());
        // Nothing is in it: a clone costs nothing, and a future that is dropped here loses nothing.
        let delivery = self.delivery.clone();
        let filled = tokio::task::spawn_blocking(move || fill(delivery, ledger.as_ref(), &queue, notice, gate));
        self.delivery = filled.await.map_err(|_| FeedEnd::Closed)??;
        Ok(())
    }
}

fn fill(
    mut delivery: Delivery,
    ledger: &dyn Ledger,
    queue: &Queue,
    notice: Option<Notice>,
    gate: Height,
) -> Result<Delivery, FeedEnd> {
    for _ in 0..BLOCKS_AT_ONCE {
        let Some(height) = delivery.wants(gate) else {
            break;
        };
        // Blocks may go while the queue waits.
        let notice = notice.map(|due| due.on_node_from(ledger.history_from()));
        match read(ledger, height)? {
            Found::Block(bytes) => delivery.loaded(height, events_in(&bytes, height, queue, notice)?),
            Found::BelowFirst(from) => tell_missing(&mut delivery, ledger, queue, from)?,
        }
    }
    Ok(delivery)
}

/// Blocks that this node does not have come as one word.
fn tell_missing(delivery: &mut Delivery, ledger: &dyn Ledger, queue: &Queue, from: Height) -> Result<(), FeedEnd> {
    let at = Cursor::before(delivery.next());
    let Some((first, last)) = queue.missing(at, from) else {
        return Ok(());
    };
    let unreadable = |what: String| FeedEnd::Unreadable { height: from, what };
    let Found::Block(bytes) = read(ledger, from)? else {
        // They go faster than this task reads.
        return Err(unreadable("it went meanwhile".to_owned()));
    };
    let word = record::parse(&bytes).and_then(|record| word_of_missing(&record, first, last));
    let word = word.map_err(|error| unreadable(error.to_string()))?;
    let name = &queue.registration.queue;
    tracing::warn!(queue = %name, "blocks {first} to {last} are not on this node: the queue is told that it is told of none of them");
    delivery.missing(first, last, word);
    Ok(())
}

/// What a ledger has at a height up to its tip.
enum Found {
    Block(Bytes),
    /// Nothing: its first block is this one.
    BelowFirst(Height),
}

fn read(ledger: &dyn Ledger, height: Height) -> Result<Found, FeedEnd> {
    let unreadable = |what: String| FeedEnd::Unreadable { height, what };
    match ledger.record(height) {
        Err(LedgerError::NotFound { from, .. }) if height < from => Ok(Found::BelowFirst(from)),
        Err(error) => Err(unreadable(error.to_string())),
        Ok(None) => Err(unreadable("it is not there".to_owned())),
        Ok(Some(bytes)) => Ok(Found::Block(bytes)),
    }
}

fn events_in(bytes: &Bytes, height: Height, queue: &Queue, notice: Option<Notice>) -> Result<Vec<Event>, FeedEnd> {
    let events = record::parse(bytes).and_then(|record| events_of(&record, queue, notice));
    events.map_err(|error| FeedEnd::Unreadable {
        height,
        what: error.to_string(),
    })
}

/// How many events the block at `height` gives `queue` behind `at`; none where this node does not have it.
pub(super) fn count_events(ledger: &dyn Ledger, height: Height, queue: &Queue, at: Cursor) -> Result<u64, FeedEnd> {
    let Found::Block(bytes) = read(ledger, height)? else {
        return Ok(0);
    };
    let events = events_in(&bytes, height, queue, None)?;
    Ok(events.iter().filter(|event| event.after > at).count() as u64)
}
