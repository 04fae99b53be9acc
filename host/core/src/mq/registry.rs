//! The queues of a namespace and the name of their exchange: one small file, the same on both nodes of a pair.

use std::collections::BTreeMap;

use super::registration::Registration;
use super::{Cursor, Leaving, Place, Refused, code, shown};
use crate::chain::node_hash;
use crate::types::{Digest, Height, Hostname, Malformed, Namespace, Reader, UnixNanos, Writer};

/// Most queues of a namespace.
pub const QUEUES_MAX: usize = 256;
/// Bytes of a namespace's registrations, all together.
pub const REGISTRY_BYTES_MAX: usize = 512 << 10;
/// Longest name of an exchange, bytes.
pub(super) const EXCHANGER_BYTES_MAX: usize = 128;
/// Number and first height of a queue, encoded.
const PLACE_BYTES: usize = 16;
/// Format of the registry.
const ENCODING: u8 = 2;
/// Format of one whose broker has nothing to remove; an earlier release knows this one alone.
const ENCODING_PLAIN: u8 = 1;

/// Name of a namespace's exchange: the namespace, the first 8 hex digits of the node's hash in it, and when it was made.
pub fn exchanger_name(namespace: &Namespace, hostname: &Hostname, made: UnixNanos) -> String {
    let hash = node_hash(hostname.as_str(), namespace.as_str());
    format!("{namespace}_{}_{made}", &hash[..8])
}

/// A registered queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Number of the registration: never given twice in a namespace.
    pub number: u64,
    /// First height it is told of.
    pub first: Height,
    /// What it was registered for.
    pub registration: Registration,
}

impl Queue {
    /// Where it begins.
    pub fn start(&self) -> Cursor {
        Cursor::before(self.first)
    }

    /// Whether it was told everything it was registered for.
    pub fn is_finished(&self, at: Cursor) -> bool {
        self.registration.to_block.is_some_and(|last| at.next > last)
    }

    /// First and last height that a node whose blocks begin at `from` cannot tell it behind `at`; none where it can tell all.
    pub fn missing(&self, at: Cursor, from: Height) -> Option<(Height, Height)> {
        let below = from.checked_sub(1).filter(|below| at.next <= *below)?;
        let last = self.registration.to_block.map_or(below, |last| last.min(below));
        (at.next <= last).then_some((at.next, last))
    }
}

/// The queues of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    exchanger: String,
    next_number: u64,
    queues: BTreeMap<String, Queue>,
    /// What the broker is still to remove: for who takes the node's place. What is done is the node's own note.
    leaving: Leaving,
}

impl Registry {
    /// No queue yet.
    pub fn new(exchanger: String) -> Self {
        Self {
            exchanger,
            next_number: 1,
            queues: BTreeMap::new(),
            leaving: Leaving::default(),
        }
    }

    /// Name of the exchange.
    pub fn exchanger(&self) -> &str {
        &self.exchanger
    }

    /// A standby took over whose first own block is `first`: a queue that was registered for the next block on, above what the standby held, is
    /// told of all that are made from there on. Says whether one was.
    pub fn begin_at(&mut self, first: Height) -> bool {
        let next_on = |queue: &&mut Queue| queue.registration.from_block.is_none() && queue.first > first;
        let above = self.queues.values_mut().filter(next_on);
        above.map(|queue| queue.first = first).count() > 0
    }

    /// The queues, by name.
    pub fn queues(&self) -> &BTreeMap<String, Queue> {
        &self.queues
    }

    /// The queue of that name.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`].
    pub fn get(&self, name: &str) -> Result<&Queue, Refused> {
        self.queues
            .get(name)
            .ok_or_else(|| Refused::not_found(format!("there is no queue {:?}", shown(name))))
    }

    /// Adds a queue; `kept` is the height of the first block that this node has, and that of the latest.
    ///
    /// # Errors
    /// The name is taken ([`code::DUPLICATE`]), the range is over already or begins with blocks that are not here, or there is no room.
    /// Nothing changed.
    pub fn register(&mut self, registration: Registration, kept: (Height, Height)) -> Result<&Queue, Refused> {
        let (from, tip) = kept;
        let name = registration.queue.clone();
        if self.queues.contains_key(&name) {
            return Err(Refused {
                code: code::DUPLICATE,
                message: format!("queue {name:?} is registered already: unregister it first, or take another name"),
            });
        }
        let first = registration.from_block.unwrap_or(tip.saturating_add(1));
        if let Some(last) = registration.to_block.filter(|last| *last < first) {
            return Err(Refused::params(format!(
                "toBlock {last} is below the first height it could be told of, {first}: give fromBlock too"
            )));
        }
        if first < from {
            return Err(Refused::params(format!(
                "fromBlock {first} is below {from}, the first block that this node has: register from {from} on, or leave fromBlock empty for the next block"
            )));
        }
        if self.queues.len() >= QUEUES_MAX {
            return Err(Refused::params(format!("a namespace has at most {QUEUES_MAX} queues")));
        }
        let bytes = self.encode().len() + registration.encode().len() + PLACE_BYTES;
        if bytes > REGISTRY_BYTES_MAX {
            return Err(Refused::params(format!(
                "the registrations of a namespace take at most {REGISTRY_BYTES_MAX} bytes"
            )));
        }
        let queue = Queue {
            number: self.next_number,
            first,
            registration,
        };
        self.next_number += 1;
        Ok(self.queues.entry(name).or_insert(queue))
    }

