//! What a standby's status says of the copy of its provider's configuration beside its own: which keys it would keep for itself at an
//! upgrade, and whether it could start with the rest. So what cannot work here is named on the day it arrives.

use std::collections::{BTreeMap, BTreeSet};

use cvp_core::config::{self, GLOBAL, Loaded, NodeConfig, PairRole};
use cvp_core::promotion::KeyState;
use cvp_core::session::CopyBehind;
use cvp_core::types::{Digest, Namespace, Refusal};

use super::chains::check_genesis;
use super::node::Ready;
use super::verify::CopyReport;
use super::{fitness, stopped, uncopied};
use crate::config::{Places, Root, read_tree};
use crate::ipc::{Failure, ReasonView, StatusView};
use crate::namespace::ChainSet;
use crate::promotion::{self, KeptKeys};
use crate::replication::ControlFiles;

/// Code of a configuration with which a node, or a part of it, could not go on.
const UNUSABLE: &str = "configuration-unusable";

/// Code of a copy that is not what the provider told last.
const INCOMPLETE: &str = "backup-incomplete";

/// What runs, each with the genesis of its chain.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Running(BTreeMap<Namespace, Digest>);

impl Running {
    pub(super) fn of(chains: &ChainSet) -> Running {
        let chains = chains.all();
        let chains = chains.iter();
        Running(
            chains
                .map(|chain| (chain.namespace().clone(), chain.ledger().genesis().hash))
                .collect(),
        )
    }

    fn names(&self) -> impl Iterator<Item = &Namespace> {
        self.0.keys()
    }

    /// Whose genesis file, in this configuration, is another chain's than runs; why, in words.
    fn other_genesis(&self, loaded: &Loaded) -> Vec<(Namespace, String)> {
        let running = self.0.iter();
        let differing = running.filter_map(|(name, here)| {
            let refusal = check_genesis(name, loaded.config.namespaces.get(name)?, here).err()?;
            Some((name.clone(), format!("{}; {}", refusal.text, refusal.hint)))
        });
        differing.collect()
    }
}

/// What a look at both trees found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// (file, what is kept).
    overrides: Vec<(String, String)>,
    /// What an upgrade would make of the provider's tree where the node, or a namespace, could not start with it.
    unusable: Vec<String>,
    /// What of it cannot work on this machine.
    unfit: Vec<String>,
    /// What is wrong with the provider's keys here.
    keys: Vec<ReasonView>,
    /// What the provider lists and was never copied.
    uncopied: Vec<ReasonView>,
    /// What it stopped, and of which less is here than it had.
    behind: Vec<CopyBehind>,
    /// What the copy has otherwise than the provider had when it was last heard.
    lacking: Option<String>,
}

impl Seen {
    /// With what stores that nobody has open say.
    pub(super) fn with_behind(self, behind: Vec<CopyBehind>) -> Seen {
        Seen { behind, ..self }
    }
}

/// Looks at both trees; `ready`: where this node serves, `known`: what runs or is held here. Nothing is there to see before the first copy.
pub(super) fn look(
    root: &Root,
    files: &ControlFiles,
    config: &NodeConfig,
    (ready, running, known): (&Ready, &Running, &BTreeSet<Namespace>),
) -> Seen {
    let keys = keys(root, config);
    let copy = Places::copy(root);
    let lacking = lacking(files, &copy);
    if !copy.configuration().is_dir() {
        return Seen {
            keys,
            lacking,
            ..Seen::default()
        };
    }
    let promoted = promotion::load_tree(root, files);
    let planned = promoted
        .as_ref()
        .map(|loaded| fitness::remarks(root, &loaded.config, ready));
    let mut unfit = planned.unwrap_or_default();
    unfit.extend(promotion::exchangeable(root).err().map(|refusal| refusal.text));
    Seen {
        keys,
        behind: Vec::new(),
        uncopied: uncopied::of_copy(root, files, known),
        lacking,
        overrides: overrides(root, files, &copy),
        unfit,
        unusable: unusable(promoted, running),
    }
}

/// What the copy lacks; while it is being replaced there is no record of it.
fn lacking(files: &ControlFiles, copy: &Places) -> Option<String> {
    let replaced = copy.configuration().is_dir() && matches!(files.copy(), Ok(None));
    if replaced {
        return Some(
            "the copy of the provider's files is being written, or was when this node ended: how much of it is here is not known yet".to_owned(),
        );
    }
    files.lacking()
}

