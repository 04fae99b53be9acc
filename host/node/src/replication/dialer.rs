//! Dials for the machine: a session at every address of `cvp.remote` at once, a question or a notice at one.

use std::collections::HashMap;
use std::sync::Arc;

use cvp_core::config::Remote;
use cvp_core::replication::{DialPurpose, PeerTls};
use cvp_core::types::{Hostname, Millis, Refusal};
use tokio::task::JoinSet;

use crate::link::{Link, LinkError, Peer, Proof, SharedTls, dial};

/// Reads `cvp.remote` afresh; an unreadable file is the refusal.
pub type Remotes = Arc<dyn Fn() -> Result<Vec<Remote>, Refusal> + Send + Sync>;

/// A link that connected, and what it was dialled by.
pub(super) type Dialled = Result<(Link, Remote), Refusal>;

/// How long a node that said no is dialled after the others.
const SHUN_MS: Millis = 60_000;
/// What a node that is not the right one says, or what is said of it.
const SHUNNED_CODES: [&str; 6] = [
    "fenced",
    "not-provider",
    "other-provider",
    "lower-incarnation",
    "forked",
    "wrong-name",
];

/// Addresses of nodes that are not the right one. An old provider answers faster than the node that took its place; it must not shadow it.
#[derive(Default)]
pub(super) struct Shunned(HashMap<String, Millis>);

impl Shunned {
    /// A session at `address` was refused with `code`.
    pub(super) fn note(&mut self, address: &str, code: &str, now: Millis) {
        if SHUNNED_CODES.contains(&code) {
            self.0.insert(address.to_owned(), now);
        }
    }

    /// Those that are dialled last now.
    pub(super) fn addresses(&mut self, now: Millis) -> Vec<String> {
        self.0.retain(|_, at| now < *at + SHUN_MS);
        self.0.keys().cloned().collect()
    }
}

/// Dials for `purpose`. `known` names the hosts behind addresses that are not in `cvp.remote` (any more); a session goes to those that
/// are `shunned` only when no other connects.
pub(super) async fn dial_for(
    purpose: DialPurpose,
    remotes: Remotes,
    known: Vec<Remote>,
    shunned: &[String],
    tls: SharedTls,
) -> Dialled {
    let targets = match &purpose {
        DialPurpose::Session => remotes()?,
        DialPurpose::Question { address } | DialPurpose::Notice { address } => {
            let listed = remotes().unwrap_or_default();
            let named = known
                .into_iter()
                .chain(listed)
                .filter(|remote| remote.address == *address);
            let targets: Vec<Remote> = named.take(1).collect();
            if targets.is_empty() {
                return Err(Refusal::new("unreachable", format!("nobody is known at {address}"), ""));
            }
            targets
        }
    };
    if targets.is_empty() {
        let hint = "write \"<hostname> <ip:port>\" of the provider into cvp.remote of dynamic.toml";
        return Err(Refusal::new("unreachable", "cvp.remote names nobody", hint));
    }
    let (last, first): (Vec<Remote>, Vec<Remote>) = targets
        .into_iter()
        .partition(|remote| shunned.contains(&remote.address));
    if first.is_empty() || last.is_empty() {
        return first_of([first, last].concat(), tls).await;
    }
    match first_of(first, tls.clone()).await {
        Ok(linked) => Ok(linked),
        Err(_) => first_of(last, tls).await,
    }
}

async fn first_of(targets: Vec<Remote>, tls: SharedTls) -> Dialled {
    let mut dials = JoinSet::new();
    for remote in targets {
        let tls = tls.clone();
        dials.spawn(async move {
            let linked = dial(&remote, tls.as_deref()).await;
            (remote, linked)
        });
    }
    let mut worst: Option<Refusal> = None;
    while let Some(done) = dials.join_next().await {
        match done {
            Ok((remote, Ok(link))) => return Ok((link, remote)),
            Ok((remote, Err(error))) => {
                let refusal = refusal_of(&remote, &error);
                // A refused certificate says more than an address where nobody listens.
                if worst.as_ref().is_none_or(|known| known.code == "unreachable") {
                    worst = Some(refusal);
                }
            }
            Err(error) => tracing::debug!(%error, "dial"),
        }
    }
    Err(worst.unwrap_or_else(|| Refusal::new("unreachable", "no address answered", "")))
}

/// The network's failures are one code for the machine; every other is a refusal of the link.
fn refusal_of(remote: &Remote, error: &LinkError) -> Refusal {
    let mut refusal = error.refusal();
    if is_network(error) {
        refusal.code = "unreachable".into();
    }
    refusal.text = format!("{} at {}: {}", remote.hostname, remote.address, refusal.text);
    refusal
}

fn is_network(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::Unreachable(..) | LinkError::ConnectionRefused(_) | LinkError::Lost(_) | LinkError::Silent { .. }
    )
}

/// What the machine is told of the far end. A link that was accepted has shown no name to check yet: whether its certificate is one that both
/// nodes share is read from it.
pub(super) fn describe(peer: &Peer, dialled: Option<&Hostname>, tls: &SharedTls) -> PeerTls {
    let certificate = peer.certificate.as_ref();
    let shared_name = tls.as_ref().and_then(|tls| tls.shared_name());
    let shared = certificate.is_some_and(|certificate| match dialled {
        Some(_) => certificate.proof == Proof::Membership,
        None => {
            shared_name.is_some_and(|name| certificate.names.names.iter().any(|own| own.eq_ignore_ascii_case(name)))
        }
    });
    PeerTls {
        address: peer.address.to_string(),
        tls: certificate.is_some(),
        dialled: dialled.map(ToString::to_string),
        not_after: certificate.map(|certificate| certificate.names.not_after),
        names: certificate.map_or_else(Vec::new, |certificate| certificate.names.names.clone()),
        shared,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::link::Listener;

    #[tokio::test]
    async fn a_node_that_said_no_is_dialled_when_no_other_connects() {
        let (send, mut accepted) = mpsc::channel(8);
        let old = Listener::bind("127.0.0.1:0", None, send.clone()).await.unwrap();
        let new = Listener::bind("127.0.0.1:0", None, send).await.unwrap();
        tokio::spawn(async move { while accepted.recv().await.is_some() {} });
        let [old_at, new_at] = [&old, &new].map(|listener| listener.address().to_string());
        let entries: Vec<Remote> = [&old_at, &new_at]
            .map(|address| format!("node1 {address}").parse().unwrap())
            .to_vec();
        let remotes: Remotes = Arc::new(move || Ok(entries.clone()));
        let mut shunned = Shunned::default();
        shunned.note(&old_at, "fenced", 0);
        shunned.note(&new_at, "busy", 0);
        let dial = |shunned: Vec<String>| {
            let remotes = Arc::clone(&remotes);
            async move { dial_for(DialPurpose::Session, remotes, Vec::new(), &shunned, None).await }
        };
        // Whichever answers first, ten times over.
        for _ in 0..10 {
            let (_, remote) = dial(shunned.addresses(1)).await.unwrap();
            assert_eq!(remote.address, new_at);
        }
        drop(new);
        let (_, remote) = dial(shunned.addresses(1)).await.unwrap();
        assert_eq!(remote.address, old_at);
        assert!(shunned.addresses(SHUN_MS).is_empty());
    }
}
