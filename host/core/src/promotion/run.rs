//! The promotion itself: perform a step, record it, go on. One loop for the first run, for a resumed one and for the dry run.

use super::journal::{Append, Entry, Journal};
use super::plan::{HeldNamespace, Plan};
use super::step::{Step, next_step};
use crate::types::Refusal;

/// Where effects go: the node's disk, chains and sockets; the simulator's; or nowhere ([`DryRun`]).
pub trait Sink {
    /// Performs `step`, durably and idempotently. [`Step::Fence`] has no effect of its own: its journal entry is the effect; it is
    /// called all the same, for checks that belong right before it. Answers what could not be taken over and is to be held; the
    /// others go on.
    fn perform(&mut self, step: Step, plan: &Plan) -> Result<Vec<HeldNamespace>, Refusal>;
    /// Writes `append` into the journal's file and makes it durable (one fdatasync; [`Append::head`], if any, before it).
    fn record(&mut self, step: Step, append: &Append) -> Result<(), Refusal>;
    /// A step has ended; for progress output.
    fn report(&mut self, report: &StepReport);
}

/// A sink that does nothing: the dry run.
#[derive(Clone, Copy, Debug, Default)]
pub struct DryRun;

impl Sink for DryRun {
    fn perform(&mut self, _step: Step, _plan: &Plan) -> Result<Vec<HeldNamespace>, Refusal> {
        Ok(Vec::new())
    }
    fn record(&mut self, _step: Step, _append: &Append) -> Result<(), Refusal> {
        Ok(())
    }
    fn report(&mut self, _report: &StepReport) {}
}

/// How a step ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepState {
    /// Performed by the promotion's first run.
    Done,
    /// Performed by a run that went on after a crash.
    Resumed,
    /// It could not be performed; the promotion stops here and goes on from here at the next try or start.
    Failed(Refusal),
}

impl StepState {
    /// As JSON names it.
    pub fn as_str(&self) -> &'static str {
        match self {
            StepState::Done => "done",
            StepState::Resumed => "resumed",
            StepState::Failed(_) => "failed",
        }
    }
}

/// One line of the answer's `steps`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepReport {
    /// Which.
    pub step: Step,
    /// How it ended.
    pub state: StepState,
}

impl StepReport {
    /// Whether the promotion stopped here.
    pub fn failed(&self) -> bool {
        matches!(self.state, StepState::Failed(_))
    }
}

/// Begins a promotion with `plan` and carries it through. Ends early with a `failed` report when a step cannot be performed; the
/// journal then says where to go on ([`resume`]).
pub fn promote(journal: &mut Journal, plan: Plan, sink: &mut dyn Sink) -> Vec<StepReport> {
    let begun = begin(journal, plan, sink);
    let go_on = !begun.failed();
    let mut reports = vec![begun];
    if go_on {
        run(journal, sink, StepState::Done, &mut reports);
    }
    reports
}

/// Goes on with the promotion that the journal says is under way; empty when none is.
pub fn resume(journal: &mut Journal, sink: &mut dyn Sink) -> Vec<StepReport> {
    let mut reports = Vec::new();
    run(journal, sink, StepState::Resumed, &mut reports);
    reports
}

fn run(journal: &mut Journal, sink: &mut dyn Sink, state: StepState, reports: &mut Vec<StepReport>) {
    while let Some(report) = advance(journal, sink, state.clone()) {
        let failed = report.failed();
        reports.push(report);
        if failed {
            return;
        }
    }
}

/// The first step: the plan goes into the journal, and with it the promise to carry it out.
pub fn begin(journal: &mut Journal, plan: Plan, sink: &mut dyn Sink) -> StepReport {
    let begun = sink
        .perform(Step::Fence, &plan)
        .and_then(|_| record(journal, Entry::Begin(plan), Step::Fence, sink));
    report(sink, Step::Fence, begun, StepState::Done)
}

/// Performs the next step and records it; `state` is how a step that was performed is called. `None` when nothing is under way.
pub fn advance(journal: &mut Journal, sink: &mut dyn Sink, state: StepState) -> Option<StepReport> {
    let (step, plan) = (next_step(journal)?, journal.plan()?.clone());
    #[cfg(feature = "planted-faults")]
    if crate::planted::active(crate::planted::Fault::StepRecordedFirst) {
        let ended = record(journal, Entry::Finished(step), step, sink)
            .and_then(|()| sink.perform(step, &plan))
            .map(|_| ());
        return Some(report(sink, step, ended, state));
    }
    let ended = sink.perform(step, &plan).and_then(|held| {
        // A run before a crash may have said it already.
        let new = held
            .into_iter()
            .filter(|held| journal.held().get(&held.name) != Some(held));
        for held in new.collect::<Vec<_>>() {
            record(journal, Entry::Held(held), step, sink)?;
        }
        record(journal, Entry::Finished(step), step, sink)
    });
    Some(report(sink, step, ended, state))
}

fn record(journal: &mut Journal, entry: Entry, step: Step, sink: &mut dyn Sink) -> Result<(), Refusal> {
    let append = journal.append(&entry).map_err(|error| {
        Refusal::new(
            "promotion-journal",
            error.to_string(),
            "keep system/cvp/promotion.journal and report this",
        )
    })?;
    sink.record(step, &append)?;
    journal.appended(entry, &append);
    Ok(())
}

