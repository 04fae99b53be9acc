//! The files of a namespace's queues: who registered, written when that changes, and how far each queue was told, written often and
//! in groups. Apart, so that a registration never hangs on the writing of a cursor. And what is still to be removed at a broker.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cvp_core::mq::{Cursors, Leaving, Place, Registry};
use cvp_core::types::{Incarnation, Malformed};

use super::names::{PlacedName, placed};
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
        let exists = |name: &&str| self.directory.join(name).exists();
        ["registry", "leaving", "cursors"].iter().any(exists)
    }

    /// Who registered and how far each was told; no registry where none was ever made.
    ///
    /// # Errors
    /// A file is damaged, or the registry alone is missing.
    pub fn read(&self) -> Result<(Option<Registry>, Cursors), QueueFileError> {
        let registry = self.registry_of_cursors()?;
        let cursors = self.read_one("cursors", CURSORS, Cursors::decode)?;
        Ok((registry, cursors.unwrap_or_default()))
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

    /// Names of queues that are registered, or still to be removed at a broker, sorted, for a node that speaks under `own`; and names of those
    /// that are removed, and of which the registry does not say so yet.
    ///
    /// # Errors
    /// The registry or the note is damaged, or the registry alone is missing.
    pub fn names(&self, own: Option<Incarnation>) -> Result<(Vec<PlacedName>, Vec<PlacedName>), QueueFileError> {
        let leaving = self.read_leaving()?;
        let registry = self.registry_of_cursors()?;
        let mut names: BTreeSet<(Option<&Place>, &str)> = leaving.names(registry.as_ref()).collect();
        let mut unstruck = Vec::new();
        if let Some(registry) = &registry {
            names.extend(registry.queues().keys().map(|name| (None, name.as_str())));
            // The note is newer than what the registry says is to be removed, but where the node that wrote the registry was another one:
            // the opening takes that over, and did not happen yet.
            let cursors = self.read_one("cursors", CURSORS, Cursors::decode);
            let opened_here = own.is_some() && cursors.is_ok_and(|it| it.and_then(|it| it.incarnation) == own);
            if opened_here {
                unstruck = placed(registry.leaving().names_beside(&leaving));
            } else {
                names.extend(registry.leaving().names(None));
            }
        }
        Ok((placed(names.into_iter()), unstruck))
    }

    /// Whether the registry is this one, whatever the cursors are.
    pub fn has(&self, registry: &Registry) -> bool {
        let there = self.read_one("registry", REGISTRY, Registry::decode);
        there.is_ok_and(|there| there.as_ref() == Some(registry))
    }

    /// Whether there is a registry that can be read, whatever the cursors are.
    pub fn has_registry(&self) -> bool {
        let there = self.read_one("registry", REGISTRY, Registry::decode);
        there.is_ok_and(|there| there.is_some())
    }

    /// Forgets cursors that cannot be read; durable on return. The provider tells them anew.
    pub fn remove_bad_cursors(&self) -> Result<(), QueueFileError> {
        match self.read_one("cursors", CURSORS, Cursors::decode) {
            Ok(_) => Ok(()),
            Err(_) => self.write_cursors(&Cursors::default()),
        }
    }

    /// The registry; it is not missing where there are cursors of its queues, also such as cannot be read.
    fn registry_of_cursors(&self) -> Result<Option<Registry>, QueueFileError> {
        let registry = self.read_one("registry", REGISTRY, Registry::decode)?;
        match registry {
            None if self.directory.join("cursors").exists() => Err(QueueFileError::Absent {
                path: self.directory.join("registry"),
            }),
            registry => Ok(registry),
        }
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

#[cfg(test)]
mod tests {
    use cvp_core::mq::Registration;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_names_of_a_node_that_was_replaced_are_those_of_its_registry_too() {
        let directory = tempfile::tempdir().unwrap();
        let files = QueueFiles::new(directory.path().join("mq"));
        let mut registry = Registry::new("ns1_fa34664e_1".into());
        for name in ["gone", "stays", "noted"] {
            let object = json!({"queueName": name, "routingKeys": ["MQBlock"]});
            let registration = Registration::from_json(&object).unwrap();
            registry.register(registration, (0, 0)).unwrap();
        }
        let gone = registry.unregister("gone", "ns1_fa34664e_1").unwrap();
        registry.leave(&gone, None);
        files.write_registry(&registry).unwrap();
        let [before, now] = [1, 2].map(|number| Incarnation {
            number,
            id: [number as u8; 16],
        });
        // A standby that took over and did not open these queues: it has no note, and perhaps no cursors.
        let all = ["gone", "noted", "stays"].map(|name| (None, name.to_owned()));
        assert_eq!(files.names(Some(now)).unwrap(), (all.to_vec(), Vec::new()));
        let mut cursors = Cursors {
            incarnation: Some(before),
            ..Cursors::default()
        };
        files.write_cursors(&cursors).unwrap();
        assert_eq!(files.names(Some(now)).unwrap().0, all);
        assert_eq!(files.names(None).unwrap().0, all);
        // One that opened them took it into its note, which says what is removed meanwhile.
        let noted = registry.unregister("noted", "ns1_fa34664e_1").unwrap();
        files.write_registry(&registry).unwrap();
        let mut note = Leaving::default();
        note.add(&noted, "ns1_fa34664e_1", Some(Place::new("host:5672/")));
        files.write_leaving(&note).unwrap();
        let at = |name: &str| (Some(Place::new("host:5672/")), name.to_owned());
        let [gone, _, stays] = all;
        let (names, _) = files.names(Some(now)).unwrap();
        assert_eq!(names, [gone.clone(), stays.clone(), at("noted")]);
        cursors.incarnation = Some(now);
        files.write_cursors(&cursors).unwrap();
        // What is removed and not struck out yet is known apart.
        let (names, unstruck) = files.names(Some(now)).unwrap();
        assert_eq!((names, unstruck), (vec![stays.clone(), at("noted")], vec![gone]));
        // Where one that is registered was made is known, too.
        note.settle(&registry, |queue| queue.start(), None);
        let number = registry.get("stays").unwrap().number;
        note.makes(number, &Place::new("host:5672/"));
        files.write_leaving(&note).unwrap();
        let (names, _) = files.names(Some(now)).unwrap();
        assert_eq!(names, [stays, at("noted"), at("stays")]);
        // Nobody knows what is registered.
        std::fs::remove_file(directory.path().join("mq/registry")).unwrap();
        assert!(files.are_there() && files.names(Some(now)).is_err());
    }
}
