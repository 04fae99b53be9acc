//! What `clear` leaves of a provider that was replaced: the chain of a namespace that it did not run, or that its standby never had, is perhaps
//! nowhere else, for nobody takes over what stands still or was not copied.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cvp_core::config;
use cvp_core::session::LastHeld;

use crate::config::{Root, read_tree};
use crate::durable;
use crate::ipc::Failure;
use crate::replication::ControlFiles;

/// The file that lists the namespaces.
const LIST: &str = "dynamic.toml";

/// Whether the chains here are this node's own, and another node took its place.
///
/// # Errors
/// The file that says so is damaged.
pub(super) fn is_replaced(root: &Root) -> Result<bool, Failure> {
    let fenced = ControlFiles::new(root.system()).fenced();
    Ok(fenced
        .map_err(|error| Failure::from_refusal(&error.refusal()))?
        .is_some())
}

/// The namespaces that this node ran.
///
/// # Errors
/// Its list cannot be read.
pub(super) fn started(root: &Root) -> Result<BTreeSet<String>, Failure> {
    let list = read_tree(&root.configuration())?.remove(LIST).unwrap_or_default();
    let entries = config::namespace_entries(&list).map_err(|error| {
        let what = format!("configuration/{LIST}: {error}");
        Failure::failed("bad-configuration", what, "correct it and repeat; nothing was cleared")
    })?;
    Ok(entries
        .into_iter()
        .filter(|(_, start)| *start)
        .map(|(name, _)| name)
        .collect())
}

/// The namespaces that a standby held something of, as far as it said; none where nobody noted it, as an earlier release did not.
///
/// # Errors
/// The file that says so is damaged.
pub(super) fn copied(root: &Root) -> Result<Option<BTreeSet<String>>, Failure> {
    let held = ControlFiles::new(root.system()).last_held();
    let held = held.map_err(|error| Failure::from_refusal(&error.refusal()))?;
    let names = |held: LastHeld| held.namespaces.into_iter().map(|it| it.namespace.to_string()).collect();
    Ok(held.map(names))
}

/// Moves data to a name beside it that nothing has, durably; says where it is, none where there is nothing.
///
/// # Errors
/// The disk.
pub(super) fn put_aside(data: &Path) -> Result<Option<String>, Failure> {
    if !data.is_dir() {
        return Ok(None);
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut places = (since.as_secs()..).map(|number| data.with_file_name(format!("data.kept-{number}")));
    let Some(place) = places.find(|place| !place.exists()) else {
        return Ok(None);
    };
    std::fs::rename(data, &place).map_err(|error| super::disk(data, &error))?;
    if let Some(parent) = data.parent() {
        durable::sync_directory(parent)?;
    }
    Ok(Some(place.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_put_aside_and_never_over_older() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        assert_eq!(put_aside(&data).unwrap(), None);
        let mut places = BTreeSet::new();
        for content in ["one", "two"] {
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join("log"), content).unwrap();
            let place = put_aside(&data).unwrap().unwrap();
            assert_eq!(std::fs::read_to_string(Path::new(&place).join("log")).unwrap(), content);
            places.insert(place);
        }
        assert!(places.len() == 2 && !data.exists());
    }
}
