//! The namespaces of this node in which another node makes the blocks: whom they follow, while this node may act as what it is, and how
//! the status tells of it and of those that follow this node.

use std::sync::Arc;

use cvp_core::config::NodeConfig;
use cvp_core::replication::{PairStatus, Phase};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Millis, Namespace, Refusal};

use super::node::Node;
use crate::config::Root;
use crate::ipc::{FollowerView, FollowsView, NamespaceView, PeerView, ReasonView, StatusView};
use crate::replication::{Addresses, Followed, Target, streams};

/// Where nodes are, read afresh from the disk at each dial.
pub(super) fn addresses(root: &Root) -> Addresses {
    let root = root.clone();
    Arc::new(move |hostname| match root.load() {
        Ok(loaded) => Ok(loaded.config.addresses_of(hostname)),
        Err(failure) => Err(Refusal {
            code: failure.code.into(),
            text: failure.message,
            hint: failure.help,
        }),
    })
}

impl Node {
    /// Follows where the configuration says so, and this node may act: one whose place was taken, or that does not know yet, follows
    /// nobody.
    pub(super) async fn follow(&self) {
        let Some(replication) = self.replication() else { return };
        let (config, standing) = (self.config(), replication.watch_standing().borrow().clone());
        if !standing.may_make || standing.fenced.is_some() {
            return self.following.stop().await;
        }
        let mut targets = Vec::new();
        for (name, candidates) in config.followed() {
            let (Some(chain), Some(ns)) = (self.chains.get(name.as_str()), config.namespaces.get(&name)) else {
                continue;
            };
            match self.fleet.follower(&name, ns) {
                Ok(strategies) => targets.push(Target {
                    chain,
                    candidates,
                    strategies,
                }),
                Err(failure) => tracing::error!(namespace = %name, "follow: {failure}"),
            }
        }
        if targets.is_empty() {
            return self.following.stop().await;
        }
        match self.setup(&config) {
            Ok((setup, _)) => self.following.set(setup, targets).await,
            Err(refusal) => tracing::error!("follow: {refusal}"),
        }
    }

    /// Adds whom this node follows and who follows it.
    pub(super) async fn add_following(&self, view: &mut StatusView, config: &NodeConfig) {
        for followed in self.following.view().await {
            for name in &followed.namespaces {
                let entry = view.namespaces.iter_mut().find(|entry| entry.name == name.as_str());
                if let Some(entry) = entry {
                    entry.follows = Some(follows(&followed, name, config));
                    warn(entry);
                }
            }
        }
        if let Some(replication) = self.replication() {
            let mut followers: Vec<FollowerView> = replication
                .followers()
                .await
                .iter()
                .filter_map(|(status, now)| follower(status, *now))
                .collect();
            followers.sort_by(|one, other| one.peer.hostname.cmp(&other.peer.hostname));
            view.followers = followers;
        }
    }
}

fn follows(followed: &Followed, name: &Namespace, config: &NodeConfig) -> FollowsView {
    let configured = config.addresses_of(&followed.hostname);
    let mut view = FollowsView {
        hostname: followed.hostname.to_string(),
        address: configured
            .first()
            .map(|remote| remote.address.clone())
            .unwrap_or_default(),
        phase: Phase::Detached.as_str().to_owned(),
        ..FollowsView::default()
    };
    let Some((status, now)) = &followed.status else {
        view.reason = Some(ReasonView::new(
            "vp-unreachable",
            "its session could not be opened; see the log",
        ));
        return view;
    };
    if let Some(peer) = &status.peer {
        let peer = PeerView::of(peer, *now);
        (view.address, view.since) = (peer.address, peer.since);
    }
    if let Some(ns) = status.namespaces.iter().find(|ns| ns.name == *name) {
        ns.phase.as_str().clone_into(&mut view.phase);
        (view.tip, view.lag_blocks, view.lag_seconds) = (ns.tip, ns.lag_blocks, ns.lag_ms as f64 / 1_000.0);
    }
    view.reason = match status.left_out.iter().find(|(left, _)| left == name) {
        Some((_, refusal)) => Some(ReasonView::from(refusal)),
        None if streams(status, name) => own_reason(status, name),
        None => {
            let said = status.reasons.first();
            said.map(|reason| ReasonView::new("vp-unreachable", ReasonView::from(reason).message))
        }
    };
    view
}

/// What is wrong in a session that streams; that it is catching up is no news.
fn own_reason(status: &PairStatus, name: &Namespace) -> Option<ReasonView> {
    let about = format!("{name}: ");
    let mut reasons = status.reasons.iter().filter(|reason| reason.code != "catching-up");
    let found = reasons.find(|reason| reason.text.starts_with(&about) || reason.code.ends_with("silent"));
    found.map(ReasonView::from)
}

/// The pair is normal or not whatever a VP does: what is wrong with it is a warning of the namespace.
fn warn(entry: &mut NamespaceView) {
    let Some(follows) = &entry.follows else { return };
    if let Some(reason) = &follows.reason {
        let message = format!("follows {}: {}", follows.hostname, reason.message);
        entry.warnings.push(ReasonView::new(&reason.code, message));
    }
}

fn follower(status: &PairStatus, now: Millis) -> Option<FollowerView> {
    debug_assert_eq!(status.role, Role::Provider);
    let peer = PeerView::of(status.peer.as_ref()?, now);
    let agreed = status.namespaces.iter().filter(|ns| ns.phase != Phase::Detached);
    Some(FollowerView {
        peer,
        namespaces: agreed.map(NamespaceView::from).collect(),
    })
}
