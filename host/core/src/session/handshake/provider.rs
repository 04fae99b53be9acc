//! The provider's states: it compares what a receiver says with its own chains, and leaves the last word to the receiver.

use crate::frame::NamespaceTag;
use crate::types::{Digest, Height, Hostname, Malformed, Namespace, NodeId, Reader, Refusal};

use super::follower::{check_chain, check_served, leave_out};
use super::{
    AgreedNamespace, Agreement, NamespaceTip, Own, Provider, Stop, alone, check_binding, check_chains, is_bound,
    read_hello,
};
use crate::session::claim::{Verdict, judge_lineage};
use crate::session::{Binding, Hello, copies_behind, refuse, stopped_chains};

/// Provider: a link was accepted, nothing read yet.
#[derive(Debug)]
pub struct ExpectHello {
    _made: (),
}

/// Provider: the receiver may attach, if the host finds the right hashes at its tips.
#[derive(Debug)]
pub struct LookUp {
    hello: Hello,
}

/// Provider: the reply is sent; the receiver has the last word.
#[derive(Debug)]
pub struct ExpectVerdict {
    agreement: Agreement,
}

impl ExpectHello {
    /// The state of a fresh link.
    pub fn open() -> ExpectHello {
        ExpectHello { _made: () }
    }

    /// Checks everything but the hashes.
    ///
    /// # Errors
    /// A refusal to be sent back, or the news that this provider was replaced.
    pub fn on_hello(self, own: &Own, payload: &[u8]) -> Result<LookUp, Stop> {
        let hello = read_hello(own, payload)?;
        if let Some(binding) = &hello.binding {
            let geneses = own
                .namespaces
                .iter()
                .map(|own| (&own.namespace, &own.genesis))
                .collect();
            check_binding(
                own.kind,
                binding,
                &Provider {
                    node_id: &own.node_id,
                    hostname: &own.hostname,
                    geneses,
                },
            )?;
            match heard_lineage(own, binding) {
                Verdict::Unmoved => {}
                Verdict::Taken(take_over) => return Err(Stop::Taken(take_over)),
                Verdict::Forked(refusal) => return Err(refusal.into()),
            }
        }
        check_chains(own, &hello)?;
        Ok(LookUp { hello })
    }
}

/// What the lineage that a standby heard says of us.
fn heard_lineage(own: &Own, binding: &Binding) -> Verdict {
    #[cfg(feature = "planted-faults")]
    if crate::planted::active(crate::planted::Fault::LowerIncarnationAccepted) {
        return Verdict::Unmoved;
    }
    judge_lineage(&own.node_id, &own.hostname, &own.lineage, &binding.lineage)
}

impl LookUp {
    /// The hello that was checked.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The heights whose hashes the host must find in its own ledgers: the receiver's tips.
    pub fn wanted(&self) -> Vec<(Namespace, Height)> {
        self.hello
            .namespaces
            .iter()
            .map(|offer| (offer.namespace.clone(), offer.tip.height))
            .collect()
    }

    /// Compares the hashes found with the receiver's; makes the reply.
    ///
    /// # Errors
    /// A refusal to be sent back.
    pub fn found(self, own: &Own, found: &[(Namespace, Option<Digest>)]) -> Result<(Hello, ExpectVerdict), Refusal> {
        let hash_of = |namespace: &Namespace| {
            found
                .iter()
                .find(|(name, _)| name == namespace)
                .and_then(|(_, hash)| *hash)
        };
        let mut namespaces = Vec::with_capacity(own.namespaces.len());
        let mut left_out = Vec::new();
        for own_ns in &own.namespaces {
            let Some(offer) = self.hello.offer(&own_ns.namespace) else {
                continue;
            };
            let provider = NamespaceTip {
                tip: own_ns.tip,
                at_receiver: hash_of(&own_ns.namespace),
                history_from: own_ns.history_from,
            };
            if let Err(refusal) = check_chain(own, own_ns, offer, &offer.tip, &provider) {
                leave_out(own, &own.hostname, &own_ns.namespace, refusal, &mut left_out)?;
                continue;
            }
            namespaces.push(AgreedNamespace {
                namespace: own_ns.namespace.clone(),
                tag: NamespaceTag::of(&own_ns.namespace),
                start: offer.tip,
                provider_tip: own_ns.tip,
                history_from: provider.keeps_from(&offer.tip),
                provider_role: own_ns.role,
                their_strategies: offer.strategies.clone(),
                their_index: offer.index.clone(),
            });
        }
        check_served(own, &self.hello, &own.hostname, &namespaces, &mut left_out)?;
        let (missing, extra) = alone(own, &self.hello);
        let mut behind = copies_behind(
            &stopped_chains(&own.self_section),
            &stopped_chains(&self.hello.self_section),
        );
        behind.retain(|it| is_bound(self.hello.binding.as_ref(), &it.namespace));
        let reply = own.hello(self.hello.nonce, &hash_of);
        let agreement = Agreement {
            peer_hostname: self.hello.hostname,
            peer_node_id: self.hello.node_id,
            peer_listen: self.hello.listen,
            provider_lineage: own.lineage.clone(),
            provider_self: own.self_section.clone(),
            nonce: self.hello.nonce,
            namespaces,
            missing,
            extra,
            left_out,
            behind,
        };
        Ok((reply, ExpectVerdict { agreement }))
    }
}

impl ExpectVerdict {
    /// Who is attaching.
    pub fn peer(&self) -> (&NodeId, &Hostname) {
        (&self.agreement.peer_node_id, &self.agreement.peer_hostname)
    }

    /// The receiver's yes.
    pub fn on_verdict(self, payload: &[u8]) -> Result<Agreement, Refusal> {
        let nonce: Result<[u8; 16], Malformed> = Reader::new(payload).array();
        match nonce {
            Ok(nonce) if nonce == self.agreement.nonce => Ok(self.agreement),
            Ok(_) => Err(refuse::unexpected("verdict of another session")),
            Err(error) => Err(refuse::malformed("the verdict", &error)),
        }
    }
}
