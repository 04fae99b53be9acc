//! Old history that goes, and snapshots that come in its place: a third of all worlds keep a few blocks alone.

use cvp_core::ledger::{Archive, Ledger};
use cvp_core::planted::{self, Fault};
use cvp_core::replication::{ArchiveEvent, ArchiveWork, ChunkSum, Event, archive};
use cvp_core::session::LastHeld;
use cvp_core::types::{Millis, Namespace, Slab};

use crate::random::Random;
use crate::world::{Ev, World};

/// Bytes that the standby may have acknowledged since the provider looked.
const HEARD_MEANWHILE: u64 = 10_000;

/// How much of its history every node keeps.
#[derive(Clone, Copy, Default)]
pub struct Retention {
    /// `ledger.keep_blocks`; 0: all.
    pub keep_blocks: u64,
    /// `cvp.retain_bytes`.
    pub retain_bytes: u64,
    /// Clients register queues. Here no queue keeps a block: where history goes, one that is slow finds that it went.
    pub queues: bool,
}

impl Retention {
    /// What a world of this seed keeps. The other choices of the seed stay what they are.
    pub fn draw(seed: u64) -> Retention {
        let mut random = Random::new(seed ^ 0x7265_7461_696e);
        let keep = random.chance(33);
        Retention {
            keep_blocks: if keep { random.range(2, 40) } else { 0 },
            retain_bytes: random.range(2_000, 60_000),
            queues: !keep || random.chance(50),
        }
    }
}

impl World {
    /// Works on whole ledgers are done in order, beside everything else; what makes staged bytes durable may take longer than what follows.
    pub fn archive_later(&mut self, node: usize, ns: Namespace, work: ArchiveWork) {
        self.check_prune(node, &ns, &work);
        let epoch = self.nodes[node].epoch;
        let delay = self.disk_delay(node, 8);
        let now = self.now;
        let Some(store) = self.nodes[node].store(&ns) else {
            return;
        };
        let at: Millis = match work {
            ArchiveWork::Sync => now + delay,
            _ => {
                store.archive_at = store.archive_at.max(now) + delay;
                store.archive_at
            }
        };
        self.at(at, Ev::Archive { node, epoch, ns, work });
    }

    pub fn archive(&mut self, node: usize, ns: &Namespace, mut work: ArchiveWork) {
        if let ArchiveWork::Write { sum, bytes, .. } = &mut work
            && self.tamper_next.take().is_some()
        {
            self.counts.tampered_chunks += 1;
            let mut damaged = bytes.to_vec();
            let at = self.random.range(0, damaged.len() as u64) as usize;
            damaged[at % bytes.len()] ^= 1;
            *bytes = damaged.into();
            if planted::active(Fault::ChunkNotChecked) {
                *sum = ChunkSum::of(bytes);
            }
        }
        let Some(store) = self.nodes[node].store(ns) else {
            return;
        };
        if store.broken {
            return;
        }
        let done = archive(&store.ledger, ns, work, &Slab::default());
        if let Some((conn, frame)) = done.frame {
            self.send(node, conn, Some(frame));
        }
        let Some(event) = done.answer else { return };
        match &event {
            ArchiveEvent::Adopted { tip } => {
                self.counts.adopted += 1;
                self.check_adopted(node, ns, tip);
            }
            ArchiveEvent::Prepended(_) => self.counts.prepended += 1,
            ArchiveEvent::Damaged => self.counts.damaged_chunks += 1,
            _ => {}
        }
        let ns = ns.clone();
        self.step(node, Event::Archive { ns, event });
    }

    /// What the receiver lacks, as the provider has heard, stays while there is room for it. Where it must begin anew that is what follows the
    /// snapshot at hand; without one nothing is.
    fn check_prune(&mut self, node: usize, ns: &Namespace, work: &ArchiveWork) {
        let ArchiveWork::Prune { below } = work else { return };
        self.counts.prunings += 1;
        let (now, machine) = (self.now, &self.nodes[node]);
        let Some(status) = machine.pair.as_ref().map(|pair| pair.status(now)) else {
            return;
        };
        let heard = status.namespaces.iter().find(|status| status.name == *ns);
        let Some(held) = heard.map(|status| status.durable).filter(|_| status.peer.is_some()) else {
            return;
        };
        let Some(store) = machine.stores.iter().find(|store| store.namespace == *ns) else {
            return;
        };
        let anew = held + 1 < store.ledger.history_from();
        let of_use = if anew {
            store.ledger.snapshot().map(|made| made.manifest().at.height)
        } else {
            Some(held)
        };
        let Some(held) = of_use else { return };
        let above = store.ledger.bytes_above(held);
        let much = above + HEARD_MEANWHILE >= self.retention.retain_bytes;
        if *below > held + 1 && !much {
            let text = format!(
                "{} lets records below {below} of {ns} go: the standby holds {held}, or will with a snapshot, and lacks {above} bytes",
                machine.name
            );
            self.fail(text);
        }
    }

    /// What a provider notes of its standby was durable at a maker, and is so on another node: after a restart it is a floor, never more.
    pub fn check_noted(&mut self, node: usize, noted: &LastHeld) {
        self.counts.noted += 1;
        for held in noted.namespaces.iter().filter(|held| held.at.height > 0) {
            let index = self.namespaces.iter().position(|name| *name == held.namespace);
            let made = index.is_some_and(|index| self.durable.contains(&(index, held.at.height, held.at.hash)));
            let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
            let mut stores = others
                .flat_map(|(_, other)| &other.stores)
                .filter(|store| store.namespace == held.namespace);
            // What a crash left on the disk beyond what was synced is in no history.
            let reached = stores.any(|store| {
                let synced = store.history.iter().map(|(_, height)| *height);
                let most = synced.chain([store.ledger.tips().durable.height]).max();
                most >= Some(held.at.height)
            });
            if !made || !reached {
                let (name, ns, height) = (self.nodes[node].name, &held.namespace, held.at.height);
                return self.fail(format!(
                    "{name} notes that its standby holds {height} of {ns}: made {made}, held {reached}"
                ));
            }
        }
    }

    /// Whoever stands on a snapshot stands where a maker was durable, with the state that belongs there.
    fn check_adopted(&mut self, node: usize, ns: &Namespace, tip: &cvp_core::types::Position) {
        let index = self.namespaces.iter().position(|name| name == ns).unwrap_or(0);
        let name = self.nodes[node].name;
        if !self.durable.contains(&(index, tip.height, tip.hash)) {
            return self.fail(format!(
                "{name} stands on {} of {ns}, which is durable at no maker",
                tip.height
            ));
        }
        let now = self.now;
        let Some(store) = self.nodes[node].store(ns) else {
            return;
        };
        store.history.push((now, tip.height));
        let report = store
            .ledger
            .verify(0, u64::MAX, &mut |_| std::ops::ControlFlow::Continue(()));
        if let Some(bad) = report.ok().and_then(|report| report.first_bad) {
            return self.fail(format!(
                "{name} stands on a state of {ns} that is not its record's: {}",
                bad.message
            ));
        }
        self.check_sum(node, ns);
    }
}
