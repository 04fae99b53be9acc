//! `cvp namespace list`: the running namespaces.

use serde::{Deserialize, Serialize};

use super::output::{Context, decode};
use crate::ipc::{Exit, Failure, Request};

/// Arguments of `namespace`.
#[derive(clap::Subcommand, Debug)]
pub enum Arguments {
    /// Names of the running namespaces.
    List,
}

/// What the node answers.
#[derive(Debug, Serialize, Deserialize)]
struct Namespaces {
    namespaces: Vec<String>,
}

/// Runs `namespace`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    match arguments {
        Arguments::List => {
            let answer: Namespaces = decode(context.call(&Request::NamespaceList, |_| {})?)?;
            context.print(&answer, |answer| answer.namespaces.join(","));
            Ok(Exit::Done)
        }
    }
}
