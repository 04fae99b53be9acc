//! What the broker has removed goes from the registry too, so that who takes this node's place does not remove it again. Only then may another
//! namespace have the name: what stands under it at the broker would be removed for the old one else.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cvp_core::mq::Registry;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::Queues;

/// First and longest pause before it is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What was removed at the broker, and the registry may say still that it is to be.
#[derive(Default)]
pub(super) struct Striking {
    wanted: Arc<Notify>,
    /// Number of the registration and name: not let go yet.
    gone: Mutex<BTreeSet<(u64, String)>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Striking {
    /// Strikes out for `queues` from now on, first what was removed before they were opened.
    pub fn begin(&self, queues: &Arc<Queues>, tasks: &tokio::runtime::Handle) {
        let (wanted, closed) = (Arc::clone(&self.wanted), queues.watch_closed());
        let task = tasks.spawn(drive(Arc::downgrade(queues), wanted, closed));
        *self.task.lock() = Some(task);
        self.wanted.notify_one();
    }

    /// The broker has removed these.
    pub fn gone(&self, queues: &[(u64, String)]) {
        self.gone.lock().extend(queues.iter().cloned());
        self.wanted.notify_one();
    }

    /// An exchange was removed.
    pub fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Names that the registry on the disk does not hold back any more.
    fn struck(&self, registry: &Registry) -> Vec<String> {
        let mut gone = self.gone.lock();
        let (held, free) = std::mem::take(&mut *gone)
            .into_iter()
            .partition(|(number, _)| registry.leaving().has(*number));
        *gone = held;
        let free: BTreeSet<(u64, String)> = free;
        free.into_iter().map(|(_, name)| name).collect()
    }

    pub fn end(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

/// Until it is done, for who waits for a name; nothing holds the chain of a namespace that stops.
async fn drive(queues: Weak<Queues>, wanted: Arc<Notify>, mut closed: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return,
            () = wanted.notified() => {}
        }
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(queues) = queues.upgrade() else { return };
            let done = tokio::select! {
                _ = closed.wait_for(|closed| *closed) => return,
                done = queues.strike() => done,
            };
            drop(queues);
            if done {
                break;
            }
            let _ = tokio::time::timeout(pause, closed.wait_for(|closed| *closed)).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}

impl Queues {
    /// Says whether nothing is left to strike out.
    async fn strike(&self) -> bool {
        let _one_at_a_time = self.changing.lock().await;
        let noted = self.leaving.now().await;
        if Registry::clone(&self.registry()).strike(&noted) {
            let note = format!("what the broker of {} has removed", self.namespace());
            if let Err(error) = self.change(note, |_| Ok(None)).await {
                tracing::debug!(namespace = %self.namespace(), "what the broker has removed is struck out later: {error}");
                return false;
            }
        }
        for name in self.striking.struck(&self.registry()) {
            self.let_name_go(&name).await;
        }
        true
    }
}
