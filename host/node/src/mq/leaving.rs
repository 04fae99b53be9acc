//! The note of what is to be removed at the broker: on disk before a registration or an exchange goes, until the broker has removed it.

use std::collections::BTreeSet;
use std::sync::Arc;

use cvp_core::mq::{Cursor, Leaving, Left, Place, Queue, Registry};
use parking_lot::Mutex;

use super::files::{QueueFileError, QueueFiles};
use super::names::{PlacedName, placed};

/// The note, and its file.
pub(super) struct LeavingNote {
    files: QueueFiles,
    /// Where the broker is, if one carries the messages.
    here: Option<Place>,
    /// As the file has it.
    now: Arc<tokio::sync::Mutex<Noted>>,
    /// What it says of other places.
    left: Arc<Mutex<Vec<Left>>>,
    /// Queues that stand sealed, and are not noted as such yet: whoever writes next notes them all.
    sealed: Mutex<BTreeSet<u64>>,
}

/// The note in memory.
struct Noted {
    note: Leaving,
    /// Nothing is written any more: another one may open the file.
    closed: bool,
}

/// What is to be removed at the broker now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Queues: number of the registration and name, and whether what stands there may be its own: else there is nothing to remove.
    pub queues: Vec<(u64, String, bool)>,
    /// Exchanges.
    pub exchangers: Vec<String>,
}

impl LeavingNote {
    /// Reads it, while no registration is on its way out; a node that took another one's place (`took_over`) goes on with what that one's
    /// registry says. The broker is at `here`, where there is one. Answers with it the names of queues that it has, or that are registered and made.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// The file is damaged or cannot be written.
    pub fn open(
        files: QueueFiles,
        registry: &Registry,
        told: impl Fn(&Queue) -> Cursor,
        took_over: bool,
        here: Option<Place>,
    ) -> Result<(Self, Vec<PlacedName>), QueueFileError> {
        let read = files.read_leaving()?;
        let mut now = read.clone();
        if took_over {
            now.take_over(registry);
        }
        now.settle(registry, told, here.as_ref());
        if now != read {
            files.write_leaving(&now)?;
        }
        let names = placed(now.names(Some(registry)));
        let note = Self {
            files,
            here,
            left: Arc::new(Mutex::new(now.left().cloned().collect())),
            now: Arc::new(tokio::sync::Mutex::new(Noted {
                note: now,
                closed: false,
            })),
            sealed: Mutex::default(),
        };
        Ok((note, names))
    }

    /// Changes the note; durable on return.
    ///
    /// # Errors
    /// The disk failed, in words, or this is closed; nothing changed.
    pub async fn change(&self, change: impl FnOnce(&mut Leaving)) -> Result<(), String> {
        let mut now = Arc::clone(&self.now).lock_owned().await;
        let mut next = now.note.clone();
        change(&mut next);
        if next == now.note {
            return Ok(());
        }
        if now.closed {
            return Err("the queues of the namespace are closed".to_owned());
        }
        let (files, left) = (self.files.clone(), Arc::clone(&self.left));
        // With the lock: whoever waits for this may be ended meanwhile, and nobody else writes until it is done.
        let writing = tokio::task::spawn_blocking(move || {
            files.write_leaving(&next)?;
            *left.lock() = next.left().cloned().collect();
            now.note = next;
            Ok::<(), QueueFileError>(())
        });
        let done = writing.await.map_err(|join| join.to_string())?;
        done.map_err(|error| error.to_string())
    }

    /// A queue stands with its seal; durable on return. Those that come meanwhile are written together.
    ///
    /// # Errors
    /// As [`LeavingNote::change`].
    pub async fn sealed(&self, number: u64) -> Result<(), String> {
        self.sealed.lock().insert(number);
        let all = |note: &mut Leaving| {
            let others = std::mem::take(&mut *self.sealed.lock());
            // Its own in any case: who took it out to note it may have failed.
            others
                .into_iter()
                .chain([number])
                .for_each(|number| note.sealed(number));
        };
        self.change(all).await
    }

    /// These are made anew: that they stood sealed before says nothing.
    pub fn forget_sealed(&self, queues: &[Queue]) {
        let mut sealed = self.sealed.lock();
        sealed.retain(|number| queues.iter().all(|queue| queue.number != *number));
    }

    /// What is being written is, and nothing after it.
    pub async fn close(&self) {
        self.now.lock().await.closed = true;
    }

    /// Where the broker is, if one carries the messages.
    pub fn here(&self) -> Option<&Place> {
        self.here.as_ref()
    }

    /// What stays at places where this node does not come any more.
    pub fn left(&self) -> Vec<Left> {
        self.left.lock().clone()
    }

    /// What is to be removed at the broker now.
    pub async fn due(&self, registry: &Registry, told: impl Fn(&Queue) -> Cursor) -> Due {
        let now = &self.now.lock().await.note;
        let Some(here) = &self.here else {
            return Due::default();
        };
        let due = now.due(registry, told, here).into_iter();
        Due {
            queues: due
                .map(|(number, name)| (number, name, now.may_stand(number)))
                .collect(),
            exchangers: now.due_exchangers(registry, here),
        }
    }

    /// The note, as the file has it.
    pub async fn now(&self) -> Leaving {
        self.now.lock().await.note.clone()
    }

    /// Whether a queue of that name is noted that may be at the broker here.
    pub async fn has(&self, name: &str) -> bool {
        let now = self.now.lock().await;
        let mut noted = now.note.names(None);
        noted.any(|(at, it)| it == name && at.is_none_or(|at| Some(at) == self.here.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use cvp_core::config::BrokerUrl;

    use super::*;
    use crate::mq::names::place_of;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_ends_before_the_next_begins_though_nobody_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let files = QueueFiles::new(directory.path().join("mq"));
        let here = place_of(&BrokerUrl::new("amqp://127.0.0.1:1/"));
        let registry = Registry::new("global_1".into());
        let told = |queue: &Queue| queue.start();
        let note = LeavingNote::open(files.clone(), &registry, told, false, Some(here.clone())).unwrap();
        let note = Arc::new(note.0);
        for number in (1..=100).step_by(2) {
            let (other, at) = (Arc::clone(&note), here.clone());
            let writing = tokio::spawn(async move { other.change(|note| note.begins(number, &at)).await });
            tokio::task::yield_now().await;
            writing.abort();
            note.change(|note| note.begins(number + 1, &here)).await.unwrap();
            assert_eq!(files.read_leaving().unwrap(), note.now().await);
        }
        let half = |note: Leaving| (1..=100).filter(|number| note.may_be_half_made(*number)).count();
        assert!(half(note.now().await) >= 50);
        let sealing = (1..=100).map(|number| {
            let note = Arc::clone(&note);
            tokio::spawn(async move { note.sealed(number).await })
        });
        for sealed in sealing.collect::<Vec<_>>() {
            sealed.await.unwrap().unwrap();
        }
        assert_eq!(half(files.read_leaving().unwrap()), 0);
        note.close().await;
        assert!(note.change(|note| note.begins(1, &here)).await.is_err());
        assert_eq!(half(files.read_leaving().unwrap()), 0);
    }
}
