//! What a machine is made of.

use crate::session::{Binding, Fenced, Identity, LastHeld, LastReceiver, NodeKey, SessionKind, StrategyId};
use crate::types::strategy::Role;
use crate::types::{Digest, Height, Hostname, Namespace, NodeRole, Position};

use super::changes::ChangesSetup;
use super::limits::Limits;
use super::staged::StagedPart;
use super::tree::{Inventory, KeptKey};

/// A strategy of one namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StrategySetup {
    /// What is configured and loaded, as the handshake compares it.
    pub id: StrategyId,
    /// What it stored last.
    pub stored: Vec<u8>,
}

/// One namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceSetup {
    /// Its name.
    pub namespace: Namespace,
    /// This node's role in it.
    pub role: NodeRole,
    /// Hash of record 0.
    pub genesis: Digest,
    /// Durable tip at the start.
    pub durable: Position,
    /// Height visible to queries at the start.
    pub applied: Height,
    /// Oldest height kept.
    pub history_from: Height,
    /// `ledger.keep_blocks`; 0: all history is kept.
    pub keep_blocks: u64,
    /// `sync.backfill`: history older than a snapshot is filled in.
    pub backfill: bool,
    /// Receiver: a snapshot that is partly here.
    pub staged: Option<StagedPart>,
    /// Its chain-sync strategy.
    pub chain_sync: StrategySetup,
    /// Its config-sync strategy.
    pub config_sync: StrategySetup,
    /// Its index-check strategy.
    pub index_check: StrategySetup,
    /// Its mq-sync strategy.
    pub mq_sync: StrategySetup,
    /// `database.indexdb.layer1.enable` as it runs.
    pub index_enabled: bool,
    /// Keys that its config-sync strategy kept for this node, as last written.
    pub kept_local: Vec<KeptKey>,
}

/// What a machine is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// Which end this node is.
    pub role: Role,
    /// Of the pair, or of a follower and its VP: then chain data and transactions alone, and one session a machine on the provider's end.
    pub kind: SessionKind,
    /// Hostname.
    pub hostname: Hostname,
    /// `system/cvp/identity`.
    pub identity: Identity,
    /// `system/cvp/binding`; none for a fresh receiver, and for providers.
    pub binding: Option<Binding>,
    /// `system/cvp/fenced`, if it exists: nothing but answers and a status then.
    pub fenced: Option<Fenced>,
    /// `system/cvp/last-receiver`, if this provider ever had one.
    pub last_receiver: Option<LastReceiver>,
    /// `system/cvp/last-held`: what that one was last noted to hold.
    pub last_held: Option<LastHeld>,
    /// Program version.
    pub program: String,
    /// `cvp.enable`.
    pub enabled: bool,
    /// `enableTLS`.
    pub tls: bool,
    /// This node's own key: what proves to a provider that its place was taken.
    pub node_key: NodeKey,
    /// Where this node listens for its peer: `IP:PORT` or `:PORT`.
    pub listen: String,
    /// `[self]` as (key, value as TOML text).
    pub self_section: Vec<(String, String)>,
    /// The namespaces that run.
    pub namespaces: Vec<NamespaceSetup>,
    /// Provider: further addresses (`cvp.remote`) to ask before the first block, beside the last receiver's. Asked only if there was a receiver.
    pub ask: Vec<String>,
    /// Promoted provider: addresses of the predecessor, told until each has answered.
    pub notify: Vec<String>,
    /// Receiver: the copy of the provider's tree as it was last written.
    pub copy: Inventory,
    /// What the disk knows of strong changes.
    pub changes: ChangesSetup,
    /// Numbers.
    pub limits: Limits,
    /// Random: jitter, nonces, numbers of strong changes. Drawn anew at each start. Two machines with one seed behave alike.
    pub seed: u64,
}
