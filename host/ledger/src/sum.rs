//! The sum of a whole state: one thread reads its entries in order, others hash them. The sum does not depend on the order, so each of them
//! has a part of it.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use cvp_core::ledger::{LedgerError, Progress};
use cvp_core::record::Accumulator;
use rocksdb::{DB, ReadOptions};

use crate::databases::{MARKER, Marker, STATE, failed, read_marker};

/// Bytes of the entries that are hashed in one go, and between two words to whoever waits.
const BATCH_BYTES: usize = 256 << 10;

/// Read from the disk in one go.
const READ_AHEAD_BYTES: usize = 2 << 20;

/// Batches that wait for a thread.
const BATCHES_WAITING: usize = 2;

/// Reading keeps up with no more than so many.
const THREADS_MAX: usize = 4;

/// Entries, back to back.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where in `bytes` each key and each value ends.
    ends: Vec<(usize, usize)>,
}

impl Batch {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    fn add_to(&self, sum: &mut Accumulator) {
        let mut start = 0;
        for (key_end, end) in &self.ends {
            sum.add(&self.bytes[start..*key_end], &self.bytes[*key_end..*end]);
            start = *end;
        }
    }
}

/// The marker of `state` and the sum of all its entries, both of one snapshot; none when it is empty. `progress` is told the marker's height
/// again and again.
///
/// # Errors
/// `Abandoned` when `progress` says so; what reading says.
pub(crate) fn sum_state(
    state: &DB,
    path: &Path,
    progress: Progress<'_>,
) -> Result<Option<(Marker, Accumulator)>, LedgerError> {
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get().min(THREADS_MAX));
    thread::scope(|scope| {
        let (queues, summing): (Vec<_>, Vec<_>) = (0..threads)
            .map(|_| {
                let (queue, batches) = sync_channel(BATCHES_WAITING);
                (queue, scope.spawn(move || sum_batches(&batches)))
            })
            .unzip();
        let read = read_entries(state, path, &queues, progress);
        // No more comes.
        drop(queues);
        let mut sum = Accumulator::new();
        for part in summing {
            match part.join() {
                Ok(part) => sum.merge(&part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(read?.map(|marker| (marker, sum)))
    })
}

fn sum_batches(batches: &Receiver<Batch>) -> Accumulator {
    let mut sum = Accumulator::new();
    for batch in batches {
        batch.add_to(&mut sum);
    }
    sum
}

/// Hands every entry of the state to the threads, in turn; answers the marker.
fn read_entries(
    state: &DB,
    path: &Path,
    queues: &[SyncSender<Batch>],
    progress: Progress<'_>,
) -> Result<Option<Marker>, LedgerError> {
    let snapshot = state.snapshot();
    let mut turns = queues.iter().cycle();
    // A thread that panicked takes no more; it is told when all are over.
    let mut hand_over = |batch: Batch| turns.next().is_some_and(|queue| queue.send(batch).is_ok());
    let (mut marker, mut batch) = (None::<Marker>, Batch::default());
    let mut options = ReadOptions::default();
    // What a node needs at hand stays in the cache.
    options.fill_cache(false);
    options.set_readahead_size(READ_AHEAD_BYTES);
    let mut entries = snapshot.raw_iterator_opt(options);
    entries.seek_to_first();
    while let Some((key, value)) = entries.item() {
        match key.split_first() {
            Some((&STATE, key)) => batch.put(key, value),
            // Its key sorts before all others.
            _ if *key == *MARKER => marker = Some(read_marker(value, path)?),
            _ => return Err(LedgerError::corrupt(path.display(), "a key of another kind than state")),
        }
        if batch.bytes.len() >= BATCH_BYTES {
            hand_over(std::mem::take(&mut batch));
            let height = marker.as_ref().map_or(0, |marker| marker.position.height);
            if progress(height).is_break() {
                return Err(LedgerError::Abandoned);
            }
        }
        entries.next();
    }
    entries.status().map_err(failed("read", path))?;
    hand_over(batch);
    Ok(marker)
}
