//! The states of the handshake, one type each: a check that is skipped does not compile, because the next state is made by the check.
//! Here stand the checks that both ends make, with the same code, and the proof that all were made.
//!
//! Provider: [`ExpectHello`] -> [`LookUp`] (the host looks up its hashes at the receiver's tips) -> [`ExpectVerdict`] -> [`Agreement`].
//! Receiver: [`ExpectReply`] -> [`Confirmed`] (the binding is made durable) -> [`Agreement`].

mod follower;
mod provider;
mod receiver;

use crate::frame::NamespaceTag;
use crate::types::strategy::Role;
use crate::types::{Digest, Height, Hostname, Namespace, NodeId, NodeRole, Position, Refusal};

use super::hello::{NamespaceOffer, PROTOCOL};
use super::{Binding, CopyBehind, Hello, IndexOffer, Lineage, SessionKind, StrategyId, TakeOver, refuse};

pub use provider::{ExpectHello, ExpectVerdict, LookUp};
pub use receiver::{Confirmed, ExpectReply};

/// Record formats this release reads.
const RECORD_FORMATS: [u16; 1] = [1];

/// One namespace of this node, as the handshake sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnNamespace {
    /// Its name.
    pub namespace: Namespace,
    /// This node's role in it.
    pub role: NodeRole,
    /// Hash of record 0.
    pub genesis: Digest,
    /// Durable tip.
    pub tip: Position,
    /// Oldest height kept.
    pub history_from: Height,
    /// The strategies it would run.
    pub strategies: Vec<StrategyId>,
    /// Its data index.
    pub index: IndexOffer,
}

/// This node, as the handshake sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Own {
    /// Which end.
    pub role: Role,
    /// What the session is to be.
    pub kind: SessionKind,
    /// Program version.
    pub program: String,
    /// Hostname.
    pub hostname: Hostname,
    /// Node-id.
    pub node_id: NodeId,
    /// A provider's incarnations.
    pub lineage: Lineage,
    /// A receiver's binding.
    pub binding: Option<Binding>,
    /// Whether the link must be TLS.
    pub tls: bool,
    /// Where it listens.
    pub listen: String,
    /// Its namespaces.
    pub namespaces: Vec<OwnNamespace>,
    /// `[self]`.
    pub self_section: Vec<(String, String)>,
}

/// Why a handshake stops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// This end says no.
    Refused(Refusal),
    /// The other end knows a later incarnation of our hostname: this provider is fenced, if that is proven.
    Taken(TakeOver),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl Own {
    fn hello(&self, nonce: [u8; 16], at_peer_tip: &dyn Fn(&Namespace) -> Option<Digest>) -> Hello {
        Hello {
            protocol: PROTOCOL,
            program: self.program.clone(),
            features: Vec::new(),
            record_formats: RECORD_FORMATS.to_vec(),
            kind: self.kind,
            hostname: self.hostname.clone(),
            node_id: self.node_id,
            lineage: self.lineage.clone(),
            binding: self.binding.clone(),
            tls: self.tls,
            nonce,
            listen: self.listen.clone(),
            namespaces: self
                .namespaces
                .iter()
                .map(|own| NamespaceOffer {
                    namespace: own.namespace.clone(),
                    role: own.role,
                    genesis: own.genesis,
                    tip: own.tip,
                    at_peer_tip: at_peer_tip(&own.namespace),
                    history_from: own.history_from,
                    strategies: own.strategies.clone(),
                    // A follower keeps an index of its own or none: that is nobody else's business.
                    index: (self.kind == SessionKind::Standby).then(|| own.index.clone()),
                })
                .collect(),
            self_section: self.self_section.clone(),
        }
    }
}

/// Whether a namespace was ever copied; that of one which was not is no older copy.
fn is_bound(binding: Option<&Binding>, namespace: &Namespace) -> bool {
    binding.is_some_and(|binding| binding.genesis(namespace).is_some())
}

/// Versions, and who speaks: what comes before binding and lineage.
fn read_hello(own: &Own, payload: &[u8]) -> Result<Hello, Refusal> {
    let protocol = Hello::peek_protocol(payload).map_err(|error| refuse::malformed("the hello", &error))?;
    if protocol.0 != PROTOCOL.0 {
        return Err(refuse::version(protocol, "unknown"));
    }
    let hello = Hello::decode(payload).map_err(|error| refuse::malformed("the hello", &error))?;
    if !hello
        .record_formats
        .iter()
        .any(|format| RECORD_FORMATS.contains(format))
    {
        return Err(refuse::record_format(&hello.record_formats, &RECORD_FORMATS));
    }
    if hello.node_id == own.node_id {
        return Err(refuse::same_node(&own.node_id));
    }
    if hello.kind != own.kind {
        return Err(refuse::other_kind());
    }
    Ok(hello)
}

