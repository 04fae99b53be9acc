//! Which namespace of this node a queue at a broker belongs to. A broker knows queues by their name alone, whoever made them: two namespaces
//! that took one name there would read, and remove, each other's messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cvp_core::config::BrokerUrl;
use cvp_core::mq::Place;
use cvp_core::types::Namespace;
use lapin::uri::AMQPUri;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Bytes of a virtual host's name that stand for themselves in a place.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The virtual host that an address means; credentials do not matter. Two names of one host are two places: nobody can tell.
pub(super) fn place_of(url: &BrokerUrl) -> Place {
    let Ok(uri) = url.with_credentials().parse::<AMQPUri>() else {
        return Place::new(&url.to_string());
    };
    let host = uri.authority.host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let path = match uri.vhost.as_str() {
        // The broker's default one.
        "" | "/" => String::new(),
        name => utf8_percent_encode(name, PLAIN).to_string(),
    };
    Place::new(&format!("{host}:{}/{path}", uri.authority.port))
}

/// Whose a name is that cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// This namespace's.
    Other(Namespace),
    /// Perhaps this namespace's, whose files cannot be read.
    Perhaps(Namespace),
}

/// What the files of a namespace that delivers nothing say of its queues at a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AtRest {
    /// The namespace.
    pub namespace: Namespace,
    /// Its broker; none where the node itself carries its messages: then it has what it made at brokers before.
    pub broker: Option<BrokerUrl>,
    /// Names of queues that are there, or may be, each with its place where that is known to be another one; none where the files cannot be read.
    pub names: Option<Vec<PlacedName>>,
    /// Names of queues that are gone there; who takes this node's place would remove what comes under them, until the registry says so, too.
    pub unstruck: Vec<PlacedName>,
}

/// A queue's name, and where it is; none for the broker that is configured.
pub type PlacedName = (Option<Place>, String);

pub(super) fn placed<'a>(names: impl Iterator<Item = (Option<&'a Place>, &'a str)>) -> Vec<PlacedName> {
    names.map(|(at, name)| (at.cloned(), name.to_owned())).collect()
}

#[derive(Default)]
struct Known {
    names: BTreeMap<(Place, String), Namespace>,
    /// Namespaces whose names there are not known.
    unreadable: BTreeMap<Namespace, Place>,
}

impl Known {
    /// Takes a name where it is free.
    fn take(&mut self, place: &Place, name: &str, of: &Namespace) -> Result<(), Owner> {
        let key = (place.clone(), name.to_owned());
        let owner = self.names.entry(key).or_insert_with(|| of.clone());
        if owner == of {
            Ok(())
        } else {
            Err(Owner::Other(owner.clone()))
        }
    }

    fn forget(&mut self, of: &Namespace) {
        self.names.retain(|_, owner| owner != of);
        self.unreadable.remove(of);
    }
}

/// Every queue of this node at brokers, and whose it is. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct BrokerNames(Arc<Mutex<Known>>);

impl BrokerNames {
    /// Takes a name for a namespace.
    ///
    /// # Errors
    /// It is another one's.
    pub(super) fn take(&self, place: &Place, name: &str, of: &Namespace) -> Result<(), Owner> {
        self.0.lock().take(place, name, of)
    }

    /// As [`BrokerNames::take`], for a queue that is new: not where it may be one of a namespace whose names are not known.
    ///
    /// # Errors
    /// It is another one's, or may be.
    pub(super) fn take_new(&self, place: &Place, name: &str, of: &Namespace) -> Result<(), Owner> {
        let mut known = self.0.lock();
        let own = known.names.get(&(place.clone(), name.to_owned())) == Some(of);
        let mut others = known.unreadable.iter().filter(|(other, _)| *other != of);
        match others.find(|(_, at)| *at == place).map(|(other, _)| other.clone()) {
            Some(other) if !own => Err(Owner::Perhaps(other)),
            _ => known.take(place, name, of),
        }
    }

    /// A namespace whose broker is at `here`, or that has none now, has these queues, and no others; those that are another one's are left out.
    pub(super) fn open(&self, here: Option<&Place>, names: &[PlacedName], of: &Namespace) {
        let mut known = self.0.lock();
        known.forget(of);
        for (place, name) in names {
            if let Some(place) = place.as_ref().or(here) {
                let _ = known.take(place, name, of);
            }
        }
    }

