//! The steps' effects on the real node. Each is idempotent; what was done before a crash is recognised and left alone.

use std::sync::Arc;
use std::time::Instant;

use cvp_core::chain::takeover_delta;
use cvp_core::promotion::{Append, Plan, PlannedNamespace, Sink, Step, StepReport, configuration_edits};
use cvp_core::record::{self, Delta};
use cvp_core::session::Identity;
use cvp_core::types::{NodeRole, Refusal};

use super::journal::JournalFile;
use super::plan::lineage_of;
use super::points::CrashPoint;
use super::{Ground, StepView, Tell, UpgradeLine};
use crate::failure::Failure;
use crate::namespace::{Chain, ChainError};
use crate::replication::FileError;

/// Does what the steps say.
pub(super) struct NodeSink<'a> {
    pub(super) ground: &'a Ground,
    pub(super) journal: JournalFile,
    pub(super) crash: CrashPoint,
    pub(super) progress: &'a Tell,
    /// When the take-over blocks were durable and applied.
    pub(super) taken_over: Option<Instant>,
}

impl Sink for NodeSink<'_> {
    fn perform(&mut self, step: Step, plan: &Plan) -> Result<(), Refusal> {
        self.crash.before(step);
        match step {
            Step::Fence | Step::Done => Ok(()),
            Step::Identity => self.identity(plan),
            Step::Configuration => self.configuration(plan),
            Step::Roles => self.ground.hooks.role_changed(plan),
            Step::Takeover => self.takeover(plan),
            Step::Serve => self.ground.hooks.serve(plan),
        }?;
        if step == Step::Takeover {
            self.taken_over = Some(Instant::now());
        }
        self.crash.between(step);
        Ok(())
    }

    fn record(&mut self, step: Step, append: &Append) -> Result<(), Refusal> {
        self.journal.record(append)?;
        self.crash.after(step);
        Ok(())
    }

    fn report(&mut self, report: &StepReport) {
        let view = StepView::from(report);
        tracing::info!(step = %view.id, state = %view.state, "upgrade: {}", view.message);
        (self.progress)(UpgradeLine::Step(view));
    }
}

impl NodeSink<'_> {
    /// The provider's node-id and its lineage with this promotion's incarnation; then the binding goes.
    fn identity(&self, plan: &Plan) -> Result<(), Refusal> {
        let files = &self.ground.files;
        let file = |error: FileError| error.refusal();
        let done = files
            .identity()
            .map_err(file)?
            .is_some_and(|own| own.lineage.current() == Some(plan.new));
        if !done {
            let binding = files.binding().map_err(file)?.ok_or_else(|| {
                Refusal::new(
                    "not-bound",
                    "this node is bound to no provider",
                    "see the check backup-complete",
                )
            })?;
            let lineage = lineage_of(&binding, plan)?;
            files
                .write_identity(&Identity {
                    node_id: plan.node_id,
                    lineage,
                })
                .map_err(file)?;
        }
        files.remove_binding().map_err(file)
    }

    fn configuration(&self, plan: &Plan) -> Result<(), Refusal> {
        for edit in configuration_edits(plan) {
            self.ground
                .root
                .edit(&edit.file, edit.key, edit.value)
                .map_err(|failure| refusal_of(&failure))?;
        }
        Ok(())
    }

    fn takeover(&self, plan: &Plan) -> Result<(), Refusal> {
        for namespace in plan.namespaces.iter().filter(|ns| ns.role == NodeRole::Vp) {
            let chain = self.ground.chains.get(namespace.name.as_str()).ok_or_else(|| {
                let text = format!("namespace {} is not open", namespace.name);
                Refusal::new("not-running", text, "see the log of this node")
            })?;
            take_over(&chain, plan, namespace).map_err(|error| error.refusal())?;
        }
        Ok(())
    }
}

/// Makes the take-over block, unless a run before a crash made it, and goes on making blocks.
fn take_over(chain: &Arc<Chain>, plan: &Plan, namespace: &PlannedNamespace) -> Result<(), ChainError> {
    if matches!(chain.state(), crate::namespace::ChainState::Making { .. }) {
        return Ok(());
    }
    let ledger = |source| ChainError::Ledger {
        namespace: namespace.name.clone(),
        source,
    };
    let below = namespace.durable.height;
    let made = match chain.ledger().record(below + 1).map_err(ledger)? {
        Some(bytes) => record::parse(&bytes).is_ok_and(|record| record.header().incarnation == plan.new),
        None => false,
    };
    let delta = (!made).then(|| Delta(takeover_delta(plan.old, plan.new, below)));
    chain.begin_making(plan.hostname.clone(), plan.new, delta).map(|_| ())
}

/// A failure of a command as a refusal of a step.
pub(super) fn refusal_of(failure: &Failure) -> Refusal {
    Refusal {
        code: failure.code.clone().into(),
        text: failure.message.clone(),
        hint: failure.help.clone(),
    }
}
