//! The network: links that delay, lose, fall silent and reorder against each other.

use cvp_core::frame::Frame;
use cvp_core::replication::{ConnId, DialPurpose, Event};
use cvp_core::types::{Millis, Refusal};

use crate::node::Node;
use crate::world::{A, B, Ev, World};

/// A link: index 0 dialled, index 1 accepted.
pub struct Conn {
    pub ends: [(usize, u64); 2],
    pub open: [bool; 2],
    pub last_due: [Millis; 2],
    /// Nothing passes any more, and nobody is told.
    pub dark: bool,
    /// What is sent until then takes long.
    pub congested_until: Millis,
}

impl World {
    pub fn node_at(&self, address: &str) -> Option<usize> {
        let name = address.split(':').next()?;
        self.nodes.iter().position(|node| node.name == name)
    }

    pub fn is_partitioned(&self) -> bool {
        self.now < self.partition_until
    }

    /// Whether nothing goes between two machines.
    pub fn is_cut_off(&self, one: usize, other: usize) -> bool {
        let island = self.now < self.island_until && one.min(other) == A && one.max(other) == B;
        self.is_partitioned() || island
    }

    pub fn connect(&mut self, node: usize, purpose: DialPurpose, target: Option<usize>) {
        let listens = |target: &usize| self.nodes[*target].pair.is_some() && !self.is_cut_off(node, *target);
        let Some(target) = target.filter(|target| *target != node && listens(target)) else {
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
                congested_until: 0,
            },
        );
        let peer = |end: usize, dialled: Option<String>| {
            let Node {
                name, made_as, papers, ..
            } = &self.nodes[end];
            papers.peer(format!("{name}:9"), made_as, dialled)
        };
        let dialled = (purpose == DialPurpose::Session).then(|| "node1".to_owned());
        let (peer, there) = (peer(node, None), peer(target, dialled));
        let epoch = self.nodes[target].epoch;
        let accepted = Event::Accepted { conn, peer };
        // The acceptor sees the link before any frame on it.
        self.later(
            0,
            Ev::Host {
                node: target,
                epoch,
                event: accepted,
            },
        );
        self.step(
            node,
            Event::Dialed {
                conn,
                purpose,
                peer: there,
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
        let congestion = self.random.range(200, 1_500);
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
        let congested = self.now < link.congested_until;
        let delay = if congested { congestion } else { delay };
        let due = (self.now + delay).max(link.last_due[to]);
        link.last_due[to] = due;
        self.at(due, Ev::Deliver { conn, to, frame });
    }

    pub fn deliver(&mut self, conn: ConnId, to: usize, frame: Option<Frame>) {
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

    /// A machine ends its links with what is queued on them; its process goes on.
    pub fn end_links(&mut self, node: usize) {
        let epoch = self.nodes[node].epoch;
        let own: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, link)| link.ends.contains(&(node, epoch)))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in own {
            self.send(node, conn, None);
        }
    }
}
