//! The one status view: what `cvp status` shows and monitoring reads. Members may be added, never changed.
//!
//! What the pair's machine says comes in by one conversion, [`StatusView::of`]; the rest (addresses, history, chains that stopped) is added
//! by assembly, which knows it.

use std::time::{Duration, SystemTime};

use cvp_core::replication::{
    NamespaceStatus, PairStatus, PeerStatus, RefusedDial, StrategyRun, StrategyStatus, TreeStatus,
};
use cvp_core::types::{Incarnation, Millis, Refusal};
use serde::{Deserialize, Serialize};

use super::progress::{BackfillView, BootstrapView, BootstrappedView, PaceView};
use super::queues::QueuesView;

/// State of a node as its operator sees it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct StatusView {
    /// Proven, not hoped: a fresh message of the peer, hashes that match, nothing stalled.
    pub normal: bool,
    /// `provider` or `receiver`.
    pub role: String,
    /// Own hostname.
    pub hostname: String,
    /// Hex; the provider's on either end. Absent on a receiver that has met none.
    pub node_id: Option<String>,
    /// Incarnation of the provider, likewise.
    pub incarnation: Option<IncarnationView>,
    /// `cvp.enable`.
    pub enabled: bool,
    /// The peer of a live session, or the last one known.
    pub peer: Option<PeerView>,
    /// Why the node is not normal.
    pub reasons: Vec<ReasonView>,
    /// What an operator should know and what does not make the node abnormal.
    #[serde(default)]
    pub warnings: Vec<ReasonView>,
    /// The copy of the provider's configuration and certificates; absent without a session.
    #[serde(default)]
    pub configuration: Option<ConfigurationView>,
    /// Every namespace of the node.
    pub namespaces: Vec<NamespaceView>,
    /// Nodes that follow this one in namespaces whose blocks it makes.
    #[serde(default)]
    pub followers: Vec<FollowerView>,
    /// Namespaces that are configured and do not run.
    #[serde(default)]
    pub held: Vec<HeldView>,
    /// Commits of this process that waited for the link's side of the node; must stay 0.
    #[serde(default)]
    pub commits_waited_on_link: u64,
    /// Address on which JSON-RPC is served; absent when the port is closed.
    #[serde(default)]
    pub jsonrpc: Option<String>,
    /// JSON-RPC is served over HTTPS.
    #[serde(default)]
    pub jsonrpc_tls: bool,
    /// Address on which the pair's port listens.
    #[serde(default)]
    pub p2p: Option<String>,
    /// Address on which metrics are served.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Version of the binary.
    #[serde(default)]
    pub version: String,
    /// The last link that was refused here; absent when none was since the start.
    #[serde(default)]
    pub refused_dial: Option<RefusedView>,
}

/// The copy of the provider's configuration and certificates.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConfigurationView {
    /// Both nodes hold the same files, byte for byte.
    pub equal: bool,
    /// Files of the provider's tree.
    pub files: usize,
    /// Receiver: files that its copy lacks or has otherwise.
    pub to_come: usize,
    /// What is not copied.
    pub left_out: Vec<LeftOutView>,
    /// Receiver: what somebody changed in the copy.
    pub edited: Vec<String>,
}

/// A file that is not copied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeftOutView {
    /// Its path in the tree: `configuration/...` or `certificates/<namespace>/...`.
    pub path: String,
    /// `private-key`, `symlink`, `not-a-file`, `too-large`, `bad-name`, `too-many` or `unreadable`.
    pub code: String,
    /// Why, in words.
    pub reason: String,
}

impl From<&TreeStatus> for ConfigurationView {
    fn from(status: &TreeStatus) -> Self {
        let left_out = status.left_out.iter().map(|left| LeftOutView {
            path: left.path.clone(),
            code: left.code.clone(),
            reason: left.reason.clone(),
        });
        Self {
            equal: status.equal,
            files: status.files,
            to_come: status.to_come,
            left_out: left_out.collect(),
            edited: status.edited.clone(),
        }
    }
}

/// A node that follows this one.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FollowerView {
    /// Who and where.
    #[serde(flatten)]
    pub peer: PeerView,
    /// What it follows: `durable` is what it holds.
    pub namespaces: Vec<NamespaceView>,
}

/// Whom a namespace follows whose blocks another node makes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FollowsView {
    /// The VP.
    pub hostname: String,
    /// Its address: of the session, else the first that is configured.
    pub address: String,
    /// Start of the session, RFC 3339; absent without one.
    pub since: Option<String>,
    /// How far this node is: `detached`, `handshake`, `catch-up` or `live`.
    pub phase: String,
    /// The VP's durable height, as last heard.
    pub tip: u64,
    /// Blocks that this node lacks.
    pub lag_blocks: u64,
    /// Age of the oldest of them, seconds.
    pub lag_seconds: f64,
    /// What is wrong; absent when nothing is.
    pub reason: Option<ReasonView>,
}

