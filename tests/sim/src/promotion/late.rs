//! What a promotion could not take over, tried again on the node that serves already.

use cvp_core::ledger::Ledger;
use cvp_core::promotion::{HeldNamespace, Plan, PlannedNamespace};
use cvp_core::record::parse;
use cvp_core::types::{Millis, Position};

use crate::node::Store;
use crate::world::{Ev, World};

/// The operator looks again after so long.
const AGAIN_MS: (Millis, Millis) = (500, 3_000);

impl World {
    /// `cvp upgrade` on the promoted node: takes over what is usable now.
    pub(super) fn upgrade_held(&mut self, node: usize) -> Result<(), String> {
        let machine = &mut self.nodes[node];
        let journal = machine.journal()?;
        let Some(last) = journal.plan().filter(|_| !journal.held().is_empty()) else {
            return Ok(());
        };
        let (mut namespaces, mut held) = (Vec::new(), Vec::new());
        for known in journal.held().values() {
            let store = machine.store(&known.name).ok_or("a held namespace without a store")?;
            store.open();
            match last_before(store, last)? {
                Some(durable) => namespaces.push(PlannedNamespace {
                    name: known.name.clone(),
                    role: known.role,
                    durable,
                }),
                None => held.push(HeldNamespace::new(known.name.clone(), known.role, "still not usable")),
            }
        }
        if namespaces.is_empty() {
            self.upgrade_again(node);
            return Ok(());
        }
        let late = last.late(namespaces, held);
        self.counts.late += 1;
        self.begin(node, journal, late)
    }

    /// The operator will see what is held.
    pub fn upgrade_again(&mut self, node: usize) {
        let delay = self.random.range(AGAIN_MS.0, AGAIN_MS.1);
        let target_is_down = false;
        self.later(delay, Ev::Upgrade { node, target_is_down });
    }

    /// What the take-over could not take runs no more.
    pub(super) fn hold(&mut self, node: usize) -> Result<(), String> {
        let machine = &self.nodes[node];
        let held = machine.held()?;
        if held.iter().any(|held| machine.runs(&held.name)) {
            self.counts.held += 1;
            self.go_on(node)?;
        }
        Ok(())
    }
}

/// The last durable block, below the take-over block that an earlier try may have made; none where the disk fails.
fn last_before(store: &Store, plan: &Plan) -> Result<Option<Position>, String> {
    if store.ledger.sync().and_then(|_| store.ledger.apply()).is_err() {
        return Ok(None);
    }
    let tip = store.durable();
    let bytes = store.ledger.record(tip.height).map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or("the last record is not applied")?;
    let record = parse(&bytes).map_err(|error| error.to_string())?;
    let header = record.header();
    Ok(Some(match header.incarnation == plan.new {
        true => Position {
            height: tip.height - 1,
            hash: header.parent,
        },
        false => tip,
    }))
}
