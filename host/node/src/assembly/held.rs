//! Namespaces that a promotion could not take over: they do not run here until another `cvp upgrade` takes them over, which says in the
//! lineage where the incarnation begins there.

use std::sync::Arc;

use cvp_core::config::NodeConfig;
use cvp_core::ledger::LedgerError;
use cvp_core::promotion::{HeldNamespace, Plan};
use cvp_core::record;
use cvp_core::types::{Namespace, Position, Refusal};

use super::chains::Held;
use super::namespaces::{close_down, draft_start};
use super::node::Node;
use super::uncopied;
use crate::config::Root;
use crate::namespace::Chain;
use crate::promotion::{Standing, not_taken_over};

/// Takes what the journal holds out of the configuration that the node runs with, and what was never copied.
pub(super) fn kept_back(root: &Root, standing: &Standing, config: &mut NodeConfig) -> Held {
    let mut held = uncopied::kept_back(root, &standing.uncopied, config);
    for namespace in &standing.held {
        config.namespaces.remove(&namespace.name);
        let listed = config.dynamic.namespaces.iter();
        // One that the operator stopped is nobody's concern until it is tried again.
        if listed.clone().any(|entry| entry.name == namespace.name && entry.start) {
            held.insert(namespace.name.clone(), not_taken_over(namespace));
        }
    }
    held
}

impl Node {
    /// As [`kept_back`], on a node whose chains are open: what is held is closed, and what the provider had stopped before this node
    /// followed.
    pub(super) fn keep_back(&self, standing: &Standing, config: &mut NodeConfig) {
        let kept_back = kept_back(&self.root, standing, config);
        let stopped = self.chains.names();
        for name in stopped.iter().filter(|name| !config.namespaces.contains_key(*name)) {
            if let Some(chain) = self.chains.remove(name.as_str()) {
                self.tasks.block_on(close_down(chain));
            }
        }
        self.held.lock().extend(kept_back);
    }

    /// Closes what could not be taken over, and goes on without. On a thread that may wait.
    pub(super) fn hold(self: &Arc<Self>, held: &[HeldNamespace]) -> Result<(), Refusal> {
        let mut gone = Vec::new();
        for namespace in held {
            let refusal = not_taken_over(namespace);
            self.held.lock().insert(namespace.name.clone(), refusal);
            gone.extend(self.take_out(&namespace.name));
        }
        self.go_on_waiting(gone)
    }

    /// Opens what a late plan takes over; what cannot be opened is held by the step that follows.
    pub(super) fn take_in(self: &Arc<Self>, plan: &Plan) -> Result<(), Refusal> {
        for namespace in &plan.namespaces {
            let name = &namespace.name;
            if self.chains.get(name.as_str()).is_some() {
                continue;
            }
            let opened = draft_start(&self.root, name).and_then(|(_, ns)| {
                let chain = self.opener.open(name, &ns, self.chains.names().len() + 1)?;
                Ok((chain, ns))
            });
            match opened {
                Ok((chain, ns)) => {
                    self.chains.insert(chain);
                    self.held.lock().remove(name);
                    self.change_config(|config| {
                        config.namespaces.insert(name.clone(), ns.clone());
                    });
                }
                Err(failure) => {
                    self.held.lock().insert(name.clone(), failure.to_refusal());
                }
            }
        }
        self.go_on_waiting(Vec::new())
    }

    fn go_on_waiting(self: &Arc<Self>, gone: Vec<Arc<Chain>>) -> Result<(), Refusal> {
        if self.replication().is_some() {
            let gone_on = self.tasks.block_on(self.go_on(gone));
            return gone_on.map_err(|failure| failure.to_refusal());
        }
        for chain in gone {
            self.tasks.block_on(close_down(chain));
        }
        Ok(())
    }

    /// The last durable block of a namespace that does not run, below the take-over block that an earlier try may have made. Opens it, and
    /// closes it again.
    pub(super) fn look_into(&self, name: &Namespace, above: &Plan) -> Result<Position, Refusal> {
        let (_, ns) = draft_start(&self.root, name).map_err(|failure| failure.to_refusal())?;
        let opened = self.opener.open(name, &ns, self.chains.names().len() + 1);
        let chain = opened.map_err(|failure| failure.to_refusal())?;
        let below = last_before(&chain, above);
        self.tasks.block_on(close_down(chain));
        below
    }
}

fn last_before(chain: &Chain, above: &Plan) -> Result<Position, Refusal> {
    let failed = |error: LedgerError| error.refusal();
    chain.ledger().sync().map_err(failed)?;
    let tip = chain.ledger().tips().durable;
    let bytes = chain.ledger().record(tip.height).map_err(failed)?;
    let header = bytes.as_ref().map(|bytes| record::parse(bytes)).transpose();
    let header = header.map_err(|error| Refusal::new("bad-record", error.to_string(), "run `cvp verify`"))?;
    match header.map(|record| record.header().clone()) {
        Some(header) if header.incarnation == above.new && tip.height > 0 => Ok(Position {
            height: tip.height - 1,
            hash: header.parent,
        }),
        _ => Ok(tip),
    }
}
