//! Whether a configuration can work on this machine: its ports, the files that its next start reads, the strategies it names. One judge for
//! `config set`, the status of a standby (of what an upgrade would run with) and the preflight.

use std::net::{SocketAddr, TcpListener};

use cvp_core::config::{NodeConfig, NsConfig};
use cvp_core::promotion::{PortState, PortView};
use cvp_core::types::Namespace;
use cvp_strategy::Plugin;

use super::node::Ready;
use super::ports;
use crate::config::Root;
use crate::replication::strategies::KINDS;

/// Keys of `system.toml` that stand for the files which a start reads.
const START_KEYS: [&str; 3] = ["p2p.enableTLS", "http.security", "log.log_dir"];

/// The id of the embedded strategies.
const EMBEDDED: &str = "default";

/// The ports that a node of this configuration needs; those on which this node listens (`ready`) are ours.
pub(super) fn ports(config: &NodeConfig, ready: &Ready) -> Vec<PortView> {
    let (system, dynamic) = (&config.system, &config.dynamic);
    let mut needed = vec![
        (
            "port.jsonrpc",
            system.http.address.as_str(),
            dynamic.jsonrpc_port,
            &ready.jsonrpc,
        ),
        ("port.grpc", system.p2p.address.as_str(), dynamic.p2p_port, &ready.p2p),
    ];
    if system.metrics.enable {
        needed.push(("metrics.port", "127.0.0.1", system.metrics.port, &ready.metrics));
    }
    let view = |(key, ip, port, ready): (&str, &str, u16, &Option<String>)| {
        let served = ready.as_ref().and_then(|address| address.parse::<SocketAddr>().ok());
        let ours = served.filter(|served| port == 0 || served.port() == port);
        let address = ours.map_or_else(|| format!("{ip}:{port}"), |ours| ours.to_string());
        let state = match ours {
            Some(_) => PortState::Ours,
            // The system finds one.
            None if port == 0 => PortState::Free,
            None => TcpListener::bind(&address)
                .map_or_else(|error| PortState::Taken(error.to_string()), |_| PortState::Free),
        };
        PortView {
            key: key.to_owned(),
            address,
            state,
        }
    };
    needed.into_iter().map(view).collect()
}

/// What the next start with this configuration would fail on here, in words.
pub(super) fn unfit(root: &Root, config: &NodeConfig) -> Vec<String> {
    let checks = START_KEYS.iter();
    let failures = checks.filter_map(|key| ports::check_files(root, config, key).err());
    failures.map(|failure| failure.message).collect()
}

/// The strategies that this configuration names and that are not installed here, in words.
pub(super) fn uninstalled(root: &Root, config: &NodeConfig) -> Vec<String> {
    let namespaces = config.namespaces.iter();
    namespaces
        .flat_map(|(name, ns)| uninstalled_of(root, name, ns))
        .collect()
}

/// The same of one namespace.
pub(super) fn uninstalled_of(root: &Root, name: &Namespace, ns: &NsConfig) -> Vec<String> {
    let missing = |kind: &str| {
        let id = ns.fixed.strategy(kind).id;
        if id == EMBEDDED {
            return None;
        }
        let why = match Plugin::open(&root.plugins().join(&id)) {
            Ok(plugin) if plugin.manifest.kind == kind => return None,
            Ok(plugin) => format!("it is of kind {}", plugin.manifest.kind),
            Err(error) => error.to_string(),
        };
        Some(format!("{name}: {kind} {id}: {why}"))
    };
    KINDS.into_iter().filter_map(missing).collect()
}

/// All of it, as the status of a standby says it.
pub(super) fn remarks(root: &Root, config: &NodeConfig, ready: &Ready) -> Vec<String> {
    let taken = ports(config, ready).into_iter().filter_map(|port| match port.state {
        PortState::Taken(why) => Some(format!(
            "an upgrade would need {} {}, which is not free here: {why}; stop who holds it, or change the port",
            port.key, port.address
        )),
        PortState::Ours | PortState::Free => None,
    });
    let unfit = unfit(root, config).into_iter();
    let unfit = unfit.map(|what| format!("after an upgrade the next start would fail here: {what}"));
    let uninstalled = uninstalled(root, config).into_iter();
    let uninstalled = uninstalled.map(|what| {
        format!(
            "an upgrade would run the embedded strategy in place of the provider's ({what}); install it here as well"
        )
    });
    taken.chain(unfit).chain(uninstalled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_here_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let defaults = [
            ("system.toml", include_str!("../../../../configuration/system.toml")),
            ("dynamic.toml", include_str!("../../../../configuration/dynamic.toml")),
            (
                "global/ns_static.toml",
                include_str!("../../../../configuration/global/ns_static.toml"),
            ),
            (
                "global/ns_dynamic.toml",
                include_str!("../../../../configuration/global/ns_dynamic.toml"),
            ),
            (
                "global/ns_genesis.toml",
                include_str!("../../../../configuration/global/ns_genesis.toml"),
            ),
        ];
        let files = defaults.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let mut config = cvp_core::config::load(&files).unwrap().config;
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        config.system.http.address = "127.0.0.1".into();
        config.system.p2p.enable_tls = false;
        (config.dynamic.jsonrpc_port, config.dynamic.p2p_port) = (port, 0);
        config.system.metrics.port = port;
        let taken = |ready: &Ready| -> Vec<String> {
            let all = ports(&config, ready).into_iter();
            let taken = all.filter(|port| matches!(port.state, PortState::Taken(_)));
            taken.map(|port| port.key).collect()
        };
        assert_eq!(taken(&Ready::default()), ["port.jsonrpc", "metrics.port"]);
        let ready = Ready {
            jsonrpc: Some(format!("127.0.0.1:{port}")),
            ..Ready::default()
        };
        assert_eq!(taken(&ready), ["metrics.port"]);
        config.system.metrics.enable = false;
        assert_eq!(remarks(&root, &config, &ready), Vec::<String>::new());

        std::fs::write(directory.path().join("file"), "").unwrap();
        config.system.log.dump_file = true;
        config.system.log.log_dir = "file/logs".into();
        let (name, ns) = config.namespaces.iter_mut().next().unwrap();
        assert_eq!(uninstalled_of(&root, name, ns), Vec::<String>::new());
        let choice = cvp_core::config::StrategyChoice {
            id: "mine".into(),
            settings: String::new(),
        };
        ns.fixed.strategies.insert("chain-sync".into(), choice);
        let all = remarks(&root, &config, &ready);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].contains("log.log_dir"), "{all:?}");
        assert!(all[1].contains("global: chain-sync mine"), "{all:?}");
    }
}
