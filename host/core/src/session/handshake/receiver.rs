//! The receiver's states: it checks the provider's reply, and binds itself before it says yes.

use crate::frame::NamespaceTag;
use crate::types::{Refusal, Writer};

use super::follower::{check_chain, check_served, leave_out};
use super::{
    AgreedNamespace, Agreement, NamespaceTip, Own, Provider, alone, check_binding, check_chains, is_bound, read_hello,
};
use crate::session::{
    Binding, BoundNamespace, Hello, Lineage, NAMESPACES_MAX, SessionKind, Standing, copies_behind, refuse,
    stopped_chains,
};

/// Receiver: the hello is sent.
#[derive(Debug)]
pub struct ExpectReply {
    nonce: [u8; 16],
}

/// Receiver: the provider is right. The binding must be durable before the provider hears so.
#[derive(Debug)]
pub struct Confirmed {
    agreement: Agreement,
    binding: Binding,
}

impl ExpectReply {
    /// The hello to send, and the state after it.
    pub fn open(own: &Own, nonce: [u8; 16]) -> (Hello, ExpectReply) {
        (own.hello(nonce, &|_| None), ExpectReply { nonce })
    }

    /// Checks the provider's reply; `dialled` is the name that `cvp.remote` gives the address.
    pub fn on_hello(self, own: &Own, dialled: Option<&str>, payload: &[u8]) -> Result<Confirmed, Refusal> {
        let hello = read_hello(own, payload)?;
        if hello.nonce != self.nonce {
            return Err(refuse::unexpected("hello of another session"));
        }
        if let Some(dialled) = dialled
            && dialled != hello.hostname.as_str()
        {
            return Err(refuse::wrong_name(dialled, &hello.hostname));
        }
        if let Some(binding) = &own.binding {
            let geneses = hello
                .namespaces
                .iter()
                .map(|offer| (&offer.namespace, &offer.genesis))
                .collect();
            check_binding(
                own.kind,
                binding,
                &Provider {
                    node_id: &hello.node_id,
                    hostname: &hello.hostname,
                    geneses,
                },
            )?;
            check_lineage(&binding.lineage, &hello.lineage)?;
        }
        check_chains(own, &hello)?;
        let mut namespaces = Vec::with_capacity(own.namespaces.len());
        let mut left_out = Vec::new();
        for own_ns in &own.namespaces {
            let Some(offer) = hello.offer(&own_ns.namespace) else {
                continue;
            };
            let provider = NamespaceTip {
                tip: offer.tip,
                at_receiver: offer.at_peer_tip,
                history_from: offer.history_from,
            };
            if let Err(refusal) = check_chain(own, own_ns, offer, &own_ns.tip, &provider) {
                leave_out(own, &hello.hostname, &own_ns.namespace, refusal, &mut left_out)?;
                continue;
            }
            namespaces.push(AgreedNamespace {
                namespace: own_ns.namespace.clone(),
                tag: NamespaceTag::of(&own_ns.namespace),
                start: own_ns.tip,
                provider_tip: offer.tip,
                history_from: provider.keeps_from(&own_ns.tip),
                provider_role: offer.role,
                their_strategies: offer.strategies.clone(),
                their_index: offer.index.clone(),
            });
        }
        check_served(own, &hello, &hello.hostname, &namespaces, &mut left_out)?;
        let (extra, missing) = alone(own, &hello);
        let mut behind = copies_behind(&stopped_chains(&hello.self_section), &stopped_chains(&own.self_section));
        behind.retain(|it| is_bound(own.binding.as_ref(), &it.namespace));
        let binding = Binding {
            node_id: hello.node_id,
            hostname: hello.hostname.clone(),
            lineage: hello.lineage.clone(),
            namespaces: bound(own, &namespaces),
        };
        let agreement = Agreement {
            peer_hostname: hello.hostname,
            peer_node_id: hello.node_id,
            peer_listen: hello.listen,
            provider_lineage: hello.lineage,
            provider_self: hello.self_section,
            nonce: self.nonce,
            namespaces,
            missing,
            extra,
            left_out,
            behind,
        };
        Ok(Confirmed { agreement, binding })
    }
}

/// What was copied before stays bound, also while it is stopped; what is copied from here on is bound as well.
fn bound(own: &Own, agreed: &[AgreedNamespace]) -> Vec<BoundNamespace> {
    if own.kind == SessionKind::Follower {
        return Vec::new();
    }
    let before = own.binding.iter().flat_map(|binding| binding.namespaces.clone());
    let mut bound: Vec<BoundNamespace> = before.collect();
    for own_ns in &own.namespaces {
        let known = bound.iter().any(|bound| bound.namespace == own_ns.namespace);
        if !known && agreed.iter().any(|agreed| agreed.namespace == own_ns.namespace) {
            bound.push(BoundNamespace {
                namespace: own_ns.namespace.clone(),
                genesis: own_ns.genesis,
            });
        }
    }
    bound.truncate(NAMESPACES_MAX);
    bound
}

/// The provider's lineage must be the known one or go on from it.
fn check_lineage(known: &Lineage, found: &Lineage) -> Result<(), Refusal> {
    #[cfg(feature = "planted-faults")]
    if crate::planted::active(crate::planted::Fault::LowerIncarnationAccepted) {
        return Ok(());
    }
    match known.stand_to(found) {
        Standing::Same | Standing::Behind => Ok(()),
        Standing::Ahead => Err(known.current().map_or_else(
            || refuse::unexpected("lineage"),
            |known| refuse::lower_incarnation(&known, found.current()),
        )),
        Standing::Forked(fork) => Err(refuse::forked(&fork)),
    }
}

impl Confirmed {
    /// What must be durable before [`Confirmed::persisted`].
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// The binding is durable: the verdict to send, and the agreement.
    pub fn persisted(self) -> (Vec<u8>, Agreement) {
        let mut out = Writer::new();
        out.raw(&self.agreement.nonce);
        (out.into_bytes(), self.agreement)
    }
}
