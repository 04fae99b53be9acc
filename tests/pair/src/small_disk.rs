//! A small file system for a node: memory of a fixed size, mounted in a mount namespace of its own, which a process holds for as long as the
//! test runs. The node starts in there ([`crate::node::Node::inside`]); everything else of its root is as it is outside.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The mounted file system.
pub struct SmallDisk {
    holder: Child,
    /// Where it is, as everybody can reach it.
    seen_at: PathBuf,
}

impl SmallDisk {
    /// Mounts `bytes` of memory at the directory `at`; none where this machine lets nobody mount, with a word of it to stderr.
    pub fn mount(at: &Path, bytes: u64) -> Result<Option<Self>> {
        std::fs::create_dir_all(at)?;
        let script = "mount -t tmpfs -o \"size=$2\" small \"$1\" && echo mounted && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(at)
            .arg(bytes.to_string())
            // Its end is the end of this process, or of what owns it.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("unshare (of util-linux)")?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().context("no stdout")?).read_line(&mut line)?;
        if line.trim() != "mounted" {
            let mut why = String::new();
            holder.stderr.take().context("no stderr")?.read_to_string(&mut why)?;
            holder.wait()?;
            eprintln!(
                "nothing was seen: this machine mounts no file system for a test: {}",
                why.trim()
            );
            return Ok(None);
        }
        let below = at.strip_prefix("/")?;
        let seen_at = PathBuf::from(format!("/proc/{}/root", holder.id())).join(below);
        Ok(Some(Self { holder, seen_at }))
    }

    /// What starts a process in there.
    pub fn entry(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        let words = [
            "nsenter",
            "--target",
            &target,
            "--user",
            "--mount",
            "--preserve-credentials",
            "--",
        ];
        words.map(str::to_owned).into()
    }

    /// Bytes that are free.
    pub fn free(&self) -> Result<u64> {
        let found = statvfs(&self.seen_at)?;
        Ok(found.f_bavail * found.f_frsize)
    }

    /// Somebody else's file takes all but `left` bytes.
    pub fn fill(&self, left: u64) -> Result<()> {
        let free = self.free()?;
        ensure!(free > left, "{free} bytes are free, and {left} are to be left");
        let file = std::fs::File::create(self.filler())?;
        fallocate(&file, FallocateFlags::empty(), 0, free - left)?;
        Ok(())
    }

    /// It is gone again.
    pub fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.seen_at.join("somebody-elses")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
