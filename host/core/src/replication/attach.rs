//! Links and handshakes: from a socket to a session. The order of the checks is in `core::session`; here is who may attach when, and what
//! must be durable before the next frame.

use crate::frame::{Frame, Kind};
use crate::session::{
    Agreement, Binding, ExpectHello, ExpectReply, ExpectVerdict, Fenced, Hello, Judge, LastReceiver, Own, OwnNamespace,
    RoundTrip, SessionKind, Stop, TakeOver, refuse,
};
use crate::types::strategy::Role;
use crate::types::{Digest, Namespace, Reader, Refusal};

use super::address::listening_address;
use super::advice::halt_frame;
use super::api::{Action, ConnId};
use super::control_file::ControlFile;
use super::link::{DialPurpose, Link, Session, Stage, Waiting};
use super::pair::{HANDSHAKE_MS, LINKS_MAX, Pair};
use super::peer::PeerTls;
use super::status::RefusedDial;
use super::turns::Turns;

impl Pair {
    pub(super) fn own(&self) -> Own {
        Own {
            role: self.setup.role,
            kind: self.setup.kind,
            program: self.setup.program.clone(),
            hostname: self.setup.hostname.clone(),
            node_id: self.setup.identity.node_id,
            lineage: self.setup.identity.lineage.clone(),
            binding: self.setup.binding.clone(),
            tls: self.setup.tls,
            listen: self.setup.listen.clone(),
            namespaces: self
                .lanes
                .iter()
                .map(|lane| OwnNamespace {
                    namespace: lane.setup.namespace.clone(),
                    role: lane.setup.role,
                    genesis: lane.setup.genesis,
                    tip: lane.local,
                    history_from: lane.setup.history_from,
                    // A follower's strategy runs on its end alone: there is nothing to compare.
                    strategies: match self.setup.kind {
                        SessionKind::Standby => lane.desks().map(|desk| desk.ours.clone()).to_vec(),
                        SessionKind::Follower => Vec::new(),
                    },
                    index: lane.index.own().clone(),
                })
                .collect(),
            self_section: self.setup.self_section.clone(),
        }
    }

    pub(super) fn on_accepted(&mut self, conn: ConnId, peer: PeerTls) {
        if self.links.len() >= LINKS_MAX {
            let refusal = Refusal::new("busy", "too many links at a time", "");
            return self.out.push(Action::Close {
                conn,
                refusal: Some(refusal),
            });
        }
        let stage = Stage::Fresh(ExpectHello::open());
        self.links.insert(
            conn,
            Link {
                peer,
                purpose: None,
                since: self.now,
                stage,
                claimed: None,
            },
        );
    }

    pub(super) fn on_dialed(&mut self, conn: ConnId, purpose: DialPurpose, peer: PeerTls) {
        let stage = match &purpose {
            DialPurpose::Session => {
                self.dialling = false;
                if self.setup.role != Role::Receiver || !self.setup.enabled || self.session.is_some() {
                    return self.out.push(Action::Close { conn, refusal: None });
                }
                let (hello, state) = ExpectReply::open(&self.own(), self.nonce());
                self.out.push(Action::Send {
                    conn,
                    frame: Frame::node(Kind::Hello, hello.encode()),
                });
                Stage::ExpectReply(state)
            }
            DialPurpose::Question { .. } => {
                self.out.push(Action::Send {
                    conn,
                    frame: Frame::node(Kind::Question, self.claim(None).encode()),
                });
                Stage::Asking
            }
            DialPurpose::Notice { .. } => {
                self.out.push(Action::Send {
                    conn,
                    frame: Frame::node(Kind::Notice, self.claim(None).encode()),
                });
                Stage::Telling
            }
        };
        self.links.insert(
            conn,
            Link {
                peer,
                purpose: Some(purpose),
                since: self.now,
                stage,
                claimed: None,
            },
        );
    }

