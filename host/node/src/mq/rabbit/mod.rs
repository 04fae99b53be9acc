//! A namespace's queues at a RabbitMQ: one connection, kept up with backoff; below it a publisher a queue, each with a channel of its own.
//!
//! The exchange is direct and durable, each queue durable, neither exclusive nor deleted by itself, and bound by its own name. A message's
//! routing key is that of its event (`MQBlock`); the queue that it is for stands in the header `BCC`, which the broker takes off: so a
//! queue gets its own messages alone, whatever others are registered for.

mod channel;
mod publisher;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cvp_core::config::BrokerUrl;
use cvp_core::mq::Queue;
use cvp_core::session::{Backoff, BackoffRange};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::Queues;
use crate::namespace::ChainState;
use channel::{Admin, redact};

/// Making a connection takes at most so long.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// A client that asks for something of the broker waits at most so long for it.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How often the connection is looked at beside what its users notice.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A queue that the broker refuses is tried again after it.
const QUEUE_PAUSE: Duration = Duration::from_secs(2);
/// First and longest pause before the next connection.
const PAUSES: BackoffRange = BackoffRange {
    first_ms: 200,
    last_ms: 10_000,
};
/// Calls that wait for the task.
const CALLS_MAX: usize = 64;

/// How the broker is reached now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BrokerState {
    /// There is a connection.
    pub connected: bool,
    /// Why not, without credentials.
    pub problem: Option<String>,
    /// Queues that stand at the broker, by number of registration.
    pub declared: BTreeSet<u64>,
    /// Queues that the broker refuses, with its words.
    pub refused: BTreeMap<String, String>,
}

/// What a call asks of the task.
enum Call {
    /// Connect now.
    Connect,
    /// Remove a queue that is registered no more; answers how many messages nobody took.
    RemoveQueue(String, oneshot::Sender<Option<u64>>),
    /// Remove an exchange.
    RemoveExchange(String, oneshot::Sender<()>),
}

/// The handle of the task.
pub struct Rabbit {
    url: BrokerUrl,
    calls: mpsc::Sender<Call>,
    state: watch::Receiver<BrokerState>,
    task: AbortHandle,
}

impl Rabbit {
    /// Connects and delivers from now on.
    pub(super) fn start(queues: &Arc<Queues>, url: &BrokerUrl, tasks: &tokio::runtime::Handle) -> Self {
        let (calls, waiting) = mpsc::channel(CALLS_MAX);
        let (publish, state) = watch::channel(BrokerState::default());
        let task = Task {
            queues: Arc::clone(queues),
            url: url.clone(),
            state: publish,
            calls: waiting,
        };
        Self {
            url: url.clone(),
            calls,
            state,
            task: tasks.spawn(task.drive()).abort_handle(),
        }
    }

    /// How the broker is reached now.
    pub fn state(&self) -> BrokerState {
        self.state.borrow().clone()
    }

    /// Whether `url` is the configured one.
    pub fn is_at(&self, url: &str) -> bool {
        self.url.with_credentials() == url
    }

    /// Connects now where it is not, and says whether it is.
    pub async fn inform(&self) -> Result<(), String> {
        let _ = self.calls.try_send(Call::Connect);
        let mut state = self.state.clone();
        let connected = tokio::time::timeout(ANSWER_TIME, state.wait_for(|state| state.connected)).await;
        match connected {
            Ok(Ok(_)) => Ok(()),
            _ => Err(self
                .state()
                .problem
                .unwrap_or_else(|| "the broker does not answer".to_owned())),
        }
    }

