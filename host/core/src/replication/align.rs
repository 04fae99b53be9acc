//! Which namespaces the two ends run: what both have streams; what one has alone is a reason in both statuses, until the receiver has
//! aligned itself to the provider.
//!
//! The lists of a machine do not change: a host that starts or stops a namespace goes on with a new machine, which takes over what the old
//! one knew of its peer ([`Pair::in_place_of`]).

use crate::types::strategy::Role;
use crate::types::{Millis, Namespace, Refusal};

use super::api::Action;
use super::pair::Pair;
use super::setup::Setup;

/// What could not be aligned is tried again so much later.
const RETRY_MS: Millis = 30_000;

/// Namespaces that a reason names.
const NAMED_MAX: usize = 16;

/// What the host was asked for last in this session: with which version of the configuration, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Alignment(Option<(u64, Millis)>);

impl Pair {
    /// A machine of the same role in the place of `before`, in the same process: it knows what that one heard, whom it refused, and which
    /// changes its receiver has not seen.
    pub fn in_place_of(before: &Pair, setup: Setup) -> Pair {
        let mut pair = Pair::new(setup);
        pair.last_heard = before.last_heard;
        pair.budget = before.budget;
        pair.refused.clone_from(&before.refused);
        pair.changes.unreplicated.clone_from(&before.changes.unreplicated);
        pair.held.clone_from(&before.held);
        pair.followers = before.followers.met();
        pair.remember_held(before);
        pair
    }

    /// What the provider runs alone, and what the receiver runs alone.
    fn difference(&self) -> (&[Namespace], &[Namespace]) {
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::DifferenceIgnored) {
            return (&[], &[]);
        }
        let agreement = self.session.as_ref().map(|session| &session.agreement);
        agreement.map_or((&[], &[]), |agreement| (agreement.missing(), agreement.extra()))
    }

    /// Receiver: what its host is to start or stop depends on the provider's configuration, so that one comes first.
    pub(super) fn settle_alignment(&mut self) {
        let (missing, extra) = self.difference();
        let differ = !missing.is_empty() || !extra.is_empty();
        // What is held here the provider may have given up since: the host looks at it again.
        let owed = differ || !self.held.is_empty();
        let ready = self.changes.is_quiet() && self.index_accepted();
        if self.setup.role != Role::Receiver || !owed || !ready {
            return;
        }
        let Some(version) = self.taker.held_version() else {
            return;
        };
        let asked = self.alignment.0;
        if asked.is_some_and(|(with, at)| with == version && self.now.saturating_sub(at) < RETRY_MS) {
            return;
        }
        let (missing, extra) = (missing.to_vec(), extra.to_vec());
        self.alignment = Alignment(Some((version, self.now)));
        self.out.push(Action::Align { missing, extra });
    }

    pub(super) fn alignment_reasons(&self, reasons: &mut Vec<Refusal>) {
        let (missing, extra) = self.difference();
        let mut parts = Vec::new();
        if !missing.is_empty() {
            parts.push(format!("{} runs on the provider alone", names(missing)));
        }
        if !extra.is_empty() {
            parts.push(format!("{} runs on the receiver alone", names(extra)));
        }
        if !parts.is_empty() {
            reasons.push(Refusal::new(
                "namespaces-differ",
                parts.join("; "),
                "the receiver aligns itself; if this stays, the status of the node that does not run it says why",
            ));
        }
    }

    pub(super) fn held_reasons(&self, reasons: &mut Vec<Refusal>) {
        let held = self.held.iter().map(|(namespace, refusal)| {
            let text = format!("{namespace} does not run: {} ({})", refusal.text, refusal.code);
            Refusal::new("namespace-held", text, refusal.hint.clone())
        });
        reasons.extend(held);
    }
}

fn names(namespaces: &[Namespace]) -> String {
    let names: Vec<&str> = namespaces.iter().map(Namespace::as_str).take(NAMED_MAX).collect();
    match namespaces.len().saturating_sub(NAMED_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
