//! A namespace's queues at a RabbitMQ: one connection, kept up with backoff; below it a publisher a queue, each with a channel of its own.
//!
//! The exchange is direct and durable, each queue durable, neither exclusive nor deleted by itself, and bound by its own name. A message's
//! routing key is that of its event (`MQBlock`); the queue that it is for stands in the header `BCC`, which the broker takes off: so a
//! queue gets its own messages alone, whatever others are registered for.
//!
//! What goes is removed by the task that publishes, from the durable note and before anything is published to a queue that was registered anew
//! under the name: a call only waits for it.

mod channel;
mod own;
mod publisher;
mod publishers;
mod state;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cvp_core::config::BrokerUrl;
use cvp_core::mq::Queue;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;

use super::Queues;

pub use state::BrokerState;

/// A client that asks for something of the broker waits at most so long for it.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Who waits until something is removed at the broker.
#[derive(Default)]
struct Removals {
    /// By number of the registration; told how many messages nobody took.
    queues: BTreeMap<u64, oneshot::Sender<u64>>,
    exchangers: BTreeMap<String, oneshot::Sender<u64>>,
}

/// The handle of the task.
pub struct Rabbit {
    url: BrokerUrl,
    /// Somebody wants it to try now.
    wanted: Arc<Notify>,
    removals: Arc<Mutex<Removals>>,
    state: watch::Receiver<BrokerState>,
    task: AbortHandle,
}

impl Rabbit {
    /// Connects and delivers from now on.
    pub(super) fn start(queues: &Arc<Queues>, url: &BrokerUrl, tasks: &tokio::runtime::Handle) -> Self {
        let (publish, state) = watch::channel(BrokerState::default());
        let (wanted, removals) = (Arc::<Notify>::default(), Arc::default());
        let task = task::Task {
            queues: Arc::clone(queues),
            url: url.clone(),
            state: publish,
            wanted: Arc::clone(&wanted),
            removals: Arc::clone(&removals),
        };
        Self {
            url: url.clone(),
            wanted,
            removals,
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

    /// Connects now where it is not, and says whether it is; queues that the broker refused are tried again at once.
    pub async fn inform(&self) -> Result<(), String> {
        self.wanted.notify_one();
        let mut state = self.state.clone();
        let connected = tokio::time::timeout(ANSWER_TIME, state.wait_for(|state| state.connected)).await;
        match connected {
            Ok(Ok(state)) => state.block().map_or(Ok(()), Err),
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
            state.is_idle() || state.declared.contains(&queue.number) || state.refused.contains_key(name)
        });
        let _ = tokio::time::timeout(ANSWER_TIME, settled).await;
    }

    /// A registration is about to go: [`Rabbit::removed`] waits for the end of its queue at the broker.
    pub(super) fn expect_removed(&self, number: u64) -> oneshot::Receiver<u64> {
        let (answer, answered) = oneshot::channel();
        let mut removals = self.removals.lock();
        removals.queues.retain(|_, answer| !answer.is_closed());
        removals.queues.insert(number, answer);
        answered
    }

    /// As [`Rabbit::expect_removed`], of an exchange.
    pub(super) fn expect_exchange_removed(&self, name: &str) -> oneshot::Receiver<u64> {
        let (answer, answered) = oneshot::channel();
        let mut removals = self.removals.lock();
        removals.exchangers.retain(|_, answer| !answer.is_closed());
        removals.exchangers.insert(name.to_owned(), answer);
        answered
    }

    /// Waits until the broker has removed it, a while and not where there is no connection; answers how many messages nobody took. What is not
    /// removed by then is noted, and is later.
    pub(super) async fn removed(&self, answered: oneshot::Receiver<u64>) -> Option<u64> {
        let mut state = self.state.clone();
        tokio::select! {
            biased;
            answer = tokio::time::timeout(ANSWER_TIME, answered) => answer.ok()?.ok(),
            _ = state.wait_for(BrokerState::is_idle) => None,
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
