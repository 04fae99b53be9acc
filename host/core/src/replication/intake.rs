//! The receiver's half of one stream: runs that came in wait for the log, the log for the disk, the disk for the ack.
//!
//! Pure bookkeeping. Order: one run at a time is checked and appended, one fsync at a time covers all that was appended, and only what an
//! fsync covered is acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::frame::RECORDS_PAYLOAD_BYTES_MAX;
use crate::types::strategy::chain_sync::{Batch, Fetch};
use crate::types::{Height, Millis, Position};

/// One stream's progress.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    stream: u32,
    fetch: Option<Fetch>,
    waiting: Option<Fetch>,
    queue: VecDeque<Bytes>,
    queued_bytes: u64,
    ingesting: Option<(Millis, u64)>,
    appended: Position,
    durable: Position,
    unsynced: Batch,
    syncing: Option<(Millis, Batch)>,
}

const NOTHING: Batch = Batch {
    records: 0,
    bytes: 0,
    ingest_micros: 0,
    sync_micros: 0,
};

impl Intake {
    /// A log that ends, durably, at `durable`.
    pub fn new(durable: Position) -> Intake {
        Intake {
            stream: 0,
            fetch: None,
            waiting: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            ingesting: None,
            appended: durable,
            durable,
            unsynced: NOTHING,
            syncing: None,
        }
    }

    /// The fetch under way or about to be sent.
    pub fn fetch(&self) -> Option<Fetch> {
        self.waiting.or(self.fetch)
    }

    /// Received and not durable.
    pub fn backlog_bytes(&self) -> u64 {
        let syncing = self.syncing.map_or(0, |(_, batch)| batch.bytes);
        self.queued_bytes + self.ingesting.map_or(0, |(_, bytes)| bytes) + self.unsynced.bytes + syncing
    }

    /// Nothing that came waits to be handed out.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Since when the disk works on something without an answer.
    pub fn disk_since(&self) -> Option<Millis> {
        let sync = self.syncing.map(|(since, _)| since);
        let ingest = self.ingesting.map(|(since, _)| since);
        sync.into_iter().chain(ingest).min()
    }

    /// Nothing is under way and all that was appended is durable: a handshake may name the tip.
    pub fn is_quiet(&self) -> bool {
        self.ingesting.is_none() && self.syncing.is_none() && self.appended == self.durable
    }

    /// A strategy's fetch was accepted: a new stream begins as soon as the run under way is appended.
    pub fn want(&mut self, fetch: Fetch) {
        self.forget_stream();
        self.waiting = Some(fetch);
    }

    /// Credit alone changes. Answers the frame to send, if a stream is open.
    pub fn set_window(&mut self, bytes_in_flight: u64) -> Option<(u32, Fetch)> {
        if let Some(waiting) = &mut self.waiting {
            waiting.bytes_in_flight = bytes_in_flight;
            return None;
        }
        let fetch = self.fetch.as_mut()?;
        fetch.bytes_in_flight = bytes_in_flight;
        Some((self.stream, *fetch))
    }

    /// The stream that is open, unless another is about to take its place.
    pub fn stream(&self) -> Option<(u32, Fetch)> {
        let fetch = self.fetch.filter(|_| self.waiting.is_none())?;
        Some((self.stream, fetch))
    }

    /// The fetch to send now, under a new number, if one waits and its first height is known.
    pub fn open_stream(&mut self) -> Option<(u32, Fetch)> {
        if self.ingesting.is_some() {
            return None;
        }
        let mut fetch = self.waiting.take()?;
        fetch.first = self.appended.height + 1;
        if fetch.first > fetch.last {
            return None;
        }
        self.stream += 1;
        self.fetch = Some(fetch);
        Some((self.stream, fetch))
    }

    /// No stream any more: what was received and not handed to the log is dropped. The log's own work goes on.
    pub fn forget_stream(&mut self) {
        (self.fetch, self.waiting) = (None, None);
        self.queue.clear();
        self.queued_bytes = 0;
    }

    /// A new session: streams are numbered anew.
    pub fn attach(&mut self) {
        self.forget_stream();
        self.stream = 0;
    }

    /// A records frame. False: it belongs to a stream that is over, and is dropped.
    ///
    /// # Errors
    /// The provider sends more than it was allowed.
    pub fn on_records(&mut self, stream: u32, bytes: Bytes) -> Result<bool, String> {
        let Some(fetch) = self.fetch else { return Ok(false) };
        if stream != self.stream {
            return Ok(false);
        }
        let allowed = fetch.bytes_in_flight.saturating_add(RECORDS_PAYLOAD_BYTES_MAX as u64);
        if self.backlog_bytes() + bytes.len() as u64 > allowed {
            return Err(format!(
                "{} bytes more than the {} allowed",
                bytes.len(),
                fetch.bytes_in_flight
            ));
        }
        self.queued_bytes += bytes.len() as u64;
        self.queue.push_back(bytes);
        Ok(true)
    }