/// TLS switch and chains: what comes after binding and lineage. A standby at a wrong provider is told that it is the wrong one, not that the
/// chains differ.
fn check_chains(own: &Own, hello: &Hello) -> Result<(), Refusal> {
    if hello.tls != own.tls {
        return Err(refuse::tls(own.tls, hello.tls));
    }
    check_namespaces(own, hello)?;
    check_index(own, hello)
}

/// Namespaces that only one end runs are no reason to refuse: the receiver aligns itself. What both run must be one chain.
fn check_namespaces(own: &Own, hello: &Hello) -> Result<(), Refusal> {
    if own.kind == SessionKind::Follower {
        // Each for itself: see `follower`.
        return Ok(());
    }
    let mut common = 0;
    for own_ns in &own.namespaces {
        let Some(offer) = hello.offer(&own_ns.namespace) else {
            continue;
        };
        common += 1;
        if offer.genesis != own_ns.genesis {
            let (receiver, provider) = match own.role {
                Role::Provider => (&offer.genesis, &own_ns.genesis),
                Role::Receiver => (&own_ns.genesis, &offer.genesis),
            };
            return Err(refuse::genesis(&own_ns.namespace, receiver, provider));
        }
    }
    if common == 0 {
        let ours: Vec<&Namespace> = own.namespaces.iter().map(|own| &own.namespace).collect();
        let theirs: Vec<&Namespace> = hello.namespaces.iter().map(|offer| &offer.namespace).collect();
        let (receiver, provider) = match own.role {
            Role::Provider => (&theirs, &ours),
            Role::Receiver => (&ours, &theirs),
        };
        return Err(refuse::namespaces(receiver, provider));
    }
    Ok(())
}

/// What both run is indexed on both or on neither: else an upgrade would lose what clients can ask, or nobody would keep it. A release that
/// does not tell cannot be compared with.
fn check_index(own: &Own, hello: &Hello) -> Result<(), Refusal> {
    #[cfg(feature = "planted-faults")]
    if crate::planted::active(crate::planted::Fault::IndexSwitchNotCompared) {
        return Ok(());
    }
    if own.kind == SessionKind::Follower {
        return Ok(());
    }
    let differing = own.namespaces.iter().filter_map(|own_ns| {
        let theirs = hello.offer(&own_ns.namespace)?.index.as_ref()?.enabled;
        let ours = own_ns.index.enabled;
        let (receiver, provider) = match own.role {
            Role::Provider => (theirs, ours),
            Role::Receiver => (ours, theirs),
        };
        (receiver != provider).then_some((&own_ns.namespace, receiver, provider))
    });
    let differing: Vec<_> = differing.collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(refuse::index_switch(&differing))
}

/// What runs here alone, and what runs there alone.
fn alone(own: &Own, hello: &Hello) -> (Vec<Namespace>, Vec<Namespace>) {
    if own.kind == SessionKind::Follower {
        return (Vec::new(), Vec::new());
    }
    let ours = own.namespaces.iter().map(|own| &own.namespace);
    let theirs = hello.namespaces.iter().map(|offer| &offer.namespace);
    (
        ours.clone()
            .filter(|name| hello.offer(name).is_none())
            .cloned()
            .collect(),
        theirs
            .filter(|name| !ours.clone().any(|own| own == *name))
            .cloned()
            .collect(),
    )
}

/// Checks a binding against a provider's identity; the same code on both ends.
fn check_binding(kind: SessionKind, binding: &Binding, provider: &Provider<'_>) -> Result<(), Refusal> {
    #[cfg(feature = "planted-faults")]
    if crate::planted::active(crate::planted::Fault::BindingNotChecked) {
        return Ok(());
    }
    if binding.node_id != *provider.node_id {
        if kind == SessionKind::Follower {
            return Err(refuse::other_followed(
                provider.hostname,
                &binding.node_id,
                provider.node_id,
            ));
        }
        return Err(refuse::other_node_id(&binding.node_id, provider.node_id));
    }
    if binding.hostname != *provider.hostname {
        return Err(refuse::other_hostname(&binding.hostname, provider.hostname));
    }
    for bound in &binding.namespaces {
        if let Some((namespace, genesis)) = provider
            .geneses
            .iter()
            .find(|(namespace, _)| **namespace == bound.namespace)
            && **genesis != bound.genesis
        {
            return Err(refuse::genesis(namespace, &bound.genesis, genesis));
        }
    }
    Ok(())
}

/// What a binding is compared with.
struct Provider<'a> {
    node_id: &'a NodeId,
    hostname: &'a Hostname,
    geneses: Vec<(&'a Namespace, &'a Digest)>,
}

