//! What a broker is told ahead of the standby: a take-over makes it come again, so it is one window at most while a standby is attached that says
//! what it holds. One that is silent for long holds nothing up until it speaks again.

use std::sync::Arc;
use std::time::Duration;

use cvp_core::mq::{Ahead, Cursor, Cursors, Queue, WINDOW_EVENTS_MAX};
use tokio::sync::{Notify, watch};

use super::{HeldThere, Queues};

/// A standby that says nothing new for so long is not waited for.
const SILENT: Duration = Duration::from_secs(2);

/// One queue, and what the standby has of it.
pub(super) struct StandbyBound {
    standby: watch::Receiver<HeldThere>,
    /// Told that somebody waits.
    awaited: Arc<Notify>,
    ahead: Ahead,
    /// What a standby had that said nothing for too long.
    silent: Option<Arc<Cursors>>,
}

impl StandbyBound {
    /// Of a queue that goes on at `at`.
    pub fn new(at: Cursor, standby: watch::Receiver<HeldThere>, awaited: Arc<Notify>) -> Self {
        Self {
            standby,
            awaited,
            ahead: Ahead::at(at, WINDOW_EVENTS_MAX),
            silent: None,
        }
    }

    /// A window was told, and the own disk has the cursor behind it.
    pub fn told(&mut self, after: Cursor, events: usize) {
        self.ahead.told(after, events);
    }

    /// Waits until a window of so many events may be told. May be dropped and begun anew.
    pub async fn room(&mut self, queues: &Queues, queue: &Queue, events: usize) {
        loop {
            let kept = self.standby.borrow_and_update().get(queues.namespace()).cloned();
            let Some(kept) = kept else { return };
            self.ahead.held(kept.of(queue));
            let given_up = self.silent.as_ref().is_some_and(|silent| Arc::ptr_eq(silent, &kept));
            if given_up || self.ahead.has_room(events, WINDOW_EVENTS_MAX) {
                return;
            }
            self.awaited.notify_one();
            match tokio::time::timeout(SILENT, self.standby.changed()).await {
                Ok(Ok(())) => {}
                // Nobody will ever say anything.
                Ok(Err(_)) => return,
                Err(_) => self.silent = Some(kept),
            }
        }
    }
}
