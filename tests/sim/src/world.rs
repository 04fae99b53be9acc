//! Virtual time and the network: one queue of events, links that delay, lose, fall silent and reorder against each other.

use std::collections::{BTreeMap, BTreeSet};

use cvp_core::frame::Frame;
use cvp_core::ledger::Ledger;
use cvp_core::replication::{ConnId, ControlFile, DialPurpose, Event, PeerTls, Token};
use cvp_core::session::{Identity, Lineage};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Digest, Incarnation, Millis, Namespace, NodeId, Refusal};

use crate::chain::Tamper;
use crate::check::{Counts, Wire};
use crate::node::Node;
use crate::random::Random;

pub const A: usize = 0;
pub const B: usize = 1;
/// A second standby that must be refused.
pub const C: usize = 2;
/// A standby of the promoted node.
pub const D: usize = 3;
/// Another provider with the same hostname and genesis.
pub const F: usize = 4;

/// Time of chaos, and of quiet after it.
const CHAOS_MS: (Millis, Millis) = (12_000, 30_000);
const QUIET_MS: Millis = 40_000;
/// Makers stop so long before the end.
const STILL_MS: Millis = 10_000;
const TICK_MS: Millis = 50;

/// What will happen.
pub enum Ev {
    Tick {
        node: usize,
        epoch: u64,
    },
    Make {
        node: usize,
        epoch: u64,
    },
    Commit {
        node: usize,
        epoch: u64,
        ns: Namespace,
    },
    Host {
        node: usize,
        epoch: u64,
        event: Event,
    },
    Ingest {
        node: usize,
        epoch: u64,
        ns: Namespace,
        parent: cvp_core::types::Position,
        bytes: bytes::Bytes,
    },
    Sync {
        node: usize,
        epoch: u64,
        ns: Namespace,
        micros: u64,
    },
    Read {
        node: usize,
        epoch: u64,
        read: Read,
    },
    Written {
        node: usize,
        epoch: u64,
        token: Token,
        what: ControlFile,
    },
    Connect {
        node: usize,
        epoch: u64,
        purpose: DialPurpose,
        target: Option<usize>,
    },
    Deliver {
        conn: ConnId,
        to: usize,
        frame: Option<Frame>,
    },
    Restart {
        node: usize,
    },
    Crash {
        node: usize,
        epoch: u64,
    },
    Chaos,
}

/// An `Action::Read`.
#[derive(Clone)]
pub struct Read {
    pub conn: ConnId,
    pub ns: Namespace,
    pub stream: u32,
    pub first: u64,
    pub last: u64,
    pub bytes_max: usize,
}

/// A link: index 0 dialled, index 1 accepted.
pub struct Conn {
    pub ends: [(usize, u64); 2],
    pub open: [bool; 2],
    pub last_due: [Millis; 2],
    /// Nothing passes any more, and nobody is told.
    pub dark: bool,
}

pub struct World {
    pub seed: u64,
    pub now: Millis,
    pub random: Random,
    pub nodes: Vec<Node>,
    pub namespaces: Vec<Namespace>,
    queue: BTreeMap<(Millis, u64), Ev>,
    order: u64,
    pub conns: BTreeMap<ConnId, Conn>,
    conn_ids: ConnId,
    /// Nobody reaches anybody.
    pub partition_until: Millis,
    /// Since when no link or dial was disturbed.
    pub calm_since: Millis,
    /// B's dials reach F instead of its provider.
    pub alias_until: Millis,
    /// A and B do not reach each other; others reach both.
    pub island_until: Millis,
    pub tamper_next: Option<Tamper>,
    pub chaos_until: Millis,
    pub end: Millis,
    pub promoted: bool,
    /// Every record that was ever durable at a maker.
    pub durable: BTreeSet<(usize, u64, Digest)>,
    pub wire: Wire,
    pub counts: Counts,
    pub failure: Option<String>,
    /// Prints every step (CVP_SIM_TRACE=1).
    trace: bool,
}

