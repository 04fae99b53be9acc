//! Promotion: runs core's preflight and steps against the real node, journal first.
//!
//! Owns the probes, the plan, the journal's file and the effects of the steps. The order of the steps and every verdict of the checks are
//! core's; what serves clients and what builds a machine is the assembly's, behind [`Hooks`].

mod held;
mod journal;
mod plan;
mod points;
mod probe;
mod promoted;
mod reading;
mod sink;
mod survey;
mod tree;
pub mod view;

pub use promoted::{KeptKeys, load_copy as load_tree};
pub use survey::key_state;
pub use tree::exchangeable;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cvp_core::config::{NodeConfig, NsConfig};
use cvp_core::promotion::{
    Check, Entry, HeldNamespace, Journal, Plan, PortView, StepReport, Uncopied, allowed, next_step, preflight, promote,
    resume,
};
use cvp_core::session::CopyBehind;
use cvp_core::types::{Namespace, Position, Refusal};

use crate::config::Root;
use crate::crash_point::CrashPoint;
use crate::failure::Failure;
use crate::link::SharedTls;
use crate::namespace::ChainSet;
use crate::replication::{ControlFiles, Remotes, Replication};
use journal::JournalFile;
use sink::NodeSink;
use view::{CheckView, HeightView, ServingView, StepView, UpgradeLine, UpgradeView};

/// Name of the journal below `system/cvp`.
const JOURNAL: &str = "promotion.journal";

/// What only the assembly can do. Called from a thread that may wait; each must be idempotent.
pub trait Hooks: Send + Sync + 'static {
    /// The files say `provider` now: replication goes on with a machine of that role (at a start: nothing, it is built afterwards). What a
    /// late plan takes over runs from here on.
    fn role_changed(&self, plan: &Plan) -> Result<(), Refusal>;
    /// These could not be taken over: they are closed, and everything goes on without them.
    fn hold(&self, held: &[HeldNamespace]) -> Result<(), Refusal>;
    /// Why a namespace does not run, where that is known.
    fn why_held(&self, name: &Namespace) -> Option<Refusal>;
    /// Opens a namespace that does not run, makes durable what it has, and closes it again: its last block below `above`.
    fn look_into(&self, name: &Namespace, above: &Plan) -> Result<Position, Refusal>;
    /// Clients are served under the new name, and a fresh receiver may attach.
    fn serve(&self, plan: &Plan) -> Result<(), Refusal>;
    /// The ports that a node of this configuration needs, and whose each is.
    fn ports(&self, config: &NodeConfig) -> Vec<PortView>;
    /// What the next start with this configuration would fail on here, in words.
    fn unfit(&self, config: &NodeConfig) -> Vec<String>;
    /// The strategies that this configuration names and that are not installed here, in words.
    fn uninstalled(&self, config: &NodeConfig) -> Vec<String>;
    /// Whether a namespace's genesis file, as this configuration has it, is that of the chain which is here.
    fn genesis_fits(&self, name: &Namespace, ns: &NsConfig) -> Result<(), Refusal>;
    /// What the provider stopped, and of which less is here than it had.
    fn behind(&self) -> Vec<CopyBehind>;
    /// The receiver goes on as before: the promotion did not begin after all.
    fn go_on_receiving(&self);
}

/// What the operator asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// Only the preflight.
    pub dry_run: bool,
    /// Go on without the provider's keys.
    pub allow_missing_keys: bool,
    /// A silent target is down.
    pub target_is_down: bool,
    /// A chain of which nothing was copied yet begins anew.
    pub begin_anew: bool,
}

/// The node that is promoted.
pub struct Ground {
    /// Its root.
    pub root: Root,
    /// Its chains.
    pub chains: ChainSet,
    /// Control files.
    pub files: ControlFiles,
    /// TLS set.
    pub tls: SharedTls,
    /// Reads `cvp.remote` afresh.
    pub remotes: Remotes,
    /// The running replication; `None` while a start resumes.
    pub replication: Option<Replication>,
    /// The assembly.
    pub hooks: Arc<dyn Hooks>,
}

