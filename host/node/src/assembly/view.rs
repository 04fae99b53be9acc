//! The status of a node: what the pair says, and what assembly itself knows beside it.

use std::sync::Arc;

use cvp_core::config::{NodeConfig, Problem};
use cvp_core::replication::{PairStatus, Phase};
use cvp_core::types::Millis;

use super::chains::Held;
use super::node::Ready;
use crate::ipc::{HeldView, NamespaceView, PeerView, QueuesView, ReasonView, StatusView};
use crate::namespace::{Chain, ChainSet, ChainState};
use crate::telemetry::counters;

/// The view of what the pair's machine says; `now` is its clock. Without a session the peer is the one that is dialled.
pub(super) fn of_pair(status: &PairStatus, now: Millis, config: &NodeConfig) -> StatusView {
    let mut view = StatusView::of(status, now);
    if view.peer.is_none() {
        view.peer = config.dynamic.cvp.remote.first().map(|remote| PeerView {
            hostname: remote.hostname.to_string(),
            address: remote.address.clone(),
            since: None,
            tls: config.system.p2p.enable_tls,
        });
    }
    view
}

/// A node whose pair does not answer: nothing is proven.
pub(super) fn without_pair(chains: &ChainSet, config: &NodeConfig) -> StatusView {
    let namespace = |chain: &Arc<Chain>| NamespaceView {
        name: chain.namespace().to_string(),
        role: chain.options().role.as_str().to_owned(),
        phase: Phase::Detached.as_str().to_owned(),
        tip: chain.tips().durable.height,
        ..NamespaceView::default()
    };
    StatusView {
        role: config.role().to_string(),
        hostname: config.dynamic.hostname.to_string(),
        enabled: config.dynamic.cvp.enable,
        reasons: vec![ReasonView::new(
            "no-replication",
            "the pair's task does not answer; see the log, and start the node again",
        )],
        namespaces: chains.all().iter().map(namespace).collect(),
        ..StatusView::default()
    }
}

/// Adds what the pair's machine cannot know: addresses, counters, chains that stopped, history, and the configuration's warnings.
pub(super) fn add_local(view: &mut StatusView, chains: &ChainSet, ready: &Ready, config: &NodeConfig) {
    view.commits_waited_on_link = counters::commits_waited_on_link();
    view.jsonrpc.clone_from(&ready.jsonrpc);
    view.jsonrpc_tls = ready.https;
    view.p2p.clone_from(&ready.p2p);
    view.metrics.clone_from(&ready.metrics);
    env!("CARGO_PKG_VERSION").clone_into(&mut view.version);
    for chain in chains.all() {
        let failed = match chain.state() {
            ChainState::Failed(refusal) => Some(refusal),
            _ => chain.no_room(),
        };
        if let Some(refusal) = failed {
            view.normal = false;
            let reason = ReasonView::from(&refusal);
            let message = format!("{}: {}", chain.namespace(), reason.message);
            view.reasons.push(ReasonView { message, ..reason });
        }
        let entry = view
            .namespaces
            .iter_mut()
            .find(|n| n.name == chain.namespace().as_str());
        let (Some(entry), Some(ns)) = (entry, config.namespaces.get(chain.namespace())) else {
            continue;
        };
        entry.history_from = chain.ledger().history_from();
        if let Some(left) = chain.takes_none_for().filter(|_| entry.role == "vp") {
            let text = format!(
                "no transaction is taken for {} s more: this node began from a snapshot and might take one twice; clients make theirs again then",
                left.as_secs() + 1
            );
            entry.warnings.push(ReasonView::new("transactions-wait", text));
        }
        if ns.genesis.development {
            entry.warnings.push(ReasonView::new(
                "development-genesis",
                "the keys of the funded accounts are public; use this chain for trials only",
            ));
        }
    }
}

/// Adds the message queues; what is wrong with them is a warning: blocks go on.
pub(super) fn add_queues(view: &mut StatusView, queues: Vec<QueuesView>) {
    for of in queues {
        let mut namespaces = view.namespaces.iter_mut();
        let Some(entry) = namespaces.find(|entry| entry.name == of.namespace) else {
            continue;
        };
        if let Some(problem) = &of.problem {
            let code = match of.state.as_str() {
                "unreachable" => "queues-unreachable",
                "blocked" => "queues-blocked",
                "failed" => "queues-failed",
                _ => "queue-refused",
            };
            entry.warnings.push(ReasonView::new(code, problem.clone()));
        }
        if let Some(left) = of.left_in_words().filter(|_| of.left_now) {
            entry.warnings.push(ReasonView::new("queues-left", left));
        }
        if let Some(missing) = of.missing_in_words() {
            entry.warnings.push(ReasonView::new("queues-miss-blocks", missing));
        }
        entry.mq = Some(of);
    }
}

/// Adds the namespaces that are configured and do not run.
pub(super) fn add_held(view: &mut StatusView, held: &Held) {
    view.held = held
        .iter()
        .map(|(name, refusal)| {
            let ReasonView { code, message } = ReasonView::from(refusal);
            HeldView {
                name: name.to_string(),
                code,
                message,
            }
        })
        .collect();
}

/// An upgrade that stopped in the middle comes before everything else.
pub(super) fn add_unfinished(view: &mut StatusView) {
    let text = "an upgrade has begun and did not end: this node serves nothing until it has; `cvp upgrade` or a start of \
                the node goes on, `cvp upgrade --dry-run` shows what is left; keep the old provider down";
    view.normal = false;
    view.reasons
        .insert(0, ReasonView::new("upgrade-unfinished", text.to_owned()));
}

/// Remarks of the configuration, for the log at the start.
pub(super) fn log_warnings(warnings: &[Problem]) {
    for warning in warnings {
        if warning.unsupported {
            tracing::warn!(target: "cvp::config", "{warning}");
        } else {
            tracing::info!(target: "cvp::config", "{warning}");
        }
    }
}
