//! Looking at a tree that is copied: every file with its size and digest, and what stays where it is, with the reason.

use std::fs::{DirEntry, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use cvp_core::config;
use cvp_core::replication::{
    CERTIFICATES, CHANGED, CONFIGURATION, ELSEWHERE, FILE_BYTES_MAX, FILES_MAX, Inventory, LEFT_OUT_MAX, LeftOut,
    PRIVATE_KEY, TREE_BYTES_MAX, TreeFile, check_path, file_digest, is_temporary,
};
use cvp_core::types::{Digest, Malformed, Refusal};

use super::Root;
use super::known::{Found, Known, Stamp};
use super::secrets::private_key;

/// Where the parts of a tree lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// What `configuration/...` is.
    configuration: PathBuf,
    /// `namespaces/`.
    namespaces: PathBuf,
    /// What `certificates/<namespace>/...` is, below `namespaces/<namespace>`.
    certificates: &'static str,
    /// It is a copy, in which each directory holds a file.
    copy: bool,
}

impl Places {
    /// A node's own tree.
    pub fn own(root: &Root) -> Places {
        Places {
            configuration: root.configuration(),
            namespaces: root.directory().join("namespaces"),
            certificates: "certs",
            copy: false,
        }
    }

    /// A standby's copy of its provider's tree.
    pub fn copy(root: &Root) -> Places {
        Places {
            configuration: root.system().join("configuration_vp"),
            namespaces: root.directory().join("namespaces"),
            certificates: "system/cvp",
            copy: true,
        }
    }

    /// What `configuration/` is.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// What `certificates/<namespace>/` is.
    pub fn certificates(&self, namespace: &str) -> PathBuf {
        self.namespaces.join(namespace).join(self.certificates)
    }

    /// The namespaces that have a directory.
    pub fn namespaces(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.namespaces).into_iter().flatten().flatten();
        // One may be a link to another disk: what counts is what lies in it.
        let directories = entries.filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> = directories
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// The directories that are watched for changes.
    pub fn watched(&self) -> Vec<PathBuf> {
        let certificates = self.namespaces().into_iter().map(|name| self.certificates(&name));
        let mut places = vec![self.configuration.clone()];
        places.extend(certificates.filter(|path| path.is_dir()));
        places
    }

    /// The directories above them, in which those come and go.
    pub fn parents(&self) -> Vec<PathBuf> {
        let above = [
            self.configuration.parent().map(Path::to_owned),
            Some(self.namespaces.clone()),
        ];
        let names = Path::new(self.certificates).ancestors().skip(1);
        let each = self.namespaces().into_iter();
        let each = each.flat_map(|name| names.clone().map(move |below| self.namespaces.join(&name).join(below)));
        let parents = above.into_iter().flatten().chain(each);
        parents.filter(|path| path.is_dir()).collect()
    }

    /// Whether a change at `path` may be one of the tree: it is of a watched directory, or above one.
    pub fn holds(&self, path: &Path) -> bool {
        if path.starts_with(&self.configuration) || path == self.namespaces {
            return true;
        }
        let Ok(below) = path.strip_prefix(&self.namespaces) else {
            return false;
        };
        let mut names = below.components();
        names.next();
        let rest = names.as_path();
        Path::new(self.certificates).starts_with(rest) || rest.starts_with(self.certificates)
    }

    /// The file on the disk that `path` of the tree is; none where the path leaves it.
    pub fn file(&self, path: &str) -> Option<PathBuf> {
        check_path(path).ok()?;
        match path.split_once('/')? {
            (CONFIGURATION, below) => Some(self.configuration.join(below)),
            (CERTIFICATES, below) => {
                let (namespace, below) = below.split_once('/')?;
                Some(self.certificates(namespace).join(below))
            }
            _ => None,
        }
    }

    /// Looks at every file.
    pub fn scan(&self) -> Inventory {
        self.scan_again(&mut Known::default(), true)
    }

