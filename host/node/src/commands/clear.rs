//! `cvp clear`: wipes what a stopped receiver holds of its provider, so that it can protect another node. Keys and its own configuration
//! stay.

use std::path::{Path, PathBuf};

use cvp_core::config::PairRole;
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
}

/// What was wiped.
#[derive(Debug, Serialize)]
struct Cleared {
    cleared: Vec<String>,
}

/// What belongs to the provider below `system/cvp`. The binding goes last: while it is there, a half-cleared copy refuses any other
/// provider, and `clear` can be repeated.
const SYSTEM_FILES: [&str; 6] = [
    "staged",
    "configuration_vp",
    "promotion.journal",
    "last-receiver",
    "fenced",
    "identity",
];
const BINDING: &str = "binding";

/// Runs `clear`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let config = context.root.load()?.config;
    if config.role() != PairRole::Receiver {
        return Err(Failure::refused(
            "wrong-role",
            "`cvp clear` wipes a receiver's copy, and this node is a provider",
            "to make it a receiver, set cvp.node_type and cvp.remote in dynamic.toml first",
        ));
    }
    if !arguments.yes {
        return Err(Failure::usage(
            "`cvp clear` removes every block and the binding of this node",
            "repeat with --yes if that is what you want",
        ));
    }
    let _lock = LockFile::acquire(&context.root.lock_file())?;
    let mut cleared = Vec::new();
    for namespace in namespaces(context)? {
        wipe(&namespace.join("data"), &mut cleared)?;
        wipe(&namespace.join("system/cvp"), &mut cleared)?;
    }
    let system = context.root.system();
    for name in SYSTEM_FILES.into_iter().chain([BINDING]) {
        wipe(&system.join(name), &mut cleared)?;
    }
    context.print(&Cleared { cleared }, |answer| match answer.cleared.len() {
        0 => "nothing was there to clear".to_owned(),
        count => format!("cleared {count} items; this node can protect another provider now"),
    });
    Ok(Exit::Done)
}

/// Every directory below `namespaces/`, configured or not.
fn namespaces(context: &Context) -> Result<Vec<PathBuf>, Failure> {
    let directory = context.root.directory().join("namespaces");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk(&directory, &error)),
    };
    let mut out = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| disk(&directory, &error))?.path();
        if path.is_dir() {
            out.push(path);
        }
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
