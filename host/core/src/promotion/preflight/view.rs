//! What the preflight judges: what probes, files and chains said, as plain values.

use super::index::IndexView;
use crate::mq::Missing;
use crate::promotion::target::TargetProbe;
use crate::session::CopyBehind;
use crate::types::{Hostname, Namespace, NodeRole, Position};

/// A strategy that runs, as the handshake compares it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StrategyView {
    /// `chain-sync`, ...
    pub kind: String,
    /// Its id; `default` is the embedded one.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Digest of its component, hex; empty when not known.
    pub sha256: String,
}

/// Node key and certificate of a namespace, under `namespaces/<ns>/certs/certs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyState {
    /// They belong together.
    Match,
    /// A file is missing; its path.
    Missing(String),
    /// They do not belong together, or cannot be read; in words.
    Bad(String),
}

/// One namespace of the provider, as this node has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceView {
    /// Its name.
    pub name: Namespace,
    /// What the provider is there.
    pub role: NodeRole,
    /// Last durable block here, or why its chain is not open or not sound.
    pub chain: Result<Position, String>,
    /// The provider's tip when it was last heard; `None` when not heard since this node started.
    pub provider_tip: Option<u64>,
    /// Of a snapshot of its state that is not whole: bytes that are here, and all of them.
    pub staged: Option<(u64, u64)>,
    /// First height that is here.
    pub history_from: u64,
    /// Down to which height the history was being filled in when the provider was last heard; `None` when it was not, or that is not known.
    pub fills_to: Option<u64>,
    /// Seconds for which no transaction is taken after an upgrade now: what was put into blocks before the history here might come again.
    pub waits_seconds: u64,
    /// Blocks below it that message queues were not told yet, or did not confirm.
    pub untold: Vec<Missing>,
    /// Why its message queues cannot be read here, if so.
    pub queues_unreadable: Option<String>,
    /// Key and certificate.
    pub keys: KeyState,
    /// Strategies that the provider runs, as its last hello said.
    pub provider_strategies: Vec<StrategyView>,
    /// Strategies that this node has.
    pub own_strategies: Vec<StrategyView>,
}

/// The copy of the provider's configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopyState {
    /// It is whole; in words a change (of a file, of message queues) that the provider had not answered yet, if one is staged: the upgrade
    /// applies it.
    Whole(Option<String>),
    /// It is not usable; in words.
    Missing(String),
}

/// Whether the node's TLS certificate can stand for the provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsNameView {
    /// `p2p.enableTLS = false`.
    Off,
    /// The names in the certificate's subject alternative names.
    Names(Vec<String>),
    /// The certificate cannot be read; in words.
    Unreadable(String),
}

/// A port that the promoted node needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortView {
    /// `port.jsonrpc`, `port.grpc`, `metrics.port`.
    pub key: String,
    /// Address.
    pub address: String,
    /// Whose it is.
    pub state: PortState,
}

/// Whose a port is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortState {
    /// This node listens on it already.
    Ours,
    /// Nobody listens on it.
    Free,
    /// It cannot be bound; the system's words.
    Taken(String),
}

/// Everything the preflight judges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreflightView {
    /// The provider's hostname, from the binding; `None` when this node was never bound to one.
    pub provider: Option<Hostname>,
    /// A control file about the provider that cannot be read; in words.
    pub unreadable: Option<String>,
    /// `--target-is-down`.
    pub target_is_down: bool,
    /// `--allow-missing-keys`.
    pub allow_missing_keys: bool,
    /// `--begin-anew`.
    pub begin_anew: bool,
    /// `cvp.heartbeat`, milliseconds.
    pub heartbeat_ms: u64,
    /// Age of the provider's last message, milliseconds; `None` when not heard since this node started.
    pub last_heard_ms_ago: Option<u64>,
    /// Answers of the probes.
    pub probes: Vec<TargetProbe>,
    /// The copy of the provider's configuration.
    pub copy: CopyState,
    /// What the copy has otherwise than the provider had when it was last heard; in words, none where that is nothing.
    pub lacking: Option<String>,
    /// The provider's namespaces.
    pub namespaces: Vec<NamespaceView>,
    /// Namespaces that the provider stopped, and of which less is here than it had then.
    pub behind: Vec<CopyBehind>,
    /// Own TLS certificate.
    pub tls_name: TlsNameView,
    /// `p2p.tlsServerHostOverride`, when set: the name that peers check instead.
    pub tls_override: Option<String>,
    /// Whether the node's own files can be read and, with the promotion's edits, make a valid configuration.
    pub config: Result<(), String>,
    /// What the next start with them would fail on here; in words.
    pub unfit: Vec<String>,
    /// Strategies that they name and that are not installed here; in words.
    pub uninstalled: Vec<String>,
    /// Ports.
    pub ports: Vec<PortView>,
    /// The data index of each namespace; in words why the settings cannot be read.
    pub indexes: Result<Vec<IndexView>, String>,
}
