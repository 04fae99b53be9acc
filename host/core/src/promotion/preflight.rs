//! The preflight: every check id of `cvp upgrade`, judged from one plain view of what probes, files and chains said.

mod history;
mod index;
mod view;

use super::target::target_unreachable;
use crate::config::GLOBAL;
use crate::types::Namespace;
pub use view::{CopyState, KeyState, NamespaceView, PortState, PortView, PreflightView, StrategyView, TlsNameView};

pub use index::IndexView;

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
    /// Something that an operator should know, and what to do about it.
    pub fn warn(id: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Check {
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

/// Judges the view: one check for each id of the operator's page, in its order.
pub fn preflight(view: &PreflightView) -> Vec<Check> {
    vec![
        target_unreachable(view),
        last_heard(view),
        backup_complete(view),
        chain_verified(view),
        history::complete(view),
        keys_match(&view.namespaces, view.allow_missing_keys),
        tls_name(view),
        config_valid(view),
        ports_free(view),
        index::health(view),
        plugins_present(view),
    ]
}

/// Judges what an earlier promotion had to hold, when it is tried again on the node that serves already: `held` as it is found now.
pub fn preflight_of_held(held: &[NamespaceView], allow_missing_keys: bool) -> Vec<Check> {
    let id = "held-namespaces";
    let unusable = unusable(held);
    let usable: Vec<&str> = held
        .iter()
        .filter(|ns| ns.chain.is_ok())
        .map(|ns| ns.name.as_str())
        .collect();
    let open = if usable.is_empty() {
        Check::fail(
            id,
            format!("still not usable: {}", listed(&unusable)),
            "correct the cause and repeat `cvp upgrade`; the other namespaces are not touched",
        )
    } else if unusable.is_empty() {
        Check::pass(id, format!("usable now: {}", usable.join(", ")))
    } else {
        Check::warn(
            id,
            format!("usable now: {}; still not: {}", usable.join(", "), listed(&unusable)),
            "correct the cause and repeat `cvp upgrade` for these",
        )
    };
    vec![open, keys_match(held, allow_missing_keys)]
}

/// Whether a promotion may follow.
pub fn allowed(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.verdict != Verdict::Fail)
}

fn last_heard(view: &PreflightView) -> Check {
    let id = "last-heard";
    let provider = view
        .provider
        .as_ref()
        .map_or("the provider", |provider| provider.as_str());
    let stopped: Vec<String> = view.behind.iter().map(|it| it.words(provider)).collect();
    let Some(ago) = view.last_heard_ms_ago else {
        let unknown = "the provider was not heard since this node started: how far it had come is not known".to_owned();
        return Check::warn(
            id,
            [vec![unknown], stopped].concat().join("; "),
            "blocks that it made while this node was away are not here",
        );
    };
    let mut behind: Vec<String> = view
        .namespaces
        .iter()
        .filter_map(|ns| {
            let durable = ns.chain.as_ref().ok()?.height;
            let tip = ns.provider_tip.filter(|tip| *tip > durable)?;
            Some(format!("{}: {} of {tip} blocks", ns.name, durable))
        })
        .collect();
    behind.extend(stopped);
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

/// What the copy lacks of the provider's last word does not refuse: the provider may be gone for good.
fn backup_complete(view: &PreflightView) -> Check {
    let found = backup_usable(view);
    let Some(lacking) = view.lacking.as_ref().filter(|_| found.verdict != Verdict::Fail) else {
        return found;
    };
    let hint = "this node goes on with the version that it got last of each, if any: look first whether they can be had from the provider's disk";
    Check::warn(
        found.id,
        format!("{}; {lacking}", found.message),
        match found.hint.as_str() {
            "" => hint.to_owned(),
            more => format!("{hint}; {more}"),
        },
    )
}

fn backup_usable(view: &PreflightView) -> Check {
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
    if let CopyState::Missing(why) = &view.copy {
        return Check::fail(
            id,
            format!("the configuration of {provider} is not here: {why}"),
            "let it attach once more, until its status is normal",
        );
    }
    let staged = match &view.copy {
        CopyState::Whole(Some(staged)) => format!("; a change was staged and never settled: {staged}"),
        _ => String::new(),
    };
    let unusable = unusable(&view.namespaces);
    let usable = view.namespaces.len() - unusable.len();
    if let Some(whole) = unusable.iter().find(|(name, _)| name.as_str() == GLOBAL) {
        return Check::fail(
            id,
            format!("{GLOBAL} of {provider} is not usable here ({})", whole.1),
            "see `cvp status`; restart the node when the cause is gone",
        );
    }
    if !unusable.is_empty() {
        return Check::warn(
            id,
            format!(
                "{usable} namespace(s) of {provider} are here and go on; held, for they are not usable: {}{staged}",
                listed(&unusable)
            ),
            "correct the cause first (see `cvp status`), or go on without them: another `cvp upgrade` tries them again",
        );
    }
    let here = format!("bound to {provider}; its configuration and {usable} namespace(s) are here");
    let unreadable = view.namespaces.iter().filter_map(|ns| ns.queues_unreadable.as_deref());
    let unreadable: Vec<&str> = unreadable.collect();
    if !unreadable.is_empty() {
        return Check::warn(
            id,
            format!("{here}{staged}; but for message queues: {}", unreadable.join("; ")),
            "as long as the provider can be started, let this node attach once more: it writes them anew; else these namespaces go on without message \
             queues until the files (data/mq) are restored",
        );
    }
    if staged.is_empty() {
        return Check::pass(id, here);
    }
    Check::warn(
        id,
        format!("{here}{staged}"),
        "the upgrade applies it: whoever asked for it may have been told that it is made",
    )
}

/// What cannot be taken over, and why.
fn unusable(namespaces: &[NamespaceView]) -> Vec<(&Namespace, &str)> {
    namespaces
        .iter()
        .filter_map(|ns| Some((&ns.name, ns.chain.as_ref().err()?.as_str())))
        .collect()
}

fn listed(unusable: &[(&Namespace, &str)]) -> String {
    let lines: Vec<String> = unusable.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    lines.join("; ")
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
    if tips.is_empty() {
        return Check::fail(id, "no chain is open", "see backup-complete");
    }
    let verified = format!("every record was verified before it was stored: {}", tips.join(", "));
    match view.namespaces.len() - tips.len() {
        0 => Check::pass(id, verified),
        held => Check::warn(
            id,
            format!("{verified}; {held} not open"),
            "see backup-complete: what is not open is held",
        ),
    }
}

/// Names every key that is wrong or missing, in the order of the namespaces; what is held needs none yet.
fn keys_match(namespaces: &[NamespaceView], allow_missing_keys: bool) -> Check {
    let id = "keys-match";
    let wanted = namespaces.iter().filter(|ns| ns.chain.is_ok());
    let mut wanted: Vec<(&Namespace, &KeyState)> = wanted.map(|ns| (&ns.name, &ns.keys)).collect();
    wanted.sort_by_key(|(name, _)| *name);
    let mut found = Vec::new();
    for (name, keys) in wanted {
        match keys {
            KeyState::Match => {}
            KeyState::Missing(path) => found.push(format!("{name}: {path} is missing")),
            KeyState::Bad(text) => found.push(format!("{name}: {text}")),
        }
    }
    let text = found.join("; ");
    if found.is_empty() {
        Check::pass(id, "key and certificate of each namespace belong together")
    } else if allow_missing_keys {
        Check::warn(
            id,
            text,
            "--allow-missing-keys was given: this node cannot sign as the provider until it has the provider's key",
        )
    } else {
        Check::fail(
            id,
            text,
            "copy the provider's key.priv and certificate of each namespace here, or repeat with --allow-missing-keys",
        )
    }
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
        Ok(()) if view.unfit.is_empty() => Check::pass(
            id,
            "the node's files, with the upgrade's edits, are a valid configuration",
        ),
        // The node serves on; it is the start after this one that finds it.
        Ok(()) => Check::warn(
            id,
            format!(
                "with the provider's files the next start would fail here: {}",
                view.unfit.join("; ")
            ),
            "make what is missing before this node is started again",
        ),
        Err(why) => Check::fail(id, why.clone(), "correct the file; nothing was changed"),
    }
}

/// Without its metrics a node serves all the same.
fn ports_free(view: &PreflightView) -> Check {
    let id = "ports-free";
    let taken: Vec<(&str, String)> = view
        .ports
        .iter()
        .filter_map(|port| match &port.state {
            PortState::Taken(why) => Some((port.key.as_str(), format!("{} {}: {why}", port.key, port.address))),
            PortState::Ours | PortState::Free => None,
        })
        .collect();
    if taken.is_empty() {
        let all: Vec<String> = view.ports.iter().map(|p| format!("{} {}", p.key, p.address)).collect();
        return Check::pass(id, format!("ours or free: {}", all.join(", ")));
    }
    let help = "stop the process that holds the port, or change the port";
    let needed = taken.iter().any(|(key, _)| *key != "metrics.port");
    let texts: Vec<String> = taken.into_iter().map(|(_, text)| text).collect();
    if needed {
        Check::fail(id, texts.join("; "), help)
    } else {
        Check::warn(id, texts.join("; "), help)
    }
}

fn plugins_present(view: &PreflightView) -> Check {
    let id = "plugins-present";
    let mut missing = Vec::new();
    for ns in &view.namespaces {
        for theirs in &ns.provider_strategies {
            if !ns.own_strategies.iter().any(|own| own == theirs) {
                let text = format!("{}: {} {} {}", ns.name, theirs.kind, theirs.id, theirs.version);
                missing.push(text.trim_end().to_owned());
            }
        }
    }
    missing.extend(view.uninstalled.iter().cloned());
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
