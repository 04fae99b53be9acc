//! `cvp start`: runs the node in the foreground until SIGTERM or SIGINT.

use super::output::{Context, print_line};
use crate::assembly::{self, Ready};
use crate::ipc::{Exit, Failure};

/// Arguments of `start`.
#[derive(clap::Args, Debug)]
pub struct Arguments {}

/// Runs `start`.
pub fn run(context: &Context, _arguments: &Arguments) -> Result<Exit, Failure> {
    let json = context.json;
    assembly::run(&context.root, move |ready| print_line(&line(ready, json)))?;
    Ok(Exit::Done)
}

/// The one line that says that the node serves.
fn line(ready: &Ready, json: bool) -> String {
    if json {
        return serde_json::json!({
            "ready": true,
            "jsonrpc": ready.jsonrpc,
            "jsonrpc_tls": ready.https,
            "p2p": ready.p2p,
            "metrics": ready.metrics,
        })
        .to_string();
    }
    let closed = |address: &Option<String>| address.clone().unwrap_or_else(|| "closed".to_owned());
    format!(
        "ready (json-rpc {}{}, p2p {})",
        closed(&ready.jsonrpc),
        if ready.https && ready.jsonrpc.is_some() {
            ", HTTPS"
        } else {
            ""
        },
        closed(&ready.p2p)
    )
}
