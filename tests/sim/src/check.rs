//! What must hold, looked at from outside: the checkers see all nodes, all disks and all wires at once.

use std::collections::BTreeMap;

use cvp_core::frame::{Frame, Kind, NamespaceTag};
use cvp_core::ledger::Ledger;
use cvp_core::replication::{ConnId, ControlFile};
use cvp_core::session::{Binding, Claim, Fenced};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Digest, Millis, Namespace, Position, Reader, Refusal};

use crate::chain::{self, SUM};
use crate::configuration::ONLINE;
use crate::node::{HEARTBEAT_MS, Store, WINDOW_BYTES};
use crate::world::{A, B, C, D, G, Read, World};

/// What went over the links, as far as a checker needs it.
#[derive(Default)]
pub struct Wire {
    /// Runs under way on a link, a namespace: last height and bytes.
    under_way: BTreeMap<(ConnId, NamespaceTag), Vec<(u64, u64)>>,
    credit: BTreeMap<(ConnId, NamespaceTag), (u32, u64)>,
    /// When something of the other process was last delivered, by (receiver of it, sender).
    heard: BTreeMap<(usize, usize), Millis>,
    /// The standby that a provider's session belongs to.
    served: BTreeMap<usize, usize>,
}

impl Wire {
    pub fn forget_node(&mut self, node: usize) {
        self.served.remove(&node);
        self.heard.retain(|(to, _), _| *to != node);
    }
}

fn position(payload: &[u8]) -> Option<Position> {
    let mut input = Reader::new(payload);
    Some(Position {
        height: input.u64().ok()?,
        hash: input.digest().ok()?,
    })
}

