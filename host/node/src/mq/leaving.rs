//! The note of what is to be removed at the broker: on disk before a registration or an exchange goes, until the broker has removed it.

use cvp_core::mq::{Cursor, Leaving, Queue, Registry};

use super::files::{QueueFileError, QueueFiles};

/// The note, and its file.
pub(super) struct LeavingNote {
    files: QueueFiles,
    /// As the file has it.
    now: tokio::sync::Mutex<Leaving>,
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
    /// registry says. Blocks on the disk.
    ///
    /// # Errors
    /// The file is damaged or cannot be written.
    pub fn open(
        files: QueueFiles,
        registry: &Registry,
        told: impl Fn(&Queue) -> Cursor,
        took_over: bool,
    ) -> Result<Self, QueueFileError> {
        let read = files.read_leaving()?;
        let mut now = read.clone();
        if took_over {
            now.take_over(registry.leaving());
        }
        now.settle(registry, told);
        if now != read {
            files.write_leaving(&now)?;
        }
        Ok(Self {
            files,
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
        *now = next;
        Ok(())
    }

    /// What is to be removed at the broker now.
    pub async fn due(&self, registry: &Registry, told: impl Fn(&Queue) -> Cursor) -> Due {
        let now = self.now.lock().await;
        let due = now.due(registry, told).into_iter();
        Due {
            queues: due
                .map(|(number, name)| (number, name, now.may_stand(number)))
                .collect(),
            exchangers: now.due_exchangers(registry),
        }
    }

    /// The note, as the file has it.
    pub async fn now(&self) -> Leaving {
        self.now.lock().await.clone()
    }

    /// Names of queues that are noted.
    pub async fn names(&self) -> Vec<String> {
        self.now.lock().await.names().map(str::to_owned).collect()
    }

    /// As [`LeavingNote::names`], at the opening.
    pub fn names_at_opening(&mut self) -> Vec<String> {
        self.now.get_mut().names().map(str::to_owned).collect()
    }
}
