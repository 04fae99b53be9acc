//! `cvp start`: runs the node in the foreground until SIGTERM or SIGINT.

use super::output::{Context, print_line};
use crate::assembly::{self, Ready};
use crate::ipc::{Exit, Failure};

/// Arguments of `start`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Also stops when its standard input ends: with whoever holds the other end of that pipe, however that one ends.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// Runs `start`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let json = context.json;
    if arguments.until_stdin_ends {
        let watch = std::thread::Builder::new().name("stdin".into()).spawn(stop_at_end);
        watch.map_err(|error| Failure::failed("no-thread", error.to_string(), "raise the limit of threads"))?;
    }
    assembly::run(&context.root, move |ready| print_line(&line(ready, json)))?;
    Ok(Exit::Done)
}

/// Stops this process as a signal does, once there is nothing more to read.
fn stop_at_end() {
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
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
