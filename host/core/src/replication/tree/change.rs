//! The body of a strong change of kind `config`: one file of the tree, as a whole. Doing it again changes nothing.

use bytes::Bytes;

use crate::types::{Digest, Malformed, Reader, Writer};

use super::inventory::file_digest;
use super::paths::{PATH_BYTES_MAX, check_copied};

/// The kind of strong changes that replace a file of the tree.
pub const CONFIG_CHANGE: &str = "config";

/// Largest content that a strong change may carry, bytes: what fits beside the path.
pub const CHANGED_BYTES_MAX: usize = (1 << 20) - 2_048;

/// A file's new content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileChange {
    /// Path in the tree.
    pub path: String,
    /// SHA-256 of what it replaces, as whoever asked saw it; none for a new file.
    pub old: Option<Digest>,
    /// The content from now on.
    pub content: Bytes,
}

impl FileChange {
    /// Body of the change.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(self.content.len() + self.path.len() + 64);
        out.text(&self.path);
        out.option(self.old.as_ref(), |out, digest| out.digest(digest));
        out.bytes(&self.content);
        out.into_bytes()
    }

    /// Reads [`FileChange::encode`]'s bytes.
    ///
    /// # Errors
    /// They are no change of a file, or its path leaves the tree.
    pub fn decode(bytes: &Bytes) -> Result<FileChange, Malformed> {
        let mut input = Reader::new(bytes);
        let path = input.text(PATH_BYTES_MAX)?.to_owned();
        check_copied(&path)?;
        let old = input.option(Reader::digest)?;
        let content = Bytes::copy_from_slice(input.bytes(CHANGED_BYTES_MAX)?);
        input.finish()?;
        Ok(FileChange { path, old, content })
    }

    /// SHA-256 of the new content.
    pub fn digest(&self) -> Digest {
        file_digest(&self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_travels_and_stays_inside_the_tree() {
        let change = FileChange {
            path: "configuration/dynamic.toml".into(),
            old: Some(file_digest(b"a")),
            content: Bytes::from_static(b"b"),
        };
        let bytes = Bytes::from(change.encode());
        assert_eq!(FileChange::decode(&bytes), Ok(change.clone()));
        for end in 0..bytes.len() {
            assert!(FileChange::decode(&bytes.slice(..end)).is_err());
        }
        let outside = FileChange {
            path: "configuration/../../etc/passwd".into(),
            ..change
        };
        assert!(FileChange::decode(&outside.encode().into()).is_err());
    }
}