    fn nonce(&mut self) -> [u8; 16] {
        self.nonces += 1;
        let mut text = self.setup.seed.to_le_bytes().to_vec();
        text.extend_from_slice(&self.nonces.to_le_bytes());
        text.extend_from_slice(&self.setup.identity.node_id.0);
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&Digest::of(&text).0[..16]);
        nonce
    }

    pub(super) fn on_dial_failed(&mut self, purpose: DialPurpose, refusal: Refusal) {
        match purpose {
            DialPurpose::Session => {
                self.dialling = false;
                self.remember(refusal);
                self.back_off();
            }
            DialPurpose::Question { address } => self.on_question_over(&address),
            DialPurpose::Notice { address } => self.on_notice_failed(&address),
        }
    }

    pub(super) fn on_closed(&mut self, conn: ConnId, reason: Option<Refusal>) {
        let Some(link) = self.links.remove(&conn) else { return };
        let streaming = self.session.as_ref().is_some_and(|session| session.conn == conn);
        match link.purpose {
            Some(DialPurpose::Question { address }) => self.on_question_broken(address),
            Some(DialPurpose::Notice { address }) => self.on_notice_failed(&address),
            Some(DialPurpose::Session) | None => {
                let ours = link.purpose.is_some();
                if streaming {
                    self.end_session();
                } else if ours {
                    self.back_off();
                }
                if streaming || ours {
                    let lost = || {
                        Refusal::new(
                            "unreachable",
                            "the link was lost",
                            "check the network and the other node",
                        )
                    };
                    self.remember(reason.unwrap_or_else(lost));
                }
            }
        }
    }

    pub(super) fn on_enabled(&mut self, enabled: bool) {
        if enabled == self.setup.enabled {
            return;
        }
        self.setup.enabled = enabled;
        self.dial_at = self.now;
        if enabled {
            return;
        }
        let conns: Vec<ConnId> = self
            .links
            .iter()
            .filter(|(_, link)| !matches!(link.stage, Stage::Asking | Stage::Telling | Stage::Fencing(_)))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in conns {
            self.close(conn, Some(refuse::disabled()), true);
        }
    }

    /// Who is in the middle of a frame is not silent: on a slow line a large one takes longer than heartbeats may be away.
    pub(super) fn on_arriving(&mut self, conn: ConnId) {
        if let Some(session) = self.session.as_mut().filter(|session| session.conn == conn) {
            session.judge.signal(self.now);
            self.last_heard = Some(self.now);
            self.lanes.iter_mut().for_each(|lane| lane.moved_at = self.now);
        }
    }

    pub(super) fn on_frame(&mut self, conn: ConnId, frame: Frame) {
        let Some(link) = self.links.get_mut(&conn) else {
            #[cfg(feature = "planted-faults")]
            if crate::planted::active(crate::planted::Fault::StaleAckAccepted) && frame.kind == Kind::Ack {
                self.on_session_frame(frame);
            }
            return;
        };
        // Whoever says hello here is not known yet: it may be a follower that looks for its VP at this standby.
        if link.purpose.is_some() || frame.kind != Kind::Hello {
            self.last_heard = Some(self.now);
        }
        if matches!(link.stage, Stage::Streaming) {
            return self.on_session_frame(frame);
        }
        if frame.kind == Kind::Goodbye {
            return self.on_goodbye(conn, &frame.payload);
        }
        let stage = std::mem::replace(&mut link.stage, Stage::Passing);
        match (stage, frame.kind) {
            (Stage::Fresh(state), Kind::Hello) => self.on_hello(conn, state, &frame.payload),
            (Stage::Fresh(_), Kind::Question | Kind::Notice) => self.on_claim(conn, &frame.payload),
            (Stage::ExpectVerdict(state), Kind::Verdict) => match state.on_verdict(&frame.payload) {
                Ok(agreement) => self.open_session(conn, agreement),
                Err(refusal) => self.refuse(conn, refusal),
            },
            (Stage::ExpectReply(state), Kind::Hello) => self.on_reply(conn, state, &frame.payload),
            (Stage::Asking, Kind::Answer) => self.on_answer(conn, &frame.payload),
            (Stage::Telling, Kind::Answer) => self.on_notice_answer(conn, &frame.payload),
            (_, kind) => self.refuse(conn, refuse::unexpected(&format!("frame {kind:?} in the handshake"))),
        }
    }

    pub(super) fn set_stage(&mut self, conn: ConnId, stage: Stage) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.stage = stage;
        }
    }

    /// Says no to a handshake, and remembers it for the status.
    pub(super) fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        // A second standby, or a stranger, is no news about the standby that is served.
        if self.session.is_none() {
            self.remember(refusal.clone());
        }
        let purpose = self.links.get(&conn).and_then(|link| link.purpose.clone());
        if let Some(link) = self.links.get(&conn).filter(|link| link.purpose.is_none()) {
            self.note_refused(RefusedDial::of(link, refusal.clone(), self.now));
        }
        self.close(conn, Some(refusal), true);
        if purpose == Some(DialPurpose::Session) {
            self.back_off();
        }
    }

    pub(super) fn on_goodbye(&mut self, conn: ConnId, payload: &[u8]) {
        let refusal =
            Refusal::read(&mut Reader::new(payload)).unwrap_or_else(|error| refuse::malformed("the goodbye", &error));
        let dialled = self
            .links
            .get(&conn)
            .is_some_and(|link| link.purpose == Some(DialPurpose::Session));
        let streaming = self.session.as_ref().is_some_and(|session| session.conn == conn);
        self.close(conn, Some(refusal.clone()), false);
        if dialled || streaming {
            self.remember(refusal);
            self.back_off();
        }
    }

    fn on_hello(&mut self, conn: ConnId, state: ExpectHello, payload: &[u8]) {
        if let (Some(link), Ok(hello)) = (self.links.get_mut(&conn), Hello::decode(payload)) {
            link.claimed = Some(hello.hostname);
        }
        if let Some(fenced) = self.place.fenced() {
            let refusal = refuse::fenced(&fenced.by());
            return self.refuse(conn, refusal);
        }
        if self.setup.role != Role::Provider {
            return self.refuse(conn, refuse::not_provider());
        }
        if self.is_standby() && Hello::decode(payload).is_ok_and(|hello| hello.kind == SessionKind::Follower) {
            return self.on_follower(conn, state, payload);
        }
        if !self.setup.enabled {
            return self.refuse(conn, refuse::disabled());
        }
        if let Some(failed) = self.control_failed.clone() {
            return self.refuse(conn, failed);
        }
        match state.on_hello(&self.own(), payload) {
            Err(Stop::Refused(refusal)) => self.refuse(conn, refusal),
            Err(Stop::Taken(take_over)) => self.on_taken(conn, take_over),
            Ok(state) => {
                if let Err(refusal) = self.check_name(conn, &state.hello().hostname) {
                    return self.refuse(conn, refusal);
                }
                if let Err(refusal) = self.make_room(conn, state.hello()) {
                    return self.refuse(conn, refusal);
                }
                self.out.push(Action::LookUp {
                    conn,
                    wanted: state.wanted(),
                });
                self.set_stage(conn, Stage::LookingUp(state));
            }
        }
    }

    /// A hello shows that this node's place was taken.
    pub(super) fn on_taken(&mut self, conn: ConnId, take_over: TakeOver) {
        let refusal = match self.believe(take_over, conn) {
            Ok(by) => refuse::fenced(&by),
            Err(refusal) => refusal,
        };
        self.refuse(conn, refusal);
    }

    /// One standby: another node's hello is refused while one is served; the same node's newer hello takes the place of its older link.
    fn make_room(&mut self, conn: ConnId, hello: &Hello) -> Result<(), Refusal> {
        let engaged: Vec<_> = self.engaged().filter(|(other, ..)| *other != conn).collect();
        #[cfg(feature = "planted-faults")]
        let engaged: Vec<_> = if crate::planted::active(crate::planted::Fault::SecondStandbyAccepted) {
            engaged
                .into_iter()
                .map(|(conn, _, hostname)| (conn, hello.node_id, hostname))
                .collect()
        } else {
            engaged
        };
        if let Some((_, _, hostname)) = engaged.iter().find(|(_, node_id, _)| *node_id != hello.node_id) {
            return Err(refuse::second_standby(hostname, &hello.hostname));
        }
        // Links are numbered as they come: a hello that was long on its way does not close its successor.
        if engaged.iter().any(|(other, ..)| *other > conn) {
            return Err(refuse::superseded());
        }
        for (older, ..) in engaged {
            self.close(older, Some(refuse::superseded()), true);
        }
        Ok(())
    }

    pub(super) fn on_found(&mut self, conn: ConnId, found: &[(Namespace, Option<Digest>)]) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let Stage::LookingUp(state) = std::mem::replace(&mut link.stage, Stage::Passing) else {
            return self.refuse(conn, refuse::unexpected("answer to a look-up"));
        };
        if let Some(by) = self.place.fenced().map(Fenced::by) {
            return self.refuse(conn, refuse::fenced(&by));
        }
        // Another handshake may have come first since.
        if let Err(refusal) = self.make_room(conn, &state.hello().clone()) {
            return self.refuse(conn, refusal);
        }
        let peer = state.hello();
        let socket = self.links.get(&conn).map_or("", |link| &link.peer.address);
        let last = LastReceiver {
            node_id: peer.node_id,
            hostname: peer.hostname.clone(),
            address: listening_address(socket, &peer.listen),
        };
        match state.found(&self.own(), found) {
            Ok((reply, state)) => self.attach(conn, last, reply, state),
            Err(refusal) => self.refuse(conn, refusal),
        }
    }

    /// Provider: before the receiver hears yes, its name must be durable: who had a receiver asks it after each start.
    fn attach(&mut self, conn: ConnId, last: LastReceiver, reply: Hello, state: ExpectVerdict) {
        if self.setup.last_receiver.as_ref() == Some(&last) || !self.is_standby() {
            self.out.push(Action::Send {
                conn,
                frame: Frame::node(Kind::Hello, reply.encode()),
            });
            return self.set_stage(conn, Stage::ExpectVerdict(state));
        }
        if let Err(refusal) = self.replace_standby(&last) {
            return self.refuse(conn, refusal);
        }
        self.on_standby_moved();
        self.set_stage(conn, Stage::Attaching(Box::new(reply), state));
        self.persist(ControlFile::LastReceiver(last), Waiting::Link(conn));
    }

    /// Receiver: the provider's reply; the binding must be durable before the provider hears yes.
    fn on_reply(&mut self, conn: ConnId, state: ExpectReply, payload: &[u8]) {
        let dialled = self.links.get(&conn).and_then(|link| link.peer.dialled.clone());
        match state.on_hello(&self.own(), dialled.as_deref(), payload) {
            Err(refusal) => self.refuse(conn, refusal),
            Ok(state) => {
                let binding: Binding = state.binding().clone();
                self.set_stage(conn, Stage::Binding(state));
                if self.setup.binding.as_ref() == Some(&binding) {
                    return self.on_link_persisted(conn);
                }
                self.setup.binding = Some(binding.clone());
                self.persist(ControlFile::Binding(binding), Waiting::Link(conn));
            }
        }
    }

    pub(super) fn on_link_persisted(&mut self, conn: ConnId) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        match std::mem::replace(&mut link.stage, Stage::Passing) {
            Stage::Attaching(reply, state) => {
                link.stage = Stage::ExpectVerdict(state);
                self.out.push(Action::Send {
                    conn,
                    frame: Frame::node(Kind::Hello, reply.encode()),
                });
            }
            Stage::Binding(state) => {
                let (verdict, agreement) = state.persisted();
                self.out.push(Action::Send {
                    conn,
                    frame: Frame::node(Kind::Verdict, verdict),
                });
                self.out.push(Action::Attached {
                    self_section: agreement.provider_self().to_vec(),
                    reigns: agreement.provider_lineage().reigns().to_vec(),
                });
                self.open_session(conn, agreement);
            }
            stage => link.stage = stage,
        }
    }

    fn open_session(&mut self, conn: ConnId, agreement: Agreement) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.stage = Stage::Streaming;
        let limits = self.setup.limits;
        (self.ending, self.turns) = (None, Turns::new(limits.turns));
        for agreed in agreement.namespaces() {
            let Some(lane) = self.lanes.iter_mut().find(|lane| lane.tag == agreed.tag) else {
                continue;
            };
            lane.attach((self.setup.role, self.setup.kind), agreed, self.now);
        }
        self.session = Some(Session {
            conn,
            address: link.peer.address.clone(),
            tls: link.peer.tls,
            warning: link.peer.warning(agreement.peer_hostname()),
            not_after: link.peer.not_after,
            agreement,
            since: self.now,
            judge: Judge::new(limits.heartbeat_ms, limits.heartbeat_misses, self.now),
            beat_at: self.now,
            round_trip: RoundTrip::default(),
            peer_reasons: Vec::new(),
        });
        if self.is_standby() {
            self.open_changes();
            self.queues.attach();
            self.taker.attach();
        }
        for index in 0..self.lanes.len() {
            self.announce_store(index);
            if self.serves_follower() {
                // No strategy speaks for it: the operator's limit alone holds.
                self.advise_rate(index, 0);
                continue;
            }
            self.announce_quarantine(index);
            self.announce_index(index);
            self.compare_strategies(index);
        }
    }

    /// A receiver whose store takes nothing now says so: else its provider would see a stream that stands still.
    fn announce_store(&mut self, index: usize) {
        let lane = self.lanes.get(index).filter(|_| self.setup.role == Role::Receiver);
        let frame = lane.and_then(|lane| Some(halt_frame(lane, lane.store.as_ref()?)));
        if let Some(frame) = frame {
            self.send_session(frame);
        }
    }

    /// Links that stay silent in the handshake.
    pub(super) fn settle_links(&mut self) {
        let now = self.now;
        let late =
            |link: &Link| !matches!(link.stage, Stage::Streaming) && now.saturating_sub(link.since) >= HANDSHAKE_MS;
        let conns: Vec<ConnId> = self
            .links
            .iter()
            .filter(|(_, link)| late(link))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in conns {
            let Some(link) = self.links.get(&conn) else { continue };
            let (purpose, since) = (link.purpose.clone(), link.since);
            self.close(conn, Some(refuse::silent(HANDSHAKE_MS)), true);
            match purpose {
                Some(DialPurpose::Session) => {
                    self.remember_silence(since);
                    self.back_off();
                }
                Some(DialPurpose::Question { address }) => self.on_question_over(&address),
                Some(DialPurpose::Notice { address }) => self.on_notice_failed(&address),
                None => {}
            }
        }
    }
}
