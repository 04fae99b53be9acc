//! Whether a verified transaction may enter the pool now.

use super::execute::{is_supported, unsupported};
use super::{Kind, Transaction, code};
use crate::types::UnixNanos;

/// A transaction that is not taken. Shown to the client as JSON-RPC code and message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Rejected {
    /// JSON-RPC code.
    pub code: i64,
    /// What is wrong.
    pub message: String,
}

impl Rejected {
    /// A rejection.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// How far a transaction's timestamp may lie from now (`duplicate.tx_active_time`, `duplicate.tx_drift_time`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Into the past, nanoseconds.
    pub active_nanos: u64,
    /// Into the future, nanoseconds.
    pub drift_nanos: u64,
}

/// Checks kind, age and expiry of `transaction` at `now`.
pub fn admission(transaction: &Transaction, now: UnixNanos, window: Window) -> Result<(), Rejected> {
    if !is_supported(transaction) {
        let code = if transaction.to.is_none() {
            code::DEPLOY_FAILED
        } else {
            code::INVOKE_FAILED
        };
        return Err(Rejected::new(code, unsupported(transaction)));
    }
    // Built-in operations of the SDKs are signed with the largest expiry and a usual timestamp: the same rules hold.
    let (made, kind) = (transaction.timestamp, transaction.kind);
    debug_assert!(matches!(kind, Kind::Evm | Kind::Transfer | Kind::Bvm));
    if made.saturating_add(window.active_nanos) < now {
        return Err(Rejected::new(
            code::INVALID_PARAMS,
            "the transaction is too old; make it again with the present time",
        ));
    }
    if made > now.saturating_add(window.drift_nanos) {
        return Err(Rejected::new(
            code::INVALID_PARAMS,
            "the transaction is from the future; check the client's clock",
        ));
    }
    if transaction.expiration != 0 && transaction.expiration < now {
        return Err(Rejected::new(
            code::INVALID_PARAMS,
            "the transaction has expired; make it again",
        ));
    }
    Ok(())
}
