//! chain-sync strategies of the simulated nodes, which trap and talk nonsense at times.

use cvp_core::replication::Event;
use cvp_core::types::Namespace;
use cvp_core::types::strategy::{Fault, chain_sync};

use crate::chaos::nonsense;
use crate::natives::open_strategy;
use crate::world::{Ev, World};

impl World {
    pub fn reopen_strategy(&mut self, node: usize, ns: &Namespace) {
        let role = self.nodes[node].role;
        if let Some(store) = self.nodes[node].store(ns) {
            store.strategy = open_strategy(role, ns).ok();
        }
    }

    pub fn advise(&mut self, node: usize, ns: &Namespace, events: Vec<chain_sync::Event>) {
        let lost = self.now < self.nodes[node].advice_lost_until;
        let faulty = lost && self.random.chance(50);
        let epoch = self.nodes[node].epoch;
        let Some(store) = self.nodes[node].store(ns) else {
            return;
        };
        let mut result = match store.strategy.as_mut() {
            Some(strategy) => strategy.handle(events),
            None => Err(Fault::new("gone", "no strategy")),
        };
        if faulty {
            result = Err(Fault::new("planted", "a trap"));
        } else if lost {
            result = Ok(nonsense());
        }
        if result.is_err() {
            self.reopen_strategy(node, ns);
        }
        let delay = if lost {
            self.random.range(0, 3_000)
        } else {
            self.random.range(0, 2)
        };
        self.later(
            delay,
            Ev::Host {
                node,
                epoch,
                event: Event::Strategy { ns: ns.clone(), result },
            },
        );
    }
}
