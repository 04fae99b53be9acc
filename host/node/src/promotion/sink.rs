//! The steps' effects on the real node. Each is idempotent; what was done before a crash is recognised and left alone.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cvp_core::config::GLOBAL;
use cvp_core::ledger::LedgerError;
use cvp_core::promotion::{
    Append, HeldNamespace, Plan, PlannedNamespace, Sink, Step, StepReport, promoted_identity, takeover_changes,
};
use cvp_core::record;
use cvp_core::types::{Incarnation, NodeRole, Refusal};

use super::journal::JournalFile;
use super::{Ground, StepView, Tell, UpgradeLine};
use super::{points, tree};
use crate::crash_point::CrashPoint;
use crate::failure::Failure;
use crate::namespace::Chain;
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
    fn perform(&mut self, step: Step, plan: &Plan) -> Result<Vec<HeldNamespace>, Refusal> {
        points::before(&self.crash, step);
        let mut held = Vec::new();
        match step {
            Step::Fence | Step::Done => {}
            Step::Identity => self.identity(plan)?,
            Step::Configuration => self.configuration(plan)?,
            Step::Roles => self.ground.hooks.role_changed(plan)?,
            Step::Takeover => held = self.takeover(plan)?,
            Step::Serve => self.ground.hooks.serve(plan)?,
        }
        if step == Step::Takeover {
            self.taken_over = Some(Instant::now());
        }
        points::between(&self.crash, step);
        Ok(held)
    }

    fn record(&mut self, step: Step, append: &Append) -> Result<(), Refusal> {
        self.journal.record(append)?;
        points::after(&self.crash, step);
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
        let (own, binding) = (files.identity().map_err(file)?, files.binding().map_err(file)?);
        if let Some(identity) = promoted_identity(plan, own.as_ref(), binding.as_ref())? {
            files.write_identity(&identity).map_err(file)?;
        }
        files.remove_binding().map_err(file)
    }

    fn configuration(&self, plan: &Plan) -> Result<(), Refusal> {
        match plan.late {
            false => tree::take_over(&self.ground.root, &self.ground.files, plan),
            true => tree::start_late(&self.ground.root, plan),
        }
    }

    /// What cannot be taken over is held, and the others go on; without `global` there is no node.
    fn takeover(&self, plan: &Plan) -> Result<Vec<HeldNamespace>, Refusal> {
        let mut held = Vec::new();
        for namespace in &plan.namespaces {
            match self.take_one_over(plan, namespace) {
                Err(refusal) if namespace.name.as_str() == GLOBAL => return Err(refusal),
                Err(refusal) => {
                    tracing::error!(namespace = %namespace.name, "the namespace is not taken over: {refusal}");
                    held.push(HeldNamespace::new(namespace.name.clone(), namespace.role, refusal.text));
                }
                Ok(()) => {}
            }
        }
        if !held.is_empty() {
            self.ground.hooks.hold(&held)?;
        }
        Ok(held)
    }

    fn take_one_over(&self, plan: &Plan, namespace: &PlannedNamespace) -> Result<(), Refusal> {
        let chain = self.ground.chains.get(namespace.name.as_str());
        let chain = chain.ok_or_else(|| self.ground.not_open(&namespace.name))?;
        match namespace.role {
            NodeRole::Vp => take_over(&chain, plan, namespace),
            // It follows, as it did.
            NodeRole::Nvp | NodeRole::Cvp => Ok(()),
        }
    }
}

/// Makes the take-over block, unless a run before a crash made it, and goes on making blocks.
fn take_over(chain: &Arc<Chain>, plan: &Plan, namespace: &PlannedNamespace) -> Result<(), Refusal> {
    if matches!(chain.state(), crate::namespace::ChainState::Making { .. }) {
        return Ok(());
    }
    let ledger = |error: LedgerError| error.refusal();
    let height = namespace.durable.height;
    let below = chain.ledger().hash_at(height).map_err(ledger)?;
    let above = chain.ledger().record(height + 1).map_err(ledger)?;
    let above = above.map(|bytes| incarnation_of(&bytes)).transpose()?;
    let changes = takeover_changes(plan, namespace, below, above)?;
    let begun = chain.begin_making(plan.hostname.clone(), plan.new, changes);
    begun.map(|_| ()).map_err(|error| error.refusal())
}

fn incarnation_of(record: &Bytes) -> Result<Incarnation, Refusal> {
    let record = record::parse(record)
        .map_err(|error| Refusal::new("bad-record", error.to_string(), "run `cvp verify` on this node"))?;
    Ok(record.header().incarnation)
}

/// A failure of a command as a refusal of a step.
pub(super) fn refusal_of(failure: &Failure) -> Refusal {
    Refusal {
        code: failure.code.clone().into(),
        text: failure.message.clone(),
        hint: failure.help.clone(),
    }
}
