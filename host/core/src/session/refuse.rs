//! Every refusal of the handshake, in one place: code, both values, and what the operator can do. A status shows them as
//! `refused-<code>`, apart from `diverged`, `fenced` and `receiver-ahead`, which keep their own name.

use crate::config::INDEX_SWITCH;
use crate::types::{Digest, Height, Hostname, Incarnation, Malformed, Namespace, NodeId, Position, Refusal};

use super::{FOLLOWERS_MAX, LineageFork, PROTOCOL, TakeOver};

pub(crate) fn version(theirs: (u16, u16), program: &str) -> Refusal {
    Refusal::new(
        "version",
        format!(
            "protocol {}.{} here, {}.{} there (program {program:?})",
            PROTOCOL.0, PROTOCOL.1, theirs.0, theirs.1
        ),
        "install releases that are at most one apart; upgrade the CVP first",
    )
}

pub(crate) fn record_format(theirs: &[u16], ours: &[u16]) -> Refusal {
    Refusal::new(
        "record-format",
        format!("record formats {ours:?} here, {theirs:?} there: none in common"),
        "install releases that are at most one apart; upgrade the CVP first",
    )
}

pub(crate) fn malformed(what: &str, error: &Malformed) -> Refusal {
    Refusal::new(
        "malformed",
        format!("{what} cannot be read: {error}"),
        "the peer is no cvp node of this release line",
    )
}

pub(crate) fn unexpected(what: &str) -> Refusal {
    Refusal::new(
        "protocol",
        format!("unexpected {what}"),
        "a defect of this program or its peer: report it with both logs",
    )
}

/// A session of one kind met a machine of the other.
pub(crate) fn other_kind() -> Refusal {
    unexpected("kind of session in a hello")
}

pub(crate) fn too_many_followers(asking: &Hostname) -> Refusal {
    Refusal::new(
        "too-many-followers",
        format!("this node serves {FOLLOWERS_MAX} followers; {asking} would be one more"),
        "let it follow another VP: name several in its [[nodes]]",
    )
}

pub(crate) fn older_follower(hostname: &Hostname) -> Refusal {
    Refusal::new(
        "lower-incarnation",
        format!("{hostname} follows this node already, under a later incarnation"),
        "this is an old node that was replaced by an upgrade: it follows nobody any more",
    )
}

pub(crate) fn standby_moved() -> Refusal {
    Refusal::new(
        "standby-moved",
        "this node's standby listens elsewhere now: dial again",
        "",
    )
}

/// What a follower heard before was of another node under this name.
pub(crate) fn other_followed(hostname: &Hostname, known: &NodeId, found: &NodeId) -> Refusal {
    Refusal::new(
        "other-provider",
        format!("{hostname} was met with node-id {known}, this one has {found}"),
        format!(
            "if {hostname} was set up anew on purpose, stop the follower and remove its system/cvp/followed/{hostname}"
        ),
    )
}

pub(crate) fn not_served(namespace: &Namespace, provider: &Hostname) -> Refusal {
    Refusal::new(
        "namespace-not-served",
        format!("namespace {namespace}: {provider} makes no blocks of it"),
        "name its VP in [[nodes]] of its ns_dynamic.toml",
    )
}

/// What one chain is to the other, where nobody is a standby: the words of a refusal in those of a follower.
pub(crate) fn of_follower(refusal: Refusal, provider: &Hostname) -> Refusal {
    let text = refusal.text.replace("the standby", "the follower");
    let text = text.replace("the provider", provider.as_str());
    if refusal.code == "history-missing" {
        // What is wrong is no chain, and copied anew it would begin below what is kept as well.
        return Refusal { text, ..refusal };
    }
    Refusal {
        text,
        hint: "nothing was overwritten; where the VP is right, stop the follower, move its namespaces/<namespace>/data away and start it: it is copied anew".into(),
        ..refusal
    }
}

pub(crate) fn tls(ours: bool, theirs: bool) -> Refusal {
    Refusal::new(
        "tls",
        format!("enableTLS is {ours} here and {theirs} there"),
        "set enableTLS to the same value in both nodes' system.toml",
    )
}

pub(crate) fn wrong_name(expected: &str, found: &Hostname) -> Refusal {
    Refusal::new(
        "wrong-name",
        format!("cvp.remote names {expected:?}, the node there is {found}"),
        "correct cvp.remote on the CVP",
    )
}

pub(crate) fn same_node(node_id: &NodeId) -> Refusal {
    Refusal::new(
        "same-node",
        format!("both nodes have the node-id {node_id}"),
        "a standby must not be a copy of its provider's root: make it with `cvp init`; a node that was replaced becomes a standby with `cvp clear --yes --as-standby-of \"HOST IP:PORT\"`",
    )
}

pub(crate) fn disabled() -> Refusal {
    Refusal::new(
        "disabled",
        "cvp.enable is false on the provider",
        "run `cvp enable` on the provider",
    )
}

pub(crate) fn not_provider() -> Refusal {
    Refusal::new(
        "not-provider",
        "this node is a receiver itself",
        "point cvp.remote at the provider",
    )
}

pub(crate) fn fenced(by: &Incarnation) -> Refusal {
    Refusal::new(
        "fenced",
        format!("this node is fenced: incarnation {by} took its place"),
        "point cvp.remote at the promoted node; this one becomes its standby with `cvp clear --yes --as-standby-of`",
    )
}

pub(crate) fn unproven(take_over: &TakeOver, told_by: &str) -> Refusal {
    Refusal::new(
        "take-over-unproven",
        format!(
            "a node at {told_by} says that incarnation {} took the place of {}, and proves it neither with the node key of {} nor with a TLS certificate of that name",
            take_over.new, take_over.old, take_over.hostname
        ),
        "if the standby was upgraded, stop this node; if not, find out who is there",
    )
}

