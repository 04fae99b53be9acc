//! From executed transactions to the draft of a record: the one way blocks are made, in the node, the benchmark and the simulator.

use super::execute::{Changes, Executed, takeover_delta};
use crate::record::{Delta, Draft, Header, Local};
use crate::types::{Digest, Hostname, Incarnation, Position, UnixNanos};

/// Who makes a block, and on what.
#[derive(Debug, Clone)]
pub struct Maker {
    /// Digest of the namespace.
    pub namespace: Digest,
    /// Hostname of the maker.
    pub proposer: Hostname,
    /// Incarnation of the maker.
    pub incarnation: Incarnation,
}

/// The record below the one being made.
#[derive(Debug, Clone, Copy)]
pub struct Below {
    /// Its position.
    pub position: Position,
    /// Whose it is.
    pub incarnation: Incarnation,
    /// Its time.
    pub time: UnixNanos,
    /// Chain total of valid transactions up to it.
    pub valid_total: u64,
    /// Chain total of failed transactions up to it.
    pub invalid_total: u64,
}

impl Below {
    /// What the next record needs of `header`, found at `position`.
    pub fn of(header: &Header, position: Position) -> Self {
        Self {
            position,
            incarnation: header.incarnation,
            time: header.time,
            valid_total: header.valid_total,
            invalid_total: header.invalid_total,
        }
    }

    /// The changes of the take-over block that must come first where `maker` goes on with a chain of another incarnation: one that did not
    /// run when its node was promoted. `None` over its own blocks, and over the genesis, which is nobody's.
    pub fn belated_takeover(&self, maker: Incarnation) -> Option<Changes> {
        let another = self.position.height > 0 && self.incarnation != maker;
        #[cfg(feature = "planted-faults")]
        let another = another && !crate::planted::active(crate::planted::Fault::TakeoverForgotten);
        another.then(|| takeover_delta(self.incarnation, maker, self.position.height))
    }

    /// Time of the next block at wall clock `now`: never before its parent's.
    pub fn next_time(&self, now: UnixNanos) -> UnixNanos {
        now.max(self.time)
    }
}

/// The draft of the block that `executed` makes on `below` at `time`.
pub fn draft(maker: &Maker, below: &Below, time: UnixNanos, local: Local, executed: Executed) -> Draft {
    let valid = executed.valid as u32;
    let invalid = (executed.ordered.len() - executed.valid) as u32;
    let (transactions, receipts) = executed
        .ordered
        .iter()
        .map(|(transaction, receipt)| (transaction.encode(), receipt.encode()))
        .unzip();
    Draft {
        namespace: maker.namespace,
        height: below.position.height + 1,
        parent: below.position.hash,
        time,
        incarnation: maker.incarnation,
        proposer: maker.proposer.clone(),
        second_root: None,
        valid,
        invalid,
        valid_total: below.valid_total + u64::from(valid),
        invalid_total: below.invalid_total + u64::from(invalid),
        transactions,
        receipts,
        delta: Delta(executed.changes),
        local,
    }
}

/// The draft of a take-over block: no transactions, only `changes` (see [`super::takeover_delta`]).
pub fn takeover_draft(maker: &Maker, below: &Below, time: UnixNanos, local: Local, changes: Changes) -> Draft {
    draft(
        maker,
        below,
        time,
        local,
        Executed {
            changes,
            ..Executed::default()
        },
    )
}
