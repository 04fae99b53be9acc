//! Why a component was not loaded: each says whose fault it is and what to do.

use std::path::PathBuf;

/// A component that was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file of the plugin could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `plugin.toml` does not say what it must.
    #[error("{} is not a plugin manifest: {reason}", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The component is larger than the cap.
    #[error("the component has {bytes} bytes, at most {bytes_max} are taken")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The cap.
        bytes_max: u64,
    },
    /// The component is not the one `plugin.toml` names.
    #[error("the component's sha256 is {found}, plugin.toml says {expected}")]
    WrongDigest {
        /// In `plugin.toml`, hex.
        expected: String,
        /// Of the file, hex.
        found: String,
    },
    /// Not a valid component.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It imports what a strategy may not have.
    #[error("the component imports {name}, which a strategy may not use{hint}")]
    ForbiddenImport {
        /// The import.
        name: String,
        /// Why, and what to use instead; may be empty.
        hint: &'static str,
    },
    /// It does not export what its kind must, or cannot be linked.
    #[error("the component does not fit the contract: {0}")]
    Contract(String),
    /// It trapped, or took too long, while it described itself or checked its settings.
    #[error("the component failed while it was asked for its {what}: {reason}")]
    Failed {
        /// `description` or `settings check`.
        what: &'static str,
        /// The trap.
        reason: String,
    },
    /// It describes itself otherwise than `plugin.toml` or the configuration says.
    #[error("the component calls itself {field} {found:?}, expected {expected:?}")]
    Mismatch {
        /// `id`, `kind` or `version`.
        field: &'static str,
        /// What the component says.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The engine itself could not be set up.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(String),
}

impl LoadError {
    /// Kebab-case and stable, for `--json` and status.
    pub fn code(&self) -> &'static str {
        match self {
            LoadError::Read { .. } => "plugin-unreadable",
            LoadError::Manifest { .. } => "plugin-manifest",
            LoadError::TooLarge { .. } => "plugin-too-large",
            LoadError::WrongDigest { .. } => "plugin-wrong-digest",
            LoadError::Compile(_) => "plugin-does-not-compile",
            LoadError::ForbiddenImport { .. } => "plugin-forbidden-import",
            LoadError::Contract(_) => "plugin-contract",
            LoadError::Failed { .. } => "plugin-failed",
            LoadError::Mismatch { .. } => "plugin-mismatch",
            LoadError::Engine(_) => "engine-failed",
        }
    }
}
