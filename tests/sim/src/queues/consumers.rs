//! Consumers: each queue is told its events by its node, with core's delivery; and what a consumer must see, whichever node tells it.

use std::collections::{BTreeMap, BTreeSet};

use cvp_core::ledger::Ledger;
use cvp_core::mq::{Ahead, Cursor, Delivery, Event as Message, Notice, Queue, events_of, gate, word_of_missing};
use cvp_core::record::parse;
use cvp_core::replication::{Event, QueueEvent};
use cvp_core::types::{Height, Millis, Namespace};
use serde_json::Value;

use super::Serving;
use crate::node::Node;
use crate::world::{A, Ev, World};

/// Blocks read in one go: a window.
const BLOCKS_AT_ONCE: usize = 64;
/// A standby that says nothing new for so long is not waited for.
const SILENT: Millis = 2_000;

/// What a consumer has seen of one registration.
#[derive(Default)]
pub struct Consumer {
    last: Option<Height>,
    /// By height: the hash that it was told last.
    told: BTreeMap<Height, String>,
    /// Heights that it was told are not on its node.
    missing: BTreeSet<Height>,
    /// From here on heights may come again with another hash.
    excused: Option<Height>,
    /// Everything before it was confirmed.
    confirmed: Cursor,
}

/// All consumers, by the text that tells one registration from all others.
#[derive(Default)]
pub struct Consumers(BTreeMap<String, Consumer>);

impl World {
    /// A provider tells its queues; comes again.
    pub fn tell_queues(&mut self, node: usize) -> Result<(), String> {
        let epoch = self.nodes[node].epoch;
        let pause = self.random.range(20, 250);
        self.later(pause, Ev::Tell { node, epoch });
        let machine = &self.nodes[node];
        let may = machine.making && machine.promotion.is_none() && machine.disk.fenced.is_none();
        if !may || machine.broker_down {
            return Ok(());
        }
        let names: Vec<Namespace> = machine.serving.keys().cloned().collect();
        for ns in names {
            let Some(mut serving) = self.nodes[node].serving.remove(&ns) else {
                continue;
            };
            let told = self.tell_namespace(node, &ns, &mut serving);
            let waits = matches!(told, Ok(true));
            let written = serving.moved && (waits || self.random.chance(60));
            if written {
                serving.moved = false;
                self.write_own_cursors(node, &ns, &serving);
            }
            self.nodes[node].serving.insert(ns, serving);
            told?;
            if waits {
                self.step(node, Event::Queues(QueueEvent::Awaited));
            } else if written {
                self.step(node, Event::Queues(QueueEvent::Touched));
            }
        }
        Ok(())
    }

    fn write_own_cursors(&mut self, node: usize, ns: &Namespace, serving: &Serving) {
        self.check_cursors(ns, serving);
        if let Some((_, cursors)) = self.nodes[node].disk.queues.get_mut(ns) {
            cursors.clone_from(&serving.cursors);
        }
    }

    /// Says whether a queue waits for the standby.
    fn tell_namespace(&mut self, node: usize, ns: &Namespace, serving: &mut Serving) -> Result<bool, String> {
        let mut waits = false;
        let pair = self.nodes[node].pair.as_ref();
        let copy = pair.and_then(|pair| pair.copies(None).find(|(name, _)| *name == ns)?.1);
        for queue in serving.registry.queues().values() {
            let start = serving.cursors.of(queue);
            let last = queue.registration.to_block;
            let mut feed = serving
                .feeds
                .remove(&queue.number)
                .unwrap_or_else(|| Delivery::new(start, last));
            let notice = serving.cursors.notices.get(&queue.number).copied();
            let ahead = serving.ahead.entry(queue.number);
            let ahead = ahead.or_insert_with(|| (Ahead::at(start, BLOCKS_AT_ONCE), None));
            // A window that is out is out.
            let bounded = match self.is_out(&feed) {
                true => None,
                false => self.may_tell(node, ns, queue, ahead),
            };
            if bounded == Some(false) {
                serving.feeds.insert(queue.number, feed);
                waits = true;
                continue;
            }
            if feed.publish().is_empty() && !self.is_out(&feed) {
                self.fill(node, ns, queue, notice, copy, &mut feed)?;
                let window = feed.publish().to_vec();
                for message in window {
                    self.hear(node, ns, queue, &message, copy)?;
                    if bounded == Some(true) {
                        self.check_ahead(node, ns, queue, &message);
                    }
                }
            } else {
                match self.random.range(0, 9) {
                    // The broker said no, or the link to it broke: it may have the window all the same.
                    0 => feed.failed(),
                    1..=2 => {}
                    _ => {
                        self.confirm(queue, &feed);
                        let events = feed.events();
                        feed.confirmed();
                        ahead.0.told(feed.cursor(), events);
                    }
                }
            }
            let at = feed.cursor();
            if at > start {
                serving.moved = true;
                serving.cursors.advance(queue, at, None);
            }
            serving.feeds.insert(queue.number, feed);
        }
        Ok(waits)
    }

