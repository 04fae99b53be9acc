//! `cvp plugin list|check|reset`: `check` works offline, the others ask the running node.

use std::path::{Path, PathBuf};

use cvp_strategy::{AnyComponent, LoadError, PLUGIN_FILE, Plugin, Runtime};
use serde::Serialize;
use serde_json::Value;

use super::Context;
use crate::ipc::{Exit, Failure, Request};

/// Arguments of `plugin`.
#[derive(clap::Subcommand, Debug)]
pub enum Arguments {
    /// Lists the strategies at work.
    List,
    /// Loads a component as a node would, and says what is wrong with it.
    Check {
        /// A component, or a plugin directory.
        file: PathBuf,
        /// Settings to check, a JSON object.
        #[arg(long, default_value = "{}")]
        settings: String,
    },
    /// Ends the quarantine of a strategy.
    Reset {
        /// Its id.
        id: String,
    },
}

/// What `plugin check` found.
#[derive(Debug, Default, Serialize)]
struct Report {
    good: bool,
    id: String,
    kind: String,
    version: String,
    sha256: String,
    bytes: usize,
    imports: Vec<String>,
    settings_schema: Value,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    code: String,
    message: String,
}

/// Runs `plugin`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    match arguments {
        Arguments::List => {
            let answer = context.call(&Request::PluginList, |_| ())?;
            context.print(&answer, list_text);
            Ok(Exit::Done)
        }
        Arguments::Check { file, settings } => {
            let report = check(file, settings)?;
            context.print(&report, Report::human);
            Ok(if report.good { Exit::Done } else { Exit::Failed })
        }
        Arguments::Reset { id } => {
            let answer = context.call(&Request::PluginReset { id: id.clone() }, |_| ())?;
            context.print(&answer, |_| format!("{id} starts afresh"));
            Ok(Exit::Done)
        }
    }
}

/// One line a strategy, whatever members the node's answer has.
fn list_text(answer: &Value) -> String {
    let rows = answer
        .get("plugins")
        .unwrap_or(answer)
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |row: &Value, name: &str| match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    };
    let mut lines = vec![format!(
        "{:<16} {:<12} {:<16} {:<10} {:<12} faults",
        "namespace", "kind", "id", "version", "state"
    )];
    for row in &rows {
        lines.push(format!(
            "{:<16} {:<12} {:<16} {:<10} {:<12} {}",
            text(row, "namespace"),
            text(row, "kind"),
            text(row, "id"),
            text(row, "version"),
            text(row, "state"),
            text(row, "faults")
        ));
    }
    lines.join("\n")
}

fn check(file: &Path, settings: &str) -> Result<Report, Failure> {
    let runtime = Runtime::new(None).map_err(|e| Failure::failed(e.code(), e.to_string(), ""))?;
    let loaded = if file.is_dir() {
        // `plugin check .` must know the directory's name.
        let directory = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        Plugin::open(&directory).and_then(|plugin| runtime.load_any_plugin(&plugin))
    } else {
        read(file).and_then(|bytes| runtime.load_any(&bytes))
    };
    Ok(match loaded.and_then(|component| inspect(&component, settings)) {
        Ok(report) => report,
        Err(error @ LoadError::Read { .. }) => {
            return Err(Failure::failed(
                error.code(),
                error.to_string(),
                format!("name a component (a .wasm file), or a plugin directory with plugin.toml and {PLUGIN_FILE}"),
            ));
        }
        Err(error) => Report {
            problems: vec![Problem {
                code: error.code().to_owned(),
                message: error.to_string(),
            }],
            ..Report::default()
        },
    })
}

fn read(file: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable = |source| LoadError::Read {
        path: file.to_owned(),
        source,
    };
    let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
    if bytes > cvp_strategy::COMPONENT_BYTES_MAX {
        return Err(LoadError::TooLarge {
            bytes,
            bytes_max: cvp_strategy::COMPONENT_BYTES_MAX,
        });
    }
    std::fs::read(file).map_err(unreadable)
}

fn inspect(component: &AnyComponent, settings: &str) -> Result<Report, LoadError> {
    let problems: Vec<_> = component
        .check_settings(settings)?
        .into_iter()
        .map(|p| Problem {
            code: "bad-settings".into(),
            message: format!("{} {}", p.path, p.message).trim_start().to_owned(),
        })
        .collect();
    let about = component.about();
    let it = &about.descriptor;
    Ok(Report {
        good: problems.is_empty(),
        id: it.id.clone(),
        kind: it.kind.clone(),
        version: it.version.clone(),
        sha256: hex::encode(about.sha256),
        bytes: about.bytes,
        imports: about.imports.clone(),
        settings_schema: serde_json::from_str(&it.settings_schema)
            .unwrap_or_else(|_| Value::String(it.settings_schema.clone())),
        problems,
    })
}

impl Report {
    fn human(&self) -> String {
        let mut lines = Vec::new();
        if !self.id.is_empty() {
            lines.push(format!(
                "{} {} ({}), {} bytes",
                self.id, self.version, self.kind, self.bytes
            ));
            lines.push(format!("sha256   {}", self.sha256));
            lines.push(format!("settings {}", self.settings_schema));
            lines.extend(self.imports.iter().map(|import| format!("imports  {import}")));
        }
        lines.extend(
            self.problems
                .iter()
                .map(|p| format!("problem  {} ({})", p.message, p.code)),
        );
        lines.push(if self.good && self.id == "default" {
            "good, and the embedded one's: a plugin needs an id of its own".to_owned()
        } else if self.good {
            format!(
                "good: put it into plugins/{}/{PLUGIN_FILE} to use it for {}",
                self.id, self.kind
            )
        } else {
            "bad: a node would not run it".to_owned()
        });
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("plugin.wasm");
        std::fs::write(&file, b"not wasm").unwrap();
        let report = check(&file, "{}").unwrap();
        assert!(!report.good);
        assert_eq!(report.problems[0].code, "plugin-does-not-compile");
        for unreadable in [directory.path().join("absent"), directory.path().to_owned()] {
            let failure = check(&unreadable, "{}").unwrap_err();
            assert!(failure.code == "plugin-unreadable" && failure.help.starts_with("name a component"));
        }
    }
}
