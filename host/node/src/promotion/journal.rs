//! The journal's file: made once, full of zeros, then written in place with one fdatasync an entry; its magic goes ahead of the first.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cvp_core::promotion::{Append, JOURNAL_BYTES, Journal};
use cvp_core::types::Refusal;

use crate::durable;

/// No journal is longer: thousands of promotions.
const READ_BYTES_MAX: u64 = 16 << 20;

/// The open file and what it says.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl JournalFile {
    /// Reads the journal at `path`; a missing file is an empty journal, made with the first entry.
    ///
    /// # Errors
    /// It cannot be read, or is no journal.
    pub fn open(path: &Path) -> Result<(JournalFile, Journal), Refusal> {
        let failed = |what: String| refusal(path, &what);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error.to_string())),
        };
        let mut bytes = Vec::new();
        if let Some(file) = &file {
            file.take(READ_BYTES_MAX)
                .read_to_end(&mut bytes)
                .map_err(|e| failed(e.to_string()))?;
        }
        let journal = Journal::read(&bytes).map_err(|error| failed(error.to_string()))?;
        Ok((
            JournalFile {
                path: path.to_owned(),
                file,
                bytes: bytes.len() as u64,
            },
            journal,
        ))
    }

    /// Writes an entry where it belongs; durable when this returns.
    ///
    /// # Errors
    /// The disk refused; nothing is known of the entry then, and the promotion stops.
    pub fn record(&mut self, append: &Append) -> Result<(), Refusal> {
        self.try_record(append)
            .map_err(|error| refusal(&self.path, &error.to_string()))
    }

    fn try_record(&mut self, append: &Append) -> io::Result<()> {
        let end = append.offset + append.bytes.len() as u64;
        if self.file.is_none() || end > self.bytes {
            self.allocate(end)?;
        }
        let file = self
            .file
            .as_ref()
            .ok_or_else(|| io::Error::other("the journal is not open"))?;
        if let Some(head) = append.head() {
            file.write_all_at(head, append.offset)?;
            file.sync_data()?;
        }
        file.write_all_at(&append.bytes, append.offset)?;
        file.sync_data()
    }

    /// Writes zeros up to the next multiple of [`JOURNAL_BYTES`] that holds `end`, so that appends change neither size nor blocks.
    fn allocate(&mut self, end: u64) -> io::Result<()> {
        let wanted = end.div_ceil(JOURNAL_BYTES).max(1) * JOURNAL_BYTES;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        let zeros = vec![0; (wanted - self.bytes) as usize];
        file.write_all_at(&zeros, self.bytes)?;
        file.sync_all()?;
        if let Some(parent) = self.path.parent() {
            durable::sync_directory(parent).map_err(io::Error::other)?;
        }
        self.bytes = wanted;
        self.file = Some(file);
        Ok(())
    }
}

fn refusal(path: &Path, what: &str) -> Refusal {
    Refusal::new(
        "promotion-journal",
        format!("{}: {what}", path.display()),
        "check the disk; do not delete the journal: it knows how far the upgrade came",
    )
}

#[cfg(test)]
mod tests {
    use cvp_core::promotion::{DryRun, HeldNamespace, Plan, Sink, Step, StepReport, next_step, promote};
    use cvp_core::types::{Hostname, Incarnation, NodeId};

    use super::*;

    struct Writer(JournalFile);
    impl Sink for Writer {
        fn perform(&mut self, step: Step, _: &Plan) -> Result<Vec<HeldNamespace>, Refusal> {
            if step == Step::Roles {
                Err(Refusal::new("stop", "here", ""))
            } else {
                Ok(Vec::new())
            }
        }
        fn record(&mut self, _: Step, append: &Append) -> Result<(), Refusal> {
            self.0.record(append)
        }
        fn report(&mut self, _: &StepReport) {}
    }

    #[test]
    fn what_was_recorded_is_read_back_and_the_size_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("promotion.journal");
        let (file, mut journal) = JournalFile::open(&path).unwrap();
        assert!(!path.exists());
        let plan = Plan {
            node_id: NodeId([1; 16]),
            hostname: Hostname::new("node1").unwrap(),
            own_hostname: Hostname::new("cvp").unwrap(),
            old: Incarnation { number: 1, id: [1; 16] },
            new: Incarnation { number: 2, id: [2; 16] },
            old_addresses: Vec::new(),
            namespaces: Vec::new(),
            held: Vec::new(),
            late: false,
            uncopied: Default::default(),
            signature: Vec::new(),
        };
        promote(&mut journal, plan, &mut Writer(file));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), JOURNAL_BYTES);
        let (_, mut read) = JournalFile::open(&path).unwrap();
        assert_eq!(read, journal);
        assert_eq!(next_step(&read), Some(Step::Roles));
        assert_eq!(cvp_core::promotion::resume(&mut read, &mut DryRun).len(), 4);
        std::fs::write(&path, b"not a journal").unwrap();
        assert_eq!(JournalFile::open(&path).unwrap_err().code, "promotion-journal");
    }
}
