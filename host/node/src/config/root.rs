//! A node's root directory: where things are, reading the configuration, editing a file of it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cvp_core::config::{self, EditError, Loaded, Problem, Value};
use cvp_core::types::Namespace;

use crate::durable;
use crate::failure::Failure;

/// Reads the texts of a tree, by path.
type Load = fn(&BTreeMap<String, String>) -> Result<Loaded, Vec<Problem>>;

/// Largest configuration file, bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Most files of a configuration tree.
const FILES_MAX: usize = 4_096;

/// A node's root directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    directory: PathBuf,
}

impl Root {
    /// The root at `directory`; whether it is one shows when it is read. A relative one is of the working directory now: what watches the
    /// tree is told of its files by their whole paths.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            directory: std::path::absolute(&directory).unwrap_or(directory),
        }
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path of a configuration value, relative to the root.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path.strip_prefix("./").unwrap_or(path))
    }

    /// `configuration/`.
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("configuration")
    }

    /// `system/cvp/`: identity, binding, journal.
    pub fn system(&self) -> PathBuf {
        self.directory.join("system/cvp")
    }

    /// `namespaces/<namespace>/`.
    pub fn namespace(&self, namespace: &Namespace) -> PathBuf {
        self.namespaces().join(namespace.as_str())
    }

    /// `namespaces/`.
    pub fn namespaces(&self) -> PathBuf {
        self.directory.join("namespaces")
    }

    /// `plugins/`.
    pub fn plugins(&self) -> PathBuf {
        self.directory.join("plugins")
    }

    /// `cvp.pid.lock`.
    pub fn lock_file(&self) -> PathBuf {
        self.directory.join("cvp.pid.lock")
    }

    /// Whether something that looks like a root is there.
    pub fn exists(&self) -> bool {
        self.configuration().join("system.toml").is_file() || self.configuration().join("dynamic.toml").is_file()
    }

    /// File name of the operator's socket, as configured; the default when the configuration cannot be read.
    pub fn socket(&self) -> PathBuf {
        let text = std::fs::read_to_string(self.configuration().join("system.toml"));
        let name = text.ok().and_then(|text| {
            let name = config::get(&text, "p2p.ipc").ok()??;
            Some(name.trim_matches('"').to_owned())
        });
        let plain = name.filter(|n| !n.is_empty() && !n.contains('/'));
        PathBuf::from(plain.unwrap_or_else(|| "hpc_1.ipc".to_owned()))
    }

    /// Reads and checks the whole configuration.
    pub fn load(&self) -> Result<Loaded, Failure> {
        self.load_with(config::load)
    }

    /// As [`Root::load`], in the middle of an upgrade: files that name different hosts or roles are no problem then.
    pub fn load_in_upgrade(&self) -> Result<Loaded, Failure> {
        self.load_with(config::load_in_upgrade)
    }

    /// As [`Root::load`], and refuses a tree of which a namespace cannot start.
    pub fn load_whole(&self) -> Result<Loaded, Failure> {
        self.load_with(|files| config::load(files)?.whole())
    }

    fn load_with(&self, load: Load) -> Result<Loaded, Failure> {
        if !self.exists() {
            return Err(Failure::failed(
                "no-root",
                format!("{} is not a node's root directory", self.directory.display()),
                "name one with --root, or make one with `cvp init`",
            ));
        }
        let files = read_tree(&self.configuration())?;
        load(&files).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Failure::failed(
                "bad-configuration",
                lines.join("\n       "),
                "correct it and start again",
            )
        })
    }

    /// Sets a key of a configuration file atomically; comments and order stay.
    pub fn edit(&self, file: &str, key: &str, value: Value) -> Result<(), Failure> {
        self.rewrite(file, |text| config::edit(text, key, value))
    }

    /// Replaces a configuration file atomically by what `change` makes of its text; its permission bits stay.
    pub fn rewrite(&self, file: &str, change: impl FnOnce(&str) -> Result<String, EditError>) -> Result<(), Failure> {
        let path = self.configuration().join(file);
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, &e))?;
        let mode = std::fs::metadata(&path).map_err(|e| unreadable(&path, &e))?;
        let changed = change(&text).map_err(|error| {
            Failure::failed(
                "bad-configuration",
                format!("configuration/{file}: {error}"),
                "correct the file",
            )
        })?;
        if changed != text {
            durable::replace(&path, changed.as_bytes(), mode.permissions().mode() & 0o777)?;
        }
        Ok(())
    }
}

/// Every `.toml` below `directory`, by its name relative to it.
pub fn read_tree(directory: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut out = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        let path = directory.join(&below);
        let entries = std::fs::read_dir(&path).map_err(|e| unreadable(&path, &e))?;
        for entry in entries {
            let entry = entry.map_err(|e| unreadable(&path, &e))?;
            let name = below.join(entry.file_name());
            let kind = entry.file_type().map_err(|e| unreadable(&path, &e))?;
            let depth = name.components().count();
            if kind.is_dir() && depth < 3 {
                left.push(name);
            } else if name.extension().is_some_and(|e| e == "toml")
                && out.len() < FILES_MAX
                // Reading a pipe would wait for who writes into it.
                && directory.join(&name).metadata().is_ok_and(|meta| meta.is_file())
            {
                out.insert(name.to_string_lossy().into_owned(), read_text(&directory.join(&name))?);
            }
        }
    }
    Ok(out)
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let size = std::fs::metadata(path).map_err(|e| unreadable(path, &e))?.len();
    if size > FILE_BYTES_MAX {
        return Err(Failure::failed(
            "bad-configuration",
            format!("{} has {size} bytes", path.display()),
            format!("a configuration file has at most {FILE_BYTES_MAX}"),
        ));
    }
    std::fs::read_to_string(path).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(
        "unreadable",
        format!("cannot read {}: {error}", path.display()),
        "check that it exists and its permissions",
    )
}
