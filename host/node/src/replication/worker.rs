//! The threads that touch a namespace's ledger for the machine: one reads and appends, one makes durable, so that reading from the
//! socket, verifying and fdatasync overlap. The machine bounds what is under way; the queues bound it again.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use cvp_core::frame::{Frame, Kind, NamespaceTag};
use cvp_core::ledger::{LedgerError, Run};
use cvp_core::record::namespace_digest;
use cvp_core::replication::{ConnId, Event, NotIngested, ingest};
use cvp_core::types::{Digest, Height, Namespace, Position, Refusal};
use tokio::sync::mpsc;

use super::driver::Inbound;
use crate::link::FrameSender;
use crate::namespace::{Chain, ChainSet};
use crate::telemetry::pair as telemetry;

/// Runs of records that may wait to be ingested; their bytes are bounded by the receiver's window.
const JOBS_MAX: usize = 4096;

/// What a worker does.
pub(super) enum Job {
    /// Say whether the ledger has room again, for so many bytes.
    Probe(u64),
    Ingest {
        parent: Position,
        bytes: Bytes,
        /// Make it durable at once, on the same thread: nothing else is on its way to the disk.
        durably: bool,
    },
    Read(Wanted),
}

/// A run that is to be read and sent.
pub(super) struct Wanted {
    pub(super) conn: ConnId,
    pub(super) link: FrameSender,
    pub(super) stream: u32,
    pub(super) first: Height,
    pub(super) last: Height,
    pub(super) bytes_max: usize,
}

impl Wanted {
    /// The frame of a run that was read, and the word of it.
    pub(super) fn found(&self, ns: &Namespace, run: Run) -> (Frame, Event) {
        let done = Event::ReadDone {
            conn: self.conn,
            ns: ns.clone(),
            stream: self.stream,
            first: run.first,
            last: run.last,
            bytes: run.bytes.len() as u64,
        };
        (
            Frame::of(Kind::Records, NamespaceTag::of(ns), self.stream, run.bytes),
            done,
        )
    }
}

/// The two threads of a namespace; they end when this is dropped and their queues are empty.
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
    syncs: mpsc::Sender<()>,
    threads: [thread::JoinHandle<()>; 2],
}

impl Worker {
    /// Starts the threads. `epoch` marks their answers: those of an earlier role are dropped.
    pub(super) fn start(chain: Arc<Chain>, epoch: u64, answers: mpsc::Sender<Inbound>) -> std::io::Result<Worker> {
        let (jobs, mut job_queue) = mpsc::channel(JOBS_MAX);
        let (syncs, mut sync_queue) = mpsc::channel(1);
        let name = chain.namespace().clone();
        let (copy, reply) = (Arc::clone(&chain), answers.clone());
        let copying = thread::Builder::new().name(format!("copy-{name}")).spawn(move || {
            let digest = namespace_digest(copy.namespace());
            while let Some(job) = job_queue.blocking_recv() {
                let durably = matches!(job, Job::Ingest { durably: true, .. });
                let Some(event) = run(&copy, &digest, job) else {
                    continue;
                };
                let appended = matches!(event, Event::Ingested { .. });
                let synced = (durably && appended).then(|| sync(&copy));
                if !answer(&copy, &reply, epoch, event, synced) {
                    return;
                }
            }
        })?;
        let disk = Arc::clone(&chain);
        let syncing = thread::Builder::new().name(format!("sync-{name}")).spawn(move || {
            while sync_queue.blocking_recv().is_some() {
                let event = sync(&disk);
                if !answer(&disk, &answers, epoch, event, None) {
                    return;
                }
            }
        })?;
        Ok(Worker {
            jobs,
            syncs,
            threads: [copying, syncing],
        })
    }

    /// Waits until what was begun is ended; afterwards the ledger is touched no more. From a thread that may wait.
    pub(super) fn end(self) {
        drop((self.jobs, self.syncs));
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a replication thread panicked");
            }
        }
    }

    /// Queues a job.
    ///
    /// # Errors
    /// More waits than the bounds allow, which passes; or the thread has ended, which does not.
    pub(super) fn queue(&self, job: Job) -> Result<(), Refusal> {
        self.jobs.try_send(job).map_err(|error| not_queued("records", &error))
    }

    /// Queues a sync; errors as of [`Worker::queue`].
    pub(super) fn sync(&self) -> Result<(), Refusal> {
        self.syncs.try_send(()).map_err(|error| not_queued("syncs", &error))
    }
}

/// One thread that reads any namespace for a follower, one run after the other: it waits for the follower, and nobody for it.
pub(super) struct Reader(mpsc::Sender<(Namespace, Job)>);

