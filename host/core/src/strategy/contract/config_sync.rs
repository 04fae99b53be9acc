//! The contract suite of config-sync.

use super::Suite;
use crate::strategy::{ConfigSync, scrutiny::ConfigGround};
use crate::types::strategy::config_sync::{Action, Edit, Event, FileEntry, View};
use crate::types::strategy::{Fault, Role};

impl Suite for ConfigSync {
    /// Open with nothing, copy file by file, lose the session, be edited, get rid of a file, be told what it does not know.
    fn script(role: Role) -> Vec<Vec<Event>> {
        let mut view = View::new(role, "global");
        let provider: Vec<FileEntry> = PATHS.iter().map(|path| file(path, 1)).collect();
        let mut calls = vec![vec![Event::Opened {
            view: view.clone(),
            stored: vec![1, 2, 3],
        }]];
        for copied in 0..=provider.len() {
            view.now += 300;
            let (here, under_way) = provider.split_at(copied);
            show(&mut view, here, &provider);
            view.requested = under_way.iter().take(2).map(|it| it.path.clone()).collect();
            calls.push(vec![Event::Inventories(view.clone())]);
            calls.push(vec![Event::Tick(view.now + 150)]);
        }
        view.requested.clear();
        let mut changed = provider.clone();
        changed[0].digest = [9; 32];
        changed.pop();
        view.now += 60_000;
        show(&mut view, &provider, &changed);
        calls.push(vec![Event::Inventories(view.clone())]);
        calls.push(vec![Event::Tick(view.now + 60_000)]);
        if role == Role::Provider {
            calls.extend(edits().into_iter().map(|edit| vec![Event::Edit(edit)]));
        }
        view.peer = None;
        view.extra = vec![("unknown".into(), "name".into())];
        calls.push(vec![Event::Inventories(view.clone())]);
        calls.push(vec![
            Event::Message(vec![0; 100]),
            Event::Fault(Fault::new("unknown-action", "refused")),
            Self::unknown(),
        ]);
        view.local.clear();
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

    /// A call without a view (a tick, an edit) may name what the script ever showed.
    fn judge(role: Role, events: &[Event], actions: &[Action]) -> Result<(), String> {
        let told = events.iter().rev().find_map(|event| match event {
            Event::Opened { view, .. } | Event::Inventories(view) => Some(view.clone()),
            _ => None,
        });
        let view = told.unwrap_or_else(|| {
            let all: Vec<_> = PATHS.iter().map(|path| file(path, 1)).collect();
            let mut view = View::new(role, "global");
            show(&mut view, &all, &all);
            view
        });
        let edits: Vec<u64> = events
            .iter()
            .filter_map(|event| match event {
                Event::Edit(edit) => Some(edit.id),
                _ => None,
            })
            .collect();
        let ground = ConfigGround {
            view: &view,
            edits: &edits,
        };
        ground.check(actions).map_err(|fault| fault.to_string())
    }
}

const PATHS: [&str; 6] = [
    "dynamic.toml",
    "global/certs/CA/root.ca",
    "global/ns_dynamic.toml",
    "global/ns_genesis.toml",
    "global/ns_static.toml",
    "system.toml",
];

fn file(path: &str, content: u8) -> FileEntry {
    FileEntry {
        path: path.to_owned(),
        size: 100 * path.len() as u64,
        digest: [content; 32],
    }
}

/// Lets the view show the receiver's copy and the provider's files, each on its side.
fn show(view: &mut View, copy: &[FileEntry], provider: &[FileEntry]) {
    let (local, peer) = match view.role {
        Role::Receiver => (copy, provider),
        Role::Provider => (provider, copy),
    };
    view.local = local.to_vec();
    view.peer = Some(peer.to_vec());
}

fn edits() -> Vec<Edit> {
    let keys = [
        ("dynamic.toml", "cvp.max_rate"),
        ("dynamic.toml", "cvp.heartbeat"),
        ("dynamic.toml", "namespace"),
        ("global/ns_static.toml", "strategy.chain-sync.id"),
        ("global/ns_genesis.toml", ""),
        ("a-new-file.toml", "a"),
    ];
    let edit = |(id, (file, key)): (u64, (&str, &str))| Edit {
        id,
        file: file.to_owned(),
        key: key.to_owned(),
        old: (id < 5).then_some([1; 32]),
        new: Some([2; 32]),
    };
    (0..).zip(keys).map(edit).collect()
}
