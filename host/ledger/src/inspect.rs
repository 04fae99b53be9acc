//! A stopped node's ledger, opened for reading alone: what `cvp verify` looks at. No byte on the disk changes: a torn tail is told and
//! left to the next start, the databases stay where a crash left them.

use std::path::Path;

use bytes::Bytes;
use cvp_core::ledger::{BadPlace, LedgerError, Progress, VerifyReport};
use cvp_core::record::{RECORD_BYTES_MAX, check_genesis, namespace_digest, parse};
use cvp_core::types::{Digest, Height, Namespace};

use crate::base::Base;
use crate::databases::Databases;
use crate::log::{End, Log};
use crate::options::Shared;
use crate::verify::{Stored, place};

/// One namespace's ledger as it lies on the disk.
pub struct Inspection {
    log: Log,
    end: End,
    databases: Option<Databases>,
    /// What is wrong with the databases, if they cannot be read.
    unreadable: Option<String>,
    namespace: Digest,
    base: Base,
}

/// The databases as they can be read, and the last record that each knows.
#[derive(Default)]
struct Readable {
    databases: Option<Databases>,
    state: Option<Height>,
    indexed: Option<Height>,
}

impl Readable {
    fn at(data: &Path, base: &Base) -> Result<Self, LedgerError> {
        let Some(databases) = Databases::open_read_only(data, base, &Shared::default())? else {
            return Ok(Self::default());
        };
        Ok(Self {
            state: databases.state_marker()?.map(|marker| marker.position.height),
            indexed: databases.index_height()?,
            databases: Some(databases),
        })
    }
}

impl Inspection {
    /// Opens what is in `data` (`namespaces/<ns>/data`). The node must not run, or what it writes meanwhile is taken for damage.
    ///
    /// # Errors
    /// `Diverged` at height 0 when the chain has another genesis; `Disk`. What is damaged is told by [`Inspection::verify`].
    pub fn open(data: &Path, namespace: &Namespace, genesis: &Bytes) -> Result<Self, LedgerError> {
        let digest = namespace_digest(namespace);
        let expected = parse(genesis)
            .map_err(|e| LedgerError::corrupt("genesis", e.what))?
            .hash();
        let base = Base::read(data)?.unwrap_or(Base::whole(expected));
        let (found, unreadable) = match Readable::at(data, &base) {
            Ok(found) => (found, None),
            Err(error) => (Readable::default(), Some(error.to_string())),
        };
        let applied = found.indexed.max(found.state);
        let (log, end) = Log::inspect(&base.directory(data, "log"), (digest, base), applied)?;
        let opened = Self {
            log,
            end,
            // Killed before its first flush, a node has written no state.
            databases: found.databases.filter(|_| found.state.is_some()),
            unreadable,
            namespace: digest,
            base,
        };
        opened.check_genesis(expected)?;
        Ok(opened)
    }

    /// How far the chain reaches, a damaged record behind the whole ones included; none when there is nothing.
    pub fn last(&self) -> Option<Height> {
        self.end.broken.as_ref().map(|broken| broken.height).or(self.end.last)
    }

    /// The oldest record that is here; 0: the whole history is.
    pub fn history_from(&self) -> Height {
        self.log.history_from()
    }

    /// What a crash left behind the last record, and the next start cuts.
    pub fn torn_tail(&self) -> Option<&BadPlace> {
        self.end.torn.as_ref()
    }

    /// As [`cvp_core::ledger::Ledger::verify`], of the records up to [`Inspection::last`] and the damage behind it.
    ///
    /// # Errors
    /// `Abandoned` once `progress` breaks; `Disk`.
    pub fn verify(&self, from: Height, to: Height, progress: Progress<'_>) -> Result<VerifyReport, LedgerError> {
        let Some(last) = self.end.last else {
            return Ok(VerifyReport {
                checked: 0,
                first_bad: self.end.broken.clone(),
                state_checked: false,
                state_chain_checked: false,
            });
        };
        let stored = Stored {
            namespace: self.namespace,
            base: self.base,
            last,
            ends: &|| last,
            read: &|first, last, bytes_max| self.read(first, last, bytes_max),
            // Where the log breaks off before its end, the state is of a record that is not there.
            databases: self.databases.as_ref().filter(|_| self.end.broken.is_none()),
        };
        let mut report = stored.verify(from, to, progress)?;
        if let Some(what) = self.unreadable.as_ref().filter(|_| to >= last) {
            report.state_checked = false;
            report.first_bad.get_or_insert_with(|| place(last, "state", what));
        }
        if let Some(broken) = &self.end.broken {
            report.state_checked = false;
            if (from..=to).contains(&broken.height) {
                report.first_bad.get_or_insert_with(|| broken.clone());
            }
        }
        Ok(report)
    }

    fn read(&self, first: Height, last: Height, bytes_max: usize) -> Result<(Bytes, Height), LedgerError> {
        let place = self.log.place(first, last, bytes_max).ok_or(LedgerError::NotFound {
            height: first,
            from: self.base.history_from(),
            to: self.end.last.unwrap_or(0),
        })?;
        Ok((place.read()?, place.last))
    }

    /// A sound record 0 that is not the configuration's is another chain's. One that is not sound is named by [`Inspection::verify`].
    fn check_genesis(&self, theirs: Digest) -> Result<(), LedgerError> {
        if self.end.last.is_none() {
            return Ok(());
        }
        let ours = if self.base.below.is_some() {
            self.base.genesis
        } else {
            let (found, _) = self.read(0, 0, RECORD_BYTES_MAX)?;
            let Ok(found) = check_genesis(&self.namespace, found) else {
                return Ok(());
            };
            found.last().hash
        };
        if ours == theirs {
            return Ok(());
        }
        Err(LedgerError::Diverged {
            height: 0,
            ours,
            theirs,
        })
    }
}
