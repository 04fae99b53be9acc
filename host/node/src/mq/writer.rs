//! Writes a namespace's cursors in groups: whoever moved one may wait until it is on disk, and all that moved while the disk was busy are
//! written at once.

use std::sync::Arc;
use std::time::Duration;

use cvp_core::mq::Cursors;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::error;

use super::files::QueueFiles;

/// Cursors that move gather for so long before they are written together.
const GATHER: Duration = Duration::from_millis(5);

/// How far each queue is, in memory, and how much of that is on disk.
pub(super) struct CursorBoard {
    now: Mutex<(Cursors, u64)>,
    moved: Notify,
    /// Version that is on disk; an error is sticky: nothing is written after it.
    written: watch::Sender<Result<u64, String>>,
    /// Told after each write.
    told: Arc<Notify>,
}

impl CursorBoard {
    /// `read` is what the disk holds; `told` is told after each write.
    pub fn new(read: Cursors, told: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            now: Mutex::new((read, 0)),
            moved: Notify::new(),
            written: watch::Sender::new(Ok(0)),
            told,
        })
    }

    /// Looks at the cursors in memory.
    pub fn look<T>(&self, look: impl FnOnce(&Cursors) -> T) -> T {
        look(&self.now.lock().0)
    }

    /// Changes them; answers the version that [`CursorBoard::on_disk`] waits for.
    pub fn change(&self, change: impl FnOnce(&mut Cursors)) -> u64 {
        let version = {
            let mut now = self.now.lock();
            change(&mut now.0);
            now.1 += 1;
            now.1
        };
        self.moved.notify_one();
        version
    }

    /// Waits until a version is durable.
    ///
    /// # Errors
    /// The disk failed; in words.
    pub async fn on_disk(&self, version: u64) -> Result<(), String> {
        let mut written = self.written.subscribe();
        let reached =
            written.wait_for(|written| written.as_ref().is_err() || written.as_ref().is_ok_and(|v| *v >= version));
        match reached.await {
            Ok(written) => written.clone().map(|_| ()),
            Err(_) => Err("the queues of this namespace are closed".to_owned()),
        }
    }

    /// Why nothing is written any more, if so.
    pub fn failure(&self) -> Option<String> {
        self.written.borrow().as_ref().err().cloned()
    }

    /// Writes what moves until the task is aborted, or the disk fails.
    pub async fn drive(self: Arc<Self>, files: QueueFiles) {
        let mut done = 0;
        loop {
            if self.now.lock().1 == done {
                self.moved.notified().await;
                tokio::time::sleep(GATHER).await;
            }
            let (cursors, version) = self.now.lock().clone();
            if version == done {
                continue;
            }
            let files = files.clone();
            let outcome = tokio::task::spawn_blocking(move || files.write_cursors(&cursors)).await;
            let failed = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(failed)) => Some(failed.to_string()),
                Err(join) => Some(join.to_string()),
            };
            if let Some(failed) = failed {
                error!("the cursors of queues are not kept any more: {failed}");
                let _ = self.written.send_replace(Err(failed));
                return;
            }
            done = version;
            let _ = self.written.send_replace(Ok(version));
            self.told.notify_one();
        }
    }
}
