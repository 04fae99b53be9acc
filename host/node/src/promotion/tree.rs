//! The configuration after a promotion: the provider's whole tree from the copy, with the keys that this node keeps for itself, and what the
//! plan says of names and roles. The survey checks it, the step writes it: both make it here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cvp_core::config::{self, Loaded};
use cvp_core::promotion::{ConfigEdit, CopyState, Plan, configuration_edits};
use cvp_core::replication::{CONFIG_CHANGE, CONFIGURATION, FileChange};
use cvp_core::types::{Namespace, Refusal};
use rustix::fs::{Access, AtFlags, CWD, StatxAttributes, StatxFlags, access, statx};

use super::sink::refusal_of;
use crate::config::{Copy, Places, Root, copy_tree, exchange, read_tree, remove_tree, sync_tree, write_new};
use crate::durable;
use crate::replication::{ControlFiles, describe_queues, finish_queues};

/// The file that lists the namespaces.
const LIST: &str = "dynamic.toml";

/// Content by path below `configuration/`.
type Files = BTreeMap<String, Vec<u8>>;

fn bad(text: String) -> Refusal {
    Refusal::new(
        "bad-configuration",
        text,
        "correct it on the provider, or in this node's own configuration",
    )
}

/// The files that this node had as a standby: its own, until the step has put them aside.
fn standby_files(root: &Root) -> Result<BTreeMap<String, String>, Refusal> {
    let own = read_tree(&root.configuration()).map_err(|failure| refusal_of(&failure))?;
    if is_standby(&own) {
        return Ok(own);
    }
    read_tree(&aside(root)).map_err(|failure| refusal_of(&failure))
}

fn is_standby(files: &BTreeMap<String, String>) -> bool {
    let node_type = files.get("dynamic.toml").map(|text| config::get(text, "cvp.node_type"));
    matches!(node_type, Some(Ok(Some(value))) if value.trim_matches(['"', '\'']) == "receiver")
}

fn aside(root: &Root) -> PathBuf {
    root.system().join("configuration_cvp")
}