impl World {
    pub fn new(seed: u64) -> Result<World, String> {
        let mut random = Random::new(seed);
        let name = |text: &str| Namespace::new(text).map_err(|error| error.to_string());
        let namespaces = vec![name("global")?, name("ns1")?];
        let first = Lineage::begin(Incarnation {
            number: 1,
            id: random.id(),
        });
        let make = |name, host, role, lineage: &Lineage, random: &mut Random| {
            Node::new(
                name,
                host,
                role,
                &namespaces,
                Identity {
                    node_id: NodeId(random.id()),
                    lineage: lineage.clone(),
                },
            )
        };
        let none = Lineage::default();
        let mut nodes = vec![
            make("a", "node1", Role::Provider, &first, &mut random)?,
            make("b", "cvp1", Role::Receiver, &none, &mut random)?,
            make("c", "cvp2", Role::Receiver, &none, &mut random)?,
            make("d", "cvp3", Role::Receiver, &none, &mut random)?,
            make("f", "node1", Role::Provider, &first, &mut random)?,
        ];
        nodes[A].ask = vec!["b:1".into()];
        for node in &mut nodes {
            node.making_every = random.range(20, 400);
        }
        nodes[D].remote = B;
        let chaos_until = random.range(CHAOS_MS.0, CHAOS_MS.1);
        let mut world = World {
            seed,
            now: 0,
            random,
            nodes,
            namespaces,
            queue: BTreeMap::new(),
            order: 0,
            conns: BTreeMap::new(),
            conn_ids: 0,
            partition_until: 0,
            calm_since: 0,
            alias_until: 0,
            island_until: 0,
            tamper_next: None,
            chaos_until,
            end: chaos_until + QUIET_MS,
            promoted: false,
            durable: BTreeSet::new(),
            wire: Wire::default(),
            counts: Counts::default(),
            failure: None,
            trace: std::env::var_os("CVP_SIM_TRACE").is_some(),
        };
        for node in [A, B, F] {
            world.start(node)?;
        }
        world.later(500, Ev::Chaos);
        Ok(world)
    }

