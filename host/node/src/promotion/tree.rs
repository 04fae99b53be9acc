//! The step that exchanges the trees on the disk: this node's own goes aside, the promoted one takes its place, the certificates go to theirs.

use std::path::{Path, PathBuf};

use cvp_core::config;
use cvp_core::promotion::Plan;
use cvp_core::replication::{CONFIGURATION, Inventory};
use cvp_core::types::{Namespace, Refusal};
use rustix::fs::{Access, AtFlags, CWD, StatxAttributes, StatxFlags, access, statx};

use super::promoted::{LIST, Trees, aside, bad, is_standby, staged};
use super::sink::refusal_of;
use crate::config::{Copy, Places, Root, copy_tree, exchange, read_tree, remove_tree, sync_tree, write_new};
use crate::durable;
use crate::replication::{ControlFiles, finish_queues};

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
    let trees = Trees::read(root, files)?;
    let promoted = trees.promoted(Some(plan))?;
    let building = staging.join("promoted");
    remove_tree(&building)?;
    for (name, content) in &promoted {
        write_new(&building.join(name), content)?;
    }
    sync_tree(&building)?;
    exchange(&building, &root.configuration())?;
    take_certificates(root, plan, trees.copy())?;
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
fn take_certificates(root: &Root, plan: &Plan, copy: &Inventory) -> Result<(), Refusal> {
    let (copied, own) = (Places::copy(root), Places::own(root));
    for file in &copy.files {
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
