//! The receiver's half: what to fetch, how wide the window, when to pause.

use cvp_sdk::chain_sync::{Action, Batch, Event, Fetch, View};
use cvp_sdk::{LIVE_TAIL, Level};

use crate::settings::Options;

/// A fetch that was asked for shows in the next views; only after this long without it is it asked for again, milliseconds.
const ASK_AGAIN_MILLIS: u64 = 1_000;

/// A snapshot is worth it when streaming would take so many times its bytes: every record is checked and applied, a file is written.
const SNAPSHOT_WORTH: u64 = 4;

/// What the receiver's half remembers between calls: only what saves it from repeating itself.
#[derive(Debug)]
pub struct Receiver {
    /// Bytes that should be under way.
    window: u64,
    /// [`View::applied_batches`] of the last batch that shaped the window.
    batches_seen: u64,
    /// When a fetch was last asked for; none while nothing is outstanding.
    asked_at: Option<u64>,
    /// Why it is paused; none while it is not.
    paused: Option<String>,
    /// It refused the stream: says nothing more until the next session.
    refused: bool,
}

impl Receiver {
    pub fn new(options: &Options) -> Self {
        Self {
            window: options
                .window_bytes_start
                .clamp(options.window_bytes_min, options.window_bytes_max),
            batches_seen: 0,
            asked_at: None,
            paused: None,
            refused: false,
        }
    }

    pub fn on_event(&mut self, options: &Options, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Opened { view, .. } => {
                *self = Self {
                    window: self.window,
                    ..Self::new(options)
                };
                if options.verify_every > 0 {
                    actions.push(Action::VerifyEvery(options.verify_every));
                }
                self.on_view(options, &view, actions);
            }
            Event::Progress(view) | Event::Tick(view) => self.on_view(options, &view, actions),
            Event::Stall { view, millis } => self.on_stall(options, &view, millis, actions),
            // An action that the host does not know was none that the stream hangs on.
            Event::Fault(_) | Event::Message(_) | Event::Other(..) => {}
        }
    }

    fn on_view(&mut self, options: &Options, view: &View, actions: &mut Vec<Action>) {
        let Some(peer) = view.peer else {
            return;
        };
        if self.refused || self.begin_elsewhere(options, view, peer.height, actions) {
            return;
        }
        self.resize(options, view);
        if self.hold(options, view, actions) {
            return;
        }
        match view.fetch {
            None => self.ask(view, actions),
            Some(fetch) => {
                self.asked_at = None;
                self.widen(view, fetch, actions);
            }
        }
    }

    /// Bytes are owed and none come: the fetch is asked for anew, from what is durable here.
    fn on_stall(&mut self, options: &Options, view: &View, millis: u64, actions: &mut Vec<Action>) {
        if view.peer.is_none() || self.refused {
            return;
        }
        if !self.hold(options, view, actions) {
            let text = format!(
                "no record for {millis} ms: fetching again from {}",
                view.local.height + 1
            );
            actions.push(Action::Log(Level::Warn, text));
            self.asked_at = None;
            self.ask(view, actions);
        }
    }

    /// True when the provider no longer holds the next record, or has so many more that its state is quicker to copy: a snapshot, or a
    /// refusal with the reason.
    fn begin_elsewhere(&mut self, options: &Options, view: &View, peer: u64, actions: &mut Vec<Action>) -> bool {
        let first = view.local.height + 1;
        if first > peer || (first >= view.history_from && !is_quicker(options, view)) {
            return false;
        }
        if self.asked_at.is_some_and(|at| view.now < at + ASK_AGAIN_MILLIS) {
            return true;
        }
        self.asked_at = Some(view.now);
        match view.snapshots.iter().max_by_key(|s| s.at.height) {
            Some(snapshot) if snapshot.at.height >= first => {
                actions.push(Action::Bootstrap(snapshot.at.height));
            }
            _ => {
                self.refused = true;
                actions.push(Action::Refuse(format!(
                    "the provider's history begins at block {}, this node needs block {first}",
                    view.history_from
                )));
            }
        }
        true
    }

    /// Lets a new batch move the window half way to what the disk does in `window_millis` and one round trip.
    fn resize(&mut self, options: &Options, view: &View) {
        let Some(batch) = view.applied else {
            return;
        };
        if view.applied_batches == self.batches_seen {
            return;
        }
        self.batches_seen = view.applied_batches;
        // A small batch measures the fsync, not the disk's throughput.
        if batch.bytes < self.window / 8 {
            return;
        }
        let wanted = bytes_in(&batch, options.window_millis * 1_000 + view.round_trip_micros);
        let most = options.window_bytes_max.min(view.window_bytes_max);
        let least = options.window_bytes_min.min(most);
        self.window = (self.window / 2 + wanted / 2).clamp(least, most);
    }

    /// Pauses while the disk hangs or drowns; true while paused. Goes on at half the limits, so that it does not flutter.
    fn hold(&mut self, options: &Options, view: &View, actions: &mut Vec<Action>) -> bool {
        let share = if self.paused.is_some() { 2 } else { 1 };
        let reason = if view.disk_wait_millis > options.disk_wait_millis_max / share {
            format!(
                "the disk has been busy with one operation for {} ms",
                view.disk_wait_millis
            )
        } else if view.backlog_bytes > options.backlog_bytes_max / share {
            format!("{} bytes wait for the disk", view.backlog_bytes)
        } else {
            if self.paused.take().is_some() {
                self.asked_at = None;
            }
            return false;
        };
        if self.paused.is_none() {
            actions.push(Action::Pause(reason.clone()));
            self.paused = Some(reason);
        }
        true
    }

    fn ask(&mut self, view: &View, actions: &mut Vec<Action>) {
        if self.asked_at.is_some_and(|at| view.now < at + ASK_AGAIN_MILLIS) {
            return;
        }
        self.asked_at = Some(view.now);
        self.window = self.window.min(view.window_bytes_max);
        actions.push(Action::Fetch(Fetch {
            first: view.local.height + 1,
            last: LIVE_TAIL,
            bytes_in_flight: self.window,
        }));
    }

    /// Says a new window only when it differs by a quarter: each one is a frame on the wire.
    fn widen(&mut self, view: &View, fetch: Fetch, actions: &mut Vec<Action>) {
        let window = self.window.min(view.window_bytes_max);
        if window.abs_diff(fetch.bytes_in_flight) > fetch.bytes_in_flight / 4 {
            actions.push(Action::Window(window));
            actions.push(Action::Metric(
                "window_bytes".into(),
                i64::try_from(window).unwrap_or(i64::MAX),
            ));
        }
    }
}

