//! The events a strategy sees and the actions it decides, as plain Rust types.
//!
//! Defined once, here, without dependencies: the host's core, the SDK and every strategy stand on it, so a strategy is plain Rust that runs
//! as WASM in a node and natively in tests and the simulator. The WIT packages under `wit/` say the same for the component boundary. Owns no
//! decision and no encoding.

pub mod chain_sync;
pub mod config_sync;
pub mod index_check;
pub mod mq_sync;

/// Height of a block; genesis is 0.
pub type Height = u64;

/// The last height there can be: a span that ends here is the live tail, a stream without end.
pub const LIVE_TAIL: Height = Height::MAX;

/// Longest value of the action `store`, bytes.
pub const STORE_BYTES_MAX: usize = 64 << 10;

/// Longest message between the two halves of a strategy (`send` and `message`), bytes.
pub const SEND_BYTES_MAX: usize = 1 << 20;

/// Most actions one call may return.
pub const ACTIONS_MAX: usize = 256;

/// Longest string in an action (a reason, a log line, a name), bytes.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// Longest settings text of a strategy, bytes.
pub const SETTINGS_BYTES_MAX: usize = 64 << 10;

/// Which end of the pair a strategy instance works for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Role {
    /// The online node, which gives.
    Provider,
    /// The standby, which takes.
    Receiver,
}

impl Role {
    /// As status and logs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Provider => "provider",
            Role::Receiver => "receiver",
        }
    }
}

/// A place in a chain: a height and the hash of the record there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Position {
    /// Height of the record.
    pub height: Height,
    /// Hash of the record's header.
    pub hash: [u8; 32],
}

/// What a strategy says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Descriptor {
    /// Its id, as the directory under `plugins/` is called; `default` for the embedded one.
    pub id: String,
    /// Its kind: `chain-sync`, `config-sync`, ...
    pub kind: String,
    /// Its version, `major.minor.patch`.
    pub version: String,
    /// JSON Schema of its settings (which are TOML in a node's configuration, and reach the strategy as JSON text).
    pub settings_schema: String,
    /// Open end: names this release does not know are ignored.
    pub extra: Vec<(String, String)>,
}

/// One thing that is wrong with a strategy's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Name of the setting, dotted; empty for the text as a whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// Something that went wrong: a strategy's own error, or the host's answer to an action it refuses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Kebab-case code; an open set.
    pub code: String,
    /// What happened, with the values that matter.
    pub text: String,
}

impl Fault {
    /// A fault with its code and text.
    pub fn new(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            text: text.into(),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

impl std::error::Error for Fault {}

/// How loud a log line of a strategy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Level {
    /// For the strategy's author.
    Debug,
    /// For the curious operator.
    Info,
    /// Something the operator should look at.
    Warn,
}
