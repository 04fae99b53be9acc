//! Config-sync strategies of the simulated nodes: the default one, natively, which traps at times.

use cvp_core::replication::Event;
use cvp_core::types::Namespace;
use cvp_core::types::strategy::{Fault, config_sync};

use crate::node::open_files;
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
        let mut result = match store.files.as_mut() {
            Some(strategy) => strategy.handle(events),
            None => Err(Fault::new("gone", "no strategy")),
        };
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
