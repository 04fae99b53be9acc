//! The preflight's view: what the machine, the chains, the files and the sockets say, gathered at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cvp_core::config::{Loaded, NodeConfig};
use cvp_core::promotion::{
    Check, IndexView, KeyState, NamespaceView, Plan, PortState, PortView, PreflightView, StrategyView, TlsNameView,
};
use cvp_core::replication::PairStatus;
use cvp_core::session::Binding;
use cvp_core::types::{Namespace, NodeRole, Refusal};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::probe::probe_target;
use super::tree;
use super::{Flags, Ground, Probed};
use crate::config::{Places, Root};
use crate::index::probe;
use crate::replication::ControlFiles;

/// Where a namespace's key and certificates are, unless configured otherwise.
const CERTIFICATES: &str = "certs/certs";

/// What a survey found.
pub(super) struct Surveyed {
    /// For core's checks.
    pub(super) view: PreflightView,
    /// What the promotion would do, or why that cannot be said.
    pub(super) plan: Result<Plan, Refusal>,
    /// What the provider runs and was never copied.
    pub(super) left_behind: Option<Check>,
    /// The network probes.
    pub(super) probed: Probed,
}

/// Gathers the view; the probes take two seconds at most, the rest is quick.
pub(super) async fn survey(ground: &Arc<Ground>, flags: Flags) -> Surveyed {
    let (binding, section) = (ground.files.binding(), ground.files.provider_self());
    let unreadable = [binding.as_ref().err(), section.as_ref().err()];
    let unreadable: Vec<String> = unreadable.into_iter().flatten().map(ToString::to_string).collect();
    let binding = binding.ok().flatten();
    let section = section.ok().flatten().unwrap_or_default();
    let status = ground.replication.as_ref();
    let status = match status {
        Some(replication) => replication.status().await,
        None => None,
    };
    // Files that cannot be read fail the checks `config-valid` and `plan`.
    let remotes = (ground.remotes)().unwrap_or_default();
    let port = value_of(&section, "port.jsonrpc").and_then(|text| text.parse().ok());
    let begun = Instant::now();
    // All at once: none takes longer than two seconds.
    let (probes, indexes) = tokio::join!(
        probe_target(&remotes, port, ground.tls.clone()),
        indexes(&ground.root, &ground.files)
    );
    let probed = Probed {
        took: begun.elapsed(),
        ended: Instant::now(),
    };
    let plan = ground.plan_off_thread().await;
    let loaded = ground.root.load();
    let heartbeat_ms = loaded
        .as_ref()
        .map_or(500, |loaded| loaded.config.dynamic.cvp.heartbeat_ms);
    let names = match &ground.tls {
        None => TlsNameView::Off,
        Some(tls) => TlsNameView::Names(tls.own().names.clone()),
    };
    let tls_override = loaded
        .as_ref()
        .ok()
        .and_then(|loaded| loaded.config.system.p2p.tls_server_host_override.clone());
    // What is bad in one namespace's files holds that one.
    let promoted = tree::load(&ground.root, &ground.files, plan.as_ref().ok());
    // As the plan judges it: before names and roles are written over what may be bad.
    let copied = tree::load(&ground.root, &ground.files, None);
    let view = PreflightView {
        provider: binding.as_ref().map(|binding| binding.hostname.clone()),
        unreadable: (!unreadable.is_empty()).then(|| unreadable.join("; ")),
        target_is_down: flags.target_is_down,
        allow_missing_keys: flags.allow_missing_keys,
        heartbeat_ms,
        last_heard_ms_ago: status
            .as_ref()
            .and_then(|(status, now)| Some(now.saturating_sub(status.last_heard?))),
        probes,
        namespaces: namespaces(
            ground,
            copied.as_ref().ok(),
            loaded.as_ref().ok().map(|loaded| &loaded.config),
            binding.as_ref(),
            &section,
            status.as_ref().map(|(status, _)| status),
        ),
        tls_name: names,
        tls_override,
        copy: tree::copy_state(&ground.root, &ground.files),
        config: promoted.map(|_| ()).map_err(|refusal| refusal.text),
        ports: ground
            .hooks
            .ports()
            .into_iter()
            .map(|(key, address)| port_view(key, address))
            .collect(),
        indexes,
    };
    Surveyed {
        left_behind: ground.left_behind(),
        view,
        plan,
        probed,
    }
}

/// The data index of each namespace that this node runs and is to run; backends are looked at side by side, two seconds at most.
///
/// # Errors
/// The own configuration cannot be read; in words. The provider's is the check `config-valid`'s: the own one stands for it here.
async fn indexes(root: &Root, files: &ControlFiles) -> Result<Vec<IndexView>, String> {
    let own = root.load().map_err(|failure| failure.message)?.config;
    let promoted = tree::load(root, files, None).map(|loaded| loaded.config);
    let mut looks = tokio::task::JoinSet::new();
    for (name, ns) in &promoted.as_ref().unwrap_or(&own).namespaces {
        let now = own
            .namespaces
            .get(name)
            .map_or(ns.fixed.index.enable, |own| own.fixed.index.enable);
        let (name, index) = (name.clone(), ns.fixed.index.clone());
        looks.spawn(async move {
            let backend = if index.enable {
                probe(&index.backend).await
            } else {
                Ok(())
            };
            IndexView {
                namespace: name,
                switch: (now, index.enable),
                address: index.backend.to_string(),
                backend,
            }
        });
    }
    let mut found = looks.join_all().await;
    found.sort_by(|one, other| one.namespace.cmp(&other.namespace));
    Ok(found)
}

