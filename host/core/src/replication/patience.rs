//! Why a stream that stands still is not stalled: the operator's rate holds it back, or it waits while others are sent their backlog. To ask
//! for it again would bring nothing, and where bytes of it wait for a slow line, it would bring them twice.

use crate::types::strategy::Role;
use crate::types::{Millis, Refusal};

use super::lane::Lane;
use super::pair::Pair;

/// Why a stream stands still: the rate has no room for it. Said by the provider, for all namespaces at once.
pub(super) const RATE_LIMITED: &str = "rate-limited";
/// What the rate held back so long is worth a word: before the other end calls it stalled.
const WORTH_A_WORD_MS: Millis = 1_000;
/// A look at a namespace is so far from the next one at most.
const LOOK_MS: Millis = 1_000;
/// Who waits while others are served waits no longer than this: then something else is wrong.
const BEHIND_OTHERS_MS: Millis = 60_000;

/// When what was last seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    /// Provider: the rate held one back.
    limited_at: Option<Millis>,
    /// Bytes of one that is behind arrived.
    flowed_at: Millis,
}

impl Pair {
    /// Bytes that one read of a namespace that wants one may bring now; none where the rate holds it back, which is noted.
    pub(super) fn piece_wanted(&mut self, index: usize) -> Option<u64> {
        let piece = self.piece(index);
        if piece.is_none() {
            self.patience.limited_at = Some(self.now);
            self.note_limited(index);
        }
        piece
    }

    /// It waits for its turn: behind those that the rate holds back, if there are any.
    pub(super) fn waits_for_turn(&mut self, index: usize) {
        if self.patience.limited_at.is_some_and(|at| self.now < at + LOOK_MS) {
            self.note_limited(index);
        }
    }

    fn note_limited(&mut self, index: usize) {
        let now = self.now;
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.limited_at = Some(now);
        }
    }

    /// Bytes of this namespace arrived. Where it follows the tip that says nothing of the others.
    pub(super) fn flows(&mut self, index: usize) {
        if self.lanes.get(index).is_some_and(|lane| !lane.live) {
            self.patience.flowed_at = self.now;
        }
    }

    /// How long nothing has moved although something is owed and nothing known holds it back; 0 when nothing is.
    pub(super) fn stands_ms(&self, lane: &Lane, now: Millis) -> Millis {
        let role = self.setup.role;
        let idle = lane.idle_ms(role, now);
        if self.is_limited(lane, now) {
            return 0;
        }
        // One that nobody asks for does not wait for others.
        let asked = match role {
            Role::Provider => lane.sender.fetch().is_some(),
            Role::Receiver => lane.intake.fetch().is_some(),
        };
        let since_others = now.saturating_sub(self.patience.flowed_at);
        if asked && idle < BEHIND_OTHERS_MS {
            idle.min(since_others)
        } else {
            idle
        }
    }

    /// Whether the rate holds it back: as seen here, or as the provider says.
    fn is_limited(&self, lane: &Lane, now: Millis) -> bool {
        match self.setup.role {
            Role::Provider => lane.limited_at.is_some_and(|at| now <= at + LOOK_MS),
            Role::Receiver => {
                let mut said = self.session.iter().flat_map(|session| &session.peer_reasons);
                said.any(|reason| reason.code == RATE_LIMITED)
            }
        }
    }

    /// Provider: that the rate holds the copy back, and how much.
    pub(super) fn rate_reason(&self, now: Millis) -> Option<Refusal> {
        let role = self.setup.role;
        if role != Role::Provider {
            return None;
        }
        let waits = self.lanes.iter().filter_map(|lane| {
            let idle = lane.idle_ms(role, now);
            (self.is_limited(lane, now) && idle >= WORTH_A_WORD_MS).then_some((idle, lane))
        });
        let waits: Vec<(Millis, &Lane)> = waits.collect();
        let (idle, longest) = waits.iter().max_by_key(|(idle, _)| *idle)?;
        let whose = match self.setup.limits.max_rate {
            0 => "the rate of a strategy".to_string(),
            rate => format!("cvp.max_rate ({rate} bytes a second)"),
        };
        let name = &longest.setup.namespace;
        let text = match waits.len() {
            1 => format!("{whose} holds the copy of {name} back, for {idle} ms now"),
            count => format!("{whose} holds the copy of {count} namespaces back, longest {name}, for {idle} ms now"),
        };
        let hint = "raise it on the provider if the standby is to be level sooner: `cvp config set dynamic.toml cvp.max_rate N`, 0 for no limit";
        Some(Refusal::new(RATE_LIMITED, text, hint))
    }

    /// The other end says this of itself now. The time that its rate took is not held against any stream.
    pub(super) fn hear_reasons(&mut self, reasons: Vec<Refusal>) {
        let Some(session) = &mut self.session else { return };
        let before = std::mem::replace(&mut session.peer_reasons, reasons);
        if self.setup.role == Role::Receiver && before.iter().any(|reason| reason.code == RATE_LIMITED) {
            let now = self.now;
            self.lanes.iter_mut().for_each(|lane| lane.moved_at = now);
        }
    }
}
