//! The pair's control files below `system/cvp`: which file holds what, read at a start and written by one thread, in order.

use std::path::PathBuf;

use cvp_core::replication::{Change, ChangeId, ControlFile, Inventory, KeptKey, Promised};
use cvp_core::session::{Binding, Fenced, Identity, LastHeld, LastReceiver};
use cvp_core::types::{Malformed, Namespace, Reader, Refusal, Writer};

use crate::durable::{self, DurableError};

const VERSION: u16 = 1;
const IDENTITY: &[u8; 8] = b"CVPIDENT";
const BINDING: &[u8; 8] = b"CVPBINDG";
const LAST_RECEIVER: &[u8; 8] = b"CVPLASTR";
const LAST_HELD: &[u8; 8] = b"CVPLHELD";
const FENCED: &[u8; 8] = b"CVPFENCE";
const STORED: &[u8; 8] = b"CVPSTORE";
const PROVIDER: &[u8; 8] = b"CVPPROVD";
const COPY: &[u8; 8] = b"CVPCOPYI";
const TOLD: &[u8; 8] = b"CVPTOLDI";
const STAGED: &[u8; 8] = b"CVPSTAGE";
const COMMITTED: &[u8; 8] = b"CVPCOMMT";
const PROMISED: &[u8; 8] = b"CVPPROMI";
const KEPT: &[u8; 8] = b"CVPKEPTL";

const KEPT_PREFIX: &str = "kept-";

/// Most keys of a namespace that its strategy keeps, and the longest of them.
const KEPT_MAX: usize = 4_096;
const KEPT_BYTES_MAX: usize = 1_024;

/// Most keys of a provider's `[self]`, and the longest of them.
const SELF_KEYS_MAX: usize = 4096;
const SELF_BYTES_MAX: usize = 1024;

/// A control file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk, or the frame of the file.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// There are blocks, and the file that must have come before them is not there.
    #[error("{path} is missing, and this node holds blocks")]
    Absent {
        /// The file.
        path: String,
        /// What to do.
        hint: &'static str,
    },
    /// The configuration makes a provider of a node that holds another node's copy.
    #[error("this node holds the copy of another node, and its configuration says provider")]
    StillAStandby,
    /// The configuration makes a standby of a node that was replaced, and its own chain is still there.
    #[error("another node took this node's place, and what it held before is still here, at least in part")]
    NotCleared,
    /// The frame holds, and the content is not what this release knows.
    #[error("{path} is damaged: {source}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        source: Malformed,
    },
}

impl FileError {
    /// As code, text and hint.
    pub fn refusal(&self) -> Refusal {
        let (code, hint) = match self {
            FileError::Absent { hint, .. } => ("control-file-missing", *hint),
            FileError::StillAStandby => (
                "still-a-standby",
                "to take that node's place, set cvp.node_type of dynamic.toml back to \"receiver\" and self.type of each ns_dynamic.toml back to \"cvp\", start this node and run `cvp upgrade`; to copy it anew, run `cvp clear --yes --as-standby-of \"HOST IP:PORT\"`",
            ),
            FileError::NotCleared => ("not-cleared", "run `cvp clear --yes`, then start it again"),
            FileError::Durable(_) | FileError::Content { .. } => {
                ("disk-failed", "check the disk; never delete a file of system/cvp")
            }
        };
        Refusal::new(code, self.to_string(), hint)
    }
}

/// Where the files are: `<root>/system/cvp`.
#[derive(Clone, Debug)]
pub struct ControlFiles {
    directory: PathBuf,
}

impl ControlFiles {
    /// Files in `directory`, which exists.
    pub fn new(directory: PathBuf) -> ControlFiles {
        ControlFiles { directory }
    }

    /// A file of the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Who this node is.
    pub fn identity(&self) -> Result<Option<Identity>, FileError> {
        self.read("identity", IDENTITY, Identity::decode)
    }

    /// Writes who this node is.
    pub fn write_identity(&self, identity: &Identity) -> Result<(), FileError> {
        self.write("identity", IDENTITY, &identity.encode())
    }

    /// Whose copy this node holds.
    pub fn binding(&self) -> Result<Option<Binding>, FileError> {
        self.read("binding", BINDING, Binding::decode)
    }

    /// Removes the binding; fine if there is none.
    pub fn remove_binding(&self) -> Result<(), FileError> {
        Ok(durable::remove(&self.path("binding"))?)
    }

    /// The receiver served last.
    pub fn last_receiver(&self) -> Result<Option<LastReceiver>, FileError> {
        self.read("last-receiver", LAST_RECEIVER, LastReceiver::decode)
    }

