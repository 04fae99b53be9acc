//! What mq-sync strategies are told of the queues, and what becomes of what they say.
//!
//! On the provider a strategy is asked about each registration before it begins as a strong change: it may refuse it, or hold it for a while.
//! On the receiver it says what of the provider's inventory is taken over. The floor: what goes on is strong, and what the provider has the
//! receiver takes; a strategy that would have it otherwise costs its instance what a trap costs, and the default decides.

use std::collections::BTreeSet;

use crate::mq::QueueEdit;
use crate::replication::api::Action;
use crate::replication::control_file::ControlFile;
use crate::replication::pair::Pair;
use crate::replication::strong::{Outcome, Ticket};
use crate::replication::work::Proposal;
use crate::strategy::scrutiny::QueueGround;
use crate::types::strategy::mq_sync::{Action as Advice, KIND, WARNINGS_MAX};
use crate::types::strategy::{Fault, Role};
use crate::types::{Namespace, Refusal};

use super::advisor::{Asked, Calling};
use super::view::BrokerState;
use super::{QueueWork, kept_frame};

/// Changes of one namespace that wait for its strategy, or for the broker.
const ASKED_MAX: usize = 16;

/// A change whose instances faulted so often over it is made: the default, which would make it, is among them.
const ASKS_MAX: u32 = 4;

impl Pair {
    /// Provider: a change of a registry waits for its strategy's word; what none is asked about goes on at once.
    pub(in crate::replication) fn ask_about_queue(&mut self, mut proposal: Proposal) {
        let with_session = self.session.is_some();
        let Some((namespace, edit)) = proposal.queue.take() else {
            return self.begin_change(proposal, with_session);
        };
        let lane = self.lanes.iter_mut().find(|lane| lane.setup.namespace == namespace);
        let Some(lane) = lane else {
            return self.begin_change(proposal, with_session);
        };
        if lane.queues.asked.len() + lane.queues.held.len() >= ASKED_MAX {
            let refusal = Refusal::new("busy", "too many changes wait", "try again in a moment");
            return self.answer_change(proposal.ticket, Outcome::Failed(refusal));
        }
        lane.queues.asked.push(Asked {
            proposal,
            edit,
            with_session,
            faults: 0,
        });
    }

    /// Calls a namespace's strategy if it is owed something and is free.
    pub(in crate::replication) fn pump_queues(&mut self, index: usize) {
        let (now, role) = (self.now, self.setup.role);
        // What it is shown of the own disk must be true.
        let unsettled = role == Role::Receiver && (self.queues.is_due() || !self.changes.is_quiet());
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let (attached, it) = (lane.peer.is_some(), &mut lane.queues);
        let free = it.calling.is_none() && now >= it.desk.quiet_until;
        if !free || !it.looked || unsettled || !(attached || it.alone) {
            return;
        }
        let ns = lane.setup.namespace.clone();
        if let Some(events) = it.call(role, &ns, now, attached) {
            self.out.push(Action::QueueStrategy { ns, events });
        }
    }

    /// A strategy answered.
    pub(in crate::replication) fn on_queue_advice(&mut self, index: usize, result: Result<Vec<Advice>, Fault>) {
        let (now, role) = (self.now, self.setup.role);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let (attached, it) = (lane.peer.is_some(), &mut lane.queues);
        let Some(call) = it.calling.take() else { return };
        let changes: Vec<u64> = call.changes.iter().map(|(id, _)| *id).collect();
        let ground = QueueGround {
            role,
            view: it.view.as_ref(),
            told: call.told,
            changes: &changes,
        };
        let checked = result.and_then(|actions| {
            ground.check(&actions).map(|()| actions).inspect_err(|fault| {
                it.desk.refused += 1;
                self.out.push(Action::StrategyFault {
                    ns: lane.setup.namespace.clone(),
                    kind: KIND,
                    fault: fault.clone(),
                });
            })
        });
        let Ok(actions) = checked else {
            it.desk.on_fault(attached || it.alone, now);
            return self.ask_again(index, call);
        };
        it.desk.fault_streak = 0;
        if call.stale {
            return;
        }
        if call.told {
            it.warnings.clear();
            if role == Role::Receiver && it.heard == call.heard {
                self.align_queues(index, &actions);
            }
        }
        for action in actions {
            self.take_queue_advice(index, &call, action);
        }
    }

    /// Whoever waits is not kept waiting: the next instance is asked, which is the default's.
    fn ask_again(&mut self, index: usize, call: Calling) {
        let mut made = Vec::new();
        for (_, mut asked) in call.changes {
            asked.faults += 1;
            let Some(lane) = self.lanes.get_mut(index) else { return };
            match asked.faults < ASKS_MAX {
                true => lane.queues.asked.push(asked),
                false => made.push(asked),
            }
        }
        for asked in made {
            self.begin_change(asked.proposal, asked.with_session);
        }
    }

