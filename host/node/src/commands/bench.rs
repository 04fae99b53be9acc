//! `cvp bench`.

use super::Context;
use crate::ipc::{Exit, Failure};

/// Arguments of `bench`.
#[derive(clap::Args, Debug)]
pub struct Arguments {}

/// Runs `bench`.
pub fn run(_context: &Context, _arguments: &Arguments) -> Result<Exit, Failure> {
    Err(Failure::failed("not-ready", "not available in this build", ""))
}
