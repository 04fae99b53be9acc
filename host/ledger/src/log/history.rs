//! The old end of a log: where it begins, what goes from there, what is put before it.

use std::path::Path;

use bytes::Bytes;
use cvp_core::ledger::LedgerError;
use cvp_core::record::HEADER_REGION;
use cvp_core::types::{Digest, Height};

use super::{Log, Place};
use crate::base::Base;
use crate::segment::{HEADER_BYTES, Segment, check_room};

impl Log {
    /// Where the history begins.
    pub(crate) fn base(&self) -> Base {
        self.base
    }

    /// Lowest height whose record is kept.
    pub(crate) fn history_from(&self) -> Height {
        self.base.history_from()
    }

    /// Bytes of the records above `height`.
    pub(crate) fn bytes_above(&self, height: Height) -> u64 {
        let above = |segment: &Segment| {
            let from = match (height + 1).checked_sub(segment.first) {
                None => HEADER_BYTES as u32,
                Some(index) => usize::try_from(index)
                    .ok()
                    .and_then(|index| segment.offsets.get(index))
                    .unwrap_or(segment.end),
            };
            u64::from(segment.end - from)
        };
        self.segments
            .iter()
            .rev()
            .map_while(|s| (s.next() > height + 1).then(|| above(s)))
            .sum()
    }

    /// Bytes of all records kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.end) - HEADER_BYTES).sum()
    }

    /// The base once whole segments that end below `below` are gone; none when there is no such segment. The newest never goes.
    pub(crate) fn base_above(&self, below: Height) -> Result<Option<Base>, LedgerError> {
        let sealed = self.segments.len().saturating_sub(1);
        let gone = self.segments[..sealed].partition_point(|segment| segment.next() <= below);
        let Some(first) = self.segments.get(gone).filter(|_| gone > 0) else {
            return Ok(None);
        };
        Ok(Some(Base {
            below: Some(self.position_of(first.first - 1)?),
            ..self.base
        }))
    }

    /// Takes a base that is on the disk; answers the segments below it, whose files are to be removed.
    pub(crate) fn rebase(&mut self, base: Base) -> Vec<Segment> {
        self.base = base;
        let gone = self
            .segments
            .partition_point(|segment| segment.first < base.history_from());
        self.segments.drain(..gone).collect()
    }

    /// Puts a segment before the oldest; the base goes down with it.
    pub(crate) fn put_before(&mut self, segment: Segment, base: Base) {
        self.segments.insert(0, segment);
        self.base = base;
    }

    /// Where the headers of these records lie; none where one of them is not kept, or there is none.
    pub(crate) fn header_places(&self, first: Height, last: Height) -> Option<Vec<Place>> {
        let place = |height| {
            let record = self.place(height, height, 1)?;
            Some(Place {
                offset: record.offset + HEADER_REGION.start as u64,
                length: HEADER_REGION.len(),
                ..record
            })
        };
        let places: Option<Vec<Place>> = (first..=last).map(place).collect();
        places.filter(|places| !places.is_empty())
    }

    /// Where whole records lie that end with `last`: about `bytes_max` bytes, one at least, within one segment. Answers the first, too.
    pub(crate) fn place_back(&self, last: Height, bytes_max: usize) -> Option<(Height, Place)> {
        let segment = self.segment_of(last)?;
        let to = (last - segment.first) as usize;
        let end = segment.end_of(to);
        let floor = u64::from(end).saturating_sub(bytes_max as u64);
        let from = segment.offsets.below(floor, to);
        let offset = segment.offsets.get(from)?;
        let place = Place {
            file: segment.file.clone(),
            path: segment.path.clone(),
            offset: u64::from(offset),
            length: (end - offset) as usize,
            last,
        };
        Some((segment.first + from as u64, place))
    }
}

/// Writes a sealed segment of these records into `directory`, durably.
pub(crate) fn write_segment(
    directory: &Path,
    (namespace, reserve_bytes): (&Digest, u64),
    first: Height,
    lengths: &[usize],
    bytes: &Bytes,
) -> Result<Segment, LedgerError> {
    let size = HEADER_BYTES + bytes.len() as u64;
    if size > u64::from(u32::MAX) {
        return Err(LedgerError::corrupt(
            directory.display(),
            "more records than a segment holds",
        ));
    }
    check_room(directory, size, reserve_bytes)?;
    let mut segment = Segment::create(directory, namespace, first, size)?;
    segment.fill(lengths, bytes)?;
    segment.seal()?;
    Ok(segment)
}