    /// Waits until a queue stands at the broker; not where there is no connection.
    pub(super) async fn declared(&self, queue: &Queue) {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| {
            let name = &queue.registration.queue;
            !state.connected || state.declared.contains(&queue.number) || state.refused.contains_key(name)
        });
        let _ = tokio::time::timeout(ANSWER_TIME, settled).await;
    }

    /// Removes a queue that is registered no more; answers how many messages nobody took, where the broker says so.
    pub(super) async fn remove_queue(&self, name: &str) -> Option<u64> {
        let (answer, answered) = oneshot::channel();
        self.calls.try_send(Call::RemoveQueue(name.to_owned(), answer)).ok()?;
        tokio::time::timeout(ANSWER_TIME, answered).await.ok()?.ok()?
    }

    /// Removes an exchange.
    pub(super) async fn remove_exchange(&self, name: &str) {
        let (answer, answered) = oneshot::channel();
        if self
            .calls
            .try_send(Call::RemoveExchange(name.to_owned(), answer))
            .is_ok()
        {
            let _ = tokio::time::timeout(ANSWER_TIME, answered).await;
        }
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    queues: Arc<Queues>,
    url: BrokerUrl,
    state: watch::Sender<BrokerState>,
    calls: mpsc::Receiver<Call>,
}

/// The publishers of one connection.
#[derive(Default)]
struct Publishers {
    running: JoinSet<(Queue, Result<(), String>)>,
    by_number: BTreeMap<u64, (String, AbortHandle)>,
    /// Refused by the broker, until then.
    resting: BTreeMap<u64, tokio::time::Instant>,
}

impl Task {
    async fn drive(mut self) {
        // Spreads the namespaces of a node.
        let seed = self
            .queues
            .namespace()
            .as_str()
            .bytes()
            .fold(7, |sum, b| sum * 31 + u64::from(b));
        let mut backoff = Backoff::new(PAUSES, seed);
        while !self.is_over() {
            let why = match self.connect().await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    backoff.reset();
                    let why = self.serve(&connection).await;
                    let _ = tokio::time::timeout(LOOK_EVERY, connection.close(200, "bye".into())).await;
                    why
                }
                Err(why) => why,
            };
            self.lost(why);
            self.rest(Duration::from_millis(backoff.pause())).await;
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
            Ok(Err(error)) => Err(redact(&self.url, &error.to_string())),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    fn lost(&self, why: String) {
        let problem = format!("the broker {} is not connected: {why}", self.url);
        let known = self.state.borrow().problem.is_some();
        if !known {
            // Once, not at every attempt.
            tracing::warn!(namespace = %self.queues.namespace(), "{problem}; blocks go on, and events wait");
        }
        self.state.send_replace(BrokerState {
            problem: Some(problem),
            ..BrokerState::default()
        });
        self.queues.tell_broker();
    }

    /// Waits before the next connection, unless somebody asks for one; what needs one meanwhile is told that there is none.
    async fn rest(&mut self, pause: Duration) {
        let until = tokio::time::Instant::now() + pause;
        loop {
            match tokio::time::timeout_at(until, self.calls.recv()).await {
                Err(_) | Ok(None) => return,
                Ok(Some(Call::Connect)) => return,
                Ok(Some(Call::RemoveQueue(name, answer))) => {
                    tracing::warn!(namespace = %self.queues.namespace(), queue = name, "the broker is away: its queue is removed when it is back");
                    let _ = answer.send(None);
                }
                Ok(Some(Call::RemoveExchange(_, answer))) => {
                    let _ = answer.send(());
                }
            }
        }
    }

