//! `cvp bench`: what this program does beside what the machine can do, both measured in one run.
//!
//! Real parts only: the nodes are processes of this very binary over mutual TLS, the chains are made by the executor, the transactions
//! are signed. Owns the scenarios, the ceilings (`pipe`) and the form of a figure (`report`). Judges nothing: it prints.

mod plot;
mod report;
mod machine;
mod interrupt;
mod scratch;
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

use anyhow::{Result, ensure};

pub use plot::plot;
pub use report::Report;
use scratch::Scratch;

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

impl Scenario {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::CatchUp => "catch-up",
            Scenario::Bootstrap => "bootstrap",
            Scenario::Live => "live",
            Scenario::Overhead => "overhead",
            Scenario::Strong => "strong",
            Scenario::Partitions => "partitions",
            Scenario::Promote => "promote",
            Scenario::Strategy => "strategy",
        }
    }

    /// Has one case of any size of record.
    pub fn takes_size(self) -> bool {
        self == Scenario::CatchUp
    }

    /// Copies a chain of any length.
    pub fn takes_bytes(self) -> bool {
        matches!(self, Scenario::CatchUp | Scenario::Partitions | Scenario::Strategy)
    }
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bound of each timed run, seconds.
    pub seconds: Option<u64>,
    /// A block's record, bytes: one case of that size in place of the usual ones (`catch-up`).
    pub size: Option<u64>,
    /// Bytes of the chain that is copied, in place of the usual ones (`catch-up`, `strategy`).
    pub bytes: Option<u64>,
    /// Runs a figure; at least three.
    pub runs: usize,
    /// Where chains are cached and nodes write: the disk that is measured.
    pub directory: PathBuf,
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

/// Runs one scenario; each figure is printed as soon as it is known. A signal ends it, and then the process; `say` is told.
///
/// # Errors
/// The disk, a node that does not start, or fewer than three runs.
pub fn run(scenario: Scenario, options: &Options, report: &mut Report, say: fn(&str)) -> Result<()> {
    ensure!(
        options.runs >= 3,
        "a median needs at least three runs: --runs 3 or more"
    );
    let (scratch, swept) = Scratch::make(&options.directory)?;
    interrupt::watch(&scratch.0, say)?;
    report.note(&machine::describe(&options.directory));
    for path in swept {
        report.note(&format!(
            "removed {}: what a benchmark left that was killed",
            path.display()
        ));
    }
    if let Some(warning) = machine::busy() {
        report.note(&warning);
    }
    let mut bench = Bench {
        options,
        scratch,
        report,
    };
    let done = match scenario {
        Scenario::CatchUp => catch_up::run(&mut bench),
        Scenario::Bootstrap => bootstrap::run(&mut bench),
        Scenario::Live => live::run(&mut bench),
        Scenario::Overhead => overhead::run(&mut bench),
        Scenario::Strong => strong::run(&mut bench),
        Scenario::Partitions => partitions::run(&mut bench),
        Scenario::Promote => promote::run(&mut bench),
        Scenario::Strategy => strategy::run(&mut bench),
    };
    interrupt::settle();
    done
}
