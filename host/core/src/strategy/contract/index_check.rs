//! The contract suite of index-check.

use super::Suite;
use crate::strategy::{IndexCheck, scrutiny::IndexGround};
use crate::types::strategy::index_check::{Action, Event, HEALTHY, Side, UNHEALTHY, View};
use crate::types::strategy::{Fault, Role};

impl Suite for IndexCheck {
    /// Open without an index; then with one whose backends come and go, a switch that waits for a start, and what it does not know.
    fn script(role: Role) -> Vec<Vec<Event>> {
        let view = View::new(role, "global");
        let mut calls = vec![vec![Event::Opened {
            view: view.clone(),
            stored: vec![1, 2, 3],
        }]];
        let mut view = View {
            local: Side::new(true),
            peer: Side::new(true),
            ..view
        };
        calls.push(vec![Event::Opened {
            view: view.clone(),
            stored: Vec::new(),
        }]);
        for (local, peer) in [
            (UNHEALTHY, HEALTHY),
            (UNHEALTHY, UNHEALTHY),
            (HEALTHY, UNHEALTHY),
            (HEALTHY, "of-a-later-release"),
            (HEALTHY, HEALTHY),
        ] {
            view.now += 2_000;
            view.local = side(local);
            view.peer = side(peer);
            calls.push(vec![Event::State(view.clone())]);
            calls.push(vec![Event::Tick(view.now + 500)]);
        }
        view.local.configured = false;
        view.extra = vec![("unknown".into(), "name".into())];
        calls.push(vec![Event::State(view.clone())]);
        calls.push(vec![
            Event::State(view.clone()),
            Event::Message(vec![0; 100]),
            Event::Fault(Fault::new("unknown-action", "refused")),
            Self::unknown(),
        ]);
        calls.push(vec![Event::Message(Vec::new()), Event::Tick(view.now + 1_000)]);
        calls.push(vec![Event::Opened {
            view,
            stored: Vec::new(),
        }]);
        calls.push(Vec::new());
        calls
    }

    fn unknown() -> Event {
        Event::Other("of-a-later-release".into(), Vec::new())
    }

    fn judge(_role: Role, events: &[Event], actions: &[Action]) -> Result<(), String> {
        let told = |event: &Event| matches!(event, Event::Opened { .. } | Event::State(_));
        let ground = IndexGround {
            told: events.iter().any(told),
        };
        ground.check(actions).map_err(|fault| fault.to_string())
    }
}

fn side(backend: &str) -> Side {
    let problem = if backend == UNHEALTHY {
        "10.0.0.1:27017: connection refused"
    } else {
        ""
    };
    Side {
        backend: backend.to_owned(),
        problem: problem.to_owned(),
        ..Side::new(true)
    }
}
