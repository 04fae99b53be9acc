//! What a change of the configuration does to the node that runs: which keys are in force at once, and which after a start.

use std::time::Duration;

use cvp_core::config::NodeConfig;

use super::node::Node;
use super::ports;
use crate::replication::limits;
use crate::telemetry::{LogLevels, RollAt};

/// Keys that are in force at once, with all below them.
const AT_ONCE: [(&str, &str); 12] = [
    ("dynamic.toml", "cvp.max_rate"),
    ("dynamic.toml", "cvp.retain_bytes"),
    ("dynamic.toml", "cvp.strong_timeout"),
    ("dynamic.toml", "log.dump_interval"),
    ("dynamic.toml", "log.max_log_size"),
    ("dynamic.toml", "log.module"),
    ("dynamic.toml", "p2p.ip.self"),
    ("system.toml", "log.log_level"),
    ("system.toml", "http.allowedOrigins"),
    ("system.toml", "http.request"),
    ("ns_dynamic.toml", "log.module"),
    ("ns_static.toml", "rpc.qps.flowCtrl"),
];

/// Of which the configuration's reader says that this release does little with them; what it does, it does from the next start on.
const HALF_KEPT: [(&str, &str); 1] = [("ns_static.toml", "database.indexdb")];

/// Labels: read by people alone.
const LABELS: [(&str, &str); 1] = [("system.toml", "title")];

/// When a changed key is in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// At once.
    Now,
    /// After the next start: of the node, or of the namespace whose file it is.
    Restart,
    /// Never: this node does nothing with it.
    Never,
}

impl Effect {
    /// As answers spell it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Effect::Now => "now",
            Effect::Restart => "restart",
            Effect::Never => "never",
        }
    }
}

/// The effect of a change of `key` in `file` (below `configuration/`); `ignored`: the configuration's reader says that the key means
/// nothing here.
pub(super) fn effect(file: &str, key: &str, ignored: bool) -> Effect {
    let name = match file.rsplit_once('/') {
        Some((_, name)) => name,
        None => file,
    };
    let below = |of: &str| {
        key.strip_prefix(of)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if AT_ONCE.iter().any(|(of, keys)| *of == name && below(keys)) && !(ignored && below("log.module")) {
        return Effect::Now;
    }
    let half_kept = HALF_KEPT.iter().any(|(of, keys)| *of == name && below(keys));
    if (ignored && !half_kept) || LABELS.contains(&(name, key)) {
        Effect::Never
    } else {
        Effect::Restart
    }
}

/// Which lines the log takes.
pub(super) fn log_levels(config: &NodeConfig) -> LogLevels {
    let namespaces = config.namespaces.iter();
    LogLevels {
        default: config.system.log.log_level,
        system: config.dynamic.log.modules.clone(),
        namespaces: namespaces
            .map(|(name, ns)| (name.to_string(), ns.dynamic.log_modules.clone()))
            .collect(),
    }
}

/// When the log begins a new file.
pub(super) fn log_rolling(config: &NodeConfig) -> RollAt {
    let log = &config.dynamic.log;
    RollAt {
        age: Duration::from_millis(log.dump_interval_ms),
        bytes: log.file_bytes_max,
    }
}

impl Node {
    /// The log and what JSON-RPC says and takes follow `config`: at the start, after a change of role or of the namespaces.
    pub(super) fn follow_config(&self, config: &NodeConfig) {
        self.logs.set_levels(log_levels(config));
        self.logs.set_rolling(log_rolling(config));
        self.rpc.set_facts(ports::facts(config));
        self.rpc.set_flow_control(&ports::flow_control(config));
    }

    /// Takes over from `loaded` what a running node follows.
    pub(super) async fn take_effect(&self, loaded: &NodeConfig) {
        self.change_config(|config| take_over(config, loaded));
        let config = self.config();
        self.follow_config(&config);
        if let Some(server) = &*self.http.lock().await {
            server.set_options(ports::http_options(&config));
        }
        if let Some(replication) = self.replication() {
            replication.set_limits(limits(&config)).await;
        }
    }
}

/// The keys of [`AT_ONCE`], and no other.
fn take_over(config: &mut NodeConfig, loaded: &NodeConfig) {
    let (cvp, new) = (&mut config.dynamic.cvp, &loaded.dynamic.cvp);
    (cvp.max_rate, cvp.strong_timeout_ms) = (new.max_rate, new.strong_timeout_ms);
    cvp.retain_bytes = new.retain_bytes;
    config.dynamic.log = loaded.dynamic.log.clone();
    config.dynamic.domain.clone_from(&loaded.dynamic.domain);
    config.dynamic.self_addresses.clone_from(&loaded.dynamic.self_addresses);
    config.system.log.log_level = loaded.system.log.log_level;
    let (http, new) = (&mut config.system.http, &loaded.system.http);
    http.allowed_origins.clone_from(&new.allowed_origins);
    (http.body_bytes_max, http.read_timeout_ms) = (new.body_bytes_max, new.read_timeout_ms);
    for (name, ns) in &mut config.namespaces {
        if let Some(new) = loaded.namespaces.get(name) {
            ns.dynamic.log_modules.clone_from(&new.dynamic.log_modules);
            ns.fixed.flow_control = new.fixed.flow_control.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_says_when_it_is_in_force() {
        for (file, key, wanted) in [
            ("dynamic.toml", "cvp.max_rate", "now"),
            ("dynamic.toml", "cvp.max_rates", "restart"),
            ("dynamic.toml", "cvp.heartbeat", "restart"),
            ("dynamic.toml", "cvp.remote", "restart"),
            ("dynamic.toml", "port.jsonrpc", "restart"),
            ("dynamic.toml", "log.module.cvp", "now"),
            ("system.toml", "log.log_level", "now"),
            ("system.toml", "log.log_dir", "restart"),
            ("system.toml", "title", "never"),
            ("system.toml", "http.security", "restart"),
            ("system.toml", "http.request.read_timeout", "now"),
            ("global/ns_dynamic.toml", "log.module.db", "now"),
            ("ns2/ns_static.toml", "rpc.qps.flowCtrl.limit", "now"),
            ("global/ns_dynamic.toml", "consensus.pool.batch_size", "restart"),
            // Of another file these are other keys.
            ("global/ns_dynamic.toml", "cvp.max_rate", "restart"),
        ] {
            assert_eq!(effect(file, key, false).as_str(), wanted, "{file} {key}");
        }
        assert_eq!(effect("dynamic.toml", "cvp.later", true), Effect::Never);
        assert_eq!(effect("dynamic.toml", "log.module.audit", true), Effect::Never);
        let index = effect("ns1/ns_static.toml", "database.indexdb.layer1.enable", true);
        assert_eq!(index, Effect::Restart);
        // More than a client gets is said, and the rest of it is in force.
        assert_eq!(effect("system.toml", "http.request.read_timeout", true), Effect::Now);
    }
}
