//! Drives core's pool and SOLO order for one namespace: transactions go in from any thread, the maker's thread waits for batches.
//!
//! Owns the lock, the wake-up and the clock; what is due when, and what is a duplicate, is core's decision. Bounded by the pool's limits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cvp_core::chain::{Rejected, Transaction, code};
use cvp_core::consensus::{Pool, PoolLimits, Solo, SoloOptions};
use cvp_core::ledger::Ledger;
use cvp_core::types::{Digest, Millis};
use parking_lot::{Condvar, Mutex};
use tracing::error;

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
}

impl Default for OrderOptions {
    /// The platform's defaults.
    fn default() -> Self {
        Self {
            pool_size: 50_000,
            batch_size: 500,
            batch_timeout: Duration::from_millis(500),
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
    pool: Pool,
    solo: Solo,
    /// Arrival of each waiting transaction; the pool is first in, first out.
    arrivals: VecDeque<Millis>,
    open: bool,
}

/// Pool and order of one namespace behind one lock.
pub struct Order {
    options: OrderOptions,
    started: Instant,
    state: Mutex<State>,
    wake: Condvar,
}

impl Order {
    /// An empty, closed order.
    pub fn new(options: &OrderOptions) -> Self {
        Self {
            options: *options,
            started: Instant::now(),
            state: Mutex::new(State::new(options, false)),
            wake: Condvar::new(),
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Starts taking transactions, with an empty pool.
    pub fn open(&self) {
        *self.state.lock() = State::new(&self.options, true);
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

    /// Transactions waiting for a block.
    pub fn len(&self) -> usize {
        self.state.lock().pool.waiting()
    }

    /// Whether the pool would refuse anything now: asked before the expensive checks.
    pub fn is_full(&self) -> bool {
        self.len() >= self.options.pool_size
    }

    /// Takes a checked transaction in unless pool or ledger know it.
    ///
    /// Both are asked under one lock, and [`Order::forget`] comes after the append: so a transaction is in the pool or in the ledger at
    /// every instant, and no duplicate slips between the two.
    ///
    /// # Errors
    /// -32007 for a duplicate, -32006 for a full pool, -32024 when no blocks are made, -32000 when the ledger fails.
    pub fn admit(&self, ledger: &dyn Ledger, transaction: Transaction) -> Result<(), Rejected> {
        let now = self.now();
        let mut state = self.state.lock();
        if !state.open {
            return Err(Rejected::new(
                -32024,
                "consensus status is abnormal: this node makes no blocks now",
            ));
        }
        let known = ledger
            .find_transaction(&transaction.hash)
            .map(|place| place.is_some())
            .and_then(|by_hash| {
                if by_hash {
                    Ok(true)
                } else {
                    ledger.knows_text(&transaction.text)
                }
            })
            .map_err(|error| {
                error!(%error, "the duplicate check failed in the ledger");
                Rejected::new(-32000, "the ledger of this node failed; see its log")
            })?;
        if known {
            return Err(Rejected::new(code::DUPLICATE, "repeated tx"));
        }
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
        state.pool.forget(made.iter().map(|(hash, text)| (hash, text)));
        state.pool.waiting()
    }
}

impl State {
    fn new(options: &OrderOptions, open: bool) -> Self {
        Self {
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