/// A namespace that is configured and does not run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldView {
    /// Its name.
    pub name: String,
    /// Why: kebab-case code.
    pub code: String,
    /// The same in words, and what to do.
    pub message: String,
}

/// A link that this node refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedView {
    /// Who dialled: the name it gave, else the names in its certificate; empty where it said nothing.
    pub who: String,
    /// Its address.
    pub address: String,
    /// When, RFC 3339.
    pub at: String,
    /// Why: kebab-case code.
    pub code: String,
    /// The same in words, and what to do.
    pub message: String,
}

/// `{number, id}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IncarnationView {
    /// Grows with each promotion.
    pub number: u64,
    /// Hex.
    pub id: String,
}

/// The other end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeerView {
    /// Its hostname.
    pub hostname: String,
    /// Its address as seen from here.
    pub address: String,
    /// Start of the session, RFC 3339; absent without one.
    pub since: Option<String>,
    /// The link is TLS.
    pub tls: bool,
}

/// A reason or a warning.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReasonView {
    /// Kebab-case code.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// One namespace.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct NamespaceView {
    /// Its name.
    pub name: String,
    /// `vp`, `nvp` or `cvp`.
    pub role: String,
    /// How far the copy is: `detached`, `handshake`, `bootstrap`, `catch-up` or `live`.
    pub phase: String,
    /// The provider's durable height.
    pub tip: u64,
    /// The receiver's durable height.
    pub durable: u64,
    /// Provider: the receiver acknowledged it before this process began, and may hold more; absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub durable_before_start: bool,
    /// Blocks the receiver lacks.
    pub lag_blocks: u64,
    /// Bytes of records the receiver lacks: counted by the provider, of the newest ones estimated.
    pub lag_bytes: u64,
    /// Age of the oldest block that the receiver lacks, seconds; of blocks from before this process, since it began.
    pub lag_seconds: f64,
    /// Provider: from sending a run of blocks to its durable acknowledgement, microseconds, smoothed; null before the session's first.
    #[serde(default)]
    pub ack_micros: Option<u64>,
    /// Lowest height of the history kept here.
    #[serde(default)]
    pub history_from: u64,
    /// A snapshot that the copy begins from; absent when none is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapView>,
    /// The filling in of the receiver's older history; absent when there is none to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<BackfillView>,
    /// Receiver: the snapshot that it stood on last in this process; absent when on none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrapped: Option<BootstrappedView>,
    /// How fast it catches up: between two looks of `status --watch`, which adds it; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<PaceView>,
    /// Message queues; absent where the service is off.
    #[serde(default)]
    pub mq: Option<QueuesView>,
    /// Strategies at work.
    pub strategies: Vec<StrategyView>,
    /// Local values that override the provider's.
    pub overrides: Vec<String>,
    /// Where this node is an nvp: the VP it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<FollowsView>,
    /// What an operator should know.
    pub warnings: Vec<ReasonView>,
}

/// One strategy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StrategyView {
    /// `chain-sync`, ...
    pub kind: String,
    /// `default` for the embedded one.
    pub id: String,
    /// Version of the component.
    pub version: String,
    /// `running`, `restarting`, `quarantined`, or `default` when both ends were sent back to the embedded one.
    pub state: String,
    /// Calls that failed or were refused, since the start of the node or the last reset.
    pub faults: u64,
    /// Of these, the refused ones, and single actions that this release does not know.
    #[serde(default)]
    pub refused: u64,
}

impl StatusView {
    /// What the pair's machine says; `now` is its clock.
    pub fn of(status: &PairStatus, now: Millis) -> Self {
        Self {
            normal: status.normal,
            role: status.role.as_str().to_owned(),
            hostname: status.hostname.to_string(),
            node_id: Some(status.node_id.to_string()),
            incarnation: status.incarnation.map(IncarnationView::from),
            enabled: status.enabled,
            peer: status.peer.as_ref().map(|peer| PeerView::of(peer, now)),
            refused_dial: status.refused.as_ref().map(|refused| RefusedView::of(refused, now)),
            reasons: status.reasons.iter().map(ReasonView::from).collect(),
            configuration: status.tree.as_ref().map(ConfigurationView::from),
            warnings: status
                .warnings
                .iter()
                .map(|text| ReasonView::of_warning(text))
                .collect(),
            namespaces: status.namespaces.iter().map(NamespaceView::from).collect(),
            ..Self::default()
        }
    }
}

impl From<Incarnation> for IncarnationView {
    fn from(incarnation: Incarnation) -> Self {
        Self {
            number: incarnation.number,
            id: hex::encode(incarnation.id),
        }
    }
}

