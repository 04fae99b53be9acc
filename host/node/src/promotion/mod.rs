//! Promotion: runs core's preflight and steps against the real node, journal first.
//!
//! Owns the probes, the journal's file and the effects of the steps. The order of the steps and every verdict are core's; what serves
//! clients and what builds a machine is the assembly's, behind [`Hooks`].

mod journal;
mod points;
mod probe;
mod sink;
mod survey;
pub mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use cvp_core::promotion::{
    Check, Journal, Plan, PlannedNamespace, StepReport, allowed, next_step, preflight, promote, resume,
};
use cvp_core::session::Binding;
use cvp_core::types::{Incarnation, Refusal};

use crate::config::Root;
use crate::failure::Failure;
use crate::link::SharedTls;
use crate::namespace::ChainSet;
use crate::replication::{ControlFiles, Remotes, Replication};
use journal::JournalFile;
use points::CrashPoint;
use sink::NodeSink;
use view::{CheckView, HeightView, ServingView, StepView, UpgradeLine, UpgradeView};

/// Name of the journal below `system/cvp`.
const JOURNAL: &str = "promotion.journal";

/// What only the assembly can do. Called from a thread that may wait; each must be idempotent.
pub trait Hooks: Send + Sync + 'static {
    /// The files say `provider` now: replication goes on with a machine of that role (at a start: nothing, it is built afterwards).
    fn role_changed(&self, plan: &Plan) -> Result<(), Refusal>;
    /// Clients are served under the new name, and a fresh receiver may attach.
    fn serve(&self, plan: &Plan) -> Result<(), Refusal>;
    /// Keys and addresses of the ports the node needs as a provider: `Ok` where it listens already.
    fn ports(&self) -> Vec<(String, Result<String, String>)>;
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
    })
}

impl Ground {
    /// `cvp upgrade`: preflight, then the steps. `progress` is told each check and step.
    ///
    /// # Errors
    /// The preflight cannot be made. A refusing check or a failed step is part of the answer, not an error.
    pub async fn upgrade(
        self: Arc<Self>,
        flags: Flags,
        progress: impl Fn(UpgradeLine) + Send + Sync + 'static,
    ) -> Result<UpgradeView, Failure> {
        let failure = |refusal: Refusal| Failure::from_refusal(&refusal);
        let (file, mut journal) = JournalFile::open(&self.files.path(JOURNAL)).map_err(failure)?;
        if next_step(&journal).is_some() {
            return self.finish(Vec::new(), file, journal, None, Box::new(progress)).await;
        }
        let view = survey::survey(&self, flags).await.map_err(failure)?;
        let checks = preflight(&view);
        for check in &checks {
            progress(UpgradeLine::Check(CheckView::from(check)));
        }
        if flags.dry_run || !allowed(&checks) {
            return Ok(UpgradeView {
                checks: checks.iter().map(CheckView::from).collect(),
                ..UpgradeView::default()
            });
        }
        if let Some(replication) = &self.replication {
            replication.quiesce().await;
        }
        let planned = self.plan();
        match planned {
            Ok(plan) => {
                let ground = Arc::clone(&self);
                let answer = self
                    .finish(
                        checks,
                        file,
                        std::mem::take(&mut journal),
                        Some(plan),
                        Box::new(progress),
                    )
                    .await;
                let begun = answer
                    .as_ref()
                    .is_ok_and(|answer| answer.steps.iter().any(|step| step.state != "failed"));
                if !begun {
                    ground.hooks.go_on_receiving();
                }
                answer
            }
            Err(refusal) => {
                self.hooks.go_on_receiving();
                Err(failure(refusal))
            }
        }
    }

    /// Goes on with a promotion that a crash interrupted; at a start, before anything serves.
    ///
    /// # Errors
    /// A step failed: the node must not start, and the next start tries again.
    pub async fn resume(self: Arc<Self>) -> Result<UpgradeView, Failure> {
        let failure = |refusal: Refusal| Failure::from_refusal(&refusal);
        let (file, journal) = JournalFile::open(&self.files.path(JOURNAL)).map_err(failure)?;
        let answer = self.finish(Vec::new(), file, journal, None, Box::new(|_| ())).await?;
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
        checks: Vec<Check>,
        file: JournalFile,
        mut journal: Journal,
        plan: Option<Plan>,
        progress: Box<dyn Fn(UpgradeLine) + Send + Sync>,
    ) -> Result<UpgradeView, Failure> {
        let stopped = |error: tokio::task::JoinError| Failure::failed("internal", error.to_string(), "see the log");
        tokio::task::spawn_blocking(move || {
            let crash = CrashPoint::from_environment();
            let mut sink = NodeSink {
                ground: &self,
                journal: file,
                crash,
                progress: &*progress,
            };
            let reports = match plan {
                Some(plan) => promote(&mut journal, plan, &mut sink),
                None => resume(&mut journal, &mut sink),
            };
            self.answer(&checks, &reports, &journal)
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
        UpgradeView {
            checks: checks.iter().map(CheckView::from).collect(),
            steps: reports.iter().map(StepView::from).collect(),
            serving: serving.map(|plan| ServingView {
                hostname: plan.hostname.to_string(),
                namespaces: heights,
            }),
        }
    }

    /// The plan, from chains that nobody writes any more.
    fn plan(&self) -> Result<Plan, Refusal> {
        let binding = self.files.binding().map_err(|error| error.refusal())?;
        let binding = binding.ok_or_else(|| Refusal::new("not-bound", "this node is bound to no provider", ""))?;
        for chain in self.chains.all() {
            chain.ledger().sync().map_err(|error| error.refusal())?;
        }
        self.draft_plan(&binding)
    }

    fn draft_plan(&self, binding: &Binding) -> Result<Plan, Refusal> {
        let section = self
            .files
            .provider_self()
            .map_err(|error| error.refusal())?
            .unwrap_or_default();
        let old = binding.lineage.current().ok_or_else(|| {
            Refusal::new(
                "no-incarnation",
                "the provider never told its incarnation",
                "let this node attach once more",
            )
        })?;
        let own = self
            .root
            .load()
            .map_err(|failure| sink::refusal_of(&failure))?
            .config
            .dynamic
            .hostname;
        let mut namespaces = Vec::new();
        for bound in &binding.namespaces {
            let chain = self.chains.get(bound.namespace.as_str()).ok_or_else(|| {
                Refusal::new(
                    "not-running",
                    format!("namespace {} is not open", bound.namespace),
                    "see the log of this node",
                )
            })?;
            namespaces.push(PlannedNamespace {
                role: survey::provider_role(&section, &bound.namespace),
                durable: chain.ledger().tips().durable,
                name: bound.namespace.clone(),
            });
        }
        let remotes = (self.remotes)()?;
        Ok(Plan {
            node_id: binding.node_id,
            hostname: binding.hostname.clone(),
            own_hostname: own,
            old,
            new: Incarnation {
                number: old.number + 1,
                id: rand::random(),
            },
            old_addresses: remotes
                .iter()
                .map(|r| format!("{} {}", r.hostname, r.address))
                .collect(),
            namespaces,
        })
    }
}
