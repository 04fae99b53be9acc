//! Which namespace of this node a queue at a broker belongs to. A broker knows queues by their name alone, whoever made them: two namespaces
//! that took one name there would read, and remove, each other's messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cvp_core::config::BrokerUrl;
use cvp_core::types::Namespace;
use lapin::uri::AMQPUri;
use parking_lot::Mutex;

/// A virtual host of a broker; credentials do not matter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place(String);

impl Place {
    /// The one that an address means. Two spellings of one host are two places: nobody can tell.
    pub fn of(url: &BrokerUrl) -> Self {
        let Ok(uri) = url.with_credentials().parse::<AMQPUri>() else {
            return Self(url.to_string());
        };
        let host = uri.authority.host.to_ascii_lowercase();
        let path = uri.vhost.trim_start_matches('/');
        Self(format!("{host}:{}/{path}", uri.authority.port))
    }
}

/// Every queue of this node at brokers, and whose it is. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct BrokerNames(Arc<Mutex<BTreeMap<(Place, String), Namespace>>>);

impl BrokerNames {
    /// Takes a name for a namespace.
    ///
    /// # Errors
    /// It is another one's: which.
    pub(super) fn take(&self, place: &Place, name: &str, of: &Namespace) -> Result<(), Namespace> {
        let mut names = self.0.lock();
        let owner = names
            .entry((place.clone(), name.to_owned()))
            .or_insert_with(|| of.clone());
        if owner == of { Ok(()) } else { Err(owner.clone()) }
    }

    /// Whether a name is this namespace's.
    pub(super) fn is_of(&self, place: &Place, name: &str, of: &Namespace) -> bool {
        let names = self.0.lock();
        names.get(&(place.clone(), name.to_owned())) == Some(of)
    }

    /// A namespace has no queue of that name there any more.
    pub(super) fn leave(&self, place: &Place, name: &str, of: &Namespace) {
        let mut names = self.0.lock();
        let key = (place.clone(), name.to_owned());
        if names.get(&key) == Some(of) {
            names.remove(&key);
        }
    }

    /// A namespace is closed.
    pub(super) fn leave_all(&self, of: &Namespace) {
        self.0.lock().retain(|_, owner| owner != of);
    }
}

/// The names that one namespace has at its broker.
pub(super) struct HeldNames {
    names: BrokerNames,
    place: Place,
    namespace: Namespace,
    /// Names whose registration is on its way.
    coming: Mutex<BTreeSet<String>>,
}

impl HeldNames {
    pub fn new(names: BrokerNames, url: &BrokerUrl, namespace: &Namespace) -> Self {
        Self {
            names,
            place: Place::of(url),
            namespace: namespace.clone(),
            coming: Mutex::default(),
        }
    }

    /// Takes a name.
    ///
    /// # Errors
    /// It is another namespace's: which.
    pub fn take(&self, name: &str) -> Result<(), Namespace> {
        self.names.take(&self.place, name, &self.namespace)
    }

    /// Takes a name for a registration that is on its way, until [`HeldNames::came`].
    ///
    /// # Errors
    /// It is another namespace's: which.
    pub fn comes(&self, name: &str) -> Result<(), Namespace> {
        let mut coming = self.coming.lock();
        self.take(name)?;
        coming.insert(name.to_owned());
        Ok(())
    }

    /// The registration is there, or will not be.
    pub fn came(&self, name: &str) {
        self.coming.lock().remove(name);
    }

    /// Whether a name is this namespace's.
    pub fn is_own(&self, name: &str) -> bool {
        self.names.is_of(&self.place, name, &self.namespace)
    }

    /// Lets a name go, unless a registration of it is on its way, or `needed` says that it is there.
    pub fn leave(&self, name: &str, needed: impl FnOnce() -> bool) {
        let coming = self.coming.lock();
        if !coming.contains(name) && !needed() {
            self.names.leave(&self.place, name, &self.namespace);
        }
    }

    /// The namespace is closed.
    pub fn leave_all(&self) {
        self.names.leave_all(&self.namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_namespaces_at_a_virtual_host() {
        let place = |url: &str| Place::of(&BrokerUrl::new(url));
        let names = BrokerNames::default();
        let [global, other] = ["global", "other"].map(|name| Namespace::new(name).unwrap());
        let here = place("amqp://a:b@Host:5672/");
        names.take(&here, "orders", &global).unwrap();
        names.take(&here, "orders", &global).unwrap();
        for same in [
            "amqp://a:b@host:5672/",
            "amqp://host:5672/",
            "amqp://host/",
            "amqp://x:y@host",
            "amqp://host/%2f",
        ] {
            assert_eq!(
                names.take(&place(same), "orders", &other),
                Err(global.clone()),
                "{same}"
            );
        }
        names.take(&here, "refunds", &other).unwrap();
        names.take(&place("amqp://host/vh"), "orders", &other).unwrap();
        names.take(&place("amqp://host:5673/"), "orders", &other).unwrap();
        names.leave(&here, "orders", &other);
        assert!(names.is_of(&here, "orders", &global), "only the owner lets it go");
        names.leave(&here, "orders", &global);
        names.take(&here, "orders", &other).unwrap();
        names.leave_all(&other);
        names.take(&here, "refunds", &global).unwrap();
    }
}