    /// Whether the next window may be told: none where no standby says what it holds, or has been silent for long.
    fn may_tell(
        &self,
        node: usize,
        ns: &Namespace,
        queue: &Queue,
        (ahead, since): &mut (Ahead, Option<Millis>),
    ) -> Option<bool> {
        let pair = self.nodes[node].pair.as_ref()?;
        let Some(kept) = pair.cursors_kept().find(|(name, _)| *name == ns)?.1 else {
            *since = None;
            return None;
        };
        ahead.held(kept.of(queue));
        if ahead.has_room(BLOCKS_AT_ONCE, BLOCKS_AT_ONCE) {
            *since = None;
            return Some(true);
        }
        let waits = *since.get_or_insert(self.now);
        (self.now < waits + SILENT).then_some(false)
    }

    /// What is told is within a window of what the standby's disk says, where it said so.
    fn check_ahead(&mut self, node: usize, ns: &Namespace, queue: &Queue, message: &Message) {
        let reign = |machine: &Node| {
            let (_, cursors) = machine.disk.queues.get(ns)?;
            Some(cursors.incarnation.as_ref()?.number)
        };
        let own = reign(&self.nodes[node]);
        if self.nodes.iter().any(|machine| reign(machine) > own) {
            // The standby took over, unknown to this node, and has cut its cursors to its own blocks.
            return;
        }
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        let held = others.filter_map(|(_, machine)| {
            let (registry, cursors) = machine.disk.queues.get(ns)?;
            let same = registry.queues().values().any(|it| it == queue);
            same.then(|| cursors.of(queue))
        });
        let held = held.max().unwrap_or_else(|| queue.start());
        self.counts.told_bounded += 1;
        let missing = self.consumers.0.get(&queue.registration.from);
        let missing = missing.map_or(0, |it| {
            it.missing.range(held.next..message.after.next.max(held.next)).count()
        });
        let blocks = message.after.next.saturating_sub(held.next) as usize - missing;
        if blocks > BLOCKS_AT_ONCE {
            let name = &queue.registration.queue;
            let text = format!(
                "queue {name} of {ns} is told up to {}, more than a window ahead of its standby, whose cursor is {held}",
                message.after
            );
            self.fail(text);
        }
    }

    /// A window that was published waits for its confirmation.
    fn is_out(&self, feed: &Delivery) -> bool {
        feed.wants(Height::MAX).is_none()
    }

    fn fill(
        &self,
        node: usize,
        ns: &Namespace,
        queue: &Queue,
        notice: Option<Height>,
        copy: Option<Height>,
        feed: &mut Delivery,
    ) -> Result<(), String> {
        let stores = &self.nodes[node].stores;
        let store = stores
            .iter()
            .find(|store| store.namespace == *ns)
            .ok_or("no such chain")?;
        let applied = store.ledger.tips().applied.height.min(store.durable().height);
        let gate = gate(queue.registration.delay, applied, copy);
        for _ in 0..BLOCKS_AT_ONCE {
            let Some(height) = feed.wants(gate) else { break };
            let from = store.ledger.history_from();
            let missing = queue.missing(Cursor::before(height), from);
            let at = missing.map_or(height, |_| from);
            let bytes = store.ledger.record(at).map_err(|error| error.to_string())?;
            let bytes = bytes.ok_or_else(|| format!("no record {at} of {ns}"))?;
            let record = parse(&bytes).map_err(|error| error.to_string())?;
            if let Some((first, last)) = missing {
                let word = word_of_missing(&record, first, last).map_err(|error| error.to_string())?;
                feed.missing(first, last, word);
                continue;
            }
            let notice = notice.map(|due| Notice { from: due }.on_node_from(from));
            let events = events_of(&record, queue, notice).map_err(|error| error.to_string())?;
            feed.loaded(height, events);
        }
        Ok(())
    }

