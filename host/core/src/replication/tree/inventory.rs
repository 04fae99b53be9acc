//! An inventory: what a tree of configuration and certificates holds, file by file, and the bounds it must keep before anything is asked
//! for or written.

use sha2::{Digest as _, Sha256};

use crate::types::{Digest, Malformed, Reader, Writer};

/// Most files of a tree.
pub const FILES_MAX: usize = 4_096;

/// Most files that are named as left out: what an operator can read, and what fits into a frame beside the files.
pub const LEFT_OUT_MAX: usize = 256;

/// Longest path, bytes.
pub const PATH_BYTES_MAX: usize = 512;

/// Longest name in a path, bytes: what file systems take, less what a temporary name adds.
const NAME_BYTES_MAX: usize = 200;

/// Most names in a path.
const DEPTH_MAX: usize = 16;

/// Largest file, bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Largest tree, bytes.
pub const TREE_BYTES_MAX: u64 = 256 << 20;

/// First name of a path: the provider's `configuration/`.
pub const CONFIGURATION: &str = "configuration";

/// First name of a path: a namespace's certificates, `certificates/<namespace>/...`.
pub const CERTIFICATES: &str = "certificates";

/// Why a file stays where it is: it holds a private key. It is no fault: private keys never leave the provider.
pub const PRIVATE_KEY: &str = "private-key";

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeFile {
    /// `configuration/...` or `certificates/<namespace>/...`, with `/` between names.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub digest: Digest,
}

/// A file that is not copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// Its path, as far as it can be written.
    pub path: String,
    /// Kebab-case: [`PRIVATE_KEY`], `symlink`, `not-a-file`, `too-large`, `bad-name`, `too-many`, `unreadable`; in a copy `empty-directory`
    /// as well.
    pub code: String,
    /// Why, in words.
    pub reason: String,
}

impl LeftOut {
    /// A file left out, its texts cut to what travels.
    pub fn new(path: &str, code: &'static str, reason: impl Into<String>) -> LeftOut {
        let cut = |text: &str, most: usize| text.chars().take(most / 4).collect::<String>();
        LeftOut {
            path: cut(&shown(path), PATH_BYTES_MAX),
            code: code.to_owned(),
            reason: cut(&shown(&reason.into()), PATH_BYTES_MAX),
        }
    }
}

/// A text without the characters that a terminal takes for orders.
fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// What a tree holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    /// Its files, by path, rising.
    pub files: Vec<TreeFile>,
    /// What is there and not copied.
    pub left_out: Vec<LeftOut>,
}

/// SHA-256 of a file's content.
pub fn file_digest(content: &[u8]) -> Digest {
    Digest(Sha256::digest(content).into())
}

/// Checks that a path stays inside the tree on any file system: relative, no `.` or `..`, no empty or over-long name, no control character.
///
/// # Errors
/// The rule that does not hold.
pub fn check_path(path: &str) -> Result<(), Malformed> {
    let bad = |what: &str| Err(Malformed::new(format!("path {path:?}: {what}")));
    if path.len() > PATH_BYTES_MAX {
        return Err(Malformed::new(format!("a path of {} bytes", path.len())));
    }
    let names: Vec<&str> = path.split('/').collect();
    if names.len() > DEPTH_MAX {
        return bad("too deep");
    }
    if names
        .iter()
        .any(|name| name.is_empty() || *name == "." || *name == "..")
    {
        return bad("it does not stay inside the tree");
    }
    if names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return bad("a name is too long");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return bad("a name holds a character that no name may");
    }
    match names.as_slice() {
        [CONFIGURATION, _, ..] | [CERTIFICATES, _, _, ..] => Ok(()),
        _ => bad("it is of no tree that is copied"),
    }
}

/// Whether a file of this path may be copied: it stays inside the tree, and its name is neither a private key's nor one that is in use only
/// while a file is being replaced.
///
/// # Errors
/// The rule that does not hold.
pub fn check_copied(path: &str) -> Result<(), Malformed> {
    check_path(path)?;
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.to_ascii_lowercase().ends_with(".priv") {
        return Err(Malformed::new(format!("path {path:?}: the name of a private key")));
    }
    if is_temporary(name) {
        return Err(Malformed::new(format!(
            "path {path:?}: the name of a half-written file"
        )));
    }
    Ok(())
}

