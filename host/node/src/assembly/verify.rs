//! Recomputing a node's chains: the report, and the work on a stopped node.

use std::fmt::Write;

use cvp_core::types::{Height, Namespace};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Root;
use crate::ipc::Failure;

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

/// Verifies a stopped node's chains.
pub fn verify_stopped(_root: &Root, _wanted: &Wanted, _on_progress: &mut dyn FnMut(Value)) -> Result<Value, Failure> {
    Err(Failure::failed("not-ready", "not available in this build", ""))
}
