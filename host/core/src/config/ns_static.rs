//! `<namespace>/ns_static.toml`: fixed while the namespace runs.

use std::collections::BTreeMap;

use toml::Value;

use super::keys::Keys;

/// Which strategy of a kind a namespace runs (`strategy.<kind>`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StrategyChoice {
    /// `id`: `default` is the one embedded in the binary.
    pub id: String,
    /// `settings` as TOML text, handed to the strategy as it is.
    pub settings: String,
}

impl Default for StrategyChoice {
    fn default() -> Self {
        Self {
            id: "default".to_owned(),
            settings: String::new(),
        }
    }
}

/// `rpc.qps.flowCtrl.*`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowControl {
    /// `enable`.
    pub enable: bool,
    /// `capacity`: size of the token bucket.
    pub capacity: u64,
    /// `limit`: requests a second.
    pub limit: u64,
}

/// `database.indexdb.layer1.*`: the switch that both ends must share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexSwitch {
    /// `enable`.
    pub enable: bool,
    /// `dbType`.
    pub db_type: String,
}

/// The keys of `ns_static.toml` that we honour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NsStatic {
    /// `consensus.solo.timeout.batch`: a block waits at most so long for transactions, milliseconds.
    pub solo_batch_ms: u64,
    /// `consensus.pool.tolerance_time`: a pending transaction is dropped after it, milliseconds.
    pub pool_tolerance_ms: u64,
    /// `encryption.root.ca`, relative to `namespaces/<ns>`.
    pub root_ca_dir: String,
    /// `encryption.ecert.ecert`, relative to `namespaces/<ns>`.
    pub ecert_dir: String,
    /// `duplicate.tx_active_time`: how old a transaction may be, milliseconds.
    pub tx_active_ms: u64,
    /// `duplicate.tx_drift_time`: how far in the future it may be, milliseconds.
    pub tx_drift_ms: u64,
    /// `rpc.qps.flowCtrl`.
    pub flow_control: FlowControl,
    /// `database.indexdb.layer1`.
    pub index: IndexSwitch,
    /// `cvp.backup.path`, relative to `namespaces/<ns>`.
    pub backup_path: String,
    /// `sync.backfill`: fetch history behind a snapshot.
    pub backfill: bool,
    /// `ledger.keep_blocks`; 0 keeps all.
    pub keep_blocks: u64,
    /// `strategy.<kind>`.
    pub strategies: BTreeMap<String, StrategyChoice>,
    /// `strategy.trace`: bytes of strategies' traces kept; 0 records none.
    pub trace_bytes: u64,
}

impl NsStatic {
    pub(super) fn read(keys: &mut Keys) -> Self {
        keys.refuse_when("encryption.check.enableT", "the check of SDK certificates");
        keys.refuse_when("encryption.TEE.DataEncrypt", "encryption by a TEE");
        keys.refuse_when("auth.enable", "interface permissions");
        keys.refuse_when("send.args.extra.check.enable", "the check of extra data");
        Self {
            solo_batch_ms: keys.duration_ms("consensus.solo.timeout.batch", 500, 1, 600_000),
            pool_tolerance_ms: keys.duration_ms("consensus.pool.tolerance_time", 300_000, 1_000, 86_400_000),
            root_ca_dir: keys.text("encryption.root.ca", "certs/CA"),
            ecert_dir: keys.text("encryption.ecert.ecert", "certs/certs"),
            tx_active_ms: keys.duration_ms("duplicate.tx_active_time", 86_400_000, 1_000, 31_536_000_000),
            tx_drift_ms: keys.duration_ms("duplicate.tx_drift_time", 300_000, 0, 86_400_000),
            flow_control: FlowControl {
                enable: keys.flag("rpc.qps.flowCtrl.enable", true),
                capacity: keys.number("rpc.qps.flowCtrl.capacity", 100, 1, 1_000_000),
                limit: keys.number("rpc.qps.flowCtrl.limit", 2_000, 1, 10_000_000),
            },
            index: IndexSwitch {
                enable: keys.flag("database.indexdb.layer1.enable", false),
                db_type: keys.text("database.indexdb.layer1.dbType", "mongodb"),
            },
            backup_path: keys.text("cvp.backup.path", "data/cvp"),
            backfill: keys.flag("sync.backfill", true),
            keep_blocks: keys.number("ledger.keep_blocks", 0, 0, i64::MAX as u64),
            strategies: read_strategies(keys),
            trace_bytes: keys.bytes(TRACE, 0, 0, 1 << 40),
        }
    }

