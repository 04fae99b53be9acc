//! A node that follows the provider's chains: the machines that serve it on the other end, and what must hold of both.

use cvp_core::frame::{Frame, Kind};
use cvp_core::ledger::Ledger;
use cvp_core::replication::{Action, ConnId, Event, Pair, Setup};
use cvp_core::session::{ExpectReply, FOLLOWERS_MAX, IndexOffer, Lineage, Own, OwnNamespace, SessionKind};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Height, Hostname, Incarnation, Namespace, NodeId, NodeRole};

use crate::world::{A, B, C, D, G, World};

/// The link that an event is about.
fn conn_of(event: &Event) -> Option<ConnId> {
    match event {
        Event::Frame { conn, .. }
        | Event::Closed { conn, .. }
        | Event::Found { conn, .. }
        | Event::ReadDone { conn, .. } => Some(*conn),
        _ => None,
    }
}

impl World {
    /// Whether an event is for a machine that serves a follower alone; what all machines of a node hear, those hear first.
    pub fn step_served(&mut self, node: usize, event: &Event) -> bool {
        if let Some(conn) = conn_of(event) {
            let served = self.nodes[node].served.contains_key(&conn);
            if served {
                self.feed_served(node, conn, event.clone());
            }
            return served;
        }
        if matches!(event, Event::Tick | Event::LocalTip { .. } | Event::StoreFailed { .. }) {
            let conns: Vec<ConnId> = self.nodes[node].served.keys().copied().collect();
            for conn in conns {
                self.feed_served(node, conn, event.clone());
            }
        }
        false
    }

    fn feed_served(&mut self, node: usize, conn: ConnId, event: Event) {
        if matches!(event, Event::Closed { .. }) {
            return self.end_served(node, conn);
        }
        let now = self.now;
        let Some(pair) = self.nodes[node].served.get_mut(&conn) else {
            return;
        };
        let ready = pair.step(now * 1000, event);
        if let Err(defect) = pair.invariants() {
            self.fail(format!(
                "{} serving a follower: invariant: {defect}",
                self.nodes[node].name
            ));
        }
        for action in ready.now {
            match action {
                Action::Close { conn, refusal } => {
                    self.note_close(node, conn, refusal.as_ref());
                    self.send(node, conn, None);
                    self.end_served(node, conn);
                }
                action @ (Action::Send { .. }
                | Action::Read { .. }
                | Action::Probe { .. }
                | Action::LookUp { .. }
                | Action::Acknowledged { .. }
                | Action::Log { .. }) => self.act(node, action),
                other => self.fail(format!(
                    "{} serving a follower asks for {other:?}",
                    self.nodes[node].name
                )),
            }
        }
    }

    fn end_served(&mut self, node: usize, conn: ConnId) {
        if self.nodes[node].served.remove(&conn).is_some() {
            self.step(node, Event::FollowerGone(conn));
        }
    }

    pub fn hand_over(&mut self, node: usize, conn: ConnId, accepted: Event, hello: Frame, setup: Setup) {
        self.nodes[node].served.insert(conn, Pair::new(setup));
        let most = self.nodes[node].served.len();
        // The older session of a node that came again ends in the same step.
        if most > FOLLOWERS_MAX {
            let name = self.nodes[node].name;
            self.fail(format!("{name} serves {most} followers"));
        }
        self.feed_served(node, conn, accepted);
        self.feed_served(node, conn, Event::Frame { conn, frame: hello });
    }

    pub fn dismiss(&mut self, node: usize, conn: ConnId, goodbye: Frame) {
        if self.nodes[node].served.contains_key(&conn) {
            self.send(node, conn, Some(goodbye));
            self.send(node, conn, None);
            self.end_served(node, conn);
        }
    }

    /// What is taken for the standby's is on a standby's disk.
    pub fn check_acknowledged(&mut self, node: usize, ns: &Namespace, durable: Height) {
        let holds = |standby: &usize| {
            let mut stores = self.nodes[*standby].stores.iter();
            stores.any(|store| store.namespace == *ns && store.durable().height >= durable)
        };
        if ![B, C, D].iter().filter(|standby| **standby != node).any(holds) {
            let name = self.nodes[node].name;
            self.fail(format!(
                "{name} takes {durable} of {ns} for acknowledged, and no standby holds it"
            ));
        }
    }

