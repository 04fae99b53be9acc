//! The files of message queues, as strong changes and handshakes write them: on the thread that does all of this work in order, so that
//! what a handshake tells is never older than a change that was committed.

use bytes::Bytes;
use cvp_core::mq::{Cursors, QUEUE_CHANGE, QueueChange, Registry};
use cvp_core::replication::{Change, NOT_UNDONE, QueueEvent, QueueWork, QueuesHeld};
use cvp_core::types::{Digest, Namespace, Refusal};

use super::files::ControlFiles;
use crate::config::Root;
use crate::crash_point::CrashPoint;
use crate::mq::{QueueFileError, QueueFiles, QueueSet};
use crate::namespace::ChainSet;

/// What the thread works on.
pub(super) struct QueueDisk {
    pub root: Root,
    pub chains: ChainSet,
    /// What a receiver holds of its provider's queues is shown from here.
    pub set: QueueSet,
    pub files: ControlFiles,
    pub crash: CrashPoint,
}

/// The queues that a change of their kind asks for; none where it is of another kind.
pub(super) fn queue_change(change: &Change) -> Option<Result<QueueChange, Refusal>> {
    let read = || {
        let malformed = |error: cvp_core::types::Malformed| {
            Refusal::new("bad-change", error.to_string(), "report it with both logs")
        };
        QueueChange::decode(&change.body).map_err(malformed)
    };
    (change.kind == QUEUE_CHANGE).then(read)
}

fn failed(error: QueueFileError) -> Refusal {
    Refusal::new("disk-failed", error.to_string(), "check the disk and the permissions")
}

/// Where a namespace's queues are kept below `root`.
pub fn queue_files(root: &Root, namespace: &Namespace) -> QueueFiles {
    QueueFiles::new(root.namespace(namespace).join("data/mq"))
}

impl QueueDisk {
    fn at(&self, namespace: &Namespace) -> QueueFiles {
        queue_files(&self.root, namespace)
    }

    pub fn work(&self, work: QueueWork) -> Option<QueueEvent> {
        let kept = match work {
            QueueWork::Look => return Some(QueueEvent::Looked(self.look())),
            QueueWork::KeepRegistry(namespace, registry) => self.keep_registry(&namespace, registry),
            QueueWork::KeepCursors(namespace, cursors) => match self.keep_cursors(&namespace, cursors.clone()) {
                Ok(true) => return Some(QueueEvent::CursorsKept(namespace, cursors)),
                kept => kept.map(|_| ()),
            },
        };
        kept.err().map(QueueEvent::Failed)
    }

    /// Every namespace that has queues; one whose files are bad is left out, as its own node says.
    fn look(&self) -> Vec<QueuesHeld> {
        let held = |namespace: Namespace| match self.at(&namespace).read() {
            Ok((Some(registry), cursors)) => Some(QueuesHeld {
                namespace,
                registry: registry.encode().into(),
                cursors: Bytes::from(cursors.encode()),
            }),
            Ok((None, _)) => None,
            Err(error) => {
                tracing::warn!(%namespace, "the queues are not told to the standby: {error}");
                None
            }
        };
        self.chains.names().into_iter().filter_map(held).collect()
    }

    /// A copy that cannot be read is written anew: the provider's counts.
    fn keep_registry(&self, namespace: &Namespace, registry: Registry) -> Result<(), Refusal> {
        let files = self.at(namespace);
        if !files.has(&registry) {
            files.write_registry(&registry).map_err(failed)?;
        }
        files.remove_bad_cursors().map_err(failed)?;
        self.set.healed(namespace);
        self.set.copied(namespace, |copy| copy.0 = registry);
        Ok(())
    }

    /// Says whether they are durable now.
    fn keep_cursors(&self, namespace: &Namespace, cursors: Cursors) -> Result<bool, Refusal> {
        let files = self.at(namespace);
        // Where the registry before them could not be written they are of nothing.
        if !files.has_registry() {
            return Ok(false);
        }
        files.write_cursors(&cursors).map_err(failed)?;
        self.set.copied(namespace, |copy| copy.1 = cursors);
        Ok(true)
    }

