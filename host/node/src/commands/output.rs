//! What every command shares: where the node is, how answers and errors are printed.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

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

/// clap's error in our form.
pub fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let what = text.lines().next().unwrap_or("wrong usage");
    let what = what.strip_prefix("error: ").unwrap_or(what);
    Failure::usage(what, "see `cvp --help`")
}
