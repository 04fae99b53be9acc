//! The door of the machine: what it is made of, what goes in, what comes out.

use bytes::Bytes;

use crate::frame::Frame;
use crate::session::{Claim, Fenced, IndexState, Reign, StrategyId};
use crate::types::strategy::{Fault, chain_sync, config_sync, index_check, mq_sync};
use crate::types::{Digest, Height, Namespace, Position, Refusal};

use super::PeerTls;
use super::archive::{ArchiveEvent, ArchiveWork};
use super::control_file::ControlFile;
use super::limits::Limits;
use super::link::DialPurpose;
use super::passing::Passed;
use super::queues::{QueueEvent, QueueWork};
use super::setup::Setup;
use super::work::{ChangeEvent, ChangeWork, TreeEvent, TreeWork};

/// A link, numbered by the host, growing as links come; never used twice in a process.
pub type ConnId = u64;

/// A write of a control file that is under way.
pub type Token = u64;

/// State of a strategy instance, as the host's actor says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StrategyRun {
    /// It runs.
    Running,
    /// It waits to be started again after a fault.
    Restarting,
    /// It faulted too often: the embedded default runs in its place.
    Quarantined,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A link was accepted.
    Accepted {
        /// Its number.
        conn: ConnId,
        /// The other end.
        peer: PeerTls,
    },
    /// A dial of ours connected.
    Dialed {
        /// Its number.
        conn: ConnId,
        /// As in [`Action::Dial`].
        purpose: DialPurpose,
        /// The other end.
        peer: PeerTls,
    },
    /// A dial of ours failed at every address.
    DialFailed {
        /// As in [`Action::Dial`].
        purpose: DialPurpose,
        /// Why: code `unreachable` for the network, any other for a refusal of the link (TLS, name, ...).
        refusal: Refusal,
    },
    /// A frame came in.
    Frame {
        /// From which link.
        conn: ConnId,
        /// The frame.
        frame: Frame,
    },
    /// Part of a frame came in, of one that takes long.
    Arriving(ConnId),
    /// Frames wait for the line of this link, told as often as the time; true: bytes of them left meanwhile.
    Leaving(ConnId, bool),
    /// A link ended, by itself or after [`Action::Close`].
    Closed {
        /// Which.
        conn: ConnId,
        /// Why, if it was not asked for: no frame, garbage, reset.
        reason: Option<Refusal>,
    },
    /// Provider: the own chain is durable up to here (coalesced: the latest wins).
    LocalTip {
        /// Namespace.
        ns: Namespace,
        /// Durable tip.
        durable: Position,
        /// Visible to queries.
        applied: Height,
    },
    /// Receiver: an [`Action::Ingest`] was checked and appended.
    Ingested {
        /// Namespace.
        ns: Namespace,
        /// New appended tip.
        tip: Position,
        /// Bytes of the run.
        bytes: u64,
        /// Time it took, microseconds.
        micros: u64,
    },
    /// Receiver: an [`Action::Ingest`] was bad; nothing of it was appended. The peer is at fault.
    Rejected {
        /// Namespace.
        ns: Namespace,
        /// Why.
        refusal: Refusal,
    },
    /// Receiver: an [`Action::Sync`] is done; `durable` is on disk.
    Synced {
        /// Namespace.
        ns: Namespace,
        /// Durable tip.
        durable: Position,
        /// Visible to queries.
        applied: Height,
        /// Time it took, microseconds.
        micros: u64,
    },
    /// The namespace's store failed (`disk-failed`, `disk-full`, ...): it takes no more work. Answers Ingest, Sync, Read, or comes by itself.
    StoreFailed {
        /// Namespace.
        ns: Namespace,
        /// Why.
        refusal: Refusal,
    },
    /// The store works again (room on a full disk): answers [`Action::Probe`], after everything that was under way.
    StoreRecovered {
        /// Namespace.
        ns: Namespace,
        /// Where its log ends.
        appended: Position,
    },
    /// Provider: an [`Action::Read`] was carried out and queued on the link as one records frame.
    ReadDone {
        /// As in the action.
        conn: ConnId,
        /// As in the action.
        ns: Namespace,
        /// As in the action.
        stream: u32,
        /// First height sent.
        first: Height,
        /// Last record sent.
        last: Position,
        /// Bytes sent.
        bytes: u64,
    },
    /// Provider: the answers to [`Action::LookUp`].
    Found {
        /// As in the action.
        conn: ConnId,
        /// The hash at each height wanted, if there is a record.
        found: Vec<(Namespace, Option<Digest>)>,
    },
    /// What a strategy decided on [`Action::Strategy`]. A fault was already handled by the host's actor (restart, quarantine); the machine
    /// counts it and sends `opened` next.
    Strategy {
        /// Namespace.
        ns: Namespace,
        /// Its actions or its fault.
        result: Result<Vec<chain_sync::Action>, Fault>,
    },
    /// A link was refused before the machine could see it: by its TLS, or for what it sent first.
    Turned {
        /// `IP:PORT` it came from.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// What a config-sync strategy decided on [`Action::ConfigStrategy`].
    ConfigStrategy {
        /// Namespace.
        ns: Namespace,
        /// Its actions or its fault.
        result: Result<Vec<config_sync::Action>, Fault>,
    },
    /// What an index-check strategy decided on [`Action::IndexStrategy`].
    IndexStrategy {
        /// Namespace.
        ns: Namespace,
        /// Its actions or its fault.
        result: Result<Vec<index_check::Action>, Fault>,
    },
    /// What an mq-sync strategy decided on [`Action::QueueStrategy`].
    QueueStrategy {
        /// Namespace.
        ns: Namespace,
        /// Its actions or its fault.
        result: Result<Vec<mq_sync::Action>, Fault>,
    },
    /// The host looked at a namespace's index backend and at its switch in the configuration: when it begins, and whenever what it finds
    /// changes.
    IndexSeen {
        /// Namespace.
        ns: Namespace,
        /// What it found.
        state: IndexState,
    },
    /// A strategy was loaded, replaced, quarantined or reset.
    StrategyState {
        /// Namespace.
        ns: Namespace,
        /// What this end offers: what it runs when the other end agrees and no fault is in the way.
        id: StrategyId,
        /// How it is.
        run: StrategyRun,
        /// Faults so far.
        faults: u64,
        /// The id that the configuration names; another one is offered where it could not be loaded.
        configured: String,
        /// Why the configured one does not run; empty when it does.
        problem: String,
    },
    /// An [`Action::Persist`] is durable.
    Persisted(Token),
    /// A control file could not be written. Sticky: the session ends and none begins.
    PersistFailed(Token, Refusal),
    /// Something happened to the tree of configuration and certificates.
    Tree(TreeEvent),
    /// Something happened to a strong change.
    Change(ChangeEvent),
    /// Something happened to message queues.
    Queues(QueueEvent),
    /// Something happened to a namespace's ledger as a whole.
    Archive {
        /// Namespace.
        ns: Namespace,
        /// What.
        event: ArchiveEvent,
    },
    /// Namespaces that are configured here and do not run, each with its reason: the whole list.
    Held(Vec<(Namespace, Refusal)>),
    /// A link that was handed over has ended, and so has the machine that served it.
    FollowerGone(ConnId),
    /// Follower: a client's transaction, checked here, is to be passed on to the node that makes the blocks.
    PassOn {
        /// Comes back with the answer.
        ticket: Token,
        /// Namespace.
        ns: Namespace,
        /// The transaction as the client sent it, JSON.
        transaction: Bytes,
    },
    /// Serving a follower: what became of an [`Action::Submit`].
    Submitted {
        /// As in the action.
        number: u64,
        /// The transaction's hash, or the platform's code and text.
        answer: Passed,
    },
    /// `cvp.enable` changed.
    SetEnabled(bool),
    /// Numbers of the configuration changed.
    SetLimits(Limits),
    /// Nothing happened but time: every 50 ms or so.
    Tick,
}

