//! Namespaces that are started and stopped online: the provider goes on with a machine of its new list, the receiver follows.

use cvp_core::ledger::Ledger;
use cvp_core::promotion::HeldNamespace;
use cvp_core::replication::Event;
use cvp_core::types::strategy::Role;
use cvp_core::types::{Millis, Namespace, Refusal};

use crate::configuration::{self, ONLINE};
use crate::tree::copied_configuration;
use crate::world::{Ev, World};

/// From the answer to the operator until the node goes on with its new list, at most.
const SWITCH_MS: Millis = 60;

/// The list of a node.
const LIST: &str = "dynamic.toml";

impl World {
    /// The list with the one namespace switched over that operators start and stop; none where it is held.
    pub fn switch_over(&self, node: usize, text: &str) -> Result<Option<String>, String> {
        let machine = &self.nodes[node];
        let name = Namespace::new(ONLINE).map_err(|error| error.to_string())?;
        if machine.held()?.iter().any(|held| held.name == name) {
            return Ok(None);
        }
        let starts = configuration::started(&machine.disk.configuration)?.contains(&name);
        configuration::switched(text, &name, !starts).map(Some)
    }

    /// A strong change was answered: perhaps it was one of the list.
    pub fn switch_later(&mut self, node: usize) {
        if self.nodes[node].role == Role::Provider {
            let (delay, epoch) = (self.random.range(0, SWITCH_MS), self.nodes[node].epoch);
            self.later(delay, Ev::Switch { node, epoch });
        }
    }

    pub fn switch(&mut self, node: usize) -> Result<(), String> {
        let machine = &self.nodes[node];
        if machine.promotion.is_some() || machine.disk.fenced.is_some() {
            return Ok(());
        }
        let mut wanted = configuration::started(&machine.disk.configuration)?;
        let held = machine.held()?;
        wanted.retain(|name| !held.iter().any(|held| held.name == *name));
        if wanted == machine.running {
            return Ok(());
        }
        self.counts.switched += 1;
        self.go_on(node)
    }

    /// The receiver stops what its provider does not start, and starts what it does; its own files are prepared.
    pub fn align(&mut self, node: usize, missing: &[Namespace], extra: &[Namespace]) -> Result<(), String> {
        let machine = &self.nodes[node];
        if machine.role == Role::Provider || machine.promotion.is_some() {
            return Ok(());
        }
        let wanted = configuration::started(&copied_configuration(&machine.disk)?)?;
        let stopped = extra
            .iter()
            .filter(|name| !wanted.contains(*name) && machine.runs(name));
        let started = missing
            .iter()
            .filter(|name| wanted.contains(*name) && !machine.runs(name));
        let switched: Vec<(Namespace, bool)> = stopped
            .map(|name| (name.clone(), false))
            .chain(started.map(|name| (name.clone(), true)))
            .collect();
        if switched.is_empty() {
            return Ok(());
        }
        for (name, start) in switched {
            let text = self.nodes[node].disk.configuration.get(LIST).ok_or("no list")?;
            let text = configuration::switched(text, &name, start)?;
            self.nodes[node].disk.configuration.insert(LIST.to_owned(), text);
        }
        self.counts.aligned += 1;
        self.go_on(node)
    }

    /// A machine of the same role with the list that the files have now; the session ends.
    pub fn go_on(&mut self, node: usize) -> Result<(), String> {
        let Some(before) = self.quiesce(node) else {
            return Ok(());
        };
        self.trees.renewed.push(self.now);
        let machine = &mut self.nodes[node];
        let mut failed = false;
        for store in &mut machine.stores {
            // A chain goes on by itself meanwhile; one that is not open yet opens.
            let broken = store.ledger.sync().and_then(|_| store.ledger.apply()).is_err();
            failed |= broken && !store.broken;
            store.broken |= broken;
            store.committing = false;
        }
        if failed {
            // Its disk failed just now: the operator sees it, and restarts the node.
            self.crash(node);
            self.later(50, Ev::Restart { node });
            return Ok(());
        }
        let machine = &mut self.nodes[node];
        machine.make_pair_in_place_of(&before, self.now, &mut self.random)?;
        self.note_survivors(node);
        self.begin_ticking(node)
    }

    /// The machine is told what its node holds.
    pub fn tell_held(&mut self, node: usize) -> Result<(), String> {
        let held = self.nodes[node].held()?;
        if !held.is_empty() {
            self.upgrade_again(node);
        }
        let refusal = |held: HeldNamespace| (held.name, Refusal::new("not-taken-over", held.reason, ""));
        self.step(node, Event::Held(held.into_iter().map(refusal).collect()));
        Ok(())
    }

    /// Who is called normal runs what the other runs.
    pub fn check_normal_lists(&mut self, node: usize, provider: usize, receiver: usize) {
        let (one, other) = (&self.nodes[provider], &self.nodes[receiver]);
        let recently = self.now.saturating_sub(one.switched.max(other.switched)) < 3_500;
        if one.running != other.running && !recently {
            let text = format!(
                "{} is normal, {} runs {:?} and {} {:?}",
                self.nodes[node].name, one.name, one.running, other.name, other.running
            );
            self.fail(text);
        }
    }
}
