//! `cvp bench`: what this program does beside what the machine can do, both measured in one run.
//!
//! Real parts only: the nodes are processes of this very binary over mutual TLS, the chains are made by the executor, the transactions
//! are signed. Owns the scenarios, the ceilings (`pipe`) and the form of a figure (`report`). Judges nothing: it prints.

mod plot;
mod report;
mod machine;
mod nodes;
mod chain;
mod pipe;
mod load;
mod catch_up;
mod bootstrap;
mod live;
mod overhead;
mod strong;
mod partitions;
mod promote;
mod strategy;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

pub use plot::plot;
pub use report::Report;

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Scenario {
    /// A standby copies a long chain: bytes and blocks a second beside a bare TLS pipe.
    CatchUp,
    /// A standby begins from a snapshot of the state: bytes a second beside a bare TLS pipe.
    Bootstrap,
    /// The live tail: from a block's commit to the standby's durable acknowledgement.
    Live,
    /// The producer's block rate with a standby beside the rate without.
    Overhead,
    /// A change of the configuration, or of a message queue, that both disks hold: from the request to the answer.
    Strong,
    /// The same bytes in one namespace, in ten, in a hundred.
    Partitions,
    /// From `cvp upgrade` to the first new block.
    Promote,
    /// A call into a strategy, and the share of the processor that strategies take.
    Strategy,
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bound of each timed run, seconds.
    pub seconds: Option<u64>,
    /// A block's record, bytes: one case of that size in place of the usual ones (`catch-up`).
    pub size: Option<u64>,
    /// Bytes of the chain that is copied, in place of the usual ones (`catch-up`).
    pub bytes: Option<u64>,
    /// Runs a figure; at least three.
    pub runs: usize,
    /// Where chains are cached and nodes write: the disk that is measured.
    pub directory: PathBuf,
}

/// A directory of this process's runs; removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn make(directory: &std::path::Path) -> Result<Scratch> {
        let path = directory.join(format!("run-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What every scenario works with.
struct Bench<'a> {
    options: &'a Options,
    scratch: Scratch,
    report: &'a mut Report,
}

impl Bench<'_> {
    /// Seconds of a timed run: what was asked for, else `usual`.
    fn seconds(&self, usual: u64) -> u64 {
        self.options.seconds.unwrap_or(usual).max(1)
    }
}

/// Runs one scenario; each figure is printed as soon as it is known.
///
/// # Errors
/// The disk, a node that does not start, or fewer than three runs.
pub fn run(scenario: Scenario, options: &Options, report: &mut Report) -> Result<()> {
    ensure!(
        options.runs >= 3,
        "a median needs at least three runs: --runs 3 or more"
    );
    let scratch = Scratch::make(&options.directory)?;
    report.note(&machine::describe(&options.directory));
    if let Some(warning) = machine::busy() {
        report.note(&warning);
    }
    let mut bench = Bench {
        options,
        scratch,
        report,
    };
    match scenario {
        Scenario::CatchUp => catch_up::run(&mut bench),
        Scenario::Bootstrap => bootstrap::run(&mut bench),
        Scenario::Live => live::run(&mut bench),
        Scenario::Overhead => overhead::run(&mut bench),
        Scenario::Strong => strong::run(&mut bench),
        Scenario::Partitions => partitions::run(&mut bench),
        Scenario::Promote => promote::run(&mut bench),
        Scenario::Strategy => strategy::run(&mut bench),
    }
}
