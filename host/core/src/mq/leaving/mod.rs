//! Queues that are registered no more, and exchanges that were given up, and may still stand at a broker that was away: they are removed there
//! when it is back. And which queues this node ever made, and where: no other one is its own to remove.

use std::collections::{BTreeMap, BTreeSet};

use super::place::{Left, Place, seal};
use super::{Cursor, QUEUES_MAX, Queue, Registry};

mod codec;

/// Most that are remembered; of more the oldest stay at the broker.
const LEAVING_MAX: usize = 4 * QUEUES_MAX;
/// Most exchanges that are remembered.
const EXCHANGERS_MAX: usize = 64;
/// Most that is remembered of what was left at other places.
const LEFT_MAX: usize = 4 * QUEUES_MAX;

/// What is to be removed at the broker: queues by the number of the registration, and exchanges.
///
/// It is noted before the registration is taken out, so that no crash between the two leaves the queue there for ever. Until then the number is
/// registered, and nothing is due. Nothing is due at another place than the one where it was made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Leaving {
    queues: BTreeMap<u64, Going>,
    /// With where each is; none where that is not known.
    exchangers: BTreeMap<String, Option<Place>>,
    made: Made,
    /// What stays at places where the node does not come any more.
    left: BTreeSet<Left>,
    /// Queues that a release made, or may have, that made no seals: no seal shows whether one is there still.
    unsealed: BTreeSet<u64>,
    /// Queues that are being made: one may stand there already, and its seal not yet.
    making: BTreeSet<u64>,
    /// Read from a note of such a release that does not say what was made.
    early: bool,
}

/// A queue that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Going {
    name: String,
    /// Where it is; none where that is not known.
    at: Option<Place>,
    /// The exchange that it is bound to; empty where that is not known.
    exchanger: String,
}

/// Queues that were made at a broker, or may have been.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
enum Made {
    /// Nobody noted it: all may have been.
    #[default]
    Any,
    /// Those of these registrations, by an earlier release, at the place that was configured then.
    Numbers(BTreeSet<u64>),
    /// By number of the registration, with the place; none where another node made it, or may have.
    At(BTreeMap<u64, Option<Place>>),
}

impl Leaving {
    /// A queue is about to be taken out that is at this place; none where that is not known.
    pub fn add(&mut self, queue: &Queue, exchanger: &str, at: Option<Place>) {
        let going = Going {
            name: queue.registration.queue.clone(),
            at,
            exchanger: exchanger.to_owned(),
        };
        self.queues.insert(queue.number, going);
        self.bound();
    }

