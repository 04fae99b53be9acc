//! What the node's driver does, in the small: carries out actions on virtual disks and links, and answers.

use bytes::Bytes;
use cvp_core::frame::{Frame, Kind, NamespaceTag};
use cvp_core::ledger::Ledger;
use cvp_core::planted::{self, Fault};
use cvp_core::record::namespace_digest;
use cvp_core::replication::{Action, ChangeWork, ControlFile, DialPurpose, Event, NotIngested, Pair, ingest};
use cvp_core::types::strategy::{Role, config_sync, index_check, mq_sync};
use cvp_core::types::{Millis, Namespace, Position};

use crate::chain::{self, Maker};
use crate::queues::QUEUE_TICKETS;
use crate::tree::Job;
use crate::world::{A, B, Ev, F, G, Read, World};

/// How often a maker looks whether the promotion of its node is done.
const PROMOTION_POLL_MS: Millis = 20;
/// The word of an append is on its way to the machine for so long at most.
const WORD_MS_MAX: Millis = 40;

impl World {
    pub fn act(&mut self, node: usize, action: Action) {
        let epoch = self.nodes[node].epoch;
        match action {
            Action::Dial { purpose } => self.dial(node, purpose),
            Action::Send { conn, frame } => {
                self.check_sent(node, &frame);
                self.note_change_frame(node, conn, &frame);
                self.send(node, conn, Some(frame));
            }
            Action::Close { conn, refusal } => {
                self.note_close(node, conn, refusal.as_ref());
                self.send(node, conn, None);
            }
            Action::Read {
                conn,
                ns,
                stream,
                first,
                last,
                bytes_max,
            } => {
                let read = Read {
                    conn,
                    ns,
                    stream,
                    first,
                    last,
                    bytes_max,
                };
                self.check_credit(node, &read);
                let delay = self.disk_delay(node, 3);
                self.later(delay, Ev::Read { node, epoch, read });
            }
            Action::LookUp { conn, wanted } => {
                let stores = &mut self.nodes[node];
                let found = wanted
                    .into_iter()
                    .map(|(ns, height)| {
                        let hash = stores
                            .store(&ns)
                            .and_then(|store| store.ledger.hash_at(height).ok().flatten());
                        (ns, hash)
                    })
                    .collect();
                let delay = self.random.range(0, 5);
                self.later(
                    delay,
                    Ev::Host {
                        node,
                        epoch,
                        event: Event::Found { conn, found },
                    },
                );
            }
            Action::Ingest { ns, parent, bytes, .. } => {
                let delay = self.disk_delay(node, 4);
                self.later(
                    delay,
                    Ev::Ingest {
                        node,
                        epoch,
                        ns,
                        parent,
                        bytes,
                    },
                );
            }
            Action::Sync { ns } => {
                let delay = self.disk_delay(node, 30);
                self.later(
                    delay,
                    Ev::Sync {
                        node,
                        epoch,
                        ns,
                        micros: delay * 1000,
                    },
                );
            }
            Action::Archive { ns, work } => self.archive_later(node, ns, work),
            Action::Probe { ns, bytes } => self.probe(node, ns, bytes),
            Action::Strategy { ns, events } => self.advise(node, &ns, events),
            Action::Persist { token, what } => {
                self.nodes[node].pending.insert(token, what.clone());
                let delay = self.disk_delay(node, 30);
                self.later(
                    delay,
                    Ev::Written {
                        node,
                        epoch,
                        token,
                        what,
                    },
                );
            }
            Action::AllowMaking => {
                self.nodes[node].making = true;
                self.later(0, Ev::Make { node, epoch });
            }
            Action::Fence { .. } => {
                self.counts.fences += 1;
                self.nodes[node].making = false;
            }
            Action::NoticeTaken { address, claim } => self.check_notice_taken(&address, &claim),
            Action::Attached { .. } if node == G => self.check_followed(),
            Action::Attached { .. } => self.check_attached(node),
            Action::HandOver {
                conn,
                peer,
                hello,
                setup,
            } => self.hand_over(node, conn, Event::Accepted { conn, peer }, hello, *setup),
            Action::Dismiss { conn, refusal } => self.dismiss(node, conn, Pair::dismiss(&refusal)),
            Action::Acknowledged { ns, durable } => self.check_acknowledged(node, &ns, durable),
            Action::ConfigStrategy { ns, events } => self.advise_files(node, &ns, events),
            Action::StrategyFault { ns, kind, .. } if kind == config_sync::KIND => self.reopen_files(node, &ns),
            Action::IndexStrategy { ns, events } => self.advise_index(node, &ns, events),
            Action::StrategyFault { ns, kind, .. } if kind == index_check::KIND => self.reopen_index(node, &ns),
            Action::QueueStrategy { ns, events } => self.advise_queues(node, &ns, events),
            Action::StrategyFault { ns, kind, .. } if kind == mq_sync::KIND => self.reopen_queues(node, &ns),
            Action::Queues(work) => self.queue_job(node, Job::Queues(work)),
            Action::StrategyFault { ns, .. } => self.reopen_strategy(node, &ns),
            Action::Tree(work) => self.queue_job(node, Job::Tree(work)),
            Action::Change(ChangeWork::Answer(ticket, outcome)) if ticket >= QUEUE_TICKETS => {
                self.check_queue_answer(node, ticket, outcome);
            }
            Action::Change(ChangeWork::Answer(ticket, outcome)) => {
                self.check_answer(node, ticket, outcome);
                self.switch_later(node);
            }
            Action::Change(work) => self.queue_job(node, Job::Change(work)),
            Action::Log { text, .. } => self.note_log(node, &text),
            Action::UseDefault { .. }
            | Action::StrategyLeft { .. }
            | Action::Metric { .. }
            // No client sends anything here.
            | Action::Submit { .. }
            | Action::PassedOn { .. } => {}
            Action::Align { missing, extra } => {
                let delay = self.disk_delay(node, 30);
                self.later(
                    delay,
                    Ev::Align {
                        node,
                        epoch,
                        missing,
                        extra,
                    },
                );
            }
        }
    }

