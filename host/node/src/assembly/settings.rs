//! `config get`, `config list` and `config set`: one value of the configuration, read from the disk, changed on both nodes where it matters.

use std::sync::Arc;

use bytes::Bytes;
use cvp_core::config::{self, Loaded, NodeConfig, Problem, Value as ConfigValue, Weight};
use cvp_core::replication::{
    CHANGED_BYTES_MAX, CONFIG_CHANGE, CONFIGURATION, FileChange, Outcome, PRIVATE_KEY, file_digest,
};
use cvp_core::types::Namespace;
use cvp_core::types::strategy::config_sync::Edit;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fitness;
use super::namespaces::LIST;
use super::node::Node;
use super::online::{self, Effect};
use super::operator::{blocking, encode};
use super::ports;
use crate::config::{Root, private_key, read_tree};
use crate::ipc::{Exit, Failure};
use crate::replication::Wish;
use crate::rpc::ConfigChange;

/// The texts of a configuration by their files.
type Texts = std::collections::BTreeMap<String, String>;

/// Keys that say who the node is: an upgrade changes them, no command does.
const IDENTITY: [(&str, &str); 4] = [
    ("dynamic.toml", "self"),
    ("dynamic.toml", "cvp.node_type"),
    ("ns_dynamic.toml", "self.hostname"),
    ("ns_dynamic.toml", "self.type"),
];

/// A value that was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// File below `configuration/`.
    pub file: String,
    /// Dotted key.
    pub key: String,
    /// TOML text before, as `config get` shows it; absent for a new key.
    pub old: Option<String>,
    /// TOML text now.
    pub new: String,
    /// `replicated`, `local`, `weak` or `unchanged`.
    pub answer: String,
    /// It is on both disks.
    pub replicated: bool,
    /// `now`, `restart`, or `never` for a key that this node does nothing with.
    pub takes_effect: String,
    /// What an operator should know of the key.
    pub warnings: Vec<String>,
    /// A standby was attached when this was answered.
    #[serde(default)]
    pub attached: bool,
}

/// Reads the value of a key; what an address is logged into with is left out.
pub(super) fn get(root: &Root, file: &str, key: &str) -> Result<Value, Failure> {
    let (file, text) = text_of(root, file)?;
    match config::get(&text, key).map_err(|error| unreadable(&file, &error))? {
        Some(value) => {
            let value = config::masked(&value);
            Ok(json!({"file": file, "key": key, "value": value, "weight": word(&file, key)}))
        }
        None => Err(Failure::failed(
            "no-key",
            format!("configuration/{file} has no key {key}"),
            format!("see `cvp config list {file}`"),
        )),
    }
}

/// Lists the values of one file, or of all.
pub(super) fn list(root: &Root, file: Option<&str>) -> Result<Value, Failure> {
    let texts = match file {
        Some(file) => vec![text_of(root, file)?],
        None => read_tree(&root.configuration())?.into_iter().collect(),
    };
    let mut values = Vec::new();
    for (file, text) in texts {
        for (key, value) in config::entries(&text).map_err(|error| unreadable(&file, &error))? {
            let value = config::masked(&value);
            values.push(json!({"weight": word(&file, &key), "file": file, "key": key, "value": value}));
        }
    }
    Ok(json!({"values": values}))
}

fn word(file: &str, key: &str) -> &'static str {
    if config::is_local(file, key) {
        return "local";
    }
    match config::weight(file, key) {
        Weight::Strong => "strong",
        Weight::Weak => "weak",
    }
}

fn text_of(root: &Root, file: &str) -> Result<(String, String), Failure> {
    let file = file.strip_prefix("configuration/").unwrap_or(file);
    let mut files = read_tree(&root.configuration())?;
    match files.remove(file) {
        Some(text) => Ok((file.to_owned(), text)),
        None => {
            let names: Vec<String> = files.into_keys().collect();
            Err(Failure::failed(
                "no-file",
                format!("there is no configuration/{file}"),
                format!("name one of {}", names.join(", ")),
            ))
        }
    }
}

