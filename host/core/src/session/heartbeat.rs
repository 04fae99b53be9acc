//! The heartbeat: heights, hashes and reasons, each way. What `normal` rests on.

use crate::frame::NamespaceTag;
use crate::types::{Height, Malformed, Position, Reader, Refusal, Writer};

use super::hello::{read_position, write_position};
use super::{Echo, NAMESPACES_MAX};

/// Most reasons a heartbeat carries.
pub const REASONS_MAX: usize = 16;

/// One namespace in a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// Which one.
    pub namespace: NamespaceTag,
    /// Durable tip of the sender.
    pub durable: Position,
    /// What the sender shows to queries.
    pub applied: Height,
}

/// A heartbeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Counts up within a session.
    pub sequence: u64,
    /// What it says of the other end's: measures the round trip.
    pub echo: Echo,
    /// Each namespace of the session.
    pub beats: Vec<Beat>,
    /// Why the sender is not well, if it is not.
    pub reasons: Vec<Refusal>,
    /// Namespaces that a rate of the sender holds back. An earlier release says none.
    pub held_back: Vec<NamespaceTag>,
}

impl Heartbeat {
    /// Payload of the frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(32 + self.beats.len() * 56);
        out.u64(self.sequence);
        out.u64(self.echo.heard);
        out.u64(self.echo.held_micros);
        out.u32(self.beats.len() as u32);
        for beat in &self.beats {
            out.u64(beat.namespace.0);
            write_position(&mut out, &beat.durable);
            out.u64(beat.applied);
        }
        let reasons = &self.reasons[..self.reasons.len().min(REASONS_MAX)];
        out.u32(reasons.len() as u32);
        reasons.iter().for_each(|reason| reason.write(&mut out));
        out.u32(self.held_back.len() as u32);
        self.held_back.iter().for_each(|tag| out.u64(tag.0));
        out.into_bytes()
    }

    /// Reads a payload; bytes behind the last known field are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Heartbeat, Malformed> {
        let mut input = Reader::new(bytes);
        let sequence = input.u64()?;
        let echo = Echo {
            heard: input.u64()?,
            held_micros: input.u64()?,
        };
        let count = input.count(NAMESPACES_MAX, 56)?;
        let beats = (0..count)
            .map(|_| {
                Ok(Beat {
                    namespace: NamespaceTag(input.u64()?),
                    durable: read_position(&mut input)?,
                    applied: input.u64()?,
                })
            })
            .collect::<Result<_, Malformed>>()?;
        let count = input.count(REASONS_MAX, 12)?;
        let reasons = (0..count)
            .map(|_| Refusal::read(&mut input))
            .collect::<Result<_, _>>()?;
        let count = if input.remaining() == 0 {
            0
        } else {
            input.count(NAMESPACES_MAX, 8)?
        };
        let held_back = (0..count)
            .map(|_| Ok(NamespaceTag(input.u64()?)))
            .collect::<Result<_, Malformed>>()?;
        Ok(Heartbeat {
            sequence,
            echo,
            beats,
            reasons,
            held_back,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_comes_back_and_what_an_earlier_release_left_out_is_nothing() {
        let beat = Heartbeat {
            sequence: 7,
            echo: Echo::default(),
            beats: Vec::new(),
            reasons: vec![Refusal::new("rate-limited", "text", "hint")],
            held_back: vec![NamespaceTag(3), NamespaceTag(u64::MAX)],
        };
        let bytes = beat.encode();
        assert_eq!(Heartbeat::decode(&bytes).unwrap(), beat);
        let earlier = Heartbeat::decode(&bytes[..bytes.len() - 20]).unwrap();
        assert_eq!((earlier.reasons, earlier.held_back), (beat.reasons, Vec::new()));
        assert!(Heartbeat::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
