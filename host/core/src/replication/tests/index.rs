//! The data index: nothing flows before it was accepted, both ends show what either says of its backend, and who refuses ends the session.

use super::*;
use crate::frame::{Frame, Kind, NamespaceTag};
use crate::session::{BackendHealth, IndexState};
use crate::types::strategy::index_check::{self, Action as Say, Event as Heard, Side, UNHEALTHY, WARNINGS_MAX};

pub(super) type Says = fn(&[Heard]) -> Result<Vec<Say>, Fault>;

pub(super) fn strategy() -> StrategyId {
    StrategyId {
        kind: index_check::KIND.into(),
        id: "default".into(),
        version: "1".into(),
        sha256: [0; 32],
    }
}

fn view_told(events: &[Heard]) -> Option<&index_check::View> {
    events.iter().rev().find_map(|event| match event {
        Heard::Opened { view, .. } | Heard::State(view) => Some(view),
        _ => None,
    })
}

/// Accepts, and warns of what does not answer.
pub(super) fn accept(events: &[Heard]) -> Result<Vec<Say>, Fault> {
    let Some(view) = view_told(events) else {
        return Ok(Vec::new());
    };
    let unhealthy = |(end, side): &(&str, &Side)| {
        (side.backend == UNHEALTHY).then(|| Say::Warn(format!("{end}: {}", side.problem)))
    };
    let ends = match view.role {
        Role::Provider => [("provider", &view.local), ("receiver", &view.peer)],
        Role::Receiver => [("provider", &view.peer), ("receiver", &view.local)],
    };
    let warnings = ends.iter().filter_map(unhealthy);
    Ok(std::iter::once(Say::Accept).chain(warnings).collect())
}

fn refuse(events: &[Heard]) -> Result<Vec<Say>, Fault> {
    Ok(view_told(events)
        .map(|_| Say::Refuse("never".into()))
        .into_iter()
        .collect())
}

fn silent(_events: &[Heard]) -> Result<Vec<Say>, Fault> {
    Ok(Vec::new())
}

fn trap(_events: &[Heard]) -> Result<Vec<Say>, Fault> {
    Err(Fault::new("trap", "planted"))
}

fn setups(provider: bool, receiver: bool) -> [Setup; 2] {
    let mut setups = [setup(Role::Provider), setup(Role::Receiver)];
    setups[PROVIDER].namespaces[0].index_enabled = provider;
    setups[RECEIVER].namespaces[0].index_enabled = receiver;
    setups
}

fn seen(backend: BackendHealth) -> Event {
    let configured = true;
    Event::IndexSeen {
        ns: namespace(),
        state: IndexState { configured, backend },
    }
}

impl<S: FnMut(&[Told]) -> Answer> Ends<S> {
    fn see(&mut self, end: usize, backend: BackendHealth) {
        self.queue.push_back((end, seen(backend)));
        self.run(200);
    }

    fn warnings(&self) -> [Vec<String>; 2] {
        [PROVIDER, RECEIVER].map(|end| self.status(end).namespaces[0].warnings.clone())
    }

    fn codes(&self, end: usize) -> Vec<String> {
        let reasons = self.status(end).reasons;
        reasons.into_iter().map(|reason| reason.code.into_owned()).collect()
    }
}

#[test]
fn switches_that_differ_are_refused_on_both_ends_whatever_the_strategies_say() {
    for (provider, receiver) in [(true, false), (false, true)] {
        let mut ends = Ends::apart(setups(provider, receiver), fetch_all);
        ends.may_close = true;
        ends.run(3_000);
        for end in [PROVIDER, RECEIVER] {
            let reasons = ends.status(end).reasons;
            let text = format!(
                "namespace global: database.indexdb.layer1.enable is {receiver} on the standby, {provider} on the provider"
            );
            assert!(
                reasons
                    .iter()
                    .any(|it| it.code == "refused-index-switch" && it.text == text),
                "{end}: {reasons:?}"
            );
        }
        assert!(ends.told.is_empty(), "no session, no strategy");
    }
}

#[test]
fn a_backend_that_does_not_answer_is_told_in_both_statuses_and_goes_by_itself() {
    for end in [PROVIDER, RECEIVER] {
        let mut ends = Ends::apart(setups(true, true), fetch_all);
        let down = || BackendHealth::unhealthy("10.0.0.1:27017: refused");
        ends.queue.push_back((end, seen(down())));
        ends.run(2_000);
        let name = ["provider", "receiver"][end];
        let text = format!("index-check: {name}: 10.0.0.1:27017: refused");
        assert_eq!(ends.warnings(), [vec![text.clone()], vec![text.clone()]]);
        assert!(ends.status(PROVIDER).normal && ends.status(RECEIVER).normal);
        ends.see(end, BackendHealth::Healthy);
        assert_eq!(ends.warnings(), [Vec::<String>::new(), Vec::new()]);
        ends.see(end, down());
        assert_eq!(ends.warnings(), [vec![text.clone()], vec![text]]);
    }
}

