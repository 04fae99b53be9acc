//! The world: machines in virtual time, one queue of what will happen, one loop over it.

use std::collections::{BTreeMap, BTreeSet};

use cvp_core::frame::Frame;
use cvp_core::replication::{ArchiveWork, ConnId, ControlFile, DialPurpose, Event, Token};
use cvp_core::session::{Identity, Lineage};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Digest, Incarnation, Millis, Namespace, NodeId};

use crate::archive::Retention;
use crate::chain::{self, Tamper};
use crate::check::Wire;
use crate::configuration::ONLINE;
use crate::counts::Counts;
use crate::network::Conn;
use crate::node::Node;
use crate::papers::Papers;
use crate::queues::{Consumers, QueueWishes};
use crate::random::Random;
use crate::tree::Trees;

pub const A: usize = 0;
pub const B: usize = 1;
/// A second standby that must be refused.
pub const C: usize = 2;
/// A standby of the promoted node.
pub const D: usize = 3;
/// Another provider with the same hostname and genesis.
pub const F: usize = 4;
/// A node that follows the chains of the provider, whoever that is.
pub const G: usize = 5;

/// Time of chaos, and of quiet after it.
const CHAOS_MS: (Millis, Millis) = (12_000, 30_000);
const QUIET_MS: Millis = 45_000;
/// Makers stop so long before the end.
const STILL_MS: Millis = 15_000;
/// What still comes at the end is watched on so long, a look at a time: a chain that an operator started anew just
/// before the stillness comes through a small window. What stands still is judged.
const LATE_MS: Millis = 30_000;
const LOOK_MS: Millis = 2_000;
/// Longer than the pause before the ninth snapshot in a row.
const PAUSE_MS: Millis = 700_000;
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
    Archive {
        node: usize,
        epoch: u64,
        ns: Namespace,
        work: ArchiveWork,
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
    /// A link breaks.
    Cut {
        conn: ConnId,
    },
    Restart {
        node: usize,
    },
    /// The operator says `cvp upgrade`.
    Upgrade {
        node: usize,
        target_is_down: bool,
    },
    /// The next step of a promotion.
    Promote {
        node: usize,
        epoch: u64,
    },
    Crash {
        node: usize,
        epoch: u64,
    },
    Chaos,
    /// The node's tree thread ends a work.
    Job {
        node: usize,
        epoch: u64,
    },
    /// An operator comes by.
    Operator,
    /// A provider whose list of namespaces has changed goes on with it.
    Switch {
        node: usize,
        epoch: u64,
    },
    /// A receiver follows its provider's list.
    Align {
        node: usize,
        epoch: u64,
        missing: Vec<Namespace>,
        extra: Vec<Namespace>,
    },
    /// The host looks at its index backends, which are down or up from now on.
    Index(usize, Option<bool>),
    /// A client registers or unregisters a queue.
    Client,
    /// A provider tells its queues.
    Tell {
        node: usize,
        epoch: u64,
    },
    /// The broker of a node comes back.
    Broker(usize),
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

pub struct World {
    pub seed: u64,
    pub now: Millis,
    pub random: Random,
    pub nodes: Vec<Node>,
    pub namespaces: Vec<Namespace>,
    queue: BTreeMap<(Millis, u64), Ev>,
    order: u64,
    pub conns: BTreeMap<ConnId, Conn>,
    pub conn_ids: ConnId,
    /// Nobody reaches anybody.
    pub partition_until: Millis,
    /// Since when no link or dial was disturbed.
    pub calm_since: Millis,
    /// B's dials reach F instead of its provider.
    pub alias_until: Millis,
    /// A and B do not reach each other; others reach both.
    pub island_until: Millis,
    pub tamper_next: Option<Tamper>,
    /// How much of its history every node keeps.
    pub retention: Retention,
    pub chaos_until: Millis,
    /// Whom the follower asked last.
    pub follower_asks_a: bool,
    pub end: Millis,
    healed: bool,
    /// B's promotion has begun: it cannot be taken back.
    pub promoted: bool,
    /// Every record that was ever durable at a maker.
    pub durable: BTreeSet<(usize, u64, Digest)>,
    pub wire: Wire,
    pub trees: Trees,
    pub queue_wishes: QueueWishes,
    pub consumers: Consumers,
    pub counts: Counts,
    pub failure: Option<String>,
    /// Prints every step (CVP_SIM_TRACE=1).
    trace: bool,
}

impl World {
    pub fn new(seed: u64) -> Result<World, String> {
        let mut random = Random::new(seed);
        let name = |text: &str| Namespace::new(text).map_err(|error| error.to_string());
        let namespaces = vec![name("global")?, name("ns1")?, name(ONLINE)?];
        let papers = Papers::draw(&mut random);
        let indexed = crate::index::draw(&namespaces, &mut random);
        let first = Lineage::begin(Incarnation {
            number: 1,
            id: random.id(),
        });
        let geneses = namespaces
            .iter()
            .map(|name| Ok((name.clone(), chain::genesis(name)?)))
            .collect::<Result<Vec<_>, cvp_core::types::Malformed>>()
            .map_err(|error| error.to_string())?;
        let none = Lineage::default();
        let other = Lineage::begin(Incarnation {
            number: 1,
            id: random.id(),
        });
        let (provider, receiver) = (Role::Provider, Role::Receiver);
        let machines = [
            ("a", ("node1", provider, "cvp1 b:1"), &first),
            ("b", ("cvp1", receiver, "node1 a:1"), &none),
            ("c", ("cvp2", receiver, "node1 a:1"), &none),
            ("d", ("cvp3", receiver, "node1 b:1"), &none),
            ("f", ("node1", provider, ""), &first),
            ("g", ("node2", provider, ""), &other),
        ];
        let online = random.chance(60);
        let retention = Retention::draw(seed);
        let mut nodes = Vec::new();
        for (name, host, lineage) in machines {
            let identity = Identity {
                node_id: NodeId(random.id()),
                lineage: lineage.clone(),
            };
            let mut node = Node::new(name, host, &geneses, (online, &indexed), &identity, papers)?;
            node.making_every = random.range(20, 400);
            node.follows = name == "g";
            node.retention = retention;
            nodes.push(node);
        }
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
            retention,
            chaos_until,
            follower_asks_a: false,
            end: chaos_until + QUIET_MS,
            healed: false,
            promoted: false,
            durable: BTreeSet::new(),
            wire: Wire::default(),
            trees: Trees::new(machines.len()),
            queue_wishes: QueueWishes::default(),
            consumers: Consumers::default(),
            counts: Counts::default(),
            failure: None,
            trace: std::env::var_os("CVP_SIM_TRACE").is_some(),
        };
        for node in [A, B, F, G] {
            world.start(node)?;
        }
        world.later(500, Ev::Chaos);
        world.later(200, Ev::Operator);
        if world.retention.queues {
            world.later(300, Ev::Client);
        }
        Ok(world)
    }

    /// Runs to the end, and judges it.
    pub fn run(&mut self) -> Result<(), String> {
        self.run_to_end()?;
        let (last, mut backlog) = (self.end + LATE_MS, self.backlog());
        let last_pause = self.end + PAUSE_MS;
        loop {
            // A receiver that began again and again waits before it begins once more.
            let pauses = self.begins_again() && self.end < last_pause;
            if !pauses && (backlog == 0 || self.end >= last) {
                break;
            }
            self.end += LOOK_MS;
            self.run_to_end()?;
            let before = std::mem::replace(&mut backlog, self.backlog());
            if backlog >= before && !pauses {
                break;
            }
        }
        self.check_end().map_err(|failure| format!("at the end: {failure}"))
    }

    fn run_to_end(&mut self) -> Result<(), String> {
        while self.now < self.end {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                break;
            };
            if !self.healed && at >= self.chaos_until {
                self.healed = true;
                self.heal()?;
            }
            self.now = self.now.max(at);
            self.dispatch(event)?;
            if let Some(failure) = self.failure.take() {
                return Err(format!("at {} ms: {failure}", self.now));
            }
        }
        Ok(())
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

    /// A process starts: a promotion that a crash interrupted goes on before anything serves.
    pub fn start(&mut self, node: usize) -> Result<(), String> {
        // A VP keeps nothing for those that follow it: where history goes, nobody does.
        let lonely = node == G && self.retention.keep_blocks > 0;
        if self.nodes[node].is_up() || lonely {
            return Ok(());
        }
        self.finish_commit(node);
        self.nodes[node].open_stores();
        if self.resume(node)? {
            return Ok(());
        }
        self.attach(node)
    }

    /// A machine is made from the files, and runs.
    pub fn attach(&mut self, node: usize) -> Result<(), String> {
        self.nodes[node].make_pair(self.now, &mut self.random)?;
        self.check_standing(node)?;
        self.note_survivors(node);
        if self.nodes[node].role == Role::Provider {
            self.note_own(node);
        }
        self.begin_ticking(node)
    }

    /// A new machine begins.
    pub fn begin_ticking(&mut self, node: usize) -> Result<(), String> {
        let epoch = self.nodes[node].epoch;
        self.tell_held(node)?;
        self.step(node, Event::Tick);
        self.later(TICK_MS, Ev::Tick { node, epoch });
        self.begin_looking(node);
        self.refresh_queues(node)
    }

    pub fn alive(&self, node: usize, epoch: u64) -> bool {
        self.nodes[node].is_up() && self.nodes[node].epoch == epoch
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
            Ev::Switch { node, epoch } if self.alive(node, epoch) => self.switch(node)?,
            Ev::Align {
                node,
                epoch,
                missing,
                extra,
            } if self.alive(node, epoch) => self.align(node, &missing, &extra)?,
            Ev::Job { node, epoch } if self.alive(node, epoch) => self.work(node),
            Ev::Operator if !self.is_still() => self.operate()?,
            Ev::Index(node, down) => self.look_at_index(node, down)?,
            Ev::Client if !self.is_still() => self.call()?,
            Ev::Tell { node, epoch } if self.alive(node, epoch) => self.tell_queues(node)?,
            Ev::Broker(node) => self.toggle_broker(node, false),
            Ev::Cut { conn } if self.now < self.chaos_until => self.cut(conn),
            Ev::Restart { node } => self.start(node)?,
            Ev::Upgrade { node, target_is_down } => self.upgrade(node, target_is_down)?,
            Ev::Promote { node, epoch } if self.alive(node, epoch) => self.promote(node)?,
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
            Ev::Archive { node, epoch, ns, work } if self.alive(node, epoch) => self.archive(node, &ns, work),
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

    /// One event into a node's machine, and everything it says.
    pub fn step(&mut self, node: usize, event: Event) {
        if self.step_served(node, &event) {
            return;
        }
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
}
