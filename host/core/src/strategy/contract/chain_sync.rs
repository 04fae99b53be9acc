//! The contract suite of chain-sync.

use super::Suite;
use crate::strategy::ChainSync;
use crate::types::strategy::chain_sync::{Action, Batch, Event, Fetch, View};
use crate::types::strategy::{Fault, LIVE_TAIL, Position, Role, SEND_BYTES_MAX, STORE_BYTES_MAX};

impl Suite for ChainSync {
    /// Open, catch up, hang on the disk, stall, be refused, go live.
    fn script(role: Role) -> Vec<Vec<Event>> {
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

    fn unknown() -> Event {
        Event::Other("of-a-later-release".into(), Vec::new())
    }

    fn judge(role: Role, _events: &[Event], actions: &[Action]) -> Result<(), String> {
        match actions.iter().find(|action| !may_say(role, action)) {
            Some(action) => Err(format!("a {} said {action:?}", role.as_str())),
            None => Ok(()),
        }
    }
}

fn may_say(role: Role, action: &Action) -> bool {
    match action {
        Action::Fetch(fetch) => role == Role::Receiver && fetch.first <= fetch.last,
        Action::Window(_) | Action::Pause(_) | Action::Bootstrap(_) => role == Role::Receiver,
        Action::Throttle(_) => role == Role::Provider,
        Action::Store(bytes) => bytes.len() <= STORE_BYTES_MAX,
        Action::Send(bytes) => bytes.len() <= SEND_BYTES_MAX,
        _ => true,
    }
}

fn at(height: u64) -> Position {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&height.to_be_bytes());
    Position { height, hash }
}