#[test]
fn nothing_flows_before_it_was_accepted_and_a_view_without_a_verdict_is_a_fault() {
    for end in [PROVIDER, RECEIVER] {
        for says in [silent, trap] {
            let mut ends = Ends::apart(setups(true, true), fetch_all);
            ends.index_says[end] = says;
            ends.run(0);
            ends.grow(4);
            ends.run(1_500);
            assert_eq!(ends.appended, 0, "{end}");
            assert!(!ends.status(end).normal);
            assert!(
                ends.codes(end).contains(&"index-unchecked".to_owned()),
                "{:?}",
                ends.codes(end)
            );
            let strategies = &ends.status(end).namespaces[0].strategies;
            let index = strategies.iter().find(|it| it.id.kind == index_check::KIND).unwrap();
            assert!(index.faults > 1 && index.faults < 20, "{index:?}");
            // The host's actor runs the default in its place.
            ends.index_says[end] = accept;
            ends.run(3_000);
            assert_eq!(ends.appended, 4);
            assert!(ends.status(end).normal, "{:?}", ends.status(end));
        }
    }
}

#[test]
fn who_refuses_ends_the_session_with_the_reason_on_both_ends_and_may_think_better_of_it() {
    for end in [PROVIDER, RECEIVER] {
        let mut ends = Ends::apart(setups(true, true), fetch_all);
        ends.may_close = true;
        ends.index_says[end] = refuse;
        ends.grow(4);
        ends.run(3_000);
        assert_eq!(ends.appended, 0);
        for shown in [PROVIDER, RECEIVER] {
            let reasons = ends.status(shown).reasons;
            let found = reasons
                .iter()
                .any(|it| it.code == "refused-index-check" && it.text == "namespace global: never");
            assert!(found, "{shown}: {reasons:?}");
        }
        ends.index_says[end] = accept;
        ends.run(8_000);
        assert_eq!(ends.appended, 4);
    }
}

#[test]
fn a_verdict_of_an_earlier_session_counts_for_none() {
    let mut ends = Ends::apart(setups(true, true), fetch_all);
    ends.may_close = true;
    ends.run(0);
    let pair = &mut ends.pairs[RECEIVER];
    // A call is under way when the session ends; its answer comes in the next one.
    let changed = pair.step(1_000_000, seen(BackendHealth::Healthy));
    assert!(
        changed.now.iter().any(|it| matches!(it, Action::IndexStrategy { .. })),
        "{changed:?}"
    );
    let lost = Event::Closed {
        conn: CONN,
        reason: None,
    };
    let _ = pair.step(1_000_001, lost);
    let lane = &mut pair.lanes[0];
    let agreed = crate::session::AgreedNamespace {
        namespace: namespace(),
        tag: NamespaceTag::of(&namespace()),
        start: at(0),
        provider_tip: at(0),
        history_from: 0,
        provider_role: NodeRole::Vp,
        their_strategies: vec![strategy()],
        their_index: Some(crate::session::IndexOffer::new(true)),
    };
    lane.index.attach(&agreed, crate::session::SessionKind::Standby);
    pair.on_index_advice(0, Ok(vec![Say::Accept]));
    assert!(!pair.lanes[0].index.is_accepted());
}

#[test]
fn what_a_peer_says_of_its_index_is_bounded_in_size_and_in_what_it_costs() {
    let tag = NamespaceTag::of(&namespace());
    let frame = |state: &IndexState| Frame::of(Kind::IndexState, tag, 0, state.encode().into());
    let state = |number: usize| IndexState {
        configured: number.is_multiple_of(2),
        backend: BackendHealth::unhealthy(&format!("{number}")),
    };
    let mut ends = Ends::apart(setups(true, true), fetch_all);
    ends.run(1_000);
    let mut calls = 0;
    for number in 0..10_000 {
        let pair = &mut ends.pairs[PROVIDER];
        let event = Event::Frame {
            conn: CONN,
            frame: frame(&state(number)),
        };
        for action in pair.step(1_000_000, event).now {
            if let Action::IndexStrategy { ns, events } = action {
                calls += 1;
                let result = accept(&events);
                let _ = pair.step(1_000_000, Event::IndexStrategy { ns, result });
            }
        }
    }
    assert!(calls <= 1, "{calls} calls in one instant");
    ends.run(200);
    assert_eq!(ends.warnings()[PROVIDER], ["index-check: receiver: 9999"]);
    // Garbage ends the session, which names it.
    ends.may_close = true;
    let garbage = Frame::of(Kind::IndexState, tag, 0, Bytes::from_static(&[1, 9]));
    let event = Event::Frame {
        conn: CONN,
        frame: garbage,
    };
    ends.queue.push_back((PROVIDER, event));
    ends.run(50);
    assert_eq!(
        ends.closed[PROVIDER].as_ref().map(|it| it.code.as_ref()),
        Some("malformed")
    );
}

#[test]
fn warnings_have_their_number_and_those_without_a_view_add_up() {
    fn chatty(events: &[Heard]) -> Result<Vec<Say>, Fault> {
        let told = view_told(events).is_some();
        let ticks = events.iter().filter_map(|event| match event {
            Heard::Tick(now) => Some(Say::Warn(format!("at {now}"))),
            _ => None,
        });
        let verdict = told.then_some(Say::Accept);
        Ok(verdict.into_iter().chain(ticks).collect())
    }
    let mut ends = Ends::apart(setups(false, false), fetch_all);
    ends.index_says[RECEIVER] = chatty;
    ends.run(3_500);
    assert_eq!(ends.warnings()[RECEIVER].len(), 3);
    ends.run(20_000);
    assert_eq!(ends.warnings()[RECEIVER].len(), WARNINGS_MAX);
    ends.see(PROVIDER, BackendHealth::Off);
    assert_eq!(ends.warnings()[RECEIVER].len(), 0, "a view makes all of it old");
}
