//! What a standby's status says of the copy of its provider's configuration beside its own: which keys it would keep for itself at an
//! upgrade, and whether it could start with the rest. So what cannot work here is named on the day it arrives.

use cvp_core::config::{self, NodeConfig, PairRole};
use cvp_core::promotion::KeyState;

use super::verify::CopyReport;
use crate::config::{Places, Root, read_tree};
use crate::ipc::{Failure, ReasonView, StatusView};
use crate::promotion;
use crate::replication::ControlFiles;

/// What a look at both trees found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// (file, what is kept).
    overrides: Vec<(String, String)>,
    /// Why the node could not start with the provider's tree.
    unusable: Option<String>,
    /// What is wrong with the provider's keys here.
    keys: Vec<ReasonView>,
}

/// Looks at both trees. Nothing is there to see before the first copy.
pub(super) fn look(root: &Root, files: &ControlFiles, config: &NodeConfig) -> Seen {
    let keys = keys(root, config);
    let (Ok(own), Ok(theirs)) = (
        read_tree(&root.configuration()),
        read_tree(Places::copy(root).configuration()),
    ) else {
        return Seen {
            keys,
            ..Seen::default()
        };
    };
    let mut overrides = Vec::new();
    for (file, text) in &theirs {
        let further = promotion::kept_keys(files, file).unwrap_or_default();
        let kept = own
            .get(file)
            .and_then(|own| config::kept_local(file, text, own, &further).ok());
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
    Seen {
        keys,
        overrides,
        unusable: promotion::check_tree(root, files, None)
            .err()
            .map(|refusal| refusal.text),
    }
}

/// The node's keys that an upgrade would need, and that are missing or belong to another certificate.
fn keys(root: &Root, config: &NodeConfig) -> Vec<ReasonView> {
    let mut found = Vec::new();
    for name in config.namespaces.keys() {
        let (code, text) = match promotion::key_state(root, config, name) {
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
        edited: sent.differing(&Places::copy(root).scan()),
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
    if let Some(text) = seen.unusable {
        view.warnings.push(ReasonView::new(
            "configuration-unusable",
            format!("an upgrade would be refused: {text}"),
        ));
    }
}
