//! Recomputing a node's chains: the report, and the work on a stopped node.

use std::ops::ControlFlow;

use cvp_core::ledger::{self, BadPlace, LedgerError, REPLAY_BYTES_MAX, VerifyReport};
use cvp_core::types::{Height, Namespace};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::chains::{bad_files, inspect, ledger_failure};
use super::copied;
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
    /// The copy of the provider's configuration; absent where none was made, or one namespace was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<CopyReport>,
}

/// The outcome of the copy of the provider's configuration and certificates.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CopyReport {
    /// Files of it.
    pub files: usize,
    /// Files that are not as the provider sent them, or are gone.
    pub edited: Vec<String>,
    /// In words, what the provider had otherwise when it was last heard: it did not arrive. No fault of what is here; absent where that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacking: Option<String>,
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
    /// The state commitment of every record was recomputed.
    pub state_chain_checked: bool,
    /// What was not looked at, and why.
    pub not_checked: Vec<String>,
    /// What a crash left behind the last record of a stopped node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn_tail: Option<BadView>,
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
        let mut lines: Vec<String> = self.namespaces.iter().flat_map(NamespaceReport::lines).collect();
        lines.extend(self.configuration.iter().flat_map(CopyReport::lines));
        lines.join("\n")
    }
}

impl CopyReport {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![match self.edited.as_slice() {
            [] => format!("configuration: good, {} files as the provider sent them", self.files),
            edited => format!(
                "configuration: BAD, changed by hand: {}; the next handshake with the provider replaces them",
                edited.join(", ")
            ),
        }];
        lines.extend(
            self.lacking
                .iter()
                .map(|lacking| format!("configuration: incomplete: {lacking}")),
        );
        lines
    }
}

impl NamespaceReport {
    fn lines(&self) -> Vec<String> {
        let name = &self.name;
        let mut lines = vec![match &self.first_bad {
            Some(bad) => format!("{name}: BAD at height {}, {}: {}", bad.height, bad.part, bad.message),
            None => {
                let recomputed = match (self.state_chain_checked, self.state_checked) {
                    (true, true) => ", every state commitment and the state recomputed",
                    (true, false) => ", every state commitment recomputed",
                    (false, true) => ", the state recomputed",
                    (false, false) => "",
                };
                let (count, from, to) = (self.checked, self.from, self.to);
                format!("{name}: good, {count} records from {from} to {to}{recomputed}")
            }
        }];
        lines.extend(self.torn_tail.iter().map(|torn| {
            let (height, part, message) = (torn.height, &torn.part, &torn.message);
            format!("{name}: a crash tore record {height} ({part}: {message}); the next start cuts it")
        }));
        lines.extend(
            self.not_checked
                .iter()
                .map(|what| format!("{name}: not checked: {what}")),
        );
        lines
    }
}

impl From<&BadPlace> for BadView {
    fn from(bad: &BadPlace) -> Self {
        Self {
            height: bad.height,
            part: bad.part.clone(),
            message: bad.message.clone(),
        }
    }
}

/// Verifies a stopped node's chains without changing a byte: a start meanwhile is refused.
///
/// # Errors
/// A node runs there after all, the configuration or a store cannot be read, or there is no such namespace or record.
pub fn verify_stopped(root: &Root, wanted: &Wanted, on_progress: &mut dyn FnMut(Value)) -> Result<Value, Failure> {
    // A namespace that is asked for and cannot be read is no namespace that is good.
    let loaded = root.load()?;
    let unread = loaded.held.iter().find(|(name, _)| wanted.covers(name));
    if let Some((name, problems)) = unread {
        let refusal = bad_files(problems);
        let text = format!("namespace {name}: {}", refusal.text);
        return Err(Failure::failed(
            &refusal.code,
            text,
            "correct it, or name another one with --namespace",
        ));
    }
    let config = loaded.config;
    let _lock = LockFile::share(&root.lock_file())?;
    let mut tell = |line| {
        on_progress(line);
        ControlFlow::Continue(())
    };
    let mut namespaces = Vec::new();
    for (name, ns) in &config.namespaces {
        if !wanted.covers(name) {
            continue;
        }
        let inspection = inspect(root, name, ns)?;
        let subject = Subject {
            name,
            history_from: inspection.history_from(),
            last: inspection.last(),
            torn_tail: inspection.torn_tail(),
            verify: &|from, to, progress| inspection.verify(from, to, progress),
        };
        namespaces.push(subject.report(wanted, &mut tell)?);
    }
    finish(wanted, namespaces, copied::verify(root)?)
}