impl RefusedView {
    fn of(refused: &RefusedDial, now: Millis) -> Self {
        let names = || refused.names.join(", ");
        let ReasonView { code, message } = ReasonView::from(&refused.refusal);
        Self {
            who: refused.hostname.as_ref().map_or_else(names, ToString::to_string),
            address: refused.address.clone(),
            at: wall_clock(now.saturating_sub(refused.at)),
            code,
            message,
        }
    }
}

impl PeerView {
    /// The other end of a session; `now` is its machine's clock.
    pub fn of(peer: &PeerStatus, now: Millis) -> Self {
        Self {
            hostname: peer.hostname.to_string(),
            address: peer.address.clone(),
            since: Some(wall_clock(now.saturating_sub(peer.since))),
            tls: peer.tls,
        }
    }
}

/// The second that was `ago` milliseconds ago, RFC 3339.
fn wall_clock(ago: Millis) -> String {
    let then = SystemTime::now()
        .checked_sub(Duration::from_millis(ago))
        .unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(then).to_string()
}

impl ReasonView {
    /// A reason.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// The machine's warnings are texts that begin with their code when they have one: `code: text`.
    fn of_warning(text: &str) -> Self {
        match text.split_once(": ") {
            Some((code, rest)) if !code.contains(' ') => Self::new(code, rest),
            _ => Self::new("warning", text),
        }
    }
}

impl From<&Refusal> for ReasonView {
    fn from(refusal: &Refusal) -> Self {
        if refusal.hint.is_empty() {
            return Self::new(&refusal.code, refusal.text.clone());
        }
        Self::new(&refusal.code, format!("{}; {}", refusal.text, refusal.hint))
    }
}

impl From<&NamespaceStatus> for NamespaceView {
    fn from(status: &NamespaceStatus) -> Self {
        Self {
            name: status.name.to_string(),
            role: status.role.as_str().to_owned(),
            phase: status.phase.as_str().to_owned(),
            tip: status.tip,
            durable: status.durable,
            durable_before_start: status.durable_before,
            lag_blocks: status.lag_blocks,
            lag_bytes: status.lag_bytes,
            lag_seconds: status.lag_ms as f64 / 1_000.0,
            ack_micros: status.ack_micros,
            history_from: status.history_from,
            bootstrap: status.bootstrap.as_ref().map(BootstrapView::from),
            backfill: status.backfill.as_ref().map(BackfillView::from),
            bootstrapped: status.bootstrapped.as_ref().map(BootstrappedView::from),
            pace: None,
            mq: None,
            strategies: status.strategies.iter().map(StrategyView::from).collect(),
            overrides: status.overrides.clone(),
            follows: None,
            warnings: status
                .warnings
                .iter()
                .map(|text| ReasonView::of_warning(text))
                .collect(),
        }
    }
}

impl From<&StrategyStatus> for StrategyView {
    fn from(status: &StrategyStatus) -> Self {
        let state = match status.run {
            StrategyRun::Running if status.defaulted => "default",
            StrategyRun::Running => "running",
            StrategyRun::Restarting => "restarting",
            StrategyRun::Quarantined => "quarantined",
        };
        Self {
            kind: status.id.kind.clone(),
            id: status.id.id.clone(),
            version: status.id.version.clone(),
            state: state.to_owned(),
            faults: status.faults,
            refused: status.refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_members_have_their_names() {
        let documented = r#"{"normal":true,"role":"provider","hostname":"node1","node_id":"00","incarnation":{"number":1,"id":"00"},"enabled":true,
            "peer":{"hostname":"cvp","address":"127.0.0.1:50015","since":"2026-11-23T10:00:00Z","tls":true},
            "reasons":[{"code":"receiver-unreachable","message":"m"}],
            "namespaces":[{"name":"global","role":"vp","phase":"catch-up","tip":120,"durable":120,"lag_blocks":0,"lag_bytes":0,"lag_seconds":0.0,
            "strategies":[{"kind":"chain-sync","id":"default","version":"1.0.0","state":"running","faults":0}],"overrides":[],"warnings":[]}]}"#;
        let view: StatusView = serde_json::from_str(documented).unwrap();
        assert_eq!(view.namespaces[0].phase, "catch-up");
        let written = serde_json::to_value(&view).unwrap();
        let wanted: serde_json::Value = serde_json::from_str(documented).unwrap();
        for (name, value) in wanted.as_object().unwrap() {
            if name != "namespaces" {
                assert_eq!(&written[name], value, "{name}");
            }
        }
        for (name, value) in wanted["namespaces"][0].as_object().unwrap() {
            if name != "strategies" {
                assert_eq!(&written["namespaces"][0][name], value, "{name}");
            }
        }
        let strategy = |from: &serde_json::Value| from["namespaces"][0]["strategies"][0].clone();
        for (name, value) in strategy(&wanted).as_object().unwrap() {
            assert_eq!(&strategy(&written)[name], value, "{name}");
        }
        // Added since.
        assert_eq!(written["commits_waited_on_link"], 0);
        assert!(written["namespaces"][0]["ack_micros"].is_null());
    }
}