/// What only reads changes nothing, and need not say so.
fn unreadable(file: &str, error: &config::EditError) -> Failure {
    Failure {
        help: "correct the file, or the key".to_owned(),
        ..bad_key(file, error)
    }
}

fn bad_key(file: &str, error: &config::EditError) -> Failure {
    Failure::failed(
        "bad-key",
        format!("configuration/{file}: {error}"),
        "nothing was changed",
    )
}

/// A change that may be made.
struct Draft {
    changed: Changed,
    before: String,
    after: String,
    weight: Weight,
    loaded: NodeConfig,
    effect: Effect,
}

/// A file of the configuration, as it is and as it is to be.
pub(super) struct FileEdit<'a> {
    /// Below `configuration/`.
    pub(super) file: &'a str,
    pub(super) before: &'a str,
    pub(super) after: &'a str,
}

/// A configuration that a change may make.
struct Checked {
    node: Loaded,
    /// The same with the namespace started whose file changes, where it does not run.
    stopped: Option<Loaded>,
}

impl Checked {
    /// The strategies of the namespace of `file` that are not installed here, in words.
    fn uninstalled(&self, root: &Root, file: &str) -> Vec<String> {
        let name = file.split_once('/').and_then(|(name, _)| Namespace::new(name).ok());
        let all = self.stopped.as_ref().unwrap_or(&self.node);
        let found = name.and_then(|name| all.config.namespaces.get_key_value(&name));
        found.map_or_else(Vec::new, |(name, ns)| fitness::uninstalled_of(root, name, ns))
    }
}

/// Checks the whole configuration with the change of `file`: `before` and `after` by file. A namespace that is held already is no reason to
/// refuse; a change that holds one is, or that would hold one which does not run now.
fn check(before: &Texts, after: &Texts, file: &str) -> Result<Checked, Vec<Problem>> {
    let held = config::load(before).map(|loaded| loaded.held).unwrap_or_default();
    let node = config::load(after)?;
    let node = if node.held == held { node } else { node.whole()? };
    let name = file.split_once('/').and_then(|(name, _)| Namespace::new(name).ok());
    let stopped = name.filter(|name| !node.config.namespaces.contains_key(name) && !node.held.contains_key(name));
    let Some(name) = stopped else {
        return Ok(Checked { node, stopped: None });
    };
    let started = |texts: &Texts| -> Option<Loaded> {
        let mut texts = texts.clone();
        let list = texts.get_mut(LIST)?;
        *list = config::put_namespace(list, name.as_str(), true).ok()?;
        config::load(&texts).ok()
    };
    let stopped = started(after);
    let problems = |loaded: Option<&Loaded>| {
        let held = loaded.and_then(|loaded| loaded.held.get(&name));
        held.cloned().unwrap_or_default()
    };
    let known = problems(started(before).as_ref());
    let mut new = problems(stopped.as_ref());
    new.retain(|problem| !known.contains(problem));
    if new.is_empty() {
        Ok(Checked { node, stopped })
    } else {
        Err(new)
    }
}

