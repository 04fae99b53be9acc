//! The settings of the default strategy, with their bounds and their schema, and the tables that stand when nothing is set.

use cvp_sdk::Problem;
use cvp_sdk::config_sync::PATHS_MAX;
use cvp_sdk::settings::Settings;

use crate::pattern::Pattern;

/// JSON Schema of [`Options`], as the descriptor shows it.
pub const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"properties":{
"strong":{"type":"array","items":{"type":"string"},"default":[],"description":"changes that both ends must hold, FILE or FILE:KEY, besides those of the built-in table; * stands for anything"},
"weak":{"type":"array","items":{"type":"string"},"default":[],"description":"changes that are copied after the answer, though the built-in table says strong"},
"keep_local":{"type":"array","items":{"type":"string"},"default":[],"description":"FILE:KEY that keep the standby's own value at an upgrade, besides the built-in ones; a table stands for all below it"},
"ask_again_millis":{"type":"integer","default":5000,"description":"a file that did not come is asked for again after so long"},
"files_max":{"type":"integer","default":64,"description":"files under way at a time"},
"small_bytes":{"type":"integer","default":65536,"description":"files up to this size come before larger ones; .toml comes first"}}}"#;

/// Most patterns in one list.
const PATTERNS_MAX: usize = 128;

/// Strong when nothing else is said: namespaces, nodes, roles, switches, what bounds the copy, strategies, log levels, certificates.
const STRONG: [&str; 17] = [
    "dynamic.toml:namespace",
    "dynamic.toml:self",
    "dynamic.toml:cvp.strong_timeout",
    "dynamic.toml:cvp.max_rate",
    "dynamic.toml:cvp.retain_bytes",
    "*ns_*.toml:nodes",
    "*ns_*.toml:self",
    "*ns_*.toml:service",
    "*ns_*.toml:consensus.algo",
    "*ns_genesis.toml",
    "*.toml:strategy",
    "*.toml:log.module",
    "system.toml:log.log_level",
    "*.toml:*.enable",
    "*.toml:*.enableTLS",
    "*.toml:*.enableT",
    "certificates/*",
];

/// Switches that are each end's own affair.
const WEAK: [&str; 3] = [
    "dynamic.toml:cvp.enable",
    "dynamic.toml:cvp.node_type",
    "dynamic.toml:cvp.remote",
];

/// What belongs to a machine rather than to the node: addresses (an index backend's among them), ports, paths, log files. Levels of the log are copied.
const KEEP_LOCAL: [&str; 22] = [
    "dynamic.toml:cvp.enable",
    "dynamic.toml:cvp.node_type",
    "dynamic.toml:cvp.remote",
    "dynamic.toml:port",
    "dynamic.toml:p2p.ip.self",
    "dynamic.toml:log.dump_interval",
    "dynamic.toml:log.max_log_size",
    "system.toml:log.dump_file",
    "system.toml:log.log_dir",
    "system.toml:http",
    "system.toml:metrics.port",
    "system.toml:p2p.address",
    "system.toml:p2p.ipc",
    "system.toml:p2p.tlsCA",
    "system.toml:p2p.tlsCert",
    "system.toml:p2p.tlsCertPriv",
    "system.toml:p2p.tlsServerHostOverride",
    "*ns_static.toml:database.indexdb.mongodb",
    "*ns_static.toml:database.indexdb.tempdb",
    "*ns_static.toml:database.indexdb.layer2",
    "*ns_static.toml:encryption.root.ca",
    "*ns_static.toml:encryption.ecert.ecert",
];

/// What can be set, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Changes that are strong, before [`Options::weak`] and the table.
    pub strong: Vec<Pattern>,
    /// Changes that are weak, before the table.
    pub weak: Vec<Pattern>,
    /// Keys that keep the receiver's own value at an upgrade, the built-in ones among them. Each has a key without a star.
    pub keep_local: Vec<Pattern>,
    /// A file that did not come is asked for again after so long, milliseconds.
    pub ask_again_millis: u64,
    /// Files under way at a time.
    pub files_max: usize,
    /// Files up to this size, bytes, come before larger ones.
    pub small_bytes: u64,
}

