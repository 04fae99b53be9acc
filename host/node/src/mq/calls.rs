//! What clients ask of the queues of a namespace: registering, unregistering, acknowledging, and the events from a place on.

use std::collections::BTreeSet;
use std::sync::Arc;

use cvp_core::mq::{
    Announced, Cursor, EventId, Leaving, Left, Notice, Place, Queue, QueueEdit, Refused, Registration, Seen, code,
    exchanger_name,
};
use cvp_core::types::Refusal;

use super::Queues;
use super::feed::{Feed, FeedEnd, count_events};
use super::names::Owner;
use crate::namespace::wall_clock;

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

/// A queue that is to go, and is to be removed at a broker.
struct AtBroker {
    queue: Queue,
    /// Where; none where that is not known.
    at: Option<Place>,
}

/// What became of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// How far the queue is told: the last event before its cursor.
    pub cursor: EventId,
    /// The event is of a block that a take-over made anew: what came before counts, and it comes again as this node's chain has it.
    pub lost: bool,
}

impl Queues {
    /// Registers a queue; answers its name and that of its exchange, once it is on disk.
    ///
    /// # Errors
    /// See [`QueuesError`]; nothing changed.
    pub async fn register(&self, registration: Registration) -> Result<(String, String), QueuesError> {
        let name = registration.queue.clone();
        let kept = (self.chain.ledger().history_from(), self.chain.tips().applied.height);
        let note = format!("queue {name} of {} registered", self.namespace());
        let changed = {
            let _one_at_a_time = self.changing.lock().await;
            if let Some(held) = &self.held {
                held.comes(&name).map_err(|owner| Refused {
                    code: code::DUPLICATE,
                    message: match owner {
                        Owner::Other(owner) => format!(
                            "queue {name:?} is namespace {owner}'s at this broker, or was left there by it: take another name, or another virtual host in mq.rabbit.url; or unregister it in {owner} while that is at this broker (mq.broker.type, mq.rabbit.url)"
                        ),
                        Owner::Perhaps(owner) => format!(
                            "queue {name:?} may be namespace {owner}'s at this broker, whose files (data/mq) cannot be read: restore them; or, where its queues may stay at the broker for good, set mq.broker.type = \"embedded\" in its ns_static.toml and start this node again; or take another virtual host in mq.rabbit.url"
                        ),
                    },
                })?;
            }
            let changed = self.change(note, |registry| {
                let queue = registry.register(registration, kept)?;
                Ok(Some(QueueEdit::Registered(queue.clone())))
            });
            let changed = changed.await;
            if let Some(held) = &self.held {
                held.came(&name);
            }
            if changed.is_err() {
                self.let_name_go(&name).await;
            }
            changed?
        };
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
        let (left, removal) = {
            // From the note to the change: the note is of the very registration that goes.
            let _one_at_a_time = self.changing.lock().await;
            let leaving = self.registry().get(name).ok().cloned();
            let left = match &leaving {
                Some(queue) => self.count_untold(queue.clone()).await?,
                None => 0,
            };
            let at_broker = match leaving {
                Some(queue) => self.at_broker(queue).await,
                None => None,
            };
            let (mut removal, mut stands) = (None, None);
            if let Some(it @ AtBroker { queue, at }) = &at_broker {
                // Before it goes: whatever is lost between the two, the broker's queue is not forgotten. And it is not made from now on.
                let noted = self.leaving.change(|leaving| {
                    leaving.add(queue, exchanger, at.clone());
                    // One that was never made there is nothing to who takes this node's place.
                    stands = leaving.may_stand(queue.number).then_some(it);
                });
                noted.await.map_err(|error| self.not_noted(error))?;
                removal = self.rabbit().map(|rabbit| rabbit.expect_removed(queue.number));
            }
            let changed = self.change(note, |registry| {
                let queue = registry.unregister(name, exchanger)?;
                if let Some(AtBroker { at, .. }) = stands {
                    registry.leave(&queue, at.clone());
                }
                Ok(Some(QueueEdit::Unregistered(queue)))
            });
            if let Err(error) = changed.await {
                if let (Some(it), false) = (&at_broker, matches!(error, QueuesError::Undecided(_))) {
                    self.stays_at_broker(it.queue.number).await;
                }
                return Err(error);
            }
            (left, removal)
        };
        tracing::info!(namespace = %self.namespace(), queue = name, "queue unregistered");
        let at_broker = match (self.rabbit(), removal) {
            (Some(rabbit), Some(removal)) => rabbit.removed(removal).await,
            _ => None,
        };
        Ok(left + at_broker.unwrap_or_default())
    }