    /// What that one was last noted to hold.
    pub fn last_held(&self) -> Result<Option<LastHeld>, FileError> {
        self.read("last-held", LAST_HELD, LastHeld::decode)
    }

    /// Why this node makes no more blocks.
    pub fn fenced(&self) -> Result<Option<Fenced>, FileError> {
        self.read("fenced", FENCED, Fenced::decode)
    }

    /// What a strategy stored last; empty if nothing.
    pub fn stored(&self, namespace: &Namespace, kind: &str) -> Result<Vec<u8>, FileError> {
        let read = self.read(&stored_name(namespace, kind), STORED, |bytes| Ok(bytes.to_vec()))?;
        Ok(read.unwrap_or_default())
    }

    /// Forgets what a strategy stored; fine if it stored nothing.
    pub fn remove_stored(&self, namespace: &Namespace, kind: &str) -> Result<(), FileError> {
        Ok(durable::remove(&self.path(&stored_name(namespace, kind)))?)
    }

    /// The provider's `[self]` of each namespace as its last handshake said: (`<ns>.<key>`, TOML text).
    pub fn provider_self(&self) -> Result<Option<Vec<(String, String)>>, FileError> {
        self.read("provider", PROVIDER, |bytes| {
            let mut input = Reader::new(bytes);
            let count = input.count(SELF_KEYS_MAX, 8)?;
            (0..count)
                .map(|_| {
                    Ok((
                        input.text(SELF_BYTES_MAX)?.to_owned(),
                        input.text(SELF_BYTES_MAX)?.to_owned(),
                    ))
                })
                .collect()
        })
    }

    /// Writes the provider's `[self]`.
    pub fn write_provider_self(&self, section: &[(String, String)]) -> Result<(), FileError> {
        let mut out = Writer::new();
        out.u32(section.len() as u32);
        for (key, value) in section {
            out.text(key);
            out.text(value);
        }
        self.write("provider", PROVIDER, out.as_slice())
    }

    /// The copy of the provider's tree as it was last written; `None` while it was being written, or never was.
    pub fn copy(&self) -> Result<Option<Inventory>, FileError> {
        let read = self.read("copy", COPY, |bytes| Reader::new(bytes).option(Inventory::read))?;
        Ok(read.flatten())
    }

    /// Writes what the copy holds; `None` before it is changed.
    pub fn write_copy(&self, inventory: Option<&Inventory>) -> Result<(), FileError> {
        if inventory.is_none() {
            // One fsync, in place of a file's and its name's.
            return Ok(durable::remove(&self.path("copy"))?);
        }
        let mut out = Writer::new();
        out.option(inventory, |out, inventory| inventory.write(out));
        self.write("copy", COPY, out.as_slice())
    }

    /// What the provider told last, where the copy is another: what [`ControlFiles::copy`] says of the copy does not say it. `None` else.
    pub fn told(&self) -> Result<Option<Inventory>, FileError> {
        self.read("told", TOLD, |bytes| Inventory::read(&mut Reader::new(bytes)))
    }

    /// Writes what the provider told last; `None` removes it.
    pub fn write_told(&self, inventory: Option<&Inventory>) -> Result<(), FileError> {
        let Some(inventory) = inventory else {
            return Ok(durable::remove(&self.path("told"))?);
        };
        let mut out = Writer::new();
        inventory.write(&mut out);
        self.write("told", TOLD, out.as_slice())
    }

    /// In words, what the copy has otherwise than the provider had when it was last heard; `None` where that is nothing.
    pub fn lacking(&self) -> Option<String> {
        let (copied, told) = match (self.copy(), self.told()) {
            (Ok(copied), Ok(told)) => (copied, told),
            (Err(error), _) | (_, Err(error)) => return Some(error.to_string()),
        };
        let told = told.or_else(|| copied.clone())?;
        told.lacking(&copied.unwrap_or_default())
    }

    /// What the provider told last, as far as it is known: with what it left out.
    pub fn last_told(&self) -> Inventory {
        let told = self.told().ok().flatten().or_else(|| self.copy().ok().flatten());
        told.unwrap_or_default()
    }

    /// Receiver: a strong change that waits for the provider's word.
    pub fn staged(&self) -> Result<Option<Change>, FileError> {
        self.read("staged", STAGED, Change::decode)
    }

    /// Stages a strong change.
    pub fn write_staged(&self, change: &Change) -> Result<(), FileError> {
        self.write("staged", STAGED, &change.encode())
    }

    /// Forgets the staged change; fine if there is none.
    pub fn remove_staged(&self) -> Result<(), FileError> {
        Ok(durable::remove(&self.path("staged"))?)
    }

