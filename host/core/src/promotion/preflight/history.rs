//! Whether each chain is here, and all of it: what is not is lost with the provider, and queues that wait for it are told so.

use super::{Check, NamespaceView, PreflightView};
use crate::mq::Missing;

/// Queues of a namespace that a check names.
const QUEUES_NAMED: usize = 8;

/// Judges it.
pub(super) fn complete(view: &PreflightView) -> Check {
    let id = "history-complete";
    let absent: Vec<String> = view.namespaces.iter().filter_map(absent).collect();
    if !absent.is_empty() {
        let text = absent.join(", ");
        return match view.begin_anew {
            true => Check::warn(
                id,
                text,
                "--begin-anew was given: these chains begin anew at block 1, with other blocks than the provider had",
            ),
            false => Check::fail(
                id,
                text,
                "as long as the provider can be started, let this node copy from it until `cvp status` is normal; else repeat with --begin-anew: \
                 these chains begin anew at block 1, with other blocks than the provider had",
            ),
        };
    }
    let cut: Vec<String> = view
        .namespaces
        .iter()
        .filter(|ns| ns.history_from > 0)
        .map(begins)
        .collect();
    if cut.is_empty() {
        return Check::pass(id, "the whole history is here");
    }
    let text = cut.join(", ");
    let untold: Vec<String> = view.namespaces.iter().filter_map(untold).collect();
    if untold.is_empty() {
        return Check::warn(
            id,
            text,
            match view.namespaces.iter().any(|ns| ns.fills_to.is_some()) {
                true => {
                    "an upgrade ends the filling-in for good: as long as the provider can be started, let it go on until `cvp status` shows no backfill; \
                     else queries below answer `not found` from then on"
                }
                false => "queries below answer `not found` after the upgrade, for good",
            },
        );
    }
    Check::warn(
        id,
        format!(
            "{text}; message queues lack blocks that are not here: {}",
            untold.join(", ")
        ),
        "as long as the provider can be started, let it fill them in and upgrade when `cvp status` shows none missing; else each of these queues is \
         told once which blocks it is not told of, and queries below answer `not found`",
    )
}

/// Where a namespace's history begins, and down to where it was being filled in.
fn begins(ns: &NamespaceView) -> String {
    let fills = ns
        .fills_to
        .map(|to| format!(" (being filled in down to {to})"))
        .unwrap_or_default();
    let waits = match ns.waits_seconds {
        0 => String::new(),
        seconds => format!(" and takes no transaction for {seconds} s, which might be one that it does not know"),
    };
    format!("{} begins at {}{fills}{waits}", ns.name, ns.history_from)
}

/// A chain of which no block is here although its provider had some, in words. What would be served under its name is another chain.
fn absent(ns: &NamespaceView) -> Option<String> {
    ns.chain.as_ref().ok().filter(|tip| tip.height == 0)?;
    let snapshot = ns
        .staged
        .map(|(bytes, of)| format!("{bytes} of {of} bytes of a snapshot of its state"));
    match ns.provider_tip.filter(|tip| *tip > 0) {
        Some(tip) => {
            let but = snapshot
                .map(|snapshot| format!(" ({snapshot} are)"))
                .unwrap_or_default();
            Some(format!("none of the {tip} blocks of {} is here{but}", ns.name))
        }
        None => snapshot.map(|snapshot| format!("no block of {} is here, but {snapshot}", ns.name)),
    }
}

/// Queues of a namespace that wait for blocks which are not here, in words; the first ones of many.
fn untold(ns: &NamespaceView) -> Option<String> {
    let words = |it: &Missing| format!("queue {} of {}: {} to {}", it.queue, ns.name, it.first, it.last);
    let mut said: Vec<String> = ns.untold.iter().take(QUEUES_NAMED).map(words).collect();
    let more = ns.untold.len().saturating_sub(QUEUES_NAMED);
    if more > 0 {
        said.push(format!("{more} more queues of {}", ns.name));
    }
    (!said.is_empty()).then(|| said.join(", "))
}
