//! `cvp config get|set|list`: values of the configuration. A change that matters is on both nodes when the command returns.

use serde::{Deserialize, Serialize};

use super::output::{Context, decode};
use crate::assembly::Changed;
use crate::ipc::{Exit, Failure, Request};

/// Arguments of `config`.
#[derive(clap::Subcommand, Debug)]
pub enum Arguments {
    /// One value.
    Get {
        /// File below configuration/, such as dynamic.toml or global/ns_static.toml.
        file: String,
        /// Dotted key, such as cvp.max_rate.
        key: String,
    },
    /// Changes one value (provider). What matters is changed on both nodes, or on neither.
    Set {
        /// File below configuration/.
        file: String,
        /// Dotted key.
        key: String,
        /// The new value: true, 12, "text" or plain text, ["a", "b"].
        value: String,
        /// Fail when no standby can hold it too, whatever the key.
        #[arg(long)]
        must_replicate: bool,
    },
    /// Every value, and how a change of it reaches the standby: strong, weak or local.
    List {
        /// One file; all without it.
        file: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    file: String,
    key: String,
    value: String,
    weight: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entries {
    values: Vec<Entry>,
}

/// Runs `config`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    match arguments {
        Arguments::Get { file, key } => {
            let request = Request::ConfigGet {
                file: file.clone(),
                key: key.clone(),
            };
            let answer: Entry = decode(context.call(&request, |_| {})?)?;
            context.print(&answer, |answer| answer.value.clone());
        }
        Arguments::Set {
            file,
            key,
            value,
            must_replicate,
        } => {
            let request = Request::ConfigSet {
                file: file.clone(),
                key: key.clone(),
                value: value.clone(),
                must_replicate: *must_replicate,
            };
            let answer: Changed = decode(context.call(&request, |_| {})?)?;
            context.print(&answer, human);
        }
        Arguments::List { file } => {
            let request = Request::ConfigList { file: file.clone() };
            let answer: Entries = decode(context.call(&request, |_| {})?)?;
            context.print(&answer, |answer| {
                let mut lines = Vec::new();
                let mut last = "";
                for entry in &answer.values {
                    if entry.file != last {
                        lines.push(format!("{}:", entry.file));
                        last = &entry.file;
                    }
                    lines.push(format!("  {:<6}  {} = {}", entry.weight, entry.key, entry.value));
                }
                lines.join("\n")
            });
        }
    }
    Ok(Exit::Done)
}

/// What happened, in a sentence.
fn human(changed: &Changed) -> String {
    let old = changed.old.as_deref().unwrap_or("not set");
    let what = format!("{} {}: {old} -> {}", changed.file, changed.key, changed.new);
    let when = match changed.takes_effect.as_str() {
        "now" => "in force now".to_owned(),
        "never" => "of no effect on this node".to_owned(),
        _ => match changed.file.split_once('/') {
            Some((namespace, _)) if namespace != "global" => {
                format!("in force after the next start of namespace {namespace}")
            }
            _ => "in force after the next start".to_owned(),
        },
    };
    let where_to = match changed.answer.as_str() {
        "unchanged" => {
            return format!(
                "{} {} is {} already: nothing was changed",
                changed.file, changed.key, changed.new
            );
        }
        "replicated" => "written on both nodes",
        "local" => "written on this node only, no standby is attached: it reaches the standby when it attaches",
        _ if changed.attached => "written on this node; the standby copies it within a second",
        _ => "written on this node only, no standby is attached: it copies this when it attaches",
    };
    let mut lines = vec![format!("{what}; {where_to}; {when}")];
    lines.extend(changed.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}
