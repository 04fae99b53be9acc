//! The newest records in memory, as encoded: what the live tail of a stream is served from.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cvp_core::types::Height;

/// Spans up to this size are joined, so that a stream of small blocks does not become a stream of small frames.
const JOIN_BYTES_MAX: usize = 1 << 20;

struct Piece {
    first: Height,
    /// End offset of each record in `bytes`.
    ends: Arc<[u32]>,
    bytes: Bytes,
}

impl Piece {
    fn last(&self) -> Height {
        self.first + self.ends.len() as u64 - 1
    }

    fn start_of(&self, height: Height) -> usize {
        match (height - self.first) as usize {
            0 => 0,
            index => self.ends[index - 1] as usize,
        }
    }

    fn end_of(&self, height: Height) -> usize {
        self.ends[(height - self.first) as usize] as usize
    }
}

/// Consecutive records up to the appended tip, bounded in bytes.
pub(crate) struct Ring {
    pieces: VecDeque<Piece>,
    bytes: usize,
    bytes_max: usize,
}

impl Ring {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            pieces: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Adds the records that follow the newest.
    pub(crate) fn push(&mut self, first: Height, ends: Arc<[u32]>, bytes: Bytes) {
        self.bytes += bytes.len();
        self.pieces.push_back(Piece { first, ends, bytes });
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.pieces.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
        }
    }

    /// Whole records from `first` up to `last`, about `bytes_max` bytes but at least one; none when `first` is not here.
    pub(crate) fn read(&self, first: Height, last: Height, bytes_max: usize) -> Option<(Bytes, Height)> {
        let at = self.pieces.partition_point(|piece| piece.last() < first);
        let piece = self.pieces.get(at).filter(|piece| piece.first <= first)?;
        let (bytes, reached) = cut(piece, first, last, bytes_max)?;
        let whole = reached == piece.last() && reached < last;
        if !whole || bytes.len() >= JOIN_BYTES_MAX.min(bytes_max) {
            return Some((bytes, reached));
        }
        Some(self.join(at, bytes, reached, last, bytes_max.min(JOIN_BYTES_MAX)))
    }

    fn join(&self, at: usize, head: Bytes, mut reached: Height, last: Height, bytes_max: usize) -> (Bytes, Height) {
        let mut joined = BytesMut::with_capacity(bytes_max);
        joined.extend_from_slice(&head);
        for piece in self.pieces.iter().skip(at + 1) {
            let room = bytes_max.saturating_sub(joined.len());
            if reached >= last || piece.end_of(piece.first) > room {
                break;
            }
            let Some((bytes, end)) = cut(piece, piece.first, last, room) else {
                break;
            };
            joined.extend_from_slice(&bytes);
            reached = end;
        }
        (joined.freeze(), reached)
    }
}

fn cut(piece: &Piece, first: Height, last: Height, bytes_max: usize) -> Option<(Bytes, Height)> {
    if first > last {
        return None;
    }
    let start = piece.start_of(first);
    let mut reached = first;
    while reached < last.min(piece.last()) && piece.end_of(reached + 1) - start <= bytes_max {
        reached += 1;
    }
    Some((piece.bytes.slice(start..piece.end_of(reached)), reached))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring {
        let mut ring = Ring::new(100);
        ring.push(1, Arc::new([10, 20, 30]), Bytes::from(vec![1; 30]));
        ring.push(4, Arc::new([10]), Bytes::from(vec![2; 10]));
        ring.push(5, Arc::new([10, 20]), Bytes::from(vec![3; 20]));
        ring
    }

    #[test]
    fn records_are_cut_at_their_bounds_and_joined() {
        let ring = ring();
        assert_eq!(ring.read(1, 9, 25).map(|(b, r)| (b.len(), r)), Some((20, 2)));
        assert_eq!(
            ring.read(2, 9, 1).map(|(b, r)| (b.len(), r)),
            Some((10, 2)),
            "at least one"
        );
        assert_eq!(ring.read(2, 6, 1000).map(|(b, r)| (b.len(), r)), Some((50, 6)));
        assert_eq!(ring.read(2, 5, 1000).map(|(b, r)| (b.len(), r)), Some((40, 5)));
        assert_eq!(ring.read(7, 9, 1000).map(|(_, r)| r), None);
    }

    #[test]
    fn the_oldest_leave_first() {
        let mut ring = ring();
        ring.push(7, Arc::new([90]), Bytes::from(vec![4; 90]));
        assert!(ring.read(4, 9, 1000).is_none());
        assert_eq!(ring.read(7, 9, 1000).map(|(b, _)| b.len()), Some(90));
    }
}