/// Makes the new text and checks the whole configuration with it; writes nothing.
fn draft(root: &Root, file: &str, key: &str, value: ConfigValue) -> Result<Draft, Failure> {
    let (file, before) = text_of(root, file)?;
    let name = file.rsplit('/').next().unwrap_or(&file);
    if IDENTITY.contains(&(name, key)) {
        return Err(Failure::refused(
            "identity-key",
            format!("{key} of {file} says which node this is: no command changes it"),
            "`cvp upgrade` changes it when this node takes another one's place",
        ));
    }
    if (file.as_str(), key) == ("dynamic.toml", "cvp.enable") {
        let help = "use `cvp enable` or `cvp disable`";
        return Err(Failure::refused(
            "use-enable",
            "cvp.enable has commands of its own",
            help,
        ));
    }
    if let Some(namespace) = file
        .strip_suffix("/ns_genesis.toml")
        .and_then(|name| Namespace::new(name).ok())
        && root.namespace(&namespace).join("data").exists()
    {
        return Err(Failure::refused(
            "genesis-file",
            format!("configuration/{file} is what the chain {namespace} began with: no command changes it"),
            "a chain with another genesis is another namespace",
        ));
    }
    if root.configuration().join(&file).is_symlink() {
        return Err(Failure::refused(
            "symlink",
            format!("configuration/{file} is a symbolic link, which is not copied to the standby"),
            "nothing was changed; put a file in its place, or edit what it points to",
        ));
    }
    if file == "dynamic.toml" && key.split(['.', '[']).next() == Some("namespace") {
        return Err(Failure::refused(
            "use-namespace",
            "the list of namespaces has commands of its own",
            "use `cvp namespace start`, `stop` or `destroy`",
        ));
    }
    if key.contains(['[', ']']) {
        return Err(Failure::failed(
            "bad-key",
            format!("configuration/{file}: {key} names an entry of a list"),
            "nothing was changed; set the whole list by its key, or edit the file",
        ));
    }
    let old = config::get(&before, key).map_err(|error| bad_key(&file, &error))?;
    let after = config::edit(&before, key, value).map_err(|error| bad_key(&file, &error))?;
    let new = config::get(&after, key).map_err(|error| bad_key(&file, &error))?;
    if config::is_masked(new.as_deref().unwrap_or_default()) {
        return Err(Failure::failed(
            "bad-value",
            format!("{key}: *** is shown in the place of a user's name and password"),
            "nothing was changed; write the whole address",
        ));
    }
    let mut files = read_tree(&root.configuration())?;
    let unchanged = files.clone();
    files.insert(file.clone(), after.clone());
    let loaded = check(&unchanged, &files, &file).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::failed("bad-value", lines.join("\n       "), "nothing was changed")
    })?;
    if file == "system.toml" {
        ports::check_files(root, &loaded.node.config, key).map_err(|failure| {
            let what = format!("with this the next start would fail: {}", failure.message);
            Failure::failed("bad-value", what, format!("nothing was changed; {}", failure.help))
        })?;
    }
    let about = |warning: &&Problem| warning.file == file && warning.key == key;
    let mut warnings: Vec<String> = loaded
        .node
        .warnings
        .iter()
        .chain(loaded.stopped.iter().flat_map(|stopped| &stopped.warnings))
        .filter(about)
        .map(|warning| format!("{}; {}", warning.what, warning.help))
        .collect();
    let effect = online::effect(&file, key, !warnings.is_empty());
    if key.starts_with("strategy") {
        let missing = loaded.uninstalled(root, &file).into_iter();
        warnings.extend(missing.map(|what| {
            format!("{what}; the embedded strategy runs until it is installed, on both nodes (`cvp plugin list`)")
        }));
    }
    Ok(Draft {
        effect,
        loaded: loaded.node.config,
        changed: Changed {
            key: key.to_owned(),
            old: old.as_deref().map(config::masked),
            new: config::masked(&new.unwrap_or_default()),
            answer: "unchanged".to_owned(),
            replicated: false,
            takes_effect: effect.as_str().to_owned(),
            warnings,
            attached: false,
            file: file.clone(),
        },
        weight: if config::is_local(&file, key) {
            Weight::Weak
        } else {
            config::weight(&file, key)
        },
        before,
        after,
    })
}

impl Node {
    /// Changes a value. What matters is on both disks when this returns; the rest follows within a second.
    pub(super) async fn set_config(self: &Arc<Self>, change: ConfigChange) -> Result<Value, Failure> {
        let _one_at_a_time = self.changing.lock().await;
        let ConfigChange {
            file,
            key,
            value,
            must_replicate,
            by,
        } = change;
        let root = self.root.clone();
        let draft = blocking(move || draft(&root, &file, &key, value)).await?;
        let mut changed = draft.changed.clone();
        if draft.before == draft.after {
            return encode(&changed);
        }
        if draft.weight == Weight::Strong || must_replicate || self.raised(&draft).await {
            let note = format!("{} {}", changed.file, changed.key);
            let edit = FileEdit {
                file: &changed.file,
                before: &draft.before,
                after: &draft.after,
            };
            let outcome = self.propose(&edit, note, must_replicate).await?;
            changed.replicated = outcome == Outcome::Replicated;
            changed.answer = if changed.replicated { "replicated" } else { "local" }.to_owned();
        } else {
            let (root, before, after) = (self.root.clone(), draft.before.clone(), draft.after.clone());
            let file = changed.file.clone();
            blocking(move || write_alone(&root, &file, &before, &after)).await?;
            changed.answer = "weak".to_owned();
        }
        changed.attached = self.is_attached().await;
        tracing::info!(file = %changed.file, key = %changed.key, answer = %changed.answer, %by, "configuration changed");
        if draft.effect == Effect::Now {
            self.take_effect(&draft.loaded).await;
        }
        encode(&changed)
    }