    /// A namespace has no queues at a broker any more.
    pub fn let_go(&self, of: &Namespace) {
        self.0.lock().forget(of);
    }

    /// What namespaces that deliver nothing have at brokers stays theirs; one that neither delivers (`delivers`) nor has files has nothing.
    pub fn rest(&self, delivers: impl Fn(&Namespace) -> bool, resting: &[AtRest]) {
        let mut known = self.0.lock();
        let rests = |name: &Namespace| resting.iter().any(|it| it.namespace == *name);
        known.names.retain(|_, owner| delivers(owner) || rests(owner));
        known.unreadable.clear();
        let names = |it: &AtRest| {
            let all = it.names.iter().flatten().chain(&it.unstruck);
            all.cloned().collect::<Vec<PlacedName>>()
        };
        // Whose queue was made before whose is registered and may have been refused.
        for it in resting {
            for (place, name) in names(it) {
                if let Some(place) = place {
                    let _ = known.take(&place, &name, &it.namespace);
                }
            }
        }
        for it in resting {
            let Some(here) = it.broker.as_ref().map(place_of) else {
                continue;
            };
            for (_, name) in names(it).into_iter().filter(|(place, _)| place.is_none()) {
                let _ = known.take(&here, &name, &it.namespace);
            }
            if it.names.is_none() {
                known.unreadable.insert(it.namespace.clone(), here);
            }
        }
    }

    /// Whether a name is this namespace's.
    pub(super) fn is_of(&self, place: &Place, name: &str, of: &Namespace) -> bool {
        let known = self.0.lock();
        known.names.get(&(place.clone(), name.to_owned())) == Some(of)
    }

