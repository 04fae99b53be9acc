//! Frames that overtake the word of the own host: a receiver may acknowledge a run, or ask for what follows it, before the host of this
//! end has said that it read and queued the run. They wait for that word, in their order.

use crate::frame::{Frame, Kind};
use crate::session::refuse;
use crate::types::{Reader, Refusal};

use super::lane::Lane;
use super::pair::Pair;

/// Most frames that wait: an ack and a fetch about one run are usual.
const EARLY_MAX: usize = 16;

impl Lane {
    /// Whether a fetch or an ack is about the run that is being read, or comes after one that is.
    fn is_early(&self, frame: &Frame) -> bool {
        // Both begin with a height: of the last record held, or of the one after it.
        let Ok(height) = Reader::new(&frame.payload).u64() else {
            return false;
        };
        let beyond = match frame.kind {
            Kind::Fetch => height > self.sender.next(),
            _ => height >= self.sender.next(),
        };
        self.sender.reading_since().is_some() && (beyond || !self.early.is_empty())
    }
}

impl Pair {
    /// Provider: a fetch or an ack, now or when the read under way is done.
    pub(super) fn on_request(&mut self, index: usize, frame: Frame) -> Result<(), Refusal> {
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        if !lane.is_early(&frame) {
            return self.take_request(index, &frame);
        }
        if lane.early.len() == EARLY_MAX {
            return Err(refuse::unexpected("number of frames about a run that is being read"));
        }
        lane.early.push(frame);
        Ok(())
    }

    fn take_request(&mut self, index: usize, frame: &Frame) -> Result<(), Refusal> {
        match frame.kind {
            Kind::Fetch => self.on_fetch(index, frame),
            _ => self.on_ack(index, &frame.payload),
        }
    }

    /// The read is done: what waited for it.
    pub(super) fn take_early(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        for frame in std::mem::take(&mut lane.early) {
            if let Err(refusal) = self.take_request(index, &frame) {
                return self.end_session_for(refusal);
            }
        }
    }
}