    /// Whether a standby is there to copy what changes.
    async fn is_attached(&self) -> bool {
        let Some(replication) = self.replication() else {
            return false;
        };
        let status = replication.status().await;
        status.is_some_and(|(status, _)| status.peer.is_some())
    }

    /// What the host lets be weak, a strategy may want strong. What a node keeps for itself is nobody else's business.
    async fn raised(&self, draft: &Draft) -> bool {
        let (file, key) = (&draft.changed.file, &draft.changed.key);
        let Some(replication) = self.replication().filter(|_| !config::is_local(file, key)) else {
            return false;
        };
        let edit = Edit {
            id: 0,
            file: format!("{CONFIGURATION}/{file}"),
            key: key.clone(),
            old: Some(file_digest(draft.before.as_bytes()).0),
            new: Some(file_digest(draft.after.as_bytes()).0),
        };
        replication.weigh(edit).await
    }

    /// Changes a file of the configuration strongly: `Replicated` or `Local`.
    ///
    /// # Errors
    /// Nothing was changed, or nobody knows.
    pub(super) async fn propose(
        &self,
        edit: &FileEdit<'_>,
        note: String,
        must_replicate: bool,
    ) -> Result<Outcome, Failure> {
        if edit.after.len() > CHANGED_BYTES_MAX {
            return Err(Failure::failed(
                "too-large",
                format!("configuration/{} has more than {CHANGED_BYTES_MAX} bytes", edit.file),
                "nothing was changed; make the file smaller",
            ));
        }
        let path = format!("{CONFIGURATION}/{}", edit.file);
        if let Some(reason) = private_key(&path, edit.after.as_bytes()) {
            // The whole file would travel.
            return Err(Failure::failed(
                PRIVATE_KEY,
                format!("{path}: {reason}"),
                "nothing was changed; private keys never leave this node: move it out of this file",
            ));
        }
        let change = FileChange {
            path,
            old: Some(file_digest(edit.before.as_bytes())),
            content: Bytes::copy_from_slice(edit.after.as_bytes()),
        };
        let wish = Wish {
            kind: CONFIG_CHANGE,
            body: change.encode().into(),
            note,
            must_replicate,
            queue: None,
        };
        let outcome = match self.replication() {
            Some(replication) => replication.propose(wish).await,
            None => None,
        };
        match outcome {
            Some(Outcome::Failed(refusal)) => Err(Failure::failed(
                &refusal.code,
                format!("{}; nothing was changed on either node", refusal.text),
                refusal.hint,
            )),
            Some(Outcome::Undecided(refusal)) => Err(Failure::new(
                Exit::Undecided,
                "strong-undecided",
                format!("the change is undecided: {}", refusal.text),
                refusal.hint,
            )),
            Some(outcome) => Ok(outcome),
            None => Err(Failure::new(
                Exit::Undecided,
                "strong-undecided",
                "the node stopped before the change had ended",
                "start it, and look with `cvp config get`",
            )),
        }
    }
}

fn write_alone(root: &Root, file: &str, before: &str, after: &str) -> Result<(), Failure> {
    let mut meanwhile = false;
    root.rewrite(file, |text| {
        meanwhile = text != before;
        Ok(if meanwhile { text } else { after }.to_owned())
    })?;
    if meanwhile {
        return Err(Failure::failed(
            "changed-meanwhile",
            format!("configuration/{file} was changed by somebody else meanwhile"),
            "look at it, and set the key again",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
