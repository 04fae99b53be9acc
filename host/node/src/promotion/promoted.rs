//! The configuration after a promotion: the provider's whole tree from the copy, with the keys that this node keeps for itself, and what the
//! plan says of names and roles. The survey checks it, the step writes it: both make it here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cvp_core::config::{self, Loaded};
use cvp_core::promotion::{ConfigEdit, CopyState, Plan, configuration_edits};
use cvp_core::replication::{CONFIG_CHANGE, CONFIGURATION, FileChange, Inventory};
use cvp_core::types::{Namespace, Refusal};

use super::sink::refusal_of;
use crate::config::{Places, Root, read_tree};
use crate::failure::Failure;
use crate::replication::{ControlFiles, describe_queues};

/// The file that lists the namespaces.
pub(super) const LIST: &str = "dynamic.toml";

/// Content by path below `configuration/`.
type Files = BTreeMap<String, Vec<u8>>;

pub(super) fn bad(text: String) -> Refusal {
    Refusal::new(
        "bad-configuration",
        text,
        "correct it on the provider, or in this node's own configuration",
    )
}

/// The keys that the strategies of all namespaces keep for this node, by file below `configuration/`.
#[derive(Clone, Default)]
pub struct KeptKeys(BTreeMap<String, Vec<String>>);

impl KeptKeys {
    /// Reads all of them.
    ///
    /// # Errors
    /// A record is damaged.
    pub fn read(files: &ControlFiles) -> Result<KeptKeys, Refusal> {
        let mut by_file: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let prefix = format!("{CONFIGURATION}/");
        for kept in files.all_kept_local().map_err(|error| error.refusal())? {
            if let Some(file) = kept.file.strip_prefix(&prefix) {
                by_file.entry(file.to_owned()).or_default().push(kept.key);
            }
        }
        Ok(KeptKeys(by_file))
    }

    /// Those of a file.
    pub fn of(&self, file: &str) -> &[String] {
        self.0.get(file).map_or(&[], Vec::as_slice)
    }
}

/// What this node had as a standby.
struct Own {
    /// Texts by path below `configuration/`.
    files: BTreeMap<String, String>,
    /// Where they lie: in place, until the step has put them aside.
    directory: PathBuf,
}

/// What an upgrade goes by: the copy and this node's own tree, each file read once.
pub(super) struct Trees {
    /// What the copy holds, as it is found.
    copy: Inventory,
    /// The provider's tree, once a change that is staged rolls forward.
    theirs: Files,
    own: Result<Own, Refusal>,
    kept: Result<KeptKeys, Refusal>,
    /// What a staged change does, in words.
    change: Option<String>,
}

impl Trees {
    /// Reads them.
    ///
    /// # Errors
    /// The copy is not here, or a change of it is damaged.
    pub(super) fn read(root: &Root, files: &ControlFiles) -> Result<Trees, Refusal> {
        let places = Places::copy(root);
        let copy = places.scan();
        let mut theirs = Files::new();
        for file in &copy.files {
            if let Some(below) = file.path.strip_prefix(&format!("{CONFIGURATION}/")) {
                theirs.insert(below.to_owned(), places.read(&file.path, &file.digest)?.to_vec());
            }
        }
        if theirs.is_empty() {
            return Err(bad(format!("{} holds nothing", places.configuration().display())));
        }
        let change = match staged(files)? {
            Some(change) => {
                if let Some(below) = change.path.strip_prefix(&format!("{CONFIGURATION}/")) {
                    theirs.insert(below.to_owned(), change.content.to_vec());
                }
                Some(change.path)
            }
            None => staged_queues(root, files)?,
        };
        Ok(Trees {
            copy,
            theirs,
            own: own(root).map_err(|failure| refusal_of(&failure)),
            kept: KeptKeys::read(files),
            change,
        })
    }

    /// What the copy holds, as it is found.
    pub(super) fn copy(&self) -> &Inventory {
        &self.copy
    }

    /// The namespaces that the provider's configuration starts.
    ///
    /// # Errors
    /// Its list cannot be read.
    pub(super) fn started(&self) -> Result<BTreeSet<String>, Refusal> {
        Ok(listed(&self.theirs, true)?.into_iter().collect())
    }

