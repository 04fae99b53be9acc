//! Who follows this node: how many, which, and under which incarnation. The pair's machine admits a follower, hands its link over to a
//! machine of its own, and is told when that has ended. So whatever a follower does or leaves undone, the standby's session and its place
//! do not see it.

use std::collections::BTreeMap;

use crate::frame::{Frame, Kind};
use crate::session::{ExpectHello, FOLLOWERS_MAX, Hello, Own, SessionKind, Stop, refuse};
use crate::types::strategy::Role;
use crate::types::{Hostname, NodeId, NodeRole, Refusal, Writer};

use super::api::{Action, ConnId};
use super::lane::Lane;
use super::pair::Pair;
use super::setup::Setup;
use super::{ChangesSetup, Inventory};
use crate::session::STANDBY_KEY;

/// Incarnations of followers that are remembered; beyond it the node that was met longest ago is forgotten.
const MET_MAX: usize = 256;

#[derive(Clone, Debug)]
struct Served {
    node_id: NodeId,
    hostname: Hostname,
}

/// The followers that are served.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers {
    served: BTreeMap<ConnId, Served>,
    /// The highest incarnation of each node that followed, oldest meeting first.
    met: Vec<(NodeId, u64)>,
}

impl Followers {
    /// Takes one in. Answers its older link, if it has one: a newer hello of the same node takes its place.
    fn admit(&mut self, conn: ConnId, hello: &Hello) -> Result<Option<ConnId>, Refusal> {
        let number = hello.lineage.current().map_or(0, |incarnation| incarnation.number);
        let known = self.met.iter().position(|(node_id, _)| *node_id == hello.node_id);
        let highest = known.and_then(|at| self.met.get(at)).map_or(0, |(_, number)| *number);
        if number < highest {
            return Err(refuse::older_follower(&hello.hostname));
        }
        let older = self.served.iter().find(|(_, served)| served.node_id == hello.node_id);
        let older = older.map(|(conn, _)| *conn);
        #[cfg(feature = "planted-faults")]
        let unlimited = crate::planted::active(crate::planted::Fault::FollowersUnlimited);
        #[cfg(not(feature = "planted-faults"))]
        let unlimited = false;
        if older.is_none() && self.served.len() >= FOLLOWERS_MAX && !unlimited {
            return Err(refuse::too_many_followers(&hello.hostname));
        }
        if let Some(older) = older {
            if older > conn {
                return Err(refuse::superseded());
            }
            self.served.remove(&older);
        }
        if let Some(at) = known {
            self.met.remove(at);
        } else if self.met.len() >= MET_MAX {
            self.met.remove(0);
        }
        self.met.push((hello.node_id, number));
        let served = Served {
            node_id: hello.node_id,
            hostname: hello.hostname.clone(),
        };
        self.served.insert(conn, served);
        Ok(older)
    }

    /// Its link has ended.
    pub fn leave(&mut self, conn: ConnId) {
        self.served.remove(&conn);
    }

    /// Each by its link.
    pub fn list(&self) -> Vec<(ConnId, Hostname)> {
        let served = self.served.iter();
        served.map(|(conn, served)| (*conn, served.hostname.clone())).collect()
    }

    /// A machine in the place of this one remembers whom it met.
    pub fn met(&self) -> Followers {
        Followers {
            served: BTreeMap::new(),
            met: self.met.clone(),
        }
    }
}

