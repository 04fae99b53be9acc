//! What differs where a follower attaches: each namespace stands for itself. A chain that does not fit is left out with its reason, and the
//! others are followed; a standby, which is to hold the whole node, is refused for it.

use crate::types::{Hostname, Namespace, Position, Refusal};

use super::{AgreedNamespace, NamespaceTip, Own, OwnNamespace, check_tip};
use crate::session::{Hello, NamespaceOffer, SessionKind, refuse};
use crate::types::strategy::Role;

/// One chain on both ends, at the receiver's tip. A standby's genesis was compared before.
pub(super) fn check_chain(
    own: &Own,
    own_ns: &OwnNamespace,
    offer: &NamespaceOffer,
    receiver: &Position,
    provider: &NamespaceTip,
) -> Result<(), Refusal> {
    if own.kind == SessionKind::Follower && offer.genesis != own_ns.genesis {
        let (theirs, ours) = (&offer.genesis, &own_ns.genesis);
        return Err(match own.role {
            Role::Provider => refuse::genesis(&own_ns.namespace, theirs, ours),
            Role::Receiver => refuse::genesis(&own_ns.namespace, ours, theirs),
        });
    }
    check_tip(own.kind, &own_ns.namespace, receiver, provider)
}

/// A follower goes on without this chain; a standby does not.
pub(super) fn leave_out(
    own: &Own,
    provider: &Hostname,
    namespace: &Namespace,
    refusal: Refusal,
    left_out: &mut Vec<(Namespace, Refusal)>,
) -> Result<(), Refusal> {
    match own.kind {
        SessionKind::Standby => Err(refusal),
        SessionKind::Follower => {
            left_out.push((namespace.clone(), refuse::of_follower(refusal, provider)));
            Ok(())
        }
    }
}

/// A follower asks for what it follows; what the provider makes no blocks of is left out. Where nothing is left there is no session.
pub(super) fn check_served(
    own: &Own,
    hello: &Hello,
    provider: &Hostname,
    agreed: &[AgreedNamespace],
    left_out: &mut Vec<(Namespace, Refusal)>,
) -> Result<(), Refusal> {
    if own.kind == SessionKind::Standby {
        return Ok(());
    }
    let ours = own.namespaces.iter().map(|own| &own.namespace);
    let wanted: Vec<&Namespace> = match own.role {
        Role::Provider => hello.namespaces.iter().map(|offer| &offer.namespace).collect(),
        Role::Receiver => ours.collect(),
    };
    for namespace in &wanted {
        let known = agreed.iter().any(|agreed| agreed.namespace == **namespace)
            || left_out.iter().any(|(left, _)| left == *namespace);
        if !known {
            left_out.push(((*namespace).clone(), refuse::not_served(namespace, provider)));
        }
    }
    match left_out.first() {
        _ if !agreed.is_empty() => Ok(()),
        Some((_, refusal)) => Err(refusal.clone()),
        None => Err(refuse::unexpected("hello of a follower that follows nothing")),
    }
}
