//! A standby's copy of its provider's tree on the disk: contents are staged by their digest, then the whole copy is built beside the old
//! one, made durable, and exchanged with it in one rename. A crash leaves the old copy or the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cvp_core::replication::{CERTIFICATES, CHANGED, CONFIGURATION, FileChange, Inventory, PRIVATE_KEY, TreeFile};
use cvp_core::types::{Digest, Refusal};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::Root;
use super::scan::Places;
use super::secrets::private_key;
use crate::durable;

/// Where the copy lies, and where it is built.
#[derive(Clone, Debug)]
pub struct Copy {
    places: Places,
    staging: PathBuf,
}

/// Threads that make files durable side by side.
const SYNCS_AT_ONCE: usize = 32;

fn disk<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Refusal + 'a {
    move |error| {
        Refusal::new(
            if error.kind() == std::io::ErrorKind::StorageFull {
                "disk-full"
            } else {
                "disk-failed"
            },
            format!("cannot {what} {}: {error}", path.display()),
            "check the disk, its free space and the permissions",
        )
    }
}

fn durably(result: Result<(), durable::DurableError>) -> Result<(), Refusal> {
    result.map_err(|error| Refusal::new("disk-failed", error.to_string(), "check the disk and the permissions"))
}

impl Copy {
    /// The copy below `root`.
    pub fn new(root: &Root) -> Copy {
        Copy {
            places: Places::copy(root),
            staging: root.system().join("staging"),
        }
    }

    /// Where its files are.
    pub fn places(&self) -> &Places {
        &self.places
    }

    fn contents(&self) -> PathBuf {
        self.staging.join("contents")
    }

    /// Keeps a content durably until a swap needs it.
    ///
    /// # Errors
    /// It holds a private key, which no provider of ours sends; the disk.
    pub fn stage(&self, digest: &Digest, content: &[u8]) -> Result<(), Refusal> {
        if let Some(reason) = private_key("", content) {
            return Err(Refusal::new(
                PRIVATE_KEY,
                format!("the provider sent a file with a private key: {reason}"),
                "it is not kept; report this with both logs",
            ));
        }
        let directory = self.contents();
        durably(durable::create_directories(&directory))?;
        durably(durable::replace(&directory.join(hex::encode(digest.0)), content, 0o600))
    }

    /// Removes every staged content.
    ///
    /// # Errors
    /// The disk.
    pub fn forget(&self) -> Result<(), Refusal> {
        remove_tree(&self.contents())
    }

    /// Whether a changed file may be staged, and could be put into the copy later.
    ///
    /// # Errors
    /// It holds a private key, or stands where a directory is or below a file.
    pub fn check(&self, change: &FileChange) -> Result<(), Refusal> {
        if let Some(reason) = private_key(&change.path, &change.content) {
            return Err(Refusal::new(
                PRIVATE_KEY,
                format!("{}: {reason}", change.path),
                "private keys stay on the provider: move it out of this file",
            ));
        }
        let path = self.places.file(&change.path);
        let path = path.ok_or_else(|| Refusal::new("bad-path", change.path.clone(), ""))?;
        let below_a_file = path.ancestors().skip(1).any(Path::is_file);
        if path.is_dir() || below_a_file {
            let text = format!("{} cannot be a file of the copy", change.path);
            return Err(Refusal::new("bad-path", text, "report it with both logs"));
        }
        Ok(())
    }

    /// Puts a copy of `inventory` in the place of the one before.
    ///
    /// # Errors
    /// A content is neither staged nor in the copy; the disk. The copy is as it was then.
    pub fn swap(&self, inventory: &Inventory) -> Result<(), Refusal> {
        let here = self.places.scan();
        let by_digest: BTreeMap<Digest, &TreeFile> = here.files.iter().map(|file| (file.digest, file)).collect();
        let building = self.staging.join("building");
        remove_tree(&building)?;
        durably(durable::create_directories(&building))?;
        let mut linked = BTreeSet::new();
        for file in &inventory.files {
            let staged = self.contents().join(hex::encode(file.digest.0));
            let (content, is_staged) = match std::fs::read(&staged) {
                Ok(content) => (content, true),
                Err(_) => (self.content_here(file, by_digest.get(&file.digest).copied())?, false),
            };
            if cvp_core::replication::file_digest(&content) != file.digest {
                let text = format!("the staged content of {} is damaged", file.path);
                return Err(Refusal::new("disk-failed", text, "check the disk"));
            }
            let target = building.join(&file.path);
            // A second name of what is staged, which goes with the staging, spares a file and its fsync; never two names in the copy.
            if is_staged && linked.insert(file.digest) {
                create_parent(&target)?;
                if std::fs::hard_link(&staged, &target).is_ok() {
                    continue;
                }
            }
            write_new(&target, &content)?;
        }
        sync_tree(&building)?;
        // Certificates first: the configuration, which names them, is there last.
        let mut namespaces = self.places.namespaces();
        let prefix = format!("{CERTIFICATES}/");
        let named = inventory
            .files
            .iter()
            .filter_map(|file| file.path.strip_prefix(&prefix)?.split('/').next());
        namespaces.extend(named.map(str::to_owned));
        namespaces.sort();
        namespaces.dedup();
        for namespace in namespaces {
            exchange(
                &building.join(CERTIFICATES).join(&namespace),
                &self.places.certificates(&namespace),
            )?;
        }
        exchange(&building.join(CONFIGURATION), self.places.configuration())?;
        remove_tree(&self.staging)
    }

