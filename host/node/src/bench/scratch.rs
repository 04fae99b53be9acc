//! The directory of a benchmark's runs: its own while it works, removed at its end, and by the next one when there was none.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::interrupt;
use crate::durable::{DurableError, LockFile};

const PREFIX: &str = "run-";
/// A file that is longer holds records or tables.
const LONG_BYTES: u64 = 1 << 20;
/// Held by the benchmark whose directory it is.
const OWNER: &str = "owner.lock";
/// Held by the node whose root it is, with its process id.
const NODE: &str = "cvp.pid.lock";

/// A directory of this process's runs; removed when dropped.
pub struct Scratch(
    pub PathBuf,
    #[expect(dead_code, reason = "held while the directory is in use")] LockFile,
);

impl Scratch {
    /// Makes one in `directory`, and removes those whose owners are gone; answers which.
    ///
    /// # Errors
    /// The disk.
    pub fn make(directory: &Path) -> Result<(Scratch, Vec<PathBuf>)> {
        let swept = sweep(directory);
        let path = directory.join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        let owner = LockFile::acquire(&path.join(OWNER))?;
        Ok((Scratch(path, owner), swept))
    }
}

/// Empties the long files below `directory`, and removes none: the memory that they are cached in is free for the next run, as it was for the
/// first, and no inode is.
///
/// # Errors
/// The disk.
pub fn empty_long_files(directory: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        if kind.is_dir() {
            empty_long_files(&path)?;
        } else if kind.is_file() && kind.len() > LONG_BYTES {
            let file = std::fs::File::options().write(true).open(&path);
            file.and_then(|file| file.set_len(0))
                .with_context(|| format!("empty {}", path.display()))?;
        }
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes what killed benchmarks left, with the nodes that they left standing still.
fn sweep(directory: &Path) -> Vec<PathBuf> {
    let mut swept = directories(directory);
    swept.retain(|path| is_abandoned(path));
    for path in &swept {
        interrupt::kill_all(directories(path).iter().filter_map(|root| running_node(root)));
        let _ = std::fs::remove_dir_all(path);
    }
    swept
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Its name is a benchmark's, and that one does not run.
fn is_abandoned(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let pid = name.and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
    let Some(pid) = pid else { return false };
    match LockFile::share(&path.join(OWNER)) {
        Ok(Some(_)) => true,
        // Of an earlier release, or of one that has only just begun.
        Ok(None) => !Path::new(&format!("/proc/{pid}")).exists(),
        Err(_) => false,
    }
}

fn running_node(root: &Path) -> Option<u32> {
    match LockFile::share(&root.join(NODE)) {
        Err(DurableError::Locked { holder, .. }) => holder.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_benchmarks_left_goes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let alive = std::process::id();
        // No process has this id: the system's ids end below.
        let gone = u32::MAX;
        for name in ["run-1", &format!("run-{gone}"), "run-x", "chain-v1", "tls"] {
            std::fs::create_dir_all(at(name).join("receiver")).unwrap();
        }
        // The lock decides where there is one: process 1 lives, and holds none.
        drop(LockFile::acquire(&at("run-1").join(OWNER)).unwrap());
        let (scratch, mut swept) = Scratch::make(directory.path()).unwrap();
        swept.sort();
        assert_eq!(swept, [at("run-1"), at(&format!("run-{gone}"))]);
        assert_eq!(scratch.0, at(&format!("run-{alive}")));
        assert_eq!(sweep(directory.path()), Vec::<PathBuf>::new(), "this one is at work");
        for name in ["run-x", "chain-v1", "tls"] {
            assert!(at(name).exists(), "{name}");
        }
        drop(scratch);
        assert!(!at(&format!("run-{alive}")).exists());
    }
}
