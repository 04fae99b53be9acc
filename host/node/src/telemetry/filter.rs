//! Which log lines pass: a level a module, and a namespace's own level where a line names its namespace.
//!
//! The platform's modules are names of ours: each stands for rooms of this node. The most particular level decides: that of the line's
//! namespace, else that of the node, else the level of the whole log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cvp_core::config::{LogLevel, ModuleLevels};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The rooms behind each module of `dynamic.toml`.
const SYSTEM: [(&str, &[&str]); 7] = [
    ("main", &["cvp::assembly", "cvp::commands", "cvp::ipc"]),
    ("metrics", &["cvp::telemetry"]),
    ("jsonrpc", &["cvp::rpc"]),
    ("nsmgr", &["cvp::namespace", "cvp::consensus"]),
    ("hypernet", &["cvp::link"]),
    ("config", &["cvp::config"]),
    ("cvp", &["cvp::replication", "cvp::promotion", "cvp_strategy"]),
];

/// The rooms behind each module of `ns_dynamic.toml`; the longer path decides.
const NAMESPACE: [(&str, &[&str]); 7] = [
    ("consensus", &["cvp::consensus"]),
    ("execmgr", &["cvp::namespace::maker", "cvp::namespace::committer"]),
    ("namespace", &["cvp::namespace"]),
    ("syncmgr", &["cvp::replication"]),
    ("db", &["cvp_ledger"]),
    ("mq", &["cvp::mq"]),
    ("api", &["cvp::rpc"]),
];

/// The broker's client: what it says holds credentials, and bypasses who takes them out. What is wrong the queues' own lines say.
const MUTE: [&str; 2] = ["lapin", "amq_protocol"];

/// NOTICE, the platform's default, is our `info!`: what an operator wants to see. INFO is our `debug!`, DEBUG our `trace!`; tracing has
/// nothing above an error.
pub(super) fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Info => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
    }
}

/// The word a line of tracing's `level` is printed with.
pub(super) fn word(level: &tracing::Level) -> &'static str {
    match *level {
        tracing::Level::TRACE => "DEBUG",
        tracing::Level::DEBUG => "INFO",
        tracing::Level::INFO => "NOTICE",
        tracing::Level::WARN => "WARNING",
        tracing::Level::ERROR => "ERROR",
    }
}

/// The levels of a node's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevels {
    /// `log.log_level`.
    pub default: LogLevel,
    /// `log.module.*` of `dynamic.toml`.
    pub system: ModuleLevels,
    /// `log.module.*` of each namespace's `ns_dynamic.toml`; every namespace that runs is in it.
    pub namespaces: BTreeMap<String, ModuleLevels>,
}

impl LogLevels {
    fn level(&self, target: &str, namespace: Option<&str>) -> LogLevel {
        let own = |levels: &ModuleLevels| levels.get(module_of(&NAMESPACE, target)?).copied();
        if let Some(level) = namespace.and_then(|name| own(self.namespaces.get(name)?)) {
            return level;
        }
        // Whoever wants more of a library than that something is wrong names the module that it belongs to.
        let default = match is_ours(target) {
            true => self.default,
            false => self.default.max(LogLevel::Warning),
        };
        match module_of(&SYSTEM, target) {
            Some(module) => self.system.get(module).copied().unwrap_or(default),
            // Only namespaces have this module, and the line does not say whose it is: the most talkative of them decides.
            None => {
                let levels = self.namespaces.values();
                levels.map(|it| own(it).unwrap_or(default)).min().unwrap_or(default)
            }
        }
    }

    /// The quietest and the most talkative level that a line of this target can have.
    fn range(&self, target: &str) -> (LevelFilter, LevelFilter) {
        if is_mute(target) {
            return (LevelFilter::OFF, LevelFilter::OFF);
        }
        let names = self.namespaces.keys().map(|name| self.level(target, Some(name)));
        let levels = || names.clone().chain([self.level(target, None)]).map(filter_of);
        let quiet = levels().min().unwrap_or(LevelFilter::OFF);
        (quiet, levels().max().unwrap_or(LevelFilter::OFF))
    }
}