/// What the host must do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Connect; answer with `Dialed` or `DialFailed`.
    Dial {
        /// For what.
        purpose: DialPurpose,
    },
    /// Send a frame; links keep the order.
    Send {
        /// On which link.
        conn: ConnId,
        /// The frame.
        frame: Frame,
    },
    /// Close a link after what is queued (a goodbye among it) was sent, or 1 s later.
    Close {
        /// Which.
        conn: ConnId,
        /// Why, for the log; none when it ends in the ordinary way.
        refusal: Option<Refusal>,
    },
    /// Read durable records and queue them as ONE records frame of this stream on the link; answer with `ReadDone` (or `StoreFailed`).
    Read {
        /// The link.
        conn: ConnId,
        /// Namespace.
        ns: Namespace,
        /// Number of the stream: goes into the frame's header.
        stream: u32,
        /// First height.
        first: Height,
        /// Last height; never above the durable tip.
        last: Height,
        /// About how many bytes; one record at least.
        bytes_max: usize,
    },
    /// Look up the own hashes at these heights; answer with `Found`.
    LookUp {
        /// The link that wants to know.
        conn: ConnId,
        /// What.
        wanted: Vec<(Namespace, Height)>,
    },
    /// Check and append a run: [`super::ingest`]; answer with `Ingested`, `Rejected` or `StoreFailed`, in order.
    Ingest {
        /// Namespace.
        ns: Namespace,
        /// The run must follow this.
        parent: Position,
        /// The records, as they came.
        bytes: Bytes,
        /// The newest blocks, and nothing waits behind them: whoever appends them may make them durable in one go. While more comes, that
        /// is done beside the next run.
        tail: bool,
    },
    /// Make durable what is appended; answer with `Synced` or `StoreFailed`. At most one a namespace is under way.
    Sync {
        /// Namespace.
        ns: Namespace,
    },
    /// Look whether a store that failed for want of room takes work again; answer with `StoreRecovered` when it does, else not at all.
    Probe {
        /// Namespace.
        ns: Namespace,
        /// It lacked room for so many, beside what the log may need next.
        bytes: u64,
    },
    /// Call the strategy; answer with `Strategy`. At most one a namespace is under way.
    Strategy {
        /// Namespace.
        ns: Namespace,
        /// What to tell it.
        events: Vec<chain_sync::Event>,
    },
    /// Call the config-sync strategy; answer with `ConfigStrategy`. At most one a namespace is under way.
    ConfigStrategy {
        /// Namespace.
        ns: Namespace,
        /// What to tell it.
        events: Vec<config_sync::Event>,
    },
    /// Call the index-check strategy; answer with `IndexStrategy`. At most one a namespace is under way.
    IndexStrategy {
        /// Namespace.
        ns: Namespace,
        /// What to tell it.
        events: Vec<index_check::Event>,
    },
    /// Call the mq-sync strategy; answer with `QueueStrategy`. At most one a namespace is under way.
    QueueStrategy {
        /// Namespace.
        ns: Namespace,
        /// What to tell it.
        events: Vec<mq_sync::Event>,
    },
    /// The last answer was refused: the instance that gave it faulted, with all that a trap brings (the default at once, restarts,
    /// quarantine). Comes before the next [`Action::Strategy`], which begins with `opened`.
    StrategyFault {
        /// Namespace.
        ns: Namespace,
        /// `chain-sync`, `config-sync`, `index-check` or `mq-sync`.
        kind: &'static str,
        /// What was refused.
        fault: Fault,
    },
    /// Run the embedded default instead of the configured strategy (the two ends differ), or the configured one again.
    UseDefault {
        /// Namespace.
        ns: Namespace,
        /// `chain-sync`, `config-sync`, `index-check` or `mq-sync`.
        kind: String,
        /// True: the default.
        embedded: bool,
    },
    /// Both ends ran one strategy, and the other end runs this one now. If it went back to the one before, so should this end.
    StrategyLeft {
        /// Namespace.
        ns: Namespace,
        /// What the other end has.
        theirs: StrategyId,
    },
    /// Write a control file; answer with `Persisted`. What a strategy stored may give way, unanswered, to what it stores later.
    Persist {
        /// Its number.
        token: Token,
        /// What.
        what: ControlFile,
    },
    /// Work on the tree of configuration and certificates; done in order, together with [`Action::Change`].
    Tree(TreeWork),
    /// Work on strong changes.
    Change(ChangeWork),
    /// Work on the files of message queues.
    Queues(QueueWork),
    /// Work on a namespace's ledger as a whole: in order, but for `Sync`, which may run beside what comes after it.
    Archive {
        /// Namespace.
        ns: Namespace,
        /// What.
        work: ArchiveWork,
    },
    /// Provider: blocks may be made from now on. Comes once; before it the node must make none.
    AllowMaking,
    /// Provider: make no more blocks, close the JSON-RPC port, at once. The file follows as a `Persist`.
    Fence {
        /// Why.
        fenced: Fenced,
    },
    /// Promoted provider: the predecessor at this address has answered.
    NoticeTaken {
        /// `IP:PORT`.
        address: String,
        /// Its claim.
        claim: Claim,
    },
    /// A follower's hello was accepted: this link leaves the machine. The host opens a machine of `setup` for it, which is told of the link
    /// and then of the hello, and says [`Event::FollowerGone`] when it has ended.
    HandOver {
        /// The link.
        conn: ConnId,
        /// The other end.
        peer: PeerTls,
        /// Its hello, to be answered.
        hello: Frame,
        /// What the machine is made of.
        setup: Box<Setup>,
    },
    /// The link of a follower is to be closed by the machine that serves it: [`Pair::dismiss`](super::Pair::dismiss).
    Dismiss {
        /// The link.
        conn: ConnId,
        /// What the follower hears.
        refusal: Refusal,
    },
    /// Serving a follower: hand this transaction to the namespace's pool as if a client had sent it here; answer with `Submitted`.
    Submit {
        /// Its number.
        number: u64,
        /// Namespace.
        ns: Namespace,
        /// JSON, unchecked.
        transaction: Bytes,
    },
    /// Follower: what became of an [`Event::PassOn`].
    PassedOn {
        /// As in the event.
        ticket: Token,
        /// What the node that makes the blocks says.
        answer: Passed,
    },
    /// Receiver: a session streams; the provider's `[self]` and lineage.
    Attached {
        /// The provider's `[self]`.
        self_section: Vec<(String, String)>,
        /// Its incarnations.
        reigns: Vec<Reign>,
    },
    /// Receiver: the copy of the configuration is the provider's, and the two ends run different namespaces. The host starts and stops its own
    /// where it can, and tells with `Held` what cannot be started. Comes again, now and then, as long as they differ.
    Align {
        /// Run on the provider alone.
        missing: Vec<Namespace>,
        /// Run here alone; perhaps because the provider cannot start them, which its configuration says.
        extra: Vec<Namespace>,
    },
    /// Provider: the receiver holds everything up to this height durably. Nothing is to be done; whoever measures takes the time.
    Acknowledged {
        /// Namespace.
        ns: Namespace,
        /// Durable on the receiver.
        durable: Height,
    },
    /// A log line, worth an operator's attention or not.
    Log {
        /// How loud.
        level: crate::types::strategy::Level,
        /// Namespace, if it is one's.
        ns: Option<Namespace>,
        /// What.
        text: String,
    },
    /// A strategy's gauge.
    Metric {
        /// Namespace.
        ns: Namespace,
        /// Name.
        name: String,
        /// Value.
        value: i64,
    },
}

/// What to do, in the order it must happen: `now` in order; what waits for a file only after its `Persisted`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Ready {
    /// Do these now, in order.
    pub now: Vec<Action>,
    /// The number of the namespace that the event concerned, where nothing else of the machine changed.
    pub alone: Option<usize>,
}