    /// The namespaces that the provider's configuration lists and does not start.
    ///
    /// # Errors
    /// Its list cannot be read.
    pub(super) fn stopped(&self) -> Result<Vec<String>, Refusal> {
        listed(&self.theirs, false)
    }

    /// All that it lists.
    ///
    /// # Errors
    /// Its list cannot be read.
    pub(super) fn listed(&self) -> Result<Vec<Namespace>, Refusal> {
        let names = [true, false].map(|started| listed(&self.theirs, started));
        let mut all = Vec::new();
        for name in names.into_iter().collect::<Result<Vec<_>, _>>()?.concat() {
            all.extend(Namespace::new(&name).ok());
        }
        Ok(all)
    }

    /// The tree that the node goes on with. Without a plan, names and roles are the provider's own already.
    ///
    /// # Errors
    /// A file of it is no TOML.
    pub(super) fn promoted(&self, plan: Option<&Plan>) -> Result<Files, Refusal> {
        let own = self.own.as_ref().map_err(Clone::clone)?;
        let kept_keys = self.kept.as_ref().map_err(Clone::clone)?;
        let mut theirs = self.theirs.clone();
        if let Some(plan) = plan {
            start_planned(&mut theirs, plan)?;
        }
        for (name, own) in &own.files {
            if let Some(content) = theirs.get_mut(name) {
                let kept = text_of(name, content).and_then(|text| {
                    config::keep_local(name, text, own, kept_keys.of(name))
                        .map_err(|error| bad(format!("{name}: {error}")))
                });
                match kept {
                    Ok(kept) => *content = kept.into_bytes(),
                    Err(_) if holds_one(name) => {}
                    Err(refusal) => return Err(refusal),
                }
            }
        }
        let role_alone = || {
            vec![ConfigEdit {
                file: "dynamic.toml".into(),
                key: "cvp.node_type",
                value: config::Value::Text("provider".into()),
            }]
        };
        for edit in plan.map_or_else(role_alone, configuration_edits) {
            let Some(content) = theirs.get_mut(&edit.file) else {
                if holds_one(&edit.file) {
                    continue;
                }
                return Err(bad(format!("{} is missing", edit.file)));
            };
            let edited = text_of(&edit.file, content).and_then(|text| {
                config::edit(text, edit.key, edit.value).map_err(|error| bad(format!("{}: {error}", edit.file)))
            });
            match edited {
                Ok(edited) => *content = edited.into_bytes(),
                Err(_) if holds_one(&edit.file) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        own.keep_tls_files(&mut theirs);
        Ok(theirs)
    }

    /// The configuration that the node would have with that tree; a namespace whose files are bad is held.
    ///
    /// # Errors
    /// What keeps the node from starting, in words.
    pub(super) fn load(&self, plan: Option<&Plan>) -> Result<Loaded, Refusal> {
        let mut texts = BTreeMap::new();
        for (name, content) in self.promoted(plan)? {
            if name.ends_with(".toml") {
                // What is no text is no TOML either, and its reader says so.
                let text = String::from_utf8_lossy(&content).into_owned();
                texts.insert(name, text);
            }
        }
        config::load(&texts).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bad(lines.join("; "))
        })
    }

    /// The copy, as the preflight judges it. It is exchanged in one rename, and changed file by file: what is there is whole, whatever a crash
    /// left unsaid.
    pub(super) fn state(&self) -> CopyState {
        CopyState::Whole(self.change.clone())
    }
}

/// The configuration that an upgrade would find now: the provider's tree with this node's own keys; a namespace whose files are bad is held.
///
/// # Errors
/// What keeps the node from starting, in words.
pub fn load_copy(root: &Root, files: &ControlFiles) -> Result<Loaded, Refusal> {
    Trees::read(root, files)?.load(None)
}

fn own(root: &Root) -> Result<Own, Failure> {
    let in_place = root.configuration();
    let files = read_tree(&in_place)?;
    // Whose it is cannot be said, and there is no other yet: what reads it names what is wrong in it.
    let role = files.get(LIST).map(|text| config::get(text, "cvp.node_type"));
    if let Some(Err(error)) = role
        && !aside(root).is_dir()
    {
        return Err(Failure::failed(
            "bad-configuration",
            format!("{}: {error}", in_place.join(LIST).display()),
            "correct it on this node",
        ));
    }
    if is_standby(&files) {
        return Ok(Own {
            files,
            directory: in_place,
        });
    }
    Ok(Own {
        files: read_tree(&aside(root))?,
        directory: aside(root),
    })
}

