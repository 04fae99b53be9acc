//! What a chain is doing, and why it refuses.

use cvp_core::ledger::LedgerError;
use cvp_core::types::{Incarnation, Namespace, Refusal};

/// What a chain is doing now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainState {
    /// Records come from a peer through the ledger (receiver), or nothing comes yet (a provider before its first block).
    Following,
    /// This node makes the blocks.
    Making {
        /// Under which incarnation.
        incarnation: Incarnation,
    },
    /// This node's place was taken: it makes no blocks, and says why.
    Fenced(Refusal),
    /// The disk, the state or a thread failed. Sticky until the chain is opened again.
    Failed(Refusal),
    /// Closed on request.
    Stopped,
}

impl ChainState {
    /// Word for logs and messages.
    pub fn word(&self) -> &'static str {
        match self {
            ChainState::Following => "following",
            ChainState::Making { .. } => "making",
            ChainState::Fenced(_) => "fenced",
            ChainState::Failed(_) => "failed",
            ChainState::Stopped => "stopped",
        }
    }

    /// Whether a chain may go from this state to `next`. Fenced, failed and stopped chains never make blocks again.
    pub fn valid_transition(&self, next: &ChainState) -> bool {
        use ChainState::{Failed, Fenced, Following, Making, Stopped};
        match (self, next) {
            (Stopped, _) => false,
            (_, Stopped) => true,
            (Failed(_), _) => false,
            (_, Failed(_)) => true,
            (Following | Making { .. }, Fenced(_)) => true,
            (Following, Making { .. }) => true,
            (Following | Making { .. } | Fenced(_), _) => false,
        }
    }
}

/// A command to a chain that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The ledger refused or its disk failed.
    #[error("namespace {namespace}: {source}")]
    Ledger {
        /// Whose.
        namespace: Namespace,
        /// What and where.
        source: LedgerError,
    },
    /// The chain's state does not allow it.
    #[error("namespace {namespace} is {state}: it cannot {wanted}")]
    State {
        /// Whose.
        namespace: Namespace,
        /// Word of its state.
        state: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// A block could not be built from what the ledger holds.
    #[error("namespace {namespace}: {reason}")]
    Block {
        /// Whose.
        namespace: Namespace,
        /// Which rule did not hold.
        reason: String,
    },
    /// The system gave no thread.
    #[error("namespace {namespace}: cannot start a thread: {source}")]
    Thread {
        /// Whose.
        namespace: Namespace,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ChainError {
    /// As a status reason: the ledger's own (`disk-failed`, ...), or `chain-failed`.
    pub fn refusal(&self) -> Refusal {
        match self {
            ChainError::Ledger { namespace, source } => {
                let mut refusal = source.refusal();
                refusal.text = format!("namespace {namespace}: {}", refusal.text);
                refusal
            }
            _ => Refusal::new(
                "chain-failed",
                self.to_string(),
                "run `cvp verify` for this namespace, then restart the node",
            ),
        }
    }
}

/// A transaction that was not taken, with the platform's code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct SubmitError {
    /// Code of the JSON-RPC answer.
    pub code: i64,
    /// Text of the answer.
    pub message: String,
}

impl SubmitError {
    /// Pool or verifiers are full: the platform's text.
    pub fn busy() -> Self {
        Self {
            code: -32006,
            message: "system is too busy".to_owned(),
        }
    }

    /// This node makes no blocks of the namespace now.
    pub fn not_making(state: &ChainState) -> Self {
        let reason = match state {
            ChainState::Fenced(refusal) | ChainState::Failed(refusal) => refusal.text.clone(),
            other => format!("this node is {} and makes no blocks", other.word()),
        };
        Self {
            code: -32024,
            message: format!("consensus status is abnormal: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fenced_failed_or_stopped_chain_never_makes_blocks_again() {
        let making = ChainState::Making {
            incarnation: Incarnation { number: 2, id: [1; 16] },
        };
        let fenced = ChainState::Fenced(Refusal::new("fenced", "taken over", ""));
        let failed = ChainState::Failed(Refusal::new("disk-failed", "EIO", ""));
        for dead in [&fenced, &failed, &ChainState::Stopped] {
            assert!(!dead.valid_transition(&making));
            assert!(!dead.valid_transition(&ChainState::Following));
        }
        assert!(ChainState::Following.valid_transition(&making));
        assert!(making.valid_transition(&fenced));
        assert!(fenced.valid_transition(&ChainState::Stopped));
    }
}
