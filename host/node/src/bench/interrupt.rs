//! What an interrupted benchmark leaves behind: nothing. SIGINT and SIGTERM end the processes that it started, then its directory goes.
//!
//! A benchmark that is killed cannot do that: its nodes end because their standard input does, and the next one removes the directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::nodes::{LOOK, pause};

/// Processes that were killed are waited for so long.
const END_MAX: Duration = Duration::from_secs(5);
/// Exit codes: 128 and the signal, as a shell has it.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

/// What is to be ended and removed; signals come to the process as a whole, and so this is one.
struct AtWork {
    ended: bool,
    processes: BTreeSet<u32>,
    directory: Option<PathBuf>,
}

static AT_WORK: Mutex<AtWork> = Mutex::new(AtWork {
    ended: false,
    processes: BTreeSet::new(),
    directory: None,
});

/// From here on a signal ends what is at work, and removes `directory`; `say` is told.
///
/// # Errors
/// The system gives no thread, or no signals.
pub fn watch(directory: &Path, say: fn(&str)) -> Result<()> {
    AT_WORK.lock().directory = Some(directory.to_path_buf());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let ended = move || {
        let (name, code) = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => ("SIGINT", INTERRUPTED),
                _ = terminate.recv() => ("SIGTERM", TERMINATED),
            }
        });
        say(&format!(
            "{name}: the nodes of this benchmark are ended, and what they wrote is removed"
        ));
        end();
        std::process::exit(code);
    };
    std::thread::Builder::new().name("signals".into()).spawn(ended)?;
    Ok(())
}

/// Nothing is started any more, what was ends, and the directory goes.
fn end() {
    let (processes, directory) = {
        let mut at_work = AT_WORK.lock();
        at_work.ended = true;
        (std::mem::take(&mut at_work.processes), at_work.directory.take())
    };
    kill_all(processes.iter().copied());
    // The measuring thread may still write a file of its own into it.
    let begun = Instant::now();
    while let Some(directory) = directory.as_deref().filter(|directory| directory.exists()) {
        let _ = std::fs::remove_dir_all(directory);
        if begun.elapsed() > END_MAX {
            return;
        }
        pause(LOOK);
    }
}

/// Kills processes, and waits until none of them runs.
pub fn kill_all(processes: impl Iterator<Item = u32> + Clone) {
    let begun = Instant::now();
    for pid in processes.clone() {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    while processes.clone().any(runs) && begun.elapsed() < END_MAX {
        pause(LOOK);
    }
}

/// A process that is dead and not waited for yet does not run.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Starts a process that a signal to this one ends.
///
/// # Errors
/// It cannot be started, or a signal came.
pub fn spawn(command: &mut Command) -> Result<Child> {
    let mut at_work = AT_WORK.lock();
    if at_work.ended {
        bail!("interrupted");
    }
    let process = command.spawn().context("start cvp")?;
    at_work.processes.insert(process.id());
    Ok(process)
}

/// Runs a process to its end.
///
/// # Errors
/// As [`spawn`].
pub fn output(command: &mut Command) -> Result<Output> {
    let process = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let pid = process.id();
    let output = process.wait_with_output();
    ended(pid);
    Ok(output?)
}

/// This process has ended, and was waited for.
pub fn ended(pid: u32) {
    AT_WORK.lock().processes.remove(&pid);
}

/// Does not come back when a signal came: then the thread that heard it has the last word, whatever failed for it here.
pub fn settle() {
    while AT_WORK.lock().ended {
        std::thread::park();
    }
}
