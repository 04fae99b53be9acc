//! Config-sync strategies of the simulated nodes: the default one, natively, which traps at times, and at times has whatever differs deleted.

use std::collections::BTreeSet;

use cvp_core::replication::Event;
use cvp_core::types::Namespace;
use cvp_core::types::strategy::{Fault, Role, config_sync};

use crate::natives::open_files;
use crate::world::{Ev, World};

impl World {
    pub fn reopen_files(&mut self, node: usize, ns: &Namespace) {
        let role = self.nodes[node].role;
        if let Some(store) = self.nodes[node].store(ns) {
            store.files = open_files(role, ns).ok();
        }
    }

    pub fn advise_files(&mut self, node: usize, ns: &Namespace, events: Vec<config_sync::Event>) {
        let lost = self.now < self.nodes[node].advice_lost_until;
        let trapped = lost && self.random.chance(50);
        let epoch = self.nodes[node].epoch;
        let Some(store) = self.nodes[node].store(ns) else {
            return;
        };
        let rash = if self.random.chance(50) { surplus(&events) } else { None };
        let mut result = match store.files.as_mut() {
            Some(strategy) => strategy.handle(events),
            None => Err(Fault::new("gone", "no strategy")),
        };
        if let (Ok(actions), Some(surplus)) = (&mut result, rash)
            && !actions
                .iter()
                .any(|action| matches!(action, config_sync::Action::Delete(_)))
        {
            actions.push(config_sync::Action::Delete(surplus));
        }
        if trapped {
            result = Err(Fault::new("planted", "a trap"));
        }
        if result.is_err() {
            self.reopen_files(node, ns);
        }
        let delay = if lost {
            self.random.range(0, 3_000)
        } else {
            self.random.range(0, 2)
        };
        let event = Event::ConfigStrategy { ns: ns.clone(), result };
        self.later(delay, Ev::Host { node, epoch, event });
    }
}

/// What the copy has and the provider does not show, as one careless of what that is would have it deleted.
fn surplus(events: &[config_sync::Event]) -> Option<Vec<String>> {
    let view = events.iter().rev().find_map(|event| match event {
        config_sync::Event::Opened { view, .. } | config_sync::Event::Inventories(view) => Some(view),
        _ => None,
    })?;
    let theirs = view.peer.as_ref().filter(|_| view.role == Role::Receiver)?.iter();
    let theirs: BTreeSet<&str> = theirs.map(|file| file.path.as_str()).collect();
    let local = view.local.iter().map(|file| file.path.clone());
    let surplus: Vec<String> = local.filter(|path| !theirs.contains(path.as_str())).collect();
    (!surplus.is_empty() && surplus.len() <= config_sync::PATHS_MAX).then_some(surplus)
}
