//! What goes wrong, and when: drawn from the seed.

use cvp_core::ledger::Ledger;
use cvp_core::record::namespace_digest;
use cvp_core::replication::{ConnId, ingest};
use cvp_core::session::{Identity, Start};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Hostname, Incarnation};

use crate::chain::Tamper;
use crate::world::{A, B, C, D, Ev, F, World};

impl World {
    pub fn chaos(&mut self) -> Result<(), String> {
        let node = self.victim();
        self.lure()?;
        match self.random.range(0, 15) {
            0..=2 => self.crash_and_restart(node),
            3 | 4 => {
                if let Some(conn) = self.any_conn() {
                    self.cut(conn);
                }
            }
            5 => {
                if let Some(conn) = self.any_conn() {
                    self.counts.half_open += 1;
                    self.darken(conn);
                }
            }
            6 => self.partition(),
            7 => self.nodes[node].slow_until = self.now + self.random.range(500, 5_000),
            8 => {
                let length = self.random.range(500, 6_000);
                // A stop is never made longer: what waits for its end keeps its order.
                let already = self.nodes[node].frozen_until;
                let until = if already > self.now { already } else { self.now + length };
                self.counts.freezes += 1;
                self.calm_since = self.calm_since.max(until);
                self.nodes[node].frozen_until = until;
                self.nodes[node].thawed = until;
            }
            9 => {
                let how = [Tamper::FlippedBit, Tamper::OtherParent, Tamper::OtherState];
                self.tamper_next = Some(how[self.random.range(0, 2) as usize]);
            }
            10 => self.nodes[node].advice_lost_until = self.now + self.random.range(500, 5_000),
            11 => self.disk_trouble(node),
            12 => self.intruder()?,
            13 => {
                if self.nodes[B].role == Role::Receiver && self.nodes[B].binding()?.is_some() {
                    self.impostor()?;
                }
            }
            _ => self.promotion()?,
        }
        Ok(())
    }

    /// A copy of the provider's chain under another node-id answers at the provider's address.
    fn impostor(&mut self) -> Result<(), String> {
        self.crash(F);
        for index in 0..self.namespaces.len() {
            let namespace = namespace_digest(&self.namespaces[index]);
            let tip = self.nodes[F].stores[index].durable();
            let theirs = &self.nodes[A].stores[index];
            let Ok(run) = theirs.ledger.read(tip.height + 1, theirs.durable().height, usize::MAX) else {
                continue;
            };
            let copy = &self.nodes[F].stores[index].ledger;
            ingest(copy, &namespace, tip, run.bytes).map_err(|error| format!("{error:?}"))?;
            copy.sync().map_err(|error| error.to_string())?;
        }
        self.start(F)?;
        self.alias_until = self.now + self.random.range(500, 4_000);
        if let Some(conn) = self.any_conn() {
            self.cut(conn);
        }
        Ok(())
    }

    /// The promoted node's standby, early in its copy, is pointed at the old provider, which has not heard yet.
    fn lure(&mut self) -> Result<(), String> {
        let early = self.nodes[D].stores.iter().all(|store| store.durable().height == 0);
        if !self.promoted || !early || self.nodes[D].remote == A || self.nodes[D].binding()?.is_none() {
            return Ok(());
        }
        self.nodes[D].remote = A;
        self.crash(D);
        self.later(50, Ev::Restart { node: D });
        Ok(())
    }

    fn victim(&mut self) -> usize {
        let most = if self.promoted { 2 } else { 1 };
        [A, B, D][self.random.range(0, most) as usize]
    }

    fn any_conn(&mut self) -> Option<ConnId> {
        let open: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| !conn.dark && conn.open == [true, true])
            .map(|(id, _)| *id)
            .collect();
        if open.is_empty() {
            return None;
        }
        let index = self.random.range(0, open.len() as u64 - 1) as usize;
        Some(open[index])
    }

    fn crash_and_restart(&mut self, node: usize) {
        self.crash(node);
        let delay = self.random.range(20, 4_000);
        self.later(delay, Ev::Restart { node });
    }

    fn partition(&mut self) {
        self.counts.partitions += 1;
        self.partition_until = self.now + self.random.range(300, 6_000);
        self.calm_since = self.calm_since.max(self.partition_until);
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            if let Some(link) = self.conns.get_mut(&conn) {
                link.dark = true;
            }
        }
    }

    /// A failed fsync, which only a new process gets over; or a full disk, which has room again later.
    fn disk_trouble(&mut self, node: usize) {
        if self.nodes[node].role == Role::Provider {
            return;
        }
        let index = self.random.range(0, 1) as usize;
        let (delay, epoch) = (self.random.range(500, 4_000), self.nodes[node].epoch);
        let store = &mut self.nodes[node].stores[index];
        self.counts.disk_failures += 1;
        if self.random.chance(50) {
            store.full_until = self.now + delay;
            return store.ledger.set_full(true);
        }
        store.ledger.fail_next_sync();
        // The operator sees it, and restarts the node.
        self.later(delay, Ev::Crash { node, epoch });
        self.later(delay + 50, Ev::Restart { node });
    }

    /// A second standby comes and goes.
    fn intruder(&mut self) -> Result<(), String> {
        if self.nodes[C].is_up() {
            self.crash(C);
            return Ok(());
        }
        let running = if self.promoted { B } else { A };
        self.nodes[C].remote = running;
        self.counts.intruders += 1;
        self.start(C)
    }

    /// The provider dies or is cut off, and the standby takes its place. Once a run.
    fn promotion(&mut self) -> Result<(), String> {
        let Some(binding) = self.nodes[B].binding()? else {
            return Ok(());
        };
        if self.promoted || self.nodes[B].role == Role::Provider || self.now < 4_000 || !self.nodes[B].is_up() {
            return Ok(());
        }
        if self.random.chance(60) {
            self.crash_and_restart(A);
        } else {
            self.partition();
        }
        self.crash(B);
        self.promoted = true;
        self.counts.promotions += 1;
        let number = binding
            .lineage
            .current()
            .map_or(1, |incarnation| incarnation.number + 1);
        let incarnation = Incarnation {
            number,
            id: self.random.id(),
        };
        let starts = self.nodes[B]
            .stores
            .iter()
            .map(|store| Start {
                namespace: store.namespace.clone(),
                first: store.durable().height + 1,
                parent: store.durable().hash,
            })
            .collect();
        let lineage = binding
            .lineage
            .extended(incarnation, starts)
            .map_err(|error| error.to_string())?;
        let node = &mut self.nodes[B];
        node.role = Role::Provider;
        node.hostname = Hostname::new("node1").map_err(|error| error.to_string())?;
        node.disk.identity = Identity {
            node_id: binding.node_id,
            lineage,
        }
        .encode();
        node.notify = vec!["a:1".into()];
        self.note_survivors(B);
        self.later(1, Ev::Restart { node: B });
        if self.random.chance(40) {
            self.island_until = self.chaos_until;
            self.calm_since = self.calm_since.max(self.island_until);
            self.nodes[D].slow_until = self.chaos_until;
        }
        let delay = self.random.range(10, 3_000);
        self.later(delay, Ev::Restart { node: D });
        Ok(())
    }
}
