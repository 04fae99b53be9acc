//! Drives core's pool and SOLO order for one namespace: transactions go in from any thread, the maker's thread waits for batches.
//!
//! Owns the lock, the wake-up and the clock; what is due when, and what is a duplicate, is core's decision. Bounded by the pool's limits.
//! Nobody reads a ledger under the lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cvp_core::chain::{Rejected, Transaction, code};
use cvp_core::consensus::{Pool, PoolLimits, Solo, SoloOptions};
use cvp_core::types::{Digest, Millis};
use parking_lot::{Condvar, Mutex};
use tracing::warn;

/// Transactions of one block, at most, whatever their number: keeps a record far below its bound. Bytes.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Bytes waiting in the pool of one namespace, at most.
const POOL_BYTES_MAX: usize = 256 << 20;

/// Pool and batches of one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderOptions {
    /// Transactions that wait or are under way, at most (`consensus.pool.pool_size`).
    pub pool_size: usize,
    /// Transactions that make a block at once (`consensus.pool.batch_size`).
    pub batch_size: usize,
    /// Longest a transaction waits for company (`consensus.solo.timeout.batch`).
    pub batch_timeout: Duration,
    /// A transaction that no block took for so long is given up (`consensus.pool.tolerance_time`).
    pub tolerance: Duration,
}

impl Default for OrderOptions {
    /// The platform's defaults.
    fn default() -> Self {
        Self {
            pool_size: 50_000,
            batch_size: 500,
            batch_timeout: Duration::from_millis(500),
            tolerance: Duration::from_secs(300),
        }
    }
}

/// The transactions of the next block.
pub struct Batch {
    /// In order of arrival; never empty.
    pub transactions: Vec<Transaction>,
    /// How long they waited on average when the batch was taken, ms.
    pub waited_ms_average: u64,
}

struct State {
    options: OrderOptions,
    pool: Pool,
    solo: Solo,
    /// Arrival of each waiting transaction; the pool is first in, first out.
    arrivals: VecDeque<Millis>,
    open: bool,
}

/// Pool and order of one namespace behind one lock.
pub struct Order {
    started: Instant,
    state: Mutex<State>,
    wake: Condvar,
    /// Counts [`Order::forget`]. Changes under the lock only; read without it too.
    forgets: AtomicU64,
}

