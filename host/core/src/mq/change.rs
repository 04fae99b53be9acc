//! A change of a namespace's queues on its way to both disks: the whole registry, as it is to be. So writing it twice is writing it once.

use std::collections::BTreeSet;

use super::registry::REGISTRY_BYTES_MAX;
use super::{Cursors, Registry};
use crate::types::{Digest, Height, Incarnation, Malformed, Namespace, Reader, Writer};

/// The kind of a strong change whose body is a [`QueueChange`].
pub const QUEUE_CHANGE: &str = "queue";

/// What a namespace's registry is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueChange {
    /// The namespace.
    pub namespace: Namespace,
    /// Digest of the registry's encoding that it takes the place of; none for the first.
    pub old: Option<Digest>,
    /// The new one.
    pub registry: Registry,
}

impl QueueChange {
    /// Body of the change.
    pub fn encode(&self) -> Vec<u8> {
        let registry = self.registry.encode();
        let mut out = Writer::with_capacity(registry.len() + 128);
        out.text(self.namespace.as_str());
        out.option(self.old.as_ref(), |out, digest| out.digest(digest));
        out.bytes(&registry);
        out.into_bytes()
    }

    /// What it does to `here`, for who reads a list of checks.
    pub fn in_words(&self, here: Option<&Registry>) -> String {
        let (namespace, wanted) = (&self.namespace, self.registry.queues());
        let numbers = |registry: &Registry| -> BTreeSet<u64> { registry.queues().values().map(|q| q.number).collect() };
        let (before, after) = (here.map(numbers).unwrap_or_default(), numbers(&self.registry));
        let mut said = Vec::new();
        for queue in here.iter().flat_map(|here| here.queues().values()) {
            if !after.contains(&queue.number) {
                said.push(format!(
                    "queue {} of {namespace} unregistered",
                    queue.registration.queue
                ));
            }
        }
        for queue in wanted.values().filter(|queue| !before.contains(&queue.number)) {
            said.push(format!("queue {} of {namespace} registered", queue.registration.queue));
        }
        if said.is_empty() {
            said.push(format!("the exchange of the message queues of {namespace}"));
        }
        said.join(", ")
    }

    /// Reads the whole of a body.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let change = Self {
            namespace: input.namespace()?,
            old: input.option(Reader::digest)?,
            registry: Registry::decode(input.bytes(REGISTRY_BYTES_MAX)?)?,
        };
        input.finish()?;
        Ok(change)
    }
}

impl Cursors {
    /// The node goes on under `incarnation`, whose first block in this namespace is `first`; none where it took over nothing here. Where
    /// the events so far were told under another one, every cursor is cut to the blocks below `first`, and each queue that may have been
    /// told more is to be told so. Says whether anything changed.
    pub fn take_over(&mut self, registry: &Registry, incarnation: Incarnation, first: Option<Height>) -> bool {
        let before = self.incarnation.replace(incarnation);
        if before == Some(incarnation) {
            return false;
        }
        let (Some(first), Some(_)) = (first, before) else {
            return true;
        };
        let held = first.saturating_sub(1);
        for queue in registry.queues().values() {
            let at = self.at.entry(queue.number).or_insert_with(|| queue.start());
            *at = at.cut_above(held);
            let ended = queue.registration.to_block.is_some_and(|last| last <= held);
            if !ended && queue.first <= first {
                self.notices.insert(queue.number, first);
            }
        }
        true
    }
}
