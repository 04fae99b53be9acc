//! The preflight: every check id of `cvp upgrade`, judged from one plain view of what probes, files and chains said.

use super::target::{TargetProbe, target_unreachable};
use crate::types::{Hostname, Namespace, NodeRole, Position};

/// How a check ended. One `fail` refuses the promotion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// The operator should know; it does not refuse.
    Warn,
    /// The promotion is refused.
    Fail,
}

impl Verdict {
    /// As JSON names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Stable id; scripts match it.
    pub id: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// What to do; empty after a pass.
    pub hint: String,
}

impl Check {
    pub(super) fn pass(id: &'static str, message: impl Into<String>) -> Check {
        Check {
            id,
            verdict: Verdict::Pass,
            message: message.into(),
            hint: String::new(),
        }
    }
    pub(super) fn warn(id: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Check {
        Check {
            id,
            verdict: Verdict::Warn,
            message: message.into(),
            hint: hint.into(),
        }
    }
    pub(super) fn fail(id: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Check {
        Check {
            id,
            verdict: Verdict::Fail,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

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
    /// First height that is here.
    pub history_from: u64,
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
    /// It is whole; a change that the provider had not answered yet, if one is staged: the upgrade applies it.
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
    /// `port.jsonrpc`, `port.grpc`.
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
    /// `cvp.heartbeat`, milliseconds.
    pub heartbeat_ms: u64,
    /// Age of the provider's last message, milliseconds; `None` when not heard since this node started.
    pub last_heard_ms_ago: Option<u64>,
    /// Answers of the probes.
    pub probes: Vec<TargetProbe>,
    /// The copy of the provider's configuration.
    pub copy: CopyState,
    /// The provider's namespaces.
    pub namespaces: Vec<NamespaceView>,
    /// Own TLS certificate.
    pub tls_name: TlsNameView,
    /// `p2p.tlsServerHostOverride`, when set: the name that peers check instead.
    pub tls_override: Option<String>,
    /// Whether the node's own files can be read and, with the promotion's edits, make a valid configuration.
    pub config: Result<(), String>,
    /// Ports.
    pub ports: Vec<PortView>,
    /// Whether an index database is configured in any namespace; in words why that cannot be read.
    pub index_configured: Result<bool, String>,
}

/// Judges the view: one check for each id of the operator's page, in its order.
pub fn preflight(view: &PreflightView) -> Vec<Check> {
    vec![
        target_unreachable(view),
        last_heard(view),
        backup_complete(view),
        chain_verified(view),
        history_complete(view),
        keys_match(view),
        tls_name(view),
        config_valid(view),
        ports_free(view),
        index_health(view),
        plugins_present(view),
    ]
}

/// Whether a promotion may follow.
pub fn allowed(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.verdict != Verdict::Fail)
}

fn last_heard(view: &PreflightView) -> Check {
    let id = "last-heard";
    let Some(ago) = view.last_heard_ms_ago else {
        return Check::warn(
            id,
            "the provider was not heard since this node started: how far it had come is not known",
            "blocks that it made while this node was away are not here",
        );
    };
    let behind: Vec<String> = view
        .namespaces
        .iter()
        .filter_map(|ns| {
            let durable = ns.chain.as_ref().map_or(0, |tip| tip.height);
            let tip = ns.provider_tip.filter(|tip| *tip > durable)?;
            Some(format!("{}: {} of {tip} blocks", ns.name, durable))
        })
        .collect();
    if behind.is_empty() {
        return Check::pass(
            id,
            format!("heard {ago} ms ago; every block that it told of is durable here"),
        );
    }
    Check::warn(
        id,
        format!(
            "heard {ago} ms ago; not every block is durable here ({})",
            behind.join(", ")
        ),
        "the missing blocks are lost unless the provider's disk is brought back",
    )
}

fn backup_complete(view: &PreflightView) -> Check {
    let id = "backup-complete";
    if let Some(what) = &view.unreadable {
        return Check::fail(id, what.clone(), "restore the file from a backup; nothing was changed");
    }
    let Some(provider) = &view.provider else {
        return Check::fail(
            id,
            "this node has never completed a handshake with a provider",
            "let it attach once; only then has it something to take over",
        );
    };
    if view.namespaces.is_empty() {
        return Check::fail(
            id,
            format!("no namespace of {provider} is here"),
            "let it attach once more",
        );
    }
    let missing: Vec<String> = view
        .namespaces
        .iter()
        .filter_map(|ns| ns.chain.as_ref().err().map(|why| format!("{}: {why}", ns.name)))
        .collect();
    if let CopyState::Missing(why) = &view.copy {
        return Check::fail(
            id,
            format!("the configuration of {provider} is not here: {why}"),
            "let it attach once more, until its status is normal",
        );
    }
    if missing.is_empty() {
        let count = view.namespaces.len();
        let here = format!("bound to {provider}; its configuration and {count} namespace(s) are here");
        match &view.copy {
            CopyState::Whole(Some(staged)) => Check::warn(
                id,
                format!("{here}; a change was staged and never settled: {staged}"),
                "the upgrade applies it: whoever asked for it may have been told that it is made",
            ),
            _ => Check::pass(id, here),
        }
    } else {
        Check::fail(
            id,
            format!("a namespace of {provider} is not usable here ({})", missing.join("; ")),
            "see `cvp status`; restart the node when the cause is gone",
        )
    }
}

fn chain_verified(view: &PreflightView) -> Check {
    let id = "chain-verified";
    let tips: Vec<String> = view
        .namespaces
        .iter()
        .filter_map(|ns| {
            ns.chain
                .as_ref()
                .ok()
                .map(|tip| format!("{} at {} ({})", ns.name, tip.height, tip.hash.short()))
        })
        .collect();
    if tips.is_empty() || tips.len() < view.namespaces.len() {
        return Check::fail(id, "a chain is not open", "see backup-complete");
    }
    Check::pass(
        id,
        format!("every record was verified before it was stored: {}", tips.join(", ")),
    )
}

fn history_complete(view: &PreflightView) -> Check {
    let id = "history-complete";
    let cut: Vec<String> = view
        .namespaces
        .iter()
        .filter(|ns| ns.history_from > 0)
        .map(|ns| format!("{} begins at {}", ns.name, ns.history_from))
        .collect();
    if cut.is_empty() {
        return Check::pass(id, "the whole history is here");
    }
    Check::warn(id, cut.join(", "), "queries below answer `not found` after the upgrade")
}

fn keys_match(view: &PreflightView) -> Check {
    let id = "keys-match";
    let describe = |wanted: fn(&KeyState) -> Option<&String>| {
        let found: Vec<String> = view
            .namespaces
            .iter()
            .filter_map(|ns| wanted(&ns.keys).map(|text| format!("{}: {text}", ns.name)))
            .collect();
        (!found.is_empty()).then(|| found.join("; "))
    };
    if let Some(text) = describe(|keys| match keys {
        KeyState::Bad(text) => Some(text),
        _ => None,
    }) {
        return Check::fail(
            id,
            text,
            "copy the provider's key.priv and certificate of each namespace here",
        );
    }
    if let Some(text) = describe(|keys| match keys {
        KeyState::Missing(path) => Some(path),
        _ => None,
    }) {
        let text = format!("missing: {text}");
        return if view.allow_missing_keys {
            Check::warn(
                id,
                text,
                "--allow-missing-keys was given: this node cannot sign as the provider",
            )
        } else {
            Check::fail(
                id,
                text,
                "copy the provider's key.priv and certificate here, or repeat with --allow-missing-keys",
            )
        };
    }
    Check::pass(id, "key and certificate of each namespace belong together")
}

fn tls_name(view: &PreflightView) -> Check {
    let id = "tls-name";
    let Some(provider) = &view.provider else {
        return Check::warn(id, "the provider's name is not known", "");
    };
    match &view.tls_name {
        TlsNameView::Off => Check::pass(id, "p2p.enableTLS is false: no name is checked"),
        TlsNameView::Unreadable(why) => Check::fail(
            id,
            format!("the TLS certificate cannot be read: {why}"),
            "see tls/tls_peer.cert",
        ),
        TlsNameView::Names(names) if names.iter().any(|n| n.eq_ignore_ascii_case(provider.as_str())) => {
            Check::pass(id, format!("the TLS certificate carries {provider}"))
        }
        TlsNameView::Names(names) => {
            let names = if names.is_empty() {
                "no name".to_owned()
            } else {
                names.join(", ")
            };
            let shared = view
                .tls_override
                .as_ref()
                .filter(|name| names.split(", ").any(|n| n == name.as_str()));
            match shared {
                Some(name) => Check::pass(
                    id,
                    format!("peers check the shared name {name} (tlsServerHostOverride)"),
                ),
                None => Check::warn(
                    id,
                    format!(
                        "the TLS certificate carries {names}, not {provider}: no receiver can attach to this node as {provider}"
                    ),
                    format!("make one with `cvp certgen --host NAME --standby-for {provider}`"),
                ),
            }
        }
    }
}

fn config_valid(view: &PreflightView) -> Check {
    let id = "config-valid";
    match &view.config {
        Ok(()) => Check::pass(
            id,
            "the node's files, with the upgrade's edits, are a valid configuration",
        ),
        Err(why) => Check::fail(id, why.clone(), "correct the file; nothing was changed"),
    }
}

fn ports_free(view: &PreflightView) -> Check {
    let id = "ports-free";
    let taken: Vec<String> = view
        .ports
        .iter()
        .filter_map(|port| match &port.state {
            PortState::Taken(why) => Some(format!("{} {}: {why}", port.key, port.address)),
            _ => None,
        })
        .collect();
    if taken.is_empty() {
        let all: Vec<String> = view.ports.iter().map(|p| format!("{} {}", p.key, p.address)).collect();
        Check::pass(id, format!("ours or free: {}", all.join(", ")))
    } else {
        Check::fail(
            id,
            taken.join("; "),
            "stop the process that holds the port, or change the port",
        )
    }
}

fn index_health(view: &PreflightView) -> Check {
    let id = "index-health";
    match &view.index_configured {
        Ok(false) => Check::pass(id, "no index is configured"),
        Ok(true) => Check::warn(
            id,
            "an index is configured, and this release keeps none",
            "rebuild it after the upgrade",
        ),
        Err(why) => Check::fail(
            id,
            format!("the index settings cannot be read: {why}"),
            "correct ns_static.toml",
        ),
    }
}

fn plugins_present(view: &PreflightView) -> Check {
    let id = "plugins-present";
    let mut missing = Vec::new();
    for ns in &view.namespaces {
        for theirs in &ns.provider_strategies {
            if !ns.own_strategies.iter().any(|own| own == theirs) {
                missing.push(format!("{}: {} {} {}", ns.name, theirs.kind, theirs.id, theirs.version));
            }
        }
    }
    if missing.is_empty() {
        return Check::pass(id, "every strategy of the provider is here");
    }
    Check::warn(
        id,
        format!("not here, or another version: {}", missing.join("; ")),
        "install the provider's plugins; until then the embedded default runs",
    )
}

#[cfg(test)]
pub(super) mod tests;