    /// A namespace has no queue of that name there any more.
    pub(super) fn leave(&self, place: &Place, name: &str, of: &Namespace) {
        let mut known = self.0.lock();
        let key = (place.clone(), name.to_owned());
        if known.names.get(&key) == Some(of) {
            known.names.remove(&key);
        }
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
    /// The namespace, whose broker is at `place`, has these queues, and no others.
    pub fn open(names: BrokerNames, place: Place, namespace: &Namespace, there: &[PlacedName]) -> Self {
        names.open(Some(&place), there, namespace);
        Self {
            names,
            place,
            namespace: namespace.clone(),
            coming: Mutex::default(),
        }
    }

    /// Takes a name.
    ///
    /// # Errors
    /// It is another namespace's.
    pub fn take(&self, name: &str) -> Result<(), Owner> {
        self.names.take(&self.place, name, &self.namespace)
    }

    /// Takes a name for a registration that is on its way, until [`HeldNames::came`].
    ///
    /// # Errors
    /// It is another namespace's, or may be.
    pub fn comes(&self, name: &str) -> Result<(), Owner> {
        let mut coming = self.coming.lock();
        self.names.take_new(&self.place, name, &self.namespace)?;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_namespaces_at_a_virtual_host() {
        let place = |url: &str| place_of(&BrokerUrl::new(url));
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
            "amqp://host.:5672",
        ] {
            assert_eq!(
                names.take(&place(same), "orders", &other),
                Err(Owner::Other(global.clone())),
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
        names.let_go(&other);
        names.take(&here, "refunds", &global).unwrap();
    }

    #[test]
    fn a_place_is_written_in_one_way_and_bears_no_credentials() {
        let place = |url: &str| place_of(&BrokerUrl::new(url)).to_string();
        assert_eq!(
            place("amqp://user:s%40cret@Broker.Example.:5672/%2F"),
            "broker.example:5672/"
        );
        assert_eq!(place("amqp://x@broker.example/or%64ers"), "broker.example:5672/orders");
        // Not the same virtual host.
        assert_eq!(
            place("amqp://broker.example/%2Forders"),
            "broker.example:5672/%2Forders"
        );
        assert_eq!(
            place("amqp://broker.example/orders%2F1"),
            "broker.example:5672/orders%2F1"
        );
    }

    #[test]
    fn what_was_made_at_another_place_and_what_is_not_struck_out_yet_keeps_its_name() {
        let broker = BrokerUrl::new("amqp://host/vh");
        let (here, before) = (place_of(&broker), place_of(&BrokerUrl::new("amqp://host/")));
        let names = BrokerNames::default();
        let [global, ns1] = ["global", "ns1"].map(|name| Namespace::new(name).unwrap());
        let there = [(None, "orders".to_owned()), (Some(before.clone()), "orders".to_owned())];
        let rests = AtRest {
            namespace: ns1.clone(),
            broker: Some(broker),
            names: Some(there[..1].to_vec()),
            unstruck: there[1..].to_vec(),
        };
        names.rest(|name| *name == global, &[rests]);
        for place in [&here, &before] {
            assert_eq!(names.take_new(place, "orders", &global), Err(Owner::Other(ns1.clone())));
        }
        drop(HeldNames::open(names.clone(), here.clone(), &ns1, &there[..1]));
        assert!(names.is_of(&here, "orders", &ns1) && !names.is_of(&before, "orders", &ns1));
    }

    #[test]
    fn what_is_stopped_or_cannot_be_read_keeps_its_names_until_its_files_are_gone() {
        let broker = BrokerUrl::new("amqp://host/");
        let (here, elsewhere) = (place_of(&broker), place_of(&BrokerUrl::new("amqp://host/vh")));
        let names = BrokerNames::default();
        let [global, other, third] = ["global", "other", "third"].map(|name| Namespace::new(name).unwrap());
        let rest = |namespace: &Namespace, names: Option<&[&str]>| AtRest {
            namespace: namespace.clone(),
            broker: Some(broker.clone()),
            names: names.map(|names| names.iter().map(|name| (None, (*name).to_owned())).collect()),
            unstruck: Vec::new(),
        };
        let runs = |name: &Namespace| *name == global;
        names.take(&here, "own", &global).unwrap();
        names.take(&here, "orders", &other).unwrap();
        names.rest(runs, &[rest(&other, Some(&["orders", "refunds"]))]);
        for taken in ["orders", "refunds"] {
            assert_eq!(names.take_new(&here, taken, &global), Err(Owner::Other(other.clone())));
        }
        // Nobody knows what one has whose files are damaged.
        names.rest(runs, &[rest(&other, Some(&["orders"])), rest(&third, None)]);
        assert_eq!(
            names.take_new(&here, "fresh", &global),
            Err(Owner::Perhaps(third.clone()))
        );
        names.take_new(&here, "own", &global).unwrap();
        names.take_new(&elsewhere, "fresh", &global).unwrap();
        names.rest(runs, &[]);
        for free in ["orders", "fresh"] {
            names.take_new(&here, free, &global).unwrap();
        }
        assert!(names.is_of(&here, "own", &global));
    }

    #[test]
    fn a_name_is_whose_queue_was_made_there_before_whose_is_registered_and_stays_so_without_a_broker() {
        let broker = BrokerUrl::new("amqp://host/");
        let here = place_of(&broker);
        let names = BrokerNames::default();
        let [global, ns1] = ["global", "ns1"].map(|name| Namespace::new(name).unwrap());
        let rest = |namespace: &Namespace, broker: Option<&BrokerUrl>, at: Option<&Place>| AtRest {
            namespace: namespace.clone(),
            broker: broker.cloned(),
            names: Some(vec![(at.cloned(), "orders".to_owned())]),
            unstruck: Vec::new(),
        };
        let registered = rest(&global, Some(&broker), None);
        // Before anybody is opened, whatever the order.
        for without in [Some(&broker), None] {
            let made = rest(&ns1, without, Some(&here));
            names.rest(|_| false, &[registered.clone(), made]);
            assert!(names.is_of(&here, "orders", &ns1));
            names.rest(|_| false, &[]);
        }
        let registered_there = (None, "fresh".to_owned());
        names.open(
            None,
            &[(Some(here.clone()), "orders".to_owned()), registered_there],
            &ns1,
        );
        assert_eq!(
            names.take_new(&here, "orders", &global),
            Err(Owner::Other(ns1)),
            "it delivers by itself now, and what it made is there"
        );
        names.take_new(&here, "fresh", &global).unwrap();
    }
}