    /// A consumer is told something. Once the standby is being promoted, it listens to that one alone.
    fn hear(
        &mut self,
        node: usize,
        ns: &Namespace,
        queue: &Queue,
        message: &Message,
        copy: Option<Height>,
    ) -> Result<(), String> {
        if self.promoted && node == A {
            return Ok(());
        }
        self.counts.events += 1;
        let name = format!("queue {} of {ns}", queue.registration.queue);
        let envelope: Value = serde_json::from_str(&message.message).map_err(|error| error.to_string())?;
        let body = &envelope["body"];
        let held = self.held_elsewhere(node, ns);
        let consumer = self.consumers.0.entry(queue.registration.from.clone()).or_default();
        if body["subType"] == "stateUpdate" {
            let from = body["height"].as_u64().ok_or("a notice without its height")?;
            consumer.excused = Some(consumer.excused.map_or(from, |known| known.min(from)));
            self.counts.notices += 1;
            return Ok(());
        }
        if body["subType"] == "recovery" {
            let ends = (body["height"].as_u64(), body["toHeight"].as_u64());
            let (Some(first), Some(last)) = ends else {
                return Err("missing blocks without their heights".into());
            };
            let due = consumer.last.map_or(queue.first, |last| last + 1);
            consumer.missing.extend(first..=last);
            consumer.last = consumer.last.max(Some(last));
            self.counts.missing += 1;
            if first > due {
                let text = format!("{name} is told that {first} to {last} are missing, and {due} was due");
                self.fail(text);
            }
            return Ok(());
        }
        let height: Height = body["number"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or("no height")?;
        let hash = body["hash"].as_str().ok_or("no hash")?.to_owned();
        let wrong = match (consumer.last, consumer.told.get(&height)) {
            (None, _) if height != queue.first => Some(format!("is told block {height} first, not {}", queue.first)),
            (Some(last), _) if height > last + 1 => Some(format!("is told block {height} after {last}")),
            (_, Some(known)) if *known != hash && consumer.excused.is_none_or(|from| from > height) => Some(format!(
                "is told block {height} anew with another hash, without a word before it"
            )),
            _ if queue.registration.delay && copy.is_some() && height > held => Some(format!(
                "is told block {height} although it waits for the standby, which holds {held}"
            )),
            _ => None,
        };
        self.counts.told_again += u64::from(consumer.told.contains_key(&height));
        consumer.last = Some(height);
        consumer.told.insert(height, hash);
        if let Some(wrong) = wrong {
            let text = format!("{name} {wrong}, by {}", self.nodes[node].name);
            self.fail(text);
        }
        Ok(())
    }

    /// The highest durable block of a chain at any other node.
    fn held_elsewhere(&self, node: usize, ns: &Namespace) -> Height {
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        let stores = others.flat_map(|(_, machine)| &machine.stores);
        let of = stores.filter(|store| store.namespace == *ns);
        of.map(|store| store.durable().height).max().unwrap_or_default()
    }

    /// The consumer confirms the window that is out.
    fn confirm(&mut self, queue: &Queue, feed: &Delivery) {
        let mut behind = feed.clone();
        behind.confirmed();
        let consumer = self.consumers.0.entry(queue.registration.from.clone()).or_default();
        consumer.confirmed = consumer.confirmed.max(behind.cursor());
    }

    /// No cursor is ahead of what its consumer confirmed.
    fn check_cursors(&mut self, ns: &Namespace, serving: &Serving) {
        for queue in serving.registry.queues().values() {
            let Some(at) = serving.cursors.at.get(&queue.number) else {
                continue;
            };
            let consumer = self.consumers.0.get(&queue.registration.from);
            let confirmed = consumer.map_or_else(Cursor::default, |consumer| consumer.confirmed);
            if *at > confirmed.max(queue.start()) {
                let name = &queue.registration.queue;
                let text =
                    format!("the cursor of queue {name} of {ns} is {at}, ahead of what was confirmed: {confirmed}");
                return self.fail(text);
            }
        }
    }

    /// At the end: each queue was told every block of its range, with the hash that the chain has.
    pub fn check_told(&self, provider: usize) -> Result<(), String> {
        let machine = &self.nodes[provider];
        for (ns, serving) in &machine.serving {
            let store = machine
                .stores
                .iter()
                .find(|store| store.namespace == *ns)
                .ok_or("no such chain")?;
            let tip = store.durable().height;
            for queue in serving.registry.queues().values() {
                let last = queue.registration.to_block.map_or(tip, |last| last.min(tip));
                let none = Consumer::default();
                let consumer = self.consumers.0.get(&queue.registration.from).unwrap_or(&none);
                let name = format!("queue {} of {ns}", queue.registration.queue);
                for height in queue.first..=last {
                    let (told, missing) = (consumer.told.get(&height), consumer.missing.contains(&height));
                    if missing && told.is_none() {
                        continue;
                    }
                    if height < store.ledger.history_from() {
                        match told {
                            // It went since then.
                            Some(_) => continue,
                            None => return Err(format!("{name}: nobody said a word of block {height}, which is gone")),
                        }
                    }
                    let hash = store.ledger.hash_at(height).map_err(|error| error.to_string())?;
                    let hash = hash.ok_or_else(|| format!("no block {height} of {ns}"))?;
                    let position = cvp_core::types::Position { height, hash };
                    let wanted = format!("0x{}", hex::encode(cvp_core::record::public_hash(&position)));
                    let found = consumer.told.get(&height);
                    if found != Some(&wanted) {
                        return Err(format!(
                            "{name}: block {height} of {} is {wanted}, its consumer was told {found:?} last",
                            machine.name
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
