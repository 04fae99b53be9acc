//! The log's files: a new one begins after a time or at a size, the oldest go.
//!
//! A file is named by the time of its first line (`cvp.2026-11-24T10-00-00.000.log`), so that names sort by age and a restarted node goes on
//! in the file it left.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

/// Files kept.
const FILES_MAX: usize = 30;

const STAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]-[minute]-[second].[subsecond digits:3]");

/// When a new file begins.
#[derive(Debug, Clone, Copy)]
pub struct RollAt {
    /// `log.dump_interval`.
    pub age: std::time::Duration,
    /// `log.max_log_size`, bytes.
    pub bytes: u64,
}

/// The file that lines go to now.
#[derive(Debug)]
pub(super) struct RollingFile {
    directory: PathBuf,
    at: Arc<ArcSwap<RollAt>>,
    file: File,
    begun: OffsetDateTime,
    bytes: u64,
}

impl RollingFile {
    /// Goes on in the newest file of `directory`, or begins one.
    ///
    /// # Errors
    /// The directory or the file cannot be written.
    pub(super) fn open(directory: &Path, at: Arc<ArcSwap<RollAt>>) -> io::Result<Self> {
        Self::open_at(directory, at, OffsetDateTime::now_utc())
    }

    fn open_at(directory: &Path, at: Arc<ArcSwap<RollAt>>, now: OffsetDateTime) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let newest = names(directory)?.pop().and_then(|name| stamp_of(&name));
        let begun = newest.unwrap_or(now);
        let (file, bytes) = open_file(directory, begun)?;
        let mut rolling = Self {
            directory: directory.to_owned(),
            at,
            file,
            begun,
            bytes,
        };
        if rolling.is_due(now) {
            rolling.roll(now)?;
        }
        Ok(rolling)
    }

    fn is_due(&self, now: OffsetDateTime) -> bool {
        let at = self.at.load();
        let age = Duration::try_from(at.age).unwrap_or(Duration::MAX);
        self.bytes >= at.bytes || now - self.begun >= age
    }

    fn roll(&mut self, now: OffsetDateTime) -> io::Result<()> {
        let (file, bytes) = open_file(&self.directory, now)?;
        (self.file, self.bytes, self.begun) = (file, bytes, now);
        let mut names = names(&self.directory)?;
        let surplus = names.len().saturating_sub(FILES_MAX);
        for name in names.drain(..surplus) {
            std::fs::remove_file(self.directory.join(name))?;
        }
        Ok(())
    }

    fn write_at(&mut self, line: &[u8], now: OffsetDateTime) -> io::Result<usize> {
        if self.is_due(now) {
            // A directory that takes no new file costs nothing but the bound: lines go on into the old one.
            let _ = self.roll(now);
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }
}

impl Write for RollingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_at(line, OffsetDateTime::now_utc())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn open_file(directory: &Path, begun: OffsetDateTime) -> io::Result<(File, u64)> {
    let stamp = begun.format(&STAMP).map_err(io::Error::other)?;
    let path = directory.join(format!("cvp.{stamp}.log"));
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// The time in a file's name; none for files of others.
fn stamp_of(name: &str) -> Option<OffsetDateTime> {
    let stamp = name.strip_prefix("cvp.")?.strip_suffix(".log")?;
    Some(PrimitiveDateTime::parse(stamp, &STAMP).ok()?.assume_utc())
}

/// Our files, oldest first.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if stamp_of(&name).is_some() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: RollAt = RollAt {
        age: std::time::Duration::from_secs(3600),
        bytes: 10,
    };

    fn measures() -> Arc<ArcSwap<RollAt>> {
        Arc::new(ArcSwap::from_pointee(AT))
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_new_file_begins_at_the_size_and_after_the_time() {
        let directory = tempfile::tempdir().unwrap();
        let count = || names(directory.path()).unwrap().len();
        let mut log = RollingFile::open_at(directory.path(), measures(), at(0)).unwrap();
        log.write_at(b"12345\n", at(1)).unwrap();
        log.write_at(b"12345\n", at(2)).unwrap();
        assert_eq!(count(), 1, "a line is not cut");
        log.write_at(b"x\n", at(3)).unwrap();
        assert_eq!(count(), 2);
        log.write_at(b"y\n", at(3602)).unwrap();
        assert_eq!(count(), 2);
        log.write_at(b"z\n", at(3603)).unwrap();
        assert_eq!(count(), 3);
        let oldest = std::fs::read_to_string(directory.path().join("cvp.2027-01-15T08-00-00.000.log")).unwrap();
        assert_eq!(oldest, "12345\n12345\n");
    }

    #[test]
    fn other_measures_hold_for_the_file_that_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let measures = measures();
        let mut log = RollingFile::open_at(directory.path(), Arc::clone(&measures), at(0)).unwrap();
        log.write_at(b"12345678\n", at(1)).unwrap();
        measures.store(Arc::new(RollAt { bytes: 5, ..AT }));
        log.write_at(b"x\n", at(2)).unwrap();
        assert_eq!(names(directory.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_restart_goes_on_in_the_file_it_left_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("shell.history"), "kept").unwrap();
        for round in 0..40 {
            let mut log = RollingFile::open_at(directory.path(), measures(), at(round * 10)).unwrap();
            log.write_at(b"123456\n", at(round * 10)).unwrap();
            drop(log);
            let mut log = RollingFile::open_at(directory.path(), measures(), at(round * 10 + 5)).unwrap();
            log.write_at(b"abcdef\n", at(round * 10 + 5)).unwrap();
        }
        let names = names(directory.path()).unwrap();
        assert_eq!(names.len(), FILES_MAX);
        for name in names {
            let text = std::fs::read_to_string(directory.path().join(name)).unwrap();
            assert_eq!(text, "123456\nabcdef\n");
        }
        assert!(directory.path().join("shell.history").exists());
    }
}