/// (file, what is kept of the own one), where both trees can be read.
fn overrides(root: &Root, files: &ControlFiles, copy: &Places) -> Vec<(String, String)> {
    let (Ok(own), Ok(theirs)) = (read_tree(&root.configuration()), read_tree(copy.configuration())) else {
        return Vec::new();
    };
    let further = KeptKeys::read(files).unwrap_or_default();
    let mut overrides = Vec::new();
    for (file, text) in &theirs {
        let kept = own
            .get(file)
            .and_then(|own| config::kept_local(file, text, own, further.of(file)).ok());
        for (key, own, theirs) in kept.unwrap_or_default() {
            // Which end this is goes without saying.
            if !key.starts_with("cvp.") {
                let or_none = |value: &str| {
                    if value.is_empty() {
                        "not set".to_owned()
                    } else {
                        config::masked(value)
                    }
                };
                let text = format!("{file} {key} = {} (provider: {})", or_none(&own), or_none(&theirs));
                overrides.push((file.clone(), text));
            }
        }
    }
    overrides
}

/// What of this node's own files, as they are on the disk now, the next start would fail on; `running`: the namespaces that would not run.
pub(super) fn own(root: &Root, running: &Running) -> Vec<String> {
    let loaded = match root.load() {
        Err(failure) => {
            let lines: Vec<&str> = failure.message.lines().map(str::trim).collect();
            return vec![format!("the next start would fail: {}", lines.join("; "))];
        }
        Ok(loaded) => loaded,
    };
    let unlisted = unlisted(&loaded, running).map(|name| {
        format!(
            "the next start would leave out the namespace {name}, which runs: dynamic.toml does not start it; stop it by \
             `cvp namespace stop {name}`, or set start = true"
        )
    });
    let unlisted: Vec<String> = unlisted.collect();
    let others = running.other_genesis(&loaded).into_iter().map(|(name, why)| {
        if name.as_str() == GLOBAL {
            format!("the next start would fail: {why}")
        } else {
            format!("the next start would hold the namespace {name}: {why}")
        }
    });
    let others: Vec<String> = others.collect();
    let held = loaded.held.into_iter();
    let held = held.filter(|(name, _)| running.names().any(|runs| runs == name));
    let held = held.map(|(name, problems)| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!(
            "the next start would hold the namespace {name}: {}",
            problems.join("; ")
        )
    });
    held.chain(others).chain(unlisted).collect()
}

/// What runs, and would not with this configuration: it is neither started by it nor held.
fn unlisted<'a>(loaded: &'a Loaded, running: &'a Running) -> impl Iterator<Item = &'a Namespace> {
    let known = |name: &&Namespace| loaded.config.namespaces.contains_key(*name) || loaded.held.contains_key(*name);
    running.names().filter(move |name| !known(name))
}

/// In words. Only what concerns the whole node refuses an upgrade; a namespace whose files are bad is held, and the others go on.
fn unusable(promoted: Result<Loaded, Refusal>, running: &Running) -> Vec<String> {
    let loaded = match promoted {
        Err(refusal) => return vec![format!("an upgrade would be refused: {}", refusal.text)],
        Ok(loaded) => loaded,
    };
    let unlisted = unlisted(&loaded, running).map(|name| {
        format!(
            "an upgrade would leave out the namespace {name}, which runs: the provider's dynamic.toml does not start it; \
             run `cvp namespace stop {name}` on the provider, or set start = true there"
        )
    });
    let unlisted: Vec<String> = unlisted.collect();
    let others = running.other_genesis(&loaded).into_iter().map(|(name, why)| {
        if name.as_str() == GLOBAL {
            format!("an upgrade would be refused: the provider's {why}")
        } else {
            format!("an upgrade would hold the namespace {name}: the provider's {why}")
        }
    });
    let others: Vec<String> = others.collect();
    let held = loaded.held.into_iter().map(|(name, problems)| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("an upgrade would hold the namespace {name}: {}", problems.join("; "))
    });
    held.chain(others).chain(unlisted).collect()
}

/// The node's keys that an upgrade would need, and that are missing or belong to another certificate.
fn keys(root: &Root, config: &NodeConfig) -> Vec<ReasonView> {
    let (mut found, told) = (Vec::new(), ControlFiles::new(root.system()).last_told());
    for name in config.namespaces.keys() {
        let (code, text) = match promotion::key_state(root, config, &told, name) {
            KeyState::Match => continue,
            KeyState::Missing(path) => ("keys-missing", format!("{name}: {path} is missing")),
            KeyState::Bad(text) => ("keys-wrong", format!("{name}: {text}")),
        };
        let help = "copy the provider's key.priv and certificate here: an upgrade is refused without them";
        found.push(ReasonView::new(code, format!("{text}; {help}")));
    }
    found
}

