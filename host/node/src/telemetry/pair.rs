//! The metrics of a pair: how far the copy is, what flows, and what strategies cost.

use std::time::Duration;

use cvp_core::replication::PairStatus;
use cvp_core::types::Namespace;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const NORMAL: &str = "cvp_pair_normal";
const TIP: &str = "cvp_tip_height";
const DURABLE: &str = "cvp_durable_height";
const HISTORY_FROM: &str = "cvp_history_from_height";
const LAG_BLOCKS: &str = "cvp_lag_blocks";
const LAG_BYTES: &str = "cvp_lag_bytes";
const LAG_SECONDS: &str = "cvp_lag_seconds";
const SNAPSHOT_BYTES: &str = "cvp_snapshot_bytes";
const SNAPSHOT_TOTAL_BYTES: &str = "cvp_snapshot_total_bytes";
const SENT_BYTES: &str = "cvp_records_sent_bytes";
const RECEIVED_BYTES: &str = "cvp_records_received_bytes";
const RECEIVED_BLOCKS: &str = "cvp_records_received";
const BATCH_BYTES: &str = "cvp_batch_bytes";
const BATCH_VERIFY_SECONDS: &str = "cvp_batch_verify_seconds";
const BATCH_APPEND_SECONDS: &str = "cvp_batch_append_seconds";
const FSYNC_SECONDS: &str = "cvp_fsync_seconds";
const SNAPSHOT_SENT_BYTES: &str = "cvp_snapshot_sent_bytes";
const SNAPSHOT_RECEIVED_BYTES: &str = "cvp_snapshot_received_bytes";
const STRATEGY_CALLS: &str = "cvp_strategy_calls";
const STRATEGY_NANOS: &str = "cvp_strategy_call_nanoseconds";
const STRATEGY_RESTARTS: &str = "cvp_strategy_restarts";
const STRATEGY_FAULTS: &str = "cvp_strategy_faults";
const STRATEGY_REFUSED: &str = "cvp_strategy_refused";

pub(super) fn describe() {
    describe_gauge!(NORMAL, "1: the pair is normal, as `cvp status` says");
    describe_gauge!(TIP, "the provider's durable height, as this end knows it");
    describe_gauge!(DURABLE, "the receiver's durable height, as this end knows it");
    describe_gauge!(HISTORY_FROM, "oldest height that this node keeps");
    describe_gauge!(LAG_BLOCKS, "blocks that the receiver lacks");
    describe_gauge!(LAG_BYTES, Unit::Bytes, "about how many bytes the receiver lacks");
    describe_gauge!(
        LAG_SECONDS,
        Unit::Seconds,
        "age of the oldest block that the receiver lacks"
    );
    describe_gauge!(
        SNAPSHOT_BYTES,
        Unit::Bytes,
        "of a snapshot on its way: bytes durable at the receiver; 0 where none is"
    );
    describe_gauge!(
        SNAPSHOT_TOTAL_BYTES,
        Unit::Bytes,
        "of a snapshot on its way: all its bytes"
    );
    describe_counter!(
        SENT_BYTES,
        Unit::Bytes,
        "records queued on the links of the standby and of followers"
    );
    describe_counter!(RECEIVED_BYTES, Unit::Bytes, "records verified and appended here");
    describe_counter!(RECEIVED_BLOCKS, "blocks verified and appended here");
    describe_histogram!(
        BATCH_BYTES,
        Unit::Bytes,
        "bytes of one batch of records that was appended here"
    );
    describe_histogram!(
        BATCH_VERIFY_SECONDS,
        Unit::Seconds,
        "one batch: its digests, links and state checked"
    );
    describe_histogram!(
        BATCH_APPEND_SECONDS,
        Unit::Seconds,
        "one batch that was checked: appended to the log, not durable yet"
    );
    describe_histogram!(FSYNC_SECONDS, Unit::Seconds, "one group made durable here");
    describe_counter!(
        SNAPSHOT_SENT_BYTES,
        Unit::Bytes,
        "bytes of snapshots queued on the standby's link"
    );
    describe_counter!(
        SNAPSHOT_RECEIVED_BYTES,
        Unit::Bytes,
        "bytes of snapshots checked and written here"
    );
    describe_counter!(STRATEGY_CALLS, "calls of a strategy, by kind");
    describe_counter!(STRATEGY_NANOS, "time spent in them, nanoseconds");
    describe_counter!(STRATEGY_RESTARTS, "instances of a strategy made after the first");
    describe_gauge!(
        STRATEGY_FAULTS,
        "faults of a strategy since the start or the last reset"
    );
    describe_gauge!(
        STRATEGY_REFUSED,
        "calls and actions of a strategy that were refused for what they said"
    );
}

