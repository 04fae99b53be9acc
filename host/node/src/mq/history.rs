//! What queues have to do with a history that does not reach back to genesis.

use cvp_core::ledger::LedgerError;
use cvp_core::mq::{Queue, Reigns, first_under};
use cvp_core::record;
use cvp_core::types::{Height, Incarnation, Malformed, Refusal};

use super::{Queues, Reign};
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
        let next = registry
            .queues()
            .values()
            .map(|queue| (cursors.of(queue).next, ends(queue)));
        next.filter(|(next, last)| next <= last).map(|(next, _)| next).min()
    }
}

/// First height that `chain` has of `incarnation` or of who took its place, or will have.
fn first_made(chain: &Chain, incarnation: Incarnation) -> Result<Height, Refusal> {
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

/// Where `chain` was taken over: what the lineage says, oldest first, and what the chain itself does of whom the namespace did not run for when
/// it was promoted.
pub(super) fn reigns_of(chain: &Chain, lineage: &[Reign]) -> Result<Reigns, Refusal> {
    let mut reigns = Reigns::default();
    for Reign { incarnation, first } in lineage {
        match first {
            Some(first) => reigns.add(incarnation, *first),
            None if incarnation.number <= 1 => {}
            None => {
                let first = first_made(chain, *incarnation)?;
                // A chain that it made from its beginning on was nobody else's.
                if first > 1 {
                    reigns.add(incarnation, first);
                }
            }
        }
    }
    Ok(reigns)
}
