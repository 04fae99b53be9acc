//! The driver's links: dials, what was dialled, what was accepted.

use cvp_core::config::Remote;
use cvp_core::frame::{Frame, Side};
use cvp_core::replication::{ConnId, DialPurpose, Event, PeerTls, Setup};

use super::dialer::{Dialled, describe, dial_for};
use super::driver::{Driver, Inbound};
use super::serving::Handed;
use crate::link::{Link, LinkEvent};

impl Driver {
    pub(super) fn dial(&mut self, purpose: DialPurpose) {
        let (remotes, known, tls) = (
            self.environment.remotes.clone(),
            self.environment.known.clone(),
            self.environment.tls.clone(),
        );
        let shunned = self.links.shunned.addresses(self.now());
        let (answers, epoch) = (self.inbound.clone(), self.epoch);
        tokio::spawn(async move {
            let linked = dial_for(purpose.clone(), remotes, known, &shunned, tls).await;
            let _ = answers.send(Inbound::Linked(epoch, purpose, linked)).await;
        });
    }

    pub(super) fn on_dialled(&mut self, purpose: DialPurpose, linked: Dialled) {
        match linked {
            Ok((link, remote)) => {
                let peer = describe(&link.peer, Some(&remote.hostname), &self.environment.tls);
                let conn = if purpose == DialPurpose::Session {
                    self.open(link, Side::Receiver, Some(remote))
                } else {
                    self.open(link, Side::Provider, None)
                };
                self.feed(Event::Dialed { conn, purpose, peer });
            }
            Err(refusal) => {
                if refusal.code != "unreachable" {
                    let now = self.now();
                    self.links.log_refused("dial", &refusal, now);
                }
                self.feed(Event::DialFailed { purpose, refusal });
            }
        }
    }

    pub(super) fn on_accepted(&mut self, link: Link) {
        if !self.running {
            return;
        }
        let peer = describe(&link.peer, None, &self.environment.tls);
        let conn = self.open(link, Side::Provider, None);
        self.feed(Event::Accepted { conn, peer });
    }

    fn open(&mut self, link: Link, side: Side, remote: Option<Remote>) -> ConnId {
        let (answers, epoch) = (self.inbound.clone(), self.epoch);
        self.links.open(link, side, remote, move |conn, event, route| {
            let handed_over = route.get().cloned();
            let answers = handed_over.unwrap_or_else(|| answers.clone());
            async move {
                let event = match event {
                    LinkEvent::Frame(frame) => Event::Frame { conn, frame },
                    LinkEvent::Arriving => Event::Arriving(conn),
                    LinkEvent::Closed(error) => Event::Closed {
                        conn,
                        reason: Some(error.refusal()),
                    },
                };
                let _ = answers.send(Inbound::Core(epoch, event)).await;
            }
        })
    }

    /// A follower's link leaves this task for one of its own.
    pub(super) fn hand_over(&mut self, conn: ConnId, peer: PeerTls, hello: Frame, setup: Setup) {
        let (answers, epoch) = (self.inbound.clone(), self.epoch);
        let gone = async move {
            let _ = answers.send(Inbound::Core(epoch, Event::FollowerGone(conn))).await;
        };
        let Some((connection, route)) = self.links.take(conn) else {
            tokio::spawn(gone);
            return;
        };
        let handed = Handed {
            conn,
            peer,
            hello,
            setup,
            connection,
            route,
        };
        self.served.begin(handed, self.environment.chains.clone(), gone);
    }
}