    fn dial(&mut self, node: usize, purpose: DialPurpose) {
        let epoch = self.nodes[node].epoch;
        let remote = self.nodes[node].remote();
        let target = match &purpose {
            DialPurpose::Session if node == B && self.now < self.alias_until => Some(F),
            // Either may be the VP, and is asked in turn; in the chaos also one of them time and again.
            DialPurpose::Session if node == G => {
                let again = self.now < self.chaos_until && self.random.chance(50);
                self.follower_asks_a ^= !again;
                Some(if self.follower_asks_a { A } else { B })
            }
            DialPurpose::Session => remote.and_then(|remote| self.node_at(&remote.address)),
            DialPurpose::Question { address } | DialPurpose::Notice { address } => self.node_at(address),
        };
        // A dial into a cut network hangs, one to a dead machine fails fast.
        let delay = if self.is_partitioned() {
            2_000
        } else {
            self.random.range(1, 20)
        };
        self.later(
            delay,
            Ev::Connect {
                node,
                epoch,
                purpose,
                target,
            },
        );
    }

    pub fn disk_delay(&mut self, node: usize, most: Millis) -> Millis {
        if self.now < self.nodes[node].slow_until {
            return self.random.range(200, 4_000);
        }
        self.random.range(0, most)
    }

    /// Room on a full disk is seen when its time has come.
    fn probe(&mut self, node: usize, ns: Namespace, bytes: u64) {
        let (now, epoch) = (self.now, self.nodes[node].epoch);
        let Some(store) = self.nodes[node].store(&ns) else {
            return;
        };
        if now >= store.full_until {
            store.ledger.set_full(false);
        }
        if store.ledger.room(bytes).is_ok() {
            let appended = store.ledger.tips().appended;
            self.counts.recovered += 1;
            let event = Event::StoreRecovered { ns, appended };
            self.later(1, Ev::Host { node, epoch, event });
        }
    }

    pub fn ingest(&mut self, node: usize, ns: &Namespace, parent: Position, bytes: Bytes) {
        let size = bytes.len() as u64;
        let Some(store) = self.nodes[node].store(ns) else {
            return;
        };
        let event = match ingest(&store.ledger, &namespace_digest(ns), parent, bytes, || ()) {
            Ok(tip) => {
                self.check_appended(node, ns, tip);
                Event::Ingested {
                    ns: ns.clone(),
                    tip,
                    bytes: size,
                    micros: 100,
                }
            }
            Err(NotIngested::Peer(refusal)) => {
                self.counts.rejected += 1;
                Event::Rejected {
                    ns: ns.clone(),
                    refusal,
                }
            }
            Err(NotIngested::Store(refusal)) => {
                store.broken = refusal.code != "disk-full";
                Event::StoreFailed {
                    ns: ns.clone(),
                    refusal,
                }
            }
        };
        // Threads of their own append and sync: what a sync covers may be told before the append that it covers.
        let (epoch, delay) = (self.nodes[node].epoch, self.random.range(0, WORD_MS_MAX));
        self.later(delay, Ev::Host { node, epoch, event });
    }

    pub fn sync(&mut self, node: usize, ns: &Namespace, micros: u64) {
        let now = self.now;
        let Some(store) = self.nodes[node].store(ns) else {
            return;
        };
        let done = store
            .ledger
            .sync()
            .and_then(|durable| Ok((durable, store.ledger.apply()?)));
        let event = match done {
            Ok((durable, applied)) => {
                store.history.push((now, durable.height));
                self.check_sum(node, ns);
                Event::Synced {
                    ns: ns.clone(),
                    durable,
                    applied: applied.height,
                    micros,
                }
            }
            Err(error) => {
                store.broken = true;
                Event::StoreFailed {
                    ns: ns.clone(),
                    refusal: error.refusal(),
                }
            }
        };
        self.step(node, event);
    }

