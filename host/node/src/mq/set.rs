//! The queues of the running namespaces, by name. Readers take a snapshot without a lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cvp_core::types::{Namespace, Refusal};

use super::Queues;

/// What became of the queues of each namespace that has the service.
pub type Opened = BTreeMap<Namespace, Result<Arc<Queues>, Refusal>>;

/// The namespaces that have queues. Cheap to clone; clones share the set.
#[derive(Clone, Default)]
pub struct QueueSet(Arc<ArcSwap<Opened>>);

impl QueueSet {
    /// The queues of a namespace, or why they cannot be used; none where the service is off.
    pub fn get(&self, namespace: &Namespace) -> Option<Result<Arc<Queues>, Refusal>> {
        self.0.load().get(namespace).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Arc<Opened> {
        self.0.load_full()
    }

    /// Puts `opened` in the place of all that were there.
    pub fn replace(&self, opened: Opened) {
        self.0.store(Arc::new(opened));
    }
}
