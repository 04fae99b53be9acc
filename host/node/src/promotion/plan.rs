//! The plan of a promotion, made from the node as it stands, and its rehearsal: core's own promotion with the sink that does nothing. So
//! whatever keeps a promotion from being planned or journaled refuses it while the receiver still receives.

use std::sync::Arc;

use cvp_core::config::{GLOBAL, Loaded};
use cvp_core::promotion::{
    Check, DryRun, HeldNamespace, Journal, Plan, PlannedNamespace, StepReport, StepState, Verdict, promote,
    promoted_identity, resume, uncopied,
};
use cvp_core::session::{Binding, BoundNamespace};
use cvp_core::types::{Namespace, Position, Refusal};

use super::reading::Reading;
use super::{Ground, sink, survey, tree};
use crate::config::Places;
use crate::namespace::ChainState;

/// Id of the check that a rehearsal adds to core's.
const ID: &str = "plan";

/// What a rehearsal found.
pub(super) struct Rehearsal {
    pub(super) check: Check,
    /// The steps as the promotion would take them.
    pub(super) steps: Vec<StepReport>,
}

/// Goes through the whole promotion without doing anything.
pub(super) fn rehearse(journal: &Journal, plan: &Result<Plan, Refusal>) -> Rehearsal {
    let plan = match plan {
        Ok(plan) => plan.clone(),
        Err(refusal) => {
            return Rehearsal {
                check: refused(refusal),
                steps: Vec::new(),
            };
        }
    };
    let steps = promote(&mut journal.clone(), plan, &mut DryRun);
    let failed = steps.iter().find_map(|report| match &report.state {
        StepState::Failed(refusal) => Some(refused(refusal)),
        StepState::Done | StepState::Resumed => None,
    });
    let ids: Vec<&str> = steps.iter().map(|report| report.step.id()).collect();
    let check = failed.unwrap_or_else(|| Check {
        id: ID,
        verdict: Verdict::Pass,
        message: format!("every step can be planned: {}", ids.join(", ")),
        hint: String::new(),
    });
    Rehearsal { check, steps }
}

/// The one check of a promotion under way: there is nothing left to judge.
pub(super) fn goes_on() -> Check {
    Check::warn(
        "plan",
        "an upgrade has begun and did not end: these steps are left",
        "run `cvp upgrade` to go on, or start the node again; the old provider must stay down until it has ended",
    )
}

/// The steps that are left of a promotion under way.
pub(super) fn rehearse_rest(journal: &Journal) -> Vec<StepReport> {
    resume(&mut journal.clone(), &mut DryRun)
}

/// The check of a promotion that cannot be planned.
pub(super) fn refused(refusal: &Refusal) -> Check {
    let hint = match refusal.hint.as_str() {
        "" => "correct the cause and repeat `cvp upgrade --dry-run`; nothing was changed",
        hint => hint,
    };
    Check {
        id: ID,
        verdict: Verdict::Fail,
        message: refusal.text.clone(),
        hint: hint.to_owned(),
    }
}

impl Ground {
    /// [`Ground::plan`] on a thread that may wait for the disk, with the files as they were read, and afresh if they changed since.
    pub(super) async fn plan_off_thread(self: &Arc<Self>, reading: Arc<Reading>) -> Result<Plan, Refusal> {
        let ground = Arc::clone(self);
        let plan = move || match reading.is_old(&ground) {
            true => ground.plan(&Reading::of(&ground)),
            false => ground.plan(&reading),
        };
        match tokio::task::spawn_blocking(plan).await {
            Ok(planned) => planned,
            Err(error) => Err(Refusal::new("internal", error.to_string(), "see the log of this node")),
        }
    }

    /// The plan for what this node holds durably now.
    pub(super) fn plan(&self, reading: &Reading) -> Result<Plan, Refusal> {
        let binding = self.files.binding().map_err(|error| error.refusal())?;
        let binding = binding.ok_or_else(|| {
            Refusal::new(
                "not-bound",
                "this node is bound to no provider",
                "see the check backup-complete",
            )
        })?;
        let plan = self.draft(&binding, reading)?;
        promoted_identity(&plan, None, Some(&binding))?;
        Ok(plan)
    }

