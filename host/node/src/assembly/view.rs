//! The status view of a node, from what the pair says and from what assembly itself knows.

use std::time::{Duration, SystemTime};

use cvp_core::config::{NodeConfig, PairRole, Problem};
use cvp_core::replication::{NamespaceStatus, PairStatus, Phase as CorePhase, StrategyRun, StrategyStatus};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Millis, Refusal};

use super::node::Ready;
use crate::ipc::{IncarnationView, NamespaceView, PeerView, Phase, ReasonView, StatusView, StrategyView};
use crate::namespace::{ChainSet, ChainState};

/// The view of what the pair's machine says; `now` is its clock.
pub(super) fn of_pair(status: &PairStatus, now: Millis, ready: &Ready, config: &NodeConfig) -> StatusView {
    let role = match status.role {
        Role::Provider => PairRole::Provider,
        Role::Receiver => PairRole::Receiver,
    };
    StatusView {
        normal: status.normal,
        role: role.to_string(),
        hostname: status.hostname.to_string(),
        node_id: Some(status.node_id.to_string()),
        incarnation: status.incarnation.map(|incarnation| IncarnationView {
            number: incarnation.number,
            id: hex::encode(incarnation.id),
        }),
        enabled: status.enabled,
        peer: peer(status, now, config),
        reasons: status.reasons.iter().map(reason).collect(),
        warnings: status.warnings.iter().map(|text| warning(text)).collect(),
        namespaces: status.namespaces.iter().map(namespace).collect(),
        jsonrpc: ready.jsonrpc.clone(),
        p2p: ready.p2p.clone(),
        metrics: ready.metrics.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// A node whose pair does not answer: nothing is proven.
pub(super) fn without_pair(chains: &ChainSet, ready: &Ready, config: &NodeConfig) -> StatusView {
    StatusView {
        normal: false,
        role: config.role().to_string(),
        hostname: config.dynamic.hostname.to_string(),
        node_id: None,
        incarnation: None,
        enabled: config.dynamic.cvp.enable,
        peer: None,
        reasons: vec![ReasonView::new(
            "no-replication",
            "the pair's task does not answer; see the log, and start the node again",
        )],
        warnings: Vec::new(),
        namespaces: chains
            .all()
            .iter()
            .map(|chain| NamespaceView {
                name: chain.namespace().to_string(),
                role: chain.options().role.as_str().to_owned(),
                phase: Phase::Detached,
                tip: chain.tips().durable.height,
                durable: 0,
                lag_blocks: 0,
                lag_bytes: 0,
                lag_seconds: 0.0,
                history_from: 0,
                strategies: Vec::new(),
                overrides: Vec::new(),
                warnings: Vec::new(),
            })
            .collect(),
        jsonrpc: ready.jsonrpc.clone(),
        p2p: ready.p2p.clone(),
        metrics: ready.metrics.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Adds what the pair's machine cannot know: chains that stopped, history, and the configuration's warnings.
pub(super) fn add_local(view: &mut StatusView, chains: &ChainSet, config: &NodeConfig) {
    for chain in chains.all() {
        if let ChainState::Failed(refusal) = chain.state() {
            view.normal = false;
            let message = format!("{}: {}", chain.namespace(), reason(&refusal).message);
            view.reasons.push(ReasonView::new(&refusal.code, message));
        }
        let entry = view
            .namespaces
            .iter_mut()
            .find(|n| n.name == chain.namespace().as_str());
        let (Some(entry), Some(ns)) = (entry, config.namespaces.get(chain.namespace())) else {
            continue;
        };
        entry.history_from = chain.ledger().history_from();
        if ns.genesis.development {
            entry.warnings.push(ReasonView::new(
                "development-genesis",
                "the keys of the funded accounts are public; use this chain for trials only",
            ));
        }
    }
}

/// Remarks of the configuration, for the log at the start.
pub(super) fn log_warnings(warnings: &[Problem]) {
    for warning in warnings {
        tracing::info!("{warning}");
    }
}

/// The peer of the session, or the one that is dialled.
fn peer(status: &PairStatus, now: Millis, config: &NodeConfig) -> Option<PeerView> {
    if let Some(peer) = &status.peer {
        return Some(PeerView {
            hostname: peer.hostname.to_string(),
            address: peer.address.clone(),
            since: Some(wall_clock(now.saturating_sub(peer.since))),
            tls: peer.tls,
        });
    }
    let remote = config.dynamic.cvp.remote.first()?;
    Some(PeerView {
        hostname: remote.hostname.to_string(),
        address: remote.address.clone(),
        since: None,
        tls: config.system.p2p.enable_tls,
    })
}

/// The second that was `ago` milliseconds ago, RFC 3339.
fn wall_clock(ago: Millis) -> String {
    let then = SystemTime::now()
        .checked_sub(Duration::from_millis(ago))
        .unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(then).to_string()
}

fn reason(refusal: &Refusal) -> ReasonView {
    let message = if refusal.hint.is_empty() {
        refusal.text.clone()
    } else {
        format!("{}; {}", refusal.text, refusal.hint)
    };
    ReasonView::new(&refusal.code, message)
}

/// The machine's warnings are texts that begin with their code when they have one: `code: text`.
fn warning(text: &str) -> ReasonView {
    match text.split_once(": ") {
        Some((code, rest)) if !code.contains(' ') => ReasonView::new(code, rest),
        _ => ReasonView::new("warning", text),
    }
}

fn namespace(status: &NamespaceStatus) -> NamespaceView {
    NamespaceView {
        name: status.name.to_string(),
        role: status.role.as_str().to_owned(),
        phase: match status.phase {
            CorePhase::Detached => Phase::Detached,
            CorePhase::Handshake => Phase::Handshake,
            CorePhase::Bootstrap => Phase::Bootstrap,
            CorePhase::CatchUp => Phase::CatchUp,
            CorePhase::Live => Phase::Live,
        },
        tip: status.tip,
        durable: status.durable,
        lag_blocks: status.lag_blocks,
        lag_bytes: status.lag_bytes,
        lag_seconds: status.lag_ms as f64 / 1_000.0,
        history_from: 0,
        strategies: status.strategies.iter().map(strategy).collect(),
        overrides: status.overrides.clone(),
        warnings: status.warnings.iter().map(|text| warning(text)).collect(),
    }
}

fn strategy(status: &StrategyStatus) -> StrategyView {
    let state = match status.run {
        StrategyRun::Running if status.defaulted => "default",
        StrategyRun::Running => "running",
        StrategyRun::Restarting => "restarting",
        StrategyRun::Quarantined => "quarantined",
    };
    StrategyView {
        kind: status.id.kind.clone(),
        id: status.id.id.clone(),
        version: status.id.version.clone(),
        state: state.to_owned(),
        faults: status.faults,
    }
}