/// The tree that the node goes on with; reads only.
///
/// # Errors
/// The copy is not here, or a file of it is no TOML.
pub(super) fn promoted_files(root: &Root, files: &ControlFiles, plan: Option<&Plan>) -> Result<Files, Refusal> {
    let mut theirs = provider_files(root, files)?;
    if let Some(plan) = plan {
        start_planned(&mut theirs, plan)?;
    }
    for (name, own) in standby_files(root)? {
        if let Some(content) = theirs.get_mut(&name) {
            let further = kept_keys(files, &name)?;
            let kept = text_of(&name, content).and_then(|text| {
                config::keep_local(&name, text, &own, &further).map_err(|error| bad(format!("{name}: {error}")))
            });
            match kept {
                Ok(kept) => *content = kept.into_bytes(),
                Err(_) if holds_one(&name) => {}
                Err(refusal) => return Err(refusal),
            }
        }
    }
    let edits = plan.map(configuration_edits);
    // Without a plan the names and roles are the provider's own already.
    let role_alone = || {
        vec![ConfigEdit {
            file: "dynamic.toml".into(),
            key: "cvp.node_type",
            value: config::Value::Text("provider".into()),
        }]
    };
    for edit in edits.unwrap_or_else(role_alone) {
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
    keep_tls_files(root, &mut theirs)?;
    Ok(theirs)
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

/// This node's own TLS files go with it where they lie in `configuration/`, which is exchanged.
fn keep_tls_files(root: &Root, theirs: &mut Files) -> Result<(), Refusal> {
    let own = read_tree(&root.configuration()).map_err(|failure| refusal_of(&failure))?;
    let own = if is_standby(&own) {
        root.configuration()
    } else {
        aside(root)
    };
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
        if let Some(content) = inside.then(|| std::fs::read(own.join(below)).ok()).flatten() {
            theirs.insert(below.to_owned(), content);
        }
    }
    Ok(())
}

/// Whether a file that cannot be read holds its namespace back, and nothing else.
fn holds_one(name: &str) -> bool {
    let namespace = name.split_once('/').map(|(namespace, _)| namespace);
    namespace.is_some_and(|namespace| namespace != config::GLOBAL)
}

/// The keys of a file below `configuration/` that the strategies of all namespaces keep for this node.
///
/// # Errors
/// Their record is damaged.
pub fn kept_keys(files: &ControlFiles, name: &str) -> Result<Vec<String>, Refusal> {
    let path = format!("{CONFIGURATION}/{name}");
    let mut keys = Vec::new();
    for namespace in files.kept_namespaces() {
        let kept = files.kept_local(&namespace).map_err(|error| error.refusal())?;
        keys.extend(kept.into_iter().filter(|kept| kept.file == path).map(|kept| kept.key));
    }
    Ok(keys)
}

/// Whether the provider's tree can be put in the place of this node's own, which happens in one rename: what is mounted there would go with it.
///
/// # Errors
/// `configuration/`, or something in it, is a mount point.
pub fn exchangeable(root: &Root) -> Result<(), Refusal> {
    let own = root.configuration();
    match mounted(&own) {
        None => Ok(()),
        Some(path) => Err(bad(format!(
            "{} is a mount point, and an upgrade exchanges {} in one rename: mount it outside, or the directory above {} in its place",
            path.display(),
            own.display(),
            config_name(&own)
        ))),
    }
}

fn config_name(own: &Path) -> String {
    own.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The first mount point at or below a path; links are not followed. A file system that does not say is taken at its word when the time comes.
fn mounted(path: &Path) -> Option<PathBuf> {
    let seen = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).ok()?;
    if seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Some(path.to_owned());
    }
    if !path.symlink_metadata().is_ok_and(|seen| seen.is_dir()) {
        return None;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    entries.sort();
    entries.iter().find_map(|entry| mounted(entry))
}

/// What the provider's tree is once a change that is staged rolls forward.
fn provider_files(root: &Root, files: &ControlFiles) -> Result<Files, Refusal> {
    let mut theirs = copied_files(root)?;
    if let Some(change) = staged(files)?
        && let Some(below) = change.path.strip_prefix(&format!("{CONFIGURATION}/"))
    {
        theirs.insert(below.to_owned(), change.content.to_vec());
    }
    Ok(theirs)
}

/// The namespaces that the provider's configuration starts.
///
/// # Errors
/// The copy is not here, or its list cannot be read.
pub(super) fn started_by_provider(root: &Root, files: &ControlFiles) -> Result<BTreeSet<String>, Refusal> {
    let theirs = provider_files(root, files)?;
    Ok(started(&theirs)?.into_iter().collect())
}

fn started(files: &Files) -> Result<Vec<String>, Refusal> {
    let text = text_of(LIST, files.get(LIST).map_or(&[][..], Vec::as_slice))?;
    let entries = config::namespace_entries(text).map_err(|error| bad(format!("{LIST}: {error}")))?;
    Ok(entries
        .into_iter()
        .filter(|(_, start)| *start)
        .map(|(name, _)| name)
        .collect())
}

/// A namespace of the provider that was never copied does not start: its chain would begin anew here.
fn start_planned(files: &mut Files, plan: &Plan) -> Result<(), Refusal> {
    for name in started(files)? {
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

fn copied_files(root: &Root) -> Result<Files, Refusal> {
    let places = Places::copy(root);
    let mut out = Files::new();
    for file in places.scan().files {
        let Some(below) = file.path.strip_prefix(&format!("{CONFIGURATION}/")) else {
            continue;
        };
        out.insert(below.to_owned(), places.read(&file.path, &file.digest)?.to_vec());
    }
    if out.is_empty() {
        return Err(bad(format!("{} holds nothing", places.configuration().display())));
    }
    Ok(out)
}

fn staged(files: &ControlFiles) -> Result<Option<FileChange>, Refusal> {
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

/// The configuration that an upgrade would find now: the provider's tree with this node's own keys; a namespace whose files are bad is held.
///
/// # Errors
/// What keeps the node from starting, in words.
pub fn load_copy(root: &Root, files: &ControlFiles) -> Result<Loaded, Refusal> {
    load(root, files, None)
}

/// The configuration that the node would have with the provider's tree and its own keys; a namespace whose files are bad is held.
///
/// # Errors
/// What keeps the node from starting, in words.
pub(super) fn load(root: &Root, files: &ControlFiles, plan: Option<&Plan>) -> Result<Loaded, Refusal> {
    let tree = promoted_files(root, files, plan)?;
    let mut texts = BTreeMap::new();
    for (name, content) in tree.iter().filter(|(name, _)| name.ends_with(".toml")) {
        // What is no text is no TOML either, and its reader says so.
        texts.insert(name.clone(), String::from_utf8_lossy(content).into_owned());
    }
    config::load(&texts).map_err(|problems| in_words(&problems))
}

fn in_words(problems: &[config::Problem]) -> Refusal {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    bad(lines.join("; "))
}

/// The step of a late plan: what it takes over starts with the node from now on.
///
/// # Errors
/// The list of namespaces cannot be changed.
pub(super) fn start_late(root: &Root, plan: &Plan) -> Result<(), Refusal> {
    for namespace in &plan.namespaces {
        let name = namespace.name.as_str();
        root.rewrite(LIST, |text| config::put_namespace(text, name, true))
            .map_err(|failure| refusal_of(&failure))?;
    }
    Ok(())
}

/// The copy, as the preflight judges it.
pub(super) fn copy_state(root: &Root, files: &ControlFiles) -> CopyState {
    let state = || -> Result<CopyState, Refusal> {
        // It is exchanged in one rename, and changed file by file: what is there is whole, whatever a crash left unsaid.
        copied_files(root)?;
        let change = match staged(files)? {
            Some(change) => Some(change.path),
            None => staged_queues(root, files)?,
        };
        Ok(CopyState::Whole(change))
    };
    state().unwrap_or_else(|refusal| CopyState::Missing(refusal.text))
}

/// The step: the own tree goes aside, the provider's takes its place in one rename, its certificates go to theirs. Doing it again ends in
/// the same files.
///
/// # Errors
/// The disk, or a tree that cannot be made.
pub(super) fn take_over(root: &Root, files: &ControlFiles, plan: &Plan) -> Result<(), Refusal> {
    let staging = root.system().join("staging");
    let own = read_tree(&root.configuration()).map_err(|failure| refusal_of(&failure))?;
    if is_standby(&own) {
        let building = staging.join("own");
        remove_tree(&building)?;
        copy_tree(&root.configuration(), &building)?;
        sync_tree(&building)?;
        exchange(&building, &aside(root))?;
    }
    let promoted = promoted_files(root, files, Some(plan))?;
    let building = staging.join("promoted");
    remove_tree(&building)?;
    for (name, content) in &promoted {
        write_new(&building.join(name), content)?;
    }
    sync_tree(&building)?;
    exchange(&building, &root.configuration())?;
    take_certificates(root, plan)?;
    // Rolled forward: it is in the configuration now.
    if let Some(change) = staged(files)? {
        Copy::new(root).put(&change)?;
        files.remove_staged().map_err(|error| error.refusal())?;
    }
    if let Some(change) = files.staged().map_err(|error| error.refusal())?
        && finish_queues(root, &change)?
    {
        files.remove_staged().map_err(|error| error.refusal())?;
    }
    remove_tree(&staging)
}

/// Whether a namespace's backed-up certificates can be put in their places.
///
/// # Errors
/// A directory that cannot be written.
pub(super) fn certificates_fit(root: &Root, name: &Namespace) -> Result<(), Refusal> {
    let (copied, own) = (Places::copy(root), Places::own(root));
    let mut left = vec![(copied.certificates(name.as_str()), own.certificates(name.as_str()))];
    while let Some((from, to)) = left.pop() {
        for entry in std::fs::read_dir(&from).into_iter().flatten().flatten() {
            let (path, target) = (entry.path(), to.join(entry.file_name()));
            if path.is_dir() {
                left.push((path, target));
                continue;
            }
            if std::fs::read(&path).ok() == std::fs::read(&target).ok() {
                continue;
            }
            let place = target.ancestors().skip(1).find(|place| place.is_dir());
            let writable = place.is_some_and(|place| access(place, Access::WRITE_OK | Access::EXEC_OK).is_ok());
            if !writable {
                let text = format!("the provider's certificate cannot be put at {}", target.display());
                return Err(Refusal::new("disk-failed", text, "make its directory writable"));
            }
        }
    }
    Ok(())
}

/// The backed-up certificates of what is taken over become the node's own; keys that the operator brought stay where they are.
fn take_certificates(root: &Root, plan: &Plan) -> Result<(), Refusal> {
    let (copied, own) = (Places::copy(root), Places::own(root));
    for file in copied.scan().files {
        let mut names = file.path.split('/');
        let (tree, namespace) = (names.next(), names.next());
        let held = plan.held.iter().any(|held| Some(held.name.as_str()) == namespace);
        if tree == Some(CONFIGURATION) || held {
            continue;
        }
        let content = copied.read(&file.path, &file.digest)?;
        let Some(target) = own.file(&file.path) else { continue };
        let disk = |error: durable::DurableError| Refusal::new("disk-failed", error.to_string(), "check the disk");
        if let Some(parent) = target.parent() {
            durable::create_directories(parent).map_err(disk)?;
        }
        if std::fs::read(&target).ok().as_deref() != Some(&content[..]) {
            durable::replace(&target, &content, 0o644).map_err(disk)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
