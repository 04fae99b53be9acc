//! How the machines of a run prove who they are: certificates and the node key, drawn for each run; and a stranger who holds neither.

use cvp_core::frame::{Frame, Kind};
use cvp_core::replication::{ControlFile, Event, PeerTls};
use cvp_core::session::{Claim, NodeKey, TakeOver};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Digest, Hostname, Incarnation, NodeId};

use crate::network::Conn;
use crate::random::Random;
use crate::world::{A, B, Ev, F, World};

/// What the operator gave the machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Papers {
    /// Certificates with the own name and the one to be taken over, and the provider's node key.
    All,
    /// One certificate for all, and the node key.
    SharedCertificate,
    /// Certificates alone.
    NoKey,
}

impl Papers {
    pub fn draw(random: &mut Random) -> Papers {
        [Papers::All, Papers::SharedCertificate, Papers::NoKey][random.range(0, 2) as usize]
    }

    /// Signs as the provider's node key does.
    pub fn sign(self, take_over: &TakeOver) -> Vec<u8> {
        match self {
            Papers::NoKey => Vec::new(),
            _ => signature(&take_over.statement()),
        }
    }

    /// The key that every machine of the provider's name has.
    pub fn node_key(self) -> NodeKey {
        match self {
            Papers::NoKey => NodeKey::default(),
            _ => NodeKey::new(|statement, found| found == signature(statement)),
        }
    }

    /// What a link shows of a machine that was made as `hostname`; every one may become node1.
    pub fn peer(self, address: String, hostname: &str, dialled: Option<String>) -> PeerTls {
        let shared = self == Papers::SharedCertificate;
        let own = [hostname, "node1"].map(str::to_owned).to_vec();
        PeerTls {
            address,
            tls: true,
            dialled,
            names: if shared { vec!["pair".to_owned()] } else { own },
            shared,
            not_after: None,
        }
    }
}

fn signature(statement: &[u8]) -> Vec<u8> {
    Digest::of(&[b"the node key of node1", statement].concat()).0.to_vec()
}

impl World {
    /// A member of the same CA tells a provider that its place was taken: it knows everything but the key, and has another name.
    pub fn forger(&mut self) -> Result<(), String> {
        let victim = if self.promoted { B } else { A };
        if self.nodes[victim].pair.is_none() || self.nodes[victim].role != Role::Provider {
            return Ok(());
        }
        let identity = self.nodes[victim].identity()?;
        let Some(old) = identity.lineage.current() else {
            return Ok(());
        };
        let name = |text: &str| Hostname::new(text).map_err(|error| error.to_string());
        let new = Incarnation {
            number: old.number + 1,
            id: self.random.id(),
        };
        let take_over = TakeOver {
            node_id: identity.node_id,
            hostname: name("node1")?,
            old,
            new,
            signature: signature(&self.random.id()),
        };
        let claimed = if self.random.chance(50) { "node1" } else { "cvp9" };
        let claim = Claim {
            role: Role::Provider,
            hostname: name(claimed)?,
            node_id: NodeId(self.random.id()),
            incarnation: Some(new),
            take_over: Some(take_over),
            fenced: false,
        };
        let kind = if self.random.chance(50) {
            Kind::Notice
        } else {
            Kind::Question
        };
        self.counts.forgeries += 1;
        self.tell(victim, Frame::node(kind, claim.encode()));
        Ok(())
    }

    /// A link of the stranger's, with one frame.
    fn tell(&mut self, victim: usize, frame: Frame) {
        self.conn_ids += 1;
        let (conn, epoch) = (self.conn_ids, self.nodes[victim].epoch);
        let link = Conn {
            ends: [(F, self.nodes[F].epoch), (victim, epoch)],
            open: [true, true],
            last_due: [0, 0],
            dark: false,
            congested_until: 0,
        };
        self.conns.insert(conn, link);
        let mut peer = Papers::All.peer("x:9".into(), "cvp9", None);
        peer.names = vec!["cvp9".to_owned()];
        let node = victim;
        self.later(
            0,
            Ev::Host {
                node,
                epoch,
                event: Event::Accepted { conn, peer },
            },
        );
        let (to, frame) = (1, Some(frame));
        self.later(5, Ev::Deliver { conn, to, frame });
    }

    /// Nobody is fenced but by the machine that took its place.
    pub fn check_fence(&mut self, node: usize, what: &ControlFile) {
        let ControlFile::Fenced(fenced) = what else { return };
        let successor = self.nodes[B].identity().ok().and_then(|own| own.lineage.current());
        if !(self.promoted && node == A && successor == Some(fenced.by())) {
            let text = format!(
                "{} is fenced by {}, which took nobody's place",
                self.nodes[node].name,
                fenced.by()
            );
            self.fail(text);
        }
    }
}
