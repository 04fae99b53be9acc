//! The data index of the simulated nodes: switches that an operator changes on a standby, backends that come and go, and index-check strategies
//! that trap at times.

use cvp_core::config::{INDEX_SWITCH, Value};
use cvp_core::replication::Event;
use cvp_core::session::{BackendHealth, IndexState};
use cvp_core::types::strategy::{Fault, Role, index_check};
use cvp_core::types::{Millis, Namespace};

use crate::configuration;
use crate::natives::open_index;
use crate::random::Random;
use crate::world::{A, B, D, Ev, World};

/// The namespace whose switch operators change.
const SWITCHED: &str = "ns1";

/// A standby that is corrected in quiet comes back so much later; one that cannot be corrected yet is looked at again then.
const SETTLED_MS: Millis = 200;

/// The namespaces that keep an index in this run.
pub fn draw(namespaces: &[Namespace], random: &mut Random) -> Vec<Namespace> {
    let mut indexed = namespaces.to_vec();
    indexed.retain(|_| random.chance(60));
    indexed
}

impl World {
    pub fn reopen_index(&mut self, node: usize, ns: &Namespace) {
        let role = self.nodes[node].role;
        if let Some(store) = self.nodes[node].store(ns) {
            store.index = open_index(role, ns).ok();
        }
    }

    pub fn advise_index(&mut self, node: usize, ns: &Namespace, events: Vec<index_check::Event>) {
        let lost = self.now < self.nodes[node].advice_lost_until;
        let trapped = lost && self.random.chance(50);
        let epoch = self.nodes[node].epoch;
        let Some(store) = self.nodes[node].store(ns) else {
            return;
        };
        let mut result = match store.index.as_mut() {
            Some(strategy) => strategy.handle(events),
            None => Err(Fault::new("gone", "no strategy")),
        };
        if trapped {
            result = Err(Fault::new("planted", "a trap"));
        }
        if result.is_err() {
            self.reopen_index(node, ns);
        }
        let delay = if lost {
            self.random.range(0, 3_000)
        } else {
            self.random.range(0, 2)
        };
        let event = Event::IndexStrategy { ns: ns.clone(), result };
        self.later(delay, Ev::Host { node, epoch, event });
    }

    /// The host looks: at the backends, which may be others since, and at the configuration.
    ///
    /// # Errors
    /// A standby's files cannot be corrected.
    pub fn look_at_index(&mut self, node: usize, down: Option<bool>) -> Result<(), String> {
        if self.now >= self.chaos_until {
            self.heal_switches()?;
        }
        let machine = &mut self.nodes[node];
        machine.index_down = down.unwrap_or(machine.index_down);
        if machine.pair.is_none() {
            return Ok(());
        }
        let mut seen = Vec::new();
        for store in &machine.stores {
            let Some(indexed) = store.indexed else { continue };
            let backend = match (indexed, machine.index_down) {
                (false, _) => BackendHealth::Off,
                (true, true) => BackendHealth::unhealthy(&format!("{}:27017: connection refused", machine.name)),
                (true, false) => BackendHealth::Healthy,
            };
            let configured = configuration::is_indexed(&machine.disk.configuration, &store.namespace);
            seen.push((store.namespace.clone(), IndexState { configured, backend }));
        }
        for (ns, state) in seen {
            self.step(node, Event::IndexSeen { ns, state });
        }
        Ok(())
    }

    /// A machine that begins looks after a while.
    pub fn begin_looking(&mut self, node: usize) {
        let delay = self.random.range(0, 2_000);
        self.later(delay, Ev::Index(node, None));
    }

    /// A backend dies or comes back.
    pub fn toggle_backend(&mut self, node: usize) {
        let (delay, down) = (self.random.range(0, 1_000), self.random.chance(60));
        self.later(delay, Ev::Index(node, Some(down)));
    }

    /// An operator changes a standby's switch, and starts it anew, or not yet.
    pub fn flip_switch(&mut self) -> Result<(), String> {
        let node = if self.promoted { D } else { B };
        let machine = &self.nodes[node];
        let begun = machine.promotion.is_some() || machine.journal()?.plan().is_some();
        if machine.role != Role::Receiver || begun {
            return Ok(());
        }
        let files = &machine.disk.configuration;
        let on = self.switched().is_some_and(|ns| configuration::is_indexed(files, &ns));
        self.set_switch(node, !on)?;
        if self.random.chance(70) {
            self.crash_and_restart(node);
        }
        Ok(())
    }