    pub fn read(&mut self, node: usize, read: Read) {
        let Some(store) = self.nodes[node].store(&read.ns) else {
            return;
        };
        match store.ledger.read(read.first, read.last, read.bytes_max) {
            Err(error) => {
                let refusal = error.refusal();
                self.step(node, Event::StoreFailed { ns: read.ns, refusal });
            }
            Ok(run) => {
                let mut bytes = run.bytes;
                let length = bytes.len() as u64;
                self.note_sent(&read, run.last, length);
                if let Some(how) = self.tamper_next.take() {
                    self.counts.tampered += 1;
                    bytes = chain::tamper(&bytes, how, &mut self.random);
                }
                let frame = Frame::of(Kind::Records, NamespaceTag::of(&read.ns), read.stream, bytes);
                self.send(node, read.conn, Some(frame));
                let Read {
                    conn,
                    ns,
                    stream,
                    first,
                    ..
                } = read;
                self.step(
                    node,
                    Event::ReadDone {
                        conn,
                        ns,
                        stream,
                        first,
                        last: run.last,
                        bytes: length,
                    },
                );
            }
        }
    }

    /// A block in each namespace, and when the next ones come.
    pub fn make(&mut self, node: usize) -> Result<(), String> {
        let epoch = self.nodes[node].epoch;
        if !self.nodes[node].making || self.is_still() || node == F {
            return Ok(());
        }
        if self.nodes[node].promotion.is_some() {
            // The take-over block comes first.
            self.later(PROMOTION_POLL_MS, Ev::Make { node, epoch });
            return Ok(());
        }
        self.check_may_make(node);
        let every = self.nodes[node].making_every;
        for index in 0..self.namespaces.len() {
            if self.nodes[node].runs(&self.namespaces[index]) {
                self.make_block(node, index)?;
            }
        }
        let delay = self.random.range(every / 2, every * 2);
        self.later(delay, Ev::Make { node, epoch });
        Ok(())
    }

    fn make_block(&mut self, node: usize, index: usize) -> Result<(), String> {
        let (epoch, now) = (self.nodes[node].epoch, self.now);
        let hostname = self.nodes[node].hostname.clone();
        let incarnation = self.nodes[node]
            .identity()?
            .lineage
            .current()
            .ok_or("a provider without incarnation")?;
        let store = &mut self.nodes[node].stores[index];
        if store.broken {
            return Ok(());
        }
        let ns = store.namespace.clone();
        if store.maker.is_none() {
            store.maker = Some(Maker::open(&store.ledger, &ns, &hostname, incarnation)?);
        }
        let Some(maker) = store.maker.as_mut() else {
            return Ok(());
        };
        let span = match maker.belated(&store.ledger, now)? {
            Some(span) => {
                self.counts.belated += 1;
                span
            }
            None => maker.block(&store.ledger, now, &mut self.random)?,
        };
        let position = span.last();
        if store.ledger.append(span).is_err() {
            store.broken = true;
            return Ok(());
        }
        self.counts.blocks += 1;
        if planted::active(Fault::SentBeforeDurable) {
            self.step(
                node,
                Event::LocalTip {
                    ns: ns.clone(),
                    durable: position,
                    applied: position.height,
                },
            );
        }
        if !std::mem::replace(&mut self.nodes[node].stores[index].committing, true) {
            let delay = self.disk_delay(node, 20);
            self.later(delay, Ev::Commit { node, epoch, ns });
        }
        Ok(())
    }

    /// The maker's fsync is done: what it covered may leave the node.
    pub fn commit(&mut self, node: usize, ns: &Namespace) {
        let now = self.now;
        let Some(index) = self.namespaces.iter().position(|name| name == ns) else {
            return;
        };
        let store = &mut self.nodes[node].stores[index];
        store.committing = false;
        let before = store.durable().height;
        let Ok(durable) = store.ledger.sync() else {
            store.broken = true;
            let refusal = cvp_core::types::Refusal::new("disk-failed", "planted", "");
            return self.step(
                node,
                Event::StoreFailed {
                    ns: ns.clone(),
                    refusal,
                },
            );
        };
        let applied = store.ledger.apply().unwrap_or(durable);
        store.history.push((now, durable.height));
        for height in before + 1..=durable.height {
            if let Ok(Some(hash)) = store.ledger.hash_at(height) {
                self.durable.insert((index, height, hash));
            }
        }
        self.check_sum(node, ns);
        self.step(
            node,
            Event::LocalTip {
                ns: ns.clone(),
                durable,
                applied: applied.height,
            },
        );
    }

    pub fn write(&mut self, node: usize, what: &ControlFile) {
        self.check_written(node, what);
        self.check_fence(node, what);
        self.nodes[node].disk.write(what);
    }

    /// What survived a crash at a maker is durable, and may leave it.
    pub fn note_survivors(&mut self, node: usize) {
        if self.nodes[node].role != Role::Provider {
            return;
        }
        for (index, store) in self.nodes[node].stores.iter().enumerate() {
            for height in 1..=store.durable().height {
                if let Ok(Some(hash)) = store.ledger.hash_at(height) {
                    self.durable.insert((index, height, hash));
                }
            }
        }
    }
}
