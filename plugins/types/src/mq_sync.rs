//! Kind `mq-sync`: whether a queue is registered or goes, and how the receiver's queues become the provider's.
//!
//! A [`View`] holds the queues of both ends, so a strategy that was restarted, replaced or upgraded needs no history. The host keeps the floor:
//! a registration that is made while a receiver is attached is on both disks before its client hears of it, and what the provider has
//! registered the receiver holds. Messages do not travel; how far each queue was told does, and no strategy is asked about that.

use crate::{Descriptor, Fault, Height, Level, Problem, Role};

/// The kind's name, as configuration and descriptors spell it.
pub const KIND: &str = "mq-sync";

/// Most queues of an inventory, and most names in one [`Action::Apply`] or [`Action::Drop`].
pub const QUEUES_MAX: usize = 256;

/// Longest name of a queue, bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// Most routing keys of a queue.
pub const KEYS_MAX: usize = 16;

/// Most [`Action::Warn`] of one call, and most warnings of a namespace at a time.
pub const WARNINGS_MAX: usize = 8;

/// [`View::broker`]: consumers read the node itself.
pub const EMBEDDED: &str = "embedded";

/// [`View::broker`]: it is connected.
pub const REACHABLE: &str = "reachable";

/// [`View::broker`]: it is not.
pub const UNREACHABLE: &str = "unreachable";

/// [`View::broker`]: nothing is published here, as on every receiver.
pub const UNKNOWN: &str = "unknown";

/// One registered queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Number of the registration: never given twice in a namespace.
    pub number: u64,
    /// What it is told: `MQBlock`, `MQLog`, `MQException`; an open set.
    pub keys: Vec<String>,
    /// Digest of its filter of addresses and topics.
    pub filter: [u8; 32],
    /// Digest of everything it was registered for, its name and its filter among it.
    pub registration: [u8; 32],
    /// Told only of blocks that the receiver holds too.
    pub delay: bool,
    /// First height it is told of.
    pub registered: Height,
    /// Height of the block it is told of next, as last looked at: everything below was confirmed.
    pub cursor: Height,
    /// Open end: names this release does not know are ignored.
    pub extra: Vec<(String, String)>,
}

impl Queue {
    /// A queue for blocks from `registered` on: for tests, and to fill in.
    pub fn new(name: impl Into<String>, number: u64, registered: Height) -> Self {
        Self {
            name: name.into(),
            number,
            keys: vec!["MQBlock".to_owned()],
            filter: [0; 32],
            registration: [0; 32],
            delay: false,
            registered,
            cursor: registered,
            extra: Vec::new(),
        }
    }

    /// Whether the other one is the very same registration, however far either was told.
    pub fn is_same(&self, other: &Queue) -> bool {
        (&self.name, self.number, self.registration, self.registered)
            == (&other.name, other.number, other.registration, other.registered)
    }
}

/// The queues of one end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    /// Name of their exchange.
    pub exchange: String,
    /// In order of name; at most [`QUEUES_MAX`].
    pub queues: Vec<Queue>,
    /// Open end: names this release does not know are ignored.
    pub extra: Vec<(String, String)>,
}

impl Inventory {
    /// The queue of that name.
    pub fn get(&self, name: &str) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.name == name)
    }
}

/// Everything there is to know about the queues of one namespace at one instant, seen from one end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// This end.
    pub role: Role,
    /// The namespace.
    pub namespace: String,
    /// The host's monotonic clock, milliseconds since an arbitrary start. The only time a strategy sees.
    pub now: u64,
    /// This end's queues; none where it has no registry yet.
    pub local: Option<Inventory>,
    /// The other end's, as last heard; none while no session lives, or before it was told.
    pub peer: Option<Inventory>,
    /// This end's broker: [`EMBEDDED`], [`REACHABLE`], [`UNREACHABLE`] or [`UNKNOWN`]; an open set.
    pub broker: String,
    /// Open end: names this release does not know are ignored.
    pub extra: Vec<(String, String)>,
}