pub(crate) fn certificate_name(claimed: &Hostname, carried: &[String]) -> Refusal {
    Refusal::new(
        "certificate-name",
        format!(
            "the node says that it is {claimed}, and its TLS certificate carries {}",
            carried.join(", ")
        ),
        "the certificate must carry the node's hostname (cvp certgen --host NAME), or set p2p.tlsServerHostOverride to a shared name on both nodes",
    )
}

pub(crate) fn second_standby(serving: &Hostname, asking: &Hostname) -> Refusal {
    Refusal::new(
        "second-standby",
        format!("this provider serves the standby {serving}; {asking} is a second one"),
        "a provider serves one standby: stop the other first",
    )
}

pub(crate) fn other_node_id(bound: &NodeId, found: &NodeId) -> Refusal {
    Refusal::new(
        "other-provider",
        format!("the standby is bound to the provider with node-id {bound}, this one has {found}"),
        "correct cvp.remote, or run `cvp clear` on the standby to protect another node",
    )
}

pub(crate) fn other_hostname(bound: &Hostname, found: &Hostname) -> Refusal {
    Refusal::new(
        "other-provider",
        format!("the standby is bound to the provider {bound}, this one is {found}"),
        "correct cvp.remote, or run `cvp clear` on the standby to protect another node",
    )
}

pub(crate) fn genesis(namespace: &Namespace, receiver: &Digest, provider: &Digest) -> Refusal {
    Refusal::new(
        "genesis",
        format!("namespace {namespace}: genesis {receiver} on the standby, {provider} on the provider"),
        format!(
            "to protect this provider, stop the standby, run `cvp clear` there, and put the provider's configuration/{namespace}/ns_genesis.toml in the place of the standby's own"
        ),
    )
}

pub(crate) fn namespaces(receiver: &[&Namespace], provider: &[&Namespace]) -> Refusal {
    Refusal::new(
        "namespaces",
        format!("namespaces {receiver:?} on the standby, {provider:?} on the provider: none in common"),
        "every node runs global: see the logs of both",
    )
}

/// Namespaces that are named one by one.
const NAMED_MAX: usize = 8;

/// Of each namespace that differs: the receiver's switch and the provider's.
pub(crate) fn index_switch(differing: &[(&Namespace, bool, bool)]) -> Refusal {
    let named = differing.iter().take(NAMED_MAX).map(|(namespace, receiver, provider)| {
        format!("namespace {namespace}: {INDEX_SWITCH} is {receiver} on the standby, {provider} on the provider")
    });
    let mut text = named.collect::<Vec<_>>().join("; ");
    if let Some(more) = differing.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("; and {more} namespaces more"));
    }
    Refusal::new(
        "index-switch",
        text,
        "set it to the same value in ns_static.toml on both nodes, and start the one anew that was changed",
    )
}

/// What an index-check strategy of this end, `id`, says.
pub(crate) fn index_check(namespace: &Namespace, id: &str, reason: &str) -> Refusal {
    Refusal::new(
        "index-check",
        format!("namespace {namespace}: {reason}"),
        format!("the index-check strategy {id} says so: see strategy.index-check in ns_static.toml"),
    )
}

pub(crate) fn lower_incarnation(known: &Incarnation, found: Option<Incarnation>) -> Refusal {
    Refusal::new(
        "lower-incarnation",
        format!("the provider speaks as incarnation {found:?}; {known} was already met"),
        "this is an old provider that was replaced by an upgrade: point cvp.remote at the promoted node",
    )
}

pub(crate) fn forked(fork: &LineageFork) -> Refusal {
    Refusal::new(
        "forked",
        format!(
            "two nodes were promoted from one: incarnations {} and {} part at height {}",
            fork.ours, fork.theirs, fork.height
        ),
        "decide which node is right, stop the other for good, and clear and re-attach the standby",
    )
}

pub(crate) fn diverged(namespace: &Namespace, height: Height, receiver: &Digest, provider: Option<&Digest>) -> Refusal {
    let provider = provider.map_or_else(|| "no record".to_owned(), |hash| hash.to_string());
    Refusal::new(
        "diverged",
        format!("namespace {namespace}, height {height}: {receiver} on the standby, {provider} on the provider"),
        "nothing was overwritten: run `cvp verify` on both; if the provider is right, `cvp clear --yes` on the standby copies it anew",
    )
}

pub(crate) fn receiver_ahead(namespace: &Namespace, receiver: &Position, provider: &Position) -> Refusal {
    Refusal::new(
        "receiver-ahead",
        format!(
            "namespace {namespace}: the standby holds {} {}, the provider ends at {} {}",
            receiver.height, receiver.hash, provider.height, provider.hash
        ),
        "the provider lost blocks that it had made durable (an old disk or backup?): do not go on before you know which is right",
    )
}

pub(crate) fn history_missing(namespace: &Namespace, tip: Height, from: Height) -> Refusal {
    Refusal::new(
        "history-missing",
        format!("namespace {namespace}: the standby ends at {tip}, the provider keeps records from {from}"),
        format!(
            "no follower begins from a snapshot by itself: let it follow a node that keeps more, or stop it and a node that has the chain \
             (a standby will do), put that node's namespaces/{namespace}/data, without data/mq, in the \
             place of the follower's, and start both; ledger.keep_blocks says how far back the followers of a node may be"
        ),
    )
}

pub(crate) fn superseded() -> Refusal {
    Refusal::new(
        "superseded",
        "a newer session of the same standby replaced this one",
        "",
    )
}

pub(crate) fn silent(millis: u64) -> Refusal {
    Refusal::new(
        "silent",
        format!("nothing heard for {millis} ms"),
        "check the network and the other node",
    )
}