    /// Provider: the last strong change that was committed while a receiver held it, and the change itself while it may not have been
    /// written into the configuration.
    pub fn committed(&self) -> Result<Option<(ChangeId, Option<Change>)>, FileError> {
        self.read("committed", COMMITTED, |bytes| {
            let mut input = Reader::new(bytes);
            let id = ChangeId::read(&mut input)?;
            let change = input.option(|input| Change::decode(input.bytes(durable::PAYLOAD_BYTES_MAX)?))?;
            Ok((id, change))
        })
    }

    /// Writes the commit of a strong change.
    pub fn write_committed(&self, id: &ChangeId, change: Option<&Change>) -> Result<(), FileError> {
        let mut out = Writer::new();
        id.write(&mut out);
        out.option(change, |out, change| out.bytes(&change.encode()));
        self.write("committed", COMMITTED, out.as_slice())
    }

    /// Provider: the last strong changes of the receivers before this one.
    pub fn promised(&self) -> Result<Promised, FileError> {
        Ok(self.read("promised", PROMISED, Promised::decode)?.unwrap_or_default())
    }

    /// Receiver: the keys that a namespace's config-sync strategy keeps for this node at an upgrade.
    pub fn kept_local(&self, namespace: &Namespace) -> Result<Vec<KeptKey>, FileError> {
        let read = self.read(&kept_name(namespace), KEPT, |bytes| {
            let mut input = Reader::new(bytes);
            let count = input.count(KEPT_MAX, 8)?;
            (0..count)
                .map(|_| {
                    Ok(KeptKey {
                        file: input.text(KEPT_BYTES_MAX)?.to_owned(),
                        key: input.text(KEPT_BYTES_MAX)?.to_owned(),
                    })
                })
                .collect()
        })?;
        Ok(read.unwrap_or_default())
    }

    /// What the strategies of all namespaces keep for this node.
    pub fn all_kept_local(&self) -> Result<Vec<KeptKey>, FileError> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<Namespace> = names
            .filter_map(|name| Namespace::new(name.strip_prefix(KEPT_PREFIX)?).ok())
            .collect();
        found.sort();
        let mut kept = Vec::new();
        for namespace in found {
            kept.extend(self.kept_local(&namespace)?);
        }
        Ok(kept)
    }

    /// Forgets every commit: none was ever written; fine if there is none.
    pub fn remove_committed(&self) -> Result<(), FileError> {
        Ok(durable::remove(&self.path("committed"))?)
    }

    /// Writes what the machine wants kept.
    pub fn write_control(&self, what: &ControlFile) -> Result<(), FileError> {
        match what {
            ControlFile::Binding(binding) => self.write("binding", BINDING, &binding.encode()),
            ControlFile::LastReceiver(receiver) => self.write("last-receiver", LAST_RECEIVER, &receiver.encode()),
            ControlFile::LastHeld(held) => self.write("last-held", LAST_HELD, &held.encode()),
            ControlFile::Promised(promised) => self.write("promised", PROMISED, &promised.encode()),
            ControlFile::Fenced(fenced) => self.write("fenced", FENCED, &fenced.encode()),
            ControlFile::KeptLocal { ns, keys } => {
                let mut out = Writer::new();
                out.u32(keys.len() as u32);
                for kept in keys {
                    out.text(&kept.file);
                    out.text(&kept.key);
                }
                self.write(&kept_name(ns), KEPT, out.as_slice())
            }
            ControlFile::Stored { ns, kind, bytes } => self.write(&stored_name(ns, kind), STORED, bytes),
        }
    }

    fn read<T>(
        &self,
        name: &str,
        magic: &[u8; 8],
        decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, FileError> {
        let path = self.path(name);
        let damaged = |source| FileError::Content {
            path: path.display().to_string(),
            source,
        };
        match durable::read_file(&path, magic)? {
            None => Ok(None),
            Some((VERSION, bytes)) => decode(&bytes).map(Some).map_err(damaged),
            Some((other, _)) => Err(damaged(Malformed::new(format!("version {other}")))),
        }
    }

    fn write(&self, name: &str, magic: &[u8; 8], bytes: &[u8]) -> Result<(), FileError> {
        Ok(durable::write_file(&self.path(name), magic, VERSION, bytes)?)
    }
}

fn kept_name(namespace: &Namespace) -> String {
    format!("{KEPT_PREFIX}{namespace}")
}

fn stored_name(namespace: &Namespace, kind: &str) -> String {
    format!("strategy-{namespace}-{kind}")
}