    /// The same; unless `whole`, what nothing says has changed since `known` saw it is not read again.
    pub fn scan_again(&self, known: &mut Known, whole: bool) -> Inventory {
        known.begin(whole);
        let mut scan = Scan {
            copy: self.copy,
            known,
            files: Vec::new(),
            left_out: Vec::new(),
            bytes: 0,
        };
        scan.directory(&self.configuration, CONFIGURATION);
        for namespace in self.namespaces() {
            let shown = format!("{CERTIFICATES}/{namespace}");
            if let Some(place) = self.certificates_elsewhere(&namespace) {
                let reason =
                    format!("they are in namespaces/{namespace}/{place}, and what is outside certs/ is not copied");
                scan.leave(&shown, ELSEWHERE, reason);
            }
            let directory = self.certificates(&namespace);
            if directory.is_dir() {
                scan.directory(&directory, &shown);
            }
        }
        scan.known.end();
        Inventory::new(scan.files, scan.left_out)
    }

    /// Of an own tree: where a namespace has its certificates, if that is outside the directory that is copied.
    fn certificates_elsewhere(&self, namespace: &str) -> Option<String> {
        if self.copy {
            return None;
        }
        let text = std::fs::read_to_string(self.configuration.join(namespace).join("ns_static.toml")).ok()?;
        let place = config::get(&text, "encryption.ecert.ecert").ok().flatten()?;
        let place = place.trim_matches(['"', '\'']).trim_start_matches("./").to_owned();
        let inside = Path::new(&place).starts_with(self.certificates) && !place.contains("..");
        (!inside).then_some(place)
    }

    /// The content of a file of the tree, if it still is what the inventory said.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is another by now.
    pub fn read(&self, path: &str, digest: &Digest) -> Result<Bytes, Refusal> {
        let file = self.file(path);
        let file = file.ok_or_else(|| Refusal::new("bad-path", format!("{path:?} is no file of the tree"), ""))?;
        let changed = || Refusal::new(CHANGED, format!("{path} has changed meanwhile"), "");
        let content = File::open(&file).and_then(|file| content_of(&file));
        let content = content.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => changed(),
            _ => Refusal::new("unreadable", format!("{}: {error}", file.display()), "check the file"),
        })?;
        if file_digest(&content) != *digest {
            return Err(changed());
        }
        Ok(content.into())
    }
}

/// At most one byte more than a file of the tree may have: enough to see that it has too many.
fn content_of(file: &File) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// The rule that a path breaks, without the path: a long one would leave no room for it.
fn rule_of(error: &Malformed) -> String {
    let rule = error.what.rsplit(": ").next();
    rule.unwrap_or_default().to_owned()
}

struct Scan<'a> {
    copy: bool,
    known: &'a mut Known,
    files: Vec<TreeFile>,
    left_out: Vec<LeftOut>,
    bytes: u64,
}

