//! What the host's worker does for `Action::Ingest`, the same in the node and in the simulator.

use bytes::Bytes;

use crate::ledger::Ledger;
use crate::types::{Digest, Position, Refusal};

/// Checks a run of records (bounds, digests, links, and the state commitment at its end) and appends it: all of it or nothing.
///
/// # Errors
/// Why nothing was appended; [`crate::ledger::LedgerError::fault`] and the code say whose fault it is: `disk-failed`, `disk-full` and
/// `ledger-damaged` are this node's (answer `StoreFailed`), any other the sender's (answer `Rejected`).
pub fn ingest(ledger: &dyn Ledger, namespace: &Digest, parent: Position, bytes: Bytes) -> Result<Position, Refusal> {
    let _ = (ledger, namespace, parent, bytes);
    Err(Refusal::new("unbuilt", "", ""))
}
