//! Namespaces of the provider of which nothing was ever copied: they stood still there, or could not run, whenever this node was attached.
//! Whether they have blocks nobody here can say, so the promoted node makes none under their names before its operator has decided.

use std::collections::BTreeSet;

use crate::config::GLOBAL;
use crate::session::{Binding, NAMESPACES_MAX};
use crate::types::{Height, Namespace, NodeRole, Refusal};

/// What the provider's list names (`listed`, started or not) and was never bound: no handshake ever agreed on its chain. `global` is
/// none of them; without it there is no node.
pub fn uncopied(listed: impl IntoIterator<Item = Namespace>, binding: &Binding) -> BTreeSet<Namespace> {
    let unbound = |name: &Namespace| binding.genesis(name).is_none() && name.as_str() != GLOBAL;
    listed.into_iter().filter(unbound).take(NAMESPACES_MAX).collect()
}

/// What a promoted node remembers of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Uncopied {
    /// Their names, until they begin here or are destroyed.
    pub names: BTreeSet<Namespace>,
    /// The node that they were not copied from, in words (`node1 10.0.0.1:50011`).
    pub from: String,
}

/// One that is to start, as it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// What this node is there.
    pub role: NodeRole,
    /// The last record here; none where there is no store.
    pub tip: Option<Height>,
    /// The operator says that its chain is to begin anew.
    pub anew: bool,
}

/// What the start of a namespace does to the record of those that were never copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// Nothing.
    Plain,
    /// It is no more one of them.
    Settled,
}

impl Uncopied {
    /// Whether `name`, found so, may start. A genesis alone is no chain: a standby makes it before its provider says anything. Who follows
    /// other nodes there has the chain from them.
    ///
    /// # Errors
    /// `never-copied`: its chain is on another node only. `not-anew`: there is nothing to begin anew, or blocks are in the way.
    pub fn may_start(&self, name: &Namespace, found: Found) -> Result<Beginning, Refusal> {
        let blocks = found.tip.is_some_and(|tip| tip > 0);
        let known = self.names.contains(name);
        match (known, found.anew) {
            (false, false) => Ok(Beginning::Plain),
            (true, false) if blocks => Ok(Beginning::Settled),
            (true, false) if found.role != NodeRole::Vp => Ok(Beginning::Plain),
            (true, false) => Err(self.refusal(name)),
            (true, true) if !blocks => Ok(Beginning::Settled),
            (true, true) => Err(Refusal::new(
                "not-anew",
                format!("namespace {name} has blocks here"),
                format!("start it without --anew and it goes on with them, or move namespaces/{name}/data away first"),
            )),
            (false, true) => Err(Refusal::new(
                "not-anew",
                format!("namespace {name} is none that an upgrade left uncopied"),
                "start it without --anew",
            )),
        }
    }

    /// Why it does not start.
    pub fn refusal(&self, name: &Namespace) -> Refusal {
        Refusal::new(
            "never-copied",
            format!(
                "namespace {name} was never copied from {}: if it has blocks and queues, they are on that node or on one before it",
                self.from
            ),
            format!(
                "put that node's namespaces/{name}/data in its place here and start it; or, where they are given up, begin \
                 its chain anew with other blocks: `cvp namespace start {name} --anew`, or forget it: `cvp namespace destroy {name}`"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{BoundNamespace, Lineage};
    use crate::types::{Digest, Hostname, NodeId};

    fn name(name: &str) -> Namespace {
        Namespace::new(name).unwrap()
    }

    #[test]
    fn what_no_handshake_agreed_on_was_never_copied() {
        let binding = Binding {
            node_id: NodeId([1; 16]),
            hostname: Hostname::new("node1").unwrap(),
            lineage: Lineage::default(),
            namespaces: vec![BoundNamespace {
                namespace: name("ns1"),
                genesis: Digest::of(b"genesis"),
            }],
        };
        let found = uncopied(["global", "ns1", "ns2", "ns3"].map(name), &binding);
        assert_eq!(found, [name("ns2"), name("ns3")].into());
    }

    #[test]
    fn it_starts_with_blocks_or_anew_on_purpose_and_not_otherwise() {
        let left = Uncopied {
            names: [name("ns1")].into(),
            from: "node1 10.0.0.1:50011".to_owned(),
        };
        let start = |of: &str, role, tip, anew| {
            let started = left.may_start(&name(of), Found { role, tip, anew });
            started.map_err(|refusal| refusal.code)
        };
        let (vp, nvp) = (NodeRole::Vp, NodeRole::Nvp);
        for tip in [None, Some(0)] {
            assert_eq!(start("ns1", vp, tip, false), Err("never-copied".into()));
            assert_eq!(start("ns1", vp, tip, true), Ok(Beginning::Settled));
            assert_eq!(start("ns2", vp, tip, false), Ok(Beginning::Plain), "it is none of them");
            assert_eq!(start("ns1", nvp, tip, false), Ok(Beginning::Plain), "it follows");
        }
        assert_eq!(start("ns1", vp, Some(7), false), Ok(Beginning::Settled));
        assert_eq!(start("ns1", vp, Some(7), true), Err("not-anew".into()));
        assert_eq!(start("ns2", vp, None, true), Err("not-anew".into()));
        let said = left.refusal(&name("ns1"));
        assert!(said.text.contains("node1 10.0.0.1:50011"), "{said}");
        assert!(said.hint.contains("namespace start ns1 --anew"), "{said}");
    }
}
