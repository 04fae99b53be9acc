//! Recomputing a node's chains: the report, and the work on a stopped node.

use std::fmt::Write;

use cvp_core::ledger::Ledger;
use cvp_core::types::{Height, Namespace};
use cvp_ledger::StoreOptions;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::chains::{ledger_failure, open_store};
use crate::config::Root;
use crate::durable::LockFile;
use crate::ipc::{Failure, Progress};
use crate::namespace::ChainSet;

/// What is to be verified.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// One namespace; all when absent.
    pub namespace: Option<Namespace>,
    /// First height.
    pub from: Option<Height>,
    /// Last height.
    pub to: Option<Height>,
}

/// The outcome of all namespaces.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Nothing bad was found.
    pub good: bool,
    /// One entry a namespace.
    pub namespaces: Vec<NamespaceReport>,
}

/// The outcome of one namespace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NamespaceReport {
    /// Its name.
    pub name: String,
    /// First height looked at.
    pub from: Height,
    /// Last height looked at.
    pub to: Height,
    /// Records recomputed.
    pub checked: u64,
    /// The full state at the tip was recomputed too.
    pub state_checked: bool,
    /// First bad place; absent when all is good.
    pub first_bad: Option<BadView>,
}

/// Where something bad is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BadView {
    /// Its height.
    pub height: Height,
    /// Part of the record, `link` or `state`.
    pub part: String,
    /// What does not match.
    pub message: String,
}

impl Report {
    /// As an operator reads it.
    pub fn human(&self) -> String {
        let mut out = String::new();
        for n in &self.namespaces {
            let _ = match &n.first_bad {
                None => writeln!(
                    out,
                    "{}: good, {} records from {} to {}{}",
                    n.name,
                    n.checked,
                    n.from,
                    n.to,
                    if n.state_checked { ", state recomputed" } else { "" }
                ),
                Some(bad) => writeln!(
                    out,
                    "{}: BAD at height {}, {}: {}",
                    n.name, bad.height, bad.part, bad.message
                ),
            };
        }
        out.trim_end().to_owned()
    }
}

/// Verifies a stopped node's chains: takes the root's lock and opens the stores.
///
/// # Errors
/// A node runs there after all, the configuration or a store cannot be opened, or there is no such namespace.
pub fn verify_stopped(root: &Root, wanted: &Wanted, on_progress: &mut dyn FnMut(Value)) -> Result<Value, Failure> {
    let config = root.load()?.config;
    let _lock = LockFile::acquire(&root.lock_file())?;
    let mut namespaces = Vec::new();
    for (name, ns) in &config.namespaces {
        if wanted.covers(name) {
            // Opening brings state and indexes up from the log, as a start does; it appends no record.
            let store = open_store(root, name, ns, StoreOptions::default())?;
            namespaces.push(verify_one(name, &store, wanted, on_progress)?);
        }
    }
    finish(wanted, namespaces)
}

/// Verifies the open chains of a running node, while they go on.
///
/// # Errors
/// A disk failed, nobody waits any more, or there is no such namespace.
pub(super) fn verify_running(chains: &ChainSet, wanted: &Wanted, progress: &Progress) -> Result<Value, Failure> {
    let mut namespaces = Vec::new();
    for chain in chains.all() {
        if wanted.covers(chain.namespace()) {
            let mut tell = |line| progress.tell(line);
            namespaces.push(verify_one(
                chain.namespace(),
                chain.ledger().as_ref(),
                wanted,
                &mut tell,
            )?);
        }
    }
    finish(wanted, namespaces)
}

fn verify_one(
    name: &Namespace,
    ledger: &dyn Ledger,
    wanted: &Wanted,
    on_progress: &mut dyn FnMut(Value),
) -> Result<NamespaceReport, Failure> {
    let from = wanted.from.unwrap_or(0).max(ledger.history_from());
    let tip = ledger.tips().applied.height;
    let to = wanted.to.unwrap_or(tip).min(tip);
    let mut tell = |height: Height| on_progress(json!({"namespace": name.as_str(), "height": height, "to": to}));
    let report = ledger
        .verify(from, to, &mut tell)
        .map_err(|error| ledger_failure(name, &error))?;
    Ok(NamespaceReport {
        name: name.to_string(),
        from,
        to,
        checked: report.checked,
        state_checked: report.state_checked,
        first_bad: report.first_bad.map(|bad| BadView {
            height: bad.height,
            part: bad.part,
            message: bad.message,
        }),
    })
}

fn finish(wanted: &Wanted, namespaces: Vec<NamespaceReport>) -> Result<Value, Failure> {
    if let (Some(name), true) = (&wanted.namespace, namespaces.is_empty()) {
        return Err(Failure::failed(
            "no-namespace",
            format!("there is no namespace {name}"),
            "see `cvp namespace list`",
        ));
    }
    let report = Report {
        good: namespaces.iter().all(|n| n.first_bad.is_none()),
        namespaces,
    };
    serde_json::to_value(&report).map_err(|error| Failure::failed("internal", error.to_string(), "report it"))
}

impl Wanted {
    fn covers(&self, name: &Namespace) -> bool {
        self.namespace.as_ref().is_none_or(|wanted| wanted == name)
    }
}
