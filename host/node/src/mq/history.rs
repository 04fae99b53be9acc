//! What queues have to do with a history that does not reach back to genesis.

use cvp_core::ledger::LedgerError;
use cvp_core::mq::{Queue, first_under};
use cvp_core::record;
use cvp_core::types::{Height, Incarnation, Malformed, Refusal};

use super::Queues;
use crate::namespace::Chain;

impl Queues {
    /// Lowest height that a queue still has to be told, by what is on the disk; none where no queue has. Files that cannot be read now need
    /// everything. Reads them.
    pub fn needs_from(&self) -> Option<Height> {
        let registry = self.registry();
        if registry.queues().is_empty() {
            return None;
        }
        let Ok((_, cursors)) = self.files.read() else {
            return Some(0);
        };
        let ends = |queue: &Queue| queue.registration.to_block.unwrap_or(Height::MAX);
        let at = |queue: &Queue| cursors.at.get(&queue.number).copied().unwrap_or_else(|| queue.start());
        let next = registry.queues().values().map(|queue| (at(queue).next, ends(queue)));
        next.filter(|(next, last)| next <= last).map(|(next, _)| next).min()
    }
}

/// First height that `chain` has of `incarnation`, or will have.
pub(super) fn first_made(chain: &Chain, incarnation: Incarnation) -> Result<Height, Refusal> {
    let made_by = |height: Height| {
        let bytes = match chain.ledger().record(height) {
            Err(LedgerError::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| error.refusal())?,
        };
        let parsed = bytes.map(|bytes| record::parse(&bytes).map(|record| record.header().incarnation));
        let unreadable = |error: Malformed| Refusal::new("ledger-damaged", error.to_string(), "see `cvp verify`");
        parsed.transpose().map_err(unreadable)
    };
    first_under(incarnation, chain.tips().applied.height, made_by)
}
