//! What a provider tells of its ledger when a session begins, and when its history begins elsewhere: how far back its records go, and what it could
//! hand over to a receiver that needs more.

use crate::frame::{FLAG_OPTIONAL, Frame, Kind};
use crate::ledger::Kept;
use crate::record::RECORD_BYTES_MAX;
use crate::session::refuse;
use crate::types::strategy::{self, chain_sync::Snapshot};
use crate::types::{Height, Malformed, Millis, Position, Reader, Refusal, Writer};

use super::pair::Pair;

/// A receiver that is behind is told so often how much it lacks, and for how long.
const TELL_AGAIN_MS: Millis = 2_000;

/// No block is older, whatever a peer says: a hundred years.
const AGE_MS_MAX: Millis = 3_155_760_000_000;

/// What a provider says it keeps, and could hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub at: Position,
    pub kept: Kept,
    /// A height, and bytes of the records from there up to `at`; not said by earlier releases.
    pub above: Option<(Height, u64)>,
    /// Age of the oldest block that the receiver lacks; not said by earlier releases.
    pub age: Option<Millis>,
    /// Receiver: bytes of records that came since.
    pub came: u64,
}

impl Offer {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(64);
        out.u64(self.at.height);
        out.digest(&self.at.hash);
        out.u64(self.kept.history_from);
        out.u64(self.kept.log_bytes);
        out.u64(self.kept.state_bytes);
        if let Some((held, bytes)) = self.above {
            out.u64(held);
            out.u64(bytes);
            self.age.iter().for_each(|age| out.u64(*age));
        }
        out.into_bytes()
    }

    /// What a later release adds is skipped.
    fn decode(bytes: &[u8]) -> Result<Offer, Malformed> {
        let mut input = Reader::new(bytes);
        let at = Position {
            height: input.u64()?,
            hash: input.digest()?,
        };
        let kept = Kept {
            history_from: input.u64()?,
            log_bytes: input.u64()?,
            state_bytes: input.u64()?,
        };
        let mut above = || -> Result<_, Malformed> { Ok((input.u64()?, input.u64()?)) };
        Ok(Offer {
            at,
            kept,
            above: above().ok(),
            age: input.u64().ok(),
            came: 0,
        })
    }

    /// Bytes that a receiver lacks which holds `held` durably, and the height up to which.
    pub fn lacked(&self, held: Height) -> (u64, Height) {
        let counted = match self.above {
            _ if held >= self.at.height => 0,
            Some((from, bytes)) if from <= held => bytes.saturating_sub(self.came),
            _ => self.bytes_above(held),
        };
        (counted, self.at.height)
    }

    /// As a strategy sees it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            at: strategy::Position {
                height: self.at.height,
                hash: self.at.hash.0,
            },
            bytes: self.kept.state_bytes,
        }
    }

    /// Bytes of the records above `height`, by the mean of all.
    fn bytes_above(&self, height: Height) -> u64 {
        let from = self.kept.history_from;
        let records = self.at.height.saturating_add(1).saturating_sub(from).max(1);
        let wanted = self.at.height.saturating_sub(height.max(from.saturating_sub(1)));
        let bytes = u128::from(self.kept.log_bytes) * u128::from(wanted) / u128::from(records);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl Pair {
    /// Tells the receiver what is kept and could be handed over: when a session opens, and when the history begins elsewhere.
    pub(super) fn offer(&mut self, index: usize) {
        let standby = self.is_standby();
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let from = lane.survey.kept.history_from;
        let again =
            (lane.shipping.is_open() || !lane.live) && self.now.saturating_sub(lane.survey.told_at) >= TELL_AGAIN_MS;
        if lane.peer.is_none() || (lane.survey.told == Some(from) && !again) || !standby {
            return;
        }
        (lane.survey.told, lane.survey.told_at) = (Some(from), self.now);
        let offer = Offer {
            at: lane.local,
            kept: lane.survey.kept,
            above: Some((lane.survey.held, lane.survey.above)),
            age: Some(lane.marks.age(self.now)),
            came: 0,
        };
        let mut frame = Frame::of(Kind::SnapshotOffer, lane.tag, 0, offer.encode().into());
        frame.flags = FLAG_OPTIONAL;
        self.send_session(frame);
    }

    pub(super) fn on_offer(&mut self, index: usize, payload: &[u8]) -> Result<(), Refusal> {
        let offer = Offer::decode(payload).map_err(|error| refuse::malformed("an offer", &error))?;
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        lane.history_from = offer.kept.history_from;
        if lane.record_bytes_16 == 0 {
            let blocks = offer.at.height.saturating_sub(lane.local.height);
            lane.record_bytes_16 = offer
                .lacked(lane.local.height)
                .0
                .saturating_mul(16)
                .checked_div(blocks)
                .map_or(0, |mean| mean.min(16 * RECORD_BYTES_MAX as u64));
        }
        if let Some(age) = offer.age {
            lane.marks.found(age.min(AGE_MS_MAX), now);
        }
        lane.offer = Some(offer);
        lane.advisor.owes_progress = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_reads_back_and_estimates() {
        let offer = Offer {
            at: Position {
                height: 199,
                hash: crate::types::Digest([2; 32]),
            },
            kept: Kept {
                history_from: 100,
                log_bytes: 10_000,
                state_bytes: 7,
            },
            above: Some((149, 6_000)),
            age: Some(70_000),
            came: 0,
        };
        let mut bytes = offer.encode();
        assert_eq!(Offer::decode(&bytes), Ok(offer));
        bytes.push(1);
        assert_eq!(Offer::decode(&bytes), Ok(offer), "of a later release");
        let earlier = Offer {
            above: None,
            age: None,
            ..offer
        };
        assert_eq!(Offer::decode(&earlier.encode()), Ok(earlier), "of an earlier release");
        // Larger records than the mean are still to come.
        let came = Offer { came: 2_000, ..offer };
        assert_eq!((offer.lacked(149), came.lacked(174)), ((6_000, 199), (4_000, 199)));
        assert_eq!((came.lacked(199), earlier.lacked(149)), ((0, 199), (5_000, 199)));
        let highest = Offer {
            at: Position {
                height: u64::MAX,
                ..offer.at
            },
            ..earlier
        };
        assert_eq!(highest.lacked(149).1, u64::MAX, "whatever a peer says of its height");
        assert_eq!((offer.bytes_above(149), offer.bytes_above(0)), (5_000, 10_000));
    }
}
