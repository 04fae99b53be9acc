//! The one status view: what `cvp status` shows and monitoring reads. Members may be added, never changed.

use serde::{Deserialize, Serialize};

/// State of a node as its operator sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
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
    /// Every namespace of the node.
    pub namespaces: Vec<NamespaceView>,
    /// Address on which JSON-RPC is served; absent when the port is closed.
    #[serde(default)]
    pub jsonrpc: Option<String>,
    /// Address on which the pair's port listens.
    #[serde(default)]
    pub p2p: Option<String>,
    /// Address on which metrics are served.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Version of the binary.
    #[serde(default)]
    pub version: String,
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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

impl ReasonView {
    /// A reason.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

/// How far a namespace's copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No session.
    Detached,
    /// A session is being agreed.
    Handshake,
    /// A snapshot is being copied.
    Bootstrap,
    /// The copy is behind.
    CatchUp,
    /// The copy follows block by block.
    Live,
}

impl Phase {
    /// As the view spells it.
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

/// One namespace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NamespaceView {
    /// Its name.
    pub name: String,
    /// `vp`, `nvp` or `cvp`.
    pub role: String,
    /// How far the copy is.
    pub phase: Phase,
    /// The provider's durable height.
    pub tip: u64,
    /// The receiver's durable height.
    pub durable: u64,
    /// Blocks the receiver lacks.
    pub lag_blocks: u64,
    /// Bytes of records the receiver lacks (estimated from the last ones).
    pub lag_bytes: u64,
    /// Age of the oldest block that the receiver lacks, seconds.
    pub lag_seconds: f64,
    /// Lowest height of the history kept here.
    #[serde(default)]
    pub history_from: u64,
    /// Strategies at work.
    pub strategies: Vec<StrategyView>,
    /// Local values that override the provider's.
    pub overrides: Vec<String>,
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
    /// `running`, `restarting`, `quarantined`.
    pub state: String,
    /// Faults since the start of the node.
    pub faults: u64,
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
        assert_eq!(view.namespaces[0].phase, Phase::CatchUp);
        let written = serde_json::to_value(&view).unwrap();
        let wanted: serde_json::Value = serde_json::from_str(documented).unwrap();
        for (name, value) in wanted.as_object().unwrap() {
            if name != "namespaces" {
                assert_eq!(&written[name], value, "{name}");
            }
        }
        for (name, value) in wanted["namespaces"][0].as_object().unwrap() {
            assert_eq!(&written["namespaces"][0][name], value, "{name}");
        }
    }
}
