//! The status view of a node, from what the pair says and from what assembly itself knows.

use cvp_core::config::{NodeConfig, Problem};

use crate::ipc::{NamespaceView, ReasonView, StatusView};
use crate::namespace::{ChainSet, ChainState};

/// Adds what the pair's machine cannot know: chains that stopped, and the configuration's warnings.
pub(super) fn add_local(view: &mut StatusView, chains: &ChainSet, config: &NodeConfig) {
    for chain in chains.all() {
        if let ChainState::Failed(refusal) = chain.state() {
            view.normal = false;
            let message = format!("{}: {}; {}", chain.namespace(), refusal.text, refusal.hint);
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
            entry.warnings.push(development_warning());
        }
    }
}

fn development_warning() -> ReasonView {
    ReasonView::new(
        "development-genesis",
        "the keys of the funded accounts are public; use this chain for trials only",
    )
}

/// Warnings of the configuration, for the log at the start.
pub(super) fn log_warnings(warnings: &[Problem]) {
    for warning in warnings {
        tracing::info!("{warning}");
    }
}

/// A namespace without a peer.
pub(super) fn detached(chains: &ChainSet) -> Vec<NamespaceView> {
    chains
        .all()
        .iter()
        .map(|chain| {
            let durable = chain.tips().durable.height;
            NamespaceView {
                name: chain.namespace().to_string(),
                role: chain.options().role.as_str().to_owned(),
                phase: crate::ipc::Phase::Detached,
                tip: durable,
                durable: 0,
                lag_blocks: durable,
                lag_bytes: 0,
                lag_seconds: 0.0,
                history_from: chain.ledger().history_from(),
                strategies: Vec::new(),
                overrides: Vec::new(),
                warnings: Vec::new(),
            }
        })
        .collect()
}