/// Whether no line of this target is ever written.
fn is_mute(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    MUTE.iter().any(|mute| name.starts_with(mute))
}

/// Whether a line is of this node's own crates. `log`, for one, stands for every library that does not write by tracing.
fn is_ours(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    name == "cvp" || name.starts_with("cvp_")
}

/// The module with the longest path that `target` is at or below.
fn module_of(modules: &[(&'static str, &[&str])], target: &str) -> Option<&'static str> {
    let below = |path: &str| {
        let rest = target.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let paths = modules
        .iter()
        .flat_map(|(name, paths)| paths.iter().map(move |path| (*name, *path)));
    paths
        .filter(|(_, path)| below(path))
        .max_by_key(|(_, path)| path.len())
        .map(|(name, _)| name)
}

/// The value of an event's field `namespace`; empty when it has none.
#[derive(Default)]
struct NamespaceField(String);

impl Visit for NamespaceField {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "namespace" {
            self.0 = value.to_owned();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "namespace" {
            self.0 = format!("{value:?}");
        }
    }
}

/// The levels in force: replaced whole while the node runs.
#[derive(Debug, Clone)]
pub(super) struct Filter(Arc<ArcSwap<LogLevels>>);

impl Filter {
    pub(super) fn new(levels: LogLevels) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(levels)))
    }

    /// Other levels from now on.
    pub(super) fn set(&self, levels: LogLevels) {
        self.0.store(Arc::new(levels));
        // What each place in the code was told at its first line holds no longer.
        tracing::callsite::rebuild_interest_cache();
    }
}

impl<S: Subscriber> Layer<S> for Filter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let (quiet, talkative) = self.0.load().range(metadata.target());
        if *metadata.level() > talkative {
            Interest::never()
        } else if *metadata.level() <= quiet {
            Interest::always()
        } else {
            Interest::sometimes()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        *metadata.level() <= self.0.load().range(metadata.target()).1
    }

    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let levels = self.0.load();
        if *metadata.level() <= levels.range(metadata.target()).0 {
            return true;
        }
        if is_mute(metadata.target()) {
            return false;
        }
        let mut field = NamespaceField::default();
        event.record(&mut field);
        let namespace = Some(field.0.as_str()).filter(|name| !name.is_empty());
        *metadata.level() <= filter_of(levels.level(metadata.target(), namespace))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let levels = self.0.load();
        let modules = levels
            .namespaces
            .values()
            .chain([&levels.system])
            .flat_map(|levels| levels.values());
        modules.copied().chain([levels.default]).map(filter_of).max()
    }
}

#[cfg(test)]
mod tests {
    use cvp_core::config::{NAMESPACE_MODULES, SYSTEM_MODULES};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::logs::tests::Sink;
    use super::*;

    fn levels(entries: &[(&str, LogLevel)]) -> ModuleLevels {
        entries
            .iter()
            .map(|(name, level)| ((*name).to_owned(), *level))
            .collect()
    }

    fn node() -> LogLevels {
        LogLevels {
            default: LogLevel::Notice,
            system: levels(&[("cvp", LogLevel::Error), ("jsonrpc", LogLevel::Debug)]),
            namespaces: BTreeMap::from([
                (
                    "global".to_owned(),
                    levels(&[("execmgr", LogLevel::Info), ("db", LogLevel::Error)]),
                ),
                ("ns1".to_owned(), levels(&[("syncmgr", LogLevel::Info)])),
            ]),
        }
    }

    #[test]
    fn every_module_that_is_configured_has_rooms() {
        assert_eq!(SYSTEM.map(|(name, _)| name), SYSTEM_MODULES);
        assert_eq!(NAMESPACE.map(|(name, _)| name), NAMESPACE_MODULES);
    }

