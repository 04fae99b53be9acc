//! The contract suite: what every chain-sync strategy must do, native or WASM, ours or a third party's. Used by tests only.

use super::ChainSyncStrategy;
use crate::types::strategy::chain_sync::{Action, Batch, Event, Fetch, View};
use crate::types::strategy::{ACTIONS_MAX, Fault, LIVE_TAIL, Position, Role, SEND_BYTES_MAX, STORE_BYTES_MAX};

/// A session as a node would tell it, call by call: open, catch up, hang on the disk, stall, be refused, go live.
pub fn script(role: Role) -> Vec<Vec<Event>> {
    let mut view = View::new(role, "global");
    view.local = at(10);
    view.peer = Some(at(5_000));
    view.lag_blocks = 4_990;
    let mut calls = vec![vec![Event::Opened {
        view: view.clone(),
        stored: vec![1, 2, 3],
    }]];
    view.fetch = Some(Fetch {
        first: 11,
        last: LIVE_TAIL,
        bytes_in_flight: 8 << 20,
    });
    for step in 1..60_u64 {
        view.now = step * 100;
        view.local = at(10 + step * 80);
        view.lag_blocks = 4_990 - step * 80;
        view.next = view.local.height + 20;
        view.applied_batches = step;
        view.applied = Some(Batch {
            records: 80,
            bytes: (1 << 20) * (1 + step % 7),
            ingest_micros: 2_000 + step * 31,
            sync_micros: 4_000 + (step % 5) * 900,
        });
        view.disk_wait_millis = if step % 20 == 0 { 2_500 } else { 0 };
        view.max_rate = step / 30 * 1_000_000;
        calls.push(vec![match step % 10 {
            9 => Event::Tick(view.clone()),
            _ => Event::Progress(view.clone()),
        }]);
    }
    calls.push(vec![
        Event::Message(vec![0; 100]),
        Event::Fault(Fault::new("bad-window", "refused")),
        Event::Other("of-a-later-release".into(), vec![9]),
    ]);
    view.idle_millis = 3_000;
    calls.push(vec![Event::Stall {
        view: view.clone(),
        millis: 3_000,
    }]);
    view.local = at(5_000);
    view.lag_blocks = 0;
    view.extra = vec![("unknown".into(), "name".into())];
    calls.push(vec![Event::Progress(view.clone()), Event::Tick(view)]);
    calls.push(Vec::new());
    calls
}

fn at(height: u64) -> Position {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&height.to_be_bytes());
    Position { height, hash }
}

/// Runs the suite over strategies that `open` makes with default settings; the first broken rule is the error.
pub fn check(open: &mut dyn FnMut(Role) -> Result<ChainSyncStrategy, Fault>) -> Result<(), String> {
    for role in [Role::Receiver, Role::Provider] {
        let mut first = open(role).map_err(|e| e.to_string())?;
        let mut second = open(role).map_err(|e| e.to_string())?;
        for (number, events) in script(role).into_iter().enumerate() {
            let actions = first
                .handle(events.clone())
                .map_err(|fault| format!("{} call {number}: {fault}", role.as_str()))?;
            let again = second.handle(events).map_err(|fault| fault.to_string())?;
            if actions != again {
                return Err(format!(
                    "{} call {number}: the same events gave {actions:?}, then {again:?}",
                    role.as_str()
                ));
            }
            bounded(role, &actions)?;
        }
        let mut fresh = open(role).map_err(|e| e.to_string())?;
        let unknown = vec![Event::Other("of-a-later-release".into(), Vec::new())];
        let actions = fresh.handle(unknown).map_err(|fault| fault.to_string())?;
        if !actions.is_empty() {
            return Err(format!("an unknown event was answered with {actions:?}"));
        }
    }
    Ok(())
}

fn bounded(role: Role, actions: &[Action]) -> Result<(), String> {
    if actions.len() > ACTIONS_MAX {
        return Err(format!("{} actions in one answer", actions.len()));
    }
    for action in actions {
        let ok = match action {
            Action::Fetch(fetch) => role == Role::Receiver && fetch.first <= fetch.last,
            Action::Window(_) | Action::Pause(_) | Action::Bootstrap(_) => role == Role::Receiver,
            Action::Throttle(_) => role == Role::Provider,
            Action::Store(bytes) => bytes.len() <= STORE_BYTES_MAX,
            Action::Send(bytes) => bytes.len() <= SEND_BYTES_MAX,
            _ => true,
        };
        if !ok {
            return Err(format!("a {} said {action:?}", role.as_str()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Strategy;
    use super::*;

    /// Answers each call with how many calls of any instance came before: not a function of its events.
    struct Moody(&'static std::sync::atomic::AtomicU64);

    impl Strategy for Moody {
        type Event = Event;
        type Action = Action;

        fn handle(&mut self, _events: Vec<Event>) -> Result<Vec<Action>, Fault> {
            let calls = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(vec![Action::VerifyEvery(calls)])
        }
    }

    #[test]
    fn a_strategy_that_is_no_function_of_its_events_is_seen() {
        static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let broken = check(&mut |_| Ok(Box::new(Moody(&CALLS)))).unwrap_err();
        assert!(broken.contains("the same events"), "{broken}");
    }
}