    /// Whether this node could hold the queues that a change asks for.
    pub fn check(&self, wanted: &QueueChange) -> Result<(), Refusal> {
        match self.chains.get(wanted.namespace.as_str()) {
            Some(_) => Ok(()),
            None => Err(Refusal::new(
                "no-namespace",
                format!("the standby does not run namespace {}", wanted.namespace),
                "see `cvp status`; try again when it does",
            )),
        }
    }

    /// Provider: from the moment that a replicated change stands in `committed` it counts.
    pub fn commit(&self, change: &Change, wanted: &QueueChange, replicated: bool) -> Result<(), Refusal> {
        let files = self.at(&wanted.namespace);
        let (there, _) = files.read().map_err(failed)?;
        if there.map(|registry| Digest::of(&registry.encode())) != wanted.old {
            return Err(Refusal::new(
                "changed-meanwhile",
                format!(
                    "the queues of {} were changed by somebody else meanwhile",
                    wanted.namespace
                ),
                "try again",
            ));
        }
        self.crash.at("change:before-commit");
        if !replicated {
            return files
                .write_registry(&wanted.registry)
                .map_err(|error| self.unless_written(wanted, failed(error)));
        }
        let refused = |error: super::files::FileError| error.refusal();
        let before = self.files.committed().map_err(refused)?;
        let written = self.files.write_committed(&change.id, Some(change)).map_err(refused);
        self.crash.at("change:committed");
        if let Err(refusal) = written.and_then(|()| files.write_registry(&wanted.registry).map_err(failed)) {
            let undone = match &before {
                Some((id, _)) => self.files.write_committed(id, None),
                None => self.files.remove_committed(),
            };
            return Err(match undone {
                Ok(()) => self.unless_written(wanted, refusal),
                Err(_) => not_undone(&refusal),
            });
        }
        self.crash.at("change:written");
        // It is where it belongs: a start has nothing to finish.
        let settled = self.files.write_committed(&change.id, None);
        settled.map_err(|error| not_undone(&error.refusal()))?;
        self.crash.at("change:before-answer");
        Ok(())
    }

    /// What could not be made durable may be there all the same.
    fn unless_written(&self, wanted: &QueueChange, refusal: Refusal) -> Refusal {
        let there = self.at(&wanted.namespace).read();
        match there {
            Ok((Some(registry), _)) if registry == wanted.registry => not_undone(&refusal),
            _ => refusal,
        }
    }

    /// Receiver: writes what is staged to its place.
    pub fn apply(&self, wanted: QueueChange) -> Result<(), Refusal> {
        self.crash.at("change:before-apply");
        self.keep_registry(&wanted.namespace, wanted.registry)?;
        self.crash.at("change:applied");
        Ok(())
    }
}

fn not_undone(refusal: &Refusal) -> Refusal {
    Refusal::new(
        NOT_UNDONE,
        format!(
            "the disk failed in the middle: {}; the next start may find the change made",
            refusal.text
        ),
        "check the disk, start the node again, and look with `cvp mq list`",
    )
}

/// Writes the queues of a change that a crash interrupted, or that an upgrade rolls forward, where it is one of queues. Says whether it is.
///
/// # Errors
/// The change is damaged, or the disk failed.
pub fn finish_queues(root: &Root, change: &Change) -> Result<bool, Refusal> {
    let Some(wanted) = queue_change(change).transpose()? else {
        return Ok(false);
    };
    let files = queue_files(root, &wanted.namespace);
    files.write_registry(&wanted.registry).map_err(failed)?;
    Ok(true)
}

/// What a change of message queues does to those that are here, in words; none where it is one of something else.
///
/// # Errors
/// The change is damaged, or the queues here cannot be read.
pub fn describe_queues(root: &Root, change: &Change) -> Result<Option<String>, Refusal> {
    let Some(wanted) = queue_change(change).transpose()? else {
        return Ok(None);
    };
    let (here, _) = queue_files(root, &wanted.namespace).read().map_err(failed)?;
    Ok(Some(wanted.in_words(here.as_ref())))
}