impl Scan<'_> {
    fn leave(&mut self, path: &str, code: &'static str, reason: impl Into<String>) {
        match self.left_out.len() {
            named if named + 1 < LEFT_OUT_MAX => self.left_out.push(LeftOut::new(path, code, reason)),
            named if named < LEFT_OUT_MAX => {
                let more = "more files than can be named are left out: this is the first of those";
                self.left_out.push(LeftOut::new(path, "too-many", more));
            }
            _ => {}
        }
    }

    fn directory(&mut self, directory: &Path, prefix: &str) {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.leave(prefix, "unreadable", error.to_string()),
        };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let shown = format!("{prefix}/{}", entry.file_name().to_string_lossy());
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) => {
                    self.leave(&shown, "unreadable", error.to_string());
                    continue;
                }
            };
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                self.leave(&shown, "bad-name", "its name is not UTF-8");
                continue;
            };
            // A file that is being replaced: the next look finds it under its own name. In a copy, which nobody writes while it is looked at,
            // it is somebody's, or what a crash left.
            if is_temporary(&name) {
                if self.copy {
                    self.leave(&shown, "temporary", "it is left from a file that was being written");
                }
                continue;
            }
            if kind.is_symlink() {
                self.leave(&shown, "symlink", "it is a symbolic link; links are not copied");
            } else if kind.is_dir() {
                let empty = || std::fs::read_dir(entry.path()).is_ok_and(|mut below| below.next().is_none());
                if self.copy && empty() {
                    self.leave(&shown, "empty-directory", "it is an empty directory");
                    continue;
                }
                // The depth of a path is bounded, so is this walk.
                match check_path(&format!("{shown}/x")) {
                    Ok(()) => self.directory(&entry.path(), &shown),
                    Err(error) => self.leave(&shown, "bad-name", rule_of(&error)),
                }
            } else if kind.is_file() {
                self.file(&entry, &shown);
            } else {
                self.leave(&shown, "not-a-file", "it is neither a file nor a directory");
            }
        }
    }

    fn file(&mut self, entry: &DirEntry, path: &str) {
        if let Err(error) = check_path(path) {
            return self.leave(path, "bad-name", rule_of(&error));
        }
        let stamp = entry.metadata().ok().map(|found| Stamp::of(&found));
        let found = match self.known.recall(path, stamp) {
            Some(found) => found,
            None => match self.read(&entry.path(), path) {
                Ok(found) => found,
                // Removed since the directory was read.
                Err(error) if error.kind() == ErrorKind::NotFound => return,
                Err(error) => return self.leave(path, "unreadable", error.to_string()),
            },
        };
        match found {
            Found::Left(code, reason) => self.leave(path, code, reason),
            Found::File(file) if self.files.len() >= FILES_MAX || self.bytes + file.bytes > TREE_BYTES_MAX => self
                .leave(
                    path,
                    "too-many",
                    format!("more than {FILES_MAX} files or {TREE_BYTES_MAX} bytes"),
                ),
            Found::File(file) => {
                self.bytes += file.bytes;
                self.files.push(file);
            }
        }
    }

    fn read(&mut self, file: &Path, path: &str) -> std::io::Result<Found> {
        let begun = SystemTime::now();
        let file = File::open(file)?;
        let before = Stamp::of(&file.metadata()?);
        let content = content_of(&file)?;
        let bytes = content.len() as u64;
        let found = if bytes > FILE_BYTES_MAX {
            Found::Left("too-large", format!("it has more than {FILE_BYTES_MAX} bytes"))
        } else if let Some(reason) = private_key(path, &content) {
            Found::Left(PRIVATE_KEY, reason.into())
        } else {
            Found::File(TreeFile {
                path: path.to_owned(),
                bytes,
                digest: file_digest(&content),
            })
        };
        if Stamp::of(&file.metadata()?) == before {
            self.known.keep(path, before, begun, &found);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        std::fs::create_dir_all(root.configuration().join("global")).unwrap();
        std::fs::create_dir_all(directory.path().join("namespaces/global/certs/certs")).unwrap();
        std::fs::write(root.configuration().join("system.toml"), "a = 1\n").unwrap();
        std::fs::write(root.configuration().join("global/ns_static.toml"), "").unwrap();
        std::fs::write(
            directory.path().join("namespaces/global/certs/certs/node1.cert"),
            "cert",
        )
        .unwrap();
        std::fs::write(
            directory.path().join("namespaces/global/certs/certs/key.priv"),
            "secret",
        )
        .unwrap();
        (directory, root)
    }

    #[test]
    fn every_file_is_listed_and_what_stays_is_named() {
        let (_directory, root) = tree();
        let configuration = root.configuration();
        std::os::unix::fs::symlink("/etc/passwd", configuration.join("link")).unwrap();
        std::fs::write(configuration.join("line\nbreak"), "x").unwrap();
        std::fs::write(configuration.join("n".repeat(201)), "x").unwrap();
        std::fs::write(configuration.join("large"), vec![0; FILE_BYTES_MAX as usize + 1]).unwrap();
        std::fs::write(configuration.join(".system.toml.1.new"), "half").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            configuration.join("pipe"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        let inventory = Places::own(&root).scan();
        inventory.check().unwrap();
        let paths: Vec<&str> = inventory.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "certificates/global/certs/node1.cert",
                "configuration/global/ns_static.toml",
                "configuration/system.toml"
            ]
        );
        let mut reasons = inventory.left_out.iter().map(|left| left.reason.as_str());
        assert!(reasons.any(|reason| reason == "a name is too long"));
        let mut codes: Vec<&str> = inventory.left_out.iter().map(|left| left.code.as_str()).collect();
        codes.sort_unstable();
        assert_eq!(
            codes,
            [
                "bad-name",
                "bad-name",
                "not-a-file",
                "private-key",
                "symlink",
                "too-large"
            ]
        );
    }

    #[test]
    fn an_empty_directory_is_nothing_in_a_tree_and_an_edit_in_a_copy() {
        let (_directory, root) = tree();
        std::fs::create_dir_all(root.configuration().join("empty")).unwrap();
        std::fs::create_dir_all(Places::copy(&root).configuration().join("a/empty")).unwrap();
        let own = Places::own(&root).scan().left_out;
        assert!(own.iter().all(|left| left.code == "private-key"), "{own:?}");
        let copy = Places::copy(&root).scan().left_out;
        assert_eq!((copy.len(), copy[0].path.as_str()), (1, "configuration/a/empty"));
    }

    #[test]
    fn a_tree_of_what_may_not_travel_stays_within_the_bounds() {
        let (_directory, root) = tree();
        for number in 0..LEFT_OUT_MAX + 50 {
            let link = root.configuration().join(format!("{}-{number:04}", "l".repeat(190)));
            std::os::unix::fs::symlink("/etc/passwd", link).unwrap();
        }
        let inventory = Places::own(&root).scan();
        inventory.check().unwrap();
        assert_eq!(inventory.left_out.len(), LEFT_OUT_MAX);
        assert_eq!(inventory.left_out.last().unwrap().code, "too-many");
    }

    #[test]
    fn a_look_that_knows_the_files_finds_what_one_that_reads_them_finds() {
        let (_directory, root) = tree();
        let (places, mut known) = (Places::own(&root), Known::default());
        let file = root.configuration().join("system.toml");
        for number in 0..8 {
            match number % 4 {
                // As long as before, and in place.
                0 => std::fs::write(&file, format!("a = {}\n", 2 + number)).unwrap(),
                1 => {
                    let other = root.configuration().join("other");
                    std::fs::write(&other, format!("a = {}\n", 2 + number)).unwrap();
                    std::fs::rename(&other, &file).unwrap();
                }
                2 => std::fs::write(&file, "-----BEGIN PRIVATE KEY-----").unwrap(),
                _ => std::fs::remove_file(&file).unwrap(),
            }
            // At once, and when its times are old enough to tell it from the next one.
            assert_eq!(places.scan_again(&mut known, false), places.scan(), "edit {number}");
            while file.exists() && !known.knows("configuration/system.toml") {
                assert_eq!(
                    places.scan_again(&mut known, false),
                    places.scan(),
                    "after edit {number}"
                );
            }
        }
    }

    #[test]
    fn a_file_is_read_as_the_inventory_said_or_not_at_all() {
        let (_directory, root) = tree();
        let places = Places::own(&root);
        let file = places.scan().file("configuration/system.toml").cloned().unwrap();
        assert_eq!(places.read(&file.path, &file.digest).unwrap(), "a = 1\n");
        std::fs::write(root.configuration().join("system.toml"), "a = 2\n").unwrap();
        assert_eq!(places.read(&file.path, &file.digest).unwrap_err().code, "changed");
        assert!(places.file("configuration/../tls/key").is_none());
        assert!(places.file("/etc/passwd").is_none());
    }
}
