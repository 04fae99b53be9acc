//! What every command shares: where the node is, how answers and errors are printed.

use std::io::Write;
use std::path::PathBuf;

use clap::CommandFactory;
use serde::Serialize;
use serde_json::Value;

use super::Cli;
use crate::config::Root;
use crate::ipc::{self, Failure, Request};

/// Where a command works and how it prints.
#[derive(Clone, Debug)]
pub struct Context {
    /// The node's root directory.
    pub root: Root,
    /// Answers and errors as JSON.
    pub json: bool,
    /// `--ipc`: file of the socket, relative to the root.
    pub socket: Option<PathBuf>,
}

impl Context {
    /// Asks the running node; exit code 3 when none answers.
    pub fn call(&self, request: &Request, on_progress: impl FnMut(Value)) -> Result<Value, Failure> {
        self.connect()?.call(request, on_progress)
    }

    /// Connects to the running node; exit code 3 when none answers.
    pub fn connect(&self) -> Result<ipc::Connection, Failure> {
        let socket = self.socket.clone().unwrap_or_else(|| self.root.socket());
        ipc::Connection::open(self.root.directory(), &socket)
    }

    /// Prints an answer: one JSON line, or what `human` makes of it.
    pub fn print<T: Serialize>(&self, answer: &T, human: impl FnOnce(&T) -> String) {
        let text = if self.json {
            serde_json::to_string(answer).unwrap_or_default()
        } else {
            human(answer)
        };
        print_line(&text);
    }
}

/// A line to stdout; a closed pipe is no reason to panic.
pub fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// A line to stderr.
pub fn print_note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// The form of every error.
pub fn print_failure(failure: &Failure, json: bool) {
    if json {
        print_note(&failure.to_json().to_string());
    } else {
        print_note(&format!("Error: {failure}"));
    }
}

/// An answer in the shape that this command knows.
pub fn decode<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::failed(
            "bad-answer",
            format!("the node's answer was not understood: {error}"),
            "use the `cvp` of the same version as the node's",
        )
    })
}

/// clap's error about `words` in our form: its first paragraph, its tips, and the help of the command that was meant.
pub fn usage_failure<S: AsRef<str>>(error: &clap::Error, words: &[S]) -> Failure {
    let command = command_of(words);
    let help = format!("see `{command} --help`");
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage(format!("a command is missing after `{command}`"), help);
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let mut lines = text.lines().map(str::trim);
    let first: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let tips: Vec<&str> = lines.filter_map(|line| line.strip_prefix("tip: ")).collect();
    let mut what = first.join(" ");
    if !tips.is_empty() {
        what.push_str(&format!(" ({})", tips.join("; ")));
    }
    Failure::usage(what, help)
}

/// The command that `words` name, as far as they name one: `cvp plugin check`.
fn command_of<S: AsRef<str>>(words: &[S]) -> String {
    let whole = Cli::command();
    let (mut command, mut name) = (&whole, "cvp".to_owned());
    for word in words {
        if let Some(inner) = command.find_subcommand(word.as_ref()) {
            name = format!("{name} {}", inner.get_name());
            command = inner;
        }
    }
    name
}
