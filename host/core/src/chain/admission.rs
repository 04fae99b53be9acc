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

/// Refuses a transaction that may stand in a block before `known_since` (0: none does), whose transactions this chain does not know: it could be
/// taken twice.
///
/// # Errors
/// It is not newer than that time and the drift that it may have had then.
pub fn check_known(transaction: &Transaction, known_since: UnixNanos, window: Window) -> Result<(), Rejected> {
    if known_since == 0 || transaction.timestamp > known_since.saturating_add(window.drift_nanos) {
        return Ok(());
    }
    Err(Rejected::new(
        code::INVALID_PARAMS,
        "this node began from a snapshot and does not know the transactions of that time: make it again a little later",
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Address;
    use crate::types::Digest;

    fn made_at(timestamp: UnixNanos) -> Transaction {
        Transaction {
            hash: [0; 32],
            text: Digest::ZERO,
            from: Address([1; 20]),
            to: Some(Address([2; 20])),
            kind: Kind::Transfer,
            value: 1,
            payload: Vec::new(),
            timestamp,
            nonce: 1,
            opcode: 0,
            extra: String::new(),
            extra_ids: String::new(),
            version: "3.0".into(),
            cname: String::new(),
            gas_price: 0,
            gas_limit: 0,
            expiration: 0,
            signature: vec![0],
        }
    }

    #[test]
    fn what_may_stand_in_a_block_that_is_not_known_is_refused() {
        let window = Window {
            active_nanos: 1_000,
            drift_nanos: 50,
        };
        assert_eq!(check_known(&made_at(1), 0, window), Ok(()), "all are known");
        assert!(check_known(&made_at(500), 500, window).is_err());
        assert!(
            check_known(&made_at(550), 500, window).is_err(),
            "a client's clock was ahead"
        );
        assert_eq!(check_known(&made_at(551), 500, window), Ok(()));
    }
}
