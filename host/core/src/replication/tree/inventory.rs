//! An inventory: what a tree of configuration and certificates holds, file by file, and the bounds it must keep before anything is asked
//! for or written.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::types::{Digest, Malformed, Reader, Writer};

use super::paths::{PATH_BYTES_MAX, check_copied, is_at_or_below, is_of_the_node, is_vital};

/// Most files of a tree.
pub const FILES_MAX: usize = 4_096;

/// Most files that are named as left out: what an operator can read, and what fits into a frame beside the files.
pub const LEFT_OUT_MAX: usize = 256;

/// Largest file, bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Largest tree, bytes.
pub const TREE_BYTES_MAX: u64 = 256 << 20;

/// Most files that a sentence names.
const NAMED_MAX: usize = 10;

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

    /// The files whose paths begin with `prefix`.
    pub fn below(&self, prefix: &str) -> &[TreeFile] {
        let from = self.files.partition_point(|file| file.path.as_str() < prefix);
        let files = self.files.get(from..).unwrap_or_default();
        let count = files.partition_point(|file| file.path.starts_with(prefix));
        files.get(..count).unwrap_or_default()
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

    /// Whether it can be a node's: a tree that has neither file of the whole node, nor anything of `global`, is none, whatever else is there. A
    /// disk that is not mounted looks like that, or a directory that was moved away.
    pub fn is_configuration(&self) -> bool {
        self.files.iter().any(|file| is_of_the_node(&file.path))
    }

    /// In words, what a copy that holds `copied` has otherwise than this tree, which the provider told last: files that are others, missing or
    /// to go, and what may not travel and is no key in its place. None where that is nothing.
    pub fn lacking(&self, copied: &Inventory) -> Option<String> {
        if !self.is_configuration() {
            return copied.is_configuration().then(|| {
                "the provider's configuration/ was gone when it was last heard: what is here is what it showed before".to_owned()
            });
        }
        let differing = self.differing(copied).into_iter();
        let mut named: BTreeMap<String, Option<&str>> = differing.map(|path| (path, None)).collect();
        // Keys stay where they are; a file that a node needs is lacking for what was written into it.
        let left_out = self.left_out.iter();
        let lacking = left_out.filter(|left| left.code != PRIVATE_KEY || is_vital(&left.path));
        named.extend(lacking.map(|left| (left.path.clone(), Some(left.reason.as_str()))));
        let words = |(path, reason): (&String, &Option<&str>)| match reason {
            Some(reason) => format!("{path} ({reason})"),
            None => path.clone(),
        };
        let mut said: Vec<String> = named.iter().take(NAMED_MAX).map(words).collect();
        if let Some(more) = named.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            said.push(format!("{more} more"));
        }
        (!said.is_empty()).then(|| {
            format!(
                "{} file(s) of the provider's last inventory are not here as it has them: {}",
                named.len(),
                said.join(", ")
            )
        })
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
    fn what_a_copy_lacks_is_said_in_words() {
        let told = |paths: &[&str], left_out| {
            let files = paths.iter().map(|path| file(path, b"1"));
            Inventory::new(files.collect(), left_out)
        };
        let system = "configuration/system.toml";
        let key = LeftOut::new("certificates/ns1/certs/key.priv", PRIVATE_KEY, "a key");
        let copied = told(&[system], Vec::new());
        assert_eq!(told(&[system], vec![key]).lacking(&copied), None);
        let link = LeftOut::new("configuration/ns1/ns_static.toml", "symlink", "a link");
        let kept = told(&[system, "configuration/ns1/ns_static.toml"], Vec::new());
        let said = told(&[system], vec![link.clone()]).lacking(&kept).unwrap();
        assert!(
            said.starts_with("1 file(s)") && said.ends_with("configuration/ns1/ns_static.toml (a link)"),
            "{said}"
        );
        assert!(told(&[system], vec![link]).lacking(&copied).is_some());
        let secret = LeftOut::new("configuration/dynamic.toml", PRIVATE_KEY, "a key");
        assert!(told(&[system], vec![secret]).lacking(&copied).is_some());
        let many: Vec<String> = (0..12).map(|number| format!("configuration/n{number:02}")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.push(system);
        let said = told(&many, Vec::new()).lacking(&copied).unwrap();
        assert!(
            said.starts_with("12 file(s)") && said.ends_with("n09, 2 more"),
            "{said}"
        );
        // Nothing of a node is there.
        let gone = told(
            &["certificates/global/CA/root.ca", "configuration/notes.txt"],
            Vec::new(),
        );
        assert!(!gone.is_configuration() && copied.is_configuration());
        assert!(told(&["configuration/global/notes.txt"], Vec::new()).is_configuration());
        assert!(gone.lacking(&copied).unwrap().contains("was gone"));
        assert_eq!(gone.lacking(&Inventory::default()), None);
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
