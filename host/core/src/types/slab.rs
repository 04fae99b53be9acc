//! Large buffers that come back: one that was given up serves the next, so a stream of pieces of one size asks the system for memory once.
//!
//! Memory that is taken anew costs a page fault for each 4 KiB of it, a tenth of what it takes to move the bytes.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

/// Longest buffer that is kept, bytes; and how many bytes wait at most: what pieces of other lengths left is of no use.
const BYTES_MAX: usize = 5 << 19;
const WAITING_BYTES_MAX: usize = 8 << 20;
/// A buffer serves what takes most of it: whoever keeps the bytes counts them, and not the buffer that they pin.
const SPARE_SHARE: usize = 4;

type Waiting = Mutex<Vec<Vec<u8>>>;

/// Buffers of one stream of pieces; those that wait go with it.
#[derive(Clone, Debug, Default)]
pub struct Slab(Arc<Waiting>);

impl Slab {
    /// A buffer with room for `length` bytes. What it holds is of before: it is overwritten, cut or cleared.
    pub fn take(&self, length: usize) -> Vec<u8> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = length..=length.saturating_add(length / SPARE_SHARE);
        let at = waiting.iter().rposition(|buffer| fits.contains(&buffer.capacity()));
        let found = at.map(|at| waiting.swap_remove(at));
        drop(waiting);
        // A little more, so that pieces of nearly one length share buffers.
        found.unwrap_or_else(|| Vec::with_capacity(length.saturating_add(length / SPARE_SHARE / 4)))
    }

    /// The bytes of a buffer, which comes back when the last of them is given up.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        let home = Arc::downgrade(&self.0);
        Bytes::from_owner(Lent { buffer, home })
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Weak<Waiting>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let buffer = std::mem::take(&mut self.buffer);
        let mut waiting = home.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.capacity() > BYTES_MAX {
            return;
        }
        let mut bytes = buffer.capacity() + waiting.iter().map(Vec::capacity).sum::<usize>();
        while bytes > WAITING_BYTES_MAX && !waiting.is_empty() {
            // The one that waited longest: pieces are of another length now.
            bytes -= waiting.remove(0).capacity();
        }
        waiting.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_nobody_reads_it_any_more() {
        let slab = Slab::default();
        let mut buffer = slab.take(100_000);
        assert!(buffer.capacity() >= 100_000);
        buffer.extend_from_slice(b"one");
        let place = buffer.as_ptr();
        let lent = slab.lend(buffer);
        let part = lent.slice(1..);
        drop(lent);
        assert_eq!(part.as_ref(), b"ne");
        let waiting = || slab.0.lock().unwrap().len();
        assert_eq!(waiting(), 0, "it is still read");
        drop(part);
        assert_eq!(waiting(), 1);
        // One that is too small for what is wanted stays, and so does one of which the most would be pinned for nothing.
        assert!(slab.take(1 << 20).capacity() >= 1 << 20 && waiting() == 1);
        assert!(slab.take(70_000).capacity() < 80_000 && waiting() == 1);
        let again = slab.take(90_000);
        assert_eq!((again.as_ptr(), waiting()), (place, 0));
    }

    #[test]
    fn what_waits_is_bounded_and_goes_with_the_slab() {
        let slab = Slab::default();
        let lent: Vec<Bytes> = (0..40).map(|_| slab.lend(slab.take(1 << 20))).collect();
        drop(lent);
        let waiting = || slab.0.lock().unwrap().iter().map(Vec::capacity).collect::<Vec<_>>();
        let kept = waiting();
        assert!(
            kept.iter().sum::<usize>() <= WAITING_BYTES_MAX && kept.len() == 7,
            "{kept:?}"
        );
        drop(slab.lend(slab.take(BYTES_MAX + 1)));
        assert_eq!(waiting(), kept);
        // Pieces of another length find theirs from the second on.
        drop(slab.lend(slab.take(900_000)));
        assert_eq!(waiting().len(), 7);
        slab.take(900_000);
        assert_eq!(waiting().len(), 6);
        let last = slab.lend(vec![7]);
        drop(slab);
        assert_eq!(last.as_ref(), [7]);
    }
}