impl Reader {
    /// Starts the thread; it ends with the last handle, or when nobody hears its answers.
    pub(super) fn start(chains: ChainSet, answers: mpsc::Sender<Inbound>) -> std::io::Result<Reader> {
        let (jobs, mut queue) = mpsc::channel::<(Namespace, Job)>(JOBS_MAX);
        thread::Builder::new().name("serve-follower".into()).spawn(move || {
            while let Some((ns, job)) = queue.blocking_recv() {
                let Some(chain) = chains.get(ns.as_str()) else { continue };
                let event = run(&chain, &namespace_digest(&ns), job);
                if event.is_some_and(|event| answers.blocking_send(Inbound::Core(0, event)).is_err()) {
                    return;
                }
            }
        })?;
        Ok(Reader(jobs))
    }

    /// Queues a job: one a namespace is under way, so there is room.
    pub(super) fn queue(&self, ns: Namespace, job: Job) {
        if let Err(error) = self.0.try_send((ns, job)) {
            tracing::debug!(%error, "read for a follower");
        }
    }
}

fn not_queued<T>(what: &str, error: &mpsc::error::TrySendError<T>) -> Refusal {
    match error {
        mpsc::error::TrySendError::Full(_) => Refusal::new(
            "worker-overrun",
            format!("too many {what} wait for the disk"),
            "look at the disk's load; the copy goes on by itself",
        ),
        mpsc::error::TrySendError::Closed(_) => Refusal::new(
            "not-running",
            "a replication thread has ended",
            "see the log of this node, and start it again",
        ),
    }
}

fn micros(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// `None`: the link of a read has ended, and nobody waits for the answer; or the ledger has no room still.
fn run(chain: &Chain, digest: &Digest, job: Job) -> Option<Event> {
    let ns = chain.namespace().clone();
    let begun = Instant::now();
    Some(match job {
        // In the queue like the others: what was under way when the store stopped is over by now.
        Job::Probe(bytes) => {
            chain.ledger().room(bytes).ok()?;
            let appended = chain.ledger().tips().appended;
            Event::StoreRecovered { ns, appended }
        }
        Job::Ingest { parent, bytes, .. } => {
            let length = bytes.len() as u64;
            let mut checked = begun;
            let checks = || checked = Instant::now();
            match ingest(chain.ledger().as_ref(), digest, parent, bytes, checks) {
                Ok(tip) => {
                    let took = (checked.duration_since(begun), checked.elapsed());
                    telemetry::received(&ns, tip.height - parent.height, length, took);
                    Event::Ingested {
                        ns,
                        tip,
                        bytes: length,
                        micros: micros(begun),
                    }
                }
                Err(NotIngested::Store(refusal)) => Event::StoreFailed { ns, refusal },
                Err(NotIngested::Peer(refusal)) => Event::Rejected { ns, refusal },
            }
        }
        Job::Read(wanted) => {
            let bytes_max = wanted.bytes_max.min(wanted.link.frame_bytes());
            match chain.ledger().read(wanted.first, wanted.last, bytes_max) {
                Ok(run) => {
                    let bytes = run.bytes.len() as u64;
                    let (frame, done) = wanted.found(&ns, run);
                    if !wanted.link.send_blocking(frame) {
                        return None;
                    }
                    telemetry::sent(&ns, bytes);
                    done
                }
                Err(error) => failed(ns, &error),
            }
        }
    })
}

/// Tells the task, and only then the chain, so that what is durable is acknowledged before it is applied; false: nobody hears it.
fn answer(chain: &Chain, answers: &mpsc::Sender<Inbound>, epoch: u64, event: Event, synced: Option<Event>) -> bool {
    let is_durable = matches!(synced.as_ref().unwrap_or(&event), Event::Synced { .. });
    let told = match synced {
        Some(synced) => Inbound::Durable(epoch, chain.namespace().clone(), event, Box::new(synced)),
        None => Inbound::Core(epoch, event),
    };
    if answers.blocking_send(told).is_err() {
        return false;
    }
    if is_durable {
        // On a busy processor the task goes first.
        thread::yield_now();
        chain.synced();
    }
    true
}

fn sync(chain: &Chain) -> Event {
    let ns = chain.namespace().clone();
    let begun = Instant::now();
    match chain.ledger().sync() {
        Ok(durable) => {
            telemetry::synced(&ns, begun.elapsed());
            Event::Synced {
                ns,
                durable,
                applied: chain.tips().applied.height,
                micros: micros(begun),
            }
        }
        Err(error) => failed(ns, &error),
    }
}

fn failed(ns: Namespace, error: &LedgerError) -> Event {
    Event::StoreFailed {
        ns,
        refusal: error.refusal(),
    }
}
