//! Kind `config-sync`: which files of the provider's configuration the receiver fetches and deletes, which change by command is strong, and
//! which keys keep the receiver's own value at an upgrade.
//!
//! A [`View`] holds both inventories whole, so a strategy that was restarted, replaced or upgraded needs no history. It sees paths, sizes and
//! digests, never a file's content. Actions are advice, checked by the host one by one; a bad one ends the instance.

use crate::{Descriptor, Fault, Level, Problem, Role};

/// The kind's name, as configuration and descriptors spell it.
pub const KIND: &str = "config-sync";

/// Most files of one inventory.
pub const FILES_MAX: usize = 4_096;

/// Most paths that one [`Action::Request`] or [`Action::Delete`] names.
pub const PATHS_MAX: usize = 256;

/// Longest path, bytes.
pub const PATH_BYTES_MAX: usize = 512;

/// Longest dotted key, bytes.
pub const KEY_BYTES_MAX: usize = 512;

/// One file of an inventory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileEntry {
    /// `configuration/...` or `certificates/<namespace>/...`, with `/` between names; at most [`PATH_BYTES_MAX`].
    pub path: String,
    /// Its size, bytes.
    pub size: u64,
    /// SHA-256 of its content.
    pub digest: [u8; 32],
}

/// Everything there is to know about one namespace's configuration at one instant, seen from one end.
///
/// The namespace `global` also owns the files that belong to the whole node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// This end.
    pub role: Role,
    /// The namespace.
    pub namespace: String,
    /// The host's monotonic clock, milliseconds since an arbitrary start. The only time a strategy sees.
    pub now: u64,
    /// Receiver: its copy of the provider's files (not the files it runs on), with those that were fetched and
    /// wait for the rest as if they were in place, and without those that this strategy said may go. Provider: its own files. At most [`FILES_MAX`], in order of path.
    pub local: Vec<FileEntry>,
    /// The other end's inventory, as last heard; none while no session lives.
    pub peer: Option<Vec<FileEntry>>,
    /// Receiver: paths that were asked for and are still under way. Empty on the provider.
    pub requested: Vec<String>,
    /// Open end: names this release does not know are ignored.
    pub extra: Vec<(String, String)>,
}

impl View {
    /// An empty view of a namespace without files: for tests, and to fill in.
    pub fn new(role: Role, namespace: impl Into<String>) -> Self {
        Self {
            role,
            namespace: namespace.into(),
            now: 0,
            local: Vec::new(),
            peer: None,
            requested: Vec::new(),
            extra: Vec::new(),
        }
    }
}

/// A change that an operator wants to make by command on the provider. It is not made before it is weighed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// Names it in the answer; never used twice in the life of an instance.
    pub id: u64,
    /// Path of the file.
    pub file: String,
    /// Dotted TOML key; empty: the file as a whole.
    pub key: String,
    /// SHA-256 of the file before; none: there is no such file.
    pub old: Option<[u8; 32]>,
    /// SHA-256 of the file after; none: it goes.
    pub new: Option<[u8; 32]>,
}

/// What a strategy is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A session lives from here on, or the strategy was (re)started within one.
    Opened {
        /// How things stand.
        view: View,
        /// What the strategy stored last; empty if nothing.
        stored: Vec<u8>,
    },
    /// An inventory, or what is under way, changed. Coalesced: the latest wins.
    Inventories(View),
    /// Provider: how much does this change weigh? To be answered with [`Action::Weigh`] in the same call.
    Edit(Edit),
    /// About once a second while a session lives: the host's clock, milliseconds. Nothing else changed since the last view.
    Tick(u64),
    /// The other half's `send`.
    Message(Vec<u8>),
    /// The host does not know an action of the last call. (A call it knows and refuses ends the instance.)
    Fault(Fault),
    /// An event of a later release: to be ignored.
    Other(String, Vec<u8>),
}

/// What a strategy decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Receiver: fetch these files of the peer's inventory, in this order; at most [`PATHS_MAX`]. Adds to what is under way.
    Request(Vec<String>),
    /// Receiver: these files of the local inventory go; at most [`PATHS_MAX`].
    Delete(Vec<String>),
    /// Provider: the answer to [`Event::Edit`].
    Weigh {
        /// [`Edit::id`].
        edit: u64,
        /// True: both ends hold the change durably before it is answered. False: it is made here and copied later. What must be strong the
        /// host keeps strong.
        strong: bool,
    },
    /// Receiver: at an upgrade this key keeps the receiver's own value. Rules add up, and hold until the next [`Event::Opened`].
    KeepLocal {
        /// Path of a file of either inventory.
        file: String,
        /// Dotted TOML key, at most [`KEY_BYTES_MAX`]; a table's name stands for all below it.
        key: String,
    },
    /// Either end: refuse the copy, for the reason given (shown on both ends).
    Refuse(String),
    /// Keep these bytes for the next [`Event::Opened`]; at most [`crate::STORE_BYTES_MAX`].
    Store(Vec<u8>),
    /// To the other half of this strategy; at most [`crate::SEND_BYTES_MAX`].
    Send(Vec<u8>),
    /// A log line.
    Log(Level, String),
    /// Set a gauge, a whole number (use a smaller unit rather than a fraction).
    Metric(String, i64),
    /// An action of a later release: answered with a fault event.
    Other(String, Vec<u8>),
}

/// A config-sync strategy as plain Rust. The SDK's macro exports it as a component; core's `Native` runs it as it is.
pub trait ConfigSync: Sized + Send + 'static {
    /// Id, kind, version and settings schema.
    fn describe() -> Descriptor;

    /// Checks a settings text (a JSON object), naming everything that is wrong.
    fn check_settings(settings: &str) -> Result<(), Vec<Problem>>;

    /// A strategy for one end of one namespace. Fails when the settings are not what [`ConfigSync::check_settings`] accepts.
    fn open(role: Role, namespace: &str, settings: &str) -> Result<Self, Fault>;

    /// Takes what happened, oldest first, and says what to do. A fault ends this instance: the host restarts it.
    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault>;
}