    /// Adds a queue of another registry as it is, where its name and its number are free and there is room; else it is left out.
    pub fn keep(&mut self, queue: &Queue) {
        let name = &queue.registration.queue;
        let taken = self.queues.contains_key(name) || self.queues.values().any(|it| it.number == queue.number);
        let bytes = self.encode().len() + queue.registration.encode().len() + PLACE_BYTES;
        if taken || self.queues.len() >= QUEUES_MAX || bytes > REGISTRY_BYTES_MAX {
            return;
        }
        self.next_number = self.next_number.max(queue.number.saturating_add(1));
        self.queues.insert(name.clone(), queue.clone());
    }

    /// Takes a queue out.
    ///
    /// # Errors
    /// No such queue, or it belongs to another exchange. Nothing changed.
    pub fn unregister(&mut self, name: &str, exchanger: &str) -> Result<Queue, Refused> {
        self.get(name)?;
        self.check_exchanger(exchanger)?;
        self.queues
            .remove(name)
            .ok_or_else(|| Refused::not_found(format!("there is no queue {:?}", shown(name))))
    }

    /// Forgets the exchange; `fresh` is the name of the one that comes in its place.
    ///
    /// # Errors
    /// It is another one, or it still has queues. Nothing changed.
    pub fn delete_exchanger(&mut self, exchanger: &str, fresh: String) -> Result<(), Refused> {
        self.check_exchanger(exchanger)?;
        if !self.queues.is_empty() {
            return Err(Refused::params(format!(
                "exchanger {} still has {} queues: unregister them first",
                self.exchanger,
                self.queues.len()
            )));
        }
        self.exchanger = fresh;
        Ok(())
    }

    /// A queue that was taken out is to be removed at the broker at this place; none where that is not known.
    pub fn leave(&mut self, queue: &Queue, at: Option<Place>) {
        let exchanger = self.exchanger.clone();
        self.leaving.add(queue, &exchanger, at);
        self.bound_leaving();
    }

    /// An exchange that was given up is to be removed at the broker at this place.
    pub fn leave_exchanger(&mut self, name: &str, at: Option<Place>) {
        self.leaving.add_exchanger(name, at);
        self.bound_leaving();
    }

    /// A registry that is full to the brim says what is to be removed, and not where.
    fn bound_leaving(&mut self) {
        if self.encode().len() > REGISTRY_BYTES_MAX {
            self.leaving.forget_places();
        }
    }

    /// What is to be removed at the broker.
    pub fn leaving(&self) -> &Leaving {
        &self.leaving
    }

    #[cfg(test)]
    pub(super) fn leaving_mut(&mut self) -> &mut Leaving {
        &mut self.leaving
    }

    /// Of what is to be removed at the broker only what `noted` still has. Says whether anything changed.
    pub fn strike(&mut self, noted: &Leaving) -> bool {
        let before = self.leaving.clone();
        self.leaving.keep_of(noted);
        self.leaving != before
    }

    /// Digest of what is registered; none where nothing is. What is still to be removed at a broker does not count: the node that removes it
    /// knows first.
    pub fn digest(&self) -> Option<Digest> {
        let registered = Registry {
            leaving: Leaving::default(),
            ..self.clone()
        };
        (!self.queues.is_empty()).then(|| Digest::of(&registered.encode()))
    }

    fn check_exchanger(&self, exchanger: &str) -> Result<(), Refused> {
        if exchanger == self.exchanger {
            return Ok(());
        }
        Err(Refused::params(format!(
            "exchanger {:?} is not this namespace's: {}",
            shown(exchanger),
            self.exchanger
        )))
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(128 + 128 * self.queues.len());
        out.u8(if self.leaving.is_empty() {
            ENCODING_PLAIN
        } else {
            ENCODING
        });
        out.text(&self.exchanger);
        out.u64(self.next_number);
        out.u32(self.queues.len() as u32);
        for queue in self.queues.values() {
            out.u64(queue.number);
            out.u64(queue.first);
            queue.registration.write(&mut out);
        }
        if !self.leaving.is_empty() {
            out.bytes(&self.leaving.encode());
        }
        out.into_bytes()
    }

    /// Reads the whole of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > REGISTRY_BYTES_MAX {
            return Err(Malformed::new(format!("registry of {} bytes", bytes.len())));
        }
        let mut input = Reader::new(bytes);
        let encoding = input.u8()?;
        if encoding != ENCODING && encoding != ENCODING_PLAIN {
            return Err(Malformed::new(format!("registry of encoding {encoding}")));
        }
        let mut registry = Self {
            exchanger: input.text(EXCHANGER_BYTES_MAX)?.to_owned(),
            next_number: input.u64()?,
            queues: BTreeMap::new(),
            leaving: Leaving::default(),
        };
        for _ in 0..input.count(QUEUES_MAX, 32)? {
            let queue = Queue {
                number: input.u64()?,
                first: input.u64()?,
                registration: Registration::read(&mut input)?,
            };
            if queue.number >= registry.next_number {
                return Err(Malformed::new(format!("queue number {}", queue.number)));
            }
            let name = queue.registration.queue.clone();
            if registry.queues.insert(name, queue).is_some() {
                return Err(Malformed::new("two queues of one name"));
            }
        }
        if encoding == ENCODING {
            registry.leaving = Leaving::decode(input.bytes(REGISTRY_BYTES_MAX)?)?;
        }
        input.finish()?;
        Ok(registry)
    }
}