    fn bound(&mut self) {
        while self.queues.len() > LEAVING_MAX {
            if let Some((number, _)) = self.queues.pop_first() {
                self.made_not(number);
            }
        }
        while self.left.len() > LEFT_MAX {
            self.left.pop_first();
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

    /// A queue is about to be made at this place, where none of its own stands. A node that ends in the middle of it leaves one without a seal.
    pub fn begins(&mut self, number: u64, here: &Place) {
        self.makes(number, here);
        self.making.insert(number);
    }

    /// Whether a queue may stand where it was made though its seal does not: nothing was published to it then.
    pub fn may_be_half_made(&self, number: u64) -> bool {
        self.making.contains(&number)
    }

    /// A queue is made at this place, or was.
    pub fn makes(&mut self, number: u64, here: &Place) {
        match &mut self.made {
            Made::Any => {}
            Made::Numbers(numbers) => drop(numbers.insert(number)),
            Made::At(made) => drop(made.insert(number, Some(here.clone()))),
        }
    }

    /// It stands with its seal.
    pub fn sealed(&mut self, number: u64) {
        self.unsealed.remove(&number);
        self.making.remove(&number);
    }

    /// What stands there under its name is somebody else's.
    pub fn made_not(&mut self, number: u64) {
        self.sealed(number);
        match &mut self.made {
            Made::Any => {}
            Made::Numbers(numbers) => drop(numbers.remove(&number)),
            Made::At(made) => drop(made.remove(&number)),
        }
    }

    /// Whether a queue may have been made at a broker: only such a one is removed there.
    pub fn may_stand(&self, number: u64) -> bool {
        match &self.made {
            Made::Any => true,
            Made::Numbers(numbers) => numbers.contains(&number),
            Made::At(made) => made.contains_key(&number),
        }
    }

    /// Where a queue was made; none where nobody knows that it was.
    pub fn made_at(&self, number: u64) -> Option<&Place> {
        match &self.made {
            Made::At(made) => made.get(&number)?.as_ref(),
            _ => None,
        }
    }

    /// The seal without which what stands under a queue's name is not this queue; none where the note alone says so.
    pub fn seal_of(&self, registry: &Registry, number: u64) -> Option<String> {
        let going = self.queues.get(&number);
        let exchanger = going.map_or(registry.exchanger(), |going| going.exchanger(registry));
        (!self.unsealed.contains(&number)).then(|| seal(exchanger, number))
    }

    /// Where an exchange is of which a queue is to be removed; none where there is no such queue.
    pub fn place_of(&self, exchanger: &str) -> Option<&Place> {
        let mut of = self.queues.values().filter(|going| going.exchanger == exchanger);
        of.find_map(|going| going.at.as_ref())
    }

    /// Nothing is to be removed.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.exchangers.is_empty()
    }

    /// Names of what is to be removed that `other` does not have, each with its place where it is known.
    pub fn names_beside<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (Option<&'a Place>, &'a str)> {
        let beside = self.queues.iter().filter(|(number, _)| !other.has(**number));
        beside.map(|(_, going)| (going.at.as_ref(), going.name.as_str()))
    }

    /// Only what `other` has, too.
    pub fn keep_of(&mut self, other: &Self) {
        self.queues.retain(|number, _| other.queues.contains_key(number));
        self.exchangers.retain(|name, _| other.exchangers.contains_key(name));
        self.unsealed.retain(|number| self.queues.contains_key(number));
        self.early &= !self.is_empty();
    }

    /// Nobody knows where these are: so they take less room.
    pub(super) fn forget_places(&mut self) {
        self.early = false;
        for going in self.queues.values_mut() {
            (going.at, going.exchanger) = (None, String::new());
        }
        self.exchangers.values_mut().for_each(|at| *at = None);
    }

    /// This node takes the place of the one whose registry this is: what that was to remove at the broker is this one's to remove now, and
    /// where it made what is registered is not known here.
    pub fn take_over(&mut self, registry: &Registry) {
        let other = registry.leaving();
        // What this node was making, and the other one had too, that one may have made, sealed and told.
        let registered: BTreeSet<u64> = registry.queues().values().map(|queue| queue.number).collect();
        let alone = |number: &u64| !registered.contains(number) && !other.has(*number);
        self.making
            .retain(|number| self.queues.contains_key(number) && alone(number));
        let mut made: BTreeMap<u64, Option<Place>> = registry
            .queues()
            .values()
            .map(|queue| (queue.number, None))
            .chain(self.queues.iter().map(|(number, going)| (*number, going.at.clone())))
            .collect();
        for (number, going) in &other.queues {
            self.queues.insert(*number, going.clone());
            made.insert(*number, going.at.clone());
        }
        (self.made, self.early) = (Made::At(made), false);
        self.unsealed.extend(&other.unsealed);
        self.bound();
        for (name, at) in &other.exchangers {
            self.add_exchanger(name, at.clone());
        }
    }

    /// An exchange is about to be given up that is at this place.
    pub fn add_exchanger(&mut self, name: &str, at: Option<Place>) {
        if self.exchangers.len() < EXCHANGERS_MAX {
            self.exchangers.insert(name.to_owned(), at);
        }
    }

    /// It is gone at the broker, or was not given up after all.
    pub fn remove_exchanger(&mut self, name: &str) {
        self.exchangers.remove(name);
    }

    /// At the opening, when no change is under way, with a broker at `here` or with none: what is registered still was never taken out. A name
    /// that was registered anew and told something there is the new registration's, and is not removed. Where nobody noted what was made, all
    /// of it may have been; where nobody noted the place, it was this one.
    pub fn settle(&mut self, registry: &Registry, told: impl Fn(&Queue) -> Cursor, here: Option<&Place>) {
        self.forget_registered(registry, told);
        let registered = registry.queues().values().map(|queue| queue.number);
        let known: BTreeSet<u64> = registered.chain(self.queues.keys().copied()).collect();
        if std::mem::take(&mut self.early) {
            self.unsealed.extend(&known);
        }
        self.unsealed.retain(|number| known.contains(number));
        self.making.retain(|number| known.contains(number));
        let made = match std::mem::take(&mut self.made) {
            Made::Any => known.into_iter().map(|number| (number, here.cloned())).collect(),
            Made::Numbers(numbers) => {
                let numbers = numbers.intersection(&known);
                numbers.map(|number| (*number, here.cloned())).collect()
            }
            Made::At(mut made) => {
                made.retain(|number, _| known.contains(number));
                self.made = Made::At(made);
                return;
            }
        };
        self.made = Made::At(made);
        if let Some(here) = here {
            let unknown = self.queues.values_mut().map(|going| &mut going.at);
            for at in unknown.chain(self.exchangers.values_mut()) {
                at.get_or_insert_with(|| here.clone());
            }
        }
    }

    fn forget_registered(&mut self, registry: &Registry, told: impl Fn(&Queue) -> Cursor) {
        let numbers = |number: u64| registry.queues().values().any(|queue| queue.number == number);
        let mut queues = std::mem::take(&mut self.queues);
        queues.retain(|number, going| !numbers(*number) && !self.is_told(registry, going, &told));
        self.queues = queues;
        self.exchangers.remove(registry.exchanger());
    }

    /// Whether the queue of that name was registered anew and told something at the same place: what lies there is its own.
    fn is_told(&self, registry: &Registry, going: &Going, told: impl Fn(&Queue) -> Cursor) -> bool {
        let Some(queue) = registry.queues().get(&going.name) else {
            return false;
        };
        let placed = matches!(self.made, Made::At(_)) && going.at.is_some();
        let same = !placed || self.made_at(queue.number) == going.at.as_ref();
        same && told(queue) > queue.start()
    }

    /// What is to be removed at the broker at `here` now: number and name.
    pub fn due(&self, registry: &Registry, told: impl Fn(&Queue) -> Cursor, here: &Place) -> Vec<(u64, String)> {
        let mut due = self.clone();
        due.forget_registered(registry, told);
        let here = due.queues.into_iter().filter(|(_, it)| it.at.as_ref() == Some(here));
        here.map(|(number, going)| (number, going.name)).collect()
    }

    /// The exchanges to be removed at the broker at `here` now.
    pub fn due_exchangers(&self, registry: &Registry, here: &Place) -> Vec<String> {
        let due = self.exchangers.iter().filter(|(name, at)| {
            let elsewhere = at.as_ref().is_some_and(|at| at != here);
            *name != registry.exchanger() && !elsewhere
        });
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Names that are to be removed, whether now or not, those of `registry` that were made, and those that were left, each with its place where it
    /// is known.
    pub fn names<'a>(&'a self, registry: Option<&'a Registry>) -> impl Iterator<Item = (Option<&'a Place>, &'a str)> {
        let leaving = self
            .queues
            .values()
            .map(|going| (going.at.as_ref(), going.name.as_str()));
        let registered = registry.into_iter().flat_map(|registry| registry.queues().values());
        let made = registered.filter_map(|queue| {
            let at = self.made_at(queue.number)?;
            Some((Some(at), queue.registration.queue.as_str()))
        });
        let left = self.left.iter().filter_map(|left| {
            let (_, name) = left.queue.as_ref()?;
            Some((Some(&left.place), name.as_str()))
        });
        leaving.chain(made).chain(left)
    }

    /// Whether the queue of this registration is to be removed, now or not.
    pub fn has(&self, number: u64) -> bool {
        self.queues.contains_key(&number)
    }

    /// What stays at places where the node does not come any more.
    pub fn left(&self) -> impl Iterator<Item = &Left> {
        self.left.iter()
    }

    /// The exchanges of which a node that is connected at `here` must know whether they stand: what of the rest is its own there.
    pub fn questions(&self, registry: &Registry, here: &Place) -> BTreeSet<String> {
        let mut asked = BTreeSet::new();
        for queue in registry.queues().values() {
            if self.made_at(queue.number) != Some(here) {
                asked.insert(seal(registry.exchanger(), queue.number));
                if self.may_stand(queue.number) {
                    asked.insert(registry.exchanger().to_owned());
                }
            }
        }
        for (number, going) in &self.queues {
            if going.at.as_ref() != Some(here) {
                asked.insert(seal(going.exchanger(registry), *number));
                asked.insert(going.exchanger(registry).to_owned());
            }
        }
        let elsewhere = self.exchangers.iter().filter(|(_, at)| at.as_ref() != Some(here));
        asked.extend(elsewhere.map(|(name, _)| name.clone()));
        asked.extend(self.left.iter().filter(|it| it.place == *here).map(Left::proof));
        asked
    }

    /// The node is connected at `here`, where of [`Leaving::questions`] these stand. What was made at another place and stands here is the same, at
    /// a broker of another name; what does not is left behind there, and answered. What was left here before, and stands, is its own again.
    pub fn arrive(&mut self, registry: &Registry, here: &Place, standing: &BTreeSet<String>) -> Vec<Left> {
        let before = self.left.clone();
        self.come_back(registry, here, standing);
        let stands = |name: &str| standing.contains(name);
        // Only of what a release without seals made the exchange says enough. Where seals are made, one that is missing is missed: a queue that the
        // node was refused is somebody else's, though the exchange stands.
        let early = self.unsealed.clone();
        let unsealed = |number: u64, exchanger: &str| early.contains(&number) && stands(exchanger);
        for queue in registry.queues().values() {
            let number = queue.number;
            if self.made_at(number) == Some(here) {
                continue;
            }
            let unknown = self.may_stand(number) && self.made_at(number).is_none();
            let name = &queue.registration.queue;
            if stands(&seal(registry.exchanger(), number))
                && let Some(between) = self.made_at(number).cloned()
                && between.virtual_host() != here.virtual_host()
            {
                // It stands here from before under another name of this broker; another virtual host is no name of this one.
                self.leave(number, name, registry.exchanger(), Some(between));
            }
            if stands(&seal(registry.exchanger(), number)) || (unknown && unsealed(number, registry.exchanger())) {
                self.makes(number, here);
                continue;
            }
            self.leave(number, name, registry.exchanger(), self.made_at(number).cloned());
        }
        let elsewhere = self.queues.iter().filter(|(_, going)| going.at.as_ref() != Some(here));
        let elsewhere: Vec<(u64, Going)> = elsewhere.map(|(number, going)| (*number, going.clone())).collect();
        for (number, going) in elsewhere {
            let exchanger = going.exchanger(registry);
            let unknown = going.at.is_none() && unsealed(number, exchanger);
            if unknown || stands(&seal(exchanger, number)) {
                self.makes(number, here);
                if let Some(going) = self.queues.get_mut(&number) {
                    going.at = Some(here.clone());
                }
                continue;
            }
            self.queues.remove(&number);
            self.leave(number, &going.name, exchanger, going.at.clone());
        }
        let elsewhere = self.exchangers.iter().filter(|(_, at)| at.as_ref() != Some(here));
        let elsewhere: Vec<(String, Option<Place>)> = elsewhere.map(|(name, at)| (name.clone(), at.clone())).collect();
        for (exchanger, at) in elsewhere {
            match at {
                Some(place) if !stands(&exchanger) => {
                    self.exchangers.remove(&exchanger);
                    self.left.insert(Left {
                        place,
                        exchanger,
                        queue: None,
                    });
                }
                _ => drop(self.exchangers.insert(exchanger, Some(here.clone()))),
            }
        }
        self.bound();
        self.left.difference(&before).cloned().collect()
    }

    /// What was left at `here`: what is gone meanwhile is forgotten, what is not registered any more is to be removed.
    fn come_back(&mut self, registry: &Registry, here: &Place, standing: &BTreeSet<String>) {
        let here_before = self.left.iter().filter(|it| it.place == *here).cloned();
        for left in here_before.collect::<Vec<_>>() {
            self.left.remove(&left);
            if !standing.contains(&left.proof()) {
                continue;
            }
            match left.queue {
                Some((number, name)) => {
                    // What took its place elsewhere stays there.
                    let going = self.queues.get(&number).and_then(|going| going.at.clone());
                    let elsewhere = going.or_else(|| self.made_at(number).cloned()).filter(|at| at != here);
                    self.leave(number, &name, &left.exchanger, elsewhere);
                    self.makes(number, here);
                    if !registry.queues().values().any(|queue| queue.number == number) {
                        let (at, exchanger) = (Some(here.clone()), left.exchanger);
                        self.queues.insert(number, Going { name, at, exchanger });
                    }
                }
                // In use again, or to be removed.
                None if left.exchanger == registry.exchanger() => {}
                None => self.add_exchanger(&left.exchanger, Some(here.clone())),
            }
        }
    }

    /// A queue that is not at the broker here.
    fn leave(&mut self, number: u64, name: &str, exchanger: &str, at: Option<Place>) {
        self.made_not(number);
        if let Some(place) = at {
            self.left.insert(Left {
                place,
                exchanger: exchanger.to_owned(),
                queue: Some((number, name.to_owned())),
            });
        }
    }
}

impl Going {
    fn exchanger<'a>(&'a self, registry: &'a Registry) -> &'a str {
        match self.exchanger.as_str() {
            "" => registry.exchanger(),
            known => known,
        }
    }
}

#[cfg(test)]
mod tests;
