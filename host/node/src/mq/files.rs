//! The files of a namespace's queues: who registered, written when that changes, and how far each queue was told, written often and
//! in groups. Apart, so that a registration never hangs on the writing of a cursor. And what is still to be removed at a broker.

use std::path::PathBuf;

use cvp_core::mq::{Cursors, Leaving, Registry};
use cvp_core::types::Malformed;

use crate::durable::{self, DurableError};

const VERSION: u16 = 1;
const REGISTRY: &[u8; 8] = b"CVPQUEUE";
const CURSORS: &[u8; 8] = b"CVPCURSR";
const LEAVING: &[u8; 8] = b"CVPQLEAV";

/// A file of the queues that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum QueueFileError {
    /// The disk, or the frame of the file.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// The frame holds, and the content is not what this release knows.
    #[error("{} is damaged: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Malformed,
    },
    /// There are cursors, and the registrations that they are of are not there.
    #[error("{} is missing, and there are cursors of its queues", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
}

/// Where a namespace's queues are kept: `<namespace>/data/mq`.
#[derive(Clone, Debug)]
pub struct QueueFiles {
    directory: PathBuf,
}

impl QueueFiles {
    /// Files in `directory`, which need not exist yet.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Whether queues were ever opened here, or a standby got any.
    pub fn are_there(&self) -> bool {
        self.directory.join("registry").exists() || self.directory.join("leaving").exists()
    }

    /// Who registered and how far each was told; no registry where none was ever made.
    ///
    /// # Errors
    /// A file is damaged, or the registry alone is missing.
    pub fn read(&self) -> Result<(Option<Registry>, Cursors), QueueFileError> {
        let registry = self.read_one("registry", REGISTRY, Registry::decode)?;
        let cursors = self.read_one("cursors", CURSORS, Cursors::decode)?;
        match (registry, cursors) {
            (None, Some(_)) => Err(QueueFileError::Absent {
                path: self.directory.join("registry"),
            }),
            (registry, cursors) => Ok((registry, cursors.unwrap_or_default())),
        }
    }

    /// What is still to be removed at the broker.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn read_leaving(&self) -> Result<Leaving, QueueFileError> {
        Ok(self.read_one("leaving", LEAVING, Leaving::decode)?.unwrap_or_default())
    }

    /// Writes what is still to be removed at the broker; durable on return.
    pub fn write_leaving(&self, leaving: &Leaving) -> Result<(), QueueFileError> {
        durable::create_directories(&self.directory)?;
        let path = self.directory.join("leaving");
        Ok(durable::write_file(&path, LEAVING, VERSION, &leaving.encode())?)
    }

    /// Names of queues that are registered, or still to be removed at the broker.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn names(&self) -> Result<Vec<String>, QueueFileError> {
        let registry = self.read_one("registry", REGISTRY, Registry::decode)?;
        let registered = registry.iter().flat_map(|registry| registry.queues().keys().cloned());
        let leaving = self.read_leaving()?;
        Ok(registered.chain(leaving.names().map(str::to_owned)).collect())
    }

    fn read_one<T>(
        &self,
        name: &str,
        magic: &[u8; 8],
        decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, QueueFileError> {
        let path = self.directory.join(name);
        match durable::read_file(&path, magic)? {
            None => Ok(None),
            Some((VERSION, payload)) => match decode(&payload) {
                Ok(read) => Ok(Some(read)),
                Err(source) => Err(QueueFileError::Content { path, source }),
            },
            Some((version, _)) => Err(QueueFileError::Content {
                path,
                source: Malformed::new(format!("version {version}")),
            }),
        }
    }

    /// Writes who registered; durable on return.
    pub fn write_registry(&self, registry: &Registry) -> Result<(), QueueFileError> {
        durable::create_directories(&self.directory)?;
        let path = self.directory.join("registry");
        Ok(durable::write_file(&path, REGISTRY, VERSION, &registry.encode())?)
    }

    /// Writes how far each queue was told; durable on return.
    pub fn write_cursors(&self, cursors: &Cursors) -> Result<(), QueueFileError> {
        durable::create_directories(&self.directory)?;
        let path = self.directory.join("cursors");
        Ok(durable::write_file(&path, CURSORS, VERSION, &cursors.encode())?)
    }
}
