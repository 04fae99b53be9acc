//! What goes wrong, and when: drawn from the seed.

use cvp_core::ledger::Ledger;
use cvp_core::record::namespace_digest;
use cvp_core::replication::{ConnId, ingest};
use cvp_core::types::Millis;
use cvp_core::types::strategy::{Role, chain_sync};

use crate::chain::Tamper;
use crate::world::{A, B, C, D, Ev, F, G, World};

impl World {
    /// The process dies; the other ends of its links hear of it, or not.
    pub fn crash(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        self.counts.crashes += 1;
        self.counts.promotion_crashes += u64::from(self.nodes[node].promotion.is_some());
        self.crash_jobs(node);
        self.counts.torn_tails += self.nodes[node].crash(&mut self.random);
        self.note_survivors(node);
        self.wire.forget_node(node);
        let conns: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.ends.iter().any(|end| end.0 == node))
            .map(|(id, _)| *id)
            .collect();
        for conn in conns {
            if self.random.chance(30) {
                self.darken(conn);
            } else {
                self.cut(conn);
            }
        }
    }

    /// A stopped process does nothing: its events wait.
    pub fn frozen(&self, event: &Ev) -> Option<Millis> {
        let node = match event {
            Ev::Tick { node, .. }
            | Ev::Make { node, .. }
            | Ev::Commit { node, .. }
            | Ev::Host { node, .. }
            | Ev::Ingest { node, .. }
            | Ev::Sync { node, .. }
            | Ev::Read { node, .. }
            | Ev::Archive { node, .. }
            | Ev::Upgrade { node, .. }
            | Ev::Promote { node, .. }
            | Ev::Job { node, .. }
            | Ev::Switch { node, .. }
            | Ev::Align { node, .. }
            | Ev::Index(node, _)
            | Ev::Tell { node, .. }
            | Ev::Written { node, .. } => *node,
            Ev::Deliver { conn, to, .. } => self.conns.get(conn)?.ends[*to].0,
            _ => return None,
        };
        let until = self.nodes[node].frozen_until;
        (until > self.now).then_some(until)
    }

    /// Every disturbance ends; every node runs.
    pub fn heal(&mut self) -> Result<(), String> {
        self.partition_until = 0;
        self.alias_until = 0;
        self.island_until = 0;
        self.nodes[D].point_at("node1 b:1")?;
        self.tamper_next = None;
        self.calm_since = self.calm_since.max(self.now);
        self.crash(C);
        for node in &mut self.nodes {
            (node.slow_until, node.advice_lost_until) = (0, 0);
            node.broker_down = false;
            node.stores.iter_mut().for_each(|store| store.full_until = 0);
        }
        for node in [A, B, D, G] {
            if self.nodes[node]
                .stores
                .iter()
                .any(|store| store.broken || store.ledger.sync().is_err())
            {
                self.crash(node);
            }
        }
        (0..self.nodes.len()).for_each(|node| self.note_survivors(node));
        self.end_unseen_edits();
        self.heal_index()?;
        let standby = if self.promoted { D } else { B };
        for node in [A, B, standby, G] {
            self.start(node)?;
        }
        Ok(())
    }

    pub fn chaos(&mut self) -> Result<(), String> {
        let node = self.victim();
        self.lure()?;
        match self.random.range(0, 22) {
            0..=2 => self.crash_and_restart(node),
            3 => {
                if let Some(conn) = self.any_conn() {
                    self.cut(conn);
                }
            }
            4 => self.congest(),
            5 => {
                if let Some(conn) = self.any_conn() {
                    self.counts.half_open += 1;
                    self.darken(conn);
                }
            }
            6 => self.partition(),
            7 => self.nodes[node].slow_until = self.now + self.random.range(500, 5_000),
            8 => self.freeze(node),
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
            14 => self.forger()?,
            15..=17 => self.promotion()?,
            18 | 19 => self.toggle_backend(node),
            20 => self.crowd(),
            21 => {
                self.toggle_broker(node, true);
                let length = self.random.range(300, 6_000);
                self.later(length, Ev::Broker(node));
            }
            _ => self.flip_switch()?,
        }
        Ok(())
    }

    /// A copy of the provider's chain under another node-id answers at the provider's address.
    fn impostor(&mut self) -> Result<(), String> {
        self.crash(F);
        self.nodes[F].open_stores();
        for index in 0..self.namespaces.len() {
            let namespace = namespace_digest(&self.namespaces[index]);
            let tip = self.nodes[F].stores[index].durable();
            let theirs = &self.nodes[A].stores[index];
            let Ok(run) = theirs.ledger.read(tip.height + 1, theirs.durable().height, usize::MAX) else {
                continue;
            };
            let copy = &self.nodes[F].stores[index].ledger;
            ingest(copy, &namespace, tip, run.bytes, || ()).map_err(|error| format!("{error:?}"))?;
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
        if !self.promoted || !early || self.is_lured() || self.nodes[D].binding()?.is_none() {
            return Ok(());
        }
        self.nodes[D].point_at("node1 a:1")?;
        self.crash(D);
        self.later(50, Ev::Restart { node: D });
        Ok(())
    }

    fn is_lured(&self) -> bool {
        let remote = self.nodes[D].remote().map(|remote| remote.address.as_str());
        remote == Some("a:1")
    }

    fn victim(&mut self) -> usize {
        let most = if self.promoted { 3 } else { 2 };
        [A, B, G, D][self.random.range(0, most) as usize]
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

    pub fn crash_and_restart(&mut self, node: usize) {
        self.crash(node);
        let delay = self.random.range(20, 4_000);
        self.later(delay, Ev::Restart { node });
    }

    /// A link gets slow and then breaks: what was sent on it comes late, perhaps after its successor's first frames.
    fn congest(&mut self) {
        let (length, delay) = (self.random.range(300, 2_000), self.random.range(50, 1_000));
        let until = self.now + length;
        let Some(conn) = self.any_conn() else { return };
        if let Some(link) = self.conns.get_mut(&conn) {
            link.congested_until = until;
            self.counts.congested += 1;
            self.calm_since = self.calm_since.max(until);
            self.later(delay, Ev::Cut { conn });
        }
    }

    /// A process stops for a while.
    fn freeze(&mut self, node: usize) {
        let length = self.random.range(500, 6_000);
        // A stop is never made longer: what waits for its end keeps its order.
        let already = self.nodes[node].frozen_until;
        let until = if already > self.now { already } else { self.now + length };
        self.counts.freezes += 1;
        self.calm_since = self.calm_since.max(until);
        self.nodes[node].frozen_until = until;
        self.nodes[node].thawed = until;
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
        let index = self.random.range(0, 2) as usize;
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
        let running = if self.promoted { "node1 b:1" } else { "node1 a:1" };
        self.nodes[C].point_at(running)?;
        self.counts.intruders += 1;
        self.start(C)
    }

    /// The provider dies, hangs or is cut off, and the operator promotes the standby, perhaps too early; or by mistake, beside a living
    /// provider. Once a run a promotion begins; it may be tried more often.
    fn promotion(&mut self) -> Result<(), String> {
        let standby = &self.nodes[B];
        let attached = standby.binding()?.is_some() && standby.pair.is_some();
        if self.promoted || !attached || self.now < 4_000 {
            return Ok(());
        }
        match self.random.range(0, 9) {
            0..=4 => {
                self.crash(A);
                let delay = self.random.range(500, 9_000);
                self.later(delay, Ev::Restart { node: A });
            }
            5..=7 => self.partition(),
            8 => self.freeze(A),
            _ => {}
        }
        let (delay, target_is_down) = (self.random.range(0, 4_000), self.random.chance(50));
        let upgrade = Ev::Upgrade {
            node: B,
            target_is_down,
        };
        self.later(delay, upgrade);
        Ok(())
    }
}

/// What a broken strategy says.
pub fn nonsense() -> Vec<chain_sync::Action> {
    use chain_sync::Action as Say;
    vec![
        Say::Fetch(chain_sync::Fetch {
            first: 1 << 40,
            last: 3,
            bytes_in_flight: 0,
        }),
        Say::Window(u64::MAX),
        Say::Bootstrap(7),
        Say::Throttle(1_000_000),
        Say::Metric("not a name".into(), 1),
        Say::Other("later".into(), vec![1]),
    ]
}
