//! Taking typed keys out of one TOML file: each key is looked at once, wrong values become problems, what nobody took is reported.

use std::collections::BTreeSet;
use std::fmt;

use toml::{Table, Value};

use super::{masked, units};

/// What is wrong with a key of a file, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// File, relative to `configuration/`.
    pub file: String,
    /// Dotted key; empty when the whole file is meant.
    pub key: String,
    /// What is wrong, with the value.
    pub what: String,
    /// What to do about it.
    pub help: String,
    /// The key asks for something that a standby does not do, and is passed over there.
    pub unsupported: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration/{}: ", self.file)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.help)
    }
}

/// One file's table while its keys are taken.
pub(super) struct Keys {
    file: String,
    table: Table,
    /// The text is not TOML: nothing is known of its keys.
    broken: bool,
    taken: BTreeSet<String>,
    problems: Vec<Problem>,
    remarks: Vec<Problem>,
}

impl Keys {
    /// Parses a file's text; a syntax error is a problem that names the line.
    pub(super) fn parse(file: &str, text: &str) -> Self {
        let mut keys = Self {
            file: file.to_owned(),
            table: Table::new(),
            broken: false,
            taken: BTreeSet::new(),
            problems: Vec::new(),
            remarks: Vec::new(),
        };
        match text.parse::<Table>() {
            Ok(table) => keys.table = table,
            Err(error) => {
                let text = error.to_string();
                let line = text.lines().filter(|l| !l.trim().is_empty());
                let what = masked(&line.collect::<Vec<_>>().join(" / "));
                keys.problem("", format!("not valid TOML: {what}"), "correct that line");
                keys.broken = true;
            }
        }
        keys
    }

    /// Whether the text is not TOML at all.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Adds a problem; after one of the syntax, what its reader misses is none.
    pub(super) fn problem(&mut self, key: &str, what: impl Into<String>, help: impl Into<String>) {
        if self.broken {
            return;
        }
        self.problems.push(Problem {
            file: self.file.clone(),
            key: key.to_owned(),
            what: what.into(),
            help: help.into(),
            unsupported: false,
        });
    }

    /// Names a key that has no effect here, and why.
    pub(super) fn remark(&mut self, key: &str, why: &str) {
        self.remarks.push(Problem {
            file: self.file.clone(),
            key: key.to_owned(),
            what: "has no effect in this release".to_owned(),
            help: why.to_owned(),
            unsupported: false,
        });
    }

    /// As [`Keys::remark`], for a key that means something only with a value beside its default.
    pub(super) fn remark_when(&mut self, asked: bool, key: &str, why: &str) {
        if asked {
            self.remark(key, why);
        }
    }

    /// The raw value of a dotted key.
    pub(super) fn raw(&mut self, key: &str) -> Option<Value> {
        self.taken.insert(key.to_owned());
        self.peek(key)
    }

    /// The same, without taking it.
    pub(super) fn peek(&self, key: &str) -> Option<Value> {
        let mut parts = key.split('.');
        let mut value = self.table.get(parts.next()?)?;
        for part in parts {
            value = value.as_table()?.get(part)?;
        }
        Some(value.clone())
    }

