//! The maker: takes a batch from the pool, executes it, encodes the block once and appends it; the committer does the rest, so the next
//! block is made while this one goes to the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use cvp_core::chain::{BlockContext, Executed, StateView, Transaction, execute_block};
use cvp_core::ledger::{Ledger, LedgerError};
use cvp_core::record::{self, Delta, Draft, Local, Span, namespace_digest};
use cvp_core::types::{Digest, Hostname, Incarnation, Malformed, Position, Refusal, UnixNanos};
use tracing::debug;

use super::ChainError;
use super::chain::{Shared, wall_clock};
use super::committer::BACKLOG_BLOCKS_MAX;
use crate::consensus::Batch;
use crate::telemetry::counters;

/// Makes the blocks of one chain. Knows the last header's time and totals, so making a block reads nothing but state.
pub(super) struct Maker {
    shared: Arc<Shared>,
    namespace: Digest,
    hostname: Hostname,
    incarnation: Incarnation,
    tip: Position,
    time: UnixNanos,
    valid_total: u64,
    invalid_total: u64,
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
        let header = record.header();
        let (time, valid_total, invalid_total) = (header.time, header.valid_total, header.invalid_total);
        Ok(Self {
            namespace: namespace_digest(&shared.options.namespace),
            shared,
            hostname,
            incarnation,
            tip,
            time,
            valid_total,
            invalid_total,
        })
    }

    /// The empty first block after a promotion.
    pub(super) fn make_takeover(&mut self, delta: Delta) -> Result<Position, ChainError> {
        let time = self.next_time();
        let executed = Executed {
            changes: delta.0,
            ..Executed::default()
        };
        self.append(time, executed, 0)
    }

    fn make(&mut self, batch: Batch) -> Result<Position, ChainError> {
        let time = self.next_time();
        let context = BlockContext {
            height: self.tip.height + 1,
            time,
        };
        let view = TipState(self.shared.ledger.as_ref());
        let executed = execute_block(&view, &context, batch.transactions).map_err(|e| self.shared.ledger_error(e))?;
        let waited_ms = batch.waited_ms_average;
        self.append(time, executed, waited_ms)
    }

    /// Never before the parent's, whatever the wall clock does.
    fn next_time(&self) -> UnixNanos {
        wall_clock().max(self.time)
    }

    fn append(&mut self, time: UnixNanos, executed: Executed, waited_ms: u64) -> Result<Position, ChainError> {
        let begun = Instant::now();
        let shared = Arc::clone(&self.shared);
        let malformed = |error: Malformed| block_error(&shared, error.to_string());
        let delta = Delta(executed.changes);
        let state = shared
            .ledger
            .commitment_after(&delta)
            .map_err(|e| shared.ledger_error(e))?;
        let count = executed.ordered.len();
        let valid = u32::try_from(executed.valid).map_err(|_| block_error(&shared, "too many transactions".into()))?;
        let invalid = u32::try_from(count).map_err(|_| block_error(&shared, "too many transactions".into()))? - valid;
        let (transactions, receipts) = executed.ordered.iter().map(|(t, r)| (t.encode(), r.encode())).unzip();
        let draft = Draft {
            namespace: self.namespace,
            height: self.tip.height + 1,
            parent: self.tip.hash,
            time,
            incarnation: self.incarnation,
            proposer: self.hostname.clone(),
            second_root: None,
            valid,
            invalid,
            valid_total: self.valid_total + u64::from(valid),
            invalid_total: self.invalid_total + u64::from(invalid),
            transactions,
            receipts,
            delta,
            local: Local {
                write_time: wall_clock(),
                average_time_ms: waited_ms + begun.elapsed().as_millis() as u64,
            },
        };
        let bytes = record::encode(&draft, state).map_err(malformed)?;
        let span = Span::of_own_record(bytes).map_err(malformed)?;
        let tip = shared.ledger.append(span).map_err(|e| shared.ledger_error(e))?;
        self.tip = tip;
        self.time = time;
        self.valid_total = draft.valid_total;
        self.invalid_total = draft.invalid_total;
        counters::block_made(&shared.options.namespace, count);
        debug!(namespace = %shared.options.namespace, height = tip.height, valid, invalid, "made block");
        Ok(tip)
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
            counters::pool_length(&shared.options.namespace, left);
            shared.signal.wake();
            let tip = self.tip.height;
            shared
                .signal
                .wait_progress(|| tip.saturating_sub(shared.ledger.tips().applied.height) < BACKLOG_BLOCKS_MAX);
        }
        Ok(())
    }
}

fn block_error(shared: &Shared, reason: String) -> ChainError {
    ChainError::Block {
        namespace: shared.options.namespace.clone(),
        reason,
    }
}

/// Starts the maker's thread; it ends when the order closes, or at the first failure, which it writes into the chain's state.
pub(super) fn start(mut maker: Maker) -> std::io::Result<JoinHandle<()>> {
    let name = format!("cvp-make-{}", maker.shared.options.namespace);
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