fn report(sink: &mut dyn Sink, step: Step, ended: Result<(), Refusal>, state: StepState) -> StepReport {
    let report = StepReport {
        step,
        state: ended.map_or_else(StepState::Failed, |()| state),
    };
    sink.report(&report);
    report
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::plan::PlannedNamespace;
    use super::*;
    use crate::types::{Digest, Hostname, Incarnation, Namespace, NodeId, NodeRole, Position};

    pub(in super::super) fn plan() -> Plan {
        Plan {
            node_id: NodeId([7; 16]),
            hostname: Hostname::new("node1").unwrap(),
            own_hostname: Hostname::new("cvp").unwrap(),
            old: Incarnation { number: 1, id: [1; 16] },
            new: Incarnation { number: 2, id: [2; 16] },
            old_addresses: vec!["node1 127.0.0.1:50011".into()],
            namespaces: vec![PlannedNamespace {
                name: Namespace::new("global").unwrap(),
                role: NodeRole::Vp,
                durable: Position {
                    height: 120,
                    hash: Digest::of(b"tip"),
                },
            }],
            held: Vec::new(),
            late: false,
            uncopied: Default::default(),
            signature: vec![5; 70],
        }
    }

    /// A node's disk: the journal's bytes and, per step, the effect it leaves. Stops (crashes) after a number of written bytes.
    struct Disk {
        journal: Vec<u8>,
        effects: Vec<(Step, Plan)>,
        bytes_left: usize,
    }

    impl Sink for Disk {
        fn perform(&mut self, step: Step, plan: &Plan) -> Result<Vec<HeldNamespace>, Refusal> {
            if step != Step::Fence && !self.effects.contains(&(step, plan.clone())) {
                self.effects.push((step, plan.clone()));
            }
            let name = Namespace::new("ns1").map_err(|error| Refusal::new("name", error.to_string(), ""))?;
            let broken = HeldNamespace::new(name, NodeRole::Vp, "its disk failed");
            Ok(Vec::from_iter((step == Step::Takeover).then_some(broken)))
        }
        fn record(&mut self, _step: Step, append: &Append) -> Result<(), Refusal> {
            let written = append.bytes.len().min(self.bytes_left);
            let at = append.offset as usize;
            self.journal[at..at + written].copy_from_slice(&append.bytes[..written]);
            self.bytes_left -= written;
            if written < append.bytes.len() {
                return Err(Refusal::new("crash", "the node stopped", ""));
            }
            Ok(())
        }
        fn report(&mut self, _report: &StepReport) {}
    }

    #[test]
    fn a_crash_after_any_journal_byte_ends_in_the_same_state() {
        let mut whole = Disk {
            journal: vec![0; 4096],
            effects: Vec::new(),
            bytes_left: usize::MAX,
        };
        let reports = promote(&mut Journal::empty(), plan(), &mut whole);
        assert_eq!(reports.len(), Step::ALL.len());
        let length = whole.journal.iter().rposition(|b| *b != 0).unwrap() + 1;
        for crash_at in 0..length {
            let mut disk = Disk {
                journal: vec![0; 4096],
                effects: Vec::new(),
                bytes_left: crash_at,
            };
            promote(&mut Journal::empty(), plan(), &mut disk);
            disk.bytes_left = usize::MAX;
            let mut journal = Journal::read(&disk.journal).unwrap();
            if journal.plan().is_none() {
                // Not begun: the operator's next `upgrade` begins it.
                assert!(disk.effects.is_empty());
                promote(&mut journal, plan(), &mut disk);
            } else {
                let reports = resume(&mut journal, &mut disk);
                assert!(reports.iter().all(|r| r.state == StepState::Resumed));
            }
            assert_eq!(journal.finished(), Some(Step::Done), "crash at {crash_at}");
            assert_eq!(journal.held().len(), 1, "crash at {crash_at}");
            assert_eq!(disk.effects, whole.effects, "crash at {crash_at}");
            assert_eq!(disk.journal, whole.journal, "crash at {crash_at}");
        }
    }

    #[test]
    fn a_failed_step_is_reported_and_gone_on_with() {
        struct NoRoles(bool);
        impl Sink for NoRoles {
            fn perform(&mut self, step: Step, _plan: &Plan) -> Result<Vec<HeldNamespace>, Refusal> {
                if step == Step::Roles && self.0 {
                    return Err(Refusal::new("disk-full", "no room", "free some"));
                }
                Ok(Vec::new())
            }
            fn record(&mut self, _step: Step, _append: &Append) -> Result<(), Refusal> {
                Ok(())
            }
            fn report(&mut self, _report: &StepReport) {}
        }
        let mut journal = Journal::empty();
        let reports = promote(&mut journal, plan(), &mut NoRoles(true));
        assert_eq!(reports.last().unwrap().state.as_str(), "failed");
        assert_eq!(next_step(&journal), Some(Step::Roles));
        let reports = resume(&mut journal, &mut NoRoles(false));
        assert_eq!(reports.first().unwrap().step, Step::Roles);
        assert_eq!(next_step(&journal), None);
        assert!(resume(&mut journal, &mut DryRun).is_empty());
    }
}
