//! The task that keeps the connection of a namespace's queues, makes and removes what belongs at the broker, and runs the publishers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cvp_core::config::BrokerUrl;
use cvp_core::mq::Registry;
use cvp_core::session::{Backoff, BackoffRange};
use futures_util::StreamExt as _;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::channel::{Admin, Removed, redact};
use super::publisher::{Ended, Publisher};
use super::publishers::Publishers;
use super::{BrokerState, Removals};
use crate::mq::Queues;
use crate::mq::leaving::Due;
use crate::mq::names::Owner;
use crate::namespace::ChainState;

/// Making a connection takes at most so long.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How often the connection is looked at beside what its users notice.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// First and longest pause before the next connection.
const PAUSES: BackoffRange = BackoffRange {
    first_ms: 200,
    last_ms: 10_000,
};
/// A connection that served for so long was a good one: after its end the pauses begin anew.
const GOOD_TIME: Duration = Duration::from_secs(2);
/// Reasons that were said and are remembered.
const SAID_MAX: usize = 1_024;

pub(super) struct Task {
    pub queues: Arc<Queues>,
    pub url: BrokerUrl,
    pub state: watch::Sender<BrokerState>,
    pub wanted: Arc<Notify>,
    pub removals: Arc<Mutex<Removals>>,
}

/// What one connection works with.
pub(super) struct Work {
    connection: Arc<Connection>,
    pub admin: Admin,
    pub publishers: Publishers,
    /// Exchanges that this connection did not remove.
    kept: BTreeSet<String>,
    /// When everything first stood.
    served: Option<Instant>,
}

impl Work {
    /// The broker refused something, and the connection is good for all else.
    pub fn may_go_on(&self) -> bool {
        self.connection.status().connected() && !self.admin.is_silent()
    }
}

/// What was said of each queue, by number of the registration: not again while nothing else is the matter.
pub(super) type Said = BTreeMap<u64, String>;

