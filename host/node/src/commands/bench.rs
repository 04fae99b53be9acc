//! `cvp bench`: measures this program beside what the machine can do.

use std::path::{Path, PathBuf};

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
    /// Bytes of the chain that is copied, 1 GiB unless told otherwise (catch-up, partitions, strategy).
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
    check(arguments)?;
    let options = Options {
        seconds: arguments.seconds,
        size: arguments.size,
        bytes: arguments.bytes,
        runs: usize::try_from(arguments.runs).unwrap_or(3),
        directory: arguments.dir.clone().unwrap_or_else(cache),
    };
    let mut report = Report::new(arguments.scenario.name(), context.json, print_line, print_note);
    let failed = |help: &str| {
        let help = help.to_owned();
        move |error: anyhow::Error| Failure::failed("bench-failed", format!("{error:#}"), help)
    };
    bench::run(arguments.scenario, &options, &mut report, print_note)
        .map_err(failed("look at the lines above; --dir names another disk"))?;
    if let Some(file) = &arguments.svg {
        bench::plot(report.lines(), file).map_err(failed("name another file with --svg"))?;
    }
    Ok(Exit::Done)
}

/// What would not be heeded is refused.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let scenario = arguments.scenario;
    for (option, given, takes) in [
        (
            "--size",
            arguments.size.is_some(),
            Scenario::takes_size as fn(Scenario) -> bool,
        ),
        ("--bytes", arguments.bytes.is_some(), Scenario::takes_bytes),
    ] {
        if given && !takes(scenario) {
            let taking = Scenario::value_variants().iter().filter(|scenario| takes(**scenario));
            let taking: Vec<&str> = taking.map(|scenario| scenario.name()).collect();
            return Err(Failure::usage(
                format!("`cvp bench {}` takes no {option}", scenario.name()),
                format!("leave it out; {option} goes with {}", listed(&taking)),
            ));
        }
    }
    // Known before the first run, not after the last.
    let parent = arguments.svg.as_deref().and_then(Path::parent);
    if let Some(parent) = parent.filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
        return Err(Failure::usage(
            format!("there is no directory {}", parent.display()),
            "make it, or name another file with --svg",
        ));
    }
    Ok(())
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

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_has_the_name_it_is_called_by() {
        for scenario in Scenario::value_variants() {
            let called = scenario.to_possible_value().unwrap();
            assert_eq!(called.get_name(), scenario.name());
        }
    }
}