    fn switched(&self) -> Option<Namespace> {
        self.namespaces.iter().find(|ns| ns.as_str() == SWITCHED).cloned()
    }

    fn set_switch(&mut self, node: usize, on: bool) -> Result<(), String> {
        let files = &mut self.nodes[node].disk.configuration;
        let name = format!("{SWITCHED}/ns_static.toml");
        let text = configuration::edited(files, &name, INDEX_SWITCH, Value::Flag(on))?;
        files.insert(name, text);
        Ok(())
    }

    /// Quiet begins: backends come and go once more, in sessions that live on.
    pub fn heal_index(&mut self) -> Result<(), String> {
        for node in [A, B, D] {
            for wait in [2_000, 12_000] {
                let (delay, down) = (self.random.range(wait, wait + 3_000), self.random.chance(50));
                self.later(delay, Ev::Index(node, Some(down)));
            }
        }
        self.heal_switches()
    }

    /// Standbys get their provider's switch, and run with it; one whose promotion is under way, once that has ended.
    pub fn heal_switches(&mut self) -> Result<(), String> {
        let Some(ns) = self.switched() else { return Ok(()) };
        let on = configuration::is_indexed(&self.nodes[A].disk.configuration, &ns);
        for node in [B, D] {
            let machine = &self.nodes[node];
            if machine.promotion.is_some() {
                self.later(SETTLED_MS, Ev::Index(node, None));
                continue;
            }
            let configured = configuration::is_indexed(&machine.disk.configuration, &ns);
            let runs = machine.stores.iter().find(|store| store.namespace == ns);
            let runs = runs.and_then(|store| store.indexed).unwrap_or(on);
            let taken_over = node == B && (self.promoted || machine.journal()?.plan().is_some());
            let standby = configuration::role(&machine.config) == Role::Receiver && !taken_over;
            if standby && (configured != on || (machine.is_up() && runs != on)) {
                self.set_switch(node, on)?;
                let up = self.nodes[node].is_up();
                self.crash(node);
                if up {
                    self.later(SETTLED_MS, Ev::Restart { node });
                }
            }
        }
        Ok(())
    }

    /// A pair has one switch in each namespace, as both run.
    pub fn check_one_switch(&mut self, standby: usize, provider: usize) {
        for index in 0..self.namespaces.len() {
            let (one, other) = (&self.nodes[standby].stores[index], &self.nodes[provider].stores[index]);
            let (Some(ours), Some(theirs)) = (one.indexed, other.indexed) else {
                continue;
            };
            if self.nodes[provider].is_up() && ours != theirs {
                let text = format!(
                    "{} attached to {} with another index switch in {}",
                    self.nodes[standby].name, self.nodes[provider].name, one.namespace
                );
                return self.fail(text);
            }
        }
    }

    /// After quiet both ends say of both backends what is so.
    pub fn check_index_end(&mut self, provider: usize, receiver: usize) -> Result<(), String> {
        let ends = [("provider", provider), ("receiver", receiver)];
        for (_, node) in ends {
            let Some(status) = self.nodes[node].pair.as_ref().map(|pair| pair.status(self.now)) else {
                continue;
            };
            for ns in &status.namespaces {
                for (end, machine) in ends {
                    let words = format!("index backend of the {end} does not answer");
                    let said = ns.warnings.iter().any(|text| text.contains(&words));
                    let machine = &self.nodes[machine];
                    let store = machine.stores.iter().find(|store| store.namespace == ns.name);
                    let indexed = store.and_then(|store| store.indexed) == Some(true);
                    let so = indexed && machine.index_down;
                    self.counts.index_warnings += u64::from(said);
                    if said != so {
                        return Err(format!(
                            "{} says of the {end}'s index of {}: {:?}, and its backend is {}",
                            self.nodes[node].name,
                            ns.name,
                            ns.warnings,
                            if machine.index_down { "down" } else { "up" }
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
