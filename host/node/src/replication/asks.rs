//! What the driver asks of others and is answered later: strategies, and hashes in the ledgers.

use bytes::Bytes;
use cvp_core::replication::{BrokerState, ConnId, Event, QueueEvent};
use cvp_core::types::strategy::{Fault, chain_sync, config_sync, index_check, mq_sync};
use cvp_core::types::{Digest, Namespace, Position};

use super::driver::{Driver, Inbound};
use super::strategies::{Hosted, Order, StrategyHandle};
use super::worker::{Job, Wanted};
use crate::namespace::ChainSet;
use crate::telemetry::pair as telemetry;

/// A run up to this size is appended and made durable by one thread in one go, where no other is on its way to the disk: a block of the live
/// tail. Longer ones are checked while those before them are written.
const AT_ONCE_BYTES_MAX: usize = 512 << 10;

impl Driver {
    pub(super) fn order_strategy(&self, ns: &Namespace, kind: &str, order: Order) {
        if let Some(Err(fault)) = self.strategies.get(ns).map(|strategies| strategies.order(kind, order)) {
            tracing::warn!(namespace = %ns, fault = %fault.text, "switch strategy");
        }
    }

    pub(super) fn ask_strategy(&self, ns: Namespace, events: Vec<chain_sync::Event>) {
        let handle = self.strategies.get(&ns).map(|strategies| strategies.chain_sync.clone());
        self.ask(handle, events, move |result| Event::Strategy { ns, result });
    }

    pub(super) fn ask_config_strategy(&self, ns: Namespace, events: Vec<config_sync::Event>) {
        let handle = self
            .strategies
            .get(&ns)
            .map(|strategies| strategies.config_sync.clone());
        self.ask(handle, events, move |result| Event::ConfigStrategy { ns, result });
    }

    pub(super) fn ask_index_strategy(&self, ns: Namespace, events: Vec<index_check::Event>) {
        let handle = self
            .strategies
            .get(&ns)
            .map(|strategies| strategies.index_check.clone());
        self.ask(handle, events, move |result| Event::IndexStrategy { ns, result });
    }

    pub(super) fn ask_queue_strategy(&self, ns: Namespace, events: Vec<mq_sync::Event>) {
        let handle = self.strategies.get(&ns).map(|strategies| strategies.mq_sync.clone());
        self.ask(handle, events, move |result| Event::QueueStrategy { ns, result });
    }

    fn ask<K: Hosted>(
        &self,
        handle: Option<StrategyHandle<K>>,
        events: Vec<K::Event>,
        answer: impl FnOnce(Result<Vec<K::Action>, Fault>) -> Event + Send + 'static,
    ) {
        let (answers, epoch) = (self.inbound.clone(), self.epoch);
        tokio::spawn(async move {
            // The frames of the same step are written first: an acknowledgement among them.
            tokio::task::yield_now().await;
            let result = match handle {
                Some(handle) => handle.handle(events).await,
                None => Err(Fault::new("not-running", "the namespace has no strategy")),
            };
            let _ = answers.send(Inbound::Core(epoch, answer(result))).await;
        });
    }

    pub(super) fn look_up(&mut self, conn: ConnId, wanted: Vec<(Namespace, u64)>) {
        let chains: ChainSet = self.environment.chains.clone();
        let (answers, epoch) = (self.inbound.clone(), self.epoch);
        tokio::task::spawn_blocking(move || {
            let found = hashes(&chains, wanted);
            let _ = answers.blocking_send(Inbound::Core(epoch, Event::Found { conn, found }));
        });
    }

    /// Has a run checked and appended.
    pub(super) fn ingest(&mut self, ns: &Namespace, parent: Position, bytes: Bytes, tail: bool) {
        let durably = tail && bytes.len() <= AT_ONCE_BYTES_MAX && !self.syncing.contains(ns);
        self.queue(ns, Job::Ingest { parent, bytes, durably });
    }

    /// Has a run read and queued for the link.
    pub(super) fn read(&mut self, ns: &Namespace, wanted: Wanted) {
        match self.read_at_once(ns, &wanted) {
            Some(done) => self.pending.push_back(done),
            None => self.queue(ns, Job::Read(wanted)),
        }
    }

    /// Reads what is in memory and queues its frame: a block of the live tail waits for no other thread. `None`: a thread that may wait does.
    fn read_at_once(&self, ns: &Namespace, wanted: &Wanted) -> Option<Event> {
        let chain = self.environment.chains.get(ns.as_str())?;
        let run = chain
            .ledger()
            .read_at_once(wanted.first, wanted.last, wanted.bytes_max)?;
        let bytes = run.bytes.len() as u64;
        let (frame, done) = wanted.found(ns, run);
        if !wanted.link.send_now(frame) {
            return None;
        }
        telemetry::sent(ns, bytes);
        Some(done)
    }

    /// How each namespace's broker is reached.
    pub(super) fn tell_brokers(&mut self, brokers: Vec<(Namespace, BrokerState)>) {
        for (namespace, broker) in &brokers {
            self.feed(Event::Queues(QueueEvent::Broker(namespace.clone(), *broker)));
        }
        self.brokers = brokers;
    }

    /// Tells the chains what a standby holds of them, when that changed; `alone`: of the only namespace that an event concerned.
    pub(super) fn publish_copies(&mut self, alone: Option<usize>) {
        if self.environment.tree.is_none() {
            // The machine of a follower knows nothing of this node's standby.
            return;
        }
        for (namespace, copy) in self.pair.copies(alone) {
            if self.copies.get(namespace) == Some(&copy) {
                continue;
            }
            if let Some(chain) = self.environment.chains.get(namespace.as_str()) {
                chain.copy_holds(copy);
            }
            self.copies.insert(namespace.clone(), copy);
        }
        if alone.is_some() {
            return;
        }
        let queues = &self.environment.queues;
        self.pair
            .cursors_kept()
            .for_each(|(ns, kept)| queues.standby_holds(ns, kept));
    }
}

/// The own hash at each height. One that cannot be read is a height without record: the handshake refuses it in words.
pub(super) fn hashes(chains: &ChainSet, wanted: Vec<(Namespace, u64)>) -> Vec<(Namespace, Option<Digest>)> {
    let hash = |(ns, height): (Namespace, u64)| {
        let chain = chains.get(ns.as_str());
        let found = chain.and_then(|chain| chain.ledger().hash_at(height).ok().flatten());
        (ns, found)
    };
    wanted.into_iter().map(hash).collect()
}
