//! Heartbeats: what each end says of itself while nothing else goes, and what it concludes from the other's.

use crate::frame::{Frame, Kind};
use crate::session::{Beat, Heartbeat, Mood, refuse};
use crate::types::strategy::Role;
use crate::types::{Position, Refusal};

use super::pair::Pair;

impl Pair {
    pub(super) fn on_heartbeat(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        let beat = Heartbeat::decode(payload).map_err(|error| refuse::malformed("a heartbeat", &error))?;
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        session.round_trip.on_beat(beat.sequence, beat.echo, self.now_micros);
        session.peer_reasons = beat.reasons;
        self.hear_held_back(&beat.held_back);
        for beat in beat.beats {
            let Some(index) = self.lane_of(beat.namespace) else {
                continue;
            };
            match self.setup.role {
                Role::Provider => self.on_receiver_beat(index, beat.durable)?,
                Role::Receiver => self.on_provider_beat(index, beat.durable)?,
            }
        }
        Ok(())
    }

    /// A heartbeat cannot overtake the acks before it: the heights are the acknowledged ones, unless an ack waits.
    fn on_receiver_beat(&mut self, index: usize, durable: Position) -> Result<(), Refusal> {
        let Some(lane) = self.lanes.get(index) else {
            return Ok(());
        };
        if !lane.early.is_empty() {
            return Ok(());
        }
        let acked = lane.sender.acked();
        if durable.height == acked.height && durable.hash != acked.hash {
            return Err(refuse::diverged(
                &lane.setup.namespace,
                acked.height,
                &durable.hash,
                Some(&acked.hash),
            ));
        }
        if durable.height > acked.height {
            return Err(refuse::unexpected("height in a heartbeat, above what was acknowledged"));
        }
        Ok(())
    }

    fn on_provider_beat(&mut self, index: usize, durable: Position) -> Result<(), Refusal> {
        let (now, role) = (self.now, self.setup.role);
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        if durable.height < lane.local.height {
            return Err(refuse::receiver_ahead(&lane.setup.namespace, &lane.local, &durable));
        }
        if durable.height == lane.local.height && durable.hash != lane.local.hash {
            return Err(refuse::diverged(
                &lane.setup.namespace,
                durable.height,
                &lane.local.hash,
                Some(&durable.hash),
            ));
        }
        // Nothing was owed until now: the stream did not stand still before.
        if !lane.owed(role) {
            lane.moved_at = now;
        }
        lane.hear_peer(role, durable, now);
        Ok(())
    }

    /// The session's own clock: heartbeats out, the judge of those that come in.
    pub(super) fn settle_session(&mut self) {
        let heartbeat_ms = self.setup.limits.heartbeat_ms;
        let Some(session) = &mut self.session else { return };
        if session.judge.tardy(self.now) == Mood::Dead {
            let (conn, age) = (session.conn, session.judge.age(self.now));
            self.close(conn, Some(refuse::silent(age)), false);
            return self.remember_silence(self.now.saturating_sub(age));
        }
        let (beat_at, beaten_at) = (session.beat_at, session.beat_at.saturating_sub(heartbeat_ms));
        if self.now < beat_at && !self.has_news(beaten_at) {
            return;
        }
        let (reasons, held_back) = (self.own_reasons(self.now), self.held_back_tags());
        self.patience.told.clone_from(&held_back);
        let Some(session) = &mut self.session else { return };
        session.beat_at = self.now + heartbeat_ms;
        let (sequence, echo) = session.round_trip.beat(self.now_micros);
        let beats = self
            .lanes
            .iter()
            .map(|lane| Beat {
                namespace: lane.tag,
                durable: lane.local,
                applied: lane.applied,
            })
            .collect();
        let beat = Heartbeat {
            sequence,
            echo,
            beats,
            reasons,
            held_back,
        };
        self.send_session(Frame::node(Kind::Heartbeat, beat.encode()));
    }
}
