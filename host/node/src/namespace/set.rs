//! The chains that run in this node, by name. Readers take a snapshot without a lock; `global` is one of them by convention of assembly.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cvp_core::types::Namespace;

use super::Chain;

type Chains = BTreeMap<String, Arc<Chain>>;

/// The running chains. Cheap to clone; clones share the set.
#[derive(Clone, Default)]
pub struct ChainSet(Arc<ArcSwap<Chains>>);

impl ChainSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The chain called `name`, if it runs.
    pub fn get(&self, name: &str) -> Option<Arc<Chain>> {
        self.0.load().get(name).cloned()
    }

    /// All chains, sorted by name.
    pub fn all(&self) -> Vec<Arc<Chain>> {
        self.0.load().values().cloned().collect()
    }

    /// Names of the running namespaces, sorted.
    pub fn names(&self) -> Vec<Namespace> {
        self.0.load().values().map(|chain| chain.namespace().clone()).collect()
    }

    /// Takes a chain out; whoever holds it may go on with it.
    pub fn remove(&self, name: &str) -> Option<Arc<Chain>> {
        let before = self.0.rcu(|chains| {
            let mut chains = Chains::clone(chains);
            chains.remove(name);
            chains
        });
        before.get(name).cloned()
    }

    /// Adds a chain; one of the same name is replaced and returned.
    pub fn insert(&self, chain: Arc<Chain>) -> Option<Arc<Chain>> {
        let name = chain.namespace().to_string();
        let before = self.0.rcu(|chains| {
            let mut chains = Chains::clone(chains);
            chains.insert(name.clone(), Arc::clone(&chain));
            chains
        });
        before.get(&name).cloned()
    }
}
