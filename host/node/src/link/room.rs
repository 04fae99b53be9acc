//! Room for large frames that wait to be written: as many bytes as the line takes in a moment. What is queued is ahead of everything that is
//! said later, and on a slow line a queue as long as memory allows would hold a block of a quiet namespace, or a change of the configuration,
//! up for as long as all of it takes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// So much of the line's rate may wait.
const WAITS_MS: u64 = 100;
/// Bytes that may wait on any line, and on the fastest: what waits longer is out of the processor's cache when it is encrypted.
const BYTES: (u64, u64) = (256 << 10, 16 << 20);
/// A frame is to be so much of that: what is being written cannot be passed by either.
const FRAME_SHARE: u64 = 4;
const FRAME_BYTES_MIN: u64 = 128 << 10;
/// Of what was written so far this share may wait: what the first megabytes take, which fill buffers of the system, says nothing of the line.
const WRITTEN_SHARE: u64 = 8;
/// The rate is that of about so long.
const RATE_OF: Duration = Duration::from_secs(1);

/// Large frames that wait for one link.
#[derive(Debug, Default)]
pub(super) struct Room {
    state: Mutex<State>,
    /// Held by the one whose turn it is to wait for room: with a hundred namespaces, each frame that leaves wakes that one alone.
    turn: Mutex<()>,
    freed: Condvar,
    /// Bytes that the system took, of frames of any size.
    moved: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Lengths of the frames that wait, in order.
    queued: VecDeque<usize>,
    bytes: u64,
    /// One is being written.
    writes: bool,
    /// So many wait for room, or for their turn to.
    waiting: u64,
    ended: bool,
    written: u64,
    /// Bytes written lately, and the time that it took.
    lately: (u64, Duration),
}

impl State {
    fn bytes_max(&self) -> u64 {
        let (bytes, took) = self.lately;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let rate = bytes.saturating_mul(1_000 * WAITS_MS).checked_div(micros);
        let rate = rate.unwrap_or(u64::MAX);
        rate.min(self.written / WRITTEN_SHARE).clamp(BYTES.0, BYTES.1)
    }

    fn fits(&self, bytes: usize) -> bool {
        self.queued.is_empty() || self.bytes + bytes as u64 <= self.bytes_max()
    }

    fn take(&mut self, bytes: usize) {
        self.queued.push_back(bytes);
        self.bytes += bytes as u64;
    }
}

impl Room {
    /// Bytes that a frame of records should have at most.
    pub fn frame_bytes(&self) -> usize {
        let bytes = self.state.lock().bytes_max() / FRAME_SHARE;
        usize::try_from(bytes.max(FRAME_BYTES_MIN)).unwrap_or(usize::MAX)
    }

    /// Takes room if there is some now and nobody waits for it.
    pub fn take_now(&self, bytes: usize) -> bool {
        let mut state = self.state.lock();
        let free = !state.ended && state.waiting == 0 && state.fits(bytes);
        if free {
            state.take(bytes);
        }
        free
    }

    /// Takes room in turn, on a thread that may wait; `false`: the link has ended.
    pub fn take_blocking(&self, bytes: usize) -> bool {
        self.state.lock().waiting += 1;
        let turn = self.turn.lock();
        let mut state = self.state.lock();
        while !state.ended && !state.fits(bytes) {
            self.freed.wait(&mut state);
        }
        state.waiting -= 1;
        let there = !state.ended;
        if there {
            state.take(bytes);
        }
        drop(state);
        // To who has waited longest.
        MutexGuard::unlock_fair(turn);
        there
    }

    /// Takes room for what a session says by itself, which waits for nobody, as long as fewer than `frames_max` wait.
    pub fn take_beyond(&self, bytes: usize, frames_max: usize) -> bool {
        let mut state = self.state.lock();
        let few = !state.ended && state.queued.len() < frames_max;
        if few {
            state.take(bytes);
        }
        few
    }

    /// The next frame is being written.
    pub fn leave(&self) {
        let mut state = self.state.lock();
        if let Some(bytes) = state.queued.pop_front() {
            state.bytes -= bytes as u64;
        }
        state.writes = true;
        self.freed.notify_one();
    }

    /// It was written, and that took so long.
    pub fn written(&self, bytes: usize, took: Duration) {
        let mut state = self.state.lock();
        state.writes = false;
        state.written += bytes as u64;
        state.lately.0 += bytes as u64;
        state.lately.1 += took;
        if state.lately.1 >= RATE_OF {
            state.lately = (state.lately.0 / 2, state.lately.1 / 2);
        }
    }

    /// The system took so many bytes.
    pub fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that the system took so far, while large frames wait for it.
    pub fn waits(&self) -> Option<u64> {
        let state = self.state.lock();
        let waits = !state.ended && (state.writes || state.waiting > 0 || !state.queued.is_empty());
        waits.then(|| self.moved.load(Ordering::Relaxed))
    }

    /// The link has ended: nobody waits any longer.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn as_much_waits_as_the_line_takes_in_a_moment() {
        let room = Room::default();
        // The first of any size, for something must go.
        assert!(room.take_now(9 * MIB) && !room.take_now(100_000));
        room.leave();
        // Buffers of the system take the first megabytes at once.
        for _ in 0..8 {
            room.written(MIB, Duration::from_micros(900));
        }
        assert_eq!(room.state.lock().bytes_max(), MIB as u64);
        // A line of 2 MiB a second: the least.
        for _ in 0..40 {
            room.written(MIB, Duration::from_millis(500));
        }
        assert_eq!(room.state.lock().bytes_max(), BYTES.0);
        assert_eq!(room.frame_bytes() as u64, FRAME_BYTES_MIN);
        // One of a gigabyte a second: what it takes in a tenth of one, up to the most.
        for _ in 0..4_000 {
            room.written(MIB, Duration::from_millis(1));
        }
        assert_eq!(room.state.lock().bytes_max(), BYTES.1);
        for _ in 0..16 {
            assert!(room.take_now(MIB));
        }
        assert!(!room.take_now(MIB) && room.take_beyond(MIB, 17) && !room.take_beyond(MIB, 17));
    }

    #[test]
    fn who_waits_is_served_in_turn_until_the_link_ends() {
        let room = Arc::new(Room::default());
        assert!(room.take_now(MIB));
        let (told, served) = mpsc::channel();
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (room, told) = (Arc::clone(&room), told.clone());
                std::thread::spawn(move || told.send((number, room.take_blocking(MIB))))
            })
            .collect();
        while room.state.lock().waiting < 4 {
            std::thread::yield_now();
        }
        let mut numbers = std::collections::BTreeSet::new();
        for _ in 0..3 {
            assert!(served.try_recv().is_err());
            room.leave();
            let (number, there) = served.recv().unwrap();
            assert!(there && numbers.insert(number));
            // Nobody overtakes who waits.
            assert!(!room.take_now(1));
        }
        room.end();
        let (number, there) = served.recv().unwrap();
        assert!(!there && numbers.insert(number));
        assert!(!room.take_now(1) && !room.take_blocking(1) && !room.take_beyond(1, 9));
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    }
}
