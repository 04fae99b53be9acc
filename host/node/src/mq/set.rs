//! The queues of the running namespaces, by name. Readers take a snapshot without a lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use cvp_core::mq::{Cursors, Registry};
use cvp_core::types::{Height, Namespace, Refusal};
use tokio::sync::watch;

use super::{BrokerNames, Queues};

/// What became of the queues of each namespace that has the service.
pub type Opened = BTreeMap<Namespace, Result<Arc<Queues>, Refusal>>;

/// What a receiver holds of its provider's queues.
pub type Copies = BTreeMap<Namespace, (Registry, Cursors)>;

/// What a receiver holds of its provider's queues and cannot read.
pub type BadCopies = BTreeMap<Namespace, Refusal>;

/// How far a standby has the queues of each namespace that it says so of.
pub type HeldThere = BTreeMap<Namespace, Arc<Cursors>>;

/// The namespaces that have queues. Cheap to clone; clones share the set.
#[derive(Clone, Default)]
pub struct QueueSet {
    opened: Arc<ArcSwap<Opened>>,
    /// Which namespaces have queues is known: those of a provider are opened.
    settled: Arc<AtomicBool>,
    copies: Arc<ArcSwap<Copies>>,
    bad_copies: Arc<ArcSwap<BadCopies>>,
    names: BrokerNames,
    standby: Arc<watch::Sender<HeldThere>>,
}

impl QueueSet {
    /// The queues of a namespace, or why they cannot be used; none where the service is off.
    pub fn get(&self, namespace: &Namespace) -> Option<Result<Arc<Queues>, Refusal>> {
        self.opened.load().get(namespace).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Arc<Opened> {
        self.opened.load_full()
    }

    /// Puts `opened` in the place of all that were there; `settled`: a provider has opened what it has.
    pub fn replace(&self, opened: Opened, settled: bool) {
        self.settled.store(false, Ordering::SeqCst);
        self.opened.store(Arc::new(opened));
        self.settled.store(settled, Ordering::SeqCst);
    }

    /// Lowest height of a namespace that a queue still has to be told; none where no queue has. While nobody knows, because queues are not
    /// open yet or their files are bad, it may be any. Reads files.
    pub fn needs_from(&self, namespace: &Namespace) -> Option<Height> {
        if !self.settled.load(Ordering::SeqCst) {
            return Some(0);
        }
        match self.get(namespace) {
            Some(Ok(queues)) => queues.needs_from(),
            Some(Err(_)) => Some(0),
            None => None,
        }
    }

    /// Whose each queue at a broker is.
    pub fn names(&self) -> BrokerNames {
        self.names.clone()
    }

    /// How far the standby has each namespace's queues, and whenever that changes.
    pub fn watch_standby(&self) -> watch::Receiver<HeldThere> {
        self.standby.subscribe()
    }

    /// The standby's disk has these cursors; none where no standby says so.
    pub fn standby_holds(&self, namespace: &Namespace, kept: Option<&Arc<Cursors>>) {
        let known = match (self.standby.borrow().get(namespace), kept) {
            (None, None) => true,
            (Some(known), Some(kept)) => Arc::ptr_eq(known, kept),
            _ => false,
        };
        if known {
            return;
        }
        self.standby.send_modify(|held| match kept {
            None => drop(held.remove(namespace)),
            Some(kept) => drop(held.insert(namespace.clone(), Arc::clone(kept))),
        });
    }

    /// What is held of a provider's queues.
    pub fn copies(&self) -> Arc<Copies> {
        self.copies.load_full()
    }

    /// Of what is held of a provider's queues, what cannot be read.
    pub fn bad_copies(&self) -> Arc<BadCopies> {
        self.bad_copies.load_full()
    }

    /// Puts what the disk holds of a provider's queues in the place of what was known; `bad`: where it cannot be read.
    pub fn replace_copies(&self, copies: Copies, bad: BadCopies) {
        self.bad_copies.store(Arc::new(bad));
        self.copies.store(Arc::new(copies));
    }

    /// What is held of a provider's queues in one namespace was written anew.
    pub fn healed(&self, namespace: &Namespace) {
        let bad = self.bad_copies.load();
        if bad.contains_key(namespace) {
            let mut others = BadCopies::clone(&bad);
            others.remove(namespace);
            self.bad_copies.store(Arc::new(others));
        }
    }

    /// Changes what is held of a provider's queues in one namespace.
    pub fn copied(&self, namespace: &Namespace, change: impl FnOnce(&mut (Registry, Cursors))) {
        // One thread changes it, so nothing is lost between the look and the store.
        let mut copies = Copies::clone(&self.copies.load());
        let fresh = || (Registry::new(String::new()), Cursors::default());
        change(copies.entry(namespace.clone()).or_insert_with(fresh));
        self.copies.store(Arc::new(copies));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_block_is_let_go_before_it_is_known_who_was_not_told_of_it() {
        let set = QueueSet::default();
        let [global, other] = ["global", "other"].map(|name| Namespace::new(name).unwrap());
        assert_eq!(
            set.needs_from(&global),
            Some(0),
            "a node that starts has opened none yet"
        );
        let bad = Refusal::new("queues-failed", "damaged", "");
        set.replace([(global.clone(), Err(bad))].into(), true);
        assert_eq!((set.needs_from(&global), set.needs_from(&other)), (Some(0), None));
        // A standby opens none: what it has it opens when it takes over.
        set.replace(Opened::new(), false);
        assert_eq!(set.needs_from(&other), Some(0));
    }
}