impl Order {
    /// An empty, closed order.
    pub fn new(options: &OrderOptions) -> Self {
        Self {
            started: Instant::now(),
            state: Mutex::new(State::new(options, false)),
            wake: Condvar::new(),
            forgets: AtomicU64::new(0),
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Starts taking transactions, with an empty pool and by these options.
    pub fn open(&self, options: &OrderOptions) {
        *self.state.lock() = State::new(options, true);
    }

    /// Ends [`Order::next_batch`]; what waits stays unmade.
    pub fn close(&self) {
        self.state.lock().open = false;
        self.wake.notify_all();
    }

    /// Waits for `time` or until the order is closed; says whether it is.
    pub fn wait_closed(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while state.open && !self.wake.wait_until(&mut state, until).timed_out() {}
        !state.open
    }

    /// Whether the pool would refuse anything now: asked before the expensive checks.
    pub fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.pool.waiting() >= state.options.pool_size
    }

    /// Takes a checked transaction in unless the pool knows it, or `in_ledger` does.
    ///
    /// [`Order::forget`] comes after the append, so a transaction is in the pool or in the ledger at every instant. The ledger is asked
    /// first, without the lock, since it may read a disk; when the pool forgot something meanwhile, that may have been this transaction on
    /// its way into the ledger, and the ledger is asked again. Each repetition means that a block was made, so it ends.
    ///
    /// # Errors
    /// -32007 for a duplicate, -32006 for a full pool, -32024 when no blocks are made, and whatever `in_ledger` says.
    pub fn admit(
        &self,
        transaction: Transaction,
        in_ledger: impl Fn(&Transaction) -> Result<bool, Rejected>,
    ) -> Result<(), Rejected> {
        let mut state = loop {
            let before = self.forgets.load(Ordering::Acquire);
            if in_ledger(&transaction)? {
                return Err(Rejected::new(code::DUPLICATE, "repeated tx"));
            }
            let state = self.state.lock();
            if self.forgets.load(Ordering::Acquire) == before {
                break state;
            }
        };
        if !state.open {
            return Err(Rejected::new(
                -32024,
                "consensus status is abnormal: this node makes no blocks now",
            ));
        }
        let now = self.now();
        state.give_up(now);
        state.pool.admit(transaction)?;
        state.arrivals.push_back(now);
        let waiting = state.pool.waiting();
        state.solo.step(now, waiting);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits until a block is due; None once the order is closed.
    pub fn next_batch(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        loop {
            if !state.open {
                return None;
            }
            let now = self.now();
            state.give_up(now);
            let waiting = state.pool.waiting();
            state.solo.step(now, waiting);
            if let Some(count) = state.solo.ready(now) {
                let transactions = state.pool.take(count, BATCH_BYTES_MAX);
                if !transactions.is_empty() {
                    let waited = state.arrived(transactions.len(), now);
                    return Some(Batch {
                        transactions,
                        waited_ms_average: waited,
                    });
                }
            }
            match state.solo.due_at() {
                None => self.wake.wait(&mut state),
                Some(due) => {
                    // At least 1 ms: a due time in the past means that the next round finds it due.
                    let pause = Duration::from_millis(due.saturating_sub(now).max(1));
                    self.wake.wait_for(&mut state, pause);
                }
            }
        }
    }

    /// Drops transactions that are in the ledger now; answers how many wait.
    pub fn forget(&self, made: &[([u8; 32], Digest)]) -> usize {
        let mut state = self.state.lock();
        self.forgets.fetch_add(1, Ordering::Release);
        state.pool.forget(made.iter().map(|(hash, text)| (hash, text)));
        state.pool.waiting()
    }
}

impl State {
    fn new(options: &OrderOptions, open: bool) -> Self {
        Self {
            options: *options,
            pool: Pool::new(PoolLimits {
                transactions_max: options.pool_size,
                bytes_max: POOL_BYTES_MAX,
            }),
            solo: Solo::new(SoloOptions {
                batch_size: options.batch_size.max(1),
                batch_timeout_ms: u64::try_from(options.batch_timeout.as_millis()).unwrap_or(u64::MAX),
            }),
            arrivals: VecDeque::new(),
            open,
        }
    }

    /// Drops what has waited longer than it may: its sender learns it by asking for the receipt, and may send it again.
    fn give_up(&mut self, now: Millis) {
        let tolerance = self.options.tolerance;
        let tolerance = u64::try_from(tolerance.as_millis()).unwrap_or(u64::MAX);
        let late = |at: &&Millis| now.saturating_sub(**at) >= tolerance;
        let count = self.arrivals.iter().take_while(late).count();
        if count == 0 {
            return;
        }
        self.arrivals.drain(..count);
        let dropped = self.pool.take(count, usize::MAX);
        self.pool.forget(dropped.iter().map(|it| (&it.hash, &it.text)));
        warn!(
            count,
            "give up transactions that no block took within consensus.pool.tolerance_time"
        );
    }

    /// Takes the arrivals of the first `count` out; answers how long they waited on average.
    fn arrived(&mut self, count: usize, now: Millis) -> u64 {
        let sum: u64 = self
            .arrivals
            .drain(..count.min(self.arrivals.len()))
            .map(|at| now.saturating_sub(at))
            .sum();
        sum / count.max(1) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;

    use cvp_core::chain::sign::{Signer, Transfer};
    use cvp_core::chain::{Request, verify};

    use super::*;

    fn transaction(nonce: u64) -> Transaction {
        let json = Signer::ec([7; 32]).unwrap().transfer(&Transfer {
            to: [9; 20],
            value: 1,
            extra: "",
            timestamp: 1,
            nonce,
        });
        verify(&Request::from_json(&json).unwrap(), "3.0").unwrap()
    }

    fn order(change: impl FnOnce(&mut OrderOptions)) -> Order {
        let mut options = OrderOptions {
            batch_size: 1,
            ..OrderOptions::default()
        };
        change(&mut options);
        let order = Order::new(&options);
        order.open(&options);
        order
    }

    #[test]
    fn a_transaction_that_goes_from_pool_to_ledger_during_the_look_up_is_still_a_duplicate() {
        let order = order(|_| ());
        let appended = AtomicBool::new(false);
        let once = transaction(1);
        order.admit(once.clone(), |_| Ok(false)).unwrap();
        let (asked, begun) = mpsc::channel();
        let (go_on, made) = mpsc::channel();
        std::thread::scope(|scope| {
            let again = scope.spawn(|| {
                let (asked, made) = (asked, made);
                order.admit(once.clone(), |_| {
                    let known = appended.load(Ordering::SeqCst);
                    if !known {
                        asked.send(()).unwrap();
                        made.recv().unwrap();
                    }
                    Ok(known)
                })
            });
            begun.recv().unwrap();
            // The ledger has said that it does not know it; now the block is made.
            let batch = order.next_batch().unwrap();
            appended.store(true, Ordering::SeqCst);
            order.forget(&[(batch.transactions[0].hash, batch.transactions[0].text)]);
            go_on.send(()).unwrap();
            assert_eq!(again.join().unwrap().unwrap_err().code, code::DUPLICATE);
        });
        assert_eq!(order.state.lock().pool.waiting(), 0);
    }

    #[test]
    fn a_look_up_that_takes_long_holds_up_neither_other_clients_nor_the_maker() {
        let order = order(|_| ());
        let (asked, begun) = mpsc::channel();
        let (go_on, answer) = mpsc::channel();
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| {
                let (asked, answer) = (asked, answer);
                order.admit(transaction(1), |_| {
                    asked.send(()).unwrap();
                    answer.recv().unwrap();
                    Ok(false)
                })
            });
            begun.recv().unwrap();
            order.admit(transaction(2), |_| Ok(false)).unwrap();
            assert_eq!(order.next_batch().unwrap().transactions[0].nonce, 2);
            go_on.send(()).unwrap();
            slow.join().unwrap().unwrap();
        });
        assert_eq!(order.next_batch().unwrap().transactions[0].nonce, 1);
    }

    #[test]
    fn what_waited_too_long_is_given_up_and_may_come_again() {
        let order = order(|options| {
            options.batch_size = 10;
            options.tolerance = Duration::ZERO;
        });
        order.admit(transaction(1), |_| Ok(false)).unwrap();
        order.admit(transaction(2), |_| Ok(false)).unwrap();
        assert_eq!(
            order.state.lock().pool.waiting(),
            1,
            "the first was given up when the second came"
        );
        order.admit(transaction(1), |_| Ok(false)).unwrap();
        assert_eq!(order.state.lock().pool.waiting(), 1);
    }
}