impl View {
    /// A view of a namespace without queues: for tests, and to fill in.
    pub fn new(role: Role, namespace: impl Into<String>) -> Self {
        Self {
            role,
            namespace: namespace.into(),
            now: 0,
            local: None,
            peer: None,
            broker: UNKNOWN.to_owned(),
            extra: Vec::new(),
        }
    }

    /// The peer's queues that this end has not, or has otherwise.
    pub fn missing(&self) -> impl Iterator<Item = &Queue> {
        let here = |wanted: &Queue| {
            let queue = self.local.as_ref().and_then(|local| local.get(&wanted.name));
            queue.is_some_and(|queue| queue.is_same(wanted))
        };
        let there = self.peer.iter().flat_map(|peer| &peer.queues);
        there.filter(move |wanted| !here(wanted))
    }

    /// This end's queues whose names the peer does not have; none before the peer has told its own.
    pub fn extra_queues(&self) -> impl Iterator<Item = &Queue> {
        let local = self.local.iter().flat_map(|local| &local.queues);
        local.filter(|queue| self.peer.as_ref().is_some_and(|peer| peer.get(&queue.name).is_none()))
    }
}

/// What a client asks for on the provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Names it in the answer; never used twice in the life of an instance.
    pub id: u64,
    /// Name of the exchange.
    pub exchange: String,
    /// The queue that is to come, or to go.
    pub queue: Queue,
    /// As [`View::broker`].
    pub broker: String,
    /// A receiver is attached: the change is to be on both disks.
    pub attached: bool,
    /// Open end: names this release does not know are ignored.
    pub extra: Vec<(String, String)>,
}

impl Change {
    /// A change of that queue at a node that is consumed from itself, with a receiver attached: for tests, and to fill in.
    pub fn new(id: u64, queue: Queue) -> Self {
        Self {
            id,
            exchange: String::new(),
            queue,
            broker: EMBEDDED.to_owned(),
            attached: true,
            extra: Vec::new(),
        }
    }
}

/// What a strategy is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The strategy was (re)started, or a session lives from here on.
    Opened {
        /// How things stand.
        view: View,
        /// What the strategy stored last; empty if nothing.
        stored: Vec<u8>,
    },
    /// The queues of either end changed, or the session ended. Coalesced: the latest wins. A cursor that moves is no change.
    Inventories(View),
    /// Provider: the broker became reachable, or ceased to be. Coalesced.
    Broker(View),
    /// Provider: a client wants to register this queue. To be answered with [`Action::Replicate`], [`Action::Hold`] or [`Action::Refuse`] in
    /// the same call.
    Registered(Change),
    /// Provider: a client wants to unregister it. To be answered likewise.
    Unregistered(Change),
    /// About once a second: the host's clock, milliseconds. Nothing else changed since the last view.
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
    /// Provider: the change with this id is made: on both nodes, or on this one alone while no receiver is attached.
    Replicate(u64),
    /// Provider: it is made once the broker is reachable, at once where it is. The client waits for it as long as for a receiver's answer; then
    /// it is told that nothing changed.
    Hold(u64),
    /// Provider: it is not made, and the client is told why.
    Refuse {
        /// [`Change::id`].
        change: u64,
        /// What the client is told.
        reason: String,
    },
    /// Receiver, with a view: take these queues as the provider has them. Each of [`View::missing`] is to be named in the same call.
    Apply(Vec<String>),
    /// Receiver, with a view: these of [`View::extra_queues`] go. What is not named stays until the next change of the provider's queues.
    Drop(Vec<String>),
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

/// An mq-sync strategy as plain Rust. The SDK's macro exports it as a component; core's `Native` runs it as it is.
pub trait MqSync: Sized + Send + 'static {
    /// Id, kind, version and settings schema.
    fn describe() -> Descriptor;

    /// Checks a settings text (a JSON object), naming everything that is wrong.
    fn check_settings(settings: &str) -> Result<(), Vec<Problem>>;

    /// A strategy for one end of one namespace. Fails when the settings are not what [`MqSync::check_settings`] accepts.
    fn open(role: Role, namespace: &str, settings: &str) -> Result<Self, Fault>;

    /// Takes what happened, oldest first, and says what to do. A fault ends this instance: the host restarts it.
    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault>;
}