pub(super) fn is_standby(files: &BTreeMap<String, String>) -> bool {
    let node_type = files.get("dynamic.toml").map(|text| config::get(text, "cvp.node_type"));
    matches!(node_type, Some(Ok(Some(value))) if value.trim_matches(['"', '\'']) == "receiver")
}

/// Where the own tree goes.
pub(super) fn aside(root: &Root) -> PathBuf {
    root.system().join("configuration_cvp")
}

/// Keys of `system.toml` that name a file of TLS, which each node has for itself.
const TLS_FILES: [&str; 6] = [
    "p2p.tlsCA",
    "p2p.tlsCert",
    "p2p.tlsCertPriv",
    "http.tlsCA",
    "http.tlsCert",
    "http.tlsCertPriv",
];

impl Own {
    /// This node's own TLS files go with it where they lie in `configuration/`, which is exchanged.
    fn keep_tls_files(&self, theirs: &mut Files) {
        let text = theirs
            .get("system.toml")
            .map(|text| String::from_utf8_lossy(text).into_owned());
        for key in TLS_FILES {
            let named = text.as_ref().and_then(|text| config::get(text, key).ok().flatten());
            let Some(named) = named else { continue };
            let named = named.trim_matches(['"', '\'']).trim_start_matches("./").to_owned();
            let Some(below) = named.strip_prefix(&format!("{CONFIGURATION}/")) else {
                continue;
            };
            let inside = !below.split('/').any(|part| matches!(part, "" | "." | ".."));
            let content = inside.then(|| std::fs::read(self.directory.join(below)).ok());
            if let Some(content) = content.flatten() {
                theirs.insert(below.to_owned(), content);
            }
        }
    }
}

/// Whether a file that cannot be read holds its namespace back, and nothing else.
fn holds_one(name: &str) -> bool {
    let namespace = name.split_once('/').map(|(namespace, _)| namespace);
    namespace.is_some_and(|namespace| namespace != config::GLOBAL)
}

/// What the list says of each namespace: those that start, or those that do not.
fn listed(files: &Files, started: bool) -> Result<Vec<String>, Refusal> {
    let text = text_of(LIST, files.get(LIST).map_or(&[][..], Vec::as_slice))?;
    let entries = config::namespace_entries(text).map_err(|error| bad(format!("{LIST}: {error}")))?;
    Ok(entries
        .into_iter()
        .filter(|(_, start)| *start == started)
        .map(|(name, _)| name)
        .collect())
}

/// A namespace of the provider that was never copied does not start: its chain would begin anew here.
fn start_planned(files: &mut Files, plan: &Plan) -> Result<(), Refusal> {
    for name in listed(files, true)? {
        let held = plan.held.iter().any(|held| held.name.as_str() == name);
        if held || plan.namespaces.iter().any(|planned| planned.name.as_str() == name) {
            continue;
        }
        let text = text_of(LIST, files.get(LIST).map_or(&[][..], Vec::as_slice))?;
        let text = config::put_namespace(text, &name, false).map_err(|error| bad(format!("{LIST}: {error}")))?;
        files.insert(LIST.to_owned(), text.into_bytes());
    }
    Ok(())
}

fn text_of<'a>(name: &str, content: &'a [u8]) -> Result<&'a str, Refusal> {
    std::str::from_utf8(content).map_err(|_| bad(format!("{name} is not UTF-8")))
}

pub(super) fn staged(files: &ControlFiles) -> Result<Option<FileChange>, Refusal> {
    let Some(change) = files.staged().map_err(|error| error.refusal())? else {
        return Ok(None);
    };
    if change.kind != CONFIG_CHANGE {
        return Ok(None);
    }
    FileChange::decode(&change.body)
        .map(Some)
        .map_err(|error| bad(format!("the staged change: {error}")))
}

/// What a staged change of message queues does, in words.
fn staged_queues(root: &Root, files: &ControlFiles) -> Result<Option<String>, Refusal> {
    match files.staged().map_err(|error| error.refusal())? {
        Some(change) => describe_queues(root, &change),
        None => Ok(None),
    }
}
