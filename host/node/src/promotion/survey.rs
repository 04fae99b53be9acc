//! The preflight's view: what the machine, the chains, the files and the sockets say, gathered at once.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cvp_core::config::NodeConfig;
use cvp_core::mq::Missing;
use cvp_core::promotion::{
    Check, CopyState, IndexView, KeyState, NamespaceView, Plan, PreflightView, StrategyView, TlsNameView,
};
use cvp_core::replication::{CERTIFICATES as CERTIFICATE_TREE, Inventory, PairStatus};
use cvp_core::session::{Binding, CopyBehind};
use cvp_core::types::{Height, Namespace, NodeRole, Refusal};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::probe::probe_target;
use super::reading::Reading;
use super::tree;
use super::{Flags, Ground, Probed};
use crate::config::{OwnKey, Places, Root};
use crate::index::probe;
use crate::mq::QueueFileError;
use crate::replication::queue_files;

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
    /// What somebody changed in the copy.
    pub(super) edited: Option<Check>,
    /// The files that it went by.
    pub(super) reading: Arc<Reading>,
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
    // Before the network is asked: what a promotion has to do after that answer counts in an outage.
    let reading = read(ground).await;
    let begun = Instant::now();
    // All at once: none takes longer than two seconds.
    let (probes, indexes) = tokio::join!(probe_target(&remotes, port, ground.tls.clone()), indexes(&reading));
    let probed = Probed {
        took: begun.elapsed(),
        ended: Instant::now(),
    };
    let plan = ground.plan_off_thread(Arc::clone(&reading)).await;
    let loaded = &reading.own;
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
    let promoted = match &reading.trees {
        Ok(trees) => trees.load(plan.as_ref().ok()),
        Err(refusal) => Err(refusal.clone()),
    };
    // Where that cannot be read, which fails the check of its own, this node's as it is.
    let planned = promoted.as_ref().ok().or(loaded.as_ref().ok());
    let planned = planned.map(|loaded| &loaded.config);
    let view = PreflightView {
        provider: binding.as_ref().map(|binding| binding.hostname.clone()),
        unreadable: (!unreadable.is_empty()).then(|| unreadable.join("; ")),
        target_is_down: flags.target_is_down,
        allow_missing_keys: flags.allow_missing_keys,
        begin_anew: flags.begin_anew,
        heartbeat_ms,
        last_heard_ms_ago: status
            .as_ref()
            .and_then(|(status, now)| Some(now.saturating_sub(status.last_heard?))),
        probes,
        namespaces: namespaces(
            ground,
            &reading,
            binding.as_ref(),
            &section,
            status.as_ref().map(|(status, _)| status),
        ),
        behind: behind(ground).await,
        tls_name: names,
        tls_override,
        copy: match &reading.trees {
            Ok(trees) => trees.state(),
            Err(refusal) => CopyState::Missing(refusal.text.clone()),
        },
        lacking: reading.lacking.clone(),
        ports: planned.map_or_else(Vec::new, |config| ground.hooks.ports(config)),
        unfit: planned.map_or_else(Vec::new, |config| ground.hooks.unfit(config)),
        uninstalled: planned.map_or_else(Vec::new, |config| ground.hooks.uninstalled(config)),
        config: promoted
            .and_then(|loaded| ground.genesis_of_global(&loaded))
            .and_then(|()| tree::exchangeable(&ground.root))
            .map_err(|refusal| refusal.text),
        indexes,
    };
    Surveyed {
        left_behind: ground.left_behind(&reading),
        edited: ground.edited(&reading),
        reading,
        view,
        plan,
        probed,
    }
}

