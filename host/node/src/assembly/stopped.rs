//! What the namespaces hold that are listed here and do not run: told to the other end, so that both can say whether the copy of one is as
//! new as the original; and what a promoted node does about one that its predecessor had more of.

use std::collections::{BTreeMap, BTreeSet};

use cvp_core::config::{self, NsConfig, PairRole};
use cvp_core::session::{CopyBehind, StoppedChain, copies_behind, stopped_chains, without_stopped};
use cvp_core::types::{Namespace, Refusal};
use parking_lot::Mutex;

use super::chains::inspect;
use super::namespaces::LIST;
use crate::config::{Root, read_tree};
use crate::ipc::{Failure, ReasonView};
use crate::namespace::ChainSet;
use crate::replication::{ControlFiles, queue_files};

/// What was found in stores that nobody has open; looked at once for as long as a namespace stands still.
pub(super) struct Stopped {
    root: Root,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    chains: BTreeMap<Namespace, StoppedChain>,
    /// What could not be read, which the log says once.
    unreadable: BTreeSet<Namespace>,
}

impl Stopped {
    pub(super) fn new(root: Root) -> Stopped {
        Stopped {
            root,
            seen: Mutex::default(),
        }
    }

    /// Each namespace that is listed, has data and is none of `running`. What cannot be read is not known. On a thread that may wait.
    pub(super) fn chains(&self, running: &ChainSet) -> BTreeMap<Namespace, StoppedChain> {
        let Ok(mut files) = read_tree(&self.root.configuration()) else {
            return BTreeMap::new();
        };
        let list = files.get(LIST).cloned().unwrap_or_default();
        let entries = config::namespace_entries(&list).unwrap_or_default();
        let names = entries.into_iter().filter_map(|(name, _)| Namespace::new(&name).ok());
        let still: Vec<Namespace> = names.filter(|name| running.get(name.as_str()).is_none()).collect();
        let mut seen = self.seen.lock();
        seen.chains.retain(|name, _| still.contains(name));
        seen.unreadable.retain(|name| still.contains(name));
        let has_data = |name: &&Namespace| self.root.namespace(name).join("data").is_dir();
        let fresh: Vec<&Namespace> = still
            .iter()
            .filter(|name| !seen.chains.contains_key(*name))
            .filter(has_data)
            .collect();
        if !fresh.is_empty() {
            // A configuration has the files of those alone that it starts.
            let started = fresh
                .iter()
                .try_fold(list, |text, name| config::put_namespace(&text, name.as_str(), true));
            let loaded = started.ok().and_then(|text| {
                files.insert(LIST.to_owned(), text);
                config::load(&files).ok()
            });
            for name in fresh {
                let ns = loaded.as_ref().and_then(|loaded| loaded.config.namespaces.get(name));
                match ns.map(|ns| held_by(&self.root, name, ns)) {
                    Some(Ok(Some(chain))) => {
                        seen.unreadable.remove(name);
                        seen.chains.insert(name.clone(), chain);
                    }
                    Some(Err(failure)) if seen.unreadable.insert(name.clone()) => tracing::warn!(
                        namespace = %name, "what it holds while it is stopped cannot be read, and is not told to the other node: {failure}"
                    ),
                    Some(Ok(None) | Err(_)) | None => {}
                }
            }
        }
        seen.chains.clone()
    }

    /// What of the provider's stopped namespaces was copied here, and is older than there, by its last word.
    pub(super) fn behind(&self, files: &ControlFiles, running: &ChainSet) -> Vec<CopyBehind> {
        let told = stopped_chains(&files.provider_self().ok().flatten().unwrap_or_default());
        let binding = files.binding().ok().flatten();
        // Most nodes have none: nothing is opened then.
        if told.is_empty() {
            return Vec::new();
        }
        let mut behind = copies_behind(&told, &self.chains(running));
        // A promoted node is bound to nobody any more.
        behind.retain(|it| {
            binding
                .as_ref()
                .is_none_or(|binding| binding.genesis(&it.namespace).is_some())
        });
        behind
    }
}

/// What the store of a namespace holds; none where it has no record.
fn held_by(root: &Root, name: &Namespace, ns: &NsConfig) -> Result<Option<StoppedChain>, Failure> {
    let Some(height) = inspect(root, name, ns)?.last() else {
        return Ok(None);
    };
    let queues = queue_files(root, name).read();
    let (registry, _) = queues.map_err(|error| Failure::failed("unreadable", error.to_string(), "see `cvp verify`"))?;
    Ok(Some(StoppedChain::new(
        height,
        registry.and_then(|registry| registry.digest()),
    )))
}

/// What a status says of them; `other`: the provider's name.
pub(super) fn warnings(role: PairRole, behind: &[CopyBehind], other: &str) -> Vec<ReasonView> {
    let told = behind.iter().map(|it| match role {
        PairRole::Provider => it.warning("this node"),
        PairRole::Receiver => it.warning(other),
    });
    told.map(|refusal| ReasonView::from(&refusal)).collect()
}

/// The same on a promoted node, whose predecessor is gone.
pub(super) fn warnings_of_promoted(behind: &[CopyBehind], predecessor: &str) -> Vec<ReasonView> {
    let told = behind.iter().map(|it| ReasonView::from(&refusal(it, predecessor)));
    told.collect()
}

/// Why a promoted node does not start it by a plain `namespace start`.
fn refusal(behind: &CopyBehind, predecessor: &str) -> Refusal {
    let name = &behind.namespace;
    Refusal {
        hint: format!(
            "put that node's namespaces/{name}/data in its place here and start it; or, where what is missing is given up, go on from the copy: \
             `cvp namespace start {name} --as-copied`"
        ),
        ..behind.warning(predecessor)
    }
}

/// Whether a promoted node may start `name`: not where its predecessor told of more, unless that is given up. Looks at the store, which
/// nobody has open.
///
/// # Errors
/// `copy-behind`; or what is here cannot be read.
pub(super) fn may_start(
    root: &Root,
    (files, predecessor): (&ControlFiles, &[String]),
    (name, ns): (&Namespace, &NsConfig),
    as_copied: bool,
) -> Result<(), Failure> {
    if as_copied || predecessor.is_empty() {
        return Ok(());
    }
    let section = files
        .provider_self()
        .map_err(|error| Failure::from_refusal(&error.refusal()))?;
    let mut told = stopped_chains(&section.unwrap_or_default());
    told.retain(|known, _| known == name);
    if told.is_empty() || !root.namespace(name).join("data").is_dir() {
        return Ok(());
    }
    let here = held_by(root, name, ns)?.map(|chain| (name.clone(), chain));
    match copies_behind(&told, &here.into_iter().collect()).first() {
        None => Ok(()),
        Some(behind) => {
            let refusal = refusal(behind, &predecessor.join(", "));
            Err(Failure::refused(&refusal.code, refusal.text, refusal.hint))
        }
    }
}

/// It runs here, or is gone: what the predecessor told of it is history.
///
/// # Errors
/// The file cannot be read or written.
pub(super) fn settle(files: &ControlFiles, name: &Namespace) -> Result<(), Failure> {
    let failed = |error: crate::replication::FileError| Failure::from_refusal(&error.refusal());
    let section = files.provider_self().map_err(failed)?.unwrap_or_default();
    let kept = without_stopped(&section, name);
    if kept.len() == section.len() {
        return Ok(());
    }
    files.write_provider_self(&kept).map_err(failed)
}
