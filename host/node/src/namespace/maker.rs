//! The maker: takes a batch from the pool, executes it, encodes the block once and appends it; the committer does the rest, so the next
//! block is made while this one goes to the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cvp_core::chain::{self, Below, BlockContext, Executed, StateView, Transaction, execute_block};
use cvp_core::ledger::{Ledger, LedgerError};
use cvp_core::record::{self, Delta, Draft, Local, Span, namespace_digest};
use cvp_core::types::{Hostname, Incarnation, Malformed, Position, Refusal};
use tracing::{debug, warn};

use super::ChainError;
use super::chain::{Shared, wall_clock};
use super::committer::BACKLOG_BLOCKS_MAX;
use crate::consensus::Batch;
use crate::telemetry::counters;

/// Pause before a full disk is tried again.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Makes the blocks of one chain. Knows the last header's time and totals, so making a block reads nothing but state.
pub(super) struct Maker {
    shared: Arc<Shared>,
    identity: chain::Maker,
    below: Below,
}

/// The executor's eyes: state at the appended tip.
struct TipState<'a>(&'a dyn Ledger);

impl StateView for TipState<'_> {
    type Error = LedgerError;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        self.0.state(key)
    }
}

impl Maker {
    /// A maker that goes on where the ledger's chain ends. All of it must be applied.
    pub(super) fn at_tip(
        shared: Arc<Shared>,
        hostname: Hostname,
        incarnation: Incarnation,
    ) -> Result<Self, ChainError> {
        let tips = shared.ledger.tips();
        let tip = tips.appended;
        let bytes = shared
            .ledger
            .record(tip.height)
            .map_err(|e| shared.ledger_error(e))?
            .ok_or_else(|| block_error(&shared, format!("record {} is not applied", tip.height)))?;
        let record = record::parse(&bytes).map_err(|e| block_error(&shared, e.to_string()))?;
        let below = Below::of(record.header(), tip);
        let identity = chain::Maker {
            namespace: namespace_digest(&shared.namespace),
            proposer: hostname,
            incarnation,
        };
        Ok(Self {
            shared,
            identity,
            below,
        })
    }

    /// The changes of a take-over block that this chain still lacks.
    pub(super) fn belated_takeover(&self) -> Option<Delta> {
        self.below.belated_takeover(self.identity.incarnation).map(Delta)
    }

    /// The empty first block after a promotion.
    pub(super) fn make_takeover(&mut self, delta: Delta) -> Result<Position, ChainError> {
        let now = wall_clock();
        let local = Local {
            write_time: now,
            average_time_ms: 0,
        };
        let time = self.below.next_time(now);
        let draft = chain::takeover_draft(&self.identity, &self.below, time, local, delta.0);
        self.append(draft)
    }

    fn make(&mut self, batch: Batch) -> Result<Position, ChainError> {
        let begun = Instant::now();
        let time = self.below.next_time(wall_clock());
        let context = BlockContext {
            height: self.below.position.height + 1,
            time,
        };
        let view = TipState(self.shared.ledger.as_ref());
        let executed: Executed =
            execute_block(&view, &context, batch.transactions).map_err(|e| self.shared.ledger_error(e))?;
        let local = Local {
            write_time: wall_clock(),
            average_time_ms: batch.waited_ms_average + millis_since(begun),
        };
        let draft = chain::draft(&self.identity, &self.below, time, local, executed);
        self.append(draft)
    }

    fn append(&mut self, draft: Draft) -> Result<Position, ChainError> {
        let shared = Arc::clone(&self.shared);
        let malformed = |error: Malformed| block_error(&shared, error.to_string());
        let state = shared
            .ledger
            .commitment_after(&draft.delta)
            .map_err(|e| shared.ledger_error(e))?;
        let bytes = record::encode(&draft, state).map_err(malformed)?;
        let span = Span::of_own_record(bytes).map_err(malformed)?;
        let tip = self.append_when_there_is_room(span)?;
        self.below = Below {
            position: tip,
            incarnation: draft.incarnation,
            time: draft.time,
            valid_total: draft.valid_total,
            invalid_total: draft.invalid_total,
        };
        counters::block_made(&shared.namespace, draft.transactions.len());
        let (valid, invalid) = (draft.valid, draft.invalid);
        debug!(namespace = %shared.namespace, height = tip.height, valid, invalid, "made block");
        Ok(tip)
    }

    /// A full disk costs nothing but time: the same block is tried again until there is room or the order closes.
    fn append_when_there_is_room(&self, span: Span) -> Result<Position, ChainError> {
        let shared = &self.shared;
        loop {
            match shared.ledger.append(span.clone()) {
                Err(error @ LedgerError::Full { .. }) => {
                    warn!(namespace = %shared.namespace, %error, "no block is made until there is room");
                    let text = format!("no block is made: {error}");
                    let hint = "make room: it goes on by itself, and what was accepted waits";
                    *shared.no_room.lock() = Some(Refusal::new("disk-full", text, hint));
                    if shared.order.wait_closed(ROOM_PAUSE) {
                        return Err(shared.ledger_error(error));
                    }
                }
                appended => {
                    *shared.no_room.lock() = None;
                    return appended.map_err(|e| shared.ledger_error(e));
                }
            }
        }
    }

    /// Batches until the order closes.
    fn run(&mut self) -> Result<(), ChainError> {
        let shared = Arc::clone(&self.shared);
        while let Some(batch) = shared.order.next_batch() {
            let made: Vec<_> = batch
                .transactions
                .iter()
                .map(|t: &Transaction| (t.hash, t.text))
                .collect();
            self.make(batch)?;
            // In the ledger now, so the duplicate check finds them there.
            let left = shared.order.forget(&made);
            counters::pool_length(&shared.namespace, left);
            shared.signal.wake();
            let tip = self.below.position.height;
            shared
                .signal
                .wait_progress(|| tip.saturating_sub(shared.ledger.tips().applied.height) < BACKLOG_BLOCKS_MAX);
        }
        Ok(())
    }
}

fn millis_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn block_error(shared: &Shared, reason: String) -> ChainError {
    ChainError::Block {
        namespace: shared.namespace.clone(),
        reason,
    }
}

/// Starts the maker's thread; it ends when the order closes, or at the first failure, which it writes into the chain's state.
pub(super) fn start(mut maker: Maker) -> std::io::Result<JoinHandle<()>> {
    let name = format!("cvp-make-{}", maker.shared.namespace);
    std::thread::Builder::new().name(name).spawn(move || {
        let shared = Arc::clone(&maker.shared);
        match catch_unwind(AssertUnwindSafe(|| maker.run())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => shared.fail(error.refusal()),
            Err(_) => shared.fail(Refusal::new(
                "chain-failed",
                "the maker thread panicked",
                "report the log lines above, then restart the node",
            )),
        }
    })
}
