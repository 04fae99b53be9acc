//! What the two ends tell each other of their strategies, and what strategies are told of the pair.

use super::*;
use crate::types::strategy::chain_sync::View;

impl<S: FnMut(&[Told]) -> Answer> Ends<S> {
    /// The host of `end` says what it offers to run, and how that is.
    pub(super) fn offer(&mut self, end: usize, version: &str, run: StrategyRun) {
        let event = Event::StrategyState {
            ns: namespace(),
            id: strategy(version),
            run,
            faults: 0,
            configured: "mine".into(),
            problem: String::new(),
        };
        self.queue.push_back((end, event));
        self.run(0);
    }
}

/// What the receiver's strategy saw last.
fn last_view<S>(ends: &Ends<S>) -> &View {
    let events = ends.told.iter().rev().flatten();
    events.filter_map(view_of).next().expect("no view was told")
}

/// What an end runs for the other's sake must not be taken for what it offers: both would stay on the default for good.
#[test]
fn both_ends_run_the_default_while_what_they_offer_differs_and_not_longer() {
    let mut ends = Ends::attached(fetch_all);
    assert_eq!(ends.defaulted, [false, false]);
    // A file is replaced on one end, then on the other.
    ends.offer(RECEIVER, "2", StrategyRun::Running);
    assert_eq!(ends.defaulted, [true, true]);
    ends.offer(PROVIDER, "2", StrategyRun::Running);
    assert_eq!(ends.defaulted, [false, false]);
    // A fault is one end's own business while it restarts; a quarantine is not.
    ends.offer(RECEIVER, "2", StrategyRun::Restarting);
    assert_eq!(ends.defaulted, [false, false]);
    for end in [RECEIVER, PROVIDER] {
        ends.offer(end, "2", StrategyRun::Quarantined);
        assert_eq!(ends.defaulted, [true, true]);
        ends.offer(end, "2", StrategyRun::Running);
        assert_eq!(ends.defaulted, [false, false], "after the quarantine of {end}");
    }
    // Both ends were told of the first replacement, from the end that was first.
    assert_eq!(ends.left_for, [Some(strategy("2")), None]);
}

#[test]
fn an_end_hears_that_the_other_went_back_from_what_both_ran() {
    let mut ends = Ends::attached(fetch_all);
    ends.offer(PROVIDER, "2", StrategyRun::Running);
    ends.offer(RECEIVER, "2", StrategyRun::Running);
    ends.left_for = [None, None];
    ends.offer(RECEIVER, "1", StrategyRun::Running);
    assert_eq!(ends.left_for, [Some(strategy("1")), None]);
    assert_eq!(ends.defaulted, [true, true]);
    ends.offer(PROVIDER, "1", StrategyRun::Running);
    assert_eq!(ends.left_for[RECEIVER], None, "it was the first to go back");
    assert_eq!(ends.defaulted, [false, false]);
}

#[test]
fn a_quarantine_of_before_the_session_is_told_in_it() {
    for quarantined in [PROVIDER, RECEIVER] {
        let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
        let event = Event::StrategyState {
            ns: namespace(),
            id: strategy("1"),
            run: StrategyRun::Quarantined,
            faults: 3,
            configured: "mine".into(),
            problem: String::new(),
        };
        ends.queue.push_back((quarantined, event));
        ends.run(0);
        assert_eq!(ends.defaulted, [true, true], "{quarantined}");
    }
}

#[test]
fn views_tell_the_providers_history_and_the_round_trip_on_both_ends() {
    let mut setups = [setup(Role::Provider), setup(Role::Receiver)];
    setups[PROVIDER].namespaces[0].history_from = 1;
    let mut ends = Ends::apart(setups, fetch_all);
    ends.run(0);
    let seen = last_view(&ends);
    assert_eq!((seen.history_from, seen.round_trip_micros), (1, 0));
    ends.run(3_000);
    assert_eq!(last_view(&ends).round_trip_micros, 1, "frames cross at once here");
    let provider = &ends.pairs[PROVIDER];
    let told = provider.view(&provider.lanes[0]);
    assert_eq!((told.history_from, told.round_trip_micros), (1, 1));
}

#[test]
fn runs_get_no_longer_than_the_strategy_wants_to_verify() {
    let mut ends = Ends::attached(|events: &[Told]| {
        let mut said = Vec::new();
        if is_opened(events) {
            said.push(Advice::VerifyEvery(3));
        }
        said.extend(fetch_all(events)?);
        Ok(said)
    });
    ends.grow(10);
    ends.run(1_000);
    assert_eq!(ends.status(RECEIVER).namespaces[0].durable, 10);
    assert_eq!(ends.runs, [3, 3, 3, 1]);
}