    /// Delivers over `connection` until it is lost; says why.
    async fn serve(&mut self, connection: &Arc<Connection>) -> String {
        let mut admin = match Admin::open(Arc::clone(connection)).await {
            Ok(admin) => admin,
            Err(error) => return redact(&self.url, &error),
        };
        tracing::info!(namespace = %self.queues.namespace(), broker = %self.url, "connected to the broker");
        self.state.send_replace(BrokerState {
            connected: true,
            ..BrokerState::default()
        });
        self.queues.tell_broker();
        // First: a queue of that name may have been registered anew.
        if let Err(error) = self.remove_leaving(&mut admin).await {
            return redact(&self.url, &error);
        }
        let mut changes = self.queues.watch_changes();
        let mut publishers = Publishers::default();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            changes.borrow_and_update();
            if let Err(error) = self.align(connection, &mut admin, &mut publishers).await {
                return redact(&self.url, &error);
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return "the queues are closed".to_owned();
                },
                Some(ended) = publishers.running.join_next() => self.ended(&mut publishers, ended),
                call = self.calls.recv() => match call {
                    None => return "the queues are closed".to_owned(),
                    Some(call) => self.answer(&mut admin, &mut publishers, call).await,
                },
                _ = look.tick() => {
                    if !connection.status().connected() {
                        return "the connection was lost".to_owned();
                    }
                    if self.is_over() {
                        return "this node tells nothing of the namespace any more".to_owned();
                    }
                }
            }
        }
    }

    /// Removes what was unregistered while the broker was away.
    async fn remove_leaving(&self, admin: &mut Admin) -> Result<(), String> {
        for (number, name) in self.queues.leaving().await {
            let removed = admin.remove_queue(&name).await?;
            self.queues.left_broker(number).await;
            tracing::info!(namespace = %self.queues.namespace(), queue = name, messages = removed, "queue removed at the broker");
        }
        Ok(())
    }

    /// A publisher for each queue that is registered, and none for others.
    async fn align(
        &self,
        connection: &Arc<Connection>,
        admin: &mut Admin,
        publishers: &mut Publishers,
    ) -> Result<(), String> {
        let registry = self.queues.registry();
        if !registry.queues().is_empty() {
            admin.declare_exchange(registry.exchanger()).await?;
        }
        let now = tokio::time::Instant::now();
        publishers.resting.retain(|_, until| *until > now);
        publishers.by_number.retain(|number, (_, task)| {
            let left = registry.queues().values().any(|queue| queue.number == *number);
            if !left {
                task.abort();
            }
            left
        });
        for queue in registry.queues().values() {
            let number = queue.number;
            if publishers.by_number.contains_key(&number) || publishers.resting.contains_key(&number) {
                continue;
            }
            let publisher = publisher::Publisher {
                connection: Arc::clone(connection),
                queues: Arc::clone(&self.queues),
                queue: queue.clone(),
                exchanger: registry.exchanger().to_owned(),
                state: self.state.clone(),
            };
            let task = publishers.running.spawn(publisher.drive());
            publishers
                .by_number
                .insert(number, (queue.registration.queue.clone(), task));
        }
        Ok(())
    }

    fn ended(&self, publishers: &mut Publishers, ended: Result<(Queue, Result<(), String>), tokio::task::JoinError>) {
        // One that was aborted has no words, and its place is free already.
        let Ok((queue, outcome)) = ended else {
            return;
        };
        publishers.by_number.remove(&queue.number);
        // Also one that ended by itself and is registered still: not at once again.
        let until = tokio::time::Instant::now() + QUEUE_PAUSE;
        publishers.resting.insert(queue.number, until);
        let Err(why) = outcome else {
            return;
        };
        let (name, why) = (queue.registration.queue.clone(), redact(&self.url, &why));
        let fresh = self.state.send_if_modified(|state| {
            state.declared.remove(&queue.number);
            state.refused.insert(name.clone(), why.clone()).as_ref() != Some(&why)
        });
        if fresh {
            tracing::warn!(namespace = %self.queues.namespace(), queue = name, "a queue is not delivered to the broker: {why}");
        }
    }

    async fn answer(&self, admin: &mut Admin, publishers: &mut Publishers, call: Call) {
        match call {
            Call::Connect => {}
            Call::RemoveQueue(name, answer) => {
                // Its publisher first: it would make the queue anew.
                publishers.by_number.retain(|_, (of, task)| {
                    if *of == name {
                        task.abort();
                    }
                    *of != name
                });
                self.state.send_modify(|state| {
                    state.refused.remove(&name);
                });
                let removed = admin.remove_queue(&name).await;
                if let Err(why) = &removed {
                    let why = redact(&self.url, why);
                    tracing::warn!(namespace = %self.queues.namespace(), queue = name, "the queue stays at the broker: {why}");
                }
                let _ = answer.send(removed.ok());
            }
            Call::RemoveExchange(name, answer) => {
                if let Err(why) = admin.remove_exchange(&name).await {
                    let why = redact(&self.url, &why);
                    tracing::warn!(namespace = %self.queues.namespace(), exchanger = name, "the exchange stays at the broker: {why}");
                }
                let _ = answer.send(());
            }
        }
    }
}