    /// Receiver: the provider's registry takes the place of the own one, but for queues that the strategy did not drop.
    fn align_queues(&mut self, index: usize, actions: &[Advice]) {
        let dropped: BTreeSet<&str> = actions
            .iter()
            .filter_map(|action| match action {
                Advice::Drop(names) => Some(names),
                _ => None,
            })
            .flatten()
            .map(String::as_str)
            .collect();
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let (ns, it) = (lane.setup.namespace.clone(), &mut lane.queues);
        let Some(mut registry) = it.theirs.clone() else { return };
        let own = it.local.iter().flat_map(|(own, _)| own.queues().values());
        own.filter(|queue| !dropped.contains(queue.registration.queue.as_str()))
            .for_each(|queue| registry.keep(queue));
        it.aligned = true;
        if it.registry() != Some(&registry) {
            let cursors = it.local.take().map(|(_, cursors)| cursors).unwrap_or_default();
            it.local = Some((registry.clone(), cursors));
            it.kept_told = false;
            self.out.push(Action::Queues(QueueWork::KeepRegistry(ns, registry)));
            self.queues.touch();
        }
        self.write_cursors(index);
    }

    /// Receiver: writes the provider's cursors where that is due.
    pub(super) fn write_cursors(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if let Some(cursors) = lane.queues.take_cursors() {
            let ns = lane.setup.namespace.clone();
            self.out.push(Action::Queues(QueueWork::KeepCursors(ns, cursors)));
        }
    }

    /// Does what was checked.
    fn take_queue_advice(&mut self, index: usize, call: &Calling, action: Advice) {
        let (now, timeout) = (self.now, self.setup.limits.strong_timeout_ms);
        let asked = |change: u64| {
            call.changes
                .iter()
                .find(|(id, _)| *id == change)
                .map(|(_, it)| it.clone())
        };
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let (ns, it) = (lane.setup.namespace.clone(), &mut lane.queues);
        match action {
            Advice::Replicate(change) => {
                if let Some(asked) = asked(change) {
                    self.begin_change(asked.proposal, asked.with_session);
                }
            }
            Advice::Hold(change) => match asked(change) {
                Some(asked) if it.broker.carries() => self.begin_change(asked.proposal, asked.with_session),
                Some(asked) => it.held.push((asked, now.saturating_add(timeout))),
                None => {}
            },
            Advice::Refuse { change, reason } => {
                let hint = format!(
                    "the mq-sync strategy {} of {ns} says so: see strategy.mq-sync in ns_static.toml",
                    it.desk.ours.id
                );
                if let Some(asked) = asked(change) {
                    let refusal = Refusal::new("strategy-refused", reason, hint);
                    self.answer_change(asked.proposal.ticket, Outcome::Failed(refusal));
                }
            }
            // Done together, with the inventory that they are of.
            Advice::Apply(_) | Advice::Drop(_) => {}
            Advice::Warn(text) => {
                if it.warnings.len() < WARNINGS_MAX && !it.warnings.contains(&text) {
                    it.warnings.push(text);
                }
            }
            Advice::Store(bytes) => {
                it.desk.stored.clone_from(&bytes);
                let token = self.next_token();
                let what = ControlFile::Stored { ns, kind: KIND, bytes };
                self.out.push(Action::Persist { token, what });
            }
            Advice::Send(bytes) => self.send_to_half(index, KIND, &bytes),
            Advice::Log(level, text) => {
                let lines = it.desk.lines(level, text, now);
                self.log_lines(&ns, lines);
            }
            Advice::Metric(name, value) => {
                if it.desk.may_gauge(&name) {
                    self.out.push(Action::Metric { ns, name, value });
                }
            }
            Advice::Other(name, _) => it.desk.answer_unknown(&name),
        }
    }

    /// Provider: the broker of a namespace became reachable, or ceased to be.
    pub(super) fn on_broker(&mut self, namespace: &Namespace, broker: BrokerState) {
        // A namespace's first registry is made when its queues are opened.
        self.queues.touch();
        self.each(namespace, |it, index| {
            let Some(lane) = it.lanes.get_mut(index) else { return };
            lane.queues.set_broker(broker);
            if broker.carries() {
                for (asked, _) in std::mem::take(&mut lane.queues.held) {
                    it.begin_change(asked.proposal, asked.with_session);
                }
            }
        });
    }

    /// After each event: what is held for too long, and since when the two ends differ.
    pub(super) fn settle_advisors(&mut self) {
        let now = self.now;
        let mut late: Vec<(Ticket, Refusal)> = Vec::new();
        for lane in &mut self.lanes {
            let it = &mut lane.queues;
            it.differ_since = it.differs().then(|| it.differ_since.unwrap_or(now));
            it.held.retain(|(asked, until)| {
                let due = now >= *until;
                if due {
                    late.push((asked.proposal.ticket, held(&asked.edit, &it.desk.ours.id)));
                }
                !due
            });
        }
        for (ticket, refusal) in late {
            self.answer_change(ticket, Outcome::Failed(refusal));
        }
    }

    /// Receiver: what its disk holds is told to the provider.
    pub(super) fn tell_kept(&mut self, index: usize) {
        let attached = self.session.is_some();
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if attached && lane.peer.is_some() && !lane.queues.kept_told {
            lane.queues.kept_told = true;
            let frame = kept_frame(lane.tag, lane.queues.registry());
            self.send_session(frame);
        }
    }
}

fn held(edit: &QueueEdit, strategy: &str) -> Refusal {
    let name = &edit.queue().registration.queue;
    Refusal::new(
        "queue-held",
        format!("the broker is not reachable, and the mq-sync strategy {strategy} holds queue {name} until it is"),
        "see `cvp mq status`, and call again when the broker is connected",
    )
}
