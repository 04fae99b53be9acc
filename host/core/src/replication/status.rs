//! The status of a pair, as commands.md shows it, seen from one end.

use crate::session::{CopyBehind, StrategyId};
use crate::types::strategy::Role;
use crate::types::{Height, Hostname, Incarnation, Micros, Millis, Namespace, NodeId, NodeRole, Refusal};

use super::api::{ConnId, StrategyRun};
use super::link::Link;
use super::tree::LeftOut;

/// How far a namespace's copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// No link.
    Detached,
    /// A link, no agreement yet.
    Handshake,
    /// A snapshot is being installed.
    Bootstrap,
    /// Records flow; the receiver is behind.
    CatchUp,
    /// The receiver follows the tip.
    Live,
}

impl Phase {
    /// As commands.md spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Detached => "detached",
            Phase::Handshake => "handshake",
            Phase::Bootstrap => "bootstrap",
            Phase::CatchUp => "catch-up",
            Phase::Live => "live",
        }
    }
}

/// The other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Its hostname.
    pub hostname: Hostname,
    /// Its address.
    pub address: String,
    /// When the session began.
    pub since: Millis,
    /// When it was last heard.
    pub heard: Millis,
    /// Whether the link is TLS.
    pub tls: bool,
    /// End of its certificate's validity, Unix seconds; none on a plain link.
    pub not_after: Option<i64>,
}

/// A link that this end refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedDial {
    /// Who it said that it is, if it came so far.
    pub hostname: Option<Hostname>,
    /// Names in its certificate; none on a plain link, and where the link did not come about.
    pub names: Vec<String>,
    /// `IP:PORT` it came from.
    pub address: String,
    /// Why.
    pub refusal: Refusal,
    /// When.
    pub at: Millis,
}

impl RefusedDial {
    pub(super) fn of(link: &Link, refusal: Refusal, at: Millis) -> RefusedDial {
        RefusedDial {
            hostname: link.claimed.clone(),
            names: link.peer.names.clone(),
            address: link.peer.address.clone(),
            refusal,
            at,
        }
    }
}

/// A strategy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StrategyStatus {
    /// Configured kind, id, version; no version and no digest where it could not be loaded.
    pub id: StrategyId,
    /// How it is.
    pub run: StrategyRun,
    /// Whether the embedded default runs because the two ends differ.
    pub defaulted: bool,
    /// Calls that failed or were refused, since the start or the last reset.
    pub faults: u64,
    /// Calls refused for what they said, and single actions that this release does not know.
    pub refused: u64,
}

/// A snapshot that is handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BootstrapStatus {
    /// Bytes durable at the receiver.
    pub bytes: u64,
    /// Bytes of all of it; 0 until it is known.
    pub total: u64,
    /// Of them, those that were there some ten seconds ago, or when it began.
    pub before: u64,
    /// How long ago that was, milliseconds; 0 while none of it comes.
    pub elapsed_ms: Millis,
}

/// History before a snapshot that a receiver fills in, newest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackfillStatus {
    /// Where the history begins now.
    pub from: Height,
    /// Where it will: at the oldest block that the provider keeps.
    pub to: Height,
    /// Where it began when this session's first piece was asked for.
    pub begun: Height,
    /// Where it began some ten seconds ago, or when this session's first piece was asked for.
    pub before: Height,
    /// How long ago that was, milliseconds.
    pub elapsed_ms: Millis,
}

/// A snapshot that a receiver stands on since this process began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BootstrappedStatus {
    /// The record that it is of.
    pub height: Height,
    /// Bytes that came since it began, or went on.
    pub bytes: u64,
    /// From the wish for it until the last of them was durable, microseconds.
    pub copy_micros: Micros,
    /// From there until the chain stood on it: the sum of the whole state, the indexes, the change of directories; microseconds.
    pub check_micros: Micros,
}

/// One namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceStatus {
    /// Its name.
    pub name: Namespace,
    /// This node's role.
    pub role: NodeRole,
    /// How far its copy is.
    pub phase: Phase,
    /// The provider's durable tip, as last heard.
    pub tip: Height,
    /// The receiver's durable tip, as last heard.
    pub durable: Height,
    /// Provider: the standby acknowledged that before this process began; it may hold more.
    pub durable_before: bool,
    /// Blocks between them.
    pub lag_blocks: u64,
    /// Bytes of the records between them, as the provider counted; of the newest an estimate.
    pub lag_bytes: u64,
    /// Age of the oldest block that is not at the receiver, milliseconds.
    pub lag_ms: Millis,
    /// Provider: time from sending a run to its durable acknowledgement, microseconds, smoothed; none before the session's first.
    pub ack_micros: Option<Micros>,
    /// Oldest height that this node keeps.
    pub history_from: Height,
    /// A snapshot on its way.
    pub bootstrap: Option<BootstrapStatus>,
    /// The filling in of the receiver's older history, while there is some to come.
    pub backfill: Option<BackfillStatus>,
    /// Receiver: the last one that it stood on in this process.
    pub bootstrapped: Option<BootstrappedStatus>,
    /// Strategies.
    pub strategies: Vec<StrategyStatus>,
    /// Local keys that replace the provider's.
    pub overrides: Vec<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// The copy of the provider's configuration and certificates, as a session shows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TreeStatus {
    /// Both ends hold the same files, byte for byte.
    pub equal: bool,
    /// Files of the provider's tree.
    pub files: usize,
    /// Receiver: files that its copy lacks or has otherwise.
    pub to_come: usize,
    /// What is not copied, and why.
    pub left_out: Vec<LeftOut>,
    /// Receiver: what somebody changed in the copy, until the provider's files replace it.
    pub edited: Vec<String>,
}

/// The one status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairStatus {
    /// Proof, not hope (invariant 8).
    pub normal: bool,
    /// Which end this is.
    pub role: Role,
    /// Own hostname.
    pub hostname: Hostname,
    /// A provider's own node-id; a receiver's is that of its provider, its own while unbound.
    pub node_id: NodeId,
    /// The incarnation that speaks, as far as this end knows.
    pub incarnation: Option<Incarnation>,
    /// `cvp.enable`.
    pub enabled: bool,
    /// Whether this node may make blocks now (provider).
    pub making: bool,
    /// When the peer was last heard in this process, session or not.
    pub last_heard: Option<Millis>,
    /// The session's other end.
    pub peer: Option<PeerStatus>,
    /// The last link that was refused here, whoever dialled it.
    pub refused: Option<RefusedDial>,
    /// Why it is not normal, worst first: code and message.
    pub reasons: Vec<Refusal>,
    /// The copy of the configuration; none without a session.
    pub tree: Option<TreeStatus>,
    /// Each namespace.
    pub namespaces: Vec<NamespaceStatus>,
    /// Who follows this node, by the link each was handed over on.
    pub followers: Vec<(ConnId, Hostname)>,
    /// A follower's machine: what the VP does not serve, or has otherwise, each with the reason.
    pub left_out: Vec<(Namespace, Refusal)>,
    /// Namespaces that neither end runs, and of which the receiver has less than the provider; none known without a session.
    pub behind: Vec<CopyBehind>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}
