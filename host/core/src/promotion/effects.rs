//! What the steps write, decided from the plan and from what is there already: a step that is done again after a crash finds its own
//! work and leaves it alone.

use super::plan::{Plan, PlannedNamespace};
use crate::chain::takeover_delta;
use crate::record::Delta;
use crate::session::{Binding, Identity, Start};
use crate::types::{Digest, Incarnation, Refusal};

/// What step `identity` writes before the binding goes: the provider's node-id, and its lineage with this promotion's incarnation, which
/// begins in the namespaces of the plan. `None` when that is written already.
///
/// # Errors
/// The binding is gone although the identity was not written, or the lineage cannot grow.
pub fn promoted_identity(
    plan: &Plan,
    own: Option<&Identity>,
    binding: Option<&Binding>,
) -> Result<Option<Identity>, Refusal> {
    let starts = plan
        .namespaces
        .iter()
        .map(|ns| Start {
            namespace: ns.name.clone(),
            first: ns.durable.height + 1,
            parent: ns.durable.hash,
        })
        .collect();
    if let Some(own) = own.filter(|own| own.lineage.current() == Some(plan.new)) {
        let lineage = own.lineage.with_starts(starts);
        let further = lineage != own.lineage;
        #[cfg(feature = "planted-faults")]
        let further = further && !crate::planted::active(crate::planted::Fault::LateStartForgotten);
        return Ok(further.then_some(Identity {
            node_id: own.node_id,
            lineage,
        }));
    }
    let binding = binding.ok_or_else(|| {
        Refusal::new(
            "not-bound",
            "this node is bound to no provider",
            "see the check backup-complete",
        )
    })?;
    let extended = binding.lineage.extended(plan.new, starts, plan.signature.clone());
    let lineage = extended.map_err(|error| {
        Refusal::new(
            "lineage",
            error.to_string(),
            "this node has heard of a later incarnation: clear it",
        )
    })?;
    Ok(Some(Identity {
        node_id: plan.node_id,
        lineage,
    }))
}

/// The changes of the take-over block of `namespace`; `None` when the block is there already. `below` is the hash found at the plan's
/// height, `above` the incarnation of the record over it.
///
/// # Errors
/// The chain does not end where the plan says: nothing may be made on it.
pub fn takeover_changes(
    plan: &Plan,
    namespace: &PlannedNamespace,
    below: Option<Digest>,
    above: Option<Incarnation>,
) -> Result<Option<Delta>, Refusal> {
    let moved = |what: String| {
        let text = format!("namespace {}: {what}", namespace.name);
        Err(Refusal::new("chain-moved", text, "run `cvp verify` and report this"))
    };
    let height = namespace.durable.height;
    if below != Some(namespace.durable.hash) {
        let planned = namespace.durable.hash.short();
        return moved(format!(
            "record {height} is not {planned}, which the upgrade began with"
        ));
    }
    #[cfg(feature = "planted-faults")]
    let above = above.filter(|_| !crate::planted::active(crate::planted::Fault::TakeoverRepeated));
    match above {
        Some(incarnation) if incarnation == plan.new => Ok(None),
        Some(other) => moved(format!("record {} is of incarnation {other}", height + 1)),
        None => Ok(Some(Delta(takeover_delta(plan.old, plan.new, height)))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::tests::plan;
    use super::*;
    use crate::session::{BoundNamespace, Lineage};
    use crate::types::{Namespace, NodeId};

    fn binding() -> Binding {
        let plan = plan();
        Binding {
            node_id: plan.node_id,
            hostname: plan.hostname.clone(),
            lineage: Lineage::begin(plan.old),
            namespaces: vec![BoundNamespace {
                namespace: plan.namespaces[0].name.clone(),
                genesis: Digest::of(b"genesis"),
            }],
        }
    }

    #[test]
    fn the_identity_is_written_once_and_goes_on_from_the_binding() {
        let own = Identity {
            node_id: NodeId([1; 16]),
            lineage: Lineage::default(),
        };
        let written = promoted_identity(&plan(), Some(&own), Some(&binding()))
            .unwrap()
            .unwrap();
        assert_eq!(written.node_id, plan().node_id);
        let reigns = written.lineage.reigns();
        assert_eq!((reigns[0].incarnation, reigns[1].incarnation), (plan().old, plan().new));
        assert_eq!(reigns[1].starts[0].first, plan().namespaces[0].durable.height + 1);
        // The crash came before the binding was removed, or after.
        assert_eq!(promoted_identity(&plan(), Some(&written), Some(&binding())), Ok(None));
        assert_eq!(promoted_identity(&plan(), Some(&written), None), Ok(None));
        assert_eq!(
            promoted_identity(&plan(), Some(&own), None).unwrap_err().code,
            "not-bound"
        );
        // What was held is taken over later, by the same incarnation.
        let ns1 = Namespace::new("ns1").unwrap();
        let late = plan().late(
            vec![PlannedNamespace {
                name: ns1.clone(),
                ..plan().namespaces[0].clone()
            }],
            Vec::new(),
        );
        let further = promoted_identity(&late, Some(&written), None).unwrap().unwrap();
        let begins = &further.lineage.reigns()[1].starts;
        assert_eq!((begins.len(), &begins[1].namespace), (2, &ns1));
        assert_eq!(promoted_identity(&late, Some(&further), None), Ok(None));
        let mut later = binding();
        later.lineage = Lineage::begin(Incarnation { number: 9, id: [9; 16] });
        assert_eq!(
            promoted_identity(&plan(), Some(&own), Some(&later)).unwrap_err().code,
            "lineage"
        );
    }

    #[test]
    fn the_take_over_block_is_made_once_and_on_the_planned_record_only() {
        let (plan, below) = (plan(), Some(Digest::of(b"tip")));
        let namespace = &plan.namespaces[0];
        let made = takeover_changes(&plan, namespace, below, None).unwrap().unwrap();
        assert_eq!(made.0, takeover_delta(plan.old, plan.new, 120));
        assert_eq!(takeover_changes(&plan, namespace, below, Some(plan.new)), Ok(None));
        for (below, above) in [
            (below, Some(plan.old)),
            (None, None),
            (Some(Digest::of(b"another")), Some(plan.new)),
        ] {
            let refusal = takeover_changes(&plan, namespace, below, above).unwrap_err();
            assert_eq!(refusal.code, "chain-moved", "{below:?} {above:?}");
        }
    }
}