/// Whether a snapshot is worth more than the records: it leaves the history to be filled in later.
fn is_quicker(options: &Options, view: &View) -> bool {
    let newest = view.snapshots.iter().max_by_key(|s| s.at.height);
    newest.is_some_and(|snapshot| {
        snapshot.at.height > view.local.height
            && view.lag_bytes >= options.bootstrap_bytes_min
            && view.lag_bytes / SNAPSHOT_WORTH >= snapshot.bytes
    })
}

/// What the disk would take in `micros` at the batch's speed, bytes.
fn bytes_in(batch: &Batch, micros: u64) -> u64 {
    let took = (batch.ingest_micros + batch.sync_micros).max(1);
    let bytes = u128::from(batch.bytes) * u128::from(micros) / u128::from(took);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cvp_sdk::chain_sync::{ChainSync, Snapshot};
    use cvp_sdk::{Position, Role};

    const MIB: u64 = 1 << 20;

    fn at(height: u64) -> Position {
        Position { height, hash: [7; 32] }
    }

    fn view(local: u64, peer: u64) -> View {
        View {
            local: at(local),
            peer: Some(at(peer)),
            now: 10_000,
            next: local + 1,
            ..View::new(Role::Receiver, "global")
        }
    }

    fn opened(view: &View) -> Event {
        Event::Opened {
            view: view.clone(),
            stored: Vec::new(),
        }
    }

    fn strategy() -> crate::Default {
        crate::Default::open(Role::Receiver, "global", "{}").unwrap()
    }

    fn tell(it: &mut crate::Default, event: Event) -> Vec<Action> {
        it.handle(vec![event]).unwrap()
    }

    fn tail_from(first: u64, bytes_in_flight: u64) -> Fetch {
        Fetch {
            first,
            last: LIVE_TAIL,
            bytes_in_flight,
        }
    }

    #[test]
    fn it_fetches_from_its_durable_tip_once() {
        let mut it = strategy();
        let mut now = view(41, 90);
        let wanted = tail_from(42, 8 * MIB);
        assert_eq!(tell(&mut it, opened(&now)), [Action::Fetch(wanted)]);
        assert_eq!(tell(&mut it, Event::Progress(now.clone())), [], "already asked");
        now.fetch = Some(wanted);
        assert_eq!(tell(&mut it, Event::Tick(now.clone())), []);
        now.fetch = None;
        assert_eq!(tell(&mut it, Event::Tick(now.clone())), [Action::Fetch(wanted)]);
        now.now += ASK_AGAIN_MILLIS;
        assert_eq!(tell(&mut it, Event::Tick(now)), [Action::Fetch(wanted)]);
    }

    #[test]
    fn it_waits_for_the_live_tail_when_level() {
        let mut it = strategy();
        assert_eq!(
            tell(&mut it, opened(&view(90, 90))),
            [Action::Fetch(tail_from(91, 8 * MIB))]
        );
    }

    #[test]
    fn nothing_is_asked_of_an_unknown_peer() {
        let mut it = strategy();
        let mut alone = view(3, 0);
        alone.peer = None;
        assert_eq!(tell(&mut it, opened(&alone)), []);
    }

    #[test]
    fn the_window_follows_the_disk_within_its_bounds() {
        let mut it = strategy();
        let mut now = view(1, 1_000);
        tell(&mut it, opened(&now));
        now.fetch = Some(tail_from(2, 8 * MIB));
        // 4 MiB in 10 ms is 100 MiB in 250 ms: the cap holds.
        for batches in 1..6 {
            now.applied_batches = batches;
            now.applied = Some(Batch {
                records: 64,
                bytes: 4 * MIB,
                ingest_micros: 4_000,
                sync_micros: 6_000,
            });
            tell(&mut it, Event::Progress(now.clone()));
        }
        let widened = tell(&mut it, Event::Progress(now.clone()));
        assert_eq!(widened[0], Action::Window(32 * MIB));
        now.fetch = Some(tail_from(2, 32 * MIB));
        assert_eq!(
            tell(&mut it, Event::Progress(now.clone())),
            [],
            "said once it is in force"
        );
        // A tiny batch with a slow fsync says nothing about the window.
        now.applied_batches += 1;
        now.applied = Some(Batch {
            records: 1,
            bytes: 1_000,
            ingest_micros: 10,
            sync_micros: 9_000,
        });
        assert_eq!(tell(&mut it, Event::Progress(now.clone())), []);
        // 4 MiB in 2 s is 512 KiB in 250 ms: it narrows.
        now.applied_batches += 1;
        now.applied = Some(Batch {
            records: 64,
            bytes: 4 * MIB,
            ingest_micros: 0,
            sync_micros: 2_000_000,
        });
        let Some(Action::Window(bytes)) = tell(&mut it, Event::Progress(now)).first().cloned() else {
            panic!("no window");
        };
        assert!(bytes < 17 * MIB, "{bytes}");
    }

    #[test]
    fn a_hanging_disk_pauses_and_an_idle_one_goes_on() {
        let mut it = strategy();
        let mut now = view(1, 1_000);
        tell(&mut it, opened(&now));
        now.fetch = Some(tail_from(2, 8 * MIB));
        now.disk_wait_millis = 2_001;
        assert!(matches!(
            tell(&mut it, Event::Tick(now.clone()))[..],
            [Action::Pause(_)]
        ));
        now.fetch = None;
        now.disk_wait_millis = 1_500;
        assert_eq!(tell(&mut it, Event::Tick(now.clone())), [], "not yet");
        now.disk_wait_millis = 0;
        assert_eq!(
            tell(&mut it, Event::Tick(now.clone())),
            [Action::Fetch(tail_from(2, 8 * MIB))]
        );
        now.fetch = Some(tail_from(2, 8 * MIB));
        now.backlog_bytes = 129 * MIB;
        assert!(matches!(tell(&mut it, Event::Tick(now))[..], [Action::Pause(_)]));
    }

    #[test]
    fn a_stall_fetches_again_from_what_is_durable() {
        let mut it = strategy();
        let mut now = view(5, 1_000);
        tell(&mut it, opened(&now));
        now.fetch = Some(tail_from(6, 8 * MIB));
        now.local = at(20);
        let actions = tell(
            &mut it,
            Event::Stall {
                view: now,
                millis: 3_000,
            },
        );
        assert_eq!(actions[1], Action::Fetch(tail_from(21, 8 * MIB)));
    }

    #[test]
    fn missing_history_means_a_snapshot_or_a_refusal() {
        let mut now = view(5, 1_000);
        now.history_from = 500;
        let refused = tell(&mut strategy(), opened(&now));
        assert!(matches!(refused[..], [Action::Refuse(_)]), "{refused:?}");
        now.snapshots = vec![Snapshot { at: at(900), bytes: 1 }];
        assert_eq!(tell(&mut strategy(), opened(&now)), [Action::Bootstrap(900)]);
    }

    #[test]
    fn a_long_history_is_begun_from_the_state_where_that_is_quicker() {
        let mut now = view(0, 1_000_000);
        now.snapshots = vec![Snapshot {
            at: at(999_000),
            bytes: 500 * MIB,
        }];
        let begun = |now: &View| tell(&mut strategy(), opened(now)) == [Action::Bootstrap(999_000)];
        now.lag_bytes = 3_000 * MIB;
        assert!(begun(&now));
        now.lag_bytes = 1_900 * MIB;
        assert!(!begun(&now), "the state is not so much smaller");
        now.snapshots[0].bytes = MIB;
        now.lag_bytes = 1_000 * MIB;
        assert!(!begun(&now), "not worth it");
        now.lag_bytes = 3_000 * MIB;
        now.local = at(999_500);
        assert!(!begun(&now), "it is older than what is here");
    }

    #[test]
    fn a_refused_action_is_not_repeated_at_once() {
        let mut it = strategy();
        let now = view(5, 10);
        tell(&mut it, opened(&now));
        assert_eq!(tell(&mut it, Event::Fault(cvp_sdk::Fault::new("bad-fetch", ""))), []);
        assert_eq!(tell(&mut it, Event::Progress(now)), []);
        assert_eq!(tell(&mut it, Event::Other("new".into(), vec![1])), []);
    }
}