/// Stores are looked at, on a thread that may wait for the disk.
async fn behind(ground: &Arc<Ground>) -> Vec<CopyBehind> {
    let looking = Arc::clone(ground);
    match tokio::task::spawn_blocking(move || looking.hooks.behind()).await {
        Ok(behind) => behind,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The files, read on a thread that may wait for the disk.
async fn read(ground: &Arc<Ground>) -> Arc<Reading> {
    let reader = Arc::clone(ground);
    match tokio::task::spawn_blocking(move || Reading::of(&reader)).await {
        Ok(reading) => Arc::new(reading),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The data index of each namespace that this node runs and is to run; backends are looked at side by side, two seconds at most.
///
/// # Errors
/// The own configuration cannot be read; in words. The provider's is the check `config-valid`'s: the own one stands for it here.
async fn indexes(reading: &Reading) -> Result<Vec<IndexView>, String> {
    let own = reading.own.as_ref().map_err(|failure| failure.message.clone())?;
    let own = &own.config;
    let promoted = reading.copied.as_ref().map(|loaded| &loaded.config);
    let mut looks = tokio::task::JoinSet::new();
    for (name, ns) in &promoted.unwrap_or(own).namespaces {
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
    reading: &Reading,
    binding: Option<&Binding>,
    section: &[(String, String)],
    status: Option<&PairStatus>,
) -> Vec<NamespaceView> {
    let Some(binding) = binding else { return Vec::new() };
    let (promoted, config) = (
        reading.copied.as_ref().ok(),
        reading.own.as_ref().ok().map(|loaded| &loaded.config),
    );
    let names = Ground::bound(binding, reading)
        .into_iter()
        .map(|bound| bound.namespace.clone());
    names
        .map(|name| {
            let seen = status.and_then(|status| status.namespaces.iter().find(|ns| ns.name == name));
            let open = ground.chains.get(name.as_str());
            let history_from = open.as_ref().map_or(0, |chain| chain.ledger().history_from());
            let waits = open.as_ref().and_then(|chain| chain.takes_none_for());
            let (untold, queues_unreadable) = match untold(&ground.root, &name, history_from) {
                Ok(untold) => (untold, None),
                Err(error) => (Vec::new(), Some(format!("{name}: {error}"))),
            };
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
                    id: format!("of another id or version than {} here", s.id.id),
                    version: String::new(),
                    sha256: String::new(),
                }));
                theirs
            });
            NamespaceView {
                role: provider_role(section, &name),
                chain,
                // A snapshot that is here in part was of a block that the provider had.
                provider_tip: seen
                    .map(|ns| ns.tip)
                    .filter(|_| status.is_some_and(|s| s.last_heard.is_some()))
                    .max(
                        open.as_ref()
                            .and_then(|chain| Some(chain.ledger().staged()?.0.at.height)),
                    ),
                staged: open.as_ref().and_then(|chain| {
                    let (manifest, durable) = chain.ledger().staged()?;
                    Some((durable, manifest.bytes()))
                }),
                history_from,
                fills_to: seen.and_then(|ns| ns.backfill).map(|backfill| backfill.to),
                waits_seconds: waits.map_or(0, |left| left.as_secs() + 1),
                untold,
                queues_unreadable,
                keys: keys_of(&ground.root, (config, &reading.told), &name),
                provider_strategies: theirs,
                own_strategies: running,
                name,
            }
        })
        .collect()
}

/// Blocks that are not here and that queues wait for.
fn untold(root: &Root, name: &Namespace, history_from: Height) -> Result<Vec<Missing>, QueueFileError> {
    let (registry, cursors) = queue_files(root, name).read()?;
    let missing = registry.map(|registry| cursors.missing(&registry, history_from));
    Ok(missing.unwrap_or_default())
}

/// `encryption.ecert.ecert`; the default where the configuration cannot be read.
fn certificates_of(config: Option<&NodeConfig>, name: &Namespace) -> PathBuf {
    let ns = config.and_then(|config| config.namespaces.get(name));
    plain(ns.map_or(CERTIFICATES, |ns| &ns.fixed.ecert_dir))
}

/// The same in the provider's files, as the copy has them.
fn certificates_of_provider(root: &Root, name: &Namespace) -> PathBuf {
    let file = Places::copy(root)
        .configuration()
        .join(name.as_str())
        .join("ns_static.toml");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let place = cvp_core::config::get(&text, "encryption.ecert.ecert").ok().flatten();
    plain(
        place
            .as_deref()
            .map_or(CERTIFICATES, |place| place.trim_matches(['"', '\''])),
    )
}

/// A path without the parts that lead nowhere.
fn plain(path: &str) -> PathBuf {
    let parts = Path::new(path).components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

/// Whether the node key of a namespace and its certificate belong together.
pub fn key_state(root: &Root, config: &NodeConfig, told: &Inventory, name: &Namespace) -> KeyState {
    keys_of(root, (Some(config), told), name)
}

/// `told`: the provider's last inventory.
fn keys_of(root: &Root, (config, told): (Option<&NodeConfig>, &Inventory), name: &Namespace) -> KeyState {
    let (directory, place) = (root.namespace(name), certificates_of(config, name));
    // What the provider has elsewhere is not backed up.
    let backup = certificates_of_provider(root, name)
        .strip_prefix("certs")
        .map(|below| directory.join("system/cvp").join(below))
        .ok();
    let uncopied = uncopied(told, name);
    keys(&Chest {
        theirs: their_key(told, name),
        own: &directory.join(&place),
        backup: backup.as_deref(),
        is_copied: place == Path::new(CERTIFICATES) && Places::copy(root).configuration().is_dir(),
        uncopied: uncopied.as_deref(),
    })
}

/// A node certificate that the provider has in the namespace and that could not be copied, with the reason.
fn uncopied(told: &Inventory, name: &Namespace) -> Option<String> {
    let below = format!("{CERTIFICATE_TREE}/{name}/certs/");
    let mut left_out = told.left_out.iter();
    let left = left_out.find(|left| left.path.starts_with(&below) && left.path.ends_with(".cert"))?;
    Some(format!("the provider's {} is not copied: {}", left.path, left.reason))
}

/// The node key that the provider has in the namespace, which never travels.
fn their_key<'a>(told: &'a Inventory, name: &Namespace) -> Option<&'a str> {
    let below = format!("{CERTIFICATE_TREE}/{name}/");
    let mut left_out = told.left_out.iter().map(|left| left.path.as_str());
    left_out.find(|path| path.starts_with(&below) && path.ends_with("/key.priv"))
}

