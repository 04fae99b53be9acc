//! The committer: makes what was appended durable, in groups; then applied; then published. It is the only one that publishes tips.
//!
//! A group is whatever was appended while the group before was on its way to the disk, so the group grows with the load.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cvp_core::ledger::Tips;
use cvp_core::types::Refusal;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;
use tracing::debug;

use super::ChainState;
use super::chain::Shared;
use super::own_time::OwnTime;
use crate::telemetry::counters;

/// Blocks appended and not applied yet, at most: what the maker may run ahead of the disk.
pub(super) const BACKLOG_BLOCKS_MAX: u64 = 64;
/// Publishing takes well under a microsecond; if the thread waited for longer than this, a reader of the tips held it up. Time in which it
/// merely had no processor does not count.
const PUBLISH_TIME_MAX: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Signalled {
    work: bool,
    stop: bool,
}

/// How the committer is woken, and how the maker waits for it.
#[derive(Default)]
pub(super) struct CommitSignal {
    signalled: Mutex<Signalled>,
    wake: Condvar,
    progress: Condvar,
}

impl CommitSignal {
    /// Something was appended or synced.
    pub(super) fn wake(&self) {
        self.signalled.lock().work = true;
        self.wake.notify_one();
    }

    /// Ends the committer after a last round, and every wait on it.
    pub(super) fn stop(&self) {
        self.signalled.lock().stop = true;
        self.wake.notify_all();
        self.progress.notify_all();
    }

    /// Waits for work; false when it is time to end (a last round is due).
    fn wait(&self) -> bool {
        let mut signalled = self.signalled.lock();
        while !signalled.work && !signalled.stop {
            self.wake.wait(&mut signalled);
        }
        signalled.work = false;
        !signalled.stop
    }

    /// Waits until `done` holds after some round, or the committer ends.
    pub(super) fn wait_progress(&self, done: impl Fn() -> bool) {
        let mut signalled = self.signalled.lock();
        while !done() && !signalled.stop {
            self.progress.wait(&mut signalled);
        }
    }

    fn advanced(&self) {
        // Taking the lock orders this after a waiter's check of its condition.
        drop(self.signalled.lock());
        self.progress.notify_all();
    }
}

/// Starts the committer of a chain; it ends with [`CommitSignal::stop`] or at the first failure, which it writes into the chain's state.
pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let name = format!("cvp-commit-{}", shared.namespace);
    std::thread::Builder::new().name(name).spawn(move || {
        let ended = catch_unwind(AssertUnwindSafe(|| run(&shared)));
        if ended.is_err() {
            shared.fail(Refusal::new(
                "chain-failed",
                "the committer thread panicked",
                "report the log lines above, then restart the node",
            ));
        }
    })
}

fn run(shared: &Shared) {
    let time = OwnTime::open();
    loop {
        let more = shared.signal.wait();
        if matches!(*shared.state.borrow(), ChainState::Failed(_)) {
            return;
        }
        if let Err(error) = commit(shared, &time) {
            shared.fail(shared.ledger_error(error).refusal());
            return;
        }
        if !more {
            return;
        }
    }
}

/// One round: sync, publish durable (replication may send it), apply, publish applied (clients may see it).
fn commit(shared: &Shared, time: &OwnTime) -> Result<(), cvp_core::ledger::LedgerError> {
    let begun = Instant::now();
    let before = shared.tips.borrow().applied;
    // A follower's records are synced by replication, before this round: then this call finds nothing to do.
    shared.ledger.sync()?;
    let tips = shared.ledger.tips();
    if matches!(*shared.state.borrow(), ChainState::Making { .. }) {
        shared.commits.committed(tips.durable.height);
    }
    publish(shared, tips, time);
    // On a busy processor those go first who wait for the durable tip: a standby's copy of it does not wait for the databases.
    std::thread::yield_now();
    let applied = shared.ledger.apply()?;
    publish(shared, shared.ledger.tips(), time);
    shared.signal.advanced();
    if applied != before {
        let seconds = begun.elapsed().as_secs_f64();
        counters::committed(&shared.namespace, applied.height, seconds);
        debug!(namespace = %shared.namespace, height = applied.height, seconds, "committed");
    }
    Ok(())
}

/// Publishes if something changed. A watch keeps the latest value only, so no reader, however slow, makes this wait; the counter proves it.
fn publish(shared: &Shared, tips: Tips, time: &OwnTime) {
    if publish_to(&shared.tips, tips, time) {
        counters::commit_waited_on_link();
    }
}

/// Whether a reader held it up.
fn publish_to(published: &watch::Sender<Tips>, tips: Tips, time: &OwnTime) -> bool {
    let begun = time.begin();
    published.send_if_modified(|published| {
        let changed = *published != tips;
        *published = tips;
        changed
    });
    time.waited(&begun, PUBLISH_TIME_MAX) > PUBLISH_TIME_MAX
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use cvp_core::types::{Digest, Position};

    use super::*;

    #[test]
    fn a_reader_that_holds_the_tips_is_noticed_and_one_that_only_follows_them_is_not() {
        let none = Position {
            height: 0,
            hash: Digest([0; 32]),
        };
        let mut tips = Tips {
            appended: none,
            durable: none,
            applied: none,
        };
        let (sender, mut follower) = watch::channel(tips);
        let held = Barrier::new(2);
        let reader = sender.subscribe();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let tips = reader.borrow();
                held.wait();
                std::thread::park_timeout(10 * PUBLISH_TIME_MAX);
                drop(tips);
            });
            held.wait();
            tips.applied.height = 1;
            assert!(publish_to(&sender, tips, &OwnTime::open()));
        });
        // It never looks.
        tips.applied.height = 2;
        assert!(!publish_to(&sender, tips, &OwnTime::open()));
        assert_eq!(follower.borrow_and_update().applied.height, 2);
    }
}
