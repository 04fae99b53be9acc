//! The note of what is to be removed at the broker: on disk before a registration or an exchange goes, until the broker has removed it.

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
    now: tokio::sync::Mutex<Leaving>,
    /// What it says of other places.
    left: Mutex<Vec<Left>>,
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
    /// registry says. The broker is at `here`, where there is one. Blocks on the disk.
    ///
    /// # Errors
    /// The file is damaged or cannot be written.
    pub fn open(
        files: QueueFiles,
        registry: &Registry,
        told: impl Fn(&Queue) -> Cursor,
        took_over: bool,
        here: Option<Place>,
    ) -> Result<Self, QueueFileError> {
        let read = files.read_leaving()?;
        let mut now = read.clone();
        if took_over {
            now.take_over(registry);
        }
        now.settle(registry, told, here.as_ref());
        if now != read {
            files.write_leaving(&now)?;
        }
        Ok(Self {
            files,
            here,
            left: Mutex::new(now.left().cloned().collect()),
            now: tokio::sync::Mutex::new(now),
        })
    }

    /// Changes the note; durable on return.
    ///
    /// # Errors
    /// The disk failed, in words; nothing changed.
    pub async fn change(&self, change: impl FnOnce(&mut Leaving)) -> Result<(), String> {
        let mut now = self.now.lock().await;
        let mut next = now.clone();
        change(&mut next);
        if next == *now {
            return Ok(());
        }
        let (files, written) = (self.files.clone(), next.clone());
        let writing = tokio::task::spawn_blocking(move || files.write_leaving(&written));
        let done = writing.await.map_err(|join| join.to_string())?;
        done.map_err(|error| error.to_string())?;
        *self.left.lock() = next.left().cloned().collect();
        *now = next;
        Ok(())
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
        let now = self.now.lock().await;
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
        self.now.lock().await.clone()
    }

    /// Whether a queue of that name is noted that may be at the broker here.
    pub async fn has(&self, name: &str) -> bool {
        let now = self.now.lock().await;
        let mut noted = now.names(None);
        noted.any(|(at, it)| it == name && at.is_none_or(|at| Some(at) == self.here.as_ref()))
    }

    /// Names of queues that are noted, or registered and made, at the opening.
    pub fn names_at_opening(&mut self, registry: &Registry) -> Vec<PlacedName> {
        placed(self.now.get_mut().names(Some(registry)))
    }
}