impl World {
    fn name(&self, node: usize) -> &'static str {
        self.nodes[node].name
    }

    fn namespace_of(&self, tag: NamespaceTag) -> Option<Namespace> {
        self.namespaces.iter().find(|ns| NamespaceTag::of(ns) == tag).cloned()
    }

    /// Never acknowledge more than the own disk holds.
    pub fn check_sent(&mut self, node: usize, frame: &Frame) {
        if frame.kind != Kind::Ack {
            return;
        }
        let (Some(acked), Some(ns)) = (position(&frame.payload), self.namespace_of(frame.namespace)) else {
            return;
        };
        let Some(durable) = self.nodes[node].store(&ns).map(|store| store.durable()) else {
            return;
        };
        if acked.height > durable.height {
            let name = self.name(node);
            self.fail(format!(
                "{name} acknowledged {} of {ns}, durable is {}",
                acked.height, durable.height
            ));
        }
    }

    pub fn note_delivery(&mut self, conn: ConnId, node: usize, frame: &Frame) {
        let Some(link) = self.conns.get(&conn) else { return };
        let Some(from) = link.ends.iter().map(|end| end.0).find(|end| *end != node) else {
            return;
        };
        self.wire.heard.insert((node, from), self.now);
        let key = (conn, frame.namespace);
        match frame.kind {
            Kind::Fetch => {
                let mut input = Reader::new(&frame.payload);
                let (Ok(first), Ok(_), Ok(credit)) = (input.u64(), input.u64(), input.u64()) else {
                    return;
                };
                let before = self.wire.credit.insert(key, (frame.stream, credit.min(WINDOW_BYTES)));
                if before.is_none_or(|(stream, _)| stream != frame.stream) {
                    self.wire
                        .under_way
                        .entry(key)
                        .or_default()
                        .retain(|(last, _)| *last < first);
                }
            }
            Kind::Ack => {
                let height = position(&frame.payload).map_or(0, |position| position.height);
                self.wire
                    .under_way
                    .entry(key)
                    .or_default()
                    .retain(|(last, _)| *last > height);
            }
            // It stands on a snapshot: what was sent before that is forgotten.
            Kind::SnapshotAck if frame.payload.get(8) == Some(&1) => {
                self.wire.under_way.remove(&key);
            }
            _ => {}
        }
    }

    /// Never send beyond the credit.
    pub fn check_credit(&mut self, node: usize, read: &Read) {
        let key = (read.conn, NamespaceTag::of(&read.ns));
        let under_way: u64 = self
            .wire
            .under_way
            .get(&key)
            .map_or(0, |runs| runs.iter().map(|(_, bytes)| bytes).sum());
        let credit = self.wire.credit.get(&key).map_or(0, |(_, credit)| *credit);
        if under_way >= credit {
            let name = self.name(node);
            self.fail(format!(
                "{name} reads on with {under_way} bytes under way, credit is {credit}"
            ));
        }
    }

    pub fn note_sent(&mut self, read: &Read, last: Position, bytes: u64) {
        let key = (read.conn, NamespaceTag::of(&read.ns));
        if self
            .wire
            .credit
            .get(&key)
            .is_some_and(|(stream, _)| *stream == read.stream)
        {
            self.wire.under_way.entry(key).or_default().push((last.height, bytes));
        }
    }

    /// The protocol between two right nodes is never broken, whatever the network does.
    pub fn note_close(&mut self, node: usize, conn: ConnId, refusal: Option<&Refusal>) {
        let Some(refusal) = refusal else { return };
        self.counts.refused += 1;
        self.counts.index_refused += u64::from(refusal.code == "index-switch");
        // A session makes room for a newer one of the same standby, and for nobody else.
        if let (true, Some(closed)) = (refusal.code == "superseded", self.conns.get(&conn)) {
            let standby = closed.ends[0].0;
            let newer = self
                .conns
                .range(conn + 1..)
                .any(|(_, link)| link.ends[0].0 == standby && link.ends[1].0 == node);
            if !newer {
                let text = format!("{} left {} for another standby", self.name(node), self.name(standby));
                self.fail(text);
            }
        }
        let broken = ["protocol", "malformed", "window", "defect", "ledger-gap"];
        if broken.contains(&refusal.code.as_ref()) {
            let name = self.name(node);
            self.fail(format!("{name} closed link {conn}: {refusal}"));
        }
    }

    /// A record at a receiver was durable at a maker before: nothing that a crash there could lose, nothing forged.
    pub fn check_appended(&mut self, node: usize, ns: &Namespace, tip: Position) {
        let Some(index) = self.namespaces.iter().position(|name| name == ns) else {
            return;
        };
        if !self.durable.contains(&(index, tip.height, tip.hash)) {
            let name = self.name(node);
            self.fail(format!(
                "{name} took record {} {} of {ns}, which was durable at no maker",
                tip.height,
                tip.hash.short()
            ));
        }
    }

    /// The sum of balances is constant.
    pub fn check_sum(&mut self, node: usize, ns: &Namespace) {
        let Some(store) = self.nodes[node].store(ns) else {
            return;
        };
        let sum = chain::sum(&store.ledger);
        if sum.as_ref().is_ok_and(|sum| *sum != SUM) {
            let name = self.name(node);
            self.fail(format!("{name}: balances of {ns} sum up to {sum:?}"));
        }
    }

    /// A session of a receiver: with the provider it is bound to, whose chain holds its tip.
    pub fn check_attached(&mut self, node: usize) {
        self.counts.sessions += 1;
        self.note_served(node);
        let conn = self
            .conns
            .iter()
            .rev()
            .find(|(_, conn)| conn.ends[0].0 == node)
            .map(|(_, conn)| (conn.ends[1], conn.open[1]));
        let Some(((provider, epoch), open)) = conn else { return };
        // A provider that began anew meanwhile knows nothing of this session.
        if open && self.nodes[provider].epoch == epoch {
            self.check_one_switch(node, provider);
        }
        for index in 0..self.namespaces.len() {
            let ns = &self.namespaces[index];
            if !self.nodes[node].runs(ns) || !self.nodes[provider].runs(ns) {
                continue;
            }
            let tip = self.nodes[node].stores[index].durable();
            let theirs: Option<Digest> = self.nodes[provider].stores[index]
                .ledger
                .hash_at(tip.height)
                .ok()
                .flatten();
            if self.nodes[provider].is_up() && theirs.is_some_and(|hash| hash != tip.hash) {
                let text = format!(
                    "{} attached to {}, which has another record {}",
                    self.name(node),
                    self.name(provider),
                    tip.height
                );
                return self.fail(text);
            }
        }
        // One standby: the one served before must have lost its session.
        let before = self.wire.served.insert(provider, node);
        let now = self.now;
        if let Some(before) = before.filter(|before| *before != node && self.link_lives(node, provider)) {
            let fresh = self
                .wire
                .heard
                .get(&(provider, before))
                .is_some_and(|heard| now - heard < 300);
            let streams = |world: &World, node: usize| {
                world.nodes[node]
                    .pair
                    .as_ref()
                    .is_some_and(|pair| pair.status(now).peer.is_some())
            };
            if fresh
                && streams(self, before)
                && self.now > self.nodes[before].thawed
                && self.link_lives(before, provider)
            {
                let text = format!(
                    "{} attached to {} while it served {}",
                    self.name(node),
                    self.name(provider),
                    self.name(before)
                );
                self.fail(text);
            }
        }
    }

    fn link_lives(&self, from: usize, to: usize) -> bool {
        self.conns.values().any(|conn| {
            let epochs = conn.ends.iter().all(|end| self.nodes[end.0].epoch == end.1);
            conn.ends[0].0 == from && conn.ends[1].0 == to && !conn.dark && conn.open == [true, true] && epochs
        })
    }

    /// A binding is for life, and what was heard of incarnations never goes back.
    pub fn check_written(&mut self, node: usize, what: &ControlFile) {
        let new = match what {
            ControlFile::Binding(new) => new,
            ControlFile::LastHeld(noted) => return self.check_noted(node, noted),
            _ => return,
        };
        let Ok(Some(old)) = self.nodes[node].binding() else {
            return;
        };
        let number = |binding: &Binding| binding.lineage.current().map_or(0, |incarnation| incarnation.number);
        if old.node_id != new.node_id {
            let text = format!(
                "{} is bound to {}, and now to {}",
                self.name(node),
                old.node_id,
                new.node_id
            );
            self.fail(text);
        } else if number(new) < number(&old) {
            let text = format!(
                "{} knew incarnation {}, and now {}",
                self.name(node),
                number(&old),
                number(new)
            );
            self.fail(text);
        }
    }

    /// Never two incarnations accepting once they have met, or could have.
    pub fn check_may_make(&mut self, node: usize) {
        if node != A || !self.promoted {
            return;
        }
        if self.nodes[A].disk.fenced.is_some() {
            self.fail("a makes a block although its disk says fenced".into());
        }
        let started = self.nodes[A].started;
        let calm = self.calm_since < started && self.nodes[B].pair.is_some() && self.nodes[B].started < started;
        if calm && self.nodes[B].frozen_until < started && self.nodes[B].role == Role::Provider {
            self.fail(format!(
                "a, started at {started}, makes a block although b took its place and could be asked"
            ));
        }
    }

    /// Who answers `fenced` has it on disk.
    pub fn check_notice_taken(&mut self, address: &str, claim: &Claim) {
        let Some(node) = self.node_at(address) else { return };
        let fenced = self.nodes[node]
            .disk
            .fenced
            .as_deref()
            .is_some_and(|bytes| Fenced::decode(bytes).is_ok());
        if claim.fenced && !fenced {
            let name = self.name(node);
            self.fail(format!(
                "{name} answered that it is fenced, and has no file that says so"
            ));
        }
    }

    /// `normal` is proof: a fresh message, and a copy that was level within the last 3 s.
    pub fn check_status(&mut self, node: usize) {
        let now = self.now;
        // A follower has no part in a pair's proof.
        if node == G || now < self.nodes[node].thawed + 2_000 {
            return;
        }
        let Some(status) = self.nodes[node].pair.as_ref().map(|pair| pair.status(now)) else {
            return;
        };
        if !status.normal {
            return;
        }
        self.counts.normal_ms += 50;
        let role = self.nodes[node].role;
        let peer = status.peer.and_then(|peer| {
            let serves = |node: &usize| self.nodes[*node].name == peer.address.split(':').next().unwrap_or_default();
            [A, B, C, D].into_iter().find(serves)
        });
        let Some((peer, heard)) = peer.and_then(|peer| Some((peer, *self.wire.heard.get(&(node, peer))?))) else {
            return self.fail(format!("{} is normal and never heard anyone", self.name(node)));
        };
        let age = now - heard;
        if age > HEARTBEAT_MS * 3 + 60 {
            let text = format!(
                "{} is normal, and heard {} {age} ms ago",
                self.name(node),
                self.name(peer)
            );
            return self.fail(text);
        }
        if now < self.nodes[peer].thawed + 2_000 {
            return;
        }
        if now < 3_500 {
            return;
        }
        let (provider, receiver) = if role == Role::Provider {
            (node, peer)
        } else {
            (peer, node)
        };
        self.check_normal_trees(node, provider, receiver);
        self.check_normal_lists(node, provider, receiver);
        for index in 0..self.namespaces.len() {
            let ns = &self.namespaces[index];
            if !self.nodes[provider].runs(ns) || !self.nodes[receiver].runs(ns) {
                continue;
            }
            // One that was just started catches up first, and says so.
            let switched = self.nodes[provider].switched.max(self.nodes[receiver].switched);
            if now.saturating_sub(switched) < 3_500 {
                continue;
            }
            let then = self.nodes[provider].stores[index].durable_at(now.saturating_sub(3_500));
            let durable = self.nodes[receiver].stores[index].durable().height;
            if durable < then {
                let text = format!(
                    "{} is normal, {} durable at the receiver, {then} at the provider 3.5 s ago",
                    self.name(node),
                    durable
                );
                return self.fail(text);
            }
        }
    }

    /// The pair that must be whole at the end: provider and receiver.
    fn last_pair(&self) -> (usize, usize) {
        if self.promoted { (B, D) } else { (A, B) }
    }

    /// How much is still on its way: blocks that the receiver and the follower lack, and blocks that queues were not told, or not as far as
    /// the receiver knows.
    pub fn backlog(&self) -> u64 {
        let (provider, receiver) = self.last_pair();
        let one = &self.nodes[provider];
        let blocks = |other: usize| -> u64 {
            let other = &self.nodes[other];
            let both = one.stores.iter().zip(&other.stores);
            both.filter(|(store, _)| one.runs(&store.namespace) && other.runs(&store.namespace))
                .map(|(store, copy)| store.durable().height.saturating_sub(copy.durable().height))
                .sum()
        };
        let queues = |node: usize| -> u64 {
            let tip = |ns: &Namespace| one.stores.iter().find(|store| store.namespace == *ns);
            let told = self.nodes[node].disk.queues.iter().flat_map(|(ns, (_, cursors))| {
                let tip = tip(ns).map_or(0, |store| store.durable().height);
                cursors.at.values().map(move |at| tip.saturating_sub(at.next))
            });
            told.sum()
        };
        blocks(receiver) + blocks(G) + queues(provider) + queues(receiver)
    }

    /// Whether an end says that the receiver began from a snapshot time and again.
    pub fn begins_again(&self) -> bool {
        let (provider, receiver) = self.last_pair();
        let status = |node: usize| Some(self.nodes[node].pair.as_ref()?.status(self.now));
        let mut told = [provider, receiver].into_iter().filter_map(status);
        told.any(|status| status.reasons.iter().any(|it| it.code == "bootstrap-again"))
    }

    /// After quiet: both stores equal, both ends normal, the old provider fenced.
    pub fn check_end(&mut self) -> Result<(), String> {
        let (provider, receiver) = self.last_pair();
        let running = self.nodes[provider].running.clone();
        if running != self.nodes[receiver].running {
            let other = &self.nodes[receiver].running;
            return Err(format!("the provider runs {running:?}, the receiver {other:?}"));
        }
        for index in 0..self.namespaces.len() {
            if !running.contains(&self.namespaces[index]) {
                continue;
            }
            let (one, two) = (&self.nodes[provider].stores[index], &self.nodes[receiver].stores[index]);
            let (tips, copy) = (one.ledger.tips(), two.ledger.tips());
            if tips.durable != copy.durable
                || one.ledger.fingerprint(kept_by_both(one, two)) != two.ledger.fingerprint(kept_by_both(one, two))
            {
                let status = |node: usize| self.nodes[node].pair.as_ref().map(|pair| pair.status(self.now).reasons);
                return Err(format!(
                    "{}: provider {tips:?}, receiver {copy:?}; {:?}; {:?}",
                    one.namespace,
                    status(provider),
                    status(receiver)
                ));
            }
            if tips.durable.height == 0 && one.namespace.as_str() != ONLINE {
                return Err("no block was made".into());
            }
        }
        for node in [provider, receiver] {
            let Some(status) = self.nodes[node].pair.as_ref().map(|pair| pair.status(self.now)) else {
                return Err(format!("{} does not run", self.name(node)));
            };
            if !status.normal {
                return Err(format!("{} is not normal: {:?}", self.name(node), status.reasons));
            }
        }
        self.check_trees_end(provider, receiver)?;
        self.check_index_end(provider, receiver)?;
        self.check_queues_end(provider, receiver)?;
        self.check_follower_end(provider)?;
        if !self.promoted {
            return Ok(());
        }
        if self.nodes[A].disk.fenced.is_none() {
            return Err("a was never fenced".into());
        }
        self.check_reigns(B)
    }
}

/// Where the history begins that both keep.
fn kept_by_both(one: &Store, two: &Store) -> u64 {
    one.ledger.history_from().max(two.ledger.history_from())
}
