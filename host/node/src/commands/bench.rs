//! `cvp bench`: measures this program beside what the machine can do.

use std::path::PathBuf;

use clap::ValueEnum as _;

use super::Context;
use super::output::{print_line, print_note};
use crate::bench::{self, Options, Report, Scenario};
use crate::ipc::{Exit, Failure};

/// Arguments of `bench`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// What is measured.
    #[arg(value_enum)]
    scenario: Scenario,
    /// Bound of each timed run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Bytes of a block's record: one case of that size (catch-up).
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1024..=4 << 20))]
    size: Option<u64>,
    /// Bytes of the chain that is copied, 1 GiB unless told otherwise (catch-up).
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1 << 26..=1 << 38))]
    bytes: Option<u64>,
    /// Also draws the figures.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Runs a figure.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=99))]
    runs: u64,
    /// Where chains are kept and nodes write: the disk that is measured.
    #[arg(long, value_name = "DIR", env = "CVP_BENCH_DIR")]
    dir: Option<PathBuf>,
}

/// Runs `bench`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let options = Options {
        seconds: arguments.seconds,
        size: arguments.size,
        bytes: arguments.bytes,
        runs: usize::try_from(arguments.runs).unwrap_or(3),
        directory: arguments.dir.clone().unwrap_or_else(cache),
    };
    let name: &'static str = match arguments.scenario {
        Scenario::CatchUp => "catch-up",
        Scenario::Bootstrap => "bootstrap",
        Scenario::Live => "live",
        Scenario::Overhead => "overhead",
        Scenario::Strong => "strong",
        Scenario::Partitions => "partitions",
        Scenario::Promote => "promote",
        Scenario::Strategy => "strategy",
    };
    debug_assert!(
        arguments
            .scenario
            .to_possible_value()
            .is_some_and(|value| value.get_name() == name)
    );
    let mut report = Report::new(name, context.json, print_line, print_note);
    let failed = |help: &str| {
        let help = help.to_owned();
        move |error: anyhow::Error| Failure::failed("bench-failed", format!("{error:#}"), help)
    };
    bench::run(arguments.scenario, &options, &mut report)
        .map_err(failed("look at the lines above; --dir names another disk"))?;
    if let Some(file) = &arguments.svg {
        bench::plot(report.lines(), file).map_err(failed("name another file with --svg"))?;
    }
    Ok(Exit::Done)
}

/// `${XDG_CACHE_HOME:-$HOME/.cache}/cvp/bench`.
fn cache() -> PathBuf {
    let named = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("cvp/bench")
}
