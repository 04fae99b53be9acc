//! Kind `index-check`: whether two nodes with these index settings may be a pair, and what their operators should know of the index.
//!
//! The data index is kept in a database beside the node (its *backend*). A [`View`] holds the switch of both ends and how each end's host
//! finds its backend, so a strategy that was restarted, replaced or upgraded needs no history. Looking at a backend is the host's business: a
//! strategy connects to nothing. Ends whose switches differ never come here: the host refuses such a pair whatever a strategy would say.

use crate::{Descriptor, Fault, Level, Problem, Role};

/// The kind's name, as configuration and descriptors spell it.
pub const KIND: &str = "index-check";

/// Most [`Action::Warn`] of one call, and most warnings of a namespace at a time.
pub const WARNINGS_MAX: usize = 8;

/// [`Side::backend`]: the switch is off, and nothing is looked at.
pub const OFF: &str = "off";

/// [`Side::backend`]: it was not looked at yet, or that end has not said.
pub const UNKNOWN: &str = "unknown";

/// [`Side::backend`]: it accepts connections.
pub const HEALTHY: &str = "healthy";

/// [`Side::backend`]: it does not.
pub const UNHEALTHY: &str = "unhealthy";

/// The index of one end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Side {
    /// `database.indexdb.layer1.enable` as that node runs the namespace. The same on both ends.
    pub enabled: bool,
    /// The same as it is configured now: it takes effect with the node's next start.
    pub configured: bool,
    /// [`OFF`], [`UNKNOWN`], [`HEALTHY`] or [`UNHEALTHY`]: an open set.
    pub backend: String,
    /// Why it is not healthy, with its address and without what it is logged into with; empty when it is.
    pub problem: String,
    /// Open end: names this release does not know are ignored.
    pub extra: Vec<(String, String)>,
}

impl Side {
    /// A switch that stays as it is, and a backend that nobody has looked at.
    pub fn new(enabled: bool) -> Self {
        Self {
            enabled,
            configured: enabled,
            backend: if enabled { UNKNOWN } else { OFF }.to_owned(),
            problem: String::new(),
            extra: Vec::new(),
        }
    }
}

/// Everything there is to know about the index of one namespace at one instant, seen from one end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// This end.
    pub role: Role,
    /// The namespace.
    pub namespace: String,
    /// The host's monotonic clock, milliseconds since an arbitrary start. The only time a strategy sees.
    pub now: u64,
    /// This end's index.
    pub local: Side,
    /// The other end's, as last heard.
    pub peer: Side,
    /// Open end: names this release does not know are ignored.
    pub extra: Vec<(String, String)>,
}

impl View {
    /// A view of a namespace without an index: for tests, and to fill in.
    pub fn new(role: Role, namespace: impl Into<String>) -> Self {
        Self {
            role,
            namespace: namespace.into(),
            now: 0,
            local: Side::new(false),
            peer: Side::new(false),
            extra: Vec::new(),
        }
    }
}

/// What a strategy is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A session lives from here on, or the strategy was (re)started within one. To be answered with one verdict in the same call.
    Opened {
        /// How things stand.
        view: View,
        /// What the strategy stored last; empty if nothing.
        stored: Vec<u8>,
    },
    /// Something of either end's index changed. Coalesced: the latest wins. To be answered with one verdict in the same call.
    State(View),
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
    /// The verdict: the namespace may be copied. Only with a view.
    Accept,
    /// The verdict, or without a view at any time: no pair, for the reason given (shown on both ends). The session ends, and the receiver tries
    /// again.
    Refuse(String),
    /// The operator should know this: it stands in the status of this end. With a view, those of the view before go; else it is one more. At
    /// most [`WARNINGS_MAX`].
    Warn(String),
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

/// An index-check strategy as plain Rust. The SDK's macro exports it as a component; core's `Native` runs it as it is.
pub trait IndexCheck: Sized + Send + 'static {
    /// Id, kind, version and settings schema.
    fn describe() -> Descriptor;

    /// Checks a settings text (a JSON object), naming everything that is wrong.
    fn check_settings(settings: &str) -> Result<(), Vec<Problem>>;

    /// A strategy for one end of one namespace. Fails when the settings are not what [`IndexCheck::check_settings`] accepts.
    fn open(role: Role, namespace: &str, settings: &str) -> Result<Self, Fault>;

    /// Takes what happened, oldest first, and says what to do. A fault ends this instance: the host restarts it.
    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault>;
}