    /// The last durable block of a namespace that can be taken over with the files that it would have.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) fn usable(&self, name: &Namespace, promoted: Option<&Loaded>) -> Result<Position, Refusal> {
        let chain = self.chains.get(name.as_str()).ok_or_else(|| self.not_open(name))?;
        if let ChainState::Failed(refusal) | ChainState::Fenced(refusal) = chain.state() {
            return Err(refusal);
        }
        tree::certificates_fit(&self.root, name)?;
        if let Some(ns) = promoted.and_then(|promoted| promoted.config.namespaces.get(name)) {
            self.hooks.genesis_fits(name, ns)?;
        }
        match promoted.and_then(|promoted| promoted.held.get(name)) {
            None => Ok(chain.ledger().tips().durable),
            Some(problems) => {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Err(Refusal::new("bad-configuration", lines.join("; "), "correct it"))
            }
        }
    }

    /// A node whose `global` has the genesis file of another chain never starts again.
    pub(super) fn genesis_of_global(&self, promoted: &Loaded) -> Result<(), Refusal> {
        let mut namespaces = promoted.config.namespaces.iter();
        match namespaces.find(|(name, _)| name.as_str() == GLOBAL) {
            Some((name, ns)) => self.hooks.genesis_fits(name, ns),
            None => Ok(()),
        }
    }

    fn synced(&self, name: &Namespace) -> Result<Position, Refusal> {
        let chain = self.chains.get(name.as_str()).ok_or_else(|| self.not_open(name))?;
        chain.ledger().sync().map_err(|error| error.refusal())?;
        Ok(chain.ledger().tips().durable)
    }

    /// Why a namespace does not run here.
    pub(super) fn not_open(&self, name: &Namespace) -> Refusal {
        self.hooks.why_held(name).unwrap_or_else(|| {
            let text = format!("namespace {name} is not open");
            Refusal::new("not-running", text, "see the log of this node")
        })
    }

    /// What a promotion takes over: the namespaces copied from the provider that its configuration starts.
    pub(super) fn bound<'a>(binding: &'a Binding, reading: &Reading) -> Vec<&'a BoundNamespace> {
        let started = reading.started();
        let runs = |bound: &&BoundNamespace| {
            let started = started.as_ref();
            started.is_none_or(|started| started.contains(bound.namespace.as_str()))
        };
        binding.namespaces.iter().filter(runs).collect()
    }

    /// The check that names what would not be taken over without a word: what the provider runs and this node never copied, what runs here
    /// and the provider's configuration does not start any more, and what stood still there whenever it was copied. None where there is neither.
    pub(super) fn left_behind(&self, reading: &Reading) -> Option<Check> {
        let binding = self.files.binding().ok().flatten()?;
        let started = reading.started()?;
        let is_bound = |name: &str| {
            let mut bound = binding.namespaces.iter();
            bound.any(|bound| bound.namespace.as_str() == name)
        };
        let uncopied: Vec<String> = started.iter().filter(|name| !is_bound(name)).cloned().collect();
        let running = self.chains.names().into_iter().map(|name| name.to_string());
        let unlisted: Vec<String> = running
            .filter(|name| is_bound(name) && !started.contains(name))
            .collect();
        let stopped = reading.trees.as_ref().ok()?.stopped().unwrap_or_default();
        let stopped: Vec<String> = stopped.into_iter().filter(|name| !is_bound(name)).collect();
        let mut found = Vec::new();
        if !uncopied.is_empty() {
            found.push((
                format!(
                    "the provider runs {}, of which nothing is here: not started",
                    uncopied.join(", ")
                ),
                "its chain is on the provider's disk alone, and `namespace start` refuses it here; see `cvp status` for why it was not copied",
            ));
        }
        if !unlisted.is_empty() {
            found.push((
                format!(
                    "{} runs here, and the provider's configuration does not start it any more: not taken over",
                    unlisted.join(", ")
                ),
                "if it is wanted, run `cvp namespace start NAME` after the upgrade: its chain is here",
            ));
        }
        if !stopped.is_empty() {
            found.push((
                format!(
                    "{} was stopped on the provider whenever this node copied it: none of its blocks is here",
                    stopped.join(", ")
                ),
                "if it has blocks, they are on the provider's disk alone: `namespace start` here refuses it, until its chain is begun anew on purpose (--anew)",
            ));
        }
        let (messages, hints): (Vec<String>, Vec<&str>) = found.into_iter().unzip();
        if messages.is_empty() {
            return None;
        }
        Some(Check {
            id: "namespaces-copied",
            verdict: Verdict::Warn,
            message: messages.join("; "),
            hint: hints.join("; "),
        })
    }

    /// The check that names what somebody changed in the copy, which the provider cannot put right any more; none where nobody did.
    pub(super) fn edited(&self, reading: &Reading) -> Option<Check> {
        let sent = self.files.copy().ok().flatten()?;
        let found = match &reading.trees {
            Ok(trees) => trees.copy().clone(),
            Err(_) => Places::copy(&self.root).scan(),
        };
        let edited = sent.edits(&found);
        let shown: Vec<&str> = edited.iter().take(10).map(String::as_str).collect();
        (!edited.is_empty()).then(|| Check {
            id: "copy-as-sent",
            verdict: Verdict::Warn,
            message: format!(
                "{} file(s) of the copy are not as the provider sent them: {}",
                edited.len(),
                shown.join(", ")
            ),
            hint: "this node goes on with them as they are: look at them first, below system/cvp/configuration_vp"
                .to_owned(),
        })
    }

    fn draft(&self, binding: &Binding, reading: &Reading) -> Result<Plan, Refusal> {
        let section = self.files.provider_self().map_err(|error| error.refusal())?;
        let section = section.unwrap_or_default();
        let loaded = reading.own.as_ref().map_err(sink::refusal_of)?;
        let promoted = reading.copied.as_ref().map_err(Clone::clone)?;
        let (mut namespaces, mut held) = (Vec::new(), Vec::new());
        for bound in Self::bound(binding, reading) {
            let (name, role) = (
                bound.namespace.clone(),
                survey::provider_role(&section, &bound.namespace),
            );
            let synced = self.usable(&name, Some(promoted)).and_then(|_| self.synced(&name));
            match synced {
                Ok(durable) => namespaces.push(PlannedNamespace { name, role, durable }),
                Err(refusal) if name.as_str() == GLOBAL => return Err(refusal),
                Err(refusal) => held.push(HeldNamespace::new(name, role, refusal.text)),
            }
        }
        let remotes = (self.remotes)()?;
        let mut plan = Plan::draft(
            binding,
            loaded.config.dynamic.hostname.clone(),
            remotes.iter().map(ToString::to_string).collect(),
            namespaces,
            held,
            rand::random(),
        )?;
        let listed = reading.trees.as_ref().map_err(Clone::clone)?.listed()?;
        plan.uncopied = uncopied(listed, binding);
        plan.signature = self.root.sign_take_over(&plan.take_over());
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use cvp_core::promotion::{Entry, Step, next_step};
    use cvp_core::types::{Digest, Hostname, Incarnation, Namespace, NodeId, NodeRole, Position};

    use super::*;

    fn plan() -> Plan {
        Plan {
            node_id: NodeId([1; 16]),
            hostname: Hostname::new("node1").unwrap(),
            own_hostname: Hostname::new("cvp").unwrap(),
            old: Incarnation { number: 1, id: [1; 16] },
            new: Incarnation { number: 2, id: [2; 16] },
            old_addresses: vec!["node1 127.0.0.1:50011".to_owned()],
            namespaces: vec![PlannedNamespace {
                name: Namespace::new("global").unwrap(),
                role: NodeRole::Vp,
                durable: Position {
                    height: 7,
                    hash: Digest::of(b"tip"),
                },
            }],
            held: Vec::new(),
            late: false,
            uncopied: Default::default(),
            signature: Vec::new(),
        }
    }

    #[test]
    fn a_rehearsal_takes_every_step_and_writes_nothing() {
        let journal = Journal::empty();
        let found = rehearse(&journal, &Ok(plan()));
        assert_eq!(found.check.verdict, Verdict::Pass);
        let steps: Vec<Step> = found.steps.iter().map(|report| report.step).collect();
        assert_eq!(steps, Step::ALL);
        assert_eq!(journal, Journal::empty());
    }

    #[test]
    fn what_the_journal_cannot_hold_refuses_the_promotion_beforehand() {
        let mut too_many = plan();
        too_many.old_addresses = vec!["node1 127.0.0.1:1".to_owned(); 65];
        let found = rehearse(&Journal::empty(), &Ok(too_many));
        assert_eq!((found.check.id, found.check.verdict), ("plan", Verdict::Fail));
        assert!(found.check.message.contains("addresses"), "{}", found.check.message);
        let refusal = Refusal::new("no-incarnation", "never told", "attach once more");
        let found = rehearse(&Journal::empty(), &Err(refusal));
        assert_eq!(found.check.verdict, Verdict::Fail);
        assert_eq!(
            (found.check.message.as_str(), found.check.hint.as_str()),
            ("never told", "attach once more")
        );
    }

    #[test]
    fn of_a_promotion_under_way_the_rest_is_left() {
        let mut journal = Journal::empty();
        let entry = Entry::Begin(plan());
        let append = journal.append(&entry).unwrap();
        journal.appended(entry, &append);
        let rest: Vec<Step> = rehearse_rest(&journal).iter().map(|report| report.step).collect();
        assert_eq!(rest, Step::ALL[1..]);
        assert_eq!(next_step(&journal), Some(Step::Identity));
    }
}