/// What a start finds in the journal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// A promotion is under way: [`Ground::resume`] it before anything serves.
    pub unfinished: bool,
    /// Where the take-over notice goes, if this node was ever promoted (`"node1 10.0.0.1:50011"`).
    pub predecessor: Vec<String>,
    /// What the last promotion could not take over. It does not run on a provider until another one takes it over.
    pub held: Vec<HeldNamespace>,
    /// What was never copied before it, and is not to begin by itself.
    pub uncopied: Uncopied,
}

/// The refusal that names a held namespace.
pub fn not_taken_over(held: &HeldNamespace) -> Refusal {
    Refusal::new(
        "not-taken-over",
        format!("the upgrade could not take it over: {}", held.reason),
        "correct the cause, then run `cvp upgrade` again",
    )
}

/// Reads the journal at a start, before the configuration's role is believed.
///
/// # Errors
/// The journal cannot be read.
pub fn standing(files: &ControlFiles) -> Result<Standing, Refusal> {
    let (_, journal) = JournalFile::open(&files.path(JOURNAL))?;
    Ok(Standing {
        unfinished: next_step(&journal).is_some(),
        predecessor: journal
            .plan()
            .map(|plan| plan.old_addresses.clone())
            .unwrap_or_default(),
        held: journal.held().values().cloned().collect(),
        uncopied: journal.uncopied(),
    })
}

/// The operator destroyed a namespace: if it was held, nothing is left to take over. Or it was never copied, and begins here. No promotion
/// is under way.
///
/// # Errors
/// The journal cannot be read or written.
pub fn release(files: &ControlFiles, name: &Namespace) -> Result<(), Refusal> {
    let (mut file, journal) = JournalFile::open(&files.path(JOURNAL))?;
    if !journal.knows(name) {
        return Ok(());
    }
    let append = journal
        .append(&Entry::Released(name.clone()))
        .map_err(|error| Refusal::new("promotion-journal", error.to_string(), "report this"))?;
    file.record(&append)
}

/// When the network probes of a preflight ended, and how long they took.
#[derive(Clone, Copy, Debug)]
struct Probed {
    took: Duration,
    ended: Instant,
}

/// What [`Ground::finish`] goes on from: a promotion to begin, or nothing where the journal knows one.
#[derive(Default)]
struct Beginning {
    checks: Vec<Check>,
    plan: Option<Plan>,
    probed: Option<Probed>,
}

/// Told each check and step.
type Tell = dyn Fn(UpgradeLine) + Send + Sync;

impl Ground {
    /// `cvp upgrade`: preflight, then the steps. `progress` is told each check and step. A dry run ends after the preflight, and says
    /// which steps would follow.
    ///
    /// # Errors
    /// The preflight cannot be made. A refusing check or a failed step is part of the answer, not an error.
    pub async fn upgrade(
        self: Arc<Self>,
        flags: Flags,
        progress: impl Fn(UpgradeLine) + Send + Sync + 'static,
    ) -> Result<UpgradeView, Failure> {
        let failure = |refusal: Refusal| Failure::from_refusal(&refusal);
        let progress: Box<Tell> = Box::new(progress);
        let (file, journal) = JournalFile::open(&self.files.path(JOURNAL)).map_err(failure)?;
        if next_step(&journal).is_some() {
            if flags.dry_run {
                return Ok(planned(&[plan::goes_on()], &plan::rehearse_rest(&journal)));
            }
            return self.finish(Beginning::default(), file, journal, progress).await;
        }
        let surveyed = survey::survey(&self, flags).await;
        let rehearsal = plan::rehearse(&journal, &surveyed.plan);
        let mut checks = preflight(&surveyed.view);
        checks.extend(surveyed.left_behind);
        checks.extend(surveyed.edited);
        checks.push(rehearsal.check);
        if flags.dry_run {
            return Ok(planned(&checks, &rehearsal.steps));
        }
        for check in &checks {
            progress(UpgradeLine::Check(CheckView::from(check)));
        }
        if !allowed(&checks) {
            return Ok(UpgradeView::refusal(&checks));
        }
        if let Some(replication) = &self.replication {
            replication.quiesce().await;
        }
        // Once more: the chains may have grown since, and nobody writes them any more.
        let plan = match self.plan_off_thread(surveyed.reading).await {
            Ok(plan) => plan,
            Err(refusal) => {
                self.hooks.go_on_receiving();
                checks.pop();
                checks.push(plan::refused(&refusal));
                return Ok(UpgradeView::refusal(&checks));
            }
        };
        let beginning = Beginning {
            checks,
            plan: Some(plan),
            probed: Some(surveyed.probed),
        };
        let answer = Arc::clone(&self).finish(beginning, file, journal, progress).await;
        let begun = answer
            .as_ref()
            .is_ok_and(|answer| answer.steps.iter().any(|step| step.state != "failed"));
        if !begun {
            self.hooks.go_on_receiving();
        }
        answer
    }

