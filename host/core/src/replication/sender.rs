//! The provider's half of one stream: what was sent, what was acknowledged, and how much more may be sent.
//!
//! Pure bookkeeping: does not read records and does not know links.

use std::collections::VecDeque;

use crate::frame::RECORDS_PAYLOAD_BYTES_TARGET;
use crate::types::{Digest, Height, Micros, Millis, Position};

/// Why an acknowledgement is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum BadAck {
    /// It goes back, or names a height that does not end a run that was sent.
    NotSent {
        /// The height acknowledged.
        height: Height,
    },
    /// The receiver holds another record there.
    Diverged {
        /// What was sent.
        ours: Position,
        /// What is held.
        theirs: Digest,
    },
}

/// What may be read and sent next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub first: Height,
    pub last: Height,
    pub bytes_max: usize,
}

/// A run that was sent and is not acknowledged.
#[derive(Clone, Copy, Debug)]
struct Sent {
    last: Position,
    bytes: u64,
    at: Micros,
}

/// One stream's window.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    stream: u32,
    open: bool,
    next: Height,
    last: Height,
    credit: u64,
    run_records: u64,
    sent: VecDeque<Sent>,
    sent_bytes: u64,
    reading_since: Option<Millis>,
    acked: Position,
    ack_micros: Option<Micros>,
}

impl Sender {
    /// A stream that was not asked for yet; the receiver holds `acked`.
    pub fn new(acked: Position) -> Sender {
        Sender {
            stream: 0,
            open: false,
            next: acked.height + 1,
            last: 0,
            credit: 0,
            run_records: 0,
            sent: VecDeque::new(),
            sent_bytes: 0,
            reading_since: None,
            acked,
            ack_micros: None,
        }
    }

    /// What the receiver holds durably.
    pub fn acked(&self) -> Position {
        self.acked
    }

    /// Time from the sending of a run to its durable acknowledgement, smoothed over the last eight or so; none before the first.
    pub fn ack_micros(&self) -> Option<Micros> {
        self.ack_micros
    }

    /// Number of the stream that is served.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// Next height to be sent.
    pub fn next(&self) -> Height {
        self.next
    }

    /// Whether the receiver asked for records, and (last, credit) if so.
    pub fn fetch(&self) -> Option<(Height, u64)> {
        self.open.then_some((self.last, self.credit))
    }

    /// Sent and not acknowledged.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Nothing is being read, and nothing on its way.
    pub fn is_quiet(&self) -> bool {
        self.reading_since.is_none() && self.sent_bytes == 0
    }

    /// Since when a read is under way.
    pub fn reading_since(&self) -> Option<Millis> {
        self.reading_since
    }

    /// Stops until the next fetch.
    pub fn stop(&mut self) {
        self.open = false;
    }

    /// The receiver holds `position` by other means than this stream.
    pub fn stand_on(&mut self, position: Position) {
        *self = Sender {
            stream: self.stream,
            reading_since: self.reading_since,
            ack_micros: self.ack_micros,
            ..Sender::new(position)
        };
    }

    /// The read under way will not be answered.
    pub fn on_store_failed(&mut self) {
        self.stop();
        self.reading_since = None;
    }