    /// What of a queue that is to go is at a broker, or may be; none where nothing is. One that was made at a broker is there still when the
    /// node itself carries the messages now.
    async fn at_broker(&self, queue: Queue) -> Option<AtBroker> {
        let (note, here) = (self.leaving.now().await, self.leaving.here());
        let stands = note.may_stand(queue.number);
        let made = note.made_at(queue.number).cloned();
        let at = match (here, stands) {
            (None, _) => Some(made?),
            // Where another node made it shows at the broker.
            (Some(_), true) => made,
            (Some(here), false) => Some(here.clone()),
        };
        let other = self
            .held
            .as_ref()
            .is_some_and(|held| !held.is_own(&queue.registration.queue));
        (!other).then_some(AtBroker { queue, at })
    }

    /// What is to be removed could not be noted, and so nothing was changed.
    fn not_noted(&self, error: String) -> QueuesError {
        if !self.is_closed() {
            return QueuesError::Disk(error);
        }
        let text = format!("the message queues of {} are being closed", self.namespace());
        QueuesError::NotMade(Refusal::new(
            "queues-closed",
            text,
            "call again when the namespace runs",
        ))
    }

    async fn stays_at_broker(&self, number: u64) {
        if let Err(error) = self.leaving.change(|leaving| leaving.stays(number)).await {
            tracing::warn!(namespace = %self.namespace(), "note that a queue stays at the broker: {error}");
        }
    }

    /// The broker has removed these queues.
    ///
    /// # Errors
    /// The disk failed, in words: they are to be removed still.
    pub(super) async fn left_broker(&self, queues: &[(u64, String)]) -> Result<(), String> {
        let numbers = queues.iter().map(|(number, _)| *number);
        let noted = self
            .leaving
            .change(|leaving| numbers.for_each(|number| leaving.gone(number)));
        noted.await?;
        self.striking.gone(queues);
        Ok(())
    }

    /// These queues, of which none of the node's own stands at the broker, are about to be made there: from now on they are this node's to remove.
    /// Answers those of them that are; not what is on its way out.
    ///
    /// # Errors
    /// The disk failed, in words: they must not be made.
    pub(super) async fn makes(&self, mut queues: Vec<Queue>) -> Result<Vec<Queue>, String> {
        let Some(here) = self.leaving.here() else {
            return Ok(Vec::new());
        };
        self.leaving.forget_sealed(&queues);
        let noted = self.leaving.change(|note| {
            // Who takes this node's place is told of one whose change is under way as it stood when that was noted. Where the change came to no end
            // it is made: it is registered.
            let goes = |number| note.has(number) && self.changing.try_lock().is_err();
            // In this order: a change that ends in between has taken the queue out.
            queues.retain(|queue| !goes(queue.number) && self.holds(queue));
            queues.iter().for_each(|queue| note.begins(queue.number, here));
        });
        noted.await?;
        Ok(queues)
    }

    /// Whether a queue was made at the broker here.
    pub(super) async fn is_made_here(&self, queue: &Queue) -> bool {
        let here = self.leaving.here();
        here.is_some() && self.leaving.now().await.made_at(queue.number) == here
    }

    /// The seal that stands at the broker as long as this registration's queue does; none where it may have none.
    pub(super) async fn seal_of(&self, number: u64) -> Option<String> {
        self.leaving.now().await.seal_of(&self.registry(), number)
    }

    /// Whether a queue may stand at the broker without its seal: its making was begun, and may have ended anywhere.
    pub(super) async fn may_be_half_made(&self, number: u64) -> bool {
        self.leaving.now().await.may_be_half_made(number)
    }

    /// A queue stands at the broker with its seal.
    ///
    /// # Errors
    /// The disk failed, in words.
    pub(super) async fn sealed(&self, queue: &Queue) -> Result<(), String> {
        self.leaving.sealed(queue.number).await
    }

