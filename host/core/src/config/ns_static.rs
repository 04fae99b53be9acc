//! `<namespace>/ns_static.toml`: fixed while the namespace runs.

use std::collections::BTreeMap;

use toml::Value;

use super::backend::BackendHosts;
use super::keys::Keys;
use super::queues::{MessageQueues, read_queues};
use crate::types::strategy::{chain_sync, config_sync, index_check, mq_sync};

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

/// `database.indexdb.*`: the switch that both ends must share, and where each end's own backend is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IndexSettings {
    /// `layer1.enable`.
    pub enable: bool,
    /// The hosts of `mongodb.uri`.
    pub backend: BackendHosts,
}

/// The keys of `ns_static.toml` that we honour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NsStatic {
    /// `consensus.solo.timeout.batch`: a block waits at most so long for transactions, milliseconds.
    pub solo_batch_ms: u64,
    /// `consensus.pool.tolerance_time`: a pending transaction is dropped after it, milliseconds.
    pub pool_tolerance_ms: u64,
    /// `encryption.ecert.ecert`, relative to `namespaces/<ns>`.
    pub ecert_dir: String,
    /// `duplicate.tx_active_time`: how old a transaction may be, milliseconds.
    pub tx_active_ms: u64,
    /// `duplicate.tx_drift_time`: how far in the future it may be, milliseconds.
    pub tx_drift_ms: u64,
    /// `rpc.qps.flowCtrl`.
    pub flow_control: FlowControl,
    /// `database.indexdb`.
    pub index: IndexSettings,
    /// `ledger.keep_blocks`: so many of the newest blocks are kept, and what the standby lacks; 0: all.
    pub keep_blocks: u64,
    /// `sync.backfill`: history older than the snapshot that a standby began from is filled in.
    pub backfill: bool,
    /// `[[service]]` MQ and `mq.*`; none where the service is off.
    pub queues: Option<MessageQueues>,
    /// `strategy.<kind>`.
    pub strategies: BTreeMap<String, StrategyChoice>,
    /// `strategy.trace`: bytes of strategies' traces kept; 0 records none.
    pub trace_bytes: u64,
}

impl NsStatic {
    pub(super) fn read(keys: &mut Keys, standby: bool) -> Self {
        keys.refuse_when("encryption.check.enableT", "the check of SDK certificates");
        keys.refuse_when("encryption.TEE.DataEncrypt", "encryption by a TEE");
        keys.refuse_when("auth.enable", "interface permissions");
        keys.refuse_when("send.args.extra.check.enable", "the check of extra data");
        refuse_encryption(keys);
        remark_unused(keys);
        remark_file_sharing(keys, standby);
        let index = read_index(keys);
        let solo_batch_ms = keys.duration_ms("consensus.solo.timeout.batch", 500, 1, 600_000);
        let pool_tolerance_ms = keys.duration_ms("consensus.pool.tolerance_time", 300_000, 1_000, 86_400_000);
        if pool_tolerance_ms <= solo_batch_ms {
            keys.problem(
                "consensus.pool.tolerance_time",
                "is not longer than consensus.solo.timeout.batch: no transaction would live to see its block",
                "make it longer",
            );
        }
        Self {
            solo_batch_ms,
            pool_tolerance_ms,
            ecert_dir: keys.text("encryption.ecert.ecert", "certs/certs"),
            tx_active_ms: keys.duration_ms("duplicate.tx_active_time", 86_400_000, 1_000, 31_536_000_000),
            tx_drift_ms: keys.duration_ms("duplicate.tx_drift_time", 300_000, 0, 86_400_000),
            flow_control: FlowControl {
                enable: keys.flag("rpc.qps.flowCtrl.enable", true),
                capacity: keys.number("rpc.qps.flowCtrl.capacity", 100, 1, 1_000_000),
                limit: keys.number("rpc.qps.flowCtrl.limit", 2_000, 1, 10_000_000),
            },
            index,
            keep_blocks: keys.number("ledger.keep_blocks", 0, 0, i64::MAX as u64),
            backfill: keys.flag("sync.backfill", true),
            queues: read_queues(keys),
            strategies: read_strategies(keys),
            trace_bytes: keys.bytes(TRACE, 0, 0, 1 << 40),
        }
    }

    /// The strategy of a kind; the embedded default when none is chosen.
    pub fn strategy(&self, kind: &str) -> StrategyChoice {
        self.strategies.get(kind).cloned().unwrap_or_default()
    }
}

/// Whether the data index is kept; the two nodes of a pair must agree.
pub const INDEX_SWITCH: &str = "database.indexdb.layer1.enable";

/// Where its backend is.
const INDEX_URI: &str = "database.indexdb.mongodb.uri";

/// Trusted file sharing.
const FILE_SHARING: &str = "executor.filemgr.enable";

/// Stands beside the kinds, and is none.
const TRACE: &str = "strategy.trace";

/// Encryption of a database at rest, under each database's own table.
fn refuse_encryption(keys: &mut Keys) {
    let Some(Value::Table(databases)) = keys.peek("database") else {
        return;
    };
    for name in databases.keys() {
        keys.refuse_when(&format!("database.{name}.encrypt"), "encryption of its files");
    }
}

/// Keys of later releases: checked now, and named when they ask for something.
fn remark_unused(keys: &mut Keys) {
    let root_ca = keys.text("encryption.root.ca", "certs/CA");
    let why = "certificates of clients and nodes are not checked against it";
    keys.remark_when(root_ca != "certs/CA", "encryption.root.ca", why);
    let backup = keys.raw("cvp.backup.path").is_some();
    keys.remark_when(
        backup,
        "cvp.backup.path",
        "the copy is the namespace's own data directory",
    );
}

