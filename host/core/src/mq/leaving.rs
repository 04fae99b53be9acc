//! Queues that are registered no more, and exchanges that were given up, and may still stand at a broker that was away: they are removed there
//! when it is back. And which queues this node ever made there: no other one is its own to remove.

use std::collections::{BTreeMap, BTreeSet};

use super::registration::NAME_BYTES_MAX;
use super::registry::EXCHANGER_BYTES_MAX;
use super::{Cursor, QUEUES_MAX, Queue, Registry};
use crate::types::{Malformed, Reader, Writer};

/// Most that are remembered; of more the oldest stay at the broker.
const LEAVING_MAX: usize = 4 * QUEUES_MAX;
/// Most exchanges that are remembered.
const EXCHANGERS_MAX: usize = 64;
/// Format of the note.
const ENCODING: u8 = 3;
/// Format of a note that does not say what was made.
const ENCODING_LEAVING: u8 = 2;
/// Format of a note without exchanges.
const ENCODING_QUEUES: u8 = 1;

/// What is to be removed at the broker: names of queues by the number of the registration, and exchanges.
///
/// It is noted before the registration is taken out, so that no crash between the two leaves the queue there for ever. Until then the number is
/// registered, and nothing is due.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Leaving {
    queues: BTreeMap<u64, String>,
    exchangers: BTreeSet<String>,
    /// Queues that were made at the broker, or may have been, by number of the registration; none while that is not known: then all may.
    made: Option<BTreeSet<u64>>,
}

impl Leaving {
    /// A queue is about to be taken out.
    pub fn add(&mut self, queue: &Queue) {
        self.queues.insert(queue.number, queue.registration.queue.clone());
        self.bound();
    }

    fn bound(&mut self) {
        while self.queues.len() > LEAVING_MAX {
            if let Some((number, _)) = self.queues.pop_first() {
                self.made_not(number);
            }
        }
    }

    /// It was not taken out after all.
    pub fn stays(&mut self, number: u64) {
        self.queues.remove(&number);
    }

    /// It is gone at the broker.
    pub fn gone(&mut self, number: u64) {
        self.queues.remove(&number);
        self.made_not(number);
    }

    /// A queue is about to be made at the broker.
    pub fn makes(&mut self, number: u64) {
        if let Some(made) = &mut self.made {
            made.insert(number);
        }
    }

    /// What stands there under its name is somebody else's.
    pub fn made_not(&mut self, number: u64) {
        if let Some(made) = &mut self.made {
            made.remove(&number);
        }
    }

    /// Whether a queue may have been made at the broker: only such a one is removed there.
    pub fn may_stand(&self, number: u64) -> bool {
        self.made.as_ref().is_none_or(|made| made.contains(&number))
    }

    /// Nothing is to be removed.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.exchangers.is_empty()
    }

    /// Only what `other` has, too.
    pub fn keep_of(&mut self, other: &Self) {
        self.queues.retain(|number, _| other.queues.contains_key(number));
        self.exchangers.retain(|name| other.exchangers.contains(name));
    }

    /// What another node was to remove at the broker is this one's to remove now.
    pub fn take_over(&mut self, other: &Self) {
        for (number, name) in &other.queues {
            self.queues.insert(*number, name.clone());
            self.makes(*number);
        }
        self.bound();
        other.exchangers.iter().for_each(|name| self.add_exchanger(name));
    }

    /// An exchange is about to be given up.
    pub fn add_exchanger(&mut self, name: &str) {
        if self.exchangers.len() < EXCHANGERS_MAX {
            self.exchangers.insert(name.to_owned());
        }
    }

    /// It is gone at the broker, or was not given up after all.
    pub fn remove_exchanger(&mut self, name: &str) {
        self.exchangers.remove(name);
    }

    /// At the opening, when no change is under way: what is registered still was never taken out. A name that was registered anew and told
    /// something is the new registration's, and is not removed. Where nobody noted what was made, all of it may have been.
    pub fn settle(&mut self, registry: &Registry, told: impl Fn(&Queue) -> Cursor) {
        self.forget_registered(registry, told);
        let registered: BTreeSet<u64> = registry.queues().values().map(|queue| queue.number).collect();
        let leaving = &self.queues;
        match &mut self.made {
            Some(made) => made.retain(|number| registered.contains(number) || leaving.contains_key(number)),
            None => self.made = Some(registered.into_iter().chain(leaving.keys().copied()).collect()),
        }
    }

    fn forget_registered(&mut self, registry: &Registry, told: impl Fn(&Queue) -> Cursor) {
        let numbers = |number: u64| registry.queues().values().any(|queue| queue.number == number);
        self.queues
            .retain(|number, name| !numbers(*number) && !is_told(registry, name, &told));
        self.exchangers.remove(registry.exchanger());
    }

    /// What is to be removed at the broker now: number and name.
    pub fn due(&self, registry: &Registry, told: impl Fn(&Queue) -> Cursor) -> Vec<(u64, String)> {
        let mut due = self.clone();
        due.forget_registered(registry, told);
        due.queues.into_iter().collect()
    }

    /// Names of queues that are noted, whether they are to be removed now or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.queues.values().map(String::as_str)
    }

    /// The exchanges to be removed at the broker now.
    pub fn due_exchangers(&self, registry: &Registry) -> Vec<String> {
        let due = self.exchangers.iter().filter(|name| *name != registry.exchanger());
        due.cloned().collect()
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(16 + 64 * self.queues.len());
        out.u8(if self.made.is_some() {
            ENCODING
        } else {
            ENCODING_LEAVING
        });
        out.u32(self.queues.len() as u32);
        for (number, name) in &self.queues {
            out.u64(*number);
            out.text(name);
        }
        out.u32(self.exchangers.len() as u32);
        for name in &self.exchangers {
            out.text(name);
        }
        if let Some(made) = &self.made {
            out.u32(made.len() as u32);
            made.iter().for_each(|number| out.u64(*number));
        }
        out.into_bytes()
    }

    /// Reads the whole of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let encoding = input.u8()?;
        if ![ENCODING, ENCODING_LEAVING, ENCODING_QUEUES].contains(&encoding) {
            return Err(Malformed::new(format!("leaving queues of encoding {encoding}")));
        }
        let mut leaving = Self::default();
        for _ in 0..input.count(LEAVING_MAX, 12)? {
            let number = input.u64()?;
            leaving.queues.insert(number, input.text(NAME_BYTES_MAX)?.to_owned());
        }
        if encoding != ENCODING_QUEUES {
            for _ in 0..input.count(EXCHANGERS_MAX, 4)? {
                leaving.exchangers.insert(input.text(EXCHANGER_BYTES_MAX)?.to_owned());
            }
        }
        if encoding == ENCODING {
            let count = input.count(LEAVING_MAX + QUEUES_MAX, 8)?;
            leaving.made = Some((0..count).map(|_| input.u64()).collect::<Result<_, _>>()?);
        }
        input.finish()?;
        Ok(leaving)
    }
}

/// Whether the queue of that name was registered anew and told something: what lies at the broker is its own.
fn is_told(registry: &Registry, name: &str, told: impl Fn(&Queue) -> Cursor) -> bool {
    let queue = registry.queues().get(name);
    queue.is_some_and(|queue| told(queue) > queue.start())
}
