//! A log that is only looked at: how far it reaches, what is damaged in it, and what a crash left behind its last record.
//!
//! What stands behind the last record the databases have seen is taken for a torn tail, as the next start takes it, unless whole records
//! follow: a crash of the process alone leaves no such hole, so that is called damage.

use std::path::{Path, PathBuf};

use cvp_core::ledger::{BadPlace, LedgerError};
use cvp_core::record::{BadPart, RECORD_BYTES_MAX, check_genesis, check_span, parse};
use cvp_core::types::{Digest, Height, Position};

use super::{Log, has_bytes_behind, list, read_record};
use crate::base::Base;
use crate::segment::Segment;
use crate::verify::place;

/// How a log ends that is only inspected.
#[derive(Default)]
pub(crate) struct End {
    /// Height of the last record that counts; none when there is none.
    pub(crate) last: Option<Height>,
    /// What a crash left behind it: the next start cuts it.
    pub(crate) torn: Option<BadPlace>,
    /// Damage behind it.
    pub(crate) broken: Option<BadPlace>,
}

impl Log {
    /// Looks at the log in `directory` without changing a byte of it. The records are found by their lengths; whether they are good is
    /// verified by whoever reads them, except for the last one: bad, and above what the databases have seen (`applied`), it is a torn
    /// tail, as is what stands behind the last whole record. A segment that cannot be used, or is missing, is damage at its first height.
    pub(crate) fn inspect(
        directory: &Path,
        (namespace, base): (Digest, Base),
        applied: Option<Height>,
    ) -> Result<(Self, End), LedgerError> {
        let (paths, _) = list(directory)?;
        let mut log = Self {
            directory: directory.to_owned(),
            namespace,
            base,
            segment_bytes: 0,
            segments: Vec::new(),
            reserve_bytes: 0,
            dirty: false,
        };
        let unusable = log.take_segments(&paths)?;
        let count = log.segments.len();
        for at in 0..count {
            let next = log.segments.get(at + 1).map(|s| s.first);
            let Some(next) = next.or(unusable.as_ref().map(|bad| bad.height)) else {
                break;
            };
            if let Some(what) = log.segments[at].inspect_sealed(next) {
                // What follows cannot be linked to anything.
                log.segments.truncate(at + 1);
                let broken = Some(place(log.segments[at].next(), "header", what));
                return Ok(log.ends_at(broken));
            }
        }
        if unusable.is_some() {
            return Ok(log.ends_at(unusable));
        }
        let end = log.inspect_newest(applied)?;
        Ok((log, end))
    }

    fn ends_at(self, broken: Option<BadPlace>) -> (Self, End) {
        let end = End {
            last: self.last(),
            torn: None,
            broken,
        };
        (self, end)
    }

    /// Opens the segments in order; answers what is wrong with the first that cannot be used, and leaves it and what follows out.
    fn take_segments(&mut self, paths: &[PathBuf]) -> Result<Option<BadPlace>, LedgerError> {
        for path in paths {
            let named = path.file_stem().and_then(|name| name.to_str()?.parse().ok());
            let from = self.base.history_from();
            let begins = named.unwrap_or_else(|| self.last().map_or(from, |last| last + 1));
            match Segment::open(path, &self.namespace, false) {
                // Pruned, or put before the history, when a crash came: the next start removes it.
                Ok(segment) if segment.first < from => {}
                Ok(segment) if self.segments.is_empty() && segment.first != from => {
                    return Ok(Some(place(from, "header", "the first segment of the log is missing")));
                }
                Ok(segment) => self.segments.push(segment),
                Err(LedgerError::Corrupt { path, what }) => {
                    return Ok(Some(place(begins, "header", format!("{path}: {what}"))));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn inspect_newest(&mut self, applied: Option<Height>) -> Result<End, LedgerError> {
        let Some(newest) = self.segments.last_mut() else {
            return Ok(End {
                broken: applied.map(|_| place(0, "header", "the log is missing, and the databases are not")),
                ..End::default()
            });
        };
        let why = newest.walk_lengths(usize::MAX).unwrap_or_default();
        let more = has_bytes_behind(newest, u64::from(newest.end))?;
        let next = newest.next();
        let mut behind = more.then(|| place(next, "header", format!("no whole record: {why}")));
        if let Some(bad) = self.bad_last()?.filter(|bad| Some(bad.height) > applied) {
            self.drop_last();
            behind = Some(bad);
        }
        let last = self.last();
        let missing = applied.filter(|applied| Some(*applied) > last);
        if let Some(applied) = missing {
            let what = format!("the databases know record {applied}, the log ends before it: {why}");
            behind.get_or_insert_with(|| place(last.map_or(0, |last| last + 1), "header", what));
        }
        let mut broken = missing.is_some();
        if let Some((behind, follows)) = behind.as_mut().zip(self.record_behind()?).filter(|_| !broken) {
            broken = true;
            behind.message += &format!(
                "; whole records follow, record {follows} among them: the next start cuts all of them, so copy {} first",
                self.directory.display()
            );
        }
        let (broken, torn) = if broken { (behind, None) } else { (None, behind) };
        Ok(End { last, torn, broken })
    }

    /// The first whole and good record in the bytes behind the last record.
    fn record_behind(&self) -> Result<Option<Height>, LedgerError> {
        let Some(newest) = self.segments.last() else {
            return Ok(None);
        };
        let mut at = u64::from(newest.end) + 1;
        while let Some(found) = newest.find_magic(at)? {
            if let Some(bytes) = read_record(newest, found)?
                && let Ok(record) = parse(&bytes)
                && let Some(below) = record.header().height.checked_sub(1)
            {
                let parent = Position {
                    height: below,
                    hash: record.header().parent,
                };
                if check_span(&self.namespace, parent, bytes.clone()).is_ok() {
                    return Ok(Some(below + 1));
                }
            }
            at = found + 1;
        }
        Ok(None)
    }

    /// What is wrong with the last record of the newest segment. A wrong link is none of its own faults: the record below says more.
    fn bad_last(&self) -> Result<Option<BadPlace>, LedgerError> {
        let Some(last) = self
            .last()
            .filter(|last| self.segments.last().is_some_and(|s| s.first <= *last))
        else {
            return Ok(None);
        };
        let bytes = self
            .place(last, last, RECORD_BYTES_MAX)
            .ok_or_else(|| LedgerError::corrupt(self.directory.display(), format!("record {last} is missing")))?
            .read()?;
        let checked = match last.checked_sub(1) {
            None => check_genesis(&self.namespace, bytes),
            Some(below) => match self.position_of(below) {
                Ok(parent) => check_span(&self.namespace, parent, bytes),
                Err(_) => return Ok(None),
            },
        };
        Ok(checked
            .err()
            .filter(|bad| bad.part != BadPart::Link)
            .map(BadPlace::from))
    }

    fn drop_last(&mut self) {
        if let Some(newest) = self.segments.last_mut()
            && let Some(offset) = newest.offsets.pop()
        {
            newest.end = offset;
        }
    }
}