    /// Goes on with a promotion that a crash interrupted; at a start, before anything serves.
    ///
    /// # Errors
    /// A step failed: the node must not start, and the next start tries again.
    pub async fn resume(self: Arc<Self>) -> Result<UpgradeView, Failure> {
        let failure = |refusal: Refusal| Failure::from_refusal(&refusal);
        let (file, journal) = JournalFile::open(&self.files.path(JOURNAL)).map_err(failure)?;
        let answer = self
            .finish(Beginning::default(), file, journal, Box::new(|_| ()))
            .await?;
        match answer.failed_step() {
            None => Ok(answer),
            Some(step) => Err(Failure::failed(
                "upgrade-unfinished",
                format!("step {} of the upgrade failed: {}", step.id, step.message),
                "correct the cause and start the node again",
            )),
        }
    }

    async fn finish(
        self: Arc<Self>,
        beginning: Beginning,
        file: JournalFile,
        mut journal: Journal,
        progress: Box<Tell>,
    ) -> Result<UpgradeView, Failure> {
        let stopped = |error: tokio::task::JoinError| Failure::failed("internal", error.to_string(), "see the log");
        tokio::task::spawn_blocking(move || {
            let crash = CrashPoint::from_environment();
            let mut sink = NodeSink {
                ground: &self,
                journal: file,
                crash,
                progress: &*progress,
                taken_over: None,
            };
            let reports = match beginning.plan {
                Some(plan) => promote(&mut journal, plan, &mut sink),
                None => resume(&mut journal, &mut sink),
            };
            let taken_over = sink.taken_over;
            let mut answer = self.answer(&beginning.checks, &reports, &journal);
            if let (Some(probed), Some(taken_over)) = (beginning.probed, taken_over) {
                answer.probe_milliseconds = Some(milliseconds(probed.took));
                answer.milliseconds = Some(milliseconds(taken_over.saturating_duration_since(probed.ended)));
            }
            answer
        })
        .await
        .map_err(stopped)
    }

    fn answer(&self, checks: &[Check], reports: &[StepReport], journal: &Journal) -> UpgradeView {
        let finished = next_step(journal).is_none();
        let heights: BTreeMap<String, HeightView> = self
            .chains
            .all()
            .iter()
            .map(|chain| {
                (
                    chain.namespace().to_string(),
                    HeightView {
                        height: chain.tips().durable.height,
                    },
                )
            })
            .collect();
        let serving = journal.plan().filter(|_| finished);
        let held = journal.held().values().filter(|_| finished);
        UpgradeView {
            checks: checks.iter().map(CheckView::from).collect(),
            steps: reports.iter().map(StepView::from).collect(),
            serving: serving.map(|plan| ServingView {
                hostname: plan.hostname.to_string(),
                namespaces: heights,
            }),
            held: held.map(|held| (held.name.to_string(), held.reason.clone())).collect(),
            ..UpgradeView::default()
        }
    }
}

/// The answer of a dry run: the steps that would follow, none of them done.
fn planned(checks: &[Check], steps: &[StepReport]) -> UpgradeView {
    UpgradeView {
        steps: steps.iter().map(StepView::planned).collect(),
        ..UpgradeView::refusal(checks)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
