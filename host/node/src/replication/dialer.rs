//! Dials for the machine: a session at every address of `cvp.remote` at once, a question or a notice at one.

use std::sync::Arc;

use cvp_core::config::Remote;
use cvp_core::replication::{DialPurpose, PeerTls};
use cvp_core::types::{Hostname, Refusal};
use tokio::task::JoinSet;

use crate::link::{Link, LinkError, Peer, Proof, SharedTls, dial};

/// Reads `cvp.remote` afresh; an unreadable file is the refusal.
pub type Remotes = Arc<dyn Fn() -> Result<Vec<Remote>, Refusal> + Send + Sync>;

/// A link that connected, and the name it was dialled by.
pub(super) type Dialled = Result<(Link, Hostname), Refusal>;

/// Dials for `purpose`. `known` names the hosts behind addresses that are not in `cvp.remote` (any more).
pub(super) async fn dial_for(purpose: DialPurpose, remotes: Remotes, known: Vec<Remote>, tls: SharedTls) -> Dialled {
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
    first_of(targets, tls).await
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
            Ok((remote, Ok(link))) => return Ok((link, remote.hostname)),
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

/// What the machine is told of the far end.
pub(super) fn describe(peer: &Peer, dialled: Option<&Hostname>) -> PeerTls {
    let shared = peer
        .certificate
        .as_ref()
        .is_some_and(|c| dialled.is_some() && c.proof == Proof::Membership);
    PeerTls {
        address: peer.address.to_string(),
        tls: peer.certificate.is_some(),
        dialled: dialled.map(ToString::to_string),
        not_after: peer.certificate.as_ref().map(|c| c.names.not_after),
        warning: shared.then(|| {
            "the TLS certificate proves membership only: its name is the shared one of p2p.tlsServerHostOverride"
                .to_owned()
        }),
    }
}