/// Where a node's key and the certificates that it may belong to are.
struct Chest<'a> {
    /// The node's own directory, with `key.priv`.
    own: &'a Path,
    /// What is backed up from the provider.
    backup: Option<&'a Path>,
    /// The provider's certificates are known to be backed up from where they lie.
    is_copied: bool,
    /// A certificate of the provider that is not backed up, and why.
    uncopied: Option<&'a str>,
    /// The provider's node key, as its inventory names it.
    theirs: Option<&'a str>,
}

/// Whether `key.priv` and the node certificate belong together: the one backed up from the provider, where there is one.
fn keys(chest: &Chest<'_>) -> KeyState {
    let key_path = chest.own.join("key.priv");
    let backed_up = chest.backup.map(certificates).unwrap_or_default();
    let key = match std::fs::read_to_string(&key_path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // The provider has no certificate here either, as its copy says: then there is no key to have.
            let none = backed_up.is_empty() && chest.uncopied.is_none() && certificates(chest.own).is_empty();
            return if chest.is_copied && none && chest.theirs.is_none() {
                KeyState::Match
            } else {
                KeyState::Missing(key_path.display().to_string())
            };
        }
        Err(error) => return KeyState::Bad(format!("{}: {error}", key_path.display())),
    };
    let key = match OwnKey::from_pem(&key) {
        Ok(key) => key,
        Err(error) => return KeyState::Bad(format!("{}: {error}", key_path.display())),
    };
    let (place, candidates) = match (backed_up.is_empty(), chest.backup) {
        (false, Some(backup)) => (backup, backed_up),
        _ => match chest.uncopied {
            Some(why) => return KeyState::Bad(why.to_owned()),
            None => (chest.own, certificates(chest.own)),
        },
    };
    let mut seen = 0;
    for path in candidates {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&bytes) else {
            continue;
        };
        let Ok((_, certificate)) = X509Certificate::from_der(&pem.contents) else {
            continue;
        };
        seen += 1;
        if certificate.public_key().subject_public_key.data.as_ref() == key.public_key() {
            return KeyState::Match;
        }
    }
    match seen {
        0 => KeyState::Missing(format!("{}/*.cert", place.display())),
        _ => KeyState::Bad(format!(
            "{} belongs to no certificate in {}",
            key_path.display(),
            place.display()
        )),
    }
}

fn certificates(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "cert"))
        .collect()
}

#[cfg(test)]
mod tests {
    use cvp_core::replication::{LeftOut, PRIVATE_KEY};

    use super::*;

    /// Writes a key and its certificate; either may go elsewhere.
    fn pair_of(key_at: Option<&Path>, certificate_at: Option<&Path>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["node1".into()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap().pem();
        for (place, name, text) in [
            (key_at, "key.priv", key.serialize_pem()),
            (certificate_at, "node1.cert", certificate),
        ] {
            if let Some(place) = place {
                std::fs::create_dir_all(place).unwrap();
                std::fs::write(place.join(name), text).unwrap();
            }
        }
    }

    #[test]
    fn the_key_is_of_the_backed_up_certificate_where_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let (own, backup) = (directory.path().join("own"), directory.path().join("backup"));
        let with = |uncopied, theirs| {
            keys(&Chest {
                own: &own,
                backup: Some(&backup),
                is_copied: true,
                uncopied,
                theirs,
            })
        };
        let state = |uncopied| with(uncopied, None);
        assert_eq!(state(None), KeyState::Match, "nobody has anything");
        let key = LeftOut::new("certificates/ns1/certs/key.priv", PRIVATE_KEY, "a key");
        let told = Inventory::new(Vec::new(), vec![key]);
        let theirs = |name: &str| their_key(&told, &Namespace::new(name).unwrap());
        assert_eq!(theirs("global"), None);
        assert!(matches!(with(None, theirs("ns1")), KeyState::Missing(_)));
        let why = "node1.cert is not copied";
        assert!(matches!(state(Some(why)), KeyState::Missing(_)));
        // Consistent in itself, and nothing is backed up yet.
        pair_of(Some(&own), Some(&own));
        assert_eq!(state(None), KeyState::Match);
        assert_eq!(state(Some(why)), KeyState::Bad(why.to_owned()));
        // The provider's certificate is another.
        pair_of(None, Some(&backup));
        assert!(matches!(state(None), KeyState::Bad(text) if text.contains("backup")));
        pair_of(Some(&own), Some(&backup));
        assert_eq!(state(None), KeyState::Match);
        std::fs::remove_file(own.join("key.priv")).unwrap();
        assert!(matches!(state(None), KeyState::Missing(_)));
    }
}