impl Pair {
    /// Whether an ack is of the standby: what a follower holds is nobody's backup.
    pub(super) fn is_standby_ack(&self) -> bool {
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::FollowerTakenForStandby) {
            return true;
        }
        self.is_standby()
    }

    /// Whether this machine serves one follower.
    pub(super) fn serves_follower(&self) -> bool {
        !self.is_standby() && self.setup.role == Role::Provider
    }

    /// A follower says hello: all that can be said against it is said here, before it costs a machine.
    pub(super) fn on_follower(&mut self, conn: ConnId, state: ExpectHello, payload: &[u8]) {
        let own = Own {
            kind: SessionKind::Follower,
            ..self.own()
        };
        let hello = match state.on_hello(&own, payload) {
            Err(Stop::Refused(refusal)) => return self.refuse_follower(conn, refusal),
            Err(Stop::Taken(take_over)) => return self.on_taken(conn, take_over),
            Ok(state) => state.hello().clone(),
        };
        let admitted = self
            .check_name(conn, &hello.hostname)
            .and_then(|()| self.check_made_here(&hello))
            .and_then(|()| self.followers.admit(conn, &hello));
        let older = match admitted {
            Ok(older) => older,
            Err(refusal) => return self.refuse_follower(conn, refusal),
        };
        if let Some(older) = older {
            self.out.push(Action::Dismiss {
                conn: older,
                refusal: refuse::superseded(),
            });
        }
        let Some(link) = self.links.remove(&conn) else {
            return self.followers.leave(conn);
        };
        self.out.push(Action::HandOver {
            conn,
            peer: link.peer,
            hello: Frame::node(Kind::Hello, payload.to_vec()),
            setup: Box::new(self.follower_setup(&hello)),
        });
    }

    /// A follower of nothing that is made here does not cost its earlier session.
    fn check_made_here(&self, hello: &Hello) -> Result<(), Refusal> {
        match (
            self.lanes.iter().find(|lane| is_made_for(lane, hello)),
            hello.namespaces.first(),
        ) {
            (None, Some(offer)) => Err(refuse::not_served(&offer.namespace, &self.setup.hostname)),
            _ => Ok(()),
        }
    }

    /// Says no, and nothing of it to the pair's status but the last refused dial.
    fn refuse_follower(&mut self, conn: ConnId, refusal: Refusal) {
        let ending = self.ending.clone();
        self.refuse(conn, refusal);
        self.ending = ending;
    }

    /// The machine that serves one follower: the chains that it asks for, and whose blocks are made here, as far as they are now. It hears of
    /// no other.
    fn follower_setup(&self, hello: &Hello) -> Setup {
        let mut setup = self.setup.clone();
        setup.kind = SessionKind::Follower;
        setup.enabled = true;
        setup.notify = Vec::new();
        setup.ask = Vec::new();
        setup.copy = Inventory::default();
        setup.changes = ChangesSetup::default();
        let standby = self.setup.last_receiver.iter().map(|last| last.address.clone());
        let standby = standby.filter(|address| !address.is_empty());
        setup.self_section = standby.map(|address| (STANDBY_KEY.to_owned(), address)).collect();
        setup.namespaces = Vec::new();
        for lane in self.lanes.iter().filter(|lane| is_made_for(lane, hello)) {
            let mut namespace = lane.setup.clone();
            (namespace.durable, namespace.applied) = (lane.local, lane.applied);
            setup.namespaces.push(namespace);
        }
        setup
    }

    /// What a follower was told of the standby is not true any more: each dials again, and hears it.
    pub(super) fn on_standby_moved(&mut self) {
        self.dismiss_followers(&refuse::standby_moved());
    }

    /// Ends the sessions of all followers.
    pub(super) fn dismiss_followers(&mut self, refusal: &Refusal) {
        let conns: Vec<ConnId> = self.followers.served.keys().copied().collect();
        for conn in conns {
            let refusal = refusal.clone();
            self.out.push(Action::Dismiss { conn, refusal });
        }
    }

    /// Serving a follower: its link is to be closed, and it hears why. Answers the goodbye to send before.
    pub fn dismiss(refusal: &Refusal) -> Frame {
        let mut out = Writer::new();
        refusal.write(&mut out);
        Frame::node(Kind::Goodbye, out.into_bytes())
    }
}

/// Whether its blocks are made here, and the follower asks for it.
fn is_made_for(lane: &Lane, hello: &Hello) -> bool {
    lane.setup.role == NodeRole::Vp && hello.offer(&lane.setup.namespace).is_some()
}
