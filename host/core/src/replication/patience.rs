//! Why a stream that stands still is not stalled: the operator's rate holds it back, or it waits while others are sent their backlog. To ask
//! for it again would bring nothing, and where bytes of it wait for a slow line, it would bring them twice.

use crate::frame::NamespaceTag;
use crate::types::strategy::Role;
use crate::types::{Millis, Refusal};

use super::api::ConnId;
use super::budget::Waits;
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
/// Who has frames queued for a line that moves, or a read of whom waits for it, waits no longer than this.
const LINE_MS: Millis = 300_000;
/// Two heartbeats are so far apart at least, whatever is new.
const BEATS_MS: Millis = 250;

/// When what was last seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    /// Provider: the rate of all held one back.
    limited_at: Option<Millis>,
    /// Bytes of one that is behind arrived.
    flowed_at: Millis,
    /// Provider: frames waited for the line; some of their bytes left.
    line: (Option<Millis>, Millis),
    /// Provider: what whoever was served last of a rate had taken of it before.
    pub spent_least: u64,
    /// Provider: whom the last heartbeat named as held back.
    pub told: Vec<NamespaceTag>,
}

impl Pair {
    /// A rate holds it back: that of all, or its strategy's.
    pub(super) fn note_limited(&mut self, index: usize) {
        let (now, own) = (self.now, self.own_piece(index).is_none());
        if !own {
            self.patience.limited_at = Some(now);
        }
        if let Some(lane) = self.lanes.get_mut(index) {
            let before = lane.spent.waits.filter(|waits| now <= waits.at + LOOK_MS);
            let since = before.map_or(now, |waits| waits.since);
            lane.spent.waits = Some(Waits { since, at: now, own });
        }
    }

    /// Whom a rate held back the next one may not.
    pub(super) fn forget_limits(&mut self) {
        self.patience.limited_at = None;
        for lane in &mut self.lanes {
            if lane.spent.waits.take().is_some() {
                lane.moved_at = self.now;
            }
        }
    }

    /// Its session is over, and so are its reads.
    pub(super) fn detach_lane(&mut self, index: usize) {
        self.spend(index, 0);
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.detach(self.now);
            lane.spent.waits = None;
        }
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
        // One that nobody asks for waits for nobody.
        let (asked, queued) = match role {
            Role::Provider => {
                let reads = lane.sender.reading_since().is_some() || lane.sender.sent_bytes() > 0;
                let ships = lane.shipping.is_open();
                (ships || lane.sender.fetch().is_some(), ships || reads)
            }
            Role::Receiver => (lane.taking.is_some() || lane.intake.fetch().is_some(), false),
        };
        let since_others = now.saturating_sub(self.patience.flowed_at);
        let since_line = now.saturating_sub(self.patience.line.1);
        match idle {
            long if queued && long < LINE_MS => long.min(since_line).min(since_others),
            long if asked && long < BEHIND_OTHERS_MS => long.min(since_others),
            long => long,
        }
    }

    /// Whether a rate holds it back: as seen here, or as the provider says.
    fn is_limited(&self, lane: &Lane, now: Millis) -> bool {
        match self.setup.role {
            Role::Provider => lane.spent.waits.is_some_and(|waits| now <= waits.at + LOOK_MS),
            Role::Receiver => self.session.is_some() && lane.held_back,
        }
    }

    /// Provider: those that a rate has held back for long enough to be worth a word, for how long, and whether it is their strategy's.
    fn held_back(&self, now: Millis) -> impl Iterator<Item = (Millis, &Lane, bool)> {
        let role = self.setup.role;
        let lanes = self.lanes.iter().filter(move |_| role == Role::Provider);
        lanes.filter_map(move |lane| {
            let waits = lane.spent.waits.filter(|_| self.is_limited(lane, now))?;
            let long = now.saturating_sub(waits.since);
            (long >= WORTH_A_WORD_MS).then_some((long, lane, waits.own))
        })
    }

    /// The same, for a heartbeat.
    pub(super) fn held_back_tags(&self) -> Vec<NamespaceTag> {
        self.held_back(self.now).map(|(_, lane, _)| lane.tag).collect()
    }

    /// Whether the other end is to hear at once who is held back: with rare heartbeats it would call that stalled before. The last one was at
    /// `beaten_at`.
    pub(super) fn has_news(&self, beaten_at: Millis) -> bool {
        let tags = self.held_back(self.now).map(|(_, lane, _)| lane.tag);
        self.now >= beaten_at + BEATS_MS && !tags.eq(self.patience.told.iter().copied())
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
        let (own, all): (Vec<_>, Vec<_>) = self
            .held_back(now)
            .partition(|(_, lane, own)| *own && own_rate(lane).is_some());
        let mut add = |held: &[(Millis, &Lane, bool)], whose: &str, rate: u64, hint: &str| {
            let Some((long, longest, _)) = held.iter().max_by_key(|held| held.0).filter(|_| rate > 0) else {
                return;
            };
            let name = &longest.setup.namespace;
            let text = match held.len() {
                1 => format!("{whose} ({rate} bytes a second) holds the copy of {name} back, for {long} ms now"),
                count => format!(
                    "{whose} ({rate} bytes a second) holds the copy of {count} namespaces back, longest {name}, for {long} ms now"
                ),
            };
            let hint = format!("if the standby is to be level sooner, raise it on the provider: {hint}");
            reasons.push(Refusal::new(RATE_LIMITED, text, hint));
        };
        let command = "`cvp config set dynamic.toml cvp.max_rate N`, 0 for no limit";
        add(&all, "cvp.max_rate", most, command);
        let rate = own.iter().max_by_key(|held| held.0).and_then(|held| own_rate(held.1));
        let file = "max_rate in the settings of [strategy.chain-sync] of the namespace's ns_static.toml";
        add(&own, "what the chain-sync strategy allows", rate.unwrap_or(0), file);
    }

    /// Frames wait for the line; `moved`: some bytes left. Nobody whose frames wait for a line that moves stands still.
    pub(super) fn on_line(&mut self, conn: ConnId, moved: bool) {
        if !self.is_session(conn) {
            return;
        }
        self.patience.line.0 = Some(self.now);
        if moved {
            self.patience.line.1 = self.now;
        }
    }

    /// Since when a read that is to be sent has not been answered, unless it waits for the line: then the disk is not to blame.
    pub(super) fn reads_since(&self, lane: &Lane, now: Millis) -> Option<Millis> {
        let line = self.patience.line.0.is_some_and(|at| now < at + LOOK_MS);
        let since = lane.sender.reading_since().filter(|_| self.session.is_some())?;
        (!line || now.saturating_sub(since) >= LINE_MS).then_some(since)
    }
}
