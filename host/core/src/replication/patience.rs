//! Why a stream that stands still is not stalled: the operator's rate holds it back, or it waits while others are sent their backlog. To ask
//! for it again would bring nothing, and where bytes of it wait for a slow line, it would bring them twice.

use crate::frame::NamespaceTag;
use crate::types::strategy::Role;
use crate::types::{Millis, Refusal};

use super::api::ConnId;
use super::lane::Lane;
use super::pair::Pair;

/// Why a stream stands still: a rate has no room for it. Said by the provider.
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
    /// Provider: the rate of all held one back.
    limited_at: Option<Millis>,
    /// Bytes of one that is behind arrived.
    flowed_at: Millis,
    /// Frames waited for the line.
    line_at: Option<Millis>,
    /// What whoever was served last of a rate had taken of it before.
    pub spent_least: u64,
}

impl Pair {
    /// A rate holds it back: that of all, or its strategy's.
    pub(super) fn note_limited(&mut self, index: usize) {
        if self.own_piece(index).is_some() {
            self.patience.limited_at = Some(self.now);
        }
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.spent.waits_at = Some(self.now);
        }
    }

    /// Whom the rate held back the next one may not.
    pub(super) fn forget_limits(&mut self) {
        self.patience.limited_at = None;
        self.lanes.iter_mut().for_each(|lane| lane.spent.waits_at = None);
    }

    /// Whether the rate holds anybody back now. Then it says who goes next, and turns would only stand in its way.
    pub(super) fn rate_binds(&self) -> bool {
        self.patience.limited_at.is_some_and(|at| self.now < at + LOOK_MS)
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

    /// Whether a rate holds it back: as seen here, or as the provider says.
    fn is_limited(&self, lane: &Lane, now: Millis) -> bool {
        match self.setup.role {
            Role::Provider => lane.spent.waits_at.is_some_and(|at| now <= at + LOOK_MS),
            Role::Receiver => self.session.is_some() && lane.held_back,
        }
    }

    /// Provider: those that a rate has held back for long enough to be worth a word, and for how long.
    fn held_back(&self, now: Millis) -> impl Iterator<Item = (Millis, &Lane)> {
        let role = self.setup.role;
        let lanes = self.lanes.iter().filter(move |_| role == Role::Provider);
        lanes.filter_map(move |lane| {
            let idle = lane.idle_ms(role, now);
            (idle >= WORTH_A_WORD_MS && self.is_limited(lane, now)).then_some((idle, lane))
        })
    }

    /// The same, for a heartbeat.
    pub(super) fn held_back_tags(&self) -> Vec<NamespaceTag> {
        self.held_back(self.now).map(|(_, lane)| lane.tag).collect()
    }

    /// The provider holds these back now. The time that its rate took is not held against their streams.
    pub(super) fn hear_held_back(&mut self, tags: &[NamespaceTag]) {
        if self.setup.role != Role::Receiver {
            return;
        }
        let now = self.now;
        for lane in &mut self.lanes {
            let before = std::mem::replace(&mut lane.held_back, tags.contains(&lane.tag));
            if before {
                lane.moved_at = now;
            }
        }
    }

    /// Provider: that rates hold the copy back, which, and how much.
    pub(super) fn rate_reasons(&self, now: Millis, reasons: &mut Vec<Refusal>) {
        let most = self.setup.limits.max_rate;
        let own_rate = |lane: &Lane| lane.budget.rate().filter(|rate| most == 0 || *rate < most);
        let (strategies, all): (Vec<_>, Vec<_>) = self.held_back(now).partition(|(_, lane)| own_rate(lane).is_some());
        let mut add = |held: &[(Millis, &Lane)], whose: String, hint: String| {
            let Some((idle, longest)) = held.iter().max_by_key(|(idle, _)| *idle) else {
                return;
            };
            let name = &longest.setup.namespace;
            let text = match held.len() {
                1 => format!("{whose} holds the copy of {name} back, for {idle} ms now"),
                count => {
                    format!("{whose} holds the copy of {count} namespaces back, longest {name}, for {idle} ms now")
                }
            };
            reasons.push(Refusal::new(RATE_LIMITED, text, hint));
        };
        let raise = "if the standby is to be level sooner, raise it on the provider";
        add(
            &all,
            format!("cvp.max_rate ({most} bytes a second)"),
            format!("{raise}: `cvp config set dynamic.toml cvp.max_rate N`, 0 for no limit"),
        );
        for held in strategies {
            let (name, rate) = (&held.1.setup.namespace, own_rate(held.1).unwrap_or(0));
            add(
                &[held],
                format!("what the chain-sync strategy allows ({rate} bytes a second)"),
                format!("{raise}: max_rate in the settings of [strategy.chain-sync], {name}/ns_static.toml"),
            );
        }
    }

    /// Frames wait for the line; `moved`: some bytes left. Nobody who waits for a line that moves stands still.
    pub(super) fn on_line(&mut self, conn: ConnId, moved: bool) {
        if !self.is_session(conn) {
            return;
        }
        self.patience.line_at = Some(self.now);
        if moved {
            let now = self.now;
            self.lanes.iter_mut().for_each(|lane| lane.moved_at = now);
        }
    }

    /// Since when a read that is to be sent has not been answered, unless it waits for the line: then the disk is not to blame.
    pub(super) fn reads_since(&self, lane: &Lane, now: Millis) -> Option<Millis> {
        let line = self.patience.line_at.is_some_and(|at| now < at + LOOK_MS);
        lane.sender.reading_since().filter(|_| self.session.is_some() && !line)
    }
}
