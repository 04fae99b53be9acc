//! Promotion as the node drives it: core's preflight on what the world looks like from here, core's steps one after another in virtual
//! time, their effects on the virtual disk; and crashes at any operation between.

mod check;
mod late;
mod sink;
mod survey;
mod tree;

use cvp_core::config::GLOBAL;
use cvp_core::ledger::Ledger;
use cvp_core::planted::{self, Fault};
use cvp_core::promotion::{
    HeldNamespace, Journal, Plan, PlannedNamespace, Step, StepReport, StepState, advance, allowed, begin, next_step,
    preflight,
};
use cvp_core::replication::{Event, Pair};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Millis, NodeRole};

use crate::configuration;
use crate::disk::Hand;
use crate::node::Store;
use crate::world::{D, Ev, World};
use sink::SimSink;

pub use check::Expected;

/// A step and its entry take at most so long on a disk that is not slow.
const STEP_MS: Millis = 30;
/// Operations on the disk until the process dies, at least and at most: anywhere in a promotion, or around its first entry.
const OPERATIONS: [(u64, u64); 2] = [(0, 45), (2, 6)];
/// As many for one that goes on.
const OPERATIONS_RESUMED: u64 = 22;

/// The promotion under way in a process.
pub struct Promotion {
    journal: Journal,
    /// What it begins with; none once it has begun.
    plan: Option<Plan>,
    /// It goes on after a crash; then nothing serves before its end.
    resumed: bool,
    /// Operations left until the process dies.
    left: Option<u64>,
}

impl World {
    /// `cvp upgrade`: the preflight, and if it lets pass, the plan; the steps follow.
    pub fn upgrade(&mut self, node: usize, target_is_down: bool) -> Result<(), String> {
        let machine = &self.nodes[node];
        let idle = machine.pair.is_some() && machine.promotion.is_none();
        if idle && machine.role == Role::Provider {
            return self.upgrade_held(node);
        }
        if !idle || self.now >= self.chaos_until {
            return Ok(());
        }
        let journal = machine.journal()?;
        let view = self.survey(node, target_is_down)?;
        if !allowed(&preflight(&view)) {
            self.counts.upgrades_refused += 1;
            return Ok(());
        }
        self.check_target_is_gone(node);
        self.quiesce(node);
        if self.random.chance(25) {
            // One disk fails at the worst moment: this namespace is held, and the others go on.
            self.nodes[node].stores[1].ledger.fail_next_sync();
        }
        let Some(plan) = self.plan(node)? else {
            return self.attach(node);
        };
        self.counts.held += plan.held.len() as u64;
        self.begin(node, journal, plan)
    }

    fn begin(&mut self, node: usize, journal: Journal, plan: Plan) -> Result<(), String> {
        self.expect_end(node, &plan)?;
        let (least, most) = OPERATIONS[usize::from(self.random.chance(40))];
        let crashes = self.now < self.chaos_until && self.random.chance(60);
        let left = crashes.then(|| self.random.range(least, most));
        self.nodes[node].promotion = Some(Promotion {
            journal,
            plan: Some(plan),
            resumed: false,
            left,
        });
        self.step_later(node);
        Ok(())
    }

    /// A start: whether a promotion is under way, which goes on then.
    pub fn resume(&mut self, node: usize) -> Result<bool, String> {
        let journal = self.nodes[node].journal()?;
        if journal.plan().is_some() {
            self.promotion_begun();
        }
        if planted::active(Fault::ResumeForgotten) {
            return Ok(false);
        }
        if next_step(&journal).is_none() {
            // The crash came after the last entry, before anybody saw it.
            let unseen = journal.plan().is_some() && !self.nodes[node].promoted;
            if unseen {
                self.promotion_done(node, true)?;
            }
            return Ok(unseen);
        }
        self.check_resumed(node, &journal)?;
        let machine = &mut self.nodes[node];
        machine.config = configuration::load(&machine.disk.configuration, true)
            .map_err(|problems| format!("{} cannot be started again: {problems}", machine.name))?;
        let again = self.now < self.chaos_until && self.random.chance(40);
        let left = again.then(|| self.random.range(0, OPERATIONS_RESUMED));
        machine.epoch += 1;
        machine.promotion = Some(Promotion {
            journal,
            plan: None,
            resumed: true,
            left,
        });
        self.step_later(node);
        Ok(true)
    }

    fn step_later(&mut self, node: usize) {
        let epoch = self.nodes[node].epoch;
        let delay = self.disk_delay(node, STEP_MS);
        self.later(delay, Ev::Promote { node, epoch });
    }

    /// The machine stops, its links end, what it wanted written is written: nobody but the promotion touches the stores now.
    pub fn quiesce(&mut self, node: usize) -> Option<Pair> {
        self.end_links(node);
        for what in std::mem::take(&mut self.nodes[node].pending).into_values() {
            self.write(node, &what);
        }
        self.finish_jobs(node);
        self.wire.forget_node(node);
        let machine = &mut self.nodes[node];
        machine.epoch += 1;
        machine.making = false;
        machine.pair.take()
    }

    /// The plan, from chains that nobody writes any more; none when a store does not let itself be synced: the node goes on receiving.
    fn plan(&mut self, node: usize) -> Result<Option<Plan>, String> {
        let id = self.random.id();
        let machine = &self.nodes[node];
        let binding = machine.binding()?.ok_or("a promotion without binding")?;
        let (namespaces, held) = self.planned_namespaces(node)?;
        if held.iter().any(|held| held.name.as_str() == GLOBAL) {
            return Ok(None);
        }
        let remotes = machine.config.dynamic.cvp.remote.iter();
        let plan = Plan::draft(
            &binding,
            machine.config.dynamic.hostname.clone(),
            remotes.map(ToString::to_string).collect(),
            namespaces,
            held,
            id,
        );
        let mut plan = plan.map_err(|refusal| refusal.to_string())?;
        plan.signature = machine.papers.sign(&plan.take_over());
        Ok(Some(plan))
    }