    /// The run to check and append now, with what it must follow.
    pub fn next_run(&mut self, now: Millis) -> Option<(Position, Bytes)> {
        if self.ingesting.is_some() {
            return None;
        }
        let bytes = self.queue.pop_front()?;
        self.queued_bytes -= bytes.len() as u64;
        self.ingesting = Some((now, bytes.len() as u64));
        Some((self.appended, bytes))
    }

    /// The run was appended.
    pub fn on_ingested(&mut self, tip: Position, micros: u64) {
        let Some((_, bytes)) = self.ingesting.take() else {
            return;
        };
        // Where a sync that ended in between has covered it, nothing of it waits for the disk.
        if tip.height > self.durable.height {
            self.unsynced.records += tip.height.saturating_sub(self.appended.height);
            self.unsynced.bytes += bytes;
            self.unsynced.ingest_micros += micros;
            self.appended = tip;
        }
        if self.fetch.is_some_and(|fetch| tip.height >= fetch.last) {
            self.fetch = None;
        }
    }

    /// The run was refused, or the store failed: nothing of it is in the log.
    pub fn on_ingest_failed(&mut self) {
        self.ingesting = None;
        self.forget_stream();
    }

    /// The store failed: nothing is under way any more.
    pub fn on_store_failed(&mut self) {
        self.on_ingest_failed();
        self.syncing = None;
    }

    /// The store works again, and its log ends at `appended`: what was under way when it stopped may have been written.
    pub fn on_store_recovered(&mut self, appended: Position) {
        if appended.height > self.appended.height {
            self.appended = appended;
        }
    }

    /// The log was replaced, and ends durably at `tip`.
    pub fn stand_on(&mut self, tip: Position) {
        *self = Intake {
            stream: self.stream,
            ..Intake::new(tip)
        };
    }

    /// True when an fsync should begin; it then counts as begun.
    pub fn begin_sync(&mut self, now: Millis) -> bool {
        if self.syncing.is_some() || self.appended == self.durable {
            return false;
        }
        self.syncing = Some((now, self.unsynced));
        self.unsynced = NOTHING;
        true
    }

    /// The fsync is done. Answers what became durable in it: a run too that was appended while its word is still on the way here.
    pub fn on_synced(&mut self, durable: Position, micros: u64) -> Option<Batch> {
        let (_, mut batch) = self.syncing.take()?;
        if durable.height <= self.durable.height {
            return None;
        }
        if durable.height > self.appended.height {
            batch.records += durable.height - self.appended.height;
            self.appended = durable;
        }
        self.durable = durable;
        batch.sync_micros = micros;
        Some(batch)
    }

    /// Next height expected.
    pub fn next(&self) -> Height {
        self.appended.height + 1
    }

    /// What must hold.
    pub fn invariants(&self) -> Result<(), String> {
        if self.durable.height > self.appended.height {
            return Err(format!(
                "durable {} above appended {}",
                self.durable.height, self.appended.height
            ));
        }
        let queued: u64 = self.queue.iter().map(|bytes| bytes.len() as u64).sum();
        if queued != self.queued_bytes {
            return Err(format!("{} bytes queued, {queued} counted", self.queued_bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Digest;

    fn at(height: Height) -> Position {
        Position {
            height,
            hash: Digest::of(&height.to_le_bytes()),
        }
    }

    fn receive(intake: &mut Intake) -> (Position, Bytes) {
        let bytes = Bytes::from_static(&[7; 100]);
        assert_eq!(intake.on_records(intake.stream, bytes), Ok(true));
        intake.next_run(0).unwrap()
    }

    #[test]
    fn a_sync_may_cover_a_run_before_its_own_word_comes() {
        let mut intake = Intake::new(at(10));
        intake.want(Fetch {
            first: 11,
            last: Height::MAX,
            bytes_in_flight: 1000,
        });
        intake.open_stream().unwrap();
        receive(&mut intake);
        intake.on_ingested(at(12), 5);
        assert!(intake.begin_sync(0));
        // The run up to 15 is in the log when the fsync begins.
        receive(&mut intake);
        let batch = intake.on_synced(at(15), 9).unwrap();
        assert_eq!((batch.records, batch.bytes), (5, 100));
        intake.invariants().unwrap();
        assert_eq!(intake.next_run(0), None, "the run is still under way");
        assert!(!intake.is_quiet());
        intake.on_ingested(at(15), 5);
        assert!(intake.is_quiet());
        assert_eq!((intake.backlog_bytes(), intake.next()), (0, 16));
        assert!(!intake.begin_sync(0), "nothing waits for the disk");
        let (parent, _) = receive(&mut intake);
        assert_eq!(parent, at(15));
    }
}