impl Task {
    pub async fn drive(self) {
        // Spreads the namespaces of a node.
        let name = self.queues.namespace().as_str();
        let seed = name.bytes().fold(7, |sum, b| sum * 31 + u64::from(b));
        let (mut backoff, mut said) = (Backoff::new(PAUSES, seed), Said::new());
        while !self.is_over() {
            let why = match self.connect().await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    let (why, served) = self.serve(&connection, &mut said).await;
                    // One that only lets itself be made is no better than none.
                    if served.is_some_and(|since| since.elapsed() >= GOOD_TIME) {
                        backoff.reset();
                    }
                    let _ = tokio::time::timeout(LOOK_EVERY, connection.close(200, "bye".into())).await;
                    why
                }
                Err(why) => why,
            };
            self.lost(why);
            // Unless somebody asks for a connection.
            let pause = Duration::from_millis(backoff.pause());
            let _ = tokio::time::timeout(pause, self.wanted.notified()).await;
        }
    }

    /// The chain tells nothing any more, and will not again.
    fn is_over(&self) -> bool {
        let state = self.queues.chain().state();
        self.queues.is_closed()
            || matches!(
                state,
                ChainState::Fenced(_) | ChainState::Failed(_) | ChainState::Stopped
            )
    }

    async fn connect(&self) -> Result<Connection, String> {
        let name = format!("cvp {}", self.queues.namespace());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let mut uri: AMQPUri = self
            .url
            .with_credentials()
            .parse()
            .map_err(|_| "mq.rabbit.url is no address".to_owned())?;
        if uri.vhost.is_empty() {
            // As the platform's own client reads an address that ends with a slash.
            "/".clone_into(&mut uri.vhost);
        }
        let connecting = Connection::connect_uri(uri, properties);
        match tokio::time::timeout(CONNECT_TIME, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.redact(&error.to_string())),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    pub(super) fn redact(&self, text: &str) -> String {
        redact(&self.url, text)
    }

    fn lost(&self, why: String) {
        let problem = format!("the broker {} is not connected: {why}", self.url);
        let known = self.state.borrow().problem.is_some();
        if !known {
            // Once, not at every attempt.
            tracing::warn!(namespace = %self.queues.namespace(), "{problem}; blocks go on, events wait, and it is tried again by itself");
        }
        self.state.send_modify(|state| {
            *state = BrokerState {
                problem: Some(problem),
                left: std::mem::take(&mut state.left),
                ..BrokerState::default()
            }
        });
        self.queues.tell_broker();
    }

    /// Delivers over `connection` until it is lost; says why, and since when it served.
    async fn serve(&self, connection: &Arc<Connection>, said: &mut Said) -> (String, Option<Instant>) {
        let watching = self.watch_blocks(connection);
        let (why, served) = self.serve_watched(connection, said).await;
        watching.abort();
        (self.redact(&why), served)
    }

    /// The broker says when it takes no messages, and when it does again: also while something waits for its word.
    fn watch_blocks(&self, connection: &Connection) -> JoinHandle<()> {
        let (mut events, state) = (Box::pin(connection.events_listener()), self.state.clone());
        let (namespace, url) = (self.queues.namespace().clone(), self.url.clone());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    lapin::Event::ConnectionBlocked(reason) => {
                        let reason = redact(&url, &reason);
                        tracing::warn!(%namespace, "the broker blocks publishers ({reason}); blocks go on, events wait");
                        state.send_modify(|state| state.blocked = Some(reason));
                    }
                    lapin::Event::ConnectionUnblocked => {
                        tracing::info!(%namespace, "the broker takes messages again");
                        state.send_modify(|state| state.blocked = None);
                    }
                    _ => {}
                }
            }
        })
    }

    async fn serve_watched(&self, connection: &Arc<Connection>, said: &mut Said) -> (String, Option<Instant>) {
        let admin = match Admin::open(Arc::clone(connection)).await {
            Ok(admin) => admin,
            Err(error) => return (error, None),
        };
        let mut work = Work {
            connection: Arc::clone(connection),
            admin,
            publishers: Publishers::new(),
            kept: BTreeSet::new(),
            served: None,
        };
        let why = self.work(&mut work, said).await;
        (why, work.served)
    }

    async fn work(&self, work: &mut Work, said: &mut Said) -> String {
        if let Err(why) = self.arrive(work).await {
            return why;
        }
        let mut changes = self.queues.watch_changes();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            changes.borrow_and_update();
            // Nothing is sent while it takes no messages.
            if !work.connection.status().blocked()
                && let Err(why) = self.align(work, said).await
            {
                return why;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return "the queues are closed".to_owned();
                },
                Some(ended) = work.publishers.next_ended() => self.ended(&mut work.publishers, ended, said),
                () = self.wanted.notified() => work.publishers.wake(),
                _ = look.tick() => {
                    if !work.connection.status().connected() {
                        return "the connection was lost".to_owned();
                    }
                    if self.is_over() {
                        return "this node tells nothing of the namespace any more".to_owned();
                    }
                }
            }
        }
    }

    /// Before anything is made or removed: what of the registered and of the leaving stands at this broker.
    ///
    /// # Errors
    /// The connection is no good: why.
    async fn arrive(&self, work: &mut Work) -> Result<(), String> {
        let mut standing = BTreeSet::new();
        for name in self.queues.questions().await {
            if work.admin.has_exchange(&name).await? {
                standing.insert(name);
            }
        }
        let left = self.queues.arrive(&standing).await;
        let left = left.map_err(|error| format!("note what stays at another broker: {error}"))?;
        for it in &left {
            tracing::warn!(namespace = %self.queues.namespace(), "{it} stays there, for mq.rabbit.url names another place now: remove it there by hand, unless that is another name of this broker, or set the address back");
        }
        if !left.is_empty() {
            self.state.send_modify(|state| state.left.extend(left));
        }
        Ok(())
    }

    /// Removes what is gone; then a publisher for each queue that is registered, and none for others.
    ///
    /// # Errors
    /// The connection is no good: why.
    async fn align(&self, work: &mut Work, said: &mut Said) -> Result<(), String> {
        // Before the note is read: what is in it and was registered before it is noted is removed before it is made.
        let registry = self.queues.registry();
        work.publishers.look();
        work.publishers.stop_gone(&registry).await?;
        said.retain(|number, _| registry.queues().values().any(|queue| queue.number == *number));
        let due = self.queues.leaving().await;
        let stuck = self.remove(work, due).await?;
        self.forget(&registry);
        let wanted: Vec<_> = registry.queues().values().cloned().collect();
        let mut wanted: Vec<_> = wanted.into_iter().filter(|it| work.publishers.is_wanted(it)).collect();
        wanted.retain(|queue| match self.keeps_back(&queue.registration.queue, &stuck) {
            None => true,
            Some(why) => {
                work.publishers.rest(queue.number);
                self.refuse(queue.number, &queue.registration.queue, &why, said);
                false
            }
        });
        let (mut wanted, fresh) = self.own_there(work, wanted, said).await?;
        if !wanted.is_empty() || !fresh.is_empty() {
            // Each time: whoever removed it there closed the channels of its publishers.
            work.admin.declare_exchange(registry.exchanger()).await?;
            let fresh = self.queues.makes(fresh).await;
            wanted.extend(fresh.map_err(|error| format!("note that queues are made there: {error}"))?);
        }
        for queue in wanted {
            work.publishers.start(Publisher {
                connection: Arc::clone(&work.connection),
                queues: Arc::clone(&self.queues),
                queue,
                exchanger: registry.exchanger().to_owned(),
                state: self.state.clone(),
                channel: Arc::new(OnceLock::new()),
            });
        }
        if work.served.is_none() {
            work.served = Some(Instant::now());
            tracing::info!(namespace = %self.queues.namespace(), broker = %self.url, "connected to the broker");
            self.state
                .send_modify(|state| (state.connected, state.problem) = (true, None));
            self.queues.tell_broker();
        }
        Ok(())
    }

    /// Removes what was unregistered; answers names that the broker keeps for now, with its words.
    ///
    /// # Errors
    /// The connection is no good: why.
    async fn remove(&self, work: &mut Work, due: Due) -> Result<BTreeMap<String, String>, String> {
        let (mut stuck, mut done) = (BTreeMap::new(), Vec::new());
        let mut lost = None;
        for (number, name, may_stand) in due.queues {
            if !may_stand {
                // It never came there, or another namespace has the name: what is there under it is somebody else's.
                done.push((number, name, None));
                continue;
            }
            if work.publishers.rests(number) {
                stuck.insert(
                    name,
                    "the queue that was registered before it is there still".to_owned(),
                );
                continue;
            }
            // Its publisher first: it would make the queue anew.
            if let Err(why) = work.publishers.stop(number).await {
                lost = Some(why);
                break;
            }
            match self.remove_own(work, number, &name).await {
                Ok(Removed::Gone(messages)) => done.push((number, name, Some(messages))),
                Ok(Removed::Absent) => done.push((number, name, None)),
                Ok(Removed::Foreign(why)) => {
                    let why = self.redact(&why);
                    tracing::warn!(namespace = %self.queues.namespace(), queue = name, "a queue of an unregistered one's name is somebody else's and stays at the broker: {why}");
                    done.push((number, name, None));
                }
                Err(why) if work.may_go_on() => {
                    let why = self.redact(&why);
                    tracing::warn!(namespace = %self.queues.namespace(), queue = name, "an unregistered queue stays at the broker, and is removed later: {why}");
                    work.publishers.rest(number);
                    stuck.insert(
                        name,
                        format!("the queue that was registered before it stays there: {why}"),
                    );
                }
                Err(why) => {
                    lost = Some(why);
                    break;
                }
            }
        }
        self.removed(done).await?;
        if let Some(why) = lost {
            return Err(why);
        }
        for name in due.exchangers {
            if work.kept.contains(&name) {
                continue;
            }
            match work.admin.remove_exchange(&name).await {
                Ok(()) => {
                    self.queues.left_broker_exchange(&name).await?;
                    tracing::info!(namespace = %self.queues.namespace(), exchanger = name, "exchange removed at the broker");
                    if let Some(answer) = self.removals.lock().exchangers.remove(&name) {
                        let _ = answer.send(0);
                    }
                }
                Err(why) if work.may_go_on() => {
                    let why = self.redact(&why);
                    tracing::warn!(namespace = %self.queues.namespace(), exchanger = name, "an exchange stays at the broker, and is removed at the next connection: {why}");
                    work.kept.insert(name);
                }
                Err(why) => return Err(why),
            }
        }
        Ok(stuck)
    }

    /// Strikes out what the broker has removed, and tells who waits.
    async fn removed(&self, done: Vec<(u64, String, Option<u64>)>) -> Result<(), String> {
        if done.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = done.iter().map(|(number, name, _)| (*number, name.clone())).collect();
        // While it is not struck out nothing is published under the name: it would be removed at the next start.
        let struck = self.queues.left_broker(&names).await;
        struck.map_err(|error| format!("note that queues were removed there: {error}"))?;
        for (number, name, messages) in done {
            let namespace = self.queues.namespace();
            match messages {
                Some(messages) => tracing::info!(%namespace, queue = name, messages, "queue removed at the broker"),
                None => {
                    tracing::info!(%namespace, queue = name, "an unregistered queue is not at the broker, nothing is removed there")
                }
            }
            if let Some(answer) = self.removals.lock().queues.remove(&number) {
                let _ = answer.send(messages.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Why a queue of this name is not made now.
    fn keeps_back(&self, name: &str, stuck: &BTreeMap<String, String>) -> Option<String> {
        let taken = self.queues.take_name(name).err();
        let taken = taken.map(|(Owner::Other(owner) | Owner::Perhaps(owner))| {
            format!("namespace {owner} of this node has a queue of that name at this broker: unregister one of the two")
        });
        taken.or_else(|| stuck.get(name).cloned())
    }

    /// What is gone is no part of the state.
    fn forget(&self, registry: &Registry) {
        let number = |number: &u64| registry.queues().values().any(|queue| queue.number == *number);
        self.state.send_if_modified(|state| {
            let before = (state.declared.len(), state.refused.len());
            state.declared.retain(number);
            state.refused.retain(|name, _| registry.queues().contains_key(name));
            before != (state.declared.len(), state.refused.len())
        });
    }

    fn ended(&self, publishers: &mut Publishers, ended: Ended, said: &mut Said) {
        let Ended {
            queue,
            delivered,
            outcome,
        } = ended;
        // Also one that ended by itself and is registered still: not at once again.
        publishers.rest(queue.number);
        if delivered {
            said.remove(&queue.number);
        }
        if let Err(why) = outcome {
            let why = self.redact(&why);
            self.refuse(queue.number, &queue.registration.queue, &why, said);
        }
    }

    /// A queue is not delivered: its status says so, and the log once.
    pub(super) fn refuse(&self, number: u64, name: &str, why: &str, said: &mut Said) {
        self.state.send_modify(|state| {
            state.declared.remove(&number);
            state.refused.insert(name.to_owned(), why.to_owned());
        });
        if said.len() < SAID_MAX && said.insert(number, why.to_owned()).as_deref() != Some(why) {
            tracing::warn!(
                namespace = %self.queues.namespace(), queue = name,
                "a queue is not delivered to the broker: {why}; it is tried again every two seconds, and at once by mq_informNormal"
            );
        }
    }
}
