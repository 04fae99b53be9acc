//! `cvp enable` and `cvp disable`: the provider accepts a standby, or not.

use serde::{Deserialize, Serialize};

use super::output::{Context, decode};
use crate::ipc::{Exit, Failure, Request};

/// What the node answers.
#[derive(Debug, Serialize, Deserialize)]
struct Enabled {
    enabled: bool,
}

/// Runs `enable` or `disable`.
pub fn run(context: &Context, enable: bool) -> Result<Exit, Failure> {
    let request = if enable { Request::Enable } else { Request::Disable };
    let answer: Enabled = decode(context.call(&request, |_| {})?)?;
    context.print(&answer, |answer| {
        if answer.enabled {
            "cvp is enabled: a standby may connect".to_owned()
        } else {
            "cvp is disabled: standbys are refused".to_owned()
        }
    });
    Ok(Exit::Done)
}
