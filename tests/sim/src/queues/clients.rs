//! Clients that register and unregister queues, on whichever node they take for the provider.

use cvp_core::ledger::Ledger;
use cvp_core::mq::{QUEUE_CHANGE, QueueChange, QueueEdit, Registration};
use cvp_core::replication::{ChangeEvent, Event, Proposal};
use cvp_core::types::{Digest, Namespace};
use serde_json::json;

use super::QUEUE_TICKETS;
use crate::configuration::ONLINE;
use crate::world::{A, B, Ev, World};

/// Names of queues: few, so that they are taken again and again.
const NAMES: [&str; 3] = ["orders", "refunds", "audit"];

/// Namespaces whose queues clients register.
const SERVED: [&str; 2] = ["global", ONLINE];

impl World {
    /// A client calls; the next one comes a while later.
    pub fn call(&mut self) -> Result<(), String> {
        let quiet = self.now >= self.chaos_until;
        let provider = if self.promoted && (quiet || self.random.chance(70)) {
            B
        } else {
            A
        };
        let ns = Namespace::new(SERVED[self.random.range(0, 1) as usize]).map_err(|error| error.to_string())?;
        let name = NAMES[self.random.range(0, 2) as usize];
        let asked = self.nodes[provider].pair.is_some() && self.nodes[provider].frozen_until <= self.now;
        if asked {
            self.ask_for_queue(provider, &ns, name)?;
        }
        let pause = self.random.range(150, if quiet { 3_000 } else { 1_500 });
        self.later(pause, Ev::Client);
        Ok(())
    }

    fn ask_for_queue(&mut self, node: usize, ns: &Namespace, name: &str) -> Result<(), String> {
        let kept = self.nodes[node].store(ns);
        let (first, tip) = kept.map_or((0, 0), |store| (store.ledger.history_from(), store.durable().height));
        let ticket = QUEUE_TICKETS + self.queue_wishes.len();
        let (from, to, delay) = (self.random.range(0, 3), self.random.range(0, 5), self.random.chance(30));
        let stale = self.now < self.chaos_until && self.random.chance(4);
        let Some(serving) = self.nodes[node].serving.get(ns) else {
            return Ok(());
        };
        // One change at a time in a namespace.
        if serving.changing.is_some() {
            return Ok(());
        }
        let (before, mut registry) = (serving.registry.encode(), serving.registry.clone());
        let exchanger = registry.exchanger().to_owned();
        let edit = if registry.queues().contains_key(name) {
            QueueEdit::Unregistered(
                registry
                    .unregister(name, &exchanger)
                    .map_err(|refused| refused.message)?,
            )
        } else {
            let from = match from {
                0 => first.max(1).to_string(),
                1 => (tip + 1).saturating_sub(20).max(first).to_string(),
                _ => String::new(),
            };
            let to = if to == 0 { (tip + 60).to_string() } else { String::new() };
            // Who registered tells the checkers which registration it is.
            let wanted = json!({"queueName": name, "routingKeys": ["MQBlock"], "fromBlock": from, "toBlock": to,
                "from": ticket.to_string(), "delay": delay});
            let wanted = Registration::from_json(&wanted).map_err(|refused| refused.message)?;
            let queue = registry
                .register(wanted, (first, tip))
                .map_err(|refused| refused.message)?;
            QueueEdit::Registered(queue.clone())
        };
        let change = QueueChange {
            namespace: ns.clone(),
            old: Some(if stale {
                Digest::of(b"older")
            } else {
                Digest::of(&before)
            }),
            registry,
        };
        let proposal = Proposal {
            ticket,
            kind: QUEUE_CHANGE.to_owned(),
            body: change.encode().into(),
            note: format!("queue {name} {ticket}"),
            must_replicate: false,
            queue: Some((ns.clone(), edit.clone())),
        };
        self.note_queue_asked(node, change, edit);
        if let Some(serving) = self.nodes[node].serving.get_mut(ns) {
            serving.changing = Some(ticket);
        }
        self.step(node, Event::Change(ChangeEvent::Proposed(proposal)));
        Ok(())
    }
}