    /// The exchanges of which must be known whether they stand at the broker, before anything is made or removed there.
    pub(super) async fn questions(&self) -> BTreeSet<String> {
        match self.leaving.here() {
            Some(here) => self.leaving.now().await.questions(&self.registry(), here),
            None => BTreeSet::new(),
        }
    }

    /// Of these, so many stand at the broker; answers what stays at a place where this node was before.
    ///
    /// # Errors
    /// The disk failed, in words.
    pub(super) async fn arrive(&self, standing: &BTreeSet<String>) -> Result<Vec<Left>, String> {
        let (registry, mut left) = (self.registry(), Vec::new());
        if let Some(here) = self.leaving.here() {
            let note = |note: &mut Leaving| left = note.arrive(&registry, here, standing);
            let before = self.leaving.left();
            self.leaving.change(note).await?;
            // Of what was left here nothing may be there any more.
            for (_, name) in before
                .into_iter()
                .filter(|it| it.place == *here)
                .filter_map(|it| it.queue)
            {
                self.let_name_go(&name).await;
            }
        }
        Ok(left)
    }

    /// The broker has one of that name that this node did not make.
    pub(super) async fn made_not(&self, queue: &Queue) {
        if let Err(error) = self.leaving.change(|note| note.made_not(queue.number)).await {
            tracing::warn!(namespace = %self.namespace(), "note that a queue at the broker is somebody else's: {error}");
        }
    }

    /// Another namespace may take this name at the broker, where nothing of this one is there or comes there.
    pub(super) async fn let_name_go(&self, name: &str) {
        let registered = || self.registry().get(name).is_ok();
        if registered() || self.leaving.has(name).await {
            return;
        }
        if let Some(held) = &self.held {
            held.leave(name, registered);
        }
    }

    /// What is registered no more and is still to be removed at the broker. Of a name that another namespace has nothing is to be removed:
    /// what lies there under it is that one's.
    pub(super) async fn leaving(&self) -> super::leaving::Due {
        let mut due = self.leaving.due(&self.registry(), |queue| self.cursor(queue)).await;
        for (_, name, may_stand) in &mut due.queues {
            if let Err(Owner::Other(owner) | Owner::Perhaps(owner)) = self.take_name(name) {
                tracing::warn!(namespace = %self.namespace(), queue = name, "a queue of an unregistered one's name is namespace {owner}'s and stays at the broker");
                *may_stand = false;
            }
        }
        due
    }

    /// Forgets the exchange; the next one has another name.
    ///
    /// # Errors
    /// See [`QueuesError`]; nothing changed.
    pub async fn delete_exchanger(self: &Arc<Self>, exchanger: &str) -> Result<(), QueuesError> {
        let fresh = exchanger_name(self.namespace(), &self.hostname, wall_clock());
        let removal = {
            let _one_at_a_time = self.changing.lock().await;
            let own = self.registry().exchanger() == exchanger;
            let mut removal = None;
            // Where the node itself carries the messages now, a queue that is still to be removed may say where the exchange is.
            let here = self.leaving.here().cloned();
            let at = match here {
                None => self.leaving.now().await.place_of(exchanger).cloned(),
                here => here,
            };
            let at = at.filter(|_| own);
            if let Some(at) = &at {
                // As for a queue: a broker that is away removes it when it is back.
                let at = Some(at.clone());
                let noted = self
                    .leaving
                    .change(|leaving| leaving.add_exchanger(exchanger, at))
                    .await;
                noted.map_err(|error| self.not_noted(error))?;
                removal = self.rabbit().map(|rabbit| rabbit.expect_exchange_removed(exchanger));
            }
            let changed = self.change(format!("exchanger {exchanger} deleted"), |registry| {
                registry.delete_exchanger(exchanger, fresh)?;
                if at.is_some() {
                    registry.leave_exchanger(exchanger, at);
                }
                Ok(None)
            });
            if let Err(error) = changed.await {
                if own && !matches!(error, QueuesError::Undecided(_)) {
                    let noted = self.left_broker_exchange(exchanger).await;
                    noted.unwrap_or_else(|error| tracing::warn!("note that an exchange stays at the broker: {error}"));
                }
                return Err(error);
            }
            removal
        };
        if let (Some(rabbit), Some(removal)) = (self.rabbit(), removal) {
            rabbit.removed(removal).await;
        }
        Ok(())
    }

