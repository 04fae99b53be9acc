//! The small files of a pair, which the host writes for the machine.

use crate::session::{Binding, Fenced, LastHeld, LastReceiver};
use crate::types::Namespace;

use super::strong::Promised;
use super::tree::KeptKey;

/// A control file the host writes atomically with `node::durable`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlFile {
    /// `system/cvp/binding`.
    Binding(Binding),
    /// `system/cvp/last-receiver`.
    LastReceiver(LastReceiver),
    /// `system/cvp/last-held`: nothing waits for it, and only the latest counts.
    LastHeld(LastHeld),
    /// Provider: `system/cvp/promised`.
    Promised(Promised),
    /// `system/cvp/fenced`.
    Fenced(Fenced),
    /// Receiver: the keys that a config-sync strategy keeps for this node at an upgrade (`system/cvp/kept-<ns>`).
    KeptLocal {
        /// Namespace.
        ns: Namespace,
        /// The keys.
        keys: Vec<KeptKey>,
    },
    /// What a strategy stored (`system/cvp/strategy-<ns>-<kind>`).
    Stored {
        /// Namespace.
        ns: Namespace,
        /// `chain-sync`, `config-sync`, `index-check` or `mq-sync`.
        kind: &'static str,
        /// The bytes.
        bytes: Vec<u8>,
    },
}