    fn content_here(&self, file: &TreeFile, here: Option<&TreeFile>) -> Result<Vec<u8>, Refusal> {
        let missing = || {
            // Nothing is swapped in that was not seen here.
            let text = format!("the content of {} was here and is gone", file.path);
            Refusal::new(CHANGED, text, "")
        };
        let content = self.places.read(&here.ok_or_else(missing)?.path, &file.digest)?;
        Ok(content.to_vec())
    }

    /// Writes a changed file into the copy, durably.
    ///
    /// # Errors
    /// The disk.
    pub fn put(&self, change: &FileChange) -> Result<(), Refusal> {
        let path = self.places.file(&change.path);
        let path = path.ok_or_else(|| Refusal::new("bad-path", change.path.clone(), ""))?;
        if let Some(parent) = path.parent() {
            durably(durable::create_directories(parent))?;
        }
        durably(durable::replace(&path, &change.content, 0o600))
    }
}

/// Puts `new` in the place of `old` in one rename; the old one goes. Without a new one the old one goes all the same. Where `old` lies on
/// another file system, `new` is brought there first.
pub fn exchange(new: &Path, old: &Path) -> Result<(), Refusal> {
    let parent = old.parent().unwrap_or(Path::new("."));
    match (new.exists(), old.exists()) {
        (false, false) => return Ok(()),
        (false, true) => remove_tree(old)?,
        (true, there) => {
            durably(durable::create_directories(parent))?;
            match put_in_place(new, old, there) {
                Err(Errno::XDEV) => {
                    let brought = beside(old);
                    bring(new, &brought)?;
                    let put = put_in_place(&brought, old, there);
                    put.map_err(|errno| disk("exchange", old)(errno.into()))?;
                    durably(durable::sync_directory(parent))?;
                    remove_tree(&brought)?;
                }
                put => put.map_err(|errno| disk("exchange", old)(errno.into()))?,
            }
        }
    }
    durably(durable::sync_directory(parent))?;
    remove_tree(new)
}

fn put_in_place(new: &Path, old: &Path, there: bool) -> Result<(), Errno> {
    let flags = if there {
        RenameFlags::EXCHANGE
    } else {
        RenameFlags::NOREPLACE
    };
    renameat_with(CWD, new, CWD, old, flags)
}

/// Where a directory is built that is to take the place of `old`.
fn beside(old: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(old.file_name().unwrap_or_default());
    name.push(".building");
    old.with_file_name(name)
}

/// Copies a directory durably; what a crash left there goes.
fn bring(from: &Path, to: &Path) -> Result<(), Refusal> {
    remove_tree(to)?;
    durably(durable::create_directories(to))?;
    copy_tree(from, to)?;
    sync_tree(to)
}