/// Trusted file sharing: not in this release, and no standby copies what is shared.
fn remark_file_sharing(keys: &mut Keys, standby: bool) {
    if standby {
        let what = "a standby does not share files, and those that its provider shares are not copied";
        keys.remark_unsupported(
            FILE_SHARING,
            what,
            "keep a copy of them elsewhere, and switch it off here",
        );
    }
    let on = keys.flag(FILE_SHARING, false);
    keys.remark_when(on && !standby, FILE_SHARING, "files are not shared");
}

/// Where the backend is means something only with the switch on. What the address holds beside hosts is never repeated.
fn read_index(keys: &mut Keys) -> IndexSettings {
    let enable = keys.flag(INDEX_SWITCH, false);
    let why =
        "the data index is not kept yet: the switch is compared with the other node's, and the backend is looked at";
    keys.remark_when(enable, INDEX_SWITCH, why);
    keys.text("database.indexdb.layer1.dbType", "mongodb");
    let backend = match keys.raw(INDEX_URI) {
        Some(Value::String(uri)) => BackendHosts::parse(&uri),
        Some(_) => Err("it is not text in quotes".to_owned()),
        None => Ok(BackendHosts::default()),
    };
    let backend = backend.unwrap_or_else(|what| {
        if enable {
            let help = "write \"mongodb://[USER:PASSWORD@]HOST:PORT[,HOST:PORT]/\"";
            keys.problem(INDEX_URI, format!("is no address of a backend: {what}"), help);
        }
        BackendHosts::default()
    });
    IndexSettings { enable, backend }
}

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
            Ok(_) if !KINDS.contains(&kind.as_str()) => {
                keys.remark(&format!("strategy.{kind}"), "there is no such kind of strategy");
            }
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

/// The kinds of strategies there are.
const KINDS: [&str; 4] = [chain_sync::KIND, config_sync::KIND, index_check::KIND, mq_sync::KIND];

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
        let read = NsStatic::read(&mut keys, false);
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
    fn file_sharing_that_is_on_warns_a_standby_and_nobody_is_told_of_one_that_is_off() {
        let remarks = |text: &str, standby: bool| {
            let mut keys = Keys::parse("global/ns_static.toml", text);
            NsStatic::read(&mut keys, standby);
            let (problems, remarks) = keys.finish();
            assert!(problems.is_empty(), "{problems:?}");
            remarks
                .into_iter()
                .map(|it| (it.key, it.unsupported))
                .collect::<Vec<_>>()
        };
        let on = "[executor.filemgr]\nenable = true\n";
        assert_eq!(remarks(on, true), [(FILE_SHARING.to_owned(), true)]);
        assert_eq!(remarks(on, false), [(FILE_SHARING.to_owned(), false)]);
        assert_eq!(remarks("[executor.filemgr]\nenable = false\n", true), []);
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
            "[database.state]\nencrypt = true",
        ] {
            assert_eq!(read(bad).1.len(), 1, "{bad}");
        }
        assert!(read("[encryption.check]\nenableT = false").1.is_empty());
        assert!(read("[database.state]\nencrypt = false").1.is_empty());
    }

    #[test]
    fn a_pool_that_gives_up_before_its_block_is_due_is_a_problem() {
        let text = "[consensus.pool]\ntolerance_time = \"2s\"\n[consensus.solo.timeout]\nbatch = \"3s\"";
        assert_eq!(read(text).1[0].key, "consensus.pool.tolerance_time");
    }

    #[test]
    fn the_address_of_an_index_matters_with_the_switch_on_and_is_never_repeated() {
        let with = |enable: bool, uri: &str| {
            read(&format!(
                "[database.indexdb]\nlayer1.enable = {enable}\nmongodb.uri = {uri}\n"
            ))
        };
        let (on, problems) = with(true, "\"mongodb://me:hunter2@db1,db2:7/?w=1\"");
        assert!(problems.is_empty() && on.index.enable);
        assert_eq!(on.index.backend.to_string(), "db1:27017, db2:7");
        assert!(!format!("{on:?}").contains("hunter2"));
        for bad in ["\"mongodb://me:hunter2@\"", "[\"mongodb://me:hunter2@db\"]"] {
            let (_, problems) = with(true, bad);
            assert_eq!(problems.len(), 1, "{bad}");
            assert_eq!(problems[0].key, "database.indexdb.mongodb.uri");
            assert!(!problems[0].to_string().contains("hunter2"), "{}", problems[0]);
            assert!(with(false, bad).1.is_empty(), "{bad}");
        }
        assert_eq!(read("").0.index, IndexSettings::default());
    }

    #[test]
    fn what_is_asked_for_and_not_done_is_named() {
        for (text, key) in [
            ("[encryption.root]\nca = \"elsewhere\"", "encryption.root.ca"),
            ("[cvp.backup]\npath = \"data/cvp\"", "cvp.backup.path"),
            (
                "[database.indexdb.layer1]\nenable = true",
                "database.indexdb.layer1.enable",
            ),
            ("[strategy.block-sync]\nid = \"mine\"", "strategy.block-sync"),
        ] {
            let mut keys = Keys::parse("global/ns_static.toml", text);
            NsStatic::read(&mut keys, false);
            let (problems, remarks) = keys.finish();
            let named: Vec<String> = remarks.into_iter().map(|remark| remark.key).collect();
            assert!(problems.is_empty() && named == [key], "{text}: {problems:?} {named:?}");
        }
    }
}