/// Verifies the open chains of a running node, while they go on.
///
/// # Errors
/// A disk failed, nobody waits any more, or there is no such namespace or record.
pub(super) fn verify_running(
    root: &Root,
    chains: &ChainSet,
    wanted: &Wanted,
    progress: &Progress,
) -> Result<Value, Failure> {
    let mut tell = |line| tell_or_end(progress, line);
    let mut namespaces = Vec::new();
    for chain in chains.all() {
        if !wanted.covers(chain.namespace()) {
            continue;
        }
        let ledger = chain.ledger();
        let subject = Subject {
            name: chain.namespace(),
            history_from: ledger.history_from(),
            last: Some(ledger.tips().applied.height),
            torn_tail: None,
            verify: &|from, to, progress| ledger.verify(from, to, progress),
        };
        namespaces.push(subject.report(wanted, &mut tell)?);
    }
    finish(wanted, namespaces, copied::verify(root)?)
}

/// Tells whoever waits how far the work is, and ends it when nobody does.
fn tell_or_end(progress: &Progress, line: Value) -> ControlFlow<()> {
    progress.tell(line);
    if progress.is_abandoned() {
        tracing::info!("whoever asked for a verification is gone: it ends");
        return ControlFlow::Break(());
    }
    ControlFlow::Continue(())
}

type Verify<'a> = &'a dyn Fn(Height, Height, ledger::Progress<'_>) -> Result<VerifyReport, LedgerError>;

/// One namespace that is verified, whoever holds its store.
struct Subject<'a> {
    name: &'a Namespace,
    history_from: Height,
    last: Option<Height>,
    torn_tail: Option<&'a BadPlace>,
    verify: Verify<'a>,
}

impl Subject<'_> {
    fn report(
        &self,
        wanted: &Wanted,
        on_progress: &mut dyn FnMut(Value) -> ControlFlow<()>,
    ) -> Result<NamespaceReport, Failure> {
        let from = wanted.from.unwrap_or(0).max(self.history_from);
        let last = self.last.unwrap_or(0);
        let asked = wanted.to.unwrap_or(last).min(last);
        let mut tell = |height: Height| {
            on_progress(json!({"namespace": self.name.as_str(), "height": height, "to": asked.max(height)}))
        };
        // Damage behind the last record is asked for too, unless the operator names an end below it.
        let found = (self.verify)(from, wanted.to.unwrap_or(Height::MAX), &mut tell)
            .map_err(|error| ledger_failure(self.name, &error))?;
        // A running node has made more meanwhile.
        let last = last.max((from + found.checked).saturating_sub(1));
        let to = wanted.to.unwrap_or(last);
        Ok(NamespaceReport {
            name: self.name.to_string(),
            from,
            to: to.min(last),
            checked: found.checked,
            state_checked: found.state_checked,
            state_chain_checked: found.state_chain_checked,
            not_checked: not_checked(from, to >= last, &found),
            torn_tail: self.torn_tail.map(BadView::from),
            first_bad: found.first_bad.as_ref().map(BadView::from),
        })
    }
}

/// What a verification left out, in words.
fn not_checked(from: Height, whole: bool, found: &VerifyReport) -> Vec<String> {
    if let Some(bad) = &found.first_bad {
        return vec![format!(
            "what lies above height {}: a verification ends at the first bad place",
            bad.height
        )];
    }
    let mut left_out = Vec::new();
    if !found.state_chain_checked {
        left_out.push(if from > 0 {
            format!("the state commitment of each record: the range begins at {from}, not at 0")
        } else {
            format!("the state commitment of each record: the state is larger than {REPLAY_BYTES_MAX} bytes")
        });
    }
    if !found.state_checked {
        left_out.push(if whole {
            "the full state: a crash left the stored one below the tip; the next start brings it up from the log"
                .to_owned()
        } else {
            "the full state: the range ends below the tip".to_owned()
        });
    }
    left_out
}

