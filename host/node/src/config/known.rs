//! What a look at a tree found of each file, so that the next look reads those alone that may be others since.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use cvp_core::replication::TreeFile;

/// A change so soon after another may have its time.
const STEP: Duration = Duration::from_millis(100);

/// The same where times are whole seconds.
const STEP_OF_SECONDS: Duration = Duration::from_secs(2);

/// What a change of a file's content changes with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    file: (u64, u64),
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(found: &Metadata) -> Stamp {
        Stamp {
            file: (found.dev(), found.ino()),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Whether every change after `now` gets another stamp.
    fn tells_changes_after(&self, now: SystemTime) -> bool {
        let step = match (self.modified.1, self.changed.1) {
            (0, 0) => STEP_OF_SECONDS,
            _ => STEP,
        };
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanos) = self.changed;
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
            return false;
        };
        now > Duration::new(seconds, nanos) + step
    }
}

/// What a file of a tree is to the copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// It is copied.
    File(TreeFile),
    /// It stays where it is: the code, and why.
    Left(&'static str, String),
}

/// What the last looks found, by the path in the tree.
#[derive(Debug, Default)]
pub struct Known {
    found: HashMap<String, (Stamp, Found)>,
    /// Of the look that goes on.
    next: HashMap<String, (Stamp, Found)>,
}

impl Known {
    /// A look begins; at a whole one nothing counts that is known: a write through a mapping changes a file and not its times.
    pub(super) fn begin(&mut self, whole: bool) {
        if whole {
            self.found.clear();
        }
    }

    /// What the file at `path` is, if it is the one it was.
    pub(super) fn recall(&mut self, path: &str, stamp: Option<Stamp>) -> Option<Found> {
        let (path, (before, found)) = self.found.remove_entry(path)?;
        if Some(before) != stamp {
            return None;
        }
        self.next.insert(path, (before, found.clone()));
        Some(found)
    }

    /// Remembers what the file is that was read from `begun` on, where its stamp was this before and after.
    pub(super) fn keep(&mut self, path: &str, stamp: Stamp, begun: SystemTime, found: &Found) {
        if stamp.tells_changes_after(begun) {
            self.next.insert(path.to_owned(), (stamp, found.clone()));
        }
    }

    #[cfg(test)]
    pub(super) fn knows(&self, path: &str) -> bool {
        self.found.contains_key(path)
    }

    /// The look has ended: files that it did not meet are forgotten.
    pub(super) fn end(&mut self) {
        self.found = std::mem::take(&mut self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(changed: (i64, i64)) -> Stamp {
        Stamp {
            file: (1, 2),
            bytes: 3,
            modified: changed,
            changed,
        }
    }

    fn at(seconds: u64, millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + millis)
    }

    #[test]
    fn a_stamp_that_the_next_change_may_share_tells_nothing() {
        let fine = stamp((100, 500_000_000));
        assert!(!fine.tells_changes_after(at(100, 500)));
        assert!(!fine.tells_changes_after(at(100, 600)));
        assert!(fine.tells_changes_after(at(100, 601)));
        let seconds = stamp((100, 0));
        assert!(!seconds.tells_changes_after(at(102, 0)));
        assert!(seconds.tells_changes_after(at(102, 1)));
        // From a clock that was ahead, or from before all clocks.
        assert!(!stamp((200, 1)).tells_changes_after(at(100, 0)));
        assert!(!stamp((-1, 1)).tells_changes_after(at(100, 0)));
    }

    #[test]
    fn what_was_found_counts_until_the_file_is_another_or_was_not_met() {
        let (old, new) = (stamp((1, 1)), stamp((2, 1)));
        let found = Found::Left("private-key", "it is one".into());
        let mut known = Known::default();
        let look = |known: &mut Known, stamp: Option<Stamp>| {
            known.begin(false);
            let found = stamp.and_then(|stamp| known.recall("a", Some(stamp)));
            known.end();
            found
        };
        known.begin(false);
        known.keep("a", old, at(9, 0), &found);
        known.end();
        assert_eq!(look(&mut known, Some(old)), Some(found.clone()));
        assert_eq!(look(&mut known, Some(old)), Some(found.clone()));
        assert_eq!(look(&mut known, Some(new)), None);
        assert_eq!(look(&mut known, Some(old)), None, "it was another meanwhile");
        known.begin(false);
        known.keep("a", old, at(9, 0), &found);
        known.end();
        assert_eq!(look(&mut known, None), None);
        assert_eq!(look(&mut known, Some(old)), None, "it was not met meanwhile");
        known.found.insert("a".into(), (old, found));
        known.begin(true);
        assert_eq!(known.recall("a", Some(old)), None, "all is read");
    }
}
