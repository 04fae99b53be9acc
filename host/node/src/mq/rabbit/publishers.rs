//! The publishers of one connection, by the number of the registration: started, ended, and ended for good before their queue is removed.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cvp_core::mq::{Queue, Registry};
use lapin::Channel;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::channel::WORD_TIME;
use super::publisher::{Ended, Publisher};

/// What the broker refuses is tried again after it.
pub(super) const QUEUE_PAUSE: Duration = Duration::from_secs(2);

struct Running {
    task: JoinHandle<()>,
    /// Once it is open.
    channel: Arc<OnceLock<Channel>>,
}

/// The publishers.
pub(super) struct Publishers {
    running: BTreeMap<u64, Running>,
    ends: mpsc::UnboundedSender<Ended>,
    ended: mpsc::UnboundedReceiver<Ended>,
    /// Refused by the broker, until then: by number of the registration.
    resting: BTreeMap<u64, Instant>,
}

impl Publishers {
    pub fn new() -> Self {
        // A publisher sends one word, at its end.
        let (ends, ended) = mpsc::unbounded_channel();
        Self {
            running: BTreeMap::new(),
            ends,
            ended,
            resting: BTreeMap::new(),
        }
    }

    /// Which one ended by itself.
    pub async fn next_ended(&mut self) -> Option<Ended> {
        let ended = self.ended.recv().await?;
        self.running.remove(&ended.queue.number);
        Some(ended)
    }

    /// Whether a queue is to be published, and is not.
    pub fn is_wanted(&self, queue: &Queue) -> bool {
        !self.running.contains_key(&queue.number) && !self.rests(queue.number)
    }

    pub fn start(&mut self, publisher: Publisher) {
        let (number, channel) = (publisher.queue.number, Arc::clone(&publisher.channel));
        let ends = self.ends.clone();
        let task = tokio::spawn(async move {
            let _ = ends.send(publisher.drive().await);
        });
        self.running.insert(number, Running { task, channel });
    }

    /// Ends one, and what it has on the way to the broker: nothing of it comes there afterwards.
    ///
    /// # Errors
    /// The broker does not answer: what is on the way may come there yet.
    pub async fn stop(&mut self, number: u64) -> Result<(), String> {
        let Some(running) = self.running.remove(&number) else {
            return Ok(());
        };
        running.task.abort();
        let _ = running.task.await;
        if let Some(channel) = running.channel.get() {
            // The broker answers behind everything that it was sent on it; an error is a channel that is closed already.
            let closed = tokio::time::timeout(WORD_TIME, channel.close(200, "unregistered".into())).await;
            let _ = closed.map_err(|_| "it does not answer".to_owned())?;
        }
        Ok(())
    }

    /// Ends those of queues that are registered no more.
    ///
    /// # Errors
    /// As [`Publishers::stop`].
    pub async fn stop_gone(&mut self, registry: &Registry) -> Result<(), String> {
        let registered = |number: &u64| registry.queues().values().any(|queue| queue.number == *number);
        let gone: Vec<u64> = self.running.keys().filter(|it| !registered(it)).copied().collect();
        for number in gone {
            self.stop(number).await?;
        }
        Ok(())
    }

    /// Not at once again.
    pub fn rest(&mut self, number: u64) {
        self.resting.insert(number, Instant::now() + QUEUE_PAUSE);
    }

    pub fn rests(&self, number: u64) -> bool {
        self.resting.get(&number).is_some_and(|until| *until > Instant::now())
    }

    /// Everything is tried at once.
    pub fn wake(&mut self) {
        self.resting.clear();
    }

    /// Forgets rests that are over.
    pub fn look(&mut self) {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
    }
}

impl Drop for Publishers {
    fn drop(&mut self) {
        self.running.values().for_each(|running| running.task.abort());
    }
}
