//! The operator's commands: one file each. Every command but `init`, `certgen`, `start`, `bench` and `clear` is a client of ipc.

mod bench;
mod certgen;
mod clear;
mod config;
mod enable;
mod init;
mod mq;
mod namespace;
mod output;
mod plugin;
mod shell;
mod start;
mod status;
mod upgrade;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Root;
use crate::ipc::{Exit, Failure};

pub use output::Context;

/// An online node, its hot standby, and the operator's client for both.
#[derive(Parser, Debug)]
#[command(name = "cvp", version, about, max_term_width = 110)]
pub struct Cli {
    /// Root directory of the node.
    #[arg(long, global = true, env = "CVP_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,
    /// Answers and errors as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    old: OldSpelling,
    #[command(subcommand)]
    command: Option<Command>,
}

/// `cvp -s --ipc=hpc_1.ipc --nit --cmd="cvp status"`: the spelling of operators' existing scripts.
#[derive(clap::Args, Debug)]
struct OldSpelling {
    /// Opens the shell (the same as `cvp shell`).
    #[arg(short = 's', hide = true)]
    shell: bool,
    /// File of the node's socket.
    #[arg(long, global = true, value_name = "FILE")]
    ipc: Option<PathBuf>,
    /// Does not open a prompt: runs --cmd and ends.
    #[arg(long, hide = true)]
    nit: bool,
    /// The line to run.
    #[arg(long, hide = true, value_name = "LINE")]
    cmd: Option<String>,
}

/// What `cvp` can be asked.
#[derive(Subcommand, Debug)]
enum Command {
    /// Writes a ready root directory.
    Init(init::Arguments),
    /// Makes a TLS CA and a certificate for each host.
    Certgen(certgen::Arguments),
    /// Runs the node in the foreground.
    Start(start::Arguments),
    /// Shows whether the pair is normal, and why not.
    Status(status::Arguments),
    /// Accepts a standby from now on (provider).
    Enable,
    /// Drops the standby and refuses new ones (provider).
    Disable,
    /// Promotes the standby to the online node (receiver).
    Upgrade(upgrade::Arguments),
    /// Namespaces of the node.
    #[command(subcommand)]
    Namespace(namespace::Arguments),
    /// Values of the configuration; changes that matter are made on both nodes.
    #[command(subcommand)]
    Config(config::Arguments),
    /// Message queues.
    #[command(subcommand)]
    Mq(mq::Arguments),
    /// Strategies.
    #[command(subcommand)]
    Plugin(plugin::Arguments),
    /// Wipes the copy and the binding of a stopped receiver.
    Clear(clear::Arguments),
    /// Recomputes every hash and the state commitment.
    Verify(verify::Arguments),
    /// Measures this program beside what the machine can do.
    Bench(bench::Arguments),
    /// Opens a prompt.
    Shell,
}

/// Runs the process's command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let words: Vec<String> = std::env::args_os()
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            return usage(&error, &words);
        }
    };
    let json = cli.json;
    match run(cli) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            output::print_failure(&failure, json);
            ExitCode::from(failure.exit.code())
        }
    }
}

/// clap's answer: help and version are no errors; the rest is one in our form.
fn usage(error: &clap::Error, words: &[String]) -> ExitCode {
    use clap::error::ErrorKind;
    let informs = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if informs {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let failure = output::usage_failure(error, words);
    output::print_failure(&failure, words.iter().any(|word| word == "--json"));
    ExitCode::from(failure.exit.code())
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let directory = cli.root.unwrap_or_else(|| PathBuf::from("."));
    let context = Context {
        root: Root::new(directory),
        json: cli.json,
        socket: cli.old.ipc,
    };
    match (cli.command, cli.old.cmd) {
        (Some(command), None) => dispatch(&context, command),
        (None, Some(line)) if cli.old.shell || cli.old.nit => shell::run_line(&context, &line),
        (None, None) if cli.old.shell => shell::run(&context),
        (None, None) => Err(Failure::usage("no command was given", "see `cvp --help`")),
        (_, Some(_)) => Err(Failure::usage(
            "--cmd goes with -s --nit and without another command",
            "write cvp -s --ipc=hpc_1.ipc --nit --cmd=\"cvp status\"",
        )),
    }
}

fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Init(arguments) => init::run(context, &arguments),
        Command::Certgen(arguments) => certgen::run(context, &arguments),
        Command::Start(arguments) => start::run(context, &arguments),
        Command::Status(arguments) => status::run(context, &arguments),
        Command::Enable => enable::run(context, true),
        Command::Disable => enable::run(context, false),
        Command::Upgrade(arguments) => upgrade::run(context, &arguments),
        Command::Namespace(arguments) => namespace::run(context, &arguments),
        Command::Config(arguments) => config::run(context, &arguments),
        Command::Mq(arguments) => mq::run(context, &arguments),
        Command::Plugin(arguments) => plugin::run(context, &arguments),
        Command::Clear(arguments) => clear::run(context, &arguments),
        Command::Verify(arguments) => verify::run(context, &arguments),
        Command::Bench(arguments) => bench::run(context, &arguments),
        Command::Shell => shell::run(context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_is_said_in_the_form_of_every_error() {
        let said = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let error = Cli::try_parse_from(&words).unwrap_err();
            output::usage_failure(&error, &words).to_string()
        };
        for (line, text) in [
            (
                "cvp verfy",
                "unrecognized subcommand 'verfy' (a similar subcommand exists: 'verify'); see `cvp --help`",
            ),
            (
                "cvp init d --hostname n",
                "the following required arguments were not provided: --role <provider|receiver>; see `cvp init --help`",
            ),
            (
                "cvp plugin",
                "a command is missing after `cvp plugin`; see `cvp plugin --help`",
            ),
            (
                "cvp bench nothing",
                "invalid value 'nothing' for '<SCENARIO>' [possible values: catch-up, bootstrap, live, overhead, strong, partitions, promote, strategy]; see `cvp bench --help`",
            ),
            (
                "cvp verify --to x",
                "invalid value 'x' for '--to <H>': invalid digit found in string; see `cvp verify --help`",
            ),
            (
                "cvp status --wach",
                "unexpected argument '--wach' found (a similar argument exists: '--watch'); see `cvp status --help`",
            ),
        ] {
            assert_eq!(said(line), text, "{line}");
        }
    }

    #[test]
    fn the_old_spelling_is_understood() {
        let cli = Cli::try_parse_from(["cvp", "-s", "--ipc=hpc_1.ipc", "--nit", "--cmd=cvp status"]).unwrap();
        assert!(cli.command.is_none() && cli.old.shell && cli.old.nit);
        assert_eq!(cli.old.cmd.as_deref(), Some("cvp status"));
    }
}