    /// The receiver's wish. A number already served changes end, credit and `run_records` (records of a run at most; 0: no bound) alone.
    ///
    /// # Errors
    /// It begins where the receiver cannot be.
    pub fn on_fetch(
        &mut self,
        stream: u32,
        (first, last): (Height, Height),
        credit: u64,
        run_records: u64,
    ) -> Result<(), String> {
        if stream < self.stream {
            return Err(format!("fetch {stream} after {}", self.stream));
        }
        (self.last, self.credit, self.run_records) = (last, credit, run_records);
        if stream == self.stream && self.open {
            return Ok(());
        }
        if first <= self.acked.height || first > self.next {
            return Err(format!(
                "fetch from {first}: acknowledged {}, next {}",
                self.acked.height, self.next
            ));
        }
        // What was sent from here on never reached the receiver's log: it will not be acknowledged.
        while let Some(sent) = self.sent.pop_back_if(|sent| sent.last.height >= first) {
            self.sent_bytes -= sent.bytes;
        }
        (self.stream, self.open, self.next) = (stream, true, first);
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::WindowOffByOne) {
            self.next += 1;
        }
        Ok(())
    }

    /// What the receiver holds durably now; true when it moved.
    pub fn on_ack(&mut self, position: Position, now: Micros) -> Result<bool, BadAck> {
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::StaleAckAccepted) && position.height < self.acked.height {
            self.acked = position;
            return Ok(true);
        }
        if position.height == self.acked.height {
            return if position.hash == self.acked.hash {
                Ok(false)
            } else {
                Err(BadAck::Diverged {
                    ours: self.acked,
                    theirs: position.hash,
                })
            };
        }
        let Some(sent) = self.sent.iter().find(|sent| sent.last.height == position.height) else {
            return Err(BadAck::NotSent {
                height: position.height,
            });
        };
        if sent.last.hash != position.hash {
            return Err(BadAck::Diverged {
                ours: sent.last,
                theirs: position.hash,
            });
        }
        while let Some(sent) = self.sent.pop_front_if(|sent| sent.last.height <= position.height) {
            self.sent_bytes -= sent.bytes;
            let took = now.saturating_sub(sent.at);
            self.ack_micros = Some(self.ack_micros.map_or(took, |mean| (mean * 7 + took) / 8));
        }
        self.acked = position;
        Ok(true)
    }

    /// What to read next, if anything may be sent: never above `durable`.
    pub fn wanted(&self, durable: Height) -> Option<Wanted> {
        let mut last = self.last.min(durable);
        if let Some(more) = self.run_records.checked_sub(1) {
            last = last.min(self.next.saturating_add(more));
        }
        let mut room = self.credit.saturating_sub(self.sent_bytes);
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::CreditIgnored) {
            room = u64::MAX;
        }
        let target = RECORDS_PAYLOAD_BYTES_TARGET as u64;
        // What little a window has left waits for more: short runs cost both ends as much as long ones.
        let little = self.sent_bytes > 0 && room < target.min(self.credit / 4);
        if !self.open || self.reading_since.is_some() || self.next > last || room == 0 || little {
            return None;
        }
        room = room.min(target);
        Some(Wanted {
            first: self.next,
            last,
            bytes_max: room as usize,
        })
    }

    /// The read was handed out.
    pub fn begin_read(&mut self, now: Millis) {
        self.reading_since = Some(now);
    }

    /// The read is done and its frame queued; true if it was one of this stream.
    pub fn on_read_done(&mut self, stream: u32, first: Height, last: Position, bytes: u64, now: Micros) -> bool {
        self.reading_since = None;
        if stream != self.stream || !self.open || first != self.next || last.height < first {
            return false;
        }
        self.next = last.height + 1;
        self.sent.push_back(Sent { last, bytes, at: now });
        self.sent_bytes += bytes;
        true
    }

    /// What must hold.
    pub fn invariants(&self) -> Result<(), String> {
        let sum: u64 = self.sent.iter().map(|sent| sent.bytes).sum();
        if sum != self.sent_bytes {
            return Err(format!("{} bytes under way, {sum} in the list", self.sent_bytes));
        }
        let heights = self.sent.iter().map(|sent| sent.last.height);
        if !heights.clone().is_sorted_by(|a, b| a < b) || heights.clone().any(|height| height <= self.acked.height) {
            return Err("the list of runs under way is not above the acknowledged height".into());
        }
        if self.open && self.next <= self.acked.height {
            return Err(format!(
                "next {} is acknowledged already ({})",
                self.next, self.acked.height
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(height: Height) -> Position {
        Position {
            height,
            hash: Digest::of(&height.to_le_bytes()),
        }
    }

    fn send(sender: &mut Sender, last: Height, bytes: u64) {
        let wanted = sender.wanted(1000).unwrap();
        sender.begin_read(0);
        assert!(sender.on_read_done(sender.stream(), wanted.first, at(last), bytes, 0));
    }

    #[test]
    fn credit_bounds_what_is_under_way_and_acks_return_it() {
        let mut sender = Sender::new(at(10));
        assert_eq!(sender.wanted(1000), None);
        sender.on_fetch(1, (11, u64::MAX), 100, 0).unwrap();
        send(&mut sender, 12, 40);
        send(&mut sender, 13, 80);
        assert_eq!(sender.wanted(1000), None);
        // A fifth of the window is free: more is waited for.
        assert_eq!(sender.on_ack(at(12), 0), Ok(true));
        assert_eq!(sender.wanted(1000), None);
        assert_eq!(sender.on_ack(at(13), 0), Ok(true));
        send(&mut sender, 14, 40);
        assert_eq!(
            sender.wanted(1000),
            Some(Wanted {
                first: 15,
                last: 1000,
                bytes_max: 60
            })
        );
        assert_eq!(sender.wanted(14), None);
        sender.invariants().unwrap();
    }

    #[test]
    fn acks_of_nothing_sent_or_of_another_hash_are_refused() {
        let mut sender = Sender::new(at(10));
        sender.on_fetch(1, (11, u64::MAX), 1000, 0).unwrap();
        send(&mut sender, 15, 60);
        assert_eq!(sender.on_ack(at(9), 0), Err(BadAck::NotSent { height: 9 }));
        assert_eq!(sender.on_ack(at(12), 0), Err(BadAck::NotSent { height: 12 }));
        assert_eq!(sender.on_ack(at(16), 0), Err(BadAck::NotSent { height: 16 }));
        let other = Position {
            height: 15,
            hash: Digest::ZERO,
        };
        assert!(matches!(sender.on_ack(other, 0), Err(BadAck::Diverged { .. })));
        assert_eq!(sender.on_ack(at(15), 0), Ok(true));
    }

    #[test]
    fn a_new_fetch_starts_over_where_the_receiver_is() {
        let mut sender = Sender::new(at(0));
        sender.on_fetch(1, (1, u64::MAX), 1000, 0).unwrap();
        send(&mut sender, 5, 100);
        send(&mut sender, 9, 100);
        sender.on_fetch(2, (6, u64::MAX), 1000, 0).unwrap();
        assert_eq!((sender.next(), sender.sent_bytes()), (6, 100));
        assert!(sender.on_fetch(3, (11, u64::MAX), 1000, 0).is_err());
        assert!(sender.on_fetch(1, (6, u64::MAX), 1000, 0).is_err());
        sender.invariants().unwrap();
    }

    #[test]
    fn the_time_to_an_ack_is_measured_a_run_and_smoothed() {
        let mut sender = Sender::new(at(0));
        sender.on_fetch(1, (1, u64::MAX), 1 << 20, 0).unwrap();
        assert_eq!(sender.ack_micros(), None);
        for (last, sent_at) in [(1, 1_000), (2, 1_400)] {
            sender.begin_read(0);
            assert!(sender.on_read_done(1, last, at(last), 10, sent_at));
        }
        assert_eq!(sender.on_ack(at(1), 1_800), Ok(true));
        assert_eq!(sender.ack_micros(), Some(800));
        assert_eq!(sender.on_ack(at(2), 3_000), Ok(true));
        assert_eq!(sender.ack_micros(), Some((7 * 800 + 1_600) / 8));
        assert_eq!(
            sender.on_ack(at(2), 9_000),
            Ok(false),
            "a repeated ack measures nothing"
        );
        assert_eq!(sender.ack_micros(), Some(900));
    }

    #[test]
    fn runs_are_no_longer_than_the_receiver_verifies() {
        let mut sender = Sender::new(at(0));
        sender.on_fetch(1, (1, u64::MAX), 1000, 3).unwrap();
        assert_eq!(sender.wanted(10).map(|wanted| wanted.last), Some(3));
        assert_eq!(sender.wanted(2).map(|wanted| wanted.last), Some(2));
        sender.on_fetch(1, (1, u64::MAX), 1000, u64::MAX).unwrap();
        assert_eq!(sender.wanted(10).map(|wanted| wanted.last), Some(10));
        sender.on_fetch(1, (1, 9), 1000, 0).unwrap();
        assert_eq!(sender.wanted(10).map(|wanted| wanted.last), Some(9));
    }
}