/// The receiver's tip against the provider's chain; the same code on both ends.
fn check_tip(
    kind: SessionKind,
    namespace: &Namespace,
    receiver: &Position,
    provider: &NamespaceTip,
) -> Result<(), Refusal> {
    #[cfg(feature = "planted-faults")]
    if crate::planted::active(crate::planted::Fault::TipHashNotCompared) {
        return Ok(());
    }
    if receiver.height > provider.tip.height {
        return Err(refuse::receiver_ahead(namespace, receiver, &provider.tip));
    }
    if provider.keeps_from(receiver) > receiver.height + 1 {
        // A standby begins again from a snapshot: there is nothing that could be compared.
        if kind == SessionKind::Standby {
            return Ok(());
        }
        return Err(refuse::history_missing(
            namespace,
            receiver.height,
            provider.keeps_from(receiver),
        ));
    }
    let at_receiver = if receiver.height == provider.tip.height {
        Some(provider.tip.hash)
    } else {
        provider.at_receiver
    };
    if at_receiver != Some(receiver.hash) || provider.at_receiver.is_some_and(|hash| hash != receiver.hash) {
        return Err(refuse::diverged(
            namespace,
            receiver.height,
            &receiver.hash,
            at_receiver.as_ref(),
        ));
    }
    Ok(())
}

struct NamespaceTip {
    tip: Position,
    at_receiver: Option<Digest>,
    history_from: Height,
}

impl NamespaceTip {
    /// Oldest height kept. A record below the tip that is not found was let go since that was last said.
    fn keeps_from(&self, receiver: &Position) -> Height {
        if self.at_receiver.is_none() && receiver.height < self.tip.height {
            self.history_from.max(receiver.height + 2)
        } else {
            self.history_from
        }
    }
}

/// One namespace that both ends agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgreedNamespace {
    /// Its name.
    pub namespace: Namespace,
    /// Its tag in frames.
    pub tag: NamespaceTag,
    /// The receiver's durable tip when the handshake was made: both hold it, with this hash, unless it is below what the provider keeps.
    pub start: Position,
    /// The provider's durable tip then.
    pub provider_tip: Position,
    /// Oldest height that the provider keeps.
    pub history_from: Height,
    /// The provider's role.
    pub provider_role: NodeRole,
    /// The strategies the other end would run; where they differ, both run the embedded default.
    pub their_strategies: Vec<StrategyId>,
    /// The other end's data index, with the switch that this end has; none from a release that does not tell.
    pub their_index: Option<IndexOffer>,
}

/// The proof that all checks were made. Only the handshake makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agreement {
    peer_hostname: Hostname,
    peer_node_id: NodeId,
    peer_listen: String,
    provider_lineage: Lineage,
    provider_self: Vec<(String, String)>,
    nonce: [u8; 16],
    namespaces: Vec<AgreedNamespace>,
    missing: Vec<Namespace>,
    extra: Vec<Namespace>,
    left_out: Vec<(Namespace, Refusal)>,
    behind: Vec<CopyBehind>,
}

impl Agreement {
    /// The other end's hostname.
    pub fn peer_hostname(&self) -> &Hostname {
        &self.peer_hostname
    }
    /// The other end's node-id.
    pub fn peer_node_id(&self) -> &NodeId {
        &self.peer_node_id
    }
    /// Where the other end listens, as it said.
    pub fn peer_listen(&self) -> &str {
        &self.peer_listen
    }
    /// The provider's lineage.
    pub fn provider_lineage(&self) -> &Lineage {
        &self.provider_lineage
    }
    /// The provider's `[self]`.
    pub fn provider_self(&self) -> &[(String, String)] {
        &self.provider_self
    }
    /// The session's nonce.
    pub fn nonce(&self) -> &[u8; 16] {
        &self.nonce
    }
    /// What was agreed, a namespace each.
    pub fn namespaces(&self) -> &[AgreedNamespace] {
        &self.namespaces
    }
    /// Namespaces that the provider runs alone: the receiver starts them.
    pub fn missing(&self) -> &[Namespace] {
        &self.missing
    }
    /// Namespaces that the receiver runs alone: it stops them, unless the provider would run them if it could.
    pub fn extra(&self) -> &[Namespace] {
        &self.extra
    }
    /// Namespaces that a follower asked for and does not get, each with the reason.
    pub fn left_out(&self) -> &[(Namespace, Refusal)] {
        &self.left_out
    }
    /// Namespaces that neither end runs, and of which the receiver has less than the provider.
    pub fn behind(&self) -> &[CopyBehind] {
        &self.behind
    }
}
