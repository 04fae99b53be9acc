//! What a receiver's disk holds of a snapshot, whether any of it comes now or not.

use crate::types::{Digest, Height};

use super::status::BootstrapStatus;

/// What is staged here, as the disk knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedPart {
    /// Which snapshot.
    pub id: Digest,
    /// Bytes of it that are durable.
    pub durable: u64,
    /// Bytes of all of it.
    pub total: u64,
    /// The block that it is of.
    pub height: Height,
}

impl StagedPart {
    /// How far it is while nothing of it comes.
    pub(super) fn progress(self) -> BootstrapStatus {
        BootstrapStatus {
            bytes: self.durable,
            total: self.total,
            before: self.durable,
            elapsed_ms: 0,
        }
    }
}
