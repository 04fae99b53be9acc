//! What the preflight is told: the world as it looks from the node that is to be promoted.

use cvp_core::promotion::{
    KeyState, NamespaceView, Plan, PortState, PortView, PreflightView, ProbeAnswer, StrategyView, TargetProbe,
    TlsNameView,
};
use cvp_core::types::NodeRole;

use super::tree;
use crate::world::World;

impl World {
    pub(super) fn survey(&mut self, node: usize, target_is_down: bool) -> Result<PreflightView, String> {
        let now = self.now;
        let machine = &self.nodes[node];
        let binding = machine.binding()?;
        let status = machine.pair.as_ref().map(|pair| pair.status(now));
        let heard = status.as_ref().and_then(|status| status.last_heard);
        let own = machine.config.dynamic.hostname.clone();
        let config = match &binding {
            None => tree::check(&machine.disk, None),
            Some(binding) => {
                let (namespaces, held) = self.planned_namespaces(node)?;
                let plan = Plan::draft(binding, own.clone(), Vec::new(), namespaces, held, [0; 16]);
                let plan = plan.map_err(|refusal| refusal.to_string())?;
                tree::check(&machine.disk, Some(&plan))
            }
        };
        Ok(PreflightView {
            provider: binding.as_ref().map(|binding| binding.hostname.clone()),
            unreadable: None,
            target_is_down,
            allow_missing_keys: false,
            begin_anew: false,
            heartbeat_ms: machine.config.dynamic.cvp.heartbeat_ms,
            last_heard_ms_ago: heard.map(|heard| now.saturating_sub(heard)),
            probes: self.probes(node),
            namespaces: self.namespace_views(node)?,
            behind: Vec::new(),
            tls_name: TlsNameView::Names(
                binding
                    .map(|binding| binding.hostname.to_string())
                    .into_iter()
                    .collect(),
            ),
            tls_override: None,
            copy: tree::copy_state(&machine.disk),
            lacking: {
                let copy = &machine.disk.copy;
                copy.told.as_ref().and_then(|told| told.lacking(&copy.written))
            },
            config,
            unfit: Vec::new(),
            uninstalled: Vec::new(),
            ports: vec![PortView {
                key: "port.grpc".into(),
                address: format!("{}:1", machine.name),
                state: PortState::Ours,
            }],
            indexes: Ok(Vec::new()),
        })
    }

    fn namespace_views(&self, node: usize) -> Result<Vec<NamespaceView>, String> {
        let machine = &self.nodes[node];
        let status = machine.pair.as_ref().map(|pair| pair.status(self.now));
        let strategy = StrategyView {
            kind: "chain-sync".into(),
            id: "default".into(),
            version: "1.0.0".into(),
            sha256: "01".into(),
        };
        let (planned, held) = self.planned_namespaces(node)?;
        let planned = planned.into_iter().map(|ns| (ns.name, Ok(ns.durable)));
        let held = held.into_iter().map(|ns| (ns.name, Err(ns.reason)));
        let view = |(name, chain)| {
            let seen = status.iter().flat_map(|status| &status.namespaces);
            NamespaceView {
                provider_tip: seen.filter(|ns| ns.name == name).map(|ns| ns.tip).next(),
                name,
                role: NodeRole::Vp,
                chain,
                staged: None,
                history_from: 0,
                fills_to: None,
                waits_seconds: 0,
                untold: Vec::new(),
                queues_unreadable: None,
                keys: KeyState::Match,
                provider_strategies: vec![strategy.clone()],
                own_strategies: vec![strategy.clone()],
            }
        };
        Ok(planned.chain(held).map(view).collect())
    }

    fn probes(&self, node: usize) -> Vec<TargetProbe> {
        let remotes = self.nodes[node].config.dynamic.cvp.remote.iter();
        remotes
            .map(|remote| TargetProbe {
                target: format!("link {remote}"),
                answer: self.probe_target(node, &remote.address),
            })
            .collect()
    }

    fn probe_target(&self, node: usize, address: &str) -> ProbeAnswer {
        let Some(target) = self.node_at(address) else {
            return ProbeAnswer::Unreached("no such host".into());
        };
        if self.is_cut_off(node, target) {
            ProbeAnswer::TimedOut
        } else if !self.nodes[target].is_up() {
            ProbeAnswer::Refused
        } else if self.nodes[target].frozen_until > self.now {
            ProbeAnswer::Silent
        } else {
            ProbeAnswer::Answered(format!("hello of {}", self.nodes[target].hostname))
        }
    }
}
