//! The threads that do a node's work on histories and states as a whole: one writes, prunes, snapshots and adopts, one makes staged bytes
//! durable beside it. Both serve every namespace; neither is on the way of a live stream.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cvp_core::record::first_time;
use cvp_core::replication::{ArchiveEvent, ArchiveWork, Event, archive};
use cvp_core::types::{Height, Millis, Slab};
use tokio::sync::mpsc;

use super::driver::Inbound;
use crate::link::FrameSender;
use crate::mq::QueueSet;
use crate::namespace::Chain;
use crate::telemetry::pair as telemetry;

/// A piece of work. The machine has a few under way in each namespace at most, so the queues need no bound of their own.
struct Job {
    chain: Arc<Chain>,
    work: ArchiveWork,
    /// Where a frame goes.
    link: Option<FrameSender>,
    /// Queues that still have to be told of old blocks.
    queues: QueueSet,
}

/// The threads of a machine; they end when this is dropped and their queues are empty.
pub(super) struct Archivist {
    jobs: mpsc::UnboundedSender<Job>,
    syncs: mpsc::UnboundedSender<Job>,
    threads: [thread::JoinHandle<()>; 2],
}

impl Archivist {
    /// Starts the threads. `epoch` marks their answers.
    pub(super) fn start(epoch: u64, answers: mpsc::Sender<Inbound>) -> std::io::Result<Archivist> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (syncs, sync_queue) = mpsc::unbounded_channel();
        let threads = [
            spawn("archive", queue, epoch, answers.clone())?,
            spawn("archive-sync", sync_queue, epoch, answers)?,
        ];
        Ok(Archivist { jobs, syncs, threads })
    }

    /// Queues a piece of work; false: the thread has ended.
    pub(super) fn queue(
        &self,
        chain: Arc<Chain>,
        work: ArchiveWork,
        (link, queues): (Option<FrameSender>, QueueSet),
    ) -> bool {
        let queue = match work {
            ArchiveWork::Sync => &self.syncs,
            _ => &self.jobs,
        };
        let job = Job {
            chain,
            work,
            link,
            queues,
        };
        queue.send(job).is_ok()
    }

    /// Waits until what was begun is ended. From a thread that may wait.
    pub(super) fn end(self) {
        drop((self.jobs, self.syncs));
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("an archive thread panicked");
            }
        }
    }
}

fn spawn(
    name: &str,
    mut queue: mpsc::UnboundedReceiver<Job>,
    epoch: u64,
    answers: mpsc::Sender<Inbound>,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let slab = Slab::default();
        while let Some(job) = queue.blocking_recv() {
            let event = run(job, &slab);
            if event.is_some_and(|event| answers.blocking_send(Inbound::Core(epoch, event)).is_err()) {
                return;
            }
        }
    })
}

/// How old the first block above `held` is, by its own time, milliseconds; none where there is none.
fn age_above(chain: &Chain, held: Height) -> Option<Millis> {
    let ledger = chain.ledger();
    let first = held.saturating_add(1).max(ledger.kept().history_from);
    let time = first_time(&ledger.headers(first, first).ok()?)?;
    let age = SystemTime::now()
        .duration_since(UNIX_EPOCH + Duration::from_nanos(time))
        .ok()?;
    u64::try_from(age.as_millis()).ok()
}

fn run(job: Job, slab: &Slab) -> Option<Event> {
    let Job {
        chain,
        mut work,
        link,
        queues,
    } = job;
    let ns = chain.namespace().clone();
    if let (ArchiveWork::Ship { bytes_max, .. } | ArchiveWork::ReadBack { bytes_max, .. }, Some(link)) =
        (&mut work, &link)
    {
        // One after the other, each read when the one before is queued: half as many questions as for records.
        *bytes_max = (*bytes_max).min(2 * link.frame_bytes());
    }
    let (needed, age) = match &work {
        ArchiveWork::Survey { held } => (queues.needs_from(&ns), age_above(&chain, *held)),
        _ => (None, None),
    };
    // Of chunks alone: history and headers are shipped, too.
    let length = match &work {
        ArchiveWork::Ship { .. } => Some(0),
        ArchiveWork::Write { bytes, .. } => Some(bytes.len() as u64),
        _ => None,
    };
    let done = archive(chain.ledger().as_ref(), &ns, work, slab)
        .needing(needed)
        .lacking(age);
    if let Some((_, frame)) = done.frame
        && !link.is_some_and(|link| link.send_blocking(frame))
    {
        // Nobody waits for it any more.
        return None;
    }
    let event = done.answer?;
    match (&event, length) {
        (ArchiveEvent::Shipped { result: Ok(bytes), .. }, Some(_)) => telemetry::snapshot_sent(&ns, *bytes),
        (ArchiveEvent::Written(_), Some(bytes)) => telemetry::snapshot_received(&ns, bytes),
        _ => {}
    }
    if matches!(event, ArchiveEvent::Adopted { .. }) {
        chain.synced();
    }
    Some(Event::Archive { ns, event })
}