    #[test]
    fn the_most_particular_level_decides() {
        let node = node();
        for (target, namespace, wanted) in [
            ("cvp::assembly::life", None, LogLevel::Notice),
            ("cvp::rpc::server", None, LogLevel::Debug),
            ("cvp::replication::driver", None, LogLevel::Error),
            ("cvp::replication::driver", Some("ns1"), LogLevel::Info),
            ("cvp::replication::driver", Some("global"), LogLevel::Error),
            ("cvp::namespace::maker", Some("global"), LogLevel::Info),
            ("cvp::namespace::chain", Some("global"), LogLevel::Notice),
            ("cvp::namespace::maker", Some("unknown"), LogLevel::Notice),
            // Whose file it is nobody says: ns1 has no level of its own for it.
            ("cvp_ledger::log", None, LogLevel::Notice),
            ("cvp_ledger::log", Some("global"), LogLevel::Error),
            ("cvp::replicationist", None, LogLevel::Notice),
            ("hyper::proto", None, LogLevel::Warning),
        ] {
            assert_eq!(node.level(target, namespace), wanted, "{target} {namespace:?}");
        }
    }

    #[test]
    fn libraries_stay_quiet_until_their_module_is_named() {
        let talkative = |default| LogLevels { default, ..node() };
        let debug = talkative(LogLevel::Debug);
        for target in ["log", "wasmtime", "cranelift_codegen::timing", "hyper::proto", "cvpx"] {
            assert_eq!(debug.level(target, None), LogLevel::Warning, "{target}");
            assert_eq!(debug.range(target).1, LevelFilter::WARN, "{target}");
            assert_eq!(talkative(LogLevel::Error).level(target, None), LogLevel::Error);
        }
        for target in ["cvp", "cvp::assembly", "cvp_core::replication", "cvp_ledger"] {
            assert_eq!(debug.level(target, Some("ns1")), LogLevel::Debug, "{target}");
        }
    }

    #[test]
    fn what_may_hold_a_brokers_credentials_is_never_written() {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let mut talkative = node();
        talkative.default = LogLevel::Debug;
        talkative
            .namespaces
            .insert("ns2".to_owned(), levels(&[("mq", LogLevel::Debug)]));
        let subscriber = tracing_subscriber::registry().with(Filter::new(talkative)).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "lapin::channel", "refused for user 'worker'");
            tracing::error!(target: "lapin", namespace = "ns2", "refused for user 'worker'");
            tracing::warn!(target: "amq_protocol_tcp", "worker");
            tracing::warn!(target: "cvp::mq::rabbit", namespace = "ns2", "our own words");
        });
        let text = sink.text();
        assert!(text.contains("our own words") && !text.contains("worker"), "{text}");
    }

    #[test]
    fn lines_of_one_namespace_pass_and_those_of_another_do_not() {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(Filter::new(node())).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            for namespace in ["global", "ns1"] {
                tracing::debug!(target: "cvp::namespace::maker", %namespace, "made block");
                tracing::warn!(target: "cvp::replication::driver", namespace, "link");
            }
            tracing::warn!(target: "cvp::replication::driver", namespace = "", "nobody's");
            tracing::trace!(target: "cvp::rpc", "everything");
            tracing::debug!(target: "cvp::assembly", "too quiet");
        });
        let text = sink.text();
        let passed: Vec<(bool, &str)> = [
            (true, "made block namespace=global"),
            (false, "made block namespace=ns1"),
            (false, "link namespace=\"global\""),
            (true, "link namespace=\"ns1\""),
            (false, "nobody's"),
            (true, "everything"),
            (false, "too quiet"),
        ]
        .into_iter()
        .filter(|(wanted, line)| text.contains(line) != *wanted)
        .collect();
        assert!(passed.is_empty(), "{passed:?} in\n{text}");
    }

    #[test]
    fn other_levels_hold_for_places_that_have_spoken_and_for_those_that_have_not() {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let filter = Filter::new(node());
        let subscriber = tracing_subscriber::registry().with(filter.clone()).with(lines);
        let speak = |round: u32| {
            tracing::debug!(target: "cvp::assembly", round, "start");
            tracing::warn!(target: "cvp::replication::driver", round, "link");
        };
        tracing::subscriber::with_default(subscriber, || {
            speak(1);
            filter.set(LogLevels {
                default: LogLevel::Info,
                system: levels(&[("cvp", LogLevel::Warning)]),
                ..node()
            });
            speak(2);
            filter.set(node());
            speak(3);
        });
        let text = sink.text();
        assert!(
            text.contains("start round=2") && text.contains("link round=2"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