/// How the pair is now. Once a second.
pub fn pair(status: &PairStatus) {
    gauge!(NORMAL).set(f64::from(u8::from(status.normal)));
    for ns in &status.namespaces {
        let set = |name: &'static str, value: f64| gauge!(name, "namespace" => ns.name.to_string()).set(value);
        set(TIP, ns.tip as f64);
        set(DURABLE, ns.durable as f64);
        set(HISTORY_FROM, ns.history_from as f64);
        set(LAG_BLOCKS, ns.lag_blocks as f64);
        set(LAG_BYTES, ns.lag_bytes as f64);
        set(LAG_SECONDS, ns.lag_ms as f64 / 1000.0);
        let snapshot = ns.bootstrap.unwrap_or_default();
        set(SNAPSHOT_BYTES, snapshot.bytes as f64);
        set(SNAPSHOT_TOTAL_BYTES, snapshot.total as f64);
        for strategy in &ns.strategies {
            let set = |name: &'static str, value: u64| {
                let kind = strategy.id.kind.to_string();
                gauge!(name, "namespace" => ns.name.to_string(), "kind" => kind).set(value as f64);
            };
            set(STRATEGY_FAULTS, strategy.faults);
            set(STRATEGY_REFUSED, strategy.refused);
        }
    }
}

/// What a strategy cost since the process began.
pub fn strategy(namespace: &Namespace, kind: &'static str, (calls, nanos, restarts): (u64, u64, u64)) {
    let count = |name: &'static str, value| {
        counter!(name, "namespace" => namespace.to_string(), "kind" => kind).absolute(value);
    };
    count(STRATEGY_CALLS, calls);
    count(STRATEGY_NANOS, nanos);
    count(STRATEGY_RESTARTS, restarts);
}

/// A batch of records was queued for the standby.
pub fn sent(namespace: &Namespace, bytes: u64) {
    counter!(SENT_BYTES, "namespace" => namespace.to_string()).increment(bytes);
}

/// A batch of records was verified and appended, each within its time.
pub fn received(namespace: &Namespace, blocks: u64, bytes: u64, (verified, appended): (Duration, Duration)) {
    counter!(RECEIVED_BYTES, "namespace" => namespace.to_string()).increment(bytes);
    counter!(RECEIVED_BLOCKS, "namespace" => namespace.to_string()).increment(blocks);
    histogram!(BATCH_BYTES, "namespace" => namespace.to_string()).record(bytes as f64);
    histogram!(BATCH_VERIFY_SECONDS, "namespace" => namespace.to_string()).record(verified);
    histogram!(BATCH_APPEND_SECONDS, "namespace" => namespace.to_string()).record(appended);
}

/// A group of records was made durable within `took`.
pub fn synced(namespace: &Namespace, took: Duration) {
    histogram!(FSYNC_SECONDS, "namespace" => namespace.to_string()).record(took);
}

/// Bytes of a snapshot were queued for the standby.
pub fn snapshot_sent(namespace: &Namespace, bytes: u64) {
    counter!(SNAPSHOT_SENT_BYTES, "namespace" => namespace.to_string()).increment(bytes);
}

/// Bytes of a snapshot were checked and written.
pub fn snapshot_received(namespace: &Namespace, bytes: u64) {
    counter!(SNAPSHOT_RECEIVED_BYTES, "namespace" => namespace.to_string()).increment(bytes);
}
