//! A plugin directory, `plugins/<id>/{plugin.toml,plugin.wasm}`: its manifest, its component's bytes, and whether either changed.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use crate::component::AnyComponent;
use crate::error::LoadError;
use crate::runtime::COMPONENT_BYTES_MAX;

/// Name of the manifest.
pub const MANIFEST_FILE: &str = "plugin.toml";

/// Name of the component.
pub const PLUGIN_FILE: &str = "plugin.wasm";

/// Version of each kind's contract that this release serves; a plugin says which it was built for.
const CONTRACT_VERSION: &str = "0.1";

/// Longest manifest read, bytes.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;

/// `plugin.toml`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The directory's name.
    pub id: String,
    /// `chain-sync` or `config-sync`.
    pub kind: String,
    /// As the component describes itself.
    pub version: String,
    /// `cvp:<kind>@0.1.0`.
    pub contract: String,
    /// Of `plugin.wasm`, hex.
    pub sha256: String,
}

/// A plugin directory with its manifest read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plugin {
    directory: PathBuf,
    /// What `plugin.toml` says.
    pub manifest: Manifest,
}

impl Plugin {
    /// Reads and checks the manifest in `directory`, whose name must be the plugin's id.
    pub fn open(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.join(MANIFEST_FILE);
        let wrong = |reason: String| LoadError::Manifest {
            path: path.clone(),
            reason,
        };
        let bytes = read_bounded(&path, MANIFEST_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".into()))?;
        let manifest: Manifest = toml::from_str(&text).map_err(|e| wrong(e.message().to_owned()))?;
        if directory.file_name().and_then(|n| n.to_str()) != Some(manifest.id.as_str()) {
            return Err(wrong(format!(
                "id is {:?}, the directory is called otherwise",
                manifest.id
            )));
        }
        if manifest.id == "default" {
            return Err(wrong("the id \"default\" is the embedded strategy's".into()));
        }
        if !AnyComponent::KINDS.contains(&manifest.kind.as_str()) {
            return Err(wrong(format!("kind {:?} is not known to this release", manifest.kind)));
        }
        let served = format!("cvp:{}@{CONTRACT_VERSION}", manifest.kind);
        let contract = manifest.contract.as_str();
        if contract != served && !contract.starts_with(&format!("{served}.")) {
            return Err(wrong(format!(
                "contract {contract:?} is not served; this release serves {served}"
            )));
        }
        if manifest.sha256.len() != 64 || hex::decode(&manifest.sha256).is_err() {
            return Err(wrong("sha256 must be 64 hex digits".into()));
        }
        Ok(Self {
            directory: directory.to_owned(),
            manifest,
        })
    }

    /// The component's bytes, at most [`COMPONENT_BYTES_MAX`].
    pub fn read_component(&self) -> Result<Vec<u8>, LoadError> {
        read_bounded(&self.directory.join(PLUGIN_FILE), COMPONENT_BYTES_MAX)
    }
}

/// Reads a file of at most `bytes_max`; a larger one is not read at all.
fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, LoadError> {
    let unreadable = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > bytes_max {
        return Err(LoadError::TooLarge { bytes, bytes_max });
    }
    let mut out = Vec::with_capacity(bytes as usize);
    file.take(bytes_max).read_to_end(&mut out).map_err(unreadable)?;
    Ok(out)
}

/// Size and time of both files of a plugin directory: a cheap look that tells whether they changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp([Option<(u64, SystemTime)>; 2]);

impl Stamp {
    /// Looks at the directory. Files that are not there are a state like any other.
    pub fn of(directory: &Path) -> Self {
        let look = |name| {
            let metadata = std::fs::metadata(directory.join(name)).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        };
        Self([look(MANIFEST_FILE), look(PLUGIN_FILE)])
    }
}
