//! Whether this node may speak under its hostname: the question a provider asks before its first block after a start, the notice a
//! promoted node gives its predecessor, and the fence.
//!
//! Best effort, and said so (contract.md §3): nodes that are cut off from each other cannot learn of each other.

use std::collections::BTreeSet;

use crate::frame::{Frame, Kind};
use crate::session::{Backoff, BackoffRange, Claim, ClaimVerdict, Fenced, Lineage, judge_claim, refuse};
use crate::types::strategy::{Level, Role};
use crate::types::{Incarnation, Millis};

use super::api::{Action, ConnId, ControlFile, DialPurpose, Setup};
use super::pair::{Pair, Stage, Waiting};

/// The first block waits at most so long for answers.
const ASK_MS: Millis = 1_000;

/// Pauses between two dials of a predecessor.
const NOTICE_RANGE: BackoffRange = BackoffRange {
    first_ms: 100,
    last_ms: 1_000,
};

#[derive(Debug)]
struct Telling {
    address: String,
    backoff: Backoff,
    at: Millis,
    under_way: bool,
}

/// This node's place.
#[derive(Debug)]
pub(super) struct Place {
    making: bool,
    /// Addresses that have not answered, and until when they may.
    asking: Option<(Millis, BTreeSet<String>)>,
    telling: Vec<Telling>,
    fenced: Option<Fenced>,
    fence_durable: bool,
}

impl Place {
    pub fn new(setup: &Setup) -> Place {
        let telling = setup
            .notify
            .iter()
            .map(|address| Telling {
                address: address.clone(),
                backoff: Backoff::new(NOTICE_RANGE, setup.seed),
                at: 0,
                under_way: false,
            })
            .collect();
        Place {
            making: false,
            asking: None,
            telling,
            fenced: setup.fenced.clone(),
            fence_durable: setup.fenced.is_some(),
        }
    }

    pub fn making(&self) -> bool {
        self.making
    }

    pub fn is_fenced(&self) -> bool {
        self.fenced.is_some()
    }

    pub fn fenced(&self) -> Option<&Fenced> {
        self.fenced.as_ref()
    }
}

impl Pair {
    pub(super) fn claim(&self) -> Claim {
        Claim {
            role: self.setup.role,
            hostname: self.setup.hostname.clone(),
            node_id: self.setup.identity.node_id,
            lineage: self.lineage().clone(),
            fenced: self.place.is_fenced(),
        }
    }

