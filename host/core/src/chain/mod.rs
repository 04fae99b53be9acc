//! Transactions: their kinds, the texts that clients sign, signatures, and what executing them does to the state.
//!
//! Owns the encodings of transactions and receipts inside records. Does not own the bytes of blocks (`record`), storage (`ledger`) or order (`consensus`).

pub mod admission;
pub mod block;
pub mod canonical;
pub mod execute;
pub mod genesis;
mod hash;
pub mod kind;
pub mod receipt;
pub mod request;
pub mod shape;
pub mod sign;
pub mod state;
pub mod transaction;
pub mod verify;

pub use admission::{Rejected, Window, admission, check_known};
pub use block::{Below, Maker, draft, takeover_draft};
pub use execute::{BlockContext, Executed, execute_block, takeover_delta};
pub use genesis::{Genesis, genesis};
pub use hash::{keccak256, node_hash};
pub use kind::Kind;
pub use receipt::{Log, Receipt};
pub use request::{BadRequest, Request};
pub use state::StateView;
pub use transaction::Transaction;
pub use verify::{Invalid, verify};

/// A 20-byte account address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Address(pub [u8; 20]);

impl Address {
    /// `0x` and 40 lower-case hex digits.
    pub fn to_hex(self) -> String {
        format!("0x{}", hex::encode(self.0))
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// Codes of the platform's JSON-RPC that chain answers with.
pub mod code {
    /// Bad parameters.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The sender cannot pay.
    pub const OUT_OF_BALANCE: i64 = -32002;
    /// The signature is not the sender's.
    pub const SIGNATURE_FAILED: i64 = -32003;
    /// Contract deployment failed (or is not supported).
    pub const DEPLOY_FAILED: i64 = -32004;
    /// Contract invocation failed (or is not supported).
    pub const INVOKE_FAILED: i64 = -32005;
    /// The pool is full.
    pub const BUSY: i64 = -32006;
    /// The transaction was sent before.
    pub const DUPLICATE: i64 = -32007;
}