fn finish(wanted: &Wanted, namespaces: Vec<NamespaceReport>, copy: Option<CopyReport>) -> Result<Value, Failure> {
    if let (Some(name), true) = (&wanted.namespace, namespaces.is_empty()) {
        return Err(Failure::failed(
            "no-namespace",
            format!("there is no namespace {name}"),
            "see `cvp namespace list`",
        ));
    }
    let chains_good = namespaces.iter().all(|n| n.first_bad.is_none());
    let configuration = copy.filter(|_| wanted.namespace.is_none());
    let good = chains_good && configuration.as_ref().is_none_or(|copy| copy.edited.is_empty());
    if chains_good && namespaces.iter().all(|n| n.checked == 0) {
        return Err(Failure::failed(
            "no-records",
            "no record lies in the range",
            "`cvp status` names the tip; a node that was never started has no records",
        ));
    }
    serde_json::to_value(&Report {
        good,
        namespaces,
        configuration,
    })
    .map_err(|error| Failure::failed("internal", error.to_string(), "report it"))
}

impl Wanted {
    fn covers(&self, name: &Namespace) -> bool {
        self.namespace.as_ref().is_none_or(|wanted| wanted == name)
    }
}

#[cfg(test)]
mod tests {
    use cvp_core::ledger::contract::ChainMaker;
    use cvp_core::ledger::{Ledger, MemoryLedger};
    use tokio::sync::mpsc;

    use super::*;

    fn chain() -> (MemoryLedger, Namespace) {
        let maker = ChainMaker::new("global", 16);
        let ledger = MemoryLedger::open(&maker.namespace, maker.genesis.clone()).unwrap();
        maker.extend(&ledger, 12, 1, 1 << 20);
        ledger.sync().unwrap();
        ledger.apply().unwrap();
        (ledger, maker.namespace)
    }

    fn report(
        wanted: &Wanted,
        on_progress: &mut dyn FnMut(Value) -> ControlFlow<()>,
    ) -> Result<NamespaceReport, Failure> {
        let (ledger, name) = chain();
        let subject = Subject {
            name: &name,
            history_from: 0,
            last: Some(12),
            torn_tail: None,
            verify: &|from, to, progress| ledger.verify(from, to, progress),
        };
        subject.report(wanted, on_progress)
    }

    #[test]
    fn what_was_not_checked_is_said() {
        let mut on = |_| ControlFlow::Continue(());
        let whole = report(&Wanted::default(), &mut on).unwrap();
        assert!(whole.state_checked && whole.state_chain_checked && whole.not_checked.is_empty());
        let wanted = Wanted {
            from: Some(3),
            to: Some(5),
            ..Wanted::default()
        };
        let part = report(&wanted, &mut on).unwrap();
        assert_eq!((part.checked, part.to), (3, 5));
        let text = Report {
            good: true,
            namespaces: vec![part],
            configuration: None,
        }
        .human();
        assert!(
            text.contains("not checked: the state commitment of each record: the range begins at 3"),
            "{text}"
        );
        assert!(
            text.contains("not checked: the full state: the range ends below the tip"),
            "{text}"
        );
        let too_large = VerifyReport {
            checked: 13,
            first_bad: None,
            state_checked: true,
            state_chain_checked: false,
        };
        assert!(not_checked(0, true, &too_large)[0].contains("larger than"));
    }

    #[test]
    fn a_verification_that_nobody_waits_for_ends() {
        let (send, receive) = mpsc::channel(4);
        let progress = Progress::to(send);
        drop(receive);
        let mut words = 0;
        let abandoned = report(&Wanted::default(), &mut |line| {
            words += 1;
            tell_or_end(&progress, line)
        });
        assert_eq!((abandoned.unwrap_err().code.as_str(), words), ("abandoned", 1));
    }

    #[test]
    fn an_empty_range_is_no_good_chain() {
        let wanted = Wanted {
            from: Some(13),
            ..Wanted::default()
        };
        let nothing = report(&wanted, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(finish(&wanted, vec![nothing], None).unwrap_err().code, "no-records");
    }
}