/// The text of a TOML value without its quotes.
pub(super) fn value_of<'a>(section: &'a [(String, String)], key: &str) -> Option<&'a str> {
    section
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.trim_matches('"'))
}

/// What the provider is in a namespace, as its handshake said; a VP when it said nothing.
pub(super) fn provider_role(section: &[(String, String)], namespace: &Namespace) -> NodeRole {
    match value_of(section, &format!("{namespace}/self.type")) {
        Some(text) if text.eq_ignore_ascii_case("nvp") => NodeRole::Nvp,
        _ => NodeRole::Vp,
    }
}

fn namespaces(
    ground: &Ground,
    promoted: Option<&Loaded>,
    config: Option<&NodeConfig>,
    binding: Option<&Binding>,
    section: &[(String, String)],
    status: Option<&PairStatus>,
) -> Vec<NamespaceView> {
    let Some(binding) = binding else { return Vec::new() };
    let names = ground.bound(binding).into_iter().map(|bound| bound.namespace.clone());
    names
        .map(|name| {
            let seen = status.and_then(|status| status.namespaces.iter().find(|ns| ns.name == name));
            let open = ground.chains.get(name.as_str());
            let history_from = open.map_or(0, |chain| chain.ledger().history_from());
            let chain = ground.usable(&name, promoted).map_err(|refusal| refusal.text);
            let running: Vec<StrategyView> = seen.map_or_else(Vec::new, |ns| {
                let view = |s: &cvp_core::replication::StrategyStatus| StrategyView {
                    kind: s.id.kind.clone(),
                    id: s.id.id.clone(),
                    version: s.id.version.clone(),
                    sha256: hex::encode(s.id.sha256),
                };
                ns.strategies.iter().map(view).collect()
            });
            // The machine says when the two ends differ: then the provider's own is one that is not here.
            let theirs = seen.map_or_else(Vec::new, |ns| {
                let differ = ns.strategies.iter().filter(|s| s.defaulted);
                let mut theirs = running.clone();
                theirs.extend(differ.map(|s| StrategyView {
                    kind: s.id.kind.clone(),
                    id: format!("the provider's (here: {})", s.id.id),
                    version: String::new(),
                    sha256: String::new(),
                }));
                theirs
            });
            NamespaceView {
                role: provider_role(section, &name),
                chain,
                provider_tip: seen
                    .map(|ns| ns.tip)
                    .filter(|_| status.is_some_and(|s| s.last_heard.is_some())),
                history_from,
                keys: keys_of(&ground.root, config, &name),
                provider_strategies: theirs,
                own_strategies: running,
                name,
            }
        })
        .collect()
}

/// `encryption.ecert.ecert`; the default where the configuration cannot be read.
fn certificates_of<'a>(config: Option<&'a NodeConfig>, name: &Namespace) -> &'a str {
    let ns = config.and_then(|config| config.namespaces.get(name));
    ns.map_or(CERTIFICATES, |ns| &ns.fixed.ecert_dir)
}

/// Whether the node key of a namespace and its certificate belong together.
pub fn key_state(root: &Root, config: &NodeConfig, name: &Namespace) -> KeyState {
    keys_of(root, Some(config), name)
}

fn keys_of(root: &Root, config: Option<&NodeConfig>, name: &Namespace) -> KeyState {
    let (directory, place) = (root.namespace(name), certificates_of(config, name));
    let copied = place == CERTIFICATES && Places::copy(root).configuration().is_dir();
    keys(&directory.join(place), &directory.join("system/cvp/certs"), copied)
}

/// Whether `key.priv` in `directory` and the node certificate belong together: the certificate of that key is among the files there, or
/// among those backed up from the provider.
///
/// `copied`: the provider's certificates are known to be backed up from where they lie.
fn keys(directory: &Path, backup: &Path, copied: bool) -> KeyState {
    let key_path = directory.join("key.priv");
    let key = match std::fs::read_to_string(&key_path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // The provider has no certificate here either, as its copy says: then there is no key to have.
            let none = copied && certificates(directory).is_empty() && certificates(backup).is_empty();
            return if none {
                KeyState::Match
            } else {
                KeyState::Missing(key_path.display().to_string())
            };
        }
        Err(error) => return KeyState::Bad(format!("{}: {error}", key_path.display())),
    };
    let key = match rcgen::KeyPair::from_pem(&key) {
        Ok(key) => key,
        Err(error) => return KeyState::Bad(format!("{}: {error}", key_path.display())),
    };
    let mut seen = 0;
    for path in certificates(directory).into_iter().chain(certificates(backup)) {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&bytes) else {
            continue;
        };
        let Ok((_, certificate)) = X509Certificate::from_der(&pem.contents) else {
            continue;
        };
        seen += 1;
        if certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw() {
            return KeyState::Match;
        }
    }
    match seen {
        0 => KeyState::Missing(format!("{}/*.cert", directory.display())),
        _ => KeyState::Bad(format!("no certificate in {} is of key.priv", directory.display())),
    }
}

fn certificates(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "cert"))
        .collect()
}

/// Ports of the assembly: with an address it listens already.
fn port_view(key: String, address: Result<String, String>) -> PortView {
    match address {
        Ok(address) => PortView {
            key,
            address,
            state: PortState::Ours,
        },
        Err(address) => {
            let state = match std::net::TcpListener::bind(&address) {
                Ok(_) => PortState::Free,
                Err(error) => PortState::Taken(error.to_string()),
            };
            PortView { key, address, state }
        }
    }
}
