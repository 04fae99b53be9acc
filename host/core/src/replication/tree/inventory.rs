//! An inventory: what a tree of configuration and certificates holds, file by file, and the bounds it must keep before anything is asked
//! for or written.

use sha2::{Digest as _, Sha256};

use crate::types::{Digest, Malformed, Reader, Writer};

use super::paths::{PATH_BYTES_MAX, check_copied, is_at_or_below, is_vital};

/// Most files of a tree.
pub const FILES_MAX: usize = 4_096;

/// Most files that are named as left out: what an operator can read, and what fits into a frame beside the files.
pub const LEFT_OUT_MAX: usize = 256;

/// Largest file, bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Largest tree, bytes.
pub const TREE_BYTES_MAX: u64 = 256 << 20;

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

    /// What a copy of this tree is to hold: its files, and of those that may not travel and that a node needs the version that was copied
    /// last (`copied`), so that none is lost for what was written into it, or for a link in the place of its directory.
    pub fn keeping(mut self, copied: &Inventory) -> Inventory {
        let is_left_out = |path: &str| self.left_out.iter().any(|left| is_at_or_below(path, &left.path));
        let kept: Vec<TreeFile> = copied
            .files
            .iter()
            .filter(|file| is_vital(&file.path) && is_left_out(&file.path))
            .cloned()
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
    fn of_a_vital_file_that_may_not_travel_the_last_copy_is_kept() {
        let copied = [
            "configuration/dynamic.toml",
            "configuration/notes.txt",
            "configuration/ns1/ns_dynamic.toml",
            "configuration/ns1/ns_static.toml",
            "configuration/ns1/notes.txt",
            "configuration/ns11/ns_static.toml",
            "configuration/system.toml",
            "certificates/ns1/certs/node1.cert",
        ];
        let copied = Inventory::new(copied.map(|path| file(path, b"1")).into(), Vec::new());
        let left = |path: &str| LeftOut::new(path, PRIVATE_KEY, "a key");
        let theirs = Inventory::new(
            vec![file("configuration/system.toml/e", b"6")],
            vec![
                left("certificates/ns1"),
                left("configuration/dynamic.toml"),
                left("configuration/new"),
                left("configuration/notes.txt"),
                // A link in the place of the directory.
                left("configuration/ns1"),
                left("configuration/system.toml"),
            ],
        );
        let kept = theirs.clone().keeping(&copied);
        kept.check().unwrap();
        assert_eq!(
            kept.files,
            [
                file("certificates/ns1/certs/node1.cert", b"1"),
                file("configuration/dynamic.toml", b"1"),
                file("configuration/ns1/ns_dynamic.toml", b"1"),
                file("configuration/ns1/ns_static.toml", b"1"),
                file("configuration/system.toml/e", b"6"),
            ]
        );
        assert_eq!(kept.left_out, theirs.left_out);
    }
}
