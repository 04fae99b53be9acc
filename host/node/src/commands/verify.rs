//! `cvp verify`: recomputes every hash and the state commitment, on a running or a stopped node.

use std::io::IsTerminal;

use cvp_core::types::{Height, Namespace};
use serde_json::Value;

use super::output::{Context, decode};
use crate::assembly::verify as stopped;
use crate::ipc::{Exit, Failure, Request};

/// Arguments of `verify`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// One namespace; all when absent.
    #[arg(long, value_name = "NAME")]
    namespace: Option<Namespace>,
    /// First height; the start of the history when absent.
    #[arg(long, value_name = "H")]
    from: Option<Height>,
    /// Last height; the tip when absent.
    #[arg(long, value_name = "H")]
    to: Option<Height>,
}

/// Runs `verify`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    if let (Some(from), Some(to)) = (arguments.from, arguments.to)
        && from > to
    {
        return Err(Failure::usage(
            format!("--from {from} is above --to {to}: there is no record between them"),
            "name the lower height with --from",
        ));
    }
    let request = Request::Verify {
        namespace: arguments.namespace.clone(),
        from: arguments.from,
        to: arguments.to,
    };
    let bar = (!context.json && std::io::stderr().is_terminal()).then(indicatif::ProgressBar::new_spinner);
    let on_progress = |line: Value| {
        if let Some(bar) = &bar {
            bar.set_message(format!(
                "{} height {}",
                line["namespace"].as_str().unwrap_or(""),
                line["height"]
            ));
            bar.tick();
        }
    };
    let answer = match context.connect() {
        Ok(mut connection) => connection.call(&request, on_progress)?,
        Err(failure) if failure.exit == Exit::NoNode => {
            let wanted = stopped::Wanted {
                namespace: arguments.namespace.clone(),
                from: arguments.from,
                to: arguments.to,
            };
            stopped::verify_stopped(&context.root, &wanted, &mut |line| on_progress(line))?
        }
        Err(failure) => return Err(failure),
    };
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let report: stopped::Report = decode(answer)?;
    context.print(&report, stopped::Report::human);
    Ok(if report.good { Exit::Done } else { Exit::Failed })
}