/// The same, for the log at the start.
pub(super) fn log_keys(root: &Root, config: &NodeConfig) {
    for warning in keys(root, config) {
        tracing::warn!(code = %warning.code, "{}", warning.message);
    }
}

/// Compares the copy with what the provider sent; none where no copy was made, or one is being made.
///
/// # Errors
/// The record of the copy is damaged.
pub(super) fn verify(root: &Root) -> Result<Option<CopyReport>, Failure> {
    // What a promoted node holds of its predecessor is history.
    if root
        .load()
        .is_ok_and(|loaded| loaded.config.role() != PairRole::Receiver)
    {
        return Ok(None);
    }
    let files = ControlFiles::new(root.system());
    let sent = files.copy().map_err(|error| Failure::from_refusal(&error.refusal()))?;
    Ok(sent.map(|sent| CopyReport {
        files: sent.files.len(),
        edited: sent.edits(&Places::copy(root).scan()),
        lacking: files.lacking(),
    }))
}

/// Puts it into the view: what belongs to the whole node stands with `global`.
pub(super) fn add(view: &mut StatusView, seen: Seen) {
    for (file, text) in seen.overrides {
        let namespace = file.split_once('/').map_or("global", |(namespace, _)| namespace);
        if let Some(entry) = view.namespaces.iter_mut().find(|entry| entry.name == namespace) {
            entry.overrides.push(text);
        }
    }
    view.warnings.extend(seen.keys);
    view.warnings.extend(seen.uncopied);
    let provider = view.peer.as_ref().map_or("the provider", |peer| peer.hostname.as_str());
    let behind = stopped::warnings(PairRole::Receiver, &seen.behind, provider);
    view.warnings.extend(behind);
    let lacking = seen.lacking.map(|text| {
        let follows = "an upgrade would go on with the version that this node got last of each, if any";
        ReasonView::new(INCOMPLETE, format!("{text}; {follows}"))
    });
    view.warnings.extend(lacking);
    let unfit = seen.unfit.into_iter();
    view.warnings.extend(unfit.map(|text| ReasonView::new(UNUSABLE, text)));
    add_unusable(view, seen.unusable);
}

/// A configuration that no start could read is no normal state; one that would hold a namespace is a warning: the others go on.
pub(super) fn add_unusable(view: &mut StatusView, unusable: Vec<String>) {
    let holds = |text: &String| {
        [" would hold the namespace ", " would leave out the namespace "]
            .iter()
            .any(|part| text.contains(part))
    };
    let (held, refused): (Vec<String>, Vec<String>) = unusable.into_iter().partition(holds);
    let reason = |text: String| ReasonView::new(UNUSABLE, text);
    view.normal &= refused.is_empty();
    view.reasons.extend(refused.into_iter().map(reason));
    view.warnings.extend(held.into_iter().map(reason));
}

#[cfg(test)]
mod tests {
    use super::super::chains::genesis_hash;
    use super::*;

    #[test]
    fn what_would_hold_one_namespace_does_not_read_as_a_refusal() {
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
        let mut files: std::collections::BTreeMap<String, String> =
            defaults.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let look = |files: &_| {
            let refused = |_| Refusal::new("bad-configuration", "global is bad", "");
            unusable(config::load(files).map_err(refused), &Running::default())
        };
        assert_eq!(look(&files), Vec::<String>::new());
        let text = config::put_namespace(&files["dynamic.toml"], "ns1", true).unwrap();
        files.insert("dynamic.toml".to_owned(), text);
        let held = look(&files);
        assert_eq!(held.len(), 1, "{held:?}");
        assert!(
            held[0].starts_with("an upgrade would hold the namespace ns1: ") && held[0].contains("ns1/ns_static.toml"),
            "{held:?}"
        );
        let loaded = config::load(&files).unwrap();
        let global = Namespace::new(GLOBAL).unwrap();
        let begins = |hash| {
            let running = Running([(global.clone(), hash)].into());
            (unusable(Ok(loaded.clone()), &running), running.other_genesis(&loaded))
        };
        let hash = genesis_hash(&global, &loaded.config.namespaces[&global]).unwrap();
        assert_eq!(begins(hash).1, []);
        let other = Digest::of(b"another");
        let said = begins(other).0;
        let said = said
            .iter()
            .find(|text| text.starts_with("an upgrade would be refused: "))
            .unwrap();
        for part in [
            "global/ns_genesis.toml",
            &hash.to_string(),
            &other.to_string(),
            "put the file back",
        ] {
            assert!(said.contains(part), "{said}");
        }
        files.remove("global/ns_static.toml");
        assert_eq!(look(&files), ["an upgrade would be refused: global is bad"]);
    }
}