/// Copies a directory whose files are replaced, not written into, from now on: each file gets a second name where the file system can give it
/// one. [`sync_tree`] makes it durable. Links are copied as they are: what they lead to stays where it is.
///
/// # Errors
/// The disk.
pub fn copy_tree(from: &Path, to: &Path) -> Result<(), Refusal> {
    std::fs::create_dir_all(to).map_err(disk("create", to))?;
    for entry in std::fs::read_dir(from).map_err(disk("list", from))? {
        let entry = entry.map_err(disk("list", from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(disk("read", &path))?;
        if kind.is_symlink() {
            let leads = std::fs::read_link(&path).map_err(disk("read", &path))?;
            std::os::unix::fs::symlink(leads, &target).map_err(disk("create", &target))?;
        } else if kind.is_dir() {
            copy_tree(&path, &target)?;
        } else if kind.is_file() && std::fs::hard_link(&path, &target).is_err() {
            write_new(&target, &std::fs::read(&path).map_err(disk("read", &path))?)?;
        }
    }
    Ok(())
}

/// Removes a directory and everything below it; fine if there is none.
pub fn remove_tree(path: &Path) -> Result<(), Refusal> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Writes a new file; [`sync_tree`] makes it durable.
pub fn write_new(path: &Path, content: &[u8]) -> Result<(), Refusal> {
    create_parent(path)?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(disk("create", path))?;
    file.write_all(content).map_err(disk("write", path))
}

fn create_parent(path: &Path) -> Result<(), Refusal> {
    path.parent().map_or(Ok(()), |parent| {
        std::fs::create_dir_all(parent).map_err(disk("create", parent))
    })
}

/// Makes a directory and everything in it durable: first what the files hold, then the names.
///
/// # Errors
/// The disk.
pub fn sync_tree(directory: &Path) -> Result<(), Refusal> {
    let (mut files, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    let mut looked_at = 0;
    while let Some(directory) = directories.get(looked_at).cloned() {
        looked_at += 1;
        for entry in std::fs::read_dir(&directory).map_err(disk("list", &directory))? {
            let entry = entry.map_err(disk("list", &directory))?;
            let kind = entry.file_type().map_err(disk("read", &directory))?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    sync_together(&files)?;
    sync_together(&directories)
}

/// Many at once: a file system makes durable together what is asked of it together, and one after the other each waits for its own turn.
fn sync_together(paths: &[PathBuf]) -> Result<(), Refusal> {
    let share = paths.len().div_ceil(SYNCS_AT_ONCE).max(1);
    let sync = |path: &PathBuf| File::open(path).and_then(|opened| opened.sync_all());
    let each = |paths: &[PathBuf]| paths.iter().try_for_each(|path| sync(path).map_err(disk("sync", path)));
    if paths.len() <= 2 {
        return each(paths);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = paths
            .chunks(share)
            .map(|paths| scope.spawn(move || each(paths)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cvp_core::replication::file_digest;

    use super::*;

    fn file(path: &str, content: &str) -> TreeFile {
        TreeFile {
            path: path.to_owned(),
            bytes: content.len() as u64,
            digest: file_digest(content.as_bytes()),
        }
    }

    fn inventory(files: &[(&str, &str)]) -> Inventory {
        Inventory::new(
            files.iter().map(|(path, content)| file(path, content)).collect(),
            Vec::new(),
        )
    }

    #[test]
    fn a_copy_is_made_changed_and_swapped() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let copy = Copy::new(&root);
        let first = [
            ("configuration/system.toml", "a"),
            ("configuration/global/ns_static.toml", "b"),
            ("certificates/global/CA/root.ca", "c"),
        ];
        assert_eq!(copy.swap(&inventory(&first)).unwrap_err().code, "changed");
        for (_, content) in first {
            copy.stage(&file_digest(content.as_bytes()), content.as_bytes())
                .unwrap();
        }
        copy.swap(&inventory(&first)).unwrap();
        assert_eq!(copy.places().scan(), inventory(&first));
        assert!(
            directory
                .path()
                .join("namespaces/global/system/cvp/CA/root.ca")
                .is_file()
        );
        // One file moves without being sent, one is new, the certificates go.
        let second = [("configuration/moved.toml", "a"), ("configuration/system.toml", "d")];
        copy.stage(&file_digest(b"d"), b"d").unwrap();
        copy.swap(&inventory(&second)).unwrap();
        assert_eq!(copy.places().scan(), inventory(&second));
        assert!(!directory.path().join("system/cvp/staging").exists());
        // What is staged once and stands twice in the copy is two files: who writes into one does not change the other.
        let third = [("configuration/a.toml", "f"), ("configuration/system.toml", "f")];
        copy.stage(&file_digest(b"f"), b"f").unwrap();
        copy.swap(&inventory(&third)).unwrap();
        std::fs::write(copy.places().file("configuration/a.toml").unwrap(), "g").unwrap();
        let there = copy.places().scan();
        assert_eq!(
            there.file("configuration/a.toml"),
            Some(&file("configuration/a.toml", "g"))
        );
        assert_eq!(
            there.file("configuration/system.toml"),
            Some(&file("configuration/system.toml", "f"))
        );
        let change = FileChange {
            path: "configuration/system.toml".into(),
            old: None,
            content: Bytes::from_static(b"e"),
        };
        copy.put(&change).unwrap();
        assert_eq!(
            copy.places().scan().file("configuration/system.toml"),
            Some(&file("configuration/system.toml", "e"))
        );
    }

    #[test]
    fn a_private_key_is_never_kept() {
        let directory = tempfile::tempdir().unwrap();
        let copy = Copy::new(&Root::new(directory.path()));
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let refused = copy.stage(&file_digest(key.as_bytes()), key.as_bytes()).unwrap_err();
        assert_eq!(refused.code, "private-key");
        assert!(!copy.contents().exists());
        let change = |path: &str, content: &str| FileChange {
            path: path.into(),
            old: None,
            content: Bytes::copy_from_slice(content.as_bytes()),
        };
        for (path, content, code) in [
            ("configuration/dynamic.toml", key.as_str(), "private-key"),
            ("configuration/k.priv", "", "private-key"),
            ("configuration/../k", "", "bad-path"),
        ] {
            assert_eq!(copy.check(&change(path, content)).unwrap_err().code, code, "{path}");
        }
        copy.put(&change("configuration/global/a.toml", "")).unwrap();
        assert_eq!(
            copy.check(&change("configuration/global", "")).unwrap_err().code,
            "bad-path"
        );
        let below = change("configuration/global/a.toml/b", "");
        assert_eq!(copy.check(&below).unwrap_err().code, "bad-path");
        copy.check(&change("configuration/global/a.toml", "a = 1")).unwrap();
    }
}
