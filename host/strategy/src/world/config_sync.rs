//! Kind config-sync at the component boundary: events into the WIT types, WIT actions into core's. No decision here.

use cvp_core::strategy::ConfigSync;
use cvp_core::types::strategy::config_sync::{self as plain, KEY_BYTES_MAX, PATH_BYTES_MAX, PATHS_MAX};
use cvp_core::types::strategy::{self as types, SEND_BYTES_MAX, STORE_BYTES_MAX, TEXT_BYTES_MAX};
use wasmtime::Store;
use wasmtime::component::{InstancePre, ResourceAny};

use super::{
    World, calls_of, lift_descriptor, lift_fault, lift_level, lift_problems, lower_digest, lower_fault, lower_role,
};
use crate::bindings::config_sync as bindings;
use crate::bindings::config_sync::exports::cvp::config_sync::config_sync as wit;
use crate::sandbox::Sandbox;

impl World for ConfigSync {
    calls_of!(
        bindings,
        ConfigSyncStrategyPre,
        ConfigSyncStrategy,
        cvp_config_sync_config_sync
    );

    fn sizes(action: &plain::Action) -> Vec<(&'static str, usize, usize)> {
        match action {
            plain::Action::Request(paths) => sizes_of_paths("request", paths),
            plain::Action::Delete(paths) => sizes_of_paths("delete", paths),
            plain::Action::KeepLocal { file, key } => vec![
                ("keep-local", file.len(), PATH_BYTES_MAX),
                ("keep-local", key.len(), KEY_BYTES_MAX),
            ],
            plain::Action::Store(bytes) => vec![("store", bytes.len(), STORE_BYTES_MAX)],
            plain::Action::Send(bytes) => vec![("send", bytes.len(), SEND_BYTES_MAX)],
            plain::Action::Refuse(text) => vec![("refuse", text.len(), TEXT_BYTES_MAX)],
            plain::Action::Log(_, text) => vec![("log", text.len(), TEXT_BYTES_MAX)],
            plain::Action::Metric(name, _) => vec![("metric", name.len(), TEXT_BYTES_MAX)],
            plain::Action::Other(name, bytes) => vec![("other", name.len().max(bytes.len()), TEXT_BYTES_MAX)],
            plain::Action::Weigh { .. } => Vec::new(),
        }
    }
}

/// All of them together are bounded, so that one action stays below the most that is lifted from a call.
fn sizes_of_paths(what: &'static str, paths: &[String]) -> Vec<(&'static str, usize, usize)> {
    let longest = paths.iter().map(String::len).max().unwrap_or_default();
    vec![(what, paths.len(), PATHS_MAX), (what, longest, PATH_BYTES_MAX)]
}

fn lower_inventory(files: Vec<plain::FileEntry>) -> Vec<wit::FileEntry> {
    let lower = |it: plain::FileEntry| wit::FileEntry {
        path: it.path,
        size: it.size,
        digest: lower_digest(it.digest),
    };
    files.into_iter().map(lower).collect()
}

fn lower_view(it: plain::View) -> wit::View {
    wit::View {
        role: lower_role(it.role),
        namespace: it.namespace,
        now: it.now,
        local: lower_inventory(it.local),
        peer: it.peer.map(lower_inventory),
        requested: it.requested,
        extra: it.extra,
    }
}

fn lower_event(event: plain::Event) -> wit::Event {
    match event {
        plain::Event::Opened { view, stored } => wit::Event::Opened(wit::Opened {
            view: lower_view(view),
            stored,
        }),
        plain::Event::Inventories(view) => wit::Event::Inventories(lower_view(view)),
        plain::Event::Edit(it) => wit::Event::Edit(wit::Edit {
            id: it.id,
            file: it.file,
            key: it.key,
            old: it.old.map(lower_digest),
            new: it.new.map(lower_digest),
        }),
        plain::Event::Tick(now) => wit::Event::Tick(now),
        plain::Event::Message(bytes) => wit::Event::Message(bytes),
        plain::Event::Fault(it) => wit::Event::Fault(lower_fault(it)),
        plain::Event::Other(name, bytes) => wit::Event::Other((name, bytes)),
    }
}

fn lift_action(action: wit::Action) -> plain::Action {
    match action {
        wit::Action::Request(paths) => plain::Action::Request(paths),
        wit::Action::Delete(paths) => plain::Action::Delete(paths),
        wit::Action::Weigh(it) => plain::Action::Weigh {
            edit: it.edit,
            strong: it.strong,
        },
        wit::Action::KeepLocal(it) => plain::Action::KeepLocal {
            file: it.file,
            key: it.key,
        },
        wit::Action::Refuse(reason) => plain::Action::Refuse(reason),
        wit::Action::Store(bytes) => plain::Action::Store(bytes),
        wit::Action::Send(bytes) => plain::Action::Send(bytes),
        wit::Action::Log(it) => plain::Action::Log(lift_level(it.level), it.text),
        wit::Action::Metric(it) => plain::Action::Metric(it.name, it.value),
        wit::Action::Other((name, bytes)) => plain::Action::Other(name, bytes),
    }
}
