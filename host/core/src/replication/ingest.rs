//! What the host's worker does for `Action::Ingest`, the same in the node and in the simulator.

use bytes::Bytes;

use crate::ledger::{Fault, Ledger};
use crate::record::check_span;
use crate::types::{Digest, Position, Refusal};

/// Why a run was not appended, and whose fault it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotIngested {
    /// The records are wrong: answer `Rejected`.
    Peer(Refusal),
    /// The own store takes no more: answer `StoreFailed`.
    Store(Refusal),
}

/// Checks a run of records (bounds, digests, links, and the state commitment at its end) and appends it: all of it or nothing.
/// `checked` is called in between.
///
/// # Errors
/// Why nothing was appended.
pub fn ingest(
    ledger: &dyn Ledger,
    namespace: &Digest,
    parent: Position,
    bytes: Bytes,
    checked: impl FnOnce(),
) -> Result<Position, NotIngested> {
    #[cfg(feature = "planted-faults")]
    let parent = planted_parent(parent, &bytes);
    let span = check_span(namespace, parent, bytes).map_err(|bad| {
        NotIngested::Peer(Refusal::new(
            "bad-record",
            bad.to_string(),
            "run `cvp verify` on the node that sent it",
        ))
    })?;
    checked();
    ledger.append(span).map_err(|error| match error.fault() {
        Fault::Peer => NotIngested::Peer(error.refusal()),
        Fault::Us | Fault::Disk => NotIngested::Store(error.refusal()),
    })
}

/// The planted fault: whatever parent the first record names is the right one.
#[cfg(feature = "planted-faults")]
fn planted_parent(parent: Position, bytes: &[u8]) -> Position {
    match crate::record::parse(bytes) {
        Ok(record) if crate::planted::active(crate::planted::Fault::SkippedParentCheck) => Position {
            height: parent.height,
            hash: record.header().parent,
        },
        _ => parent,
    }
}
