//! The machine that is measured: its load, its processors, and what a process used of it.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use core_affinity::CoreId;

/// One minute's load above which figures are not to be trusted.
const LOAD_MAX: f64 = 0.7;
/// The clock of `/proc/<pid>/stat`: `USER_HZ` is 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// One line on the machine and the place.
pub fn describe(directory: &Path) -> String {
    format!(
        "{} processors, load {:.2}, {:.0} GB of memory, nodes and chains in {}",
        processors(),
        load(),
        memory_bytes() / 1e9,
        directory.display()
    )
}

/// A warning when something else is at work here.
pub fn busy() -> Option<String> {
    let load = load();
    (load > LOAD_MAX)
        .then(|| format!("warning: load {load:.2}: something else is at work, the figures will not be comparable"))
}

/// How many processors this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(0.0)
}

fn memory_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kilobytes(&text, "MemTotal:").unwrap_or(0.0) * 1024.0
}

fn kilobytes(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Most resident memory that process `pid` ever had, bytes.
pub fn resident_bytes_max(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read the node's memory")?;
    let peak = kilobytes(&text, "VmHWM:").context("the system does not tell VmHWM")?;
    Ok(peak * 1024.0)
}

/// Processor time that process `pid` has used, seconds.
pub fn processor_seconds(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read the node's processor time")?;
    // The name in parentheses may hold anything: count from behind it.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    Ok((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
}

/// Runs `work` on a thread of its own, on processor `core` alone; what it starts stays there. A machine with fewer processors, or one that
/// does not pin, runs it anywhere.
pub fn on_core<T: Send>(core: Option<usize>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let pinned = move || {
        if let Some(id) = core.filter(|id| *id < processors()) {
            core_affinity::set_for_current(CoreId { id });
        }
        work()
    };
    let done = std::thread::scope(|scope| scope.spawn(pinned).join());
    done.map_err(|_| anyhow!("a thread of the benchmark panicked"))
}
