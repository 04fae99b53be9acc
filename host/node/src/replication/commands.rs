//! What the handle asks of the task.

use cvp_core::replication::{
    BrokerState, ChangeEvent, Event, Limits, Outcome, Pair, PairStatus, Passed, Proposal, QueueEvent, Setup,
};
use cvp_core::types::strategy::config_sync::Edit;
use cvp_core::types::{Millis, Namespace, Refusal};
use tokio::sync::oneshot;

use super::archivist::Archivist;
use super::driver::Driver;
use super::tree::TreeWorker;
use super::worker::Worker;
use super::{Standing, StrategyHandles, Wish};
use crate::telemetry::pair as telemetry;

/// What the handle asks.
pub(super) enum Command {
    Status(oneshot::Sender<(PairStatus, Millis)>),
    Followers(oneshot::Sender<Vec<(PairStatus, Millis)>>),
    Enable(bool, oneshot::Sender<()>),
    Propose(Wish, oneshot::Sender<Outcome>),
    PassOn(Namespace, bytes::Bytes, oneshot::Sender<Passed>),
    Weigh(Edit, oneshot::Sender<bool>),
    Limits(Limits, oneshot::Sender<()>),
    QueuesMoved(oneshot::Sender<()>),
    /// A queue waits until the standby has its cursor.
    QueuesAwaited(oneshot::Sender<()>),
    Brokers(Vec<(Namespace, BrokerState)>, oneshot::Sender<()>),
    Held(Vec<(Namespace, Refusal)>, oneshot::Sender<()>),
    /// Ends every link and every answer of the machine; from here on nobody but the caller writes the ledgers.
    Quiesce(oneshot::Sender<()>),
    /// A machine of another role, or of other namespaces, in the place of this one.
    Become(Box<Setup>, StrategyHandles, oneshot::Sender<()>),
    Shutdown(oneshot::Sender<()>),
}

/// The page of metrics says how the pair is as it was at most so long ago.
const MEASURE_MS: Millis = 1_000;

impl Driver {
    /// Renews what the page of metrics says of the pair. A follower's machine says nothing: its namespaces are the pair's as well.
    pub(super) fn measure(&mut self) {
        let now = self.now();
        if !self.running || self.environment.tree.is_none() || now.saturating_sub(self.measured_at) < MEASURE_MS {
            return;
        }
        self.measured_at = now;
        telemetry::pair(&self.pair.status(now));
        for (ns, strategies) in &self.strategies {
            for (kind, cost) in strategies.costs() {
                telemetry::strategy(ns, kind, (cost.calls, cost.nanos, cost.restarts));
            }
        }
    }

    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Status(answer) => {
                let now = self.now();
                let _ = answer.send((self.pair.status(now), now));
            }
            Command::Followers(answer) => {
                let _ = answer.send(self.served.statuses());
            }
            Command::Enable(enabled, done) => {
                self.feed(Event::SetEnabled(enabled));
                let _ = done.send(());
            }
            Command::Propose(wish, answer) => {
                self.tickets += 1;
                self.clients.insert(self.tickets, answer);
                let proposal = Proposal {
                    ticket: self.tickets,
                    kind: wish.kind.to_owned(),
                    body: wish.body,
                    note: wish.note,
                    must_replicate: wish.must_replicate,
                    queue: wish.queue,
                };
                self.feed(Event::Change(ChangeEvent::Proposed(proposal)));
            }
            Command::PassOn(ns, transaction, answer) => {
                self.tickets += 1;
                let ticket = self.tickets;
                self.passing.insert(ticket, answer);
                self.feed(Event::PassOn {
                    ticket,
                    ns,
                    transaction,
                });
            }
            Command::Weigh(edit, answer) => {
                self.tickets += 1;
                self.weighing.insert(self.tickets, answer);
                self.feed(Event::Change(ChangeEvent::Weigh(self.tickets, edit)));
            }
            Command::Limits(limits, done) => {
                self.feed(Event::SetLimits(limits));
                let _ = done.send(());
            }
            Command::QueuesMoved(done) => {
                self.feed(Event::Queues(QueueEvent::Touched));
                let _ = done.send(());
            }
            Command::QueuesAwaited(done) => {
                self.feed(Event::Queues(QueueEvent::Awaited));
                let _ = done.send(());
            }
            Command::Brokers(brokers, done) => {
                self.tell_brokers(brokers);
                let _ = done.send(());
            }
            Command::Held(held, done) => {
                self.feed(Event::Held(held));
                let _ = done.send(());
            }
            Command::Quiesce(done) => {
                self.running = false;
                self.watch = None;
                self.epoch += 1;
                self.links.close_all();
                self.served.clear();
                self.followers.drain(..).for_each(|task| task.abort());
                self.pending.clear();
                // What a worker has begun may still append, and a binding on its way to the disk would come back after its removal: the
                // caller waits for the end of both, this task does not.
                let workers: Vec<Worker> = self.workers.drain().map(|(_, worker)| worker).collect();
                let archivist = self.archivist.take();
                let written = self.environment.writer.flushed();
                let swapped = self.environment.tree.as_ref().map(TreeWorker::flushed);
                tokio::task::spawn_blocking(move || {
                    workers.into_iter().for_each(Worker::end);
                    archivist.into_iter().for_each(Archivist::end);
                    let _ = written.blocking_recv();
                    let _ = swapped.map(oneshot::Receiver::blocking_recv);
                    let _ = done.send(());
                });
            }
            Command::Become(setup, strategies, done) => {
                self.strategies = strategies;
                self.epoch += 1;
                self.watch = None;
                // Whoever waits hears that nobody knows.
                self.clients.clear();
                self.weighing.clear();
                self.passing.clear();
                self.links.close_all();
                self.served.clear();
                self.followers.drain(..).for_each(|task| task.abort());
                self.pair = if self.role == setup.role {
                    Pair::in_place_of(&self.pair, *setup)
                } else {
                    self.role = setup.role;
                    Pair::new(*setup)
                };
                self.running = true;
                // A chain may be another one of the same name.
                self.copies.clear();
                self.standing.send_replace(Standing::default());
                self.begin();
                let _ = done.send(());
            }
            Command::Shutdown(done) => drop(done),
        }
    }
}
