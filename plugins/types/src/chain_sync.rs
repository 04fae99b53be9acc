//! Kind `chain-sync`: which blocks the receiver fetches, how many bytes may be under way, when to pause, throttle or refuse.
//!
//! Every event but the small ones carries a whole [`View`], so a strategy that was restarted, replaced or upgraded needs no history: the
//! latest view is all there is to know. Actions are advice, checked by the host one by one; a bad one comes back as [`Event::Fault`].

use crate::{Descriptor, Fault, Height, Level, Position, Problem, Role};

/// The kind's name, as configuration and descriptors spell it.
pub const KIND: &str = "chain-sync";

/// A span the receiver wants: records `first..=last`, with at most `bytes_in_flight` sent and not yet durable at the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// First height wanted; the host takes only the receiver's durable height plus one.
    pub first: Height,
    /// Last height wanted; [`crate::LIVE_TAIL`] streams each new block as it becomes durable at the provider.
    pub last: Height,
    /// Bytes that may be under way: sent by the provider, not yet acknowledged as durable. The host caps it at [`View::window_bytes_max`].
    pub bytes_in_flight: u64,
}

/// What was last made durable at the receiver in one go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Records in it.
    pub records: u64,
    /// Their encoded bytes.
    pub bytes: u64,
    /// Time it took to check and append them, microseconds.
    pub ingest_micros: u64,
    /// Time the fsync took that made them durable, microseconds.
    pub sync_micros: u64,
}

/// A state snapshot the provider can hand over instead of old history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Position whose state it holds.
    pub at: Position,
    /// Its size, bytes.
    pub bytes: u64,
}

/// Everything there is to know about one namespace's stream at one instant, seen from one end.
///
/// On the receiver, `local` is its own durable tip and `peer` the provider's; on the provider it is the other way round: `local` its own
/// durable tip, `peer` what the receiver acknowledged as durable. Numbers that an end does not know are 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// This end.
    pub role: Role,
    /// The namespace.
    pub namespace: String,
    /// The host's monotonic clock, milliseconds since an arbitrary start. The only time a strategy sees.
    pub now: u64,
    /// Durable tip of this end.
    pub local: Position,
    /// Durable tip of the other end, as last heard; none while no session streams.
    pub peer: Option<Position>,
    /// Oldest height whose record the provider held when the session began (0: all history).
    pub history_from: Height,
    /// The fetch the host is carrying out; none when paused, done or not begun.
    pub fetch: Option<Fetch>,
    /// Next height expected on the stream (receiver) or to be sent (provider).
    pub next: Height,
    /// Bytes under way: sent or requested and not yet durable at the receiver.
    pub in_flight_bytes: u64,
    /// The part of them that reached the receiver and waits for its disk.
    pub backlog_bytes: u64,
    /// Largest window the host accepts, bytes.
    pub window_bytes_max: u64,
    /// Mean record size seen lately, bytes (0: none seen).
    pub record_bytes_mean: u64,
    /// What was last made durable; none before the first.
    pub applied: Option<Batch>,
    /// How many batches were made durable in this session: tells a new [`View::applied`] from one already seen.
    pub applied_batches: u64,
    /// Blocks the receiver's durable tip is behind the provider's.
    pub lag_blocks: u64,
    /// Estimated bytes of them.
    pub lag_bytes: u64,
    /// Age of the provider's tip that the receiver does not hold yet, milliseconds; 0 when level.
    pub lag_millis: u64,
    /// Milliseconds since the stream last moved (a record received, an ack, or nothing left to do).
    pub idle_millis: u64,
    /// Milliseconds the write or fsync now under way on the receiver's disk has taken so far; 0 when none is.
    pub disk_wait_millis: u64,
    /// The lowest round trip of the session's heartbeats, microseconds: what the link takes while it is not full (0: not measured yet).
    pub round_trip_micros: u64,
    /// The operator's `cvp.max_rate`, bytes a second; 0: no limit.
    pub max_rate: u64,
    /// Snapshots the provider offers; empty in this release.
    pub snapshots: Vec<Snapshot>,
    /// Open end: names this release does not know are ignored.
    pub extra: Vec<(String, String)>,
}

impl View {
    /// An empty view of a namespace at genesis: for tests, and to fill in.
    pub fn new(role: Role, namespace: impl Into<String>) -> Self {
        Self {
            role,
            namespace: namespace.into(),
            now: 0,
            local: Position::default(),
            peer: None,
            history_from: 0,
            fetch: None,
            next: 1,
            in_flight_bytes: 0,
            backlog_bytes: 0,
            window_bytes_max: 64 << 20,
            record_bytes_mean: 0,
            applied: None,
            applied_batches: 0,
            lag_blocks: 0,
            lag_bytes: 0,
            lag_millis: 0,
            idle_millis: 0,
            disk_wait_millis: 0,
            round_trip_micros: 0,
            max_rate: 0,
            snapshots: Vec::new(),
            extra: Vec::new(),
        }
    }
}

/// What a strategy is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A session streams from here on, or the strategy was (re)started within one.
    Opened {
        /// How things stand.
        view: View,
        /// What the strategy stored last; empty if nothing.
        stored: Vec<u8>,
    },
    /// Something moved: a tip, a durable height, an applied batch, a window. Coalesced: the latest wins.
    Progress(View),
    /// Bytes are owed and nothing has moved for a while.
    Stall {
        /// How things stand.
        view: View,
        /// For how long nothing moved, milliseconds.
        millis: u64,
    },
    /// About once a second while a session streams.
    Tick(View),
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
    /// Receiver: take these records; replaces the fetch under way.
    Fetch(Fetch),
    /// Receiver: change the bytes that may be under way, and nothing else.
    Window(u64),
    /// Receiver: stop the stream, for the reason given (shown in status), until the next fetch.
    Pause(String),
    /// Receiver: begin from the snapshot at this height instead of old history.
    Bootstrap(Height),
    /// Receiver: check the state commitment at least every so many records. It is checked once a run, so runs get no longer than that.
    VerifyEvery(u64),
    /// Provider: send at most so many bytes a second; 0: no limit. The host's own `cvp.max_rate` stays the ceiling.
    Throttle(u64),
    /// Either end: refuse the stream, for the reason given (shown on both ends).
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

/// A chain-sync strategy as plain Rust. The SDK's macro exports it as a component; core's `Native` runs it as it is.
pub trait ChainSync: Sized + Send + 'static {
    /// Id, kind, version and settings schema.
    fn describe() -> Descriptor;

    /// Checks a settings text (a JSON object), naming everything that is wrong.
    fn check_settings(settings: &str) -> Result<(), Vec<Problem>>;

    /// A strategy for one end of one namespace. Fails when the settings are not what [`ChainSync::check_settings`] accepts.
    fn open(role: Role, namespace: &str, settings: &str) -> Result<Self, Fault>;

    /// Takes what happened, oldest first, and says what to do. A fault ends this instance: the host restarts it.
    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault>;
}
