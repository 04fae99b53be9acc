//! The names of all metrics of the rooms of the block path and the RPC, in one place, so that a dashboard can rely on them.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use cvp_core::types::{Height, Namespace};

/// Publishing a commit had to wait for a reader of the tips (the link's side of the node); must stay 0.
pub const COMMITS_WAITED_ON_LINK: &str = "cvp_commits_waited_on_link";
/// The same, for the status: the registry of the page is not read back.
static WAITED_ON_LINK: AtomicU64 = AtomicU64::new(0);
const BLOCKS_MADE: &str = "cvp_blocks_made";
const TRANSACTIONS: &str = "cvp_transactions_committed";
const COMMIT_SECONDS: &str = "cvp_commit_seconds";
const RECEIVER_ACK_SECONDS: &str = "cvp_receiver_ack_seconds";
const APPLIED_HEIGHT: &str = "cvp_applied_height";
const POOL: &str = "cvp_pool_transactions";
const SUBMITTED: &str = "cvp_transactions_submitted";
const REFUSED: &str = "cvp_transactions_refused";
const RPC_SECONDS: &str = "cvp_rpc_seconds";
const RPC_ERRORS: &str = "cvp_rpc_errors";
const RPC_CONNECTIONS: &str = "cvp_rpc_connections";

/// Registers descriptions and sets what must be visible at 0. Call once the exporter's recorder is installed.
pub fn describe() {
    describe_counter!(
        COMMITS_WAITED_ON_LINK,
        "commits whose publication waited for the link; must stay 0"
    );
    describe_counter!(BLOCKS_MADE, "blocks made by this node");
    describe_counter!(TRANSACTIONS, "transactions in blocks made by this node");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "sync and apply of one group of blocks");
    describe_histogram!(
        RECEIVER_ACK_SECONDS,
        Unit::Seconds,
        "from a block's commit here to the receiver's durable acknowledgement"
    );
    describe_gauge!(APPLIED_HEIGHT, "highest height visible to queries");
    describe_gauge!(POOL, "transactions waiting for a block");
    describe_counter!(SUBMITTED, "transactions offered by clients");
    describe_counter!(REFUSED, "transactions refused, by code");
    describe_histogram!(RPC_SECONDS, Unit::Seconds, "time to answer one JSON-RPC request");
    describe_counter!(RPC_ERRORS, "JSON-RPC answers with a code other than 0, by code");
    describe_gauge!(RPC_CONNECTIONS, "open JSON-RPC connections");
    counter!(COMMITS_WAITED_ON_LINK).absolute(0);
}

/// A commit had to wait on the link's side.
pub fn commit_waited_on_link() {
    WAITED_ON_LINK.fetch_add(1, Ordering::Relaxed);
    counter!(COMMITS_WAITED_ON_LINK).increment(1);
}

/// How many did since the start of the process.
pub fn commits_waited_on_link() -> u64 {
    WAITED_ON_LINK.load(Ordering::Relaxed)
}

/// A block was made and appended.
pub fn block_made(namespace: &Namespace, transactions: usize) {
    counter!(BLOCKS_MADE, "namespace" => namespace.to_string()).increment(1);
    counter!(TRANSACTIONS, "namespace" => namespace.to_string()).increment(transactions as u64);
}

/// A group of blocks became visible after `seconds` of sync and apply.
pub fn committed(namespace: &Namespace, applied: Height, seconds: f64) {
    histogram!(COMMIT_SECONDS, "namespace" => namespace.to_string()).record(seconds);
    gauge!(APPLIED_HEIGHT, "namespace" => namespace.to_string()).set(applied as f64);
}

/// `blocks` blocks were acknowledged by the receiver `seconds` after their commit.
pub fn acknowledged(namespace: &Namespace, blocks: u64, seconds: f64) {
    let count = usize::try_from(blocks).unwrap_or(usize::MAX);
    histogram!(RECEIVER_ACK_SECONDS, "namespace" => namespace.to_string()).record_many(seconds, count);
}

/// How many transactions wait in the pool.
pub fn pool_length(namespace: &Namespace, length: usize) {
    gauge!(POOL, "namespace" => namespace.to_string()).set(length as f64);
}

/// A client's transaction was admitted (`code` 0) or refused with `code`.
pub fn submitted(namespace: &Namespace, code: i64) {
    counter!(SUBMITTED, "namespace" => namespace.to_string()).increment(1);
    if code != 0 {
        counter!(REFUSED, "namespace" => namespace.to_string(), "code" => code.to_string()).increment(1);
    }
}

/// A request was answered. `code` is one of our own constants, so the label's values are bounded.
pub fn answered(code: i64, seconds: f64) {
    histogram!(RPC_SECONDS).record(seconds);
    if code != 0 {
        counter!(RPC_ERRORS, "code" => code.to_string()).increment(1);
    }
}

/// Counts an open connection until dropped.
pub struct ConnectionGauge;

impl ConnectionGauge {
    /// One connection more.
    pub fn open() -> Self {
        gauge!(RPC_CONNECTIONS).increment(1.0);
        Self
    }
}

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        gauge!(RPC_CONNECTIONS).decrement(1.0);
    }
}
