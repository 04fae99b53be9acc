//! `cvp clear`: wipes what a stopped receiver holds of its provider, so that it can protect another node. Keys and its own configuration
//! stay; so does, moved aside, the chain of a namespace that stood still on a provider when it was replaced, or that its standby never had: nobody took it over. With `--as-standby-of` also the way back of a provider that was replaced: it becomes a standby of the node that took its place.
//!
//! Every step can be repeated after a crash; until the last one a start is refused or asks nobody for blocks.

mod kept;
mod standby;

use std::path::{Path, PathBuf};

use cvp_core::config::{PairRole, Remote};
use serde::Serialize;

use super::Context;
use crate::durable::{self, LockFile};
use crate::ipc::{Exit, Failure};

/// Arguments of `clear`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Really wipe; there is no way back.
    #[arg(long)]
    yes: bool,
    /// Also makes the node a standby of this one: rewrites cvp.remote, cvp.enable, cvp.node_type and each namespace's self.type. A provider
    /// is taken only when it knows that it was replaced.
    #[arg(long, value_name = "HOST IP:PORT")]
    as_standby_of: Option<Remote>,
}

/// What was wiped.
#[derive(Debug, Serialize)]
struct Cleared {
    cleared: Vec<String>,
    /// Data that may be nowhere else, where it lies now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standby_of: Option<String>,
}

/// What belongs to the provider below `system/cvp`, beside what strategies stored.
const SYSTEM_FILES: [&str; 12] = [
    "followed",
    "told",
    "staged",
    "staging",
    "copy",
    "committed",
    "promised",
    "configuration_vp",
    "promotion.journal",
    "provider",
    "last-receiver",
    "last-held",
];
const STORED: [&str; 2] = ["strategy-", "kept-"];
/// These go last: while they are there, a half-cleared copy refuses any other provider, a half-cleared old provider does not start, and
/// `clear` can be repeated.
const LAST_FILES: [&str; 3] = ["identity", "fenced", "binding"];

/// Runs `clear`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    if !arguments.yes {
        return Err(Failure::usage(
            "`cvp clear` removes every block and the binding of this node",
            "repeat with --yes if that is what you want",
        ));
    }
    if !context.root.exists() {
        // Says what is missing, and makes nothing.
        context.root.load()?;
    }
    let _lock = LockFile::acquire(&context.root.lock_file())?;
    match &arguments.as_standby_of {
        Some(remote) => standby::configure(&context.root, remote)?,
        None => refuse_provider(context)?,
    }
    let own_chains = kept::is_replaced(&context.root)?;
    let (started, copied) = (kept::started(&context.root)?, kept::copied(&context.root)?);
    let taken_over =
        |name: &String| started.contains(name) && copied.as_ref().is_none_or(|copied| copied.contains(name));
    let (mut cleared, mut kept) = (Vec::new(), Vec::new());
    for namespace in namespaces(context)? {
        let name = namespace.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if own_chains && !taken_over(&name) {
            kept.extend(kept::put_aside(&namespace.join("data"))?);
        }
        wipe(&namespace.join("data"), &mut cleared)?;
        wipe(&namespace.join("system/cvp"), &mut cleared)?;
    }
    let system = context.root.system();
    for name in SYSTEM_FILES {
        wipe(&system.join(name), &mut cleared)?;
    }
    for path in entries(&system)? {
        let name = path.file_name().unwrap_or_default();
        if STORED.iter().any(|stored| name.to_string_lossy().starts_with(stored)) {
            wipe(&path, &mut cleared)?;
        }
    }
    for name in LAST_FILES {
        wipe(&system.join(name), &mut cleared)?;
    }
    let standby_of = arguments.as_standby_of.as_ref().map(ToString::to_string);
    let answer = Cleared {
        cleared,
        kept,
        standby_of,
    };
    context.print(&answer, |answer| {
        let count = answer.cleared.len();
        let done = match &answer.standby_of {
            Some(remote) => format!("cleared {count} items; this node is a standby of {remote}: start it"),
            None if count == 0 => "nothing was there to clear".to_owned(),
            None => format!("cleared {count} items; this node can protect another provider now"),
        };
        let kept = answer.kept.iter().map(|path| {
            format!(
                "\nkept {path}: the namespace was stopped here or never copied, and its chain may be nowhere else; put it in its place on the node that serves, or \
                 remove it when it is not needed"
            )
        });
        done + &kept.collect::<String>()
    });
    Ok(Exit::Done)
}

fn refuse_provider(context: &Context) -> Result<(), Failure> {
    if context.root.load()?.config.role() == PairRole::Receiver {
        return Ok(());
    }
    Err(Failure::refused(
        "wrong-role",
        "`cvp clear` wipes a receiver's copy, and this node is a provider",
        "if another node took its place, make it that node's standby: `cvp clear --yes --as-standby-of \"HOST IP:PORT\"`",
    ))
}

/// Every directory below `namespaces/`, configured or not.
fn namespaces(context: &Context) -> Result<Vec<PathBuf>, Failure> {
    let mut out = entries(&context.root.directory().join("namespaces"))?;
    out.retain(|path| path.is_dir());
    Ok(out)
}

/// What is in a directory, in order; nothing where there is none.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk(directory, &error)),
    };
    let mut out = Vec::new();
    for entry in entries {
        out.push(entry.map_err(|error| disk(directory, &error))?.path());
    }
    out.sort();
    Ok(out)
}

/// Removes a file or directory with everything below it, durably.
fn wipe(path: &Path, cleared: &mut Vec<String>) -> Result<(), Failure> {
    let removed = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    removed.map_err(|error| disk(path, &error))?;
    if let Some(parent) = path.parent() {
        durable::sync_directory(parent)?;
    }
    cleared.push(path.display().to_string());
    Ok(())
}

fn disk(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(
        "disk",
        format!("cannot clear {}: {error}", path.display()),
        "check the permissions and repeat `cvp clear --yes`",
    )
}
