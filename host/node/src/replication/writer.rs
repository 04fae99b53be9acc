//! The one thread that writes control files, in the order asked for.
//!
//! A control write is never dropped: the machine has a few under way at most (one a link, and the fence), so its queue needs no bound. What a
//! strategy stores has no such bound, and only the latest counts: it waits in one place a namespace, and control writes go first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use cvp_core::replication::{ControlFile, Event, Token};
use cvp_core::types::{Namespace, Refusal};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{mpsc, oneshot};

use super::driver::Inbound;
use super::files::ControlFiles;

/// What is written.
pub(super) enum Write {
    /// What the machine waits for, or a strategy's bytes.
    File(Token, ControlFile),
    /// The provider's `[self]`, as its handshake said.
    Provider(Vec<(String, String)>),
    /// What a machine that ends leaves; nobody is told of it.
    Last(ControlFile),
    /// Nothing: whoever waits for it knows that the control writes before it are done.
    Mark(oneshot::Sender<()>),
}

/// Where a later write takes an earlier one's place.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Stored(Namespace, &'static str),
    Provider,
    Held,
}

impl Write {
    fn place(&self) -> Option<Place> {
        match self {
            Write::File(_, ControlFile::Stored { ns, kind, .. }) => Some(Place::Stored(ns.clone(), kind)),
            Write::File(_, ControlFile::KeptLocal { ns, .. }) => Some(Place::Stored(ns.clone(), "kept")),
            Write::File(_, ControlFile::LastHeld(_)) => Some(Place::Held),
            Write::File(..) | Write::Last(_) | Write::Mark(_) => None,
            Write::Provider(_) => Some(Place::Provider),
        }
    }
}

/// A write and the epoch of the machine that asked for it.
type Job = (u64, Write);

#[derive(Default)]
struct Queue {
    control: VecDeque<Job>,
    latest: VecDeque<(Place, Job)>,
    ended: bool,
}

impl Queue {
    fn push(&mut self, job: Job) {
        let Some(place) = job.1.place() else {
            return self.control.push_back(job);
        };
        match self.latest.iter_mut().find(|(taken, _)| *taken == place) {
            Some((_, waiting)) => *waiting = job,
            None => self.latest.push_back((place, job)),
        }
    }

    fn pop(&mut self) -> Option<Job> {
        let latest = &mut self.latest;
        self.control
            .pop_front()
            .or_else(|| latest.pop_front().map(|(_, job)| job))
    }
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Shared {
    /// The next job; none when nothing more will come.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.pop() {
                return Some(job);
            }
            if queue.ended {
                return None;
            }
            self.wake.wait(&mut queue);
        }
    }
}

/// The thread's handle; what was asked for before it is dropped is still written.
pub(super) struct FileWriter {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl FileWriter {
    /// Starts the thread; it answers into `answers`. A write that another took the place of is not answered.
    pub(super) fn start(files: ControlFiles, answers: mpsc::Sender<Inbound>) -> std::io::Result<FileWriter> {
        let shared = Arc::new(Shared::default());
        let queue = Arc::clone(&shared);
        let thread = Builder::new().name("control-files".into()).spawn(move || {
            while let Some((epoch, job)) = queue.next() {
                if let Some(event) = write(&files, job) {
                    let _ = answers.blocking_send(Inbound::Core(epoch, event));
                }
            }
        })?;
        Ok(FileWriter { shared, thread })
    }

    /// Queues a write; never waits.
    ///
    /// # Errors
    /// The thread has ended: nothing can be made durable any more.
    pub(super) fn push(&self, epoch: u64, job: Write) -> Result<(), Refusal> {
        if self.thread.is_finished() {
            return Err(Refusal::new(
                "disk-failed",
                "the thread that writes control files has ended",
                "see the log of this node, and start it again",
            ));
        }
        self.shared.queue.lock().push((epoch, job));
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Answers when every control write asked for before was tried; with an error when the thread has ended.
    pub(super) fn flushed(&self) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        // A thread that has ended writes nothing any more: the sender is dropped, and the wait is over.
        let _ = self.push(0, Write::Mark(done));
        flushed
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        self.shared.queue.lock().ended = true;
        self.shared.wake.notify_one();
    }
}

fn write(files: &ControlFiles, job: Write) -> Option<Event> {
    match job {
        Write::File(token, what) => Some(match files.write_control(&what) {
            Ok(()) => Event::Persisted(token),
            Err(error) => Event::PersistFailed(token, error.refusal()),
        }),
        Write::Provider(section) => {
            if let Err(error) = files.write_provider_self(&section) {
                tracing::error!(%error, "write the provider's [self]");
            }
            None
        }
        Write::Last(what) => {
            if let Err(error) = files.write_control(&what) {
                tracing::error!(%error, "write a control file at the end");
            }
            None
        }
        Write::Mark(done) => {
            let _ = done.send(());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use cvp_core::session::LastReceiver;
    use cvp_core::types::{Hostname, NodeId};

    use super::*;

    fn stored(token: Token, ns: &str, byte: u8) -> Job {
        let what = ControlFile::Stored {
            ns: Namespace::new(ns).unwrap(),
            kind: "chain-sync",
            bytes: vec![byte],
        };
        (1, Write::File(token, what))
    }

    fn receiver(token: Token) -> Job {
        let what = ControlFile::LastReceiver(LastReceiver {
            node_id: NodeId([1; 16]),
            hostname: Hostname::new("cvp").unwrap(),
            address: token.to_string(),
        });
        (1, Write::File(token, what))
    }

    fn token(job: Option<Job>) -> Option<Token> {
        match job?.1 {
            Write::File(token, _) => Some(token),
            Write::Provider(_) | Write::Last(_) | Write::Mark(_) => None,
        }
    }

    #[test]
    fn no_control_write_is_dropped_and_of_what_strategies_store_the_latest_is_kept() {
        let mut queue = Queue::default();
        for round in 0..1_000 {
            queue.push(stored(10_000 + round, "global", 1));
            queue.push(stored(20_000 + round, "ns1", 2));
            queue.push(receiver(round));
        }
        for round in 0..1_000 {
            assert_eq!(token(queue.pop()), Some(round));
        }
        assert_eq!(token(queue.pop()), Some(10_999));
        assert_eq!(token(queue.pop()), Some(20_999));
        assert!(queue.pop().is_none());
    }

    #[test]
    fn everything_asked_for_is_on_the_disk_and_answered() {
        let dir = tempfile::tempdir().unwrap();
        let files = ControlFiles::new(dir.path().to_owned());
        let (answers, mut answered) = mpsc::channel(4_096);
        let writer = FileWriter::start(files.clone(), answers).unwrap();
        for round in 0..200 {
            for (epoch, job) in [stored(10_000 + round, "global", round as u8), receiver(round)] {
                writer.push(epoch, job).unwrap();
            }
        }
        writer.flushed().blocking_recv().unwrap();
        assert_eq!(files.last_receiver().unwrap().unwrap().address, "199");
        drop(writer);
        let mut persisted = Vec::new();
        while let Some(Inbound::Core(1, Event::Persisted(token))) = answered.blocking_recv() {
            persisted.push(token);
        }
        let control: Vec<Token> = persisted.iter().copied().filter(|token| *token < 10_000).collect();
        assert_eq!(control, (0..200).collect::<Vec<_>>());
        assert_eq!(
            files.stored(&Namespace::new("global").unwrap(), "chain-sync").unwrap(),
            [199]
        );
    }
}
