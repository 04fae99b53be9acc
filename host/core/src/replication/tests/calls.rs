//! Calls of strategies: what is refused, what is a fault, what is neither.

use super::*;

#[test]
fn a_refused_call_ends_its_instance_and_the_next_one_is_opened_at_once() {
    // The host puts the embedded default in the place of an instance that faulted: the second answer is its.
    let mut calls = 0;
    let mut ends = Ends::attached(|events: &[Told]| {
        calls += 1;
        if calls == 1 {
            let wide = Advice::Window(u64::MAX);
            return fetch_all(events).map(|mut said| {
                said.push(wide);
                said
            });
        }
        fetch_all(events)
    });
    assert_eq!(ends.faults.len(), 1);
    assert_eq!(ends.faults[0].code, "window-out-of-range");
    assert!(is_opened(&ends.told[1]), "{:?}", ends.told[1]);
    let Some(view) = view_of(&ends.told[1][0]) else {
        panic!("no view")
    };
    assert_eq!(view.fetch, None, "the good action of a refused call was taken");
    assert_eq!(ends.now, 0, "at once");
    ends.grow(3);
    ends.run(100);
    assert_eq!(ends.status(RECEIVER).namespaces[0].durable, 3);
    let status = ends.strategy_status();
    assert_eq!((status.faults, status.refused), (1, 1));
}

#[test]
fn faults_that_follow_each_other_do_not_spin() {
    for trap in [true, false] {
        let mut ends = Ends::attached(|_: &[Told]| {
            if trap {
                return Err(Fault::new("trap", "always"));
            }
            Ok(vec![Advice::Window(0)])
        });
        ends.run(1_000);
        let calls = ends.told.len();
        assert!((8..=13).contains(&calls), "{calls} calls in a second");
        assert_eq!(ends.strategy_status().faults, calls as u64);
        assert_eq!(ends.faults.len(), if trap { 0 } else { calls });
    }
}

#[test]
fn to_pause_is_no_fault_and_stops_the_stream() {
    let mut ends = Ends::attached(|events: &[Told]| {
        let opened = is_opened(events);
        Ok(opened.then(|| Advice::Pause("not now".into())).into_iter().collect())
    });
    ends.grow(5);
    ends.run(20_000);
    assert_eq!(ends.faults, []);
    let status = ends.status(RECEIVER);
    assert_eq!(status.namespaces[0].durable, 0);
    assert!(
        status.reasons.iter().any(|reason| reason.code == "stream-paused"),
        "{status:?}"
    );
}

#[test]
fn who_says_nothing_while_blocks_are_owed_is_at_fault() {
    let mut ends = Ends::attached(|_: &[Told]| Ok(Vec::new()));
    ends.run(10_000);
    assert_eq!(ends.faults, [], "nothing is owed");
    ends.grow(5);
    ends.run(3_000);
    assert_eq!(ends.faults.first().map(|fault| fault.code.as_str()), Some("no-advice"));
}

#[test]
fn an_action_of_a_later_contract_is_answered_and_held_against_nobody() {
    let mut ends = Ends::attached(|events: &[Told]| {
        let mut said = fetch_all(events)?;
        if is_opened(events) {
            said.push(Advice::Other("teleport".into(), Vec::new()));
        }
        Ok(said)
    });
    ends.grow(2);
    ends.run(100);
    assert_eq!(ends.faults, []);
    assert_eq!(ends.status(RECEIVER).namespaces[0].durable, 2);
    let answered = ends.told.iter().flatten().find_map(|event| match event {
        Told::Fault(fault) => Some(fault.code.as_str()),
        _ => None,
    });
    assert_eq!(answered, Some("unknown-action"));
    let status = ends.strategy_status();
    assert_eq!((status.faults, status.refused), (0, 1));
}

#[test]
fn another_rate_is_told_at_once() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(100);
    let ticks = ends.told.len();
    let limits = Limits {
        max_rate: 5_000,
        ..Limits::default()
    };
    ends.queue.push_back((RECEIVER, Event::SetLimits(limits)));
    ends.run(50);
    let told: Vec<u64> = ends.told[ticks..]
        .iter()
        .flatten()
        .filter_map(view_of)
        .map(|view| view.max_rate)
        .collect();
    assert_eq!(told, [5_000], "a tick is a second away");
    ends.queue.push_back((RECEIVER, Event::SetLimits(limits)));
    ends.run(50);
    assert_eq!(ends.told.len(), ticks + 1, "nothing new is told");
}
