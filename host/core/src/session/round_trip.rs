//! The link's round trip, measured by heartbeats: each says which one it heard last, and how long ago. Pure; time comes in.
//!
//! Heartbeats wait behind records, so what one of them takes says how full the link is. The lowest of a session is what the link itself
//! takes: the first go out before any record.

use std::collections::VecDeque;

use crate::types::Micros;

/// Beats whose time of sending is kept: more than a session lives through without an answer.
const KEPT_MAX: usize = 64;

/// What a beat says of the beats of the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Echo {
    /// Sequence of the last one heard; 0: none.
    pub heard: u64,
    /// How long ago that was, microseconds.
    pub held_micros: Micros,
}

/// The beats of one session.
#[derive(Clone, Debug, Default)]
pub struct RoundTrip {
    sent: u64,
    sent_at: VecDeque<(u64, Micros)>,
    heard: Option<(u64, Micros)>,
    lowest_micros: Option<Micros>,
}

impl RoundTrip {
    /// A beat goes out: its sequence, and what it says of the other end's.
    pub fn beat(&mut self, now: Micros) -> (u64, Echo) {
        self.sent += 1;
        if self.sent_at.len() >= KEPT_MAX {
            self.sent_at.pop_front();
        }
        self.sent_at.push_back((self.sent, now));
        let echo = self.heard.map_or_else(Echo::default, |(heard, at)| Echo {
            heard,
            held_micros: now.saturating_sub(at),
        });
        (self.sent, echo)
    }

    /// A beat came in.
    pub fn on_beat(&mut self, sequence: u64, echo: Echo, now: Micros) {
        self.heard = Some((sequence, now));
        let sent_at = self.sent_at.iter().find(|(sent, _)| *sent == echo.heard);
        let Some((_, sent_at)) = sent_at else { return };
        // Not even a peer that says it held the beat for longer than it was away makes the trip a free one.
        let took = now.saturating_sub(*sent_at).saturating_sub(echo.held_micros).max(1);
        self.lowest_micros = Some(self.lowest_micros.map_or(took, |lowest| lowest.min(took)));
    }

    /// The lowest round trip of the session, microseconds; 0: not measured yet.
    pub fn lowest_micros(&self) -> Micros {
        self.lowest_micros.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_a_beat_was_held_is_not_the_links() {
        let (mut ours, mut theirs) = (RoundTrip::default(), RoundTrip::default());
        // 30 ms there, 20 ms back, each end beating when it likes.
        let (first, echo) = ours.beat(1_000_000);
        assert_eq!((first, echo), (1, Echo::default()));
        theirs.on_beat(first, echo, 77_030_000);
        assert_eq!(theirs.lowest_micros(), 0, "it has sent none that could be answered");
        let (back, echo) = theirs.beat(77_430_000);
        assert_eq!(
            echo,
            Echo {
                heard: 1,
                held_micros: 400_000
            }
        );
        ours.on_beat(back, echo, 1_450_000);
        assert_eq!(ours.lowest_micros(), 50_000);
        // A full link makes the next one slow; the link itself is what it was.
        let (second, echo) = ours.beat(1_500_000);
        theirs.on_beat(second, echo, 77_900_000);
        let (back, echo) = theirs.beat(77_900_000);
        ours.on_beat(back, echo, 2_500_000);
        assert_eq!(ours.lowest_micros(), 50_000);
    }

    #[test]
    fn no_claim_of_a_peer_is_believed_beyond_what_it_can_be() {
        let mut ours = RoundTrip::default();
        let (sequence, _) = ours.beat(0);
        let never_sent = Echo {
            heard: sequence + 7,
            held_micros: 0,
        };
        ours.on_beat(1, never_sent, 5_000);
        assert_eq!(ours.lowest_micros(), 0);
        let held = Echo {
            heard: sequence,
            held_micros: Micros::MAX,
        };
        ours.on_beat(2, held, 5_000);
        assert_eq!(ours.lowest_micros(), 1);
        for now in 0..1_000 {
            ours.beat(now);
        }
        assert_eq!(ours.sent_at.len(), KEPT_MAX);
    }
}