    /// The strategy of a kind; the embedded default when none is chosen.
    pub fn strategy(&self, kind: &str) -> StrategyChoice {
        self.strategies.get(kind).cloned().unwrap_or_default()
    }
}

/// Stands beside the kinds, and is none.
const TRACE: &str = "strategy.trace";

fn read_strategies(keys: &mut Keys) -> BTreeMap<String, StrategyChoice> {
    let mut out = BTreeMap::new();
    let Some(value) = keys.raw("strategy") else {
        return out;
    };
    let Value::Table(kinds) = value else {
        keys.problem(
            "strategy",
            "is not a table",
            "write [strategy.chain-sync] with id = \"...\"",
        );
        return out;
    };
    for (kind, value) in kinds.into_iter().filter(|(kind, _)| kind != "trace") {
        match read_strategy(&value) {
            Ok(choice) => {
                out.insert(kind, choice);
            }
            Err(what) => keys.problem(
                &format!("strategy.{kind}"),
                what,
                "write id = \"default\" or the id of a plugin, and settings = {...}",
            ),
        }
    }
    out
}

fn read_strategy(value: &Value) -> Result<StrategyChoice, String> {
    let table = value.as_table().ok_or("is not a table")?;
    let id = match table.get("id") {
        None => "default",
        Some(id) => id.as_str().ok_or_else(|| format!("id {id} is not text"))?,
    };
    let plain = id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if id.is_empty() || !plain || id.starts_with('.') {
        return Err(format!("id {id:?} is no plugin's name"));
    }
    let settings = match table.get("settings") {
        None => String::new(),
        Some(Value::Table(settings)) => settings.to_string(),
        Some(other) => return Err(format!("settings {other} is not a table")),
    };
    Ok(StrategyChoice {
        id: id.to_owned(),
        settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (NsStatic, Vec<super::super::Problem>) {
        let mut keys = Keys::parse("global/ns_static.toml", text);
        let read = NsStatic::read(&mut keys);
        (read, keys.finish().0)
    }

    #[test]
    fn a_strategy_is_chosen_by_kind() {
        let (read, problems) = read("[strategy.chain-sync]\nid = \"pause\"\nsettings = { window = 4 }\n");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(read.strategy("chain-sync").id, "pause");
        assert_eq!(read.strategy("chain-sync").settings.trim(), "window = 4");
        assert_eq!(read.strategy("mq-sync").id, "default");
    }

    #[test]
    fn traces_stand_beside_the_kinds_and_are_off_by_default() {
        assert_eq!(read("").0.trace_bytes, 0);
        let (on, problems) = read("[strategy]\ntrace = \"64mb\"\n[strategy.chain-sync]\nid = \"pause\"\n");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((on.trace_bytes, on.strategies.len()), (64 << 20, 1));
        assert_eq!(on.strategy("chain-sync").id, "pause");
        assert_eq!(read("[strategy]\ntrace = true\n").1.len(), 1);
    }

    #[test]
    fn a_protection_that_we_lack_stops_the_start() {
        for bad in [
            "[encryption.check]\nenableT = true",
            "[encryption.TEE]\nDataEncrypt = true",
            "[auth]\nenable = true",
        ] {
            assert_eq!(read(bad).1.len(), 1, "{bad}");
        }
        assert!(read("[encryption.check]\nenableT = false").1.is_empty());
    }
}