    /// A session of the follower: with a node whose chain holds its tip, or without that namespace.
    pub fn check_followed(&mut self) {
        self.counts.followed += 1;
        let conns = self.conns.iter().rev();
        let mut own = conns.filter(|(_, conn)| conn.ends[0].0 == G);
        let Some(vp) = own.next().map(|(_, conn)| conn.ends[1].0) else {
            return;
        };
        let now = self.now;
        let status = self.nodes[G].pair.as_ref().map(|pair| pair.status(now));
        let (running, followed) = (&self.nodes[vp].running, &self.nodes[G].running);
        let both = |name: &Namespace| running.contains(name) && followed.contains(name);
        // What does not run here was followed by nobody, and may be of a chain that was begun anew since.
        let shared: Vec<usize> = (0..self.namespaces.len())
            .filter(|index| both(&self.namespaces[*index]))
            .collect();
        for index in shared {
            let tip = self.nodes[G].stores[index].durable();
            let theirs = self.nodes[vp].stores[index].ledger.hash_at(tip.height);
            let fits = theirs.is_ok_and(|hash| hash.is_none_or(|hash| hash == tip.hash));
            let left_out = status.as_ref().is_some_and(|status| {
                let mut left = status.left_out.iter();
                left.any(|(name, _)| *name == self.namespaces[index])
            });
            self.counts.left_out += u64::from(left_out);
            if self.nodes[vp].is_up() && !fits && !left_out {
                let name = self.nodes[vp].name;
                return self.fail(format!("g follows {name}, which has another record {}", tip.height));
            }
        }
    }

    /// After quiet the follower holds what its VP holds; or a block that the VP never had, and then nothing was overwritten.
    pub fn check_follower_end(&self, vp: usize) -> Result<(), String> {
        let (running, followed) = (&self.nodes[vp].running, &self.nodes[G].running);
        for index in 0..self.namespaces.len() {
            let name = &self.namespaces[index];
            if !running.contains(name) || !followed.contains(name) {
                continue;
            }
            let (one, two) = (&self.nodes[vp].stores[index], &self.nodes[G].stores[index]);
            let (tips, copy) = (one.ledger.tips(), two.ledger.tips());
            if tips.durable == copy.durable && one.ledger.fingerprint(0) == two.ledger.fingerprint(0) {
                continue;
            }
            let theirs = one.ledger.hash_at(copy.durable.height).ok().flatten();
            if theirs == Some(copy.durable.hash) || !self.promoted {
                let status = self.nodes[G].pair.as_ref().map(|pair| pair.status(self.now));
                return Err(format!(
                    "{}: the follower holds {copy:?} of {tips:?}: {status:?}",
                    one.namespace
                ));
            }
        }
        Ok(())
    }

    /// More followers than a node serves say hello at once, and are silent then.
    pub fn crowd(&mut self) {
        let vp = if self.promoted { B } else { A };
        if self.nodes[vp].pair.is_none() || self.nodes[vp].frozen_until > self.now {
            return;
        }
        self.counts.crowds += 1;
        for number in 0..FOLLOWERS_MAX as u8 + 4 {
            self.conn_ids += 1;
            let conn = self.conn_ids;
            let Ok(hostname) = Hostname::new("node3") else { return };
            let stores = &self.nodes[vp].stores;
            let own = Own {
                role: Role::Receiver,
                kind: SessionKind::Follower,
                program: "sim".into(),
                hostname,
                node_id: NodeId([number; 16]),
                lineage: Lineage::begin(Incarnation {
                    number: 1,
                    id: [number; 16],
                }),
                binding: None,
                tls: self.nodes[vp].config.system.p2p.enable_tls,
                listen: String::new(),
                namespaces: stores
                    .iter()
                    .map(|store| OwnNamespace {
                        namespace: store.namespace.clone(),
                        role: NodeRole::Nvp,
                        genesis: store.ledger.genesis().hash,
                        tip: store.ledger.genesis(),
                        history_from: 0,
                        strategies: Vec::new(),
                        index: IndexOffer::new(true),
                    })
                    .collect(),
                self_section: Vec::new(),
            };
            let (hello, _) = ExpectReply::open(&own, [number; 16]);
            let peer = self.nodes[vp].papers.peer("x:9".to_owned(), "node3", None);
            self.step(vp, Event::Accepted { conn, peer });
            let frame = Frame::node(Kind::Hello, hello.encode());
            self.step(vp, Event::Frame { conn, frame });
        }
    }
}