/// A name that an atomic replacement uses while it writes: `.<name>.<process>.new`.
pub fn is_temporary(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new"));
    let process = inner
        .and_then(|inner| inner.rsplit_once('.'))
        .map(|(_, process)| process);
    process.is_some_and(|process| !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Inventory {
    /// Sorts the files.
    pub fn new(mut files: Vec<TreeFile>, left_out: Vec<LeftOut>) -> Inventory {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Inventory { files, left_out }
    }

    /// The file at `path`.
    pub fn file(&self, path: &str) -> Option<&TreeFile> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(at)
    }

    /// The files alone: a copy holds nothing that may not travel.
    pub fn of_files(&self) -> Inventory {
        Inventory {
            files: self.files.clone(),
            left_out: Vec::new(),
        }
    }

    /// What somebody did to a copy that was written as this says and is `found` now: files that are others, came or went, and what no copy
    /// of ours can hold (links, devices, keys, empty directories).
    pub fn edits(&self, found: &Inventory) -> Vec<String> {
        let mut paths = self.differing(found);
        paths.extend(found.left_out.iter().map(|left| left.path.clone()));
        paths.sort();
        paths.dedup();
        paths
    }

    /// What a copy of this tree is to hold: its files, and of those that may not travel the version that was copied last (`copied`), so that
    /// no file which the node needs is lost for what was written into it.
    pub fn keeping(mut self, copied: &Inventory) -> Inventory {
        let kept: Vec<TreeFile> = self
            .left_out
            .iter()
            .filter_map(|left| copied.file(&left.path).cloned())
            .collect();
        for file in kept {
            let Err(at) = self.files.binary_search_by(|known| known.path.cmp(&file.path)) else {
                continue;
            };
            self.files.insert(at, file);
            // It would be one file too many, or stand where a directory is by now.
            if self.check().is_err() {
                self.files.remove(at);
            }
        }
        self
    }

    /// Whether both hold the same files, byte for byte.
    pub fn same_files(&self, other: &Inventory) -> bool {
        self.files == other.files
    }

    /// The paths at which the two differ.
    pub fn differing(&self, other: &Inventory) -> Vec<String> {
        let gone_or_other = |a: &Inventory, b: &Inventory| -> Vec<String> {
            let differs = |file: &&TreeFile| b.file(&file.path) != Some(*file);
            a.files.iter().filter(differs).map(|file| file.path.clone()).collect()
        };
        let mut paths = gone_or_other(self, other);
        paths.extend(gone_or_other(other, self));
        paths.sort();
        paths.dedup();
        paths
    }

    /// Puts the file in, or in place of the one at its path.
    pub fn put(&mut self, file: TreeFile) {
        match self.files.binary_search_by(|known| known.path.cmp(&file.path)) {
            Ok(at) => self.files[at] = file,
            Err(at) => self.files.insert(at, file),
        }
    }

    /// The rule that does not hold, if any: bounds, order, and that every path can be a file beside the others.
    ///
    /// # Errors
    /// As it says.
    pub fn check(&self) -> Result<(), Malformed> {
        if self.files.len() > FILES_MAX || self.left_out.len() > LEFT_OUT_MAX {
            return Err(Malformed::new("too many files"));
        }
        let mut total = 0u64;
        for file in &self.files {
            check_copied(&file.path)?;
            if file.bytes > FILE_BYTES_MAX {
                return Err(Malformed::new(format!("{} of {} bytes", file.path, file.bytes)));
            }
            total += file.bytes;
        }
        let texts = self
            .left_out
            .iter()
            .flat_map(|left| [&left.path, &left.code, &left.reason]);
        if texts.flat_map(|text| text.chars()).any(char::is_control) {
            return Err(Malformed::new("a name that cannot be shown"));
        }
        if total > TREE_BYTES_MAX {
            return Err(Malformed::new(format!("a tree of {total} bytes")));
        }
        for pair in self.files.windows(2) {
            if pair[0].path >= pair[1].path {
                return Err(Malformed::new("files out of order"));
            }
        }
        // A file can be no directory of another. What sorts between "a" and "a/b" ("a-c") may stand between the two.
        for file in &self.files {
            let parents = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
            if let Some(parent) = parents.into_iter().find(|parent| self.file(parent).is_some()) {
                return Err(Malformed::new(format!("{parent} is a file and a directory")));
            }
        }
        Ok(())
    }

    /// Payload of an inventory frame, behind its version.
    pub fn write(&self, out: &mut Writer) {
        out.u32(self.files.len() as u32);
        for file in &self.files {
            out.text(&file.path);
            out.u64(file.bytes);
            out.digest(&file.digest);
        }
        out.u32(self.left_out.len() as u32);
        for left in &self.left_out {
            out.text(&left.path);
            out.text(&left.code);
            out.text(&left.reason);
        }
    }

    /// Reads [`Inventory::write`]'s bytes, and checks them.
    ///
    /// # Errors
    /// They are no inventory, or one beyond the bounds.
    pub fn read(input: &mut Reader<'_>) -> Result<Inventory, Malformed> {
        let count = input.count(FILES_MAX, 44)?;
        let files = (0..count)
            .map(|_| {
                Ok(TreeFile {
                    path: input.text(PATH_BYTES_MAX)?.to_owned(),
                    bytes: input.u64()?,
                    digest: input.digest()?,
                })
            })
            .collect::<Result<_, Malformed>>()?;
        let count = input.count(LEFT_OUT_MAX, 12)?;
        let left_out = (0..count)
            .map(|_| {
                Ok(LeftOut {
                    path: input.text(PATH_BYTES_MAX)?.to_owned(),
                    code: input.text(64)?.to_owned(),
                    reason: input.text(PATH_BYTES_MAX)?.to_owned(),
                })
            })
            .collect::<Result<_, Malformed>>()?;
        let inventory = Inventory { files, left_out };
        inventory.check()?;
        Ok(inventory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> TreeFile {
        TreeFile {
            path: path.to_owned(),
            bytes: content.len() as u64,
            digest: file_digest(content),
        }
    }

    #[test]
    fn paths_stay_inside_the_tree() {
        for good in [
            "configuration/system.toml",
            "configuration/global/ns_static.toml",
            "certificates/global/CA/root.ca",
            "configuration/a b/\u{e4}.toml",
        ] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        let long = format!("configuration/{}", "n".repeat(201));
        let deep = format!("configuration{}", "/n".repeat(16));
        for bad in [
            "",
            "/etc/passwd",
            "configuration",
            "configuration/",
            "configuration/../tls/key",
            "configuration/./a",
            "configuration//a",
            "certificates/global",
            "tls/tls_peer.priv",
            "configuration/a\0b",
            "configuration/a\nb",
            "configuration\\a/b",
            &long,
            &deep,
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_inventory_travels_and_its_bounds_are_kept() {
        let mut inventory = Inventory::new(
            vec![file("configuration/b", b"2"), file("configuration/a", b"1")],
            vec![LeftOut::new("configuration/k", PRIVATE_KEY, "a PEM private key")],
        );
        let mut out = Writer::new();
        inventory.write(&mut out);
        let bytes = out.into_bytes();
        assert_eq!(Inventory::read(&mut Reader::new(&bytes)), Ok(inventory.clone()));
        for end in 0..bytes.len() {
            assert!(Inventory::read(&mut Reader::new(&bytes[..end])).is_err());
        }
        inventory.put(file("configuration/a", b"3"));
        assert_eq!(
            inventory.file("configuration/a").map(|f| f.digest),
            Some(file_digest(b"3"))
        );
        inventory.files.swap(0, 1);
        assert!(inventory.check().is_err(), "out of order");
        let nested = Inventory::new(
            vec![
                file("configuration/a", b""),
                file("configuration/a-c", b""),
                file("configuration/a/b", b""),
            ],
            Vec::new(),
        );
        assert!(nested.check().is_err(), "a file that is a directory");
        for name in ["configuration/k.PRIV", "configuration/.a.toml.17.new"] {
            assert!(
                Inventory::new(vec![file(name, b"")], Vec::new()).check().is_err(),
                "{name}"
            );
        }
        assert!(check_copied("configuration/.a.new").is_ok() && check_copied("configuration/a.17.new").is_ok());
        let mut large = file("configuration/a", b"");
        large.bytes = FILE_BYTES_MAX + 1;
        assert!(Inventory::new(vec![large], Vec::new()).check().is_err());
    }

    #[test]
    fn what_differs_is_named() {
        let ours = Inventory::new(
            vec![file("configuration/a", b"1"), file("configuration/b", b"2")],
            Vec::new(),
        );
        let theirs = Inventory::new(
            vec![file("configuration/a", b"1"), file("configuration/c", b"2")],
            Vec::new(),
        );
        assert_eq!(ours.differing(&theirs), ["configuration/b", "configuration/c"]);
        assert!(ours.differing(&ours).is_empty() && ours.same_files(&ours) && !ours.same_files(&theirs));
    }

    #[test]
    fn what_no_copy_can_hold_is_an_edit() {
        let written = Inventory::new(
            vec![file("configuration/a", b"1")],
            vec![LeftOut::new("configuration/link", "symlink", "the provider's")],
        );
        assert_eq!(written.edits(&written.of_files()), Vec::<String>::new());
        let found = Inventory::new(
            vec![file("configuration/b", b"1")],
            vec![
                LeftOut::new("configuration/a", PRIVATE_KEY, "a key"),
                LeftOut::new("configuration/pipe", "not-a-file", "a pipe"),
            ],
        );
        assert_eq!(
            written.edits(&found),
            ["configuration/a", "configuration/b", "configuration/pipe"]
        );
    }

    #[test]
    fn of_a_file_that_may_not_travel_the_last_copy_is_kept() {
        let copied = Inventory::new(
            vec![
                file("configuration/a", b"1"),
                file("configuration/b", b"2"),
                file("configuration/c", b"3"),
                file("configuration/d", b"4"),
            ],
            Vec::new(),
        );
        let left = |path: &str| LeftOut::new(path, PRIVATE_KEY, "a key");
        let theirs = Inventory::new(
            vec![file("configuration/b", b"5"), file("configuration/c/e", b"6")],
            vec![
                left("configuration/a"),
                left("configuration/c"),
                left("configuration/new"),
            ],
        );
        let kept = theirs.clone().keeping(&copied);
        kept.check().unwrap();
        assert_eq!(
            kept.files,
            [
                file("configuration/a", b"1"),
                file("configuration/b", b"5"),
                file("configuration/c/e", b"6")
            ]
        );
        assert_eq!(kept.left_out, theirs.left_out);
    }
}