    pub(super) fn start_place(&mut self) {
        if self.setup.role != Role::Provider || self.place.is_fenced() {
            return;
        }
        let mut addresses = BTreeSet::new();
        if let Some(last) = &self.setup.last_receiver {
            addresses.insert(last.address.clone());
            addresses.extend(self.setup.ask.iter().cloned());
        }
        addresses.remove("");
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::QuestionSkipped) {
            addresses.clear();
        }
        for address in &addresses {
            self.out.push(Action::Dial {
                purpose: DialPurpose::Question {
                    address: address.clone(),
                },
            });
        }
        self.place.asking = Some((self.now + ASK_MS, addresses));
    }

    /// An address answered, or will not.
    pub(super) fn on_question_over(&mut self, address: &str) {
        if let Some((_, open)) = &mut self.place.asking {
            open.remove(address);
        }
    }

    pub(super) fn settle_place(&mut self) {
        if let Some((until, open)) = &self.place.asking
            && (open.is_empty() || self.now >= *until)
        {
            if !open.is_empty() {
                let text = format!("no answer from {open:?} whether this node's place was taken: going on");
                self.out.push(Action::Log {
                    level: Level::Warn,
                    ns: None,
                    text,
                });
            }
            self.place.asking = None;
            if !self.place.is_fenced() {
                self.place.making = true;
                self.out.push(Action::AllowMaking);
            }
        }
        if self.place.is_fenced() {
            return;
        }
        for telling in self
            .place
            .telling
            .iter_mut()
            .filter(|telling| !telling.under_way && self.now >= telling.at)
        {
            telling.under_way = true;
            self.out.push(Action::Dial {
                purpose: DialPurpose::Notice {
                    address: telling.address.clone(),
                },
            });
        }
    }

    pub(super) fn on_notice_failed(&mut self, address: &str) {
        let now = self.now;
        if let Some(telling) = self.place.telling.iter_mut().find(|telling| telling.address == address) {
            telling.under_way = false;
            telling.at = now + telling.backoff.pause();
        }
    }

    fn judge(&self, claim: &Claim) -> ClaimVerdict {
        if self.setup.role != Role::Provider {
            return ClaimVerdict::Unmoved;
        }
        judge_claim(
            &self.setup.identity.node_id,
            &self.setup.hostname,
            &self.setup.identity.lineage,
            claim,
        )
    }

    /// Someone asks who we are. It may be our successor that asks.
    pub(super) fn on_question(&mut self, conn: ConnId, payload: &[u8]) {
        let claim = match Claim::decode(payload) {
            Ok(claim) => claim,
            Err(error) => return self.refuse(conn, refuse::malformed("the question", &error)),
        };
        if let ClaimVerdict::Taken(by) = self.judge(&claim) {
            self.fence(by, claim.lineage, conn);
        }
        self.answer_claim(conn);
    }

    /// A promoted node says that it took our place.
    pub(super) fn on_notice(&mut self, conn: ConnId, payload: &[u8]) {
        let claim = match Claim::decode(payload) {
            Ok(claim) => claim,
            Err(error) => return self.refuse(conn, refuse::malformed("the notice", &error)),
        };
        match self.judge(&claim) {
            ClaimVerdict::Taken(by) => {
                self.fence(by, claim.lineage, conn);
                self.answer_claim(conn);
            }
            ClaimVerdict::Forked(refusal) => self.refuse(conn, refusal),
            ClaimVerdict::Unmoved => self.answer_claim(conn),
        }
    }

    /// The answer says `fenced` only once the file is durable: whoever hears it may rely on it.
    fn answer_claim(&mut self, conn: ConnId) {
        #[cfg(feature = "planted-faults")]
        let durable = self.place.fence_durable || crate::planted::active(crate::planted::Fault::FenceNotDurable);
        #[cfg(not(feature = "planted-faults"))]
        let durable = self.place.fence_durable;
        if self.place.is_fenced() && !durable {
            return self.set_stage(conn, Stage::Fencing);
        }
        self.out.push(Action::Send {
            conn,
            frame: Frame::node(Kind::Answer, self.claim().encode()),
        });
        self.close(conn, None, false);
    }

    /// The answer to our question.
    pub(super) fn on_answer(&mut self, conn: ConnId, payload: &[u8]) {
        let address = self.dialled_address(conn);
        match Claim::decode(payload) {
            Err(error) => self.refuse(conn, refuse::malformed("the answer", &error)),
            Ok(claim) => match self.judge(&claim) {
                ClaimVerdict::Taken(by) => {
                    self.fence(by, claim.lineage, conn);
                    self.close(conn, None, false);
                }
                ClaimVerdict::Forked(refusal) => self.refuse(conn, refusal),
                ClaimVerdict::Unmoved => self.close(conn, None, false),
            },
        }
        self.on_question_over(&address);
    }

    /// The predecessor's answer to our notice.
    pub(super) fn on_notice_answer(&mut self, conn: ConnId, payload: &[u8]) {
        let address = self.dialled_address(conn);
        let claim = Claim::decode(payload);
        self.close(conn, None, false);
        let Ok(claim) = claim else {
            return self.on_notice_failed(&address);
        };
        if let ClaimVerdict::Taken(by) = self.judge(&claim) {
            return self.fence(by, claim.lineage, conn);
        }
        // Fenced, or a standby of this very incarnation that stands there now: nothing is left to tell.
        let knows = claim.role == Role::Receiver && claim.lineage.current() == self.setup.identity.lineage.current();
        if claim.fenced || knows {
            self.place.telling.retain(|telling| telling.address != address);
            self.out.push(Action::NoticeTaken { address, claim });
        } else {
            self.on_notice_failed(&address);
        }
    }

    fn dialled_address(&self, conn: ConnId) -> String {
        match self.links.get(&conn).and_then(|link| link.purpose.as_ref()) {
            Some(DialPurpose::Question { address } | DialPurpose::Notice { address }) => address.clone(),
            _ => String::new(),
        }
    }

    /// Stops making blocks at once; the file follows, and after it the answer to whoever told.
    pub(super) fn fence(&mut self, by: Incarnation, lineage: Lineage, told: ConnId) {
        if self.place.is_fenced() {
            return;
        }
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::FenceIgnored) {
            return;
        }
        let told_by = self
            .links
            .get(&told)
            .map(|link| link.peer.address.clone())
            .unwrap_or_default();
        let fenced = Fenced { by, lineage, told_by };
        self.place.making = false;
        self.place.asking = None;
        self.place.fenced = Some(fenced.clone());
        self.out.push(Action::Fence { fenced: fenced.clone() });
        // Sessions and handshakes on their way to one: none may begin after this.
        let conns: Vec<ConnId> = self.engaged().map(|(conn, ..)| conn).collect();
        for conn in conns.into_iter().filter(|conn| *conn != told) {
            self.close(conn, Some(refuse::fenced(&by)), true);
        }
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::FenceNotDurable) {
            return;
        }
        self.persist(ControlFile::Fenced(fenced), Waiting::Fence);
    }

    pub(super) fn on_fence_persisted(&mut self) {
        self.place.fence_durable = true;
        let waiting: Vec<ConnId> = self
            .links
            .iter()
            .filter(|(_, link)| matches!(link.stage, Stage::Fencing))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in waiting {
            self.answer_claim(conn);
        }
    }
}