    /// What is taken over, and what is held: of the namespaces copied from the provider, those that its list starts.
    fn planned_namespaces(&self, node: usize) -> Result<(Vec<PlannedNamespace>, Vec<HeldNamespace>), String> {
        let machine = &self.nodes[node];
        let binding = machine.binding()?;
        let started = tree::started_by_provider(&machine.disk);
        let taken = |store: &&Store| {
            let mut bound = binding.iter().flat_map(|binding| &binding.namespaces);
            bound.any(|bound| bound.namespace == store.namespace)
                && started
                    .as_ref()
                    .map_or(true, |started| started.contains(&store.namespace))
        };
        let (mut planned, mut held) = (Vec::new(), Vec::new());
        for store in machine.stores.iter().filter(taken) {
            let (name, role) = (store.namespace.clone(), NodeRole::Vp);
            match machine.runs(&name) && !store.broken && store.ledger.sync().is_ok() {
                true => planned.push(PlannedNamespace {
                    name,
                    role,
                    durable: store.durable(),
                }),
                false => held.push(HeldNamespace::new(name, role, "it is not usable")),
            }
        }
        Ok((planned, held))
    }

    /// The next step of core's machine, on the virtual disk.
    pub fn promote(&mut self, node: usize) -> Result<(), String> {
        let now = self.now;
        let machine = &mut self.nodes[node];
        let Some(promotion) = machine.promotion.as_mut() else {
            return Ok(());
        };
        let mut sink = SimSink {
            hand: Hand {
                disk: &mut machine.disk,
                random: &mut self.random,
                left: &mut promotion.left,
            },
            stores: &mut machine.stores,
            now,
            resumed: promotion.resumed,
            died: false,
        };
        let report = match promotion.plan.take() {
            Some(plan) => Some(begin(&mut promotion.journal, plan, &mut sink)),
            None if promotion.resumed => advance(&mut promotion.journal, &mut sink, StepState::Resumed),
            None => advance(&mut promotion.journal, &mut sink, StepState::Done),
        };
        if sink.died {
            return self.die(node);
        }
        let report = report.ok_or("a promotion under way has no next step")?;
        self.on_step(node, &report)
    }

    fn on_step(&mut self, node: usize, report: &StepReport) -> Result<(), String> {
        let resumed = self.nodes[node].promotion.as_ref().is_some_and(|run| run.resumed);
        if let StepState::Failed(refusal) = &report.state {
            if report.step == Step::Fence {
                // Not begun: it goes on receiving.
                self.nodes[node].promotion = None;
                return self.attach(node);
            }
            // A store that failed takes no more until it is opened again: the operator restarts the node.
            if !["disk-failed", "disk-full"].contains(&refusal.code.as_ref()) {
                return Err(format!(
                    "{}: step {}: {refusal}",
                    self.nodes[node].name,
                    report.step.id()
                ));
            }
            return self.die(node);
        }
        let late = self.nodes[node].journal()?.plan().is_some_and(|plan| plan.late);
        match report.step {
            Step::Fence => self.promotion_begun(),
            Step::Roles if !resumed && late => self.go_on(node)?,
            Step::Roles if !resumed => self.attach(node)?,
            Step::Takeover if !resumed => {
                self.publish(node);
                self.hold(node)?;
            }
            Step::Done => return self.promotion_done(node, resumed),
            _ => {}
        }
        self.step_later(node);
        Ok(())
    }

    fn die(&mut self, node: usize) -> Result<(), String> {
        self.crash(node);
        let delay = self.random.range(20, 4_000);
        self.later(delay, Ev::Restart { node });
        Ok(())
    }

    /// The first entry is durable: from here on the node is on its way, whatever happens. A fresh standby gets ready.
    fn promotion_begun(&mut self) {
        if self.promoted {
            return;
        }
        self.promoted = true;
        self.note_rolled_forward();
        self.note_queue_rolled_forward();
        let delay = self.random.range(10, 3_000);
        self.later(delay, Ev::Restart { node: D });
        if self.now < self.chaos_until && self.random.chance(40) {
            self.island_until = self.chaos_until;
            self.calm_since = self.calm_since.max(self.island_until);
            self.nodes[D].slow_until = self.chaos_until;
        }
    }

    /// The take-over blocks are durable: the running machine hears of them.
    fn publish(&mut self, node: usize) {
        self.note_survivors(node);
        for index in 0..self.namespaces.len() {
            if !self.nodes[node].runs(&self.namespaces[index]) {
                continue;
            }
            let tips = self.nodes[node].stores[index].ledger.tips();
            let event = Event::LocalTip {
                ns: self.namespaces[index].clone(),
                durable: tips.durable,
                applied: tips.applied.height,
            };
            self.step(node, event);
        }
    }

    fn promotion_done(&mut self, node: usize, resumed: bool) -> Result<(), String> {
        self.counts.promotions += 1;
        self.counts.promotions_resumed += u64::from(resumed);
        self.check_end_state(node)?;
        let machine = &mut self.nodes[node];
        (machine.promoted, machine.promotion) = (true, None);
        match machine.pair {
            Some(_) => self.refresh_queues(node),
            None => self.attach(node),
        }
    }
}
