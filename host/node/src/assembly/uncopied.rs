//! Namespaces of which nothing was ever copied from the provider: a standby's status names them, and the node that was promoted makes no
//! blocks under their names until its operator has decided, not at a start of the node and not by `namespace start`.

use std::collections::BTreeSet;

use cvp_core::config::{self, NodeConfig, NsConfig};
use cvp_core::promotion::{Beginning, Found, Uncopied, uncopied};
use cvp_core::types::{Namespace, Refusal};

use super::chains::{Held, inspect};
use super::namespaces::LIST;
use crate::config::{Places, Root};
use crate::ipc::{Failure, ReasonView};
use crate::promotion::{self, Standing};
use crate::replication::ControlFiles;

/// Code of a namespace whose only chain is on another node.
const NEVER_COPIED: &str = "never-copied";

/// Whether `name` may start with these files and what is in its place. Looks at the store, which nobody has open, only where that counts.
///
/// # Errors
/// It may not; or what is there cannot be read.
pub(super) fn may_start(
    root: &Root,
    left: &Uncopied,
    (name, ns): (&Namespace, &NsConfig),
    anew: bool,
) -> Result<Beginning, Failure> {
    let mut tip = None;
    if left.names.contains(name) && root.namespace(name).join("data").exists() {
        tip = inspect(root, name, ns)?.last();
    }
    let role = ns.dynamic.role;
    let begins = left.may_start(name, Found { role, tip, anew });
    begins.map_err(|refusal| Failure::refused(&refusal.code, refusal.text, refusal.hint))
}

/// Takes what may not begin by itself out of the configuration that the node runs with.
pub(super) fn kept_back(root: &Root, left: &Uncopied, config: &mut NodeConfig) -> Held {
    let mut held = Held::new();
    for name in &left.names {
        let Some(ns) = config.namespaces.get(name) else {
            continue;
        };
        // A store that cannot be read says so when it is opened.
        if let Err(failure) = may_start(root, left, (name, ns), false)
            && failure.code == NEVER_COPIED
        {
            config.namespaces.remove(name);
            held.insert(name.clone(), left.refusal(name));
        }
    }
    held
}

/// At a start of the node, with no promotion under way: whose chain was put in its place by hand is none of them any more.
///
/// # Errors
/// The journal cannot be written.
pub(super) fn settle(
    root: &Root,
    files: &ControlFiles,
    config: &NodeConfig,
    standing: &mut Standing,
) -> Result<(), Refusal> {
    for name in standing.uncopied.names.clone() {
        let ns = config.namespaces.get(&name);
        let begins = ns.map(|ns| may_start(root, &standing.uncopied, (&name, ns), false));
        if matches!(begins, Some(Ok(Beginning::Settled))) {
            promotion::release(files, &name)?;
            standing.uncopied.names.remove(&name);
        }
    }
    Ok(())
}

/// What a promoted node's status says of those that do not run; `held` are named there already.
pub(super) fn warnings(left: &Uncopied, known: &BTreeSet<Namespace>) -> Vec<ReasonView> {
    let names = left.names.iter().filter(|name| !known.contains(*name));
    names.map(|name| ReasonView::from(&left.refusal(name))).collect()
}

/// What a standby's status says of its provider's list; `known`: what runs here or is held here, with its reason.
pub(super) fn of_copy(root: &Root, files: &ControlFiles, known: &BTreeSet<Namespace>) -> Vec<ReasonView> {
    let list = std::fs::read_to_string(Places::copy(root).configuration().join(LIST));
    // A list or a binding that cannot be read is told as what it is.
    let (Ok(list), Ok(Some(binding))) = (list, files.binding()) else {
        return Vec::new();
    };
    let Ok(entries) = config::namespace_entries(&list) else {
        return Vec::new();
    };
    let named = entries.into_iter().filter_map(|(name, start)| {
        let name = Namespace::new(&name).ok()?;
        (!start || !known.contains(&name)).then_some((name, start))
    });
    let named: Vec<(Namespace, bool)> = named.collect();
    let found = uncopied(named.iter().map(|(name, _)| name.clone()), &binding);
    let found = named.iter().filter(|(name, _)| found.contains(name));
    let told = found.map(|(name, start)| {
        let provider = &binding.hostname;
        let (why, what) = match start {
            false => ("is stopped", format!("start it there by `cvp namespace start {name}`")),
            true => ("does not run", "see `cvp status` there for why".to_owned()),
        };
        let text = format!(
            "namespace {name} {why} on {provider} and was never copied: if it has blocks and queues, they would be lost with {provider}; {what}, \
             and it is copied; or leave it so if it may be lost, and `cvp namespace destroy {name}` there forgets it"
        );
        ReasonView::new(NEVER_COPIED, text)
    });
    told.collect()
}
