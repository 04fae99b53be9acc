//! `cvp plugin list|check|reset`.

use super::Context;
use crate::ipc::{Exit, Failure};

/// Arguments of `plugin`.
#[derive(clap::Subcommand, Debug)]
pub enum Arguments {
    /// Lists the strategies.
    List,
}

/// Runs `plugin`.
pub fn run(_context: &Context, _arguments: &Arguments) -> Result<Exit, Failure> {
    Err(Failure::failed("not-ready", "not available in this build", ""))
}