impl Options {
    /// Reads and checks a settings text.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let mut it = Settings::parse(text);
        let strong = patterns(&mut it, "strong");
        let weak = patterns(&mut it, "weak");
        let mut keep_local: Vec<Pattern> = table(&KEEP_LOCAL).collect();
        keep_local.extend(local_keys(&mut it));
        let options = Self {
            strong,
            weak,
            keep_local,
            ask_again_millis: it.whole("ask_again_millis", 5_000, 100, 3_600_000),
            files_max: it.whole("files_max", 64, 1, PATHS_MAX as u64) as usize,
            small_bytes: it.whole("small_bytes", 64 << 10, 0, u64::MAX),
        };
        it.finish().map(|()| options)
    }
}

/// The built-in strong changes.
pub fn strong_table() -> impl Iterator<Item = Pattern> {
    table(&STRONG)
}

/// The built-in weak ones among them.
pub fn weak_table() -> impl Iterator<Item = Pattern> {
    table(&WEAK)
}

fn table(rows: &'static [&'static str]) -> impl Iterator<Item = Pattern> {
    rows.iter().filter_map(|row| Pattern::parse(row).ok())
}

fn patterns(it: &mut Settings, name: &str) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for text in it.texts(name, PATTERNS_MAX) {
        match Pattern::parse(&text) {
            Ok(pattern) => patterns.push(pattern),
            Err(message) => it.problem(name, message),
        }
    }
    patterns
}

/// The strategy does not see which keys a file has, so these are said to the host as they stand: `port.*` is the table `port`, and no other
/// star is allowed.
fn local_keys(it: &mut Settings) -> Vec<Pattern> {
    let name = "keep_local";
    let mut rules = patterns(it, name);
    for rule in &mut rules {
        let key = rule.key.take().unwrap_or_default();
        let key = key.strip_suffix(".*").unwrap_or(&key);
        if key.is_empty() || key.contains('*') {
            let message = format!(
                "{:?} must be FILE:KEY, a star in the key only at the end of a table",
                rule.file
            );
            it.problem(name, message);
        }
        rule.key = Some(key.to_owned());
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_patterns() {
        assert_eq!(strong_table().count(), STRONG.len());
        assert_eq!(weak_table().count(), WEAK.len());
        let options = Options::parse("").unwrap();
        assert_eq!(options.keep_local.len(), KEEP_LOCAL.len());
        let plain = |it: &Pattern| it.key.as_deref().is_some_and(|key| !key.contains('*'));
        assert!(options.keep_local.iter().all(plain));
    }

    #[test]
    fn settings_are_checked_by_name() {
        let all = r#"{"strong":["a:b"],"weak":["*"],"keep_local":["x.toml:t.*","y:k"],"ask_again_millis":100,"files_max":256,"small_bytes":0}"#;
        let options = Options::parse(all).unwrap();
        let said: Vec<_> = options
            .keep_local
            .iter()
            .rev()
            .take(2)
            .map(|it| it.key.as_deref())
            .collect();
        assert_eq!(said, [Some("k"), Some("t")]);
        for (bad, path) in [
            (r#"{"strong":"a"}"#, "strong"),
            (r#"{"strong":[":a"]}"#, "strong"),
            (r#"{"weak":["a:"]}"#, "weak"),
            (r#"{"keep_local":["dynamic.toml"]}"#, "keep_local"),
            (r#"{"keep_local":["dynamic.toml:*"]}"#, "keep_local"),
            (r#"{"keep_local":["dynamic.toml:a.*.b"]}"#, "keep_local"),
            (r#"{"ask_again_millis":99}"#, "ask_again_millis"),
            (r#"{"files_max":257}"#, "files_max"),
            (r#"{"small_bytes":-1}"#, "small_bytes"),
            (r#"{"colour":"red"}"#, "colour"),
        ] {
            let problems = Options::parse(bad).unwrap_err();
            assert_eq!(
                problems.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(),
                [path],
                "{bad}"
            );
        }
        let many = format!(r#"{{"weak":[{}]}}"#, vec![r#""a""#; PATTERNS_MAX + 1].join(","));
        assert!(Options::parse(&many).is_err());
    }
}
