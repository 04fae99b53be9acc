//! `log.*`: the platform's levels, and the level of each module.

use std::collections::BTreeMap;
use std::str::FromStr;

use toml::Value;

use super::keys::Keys;

/// A log level, in any case of letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What helps to follow a session or a block.
    Info,
    /// What an operator wants to see; the default.
    Notice,
    /// What may need attention.
    Warning,
    /// What failed.
    Error,
    /// As ERROR: nothing is louder here.
    Critical,
}

/// Modules of `dynamic.toml` (`log.module.<m>`) that this node has. The platform knows more.
pub const SYSTEM_MODULES: [&str; 7] = ["main", "metrics", "jsonrpc", "nsmgr", "hypernet", "config", "cvp"];

/// Modules of `ns_dynamic.toml` that this node has.
pub const NAMESPACE_MODULES: [&str; 7] = ["consensus", "execmgr", "namespace", "syncmgr", "db", "mq", "api"];

/// Levels by module, where they differ from `log.log_level`.
pub type ModuleLevels = BTreeMap<String, LogLevel>;

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Ok(match word.to_ascii_uppercase().as_str() {
            "DEBUG" => LogLevel::Debug,
            "INFO" => LogLevel::Info,
            "NOTICE" => LogLevel::Notice,
            "WARNING" | "WARN" => LogLevel::Warning,
            "ERROR" => LogLevel::Error,
            "CRITICAL" => LogLevel::Critical,
            _ => {
                let shown: String = word.chars().take(40).collect();
                return Err(format!("{shown:?} is no log level"));
            }
        })
    }
}

const HELP: &str = "write DEBUG, INFO, NOTICE, WARNING, ERROR or CRITICAL";

/// One level.
pub(super) fn read_level(keys: &mut Keys, key: &str, default: LogLevel) -> LogLevel {
    let Some(value) = keys.raw(key) else {
        return default;
    };
    level(keys, key, &value).unwrap_or(default)
}

fn level(keys: &mut Keys, key: &str, value: &Value) -> Option<LogLevel> {
    let read = value
        .as_str()
        .map_or_else(|| Err(format!("{value} is no log level")), str::parse);
    read.map_err(|what| keys.problem(key, what, HELP)).ok()
}

/// `log.module`; a module that this node does not have is checked and named as ignored.
pub(super) fn read_modules(keys: &mut Keys, known: &[&str]) -> ModuleLevels {
    let mut levels = ModuleLevels::new();
    match keys.raw("log.module") {
        None => {}
        Some(Value::Table(modules)) => {
            for (module, value) in modules {
                let key = format!("log.module.{module}");
                let Some(level) = level(keys, &key, &value) else {
                    continue;
                };
                if known.contains(&module.as_str()) {
                    levels.insert(module, level);
                } else {
                    keys.remark(&key, "this node has no such module");
                }
            }
        }
        Some(_) => keys.problem(
            "log.module",
            "is not a table",
            "write [log.module] with lines such as cvp = \"INFO\"",
        ),
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (ModuleLevels, usize, Vec<String>) {
        let mut keys = Keys::parse("dynamic.toml", text);
        let levels = read_modules(&mut keys, &SYSTEM_MODULES);
        let (problems, remarks) = keys.finish();
        (
            levels,
            problems.len(),
            remarks.into_iter().map(|remark| remark.key).collect(),
        )
    }

    #[test]
    fn levels_are_read_in_any_case_and_unknown_ones_named() {
        assert_eq!("notice".parse(), Ok(LogLevel::Notice));
        assert_eq!("Warn".parse(), Ok(LogLevel::Warning));
        assert_eq!("loud".parse::<LogLevel>(), Err("\"loud\" is no log level".to_owned()));
    }

    #[test]
    fn a_module_that_is_not_here_is_named_and_a_bad_level_is_a_problem() {
        let (levels, problems, remarks) =
            read("[log.module]\ncvp = \"info\"\njsonrpc = \"ERROR\"\naudit = \"DEBUG\"\n");
        assert_eq!(levels.get("cvp"), Some(&LogLevel::Info));
        assert_eq!((levels.len(), problems), (2, 0));
        assert_eq!(remarks, ["log.module.audit"]);
        assert_eq!(read("[log.module]\naudit = \"loud\"\ncvp = 7\n").1, 2);
        assert_eq!(read("[log]\nmodule = \"cvp\"\n").1, 1);
    }
}