    fn typed<T>(&mut self, key: &str, default: T, wanted: &str, read: impl FnOnce(&Value) -> Option<T>) -> T {
        let Some(value) = self.raw(key) else {
            return default;
        };
        match read(&value) {
            Some(read) => read,
            None => {
                self.problem(
                    key,
                    format!("{} is not {wanted}", shown(&value)),
                    format!("write {wanted}"),
                );
                default
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        self.typed(key, default, "true or false", Value::as_bool)
    }

    /// Text.
    pub(super) fn text(&mut self, key: &str, default: &str) -> String {
        self.typed(key, default.to_owned(), "text in quotes", |v| {
            v.as_str().map(str::to_owned)
        })
    }

    /// Text of a key that may be absent; empty counts as absent.
    pub(super) fn text_option(&mut self, key: &str) -> Option<String> {
        Some(self.text(key, "")).filter(|text| !text.is_empty())
    }

    /// A list of texts; empty ones are left out.
    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        self.typed(key, Vec::new(), "a list of texts like [\"a\", \"b\"]", |v| {
            let items = v.as_array()?.iter();
            let texts = items.map(|item| item.as_str().map(|t| t.trim().to_owned()));
            let texts = texts.collect::<Option<Vec<_>>>()?;
            Some(texts.into_iter().filter(|t| !t.is_empty()).collect())
        })
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, key: &str, default: u64, least: u64, most: u64) -> u64 {
        let wanted = format!("a whole number from {least} to {most}");
        self.typed(key, default, &wanted, |v| {
            let number = u64::try_from(v.as_integer()?).ok()?;
            (least..=most).contains(&number).then_some(number)
        })
    }

    /// A TCP port; 0 lets the system choose.
    pub(super) fn port(&mut self, key: &str, default: u16) -> u16 {
        self.number(key, u64::from(default), 0, 65_535) as u16
    }

    /// A size as text (`"50mb"`) or whole bytes, within bounds.
    pub(super) fn bytes(&mut self, key: &str, default: u64, least: u64, most: u64) -> u64 {
        let wanted = format!(
            "a size from {} to {} like \"100kb\" or \"8gb\"",
            units::format_bytes(least),
            units::format_bytes(most)
        );
        self.typed(key, default, &wanted, |v| {
            let bytes = match v {
                Value::Integer(bytes) => u64::try_from(*bytes).ok()?,
                other => units::parse_bytes(other.as_str()?)?,
            };
            (least..=most).contains(&bytes).then_some(bytes)
        })
    }

    /// A duration in milliseconds, within bounds.
    pub(super) fn duration_ms(&mut self, key: &str, default: u64, least: u64, most: u64) -> u64 {
        let wanted = format!(
            "a duration from {} to {} like \"500ms\", \"0.5s\" or \"24h\"",
            units::format_duration(least),
            units::format_duration(most)
        );
        self.typed(key, default, &wanted, |v| {
            let ms = units::parse_duration(v.as_str()?)?;
            (least..=most).contains(&ms).then_some(ms)
        })
    }

    /// An array of tables; each as its own table.
    pub(super) fn tables(&mut self, key: &str) -> Vec<Table> {
        self.typed(key, Vec::new(), "a list of tables", |v| {
            let items = v.as_array()?.iter();
            items.map(|item| item.as_table().cloned()).collect()
        })
    }

    /// Warns a standby of a key that asks for something it does not do; it is passed over there.
    pub(super) fn remark_unsupported(&mut self, key: &str, what: &str, help: &str) {
        if self.is_asked(key) {
            self.remarks.push(Problem {
                file: self.file.clone(),
                key: key.to_owned(),
                what: what.to_owned(),
                help: help.to_owned(),
                unsupported: true,
            });
        }
    }

    fn is_asked(&mut self, key: &str) -> bool {
        match self.raw(key) {
            Some(Value::Boolean(on)) => on,
            Some(Value::String(text)) => !matches!(text.as_str(), "" | "false" | "none" | "off"),
            Some(_) => true,
            None => false,
        }
    }

    /// Refuses the start when a key asks for a protection that this node does not have.
    pub(super) fn refuse_when(&mut self, key: &str, protection: &str) {
        if self.is_asked(key) {
            let off = match self.peek(key) {
                Some(Value::String(_)) => "\"none\"",
                _ => "false",
            };
            self.problem(
                key,
                format!("asks for {protection}, which this node does not have"),
                format!("set it to {off}; the node does not start with a protection that it would not give"),
            );
        }
    }

    /// Problems found, and a warning for each key without effect: those remarked, and those that nothing took.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        let mut left = Vec::new();
        untaken(&self.table, "", &self.taken, &mut left);
        let untaken = left.into_iter().map(|key| Problem {
            file: self.file.clone(),
            key,
            what: "this key has no effect in this node".to_owned(),
            help: "it is kept as it is".to_owned(),
            unsupported: false,
        });
        (self.problems, self.remarks.into_iter().chain(untaken).collect())
    }
}

fn untaken(table: &Table, prefix: &str, taken: &BTreeSet<String>, out: &mut Vec<String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        if taken.contains(&key) {
            continue;
        }
        match value.as_table() {
            Some(inner) => untaken(inner, &key, taken, out),
            None => out.push(key),
        }
    }
}

fn shown(value: &Value) -> String {
    let text = masked(&value.to_string());
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_is_named_with_file_key_and_what_to_do() {
        let mut keys = Keys::parse("system.toml", "[p2p]\nenableTLS = \"yes\"\nodd = 1\n");
        assert!(keys.flag("p2p.enableTLS", true));
        let (problems, warnings) = keys.finish();
        assert_eq!(
            problems[0].to_string(),
            "configuration/system.toml: p2p.enableTLS: \"yes\" is not true or false; write true or false"
        );
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].key, "p2p.odd");
    }

    #[test]
    fn broken_toml_is_one_problem() {
        let mut keys = Keys::parse("dynamic.toml", "a = \n");
        keys.problem("a", "it is missing", "write it");
        let (problems, _) = keys.finish();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].what.contains("line 1"), "{}", problems[0]);
    }
}