    /// Runs to the end, and judges it.
    pub fn run(&mut self) -> Result<(), String> {
        let mut healed = false;
        while self.now < self.end {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                break;
            };
            if !healed && at >= self.chaos_until {
                healed = true;
                self.heal()?;
            }
            self.now = self.now.max(at);
            self.dispatch(event)?;
            if let Some(failure) = self.failure.take() {
                return Err(format!("at {} ms: {failure}", self.now));
            }
        }
        self.check_end().map_err(|failure| format!("at the end: {failure}"))
    }

    pub fn later(&mut self, delay: Millis, event: Ev) {
        self.at(self.now + delay, event);
    }

    pub fn at(&mut self, time: Millis, event: Ev) {
        self.order += 1;
        self.queue.insert((time, self.order), event);
    }

    pub fn fail(&mut self, text: String) {
        self.failure.get_or_insert(text);
    }

    pub fn is_still(&self) -> bool {
        self.now + STILL_MS >= self.end
    }

    pub fn start(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].is_up() {
            return Ok(());
        }
        self.nodes[node].start(self.now, &mut self.random)?;
        let epoch = self.nodes[node].epoch;
        self.step(node, Event::Tick);
        self.later(TICK_MS, Ev::Tick { node, epoch });
        Ok(())
    }

    /// The process dies; the other ends of its links hear of it, or not.
    pub fn crash(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        self.counts.crashes += 1;
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

    /// A link breaks: each end hears of it after what was on its way, or without it.
    pub fn cut(&mut self, conn: ConnId) {
        for to in [0, 1] {
            let delay = self.random.range(0, 200);
            let due = self.conns.get(&conn).map_or(0, |link| link.last_due[to]);
            let time = if self.random.chance(50) {
                due.max(self.now) + 1
            } else {
                self.now + delay
            };
            self.at(time, Ev::Deliver { conn, to, frame: None });
        }
        self.darken(conn);
    }

    /// A link falls silent; what was on its way still comes.
    pub fn darken(&mut self, conn: ConnId) {
        self.calm_since = self.calm_since.max(self.now);
        if let Some(link) = self.conns.get_mut(&conn) {
            link.dark = true;
        }
    }

    fn alive(&self, node: usize, epoch: u64) -> bool {
        self.nodes[node].is_up() && self.nodes[node].epoch == epoch
    }

    /// A stopped process does nothing: its events wait.
    fn frozen(&self, event: &Ev) -> Option<Millis> {
        let node = match event {
            Ev::Tick { node, .. }
            | Ev::Make { node, .. }
            | Ev::Commit { node, .. }
            | Ev::Host { node, .. }
            | Ev::Ingest { node, .. }
            | Ev::Sync { node, .. }
            | Ev::Read { node, .. }
            | Ev::Written { node, .. } => *node,
            Ev::Deliver { conn, to, .. } => self.conns.get(conn)?.ends[*to].0,
            _ => return None,
        };
        let until = self.nodes[node].frozen_until;
        (until > self.now).then_some(until)
    }

    fn dispatch(&mut self, event: Ev) -> Result<(), String> {
        if let Some(until) = self.frozen(&event) {
            self.at(until, event);
            return Ok(());
        }
        match event {
            Ev::Chaos if self.now < self.chaos_until => {
                self.chaos()?;
                let pause = self.random.range(50, 1_500);
                self.later(pause, Ev::Chaos);
            }
            Ev::Restart { node } => self.start(node)?,
            Ev::Crash { node, epoch } if self.alive(node, epoch) => self.crash(node),
            Ev::Deliver { conn, to, frame } => self.deliver(conn, to, frame),
            Ev::Connect {
                node,
                epoch,
                purpose,
                target,
            } if self.alive(node, epoch) => self.connect(node, purpose, target),
            Ev::Tick { node, epoch } if self.alive(node, epoch) => {
                self.step(node, Event::Tick);
                self.check_status(node);
                self.later(TICK_MS, Ev::Tick { node, epoch });
            }
            Ev::Host { node, epoch, event } if self.alive(node, epoch) => self.step(node, event),
            Ev::Make { node, epoch } if self.alive(node, epoch) => self.make(node)?,
            Ev::Commit { node, epoch, ns } if self.alive(node, epoch) => self.commit(node, &ns),
            Ev::Ingest {
                node,
                epoch,
                ns,
                parent,
                bytes,
            } if self.alive(node, epoch) => self.ingest(node, &ns, parent, bytes),
            Ev::Sync {
                node,
                epoch,
                ns,
                micros,
            } if self.alive(node, epoch) => self.sync(node, &ns, micros),
            Ev::Read { node, epoch, read } if self.alive(node, epoch) => self.read(node, read),
            Ev::Written {
                node,
                epoch,
                token,
                what,
            } if self.alive(node, epoch) => {
                let expected = self.nodes[node].pending.remove(&token).is_some();
                if expected {
                    self.write(node, &what);
                    self.step(node, Event::Persisted(token));
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub fn node_at(&self, address: &str) -> Option<usize> {
        let name = address.split(':').next()?;
        self.nodes.iter().position(|node| node.name == name)
    }

    pub fn is_partitioned(&self) -> bool {
        self.now < self.partition_until
    }

    fn connect(&mut self, node: usize, purpose: DialPurpose, target: Option<usize>) {
        let reached = target.filter(|target| self.nodes[*target].is_up() && !self.is_partitioned() && *target != node);
        let apart = |target: &usize| self.now < self.island_until && node.min(*target) == A && node.max(*target) == B;
        let Some(target) = reached.filter(|target| !apart(target)) else {
            let refusal = Refusal::new("unreachable", "no answer", "");
            return self.step(node, Event::DialFailed { purpose, refusal });
        };
        self.conn_ids += 1;
        let conn = self.conn_ids;
        let ends = [(node, self.nodes[node].epoch), (target, self.nodes[target].epoch)];
        self.conns.insert(
            conn,
            Conn {
                ends,
                open: [true, true],
                last_due: [0, 0],
                dark: false,
            },
        );
        let peer = |address: &str, dialled: Option<String>| PeerTls {
            address: format!("{address}:9"),
            tls: true,
            dialled,
            warning: None,
            not_after: None,
        };
        let (from, to) = (self.nodes[node].name, self.nodes[target].name);
        let epoch = self.nodes[target].epoch;
        let accepted = Event::Accepted {
            conn,
            peer: peer(from, None),
        };
        // The acceptor sees the link before any frame on it.
        self.later(
            0,
            Ev::Host {
                node: target,
                epoch,
                event: accepted,
            },
        );
        let dialled = (purpose == DialPurpose::Session).then(|| "node1".to_owned());
        self.step(
            node,
            Event::Dialed {
                conn,
                purpose,
                peer: peer(to, dialled),
            },
        );
    }

    /// Sends a frame, or the end of the link, from one end.
    pub fn send(&mut self, node: usize, conn: ConnId, frame: Option<Frame>) {
        let partitioned = self.is_partitioned();
        let delay = if self.random.chance(5) {
            self.random.range(20, 400)
        } else {
            self.random.range(1, 15)
        };
        let Some(link) = self.conns.get_mut(&conn) else { return };
        let Some(from) = link.ends.iter().position(|end| end.0 == node) else {
            return;
        };
        if !link.open[from] {
            return;
        }
        if frame.is_none() {
            link.open[from] = false;
        }
        if link.dark || partitioned {
            link.dark = true;
            return;
        }
        let to = 1 - from;
        let due = (self.now + delay).max(link.last_due[to]);
        link.last_due[to] = due;
        self.at(due, Ev::Deliver { conn, to, frame });
    }

    fn deliver(&mut self, conn: ConnId, to: usize, frame: Option<Frame>) {
        let Some(link) = self.conns.get_mut(&conn) else { return };
        let (node, epoch) = link.ends[to];
        let event = match frame {
            None => {
                if !std::mem::take(&mut link.open[to]) {
                    return;
                }
                Event::Closed { conn, reason: None }
            }
            Some(frame) => Event::Frame { conn, frame },
        };
        if !self.alive(node, epoch) {
            return;
        }
        if let Event::Frame { frame, .. } = &event {
            self.note_delivery(conn, node, frame);
        }
        self.step(node, event);
    }

    /// One event into a node's machine, and everything it says.
    pub fn step(&mut self, node: usize, event: Event) {
        let now = self.now;
        let name = self.nodes[node].name;
        let Some(pair) = self.nodes[node].pair.as_mut() else {
            return;
        };
        let trace = self.trace.then(|| format!("{event:?}"));
        let ready = pair.step(now * 1000, event);
        if let Some(event) = trace.filter(|event| event != "Tick" || !ready.now.is_empty()) {
            println!("{now} {} {event:.300} => {:.900}", name, format!("{:?}", ready.now));
        }
        if let Err(defect) = pair.invariants() {
            self.fail(format!("{}: invariant: {defect}", self.nodes[node].name));
        }
        for action in ready.now {
            self.act(node, action);
        }
    }

    /// Every disturbance ends; every node runs.
    fn heal(&mut self) -> Result<(), String> {
        self.partition_until = 0;
        self.alias_until = 0;
        self.island_until = 0;
        self.nodes[D].remote = B;
        self.tamper_next = None;
        self.calm_since = self.calm_since.max(self.now);
        self.crash(C);
        for node in &mut self.nodes {
            (node.slow_until, node.advice_lost_until) = (0, 0);
            node.stores.iter_mut().for_each(|store| store.full_until = 0);
        }
        for node in [A, B, D] {
            if self.nodes[node]
                .stores
                .iter()
                .any(|store| store.broken || store.ledger.sync().is_err())
            {
                self.crash(node);
            }
        }
        (0..self.nodes.len()).for_each(|node| self.note_survivors(node));
        let standby = if self.promoted { D } else { B };
        for node in [A, B, standby] {
            self.start(node)?;
        }
        Ok(())
    }
}