    /// The broker has removed this exchange.
    ///
    /// # Errors
    /// The disk failed, in words: it is to be removed still.
    pub(super) async fn left_broker_exchange(&self, name: &str) -> Result<(), String> {
        self.leaving.change(|leaving| leaving.remove_exchanger(name)).await?;
        self.striking.wake();
        Ok(())
    }

    /// What who names this event has of the chain.
    fn seen(&self, id: EventId) -> Result<Seen, Refused> {
        let params = |message: String| Refused {
            code: code::INVALID_PARAMS,
            message: format!("invalid params: {message}"),
        };
        let seen = self.reigns.seen(id);
        let seen = seen.ok_or_else(|| params(format!("event {id} is of a chain that this node knows nothing of")))?;
        let latest = self.chain.tips().applied.height;
        if !seen.lost && seen.cursor != seen.cursor.cut_above(latest) {
            let message = format!("event {id} was not told yet, the latest block is {latest}");
            return Err(params(message));
        }
        Ok(seen)
    }

    /// A consumer has everything up to the event with this id; answers how far the queue is told, once that is on disk. What was
    /// acknowledged before stays. Of an event of a node that was lost counts what this node's chain has in common with that one's.
    ///
    /// # Errors
    /// No such queue, or no such event yet.
    pub async fn acknowledge(&self, name: &str, id: EventId) -> Result<Acknowledged, QueuesError> {
        let registry = self.registry();
        let queue = registry.get(name)?;
        let seen = self.seen(id)?;
        let version = self.advance(queue, seen.cursor, seen.anew);
        self.board.on_disk(version).await.map_err(QueuesError::Disk)?;
        Ok(Acknowledged {
            cursor: self.id(self.cursor(queue)),
            lost: seen.lost,
        })
    }

    /// The events of a queue from its cursor on, or after the event that a consumer says it saw last.
    ///
    /// # Errors
    /// No such queue, or no such event yet.
    pub fn feed(self: &Arc<Self>, name: &str, after: Option<EventId>) -> Result<Feed, Refused> {
        let registry = self.registry();
        let queue = registry.get(name)?.clone();
        let pending = self.board.look(|cursors| cursors.notices.get(&queue.number).copied());
        let (at, notice) = match after {
            None => (self.cursor(&queue), pending),
            Some(id) => {
                let Seen { cursor, anew, lost } = self.seen(id)?;
                let at = cursor.max(queue.start());
                let due = match pending {
                    _ if lost => anew.map(|anew| anew.max(queue.first)),
                    Some(from) if at < Cursor::behind(Announced::Anew, from) => Some(from),
                    Some(_) => anew,
                    None => None,
                };
                (at, due)
            }
        };
        // With the first block that is here.
        let first = self.chain.ledger().history_from();
        let notice = notice.map(|from| Notice { from }.on_node_from(first));
        Ok(Feed::new(Arc::clone(self), queue, at, notice))
    }

    /// The events of this very registration from its cursor on; none where it is gone.
    pub(super) fn feed_of(self: &Arc<Self>, queue: &Queue) -> Option<Feed> {
        let feed = self.feed(&queue.registration.queue, None).ok()?;
        self.holds(queue).then_some(feed)
    }

    async fn count_untold(&self, queue: Queue) -> Result<u64, QueuesError> {
        let (ledger, from) = (Arc::clone(self.chain.ledger()), self.cursor(&queue));
        let counted = tokio::task::spawn_blocking(move || {
            let latest = ledger.tips().applied.height;
            let last = latest.min(from.next.saturating_add(COUNTED_MAX));
            let mut count = 0;
            for height in from.next..=last {
                count += count_events(ledger.as_ref(), height, &queue, from)?;
            }
            Ok::<u64, FeedEnd>(count)
        });
        let counted = counted.await.map_err(|join| QueuesError::Disk(join.to_string()))?;
        counted.map_err(|end| QueuesError::Disk(end.to_string()))
    }
}
