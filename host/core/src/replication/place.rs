//! Whether this node may speak under its hostname: the question a provider asks before its first block after a start, the notice a
//! promoted node gives its predecessor, and the fence.
//!
//! Best effort, and said so (contract.md §3): nodes that are cut off from each other cannot learn of each other.

use std::collections::BTreeSet;

use crate::frame::{Frame, Kind};
use crate::session::{Backoff, BackoffRange, Claim, ClaimVerdict, Fenced, Reign, TakeOver, judge_take_over, refuse};
use crate::types::strategy::{Level, Role};
use crate::types::{Hostname, Incarnation, Millis, Refusal};

use super::api::{Action, ConnId};
use super::control_file::ControlFile;
use super::link::{DialPurpose, Stage, Waiting};
use super::pair::Pair;
use super::setup::Setup;

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
    /// Addresses that are asked a second time.
    asked_again: BTreeSet<String>,
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
            asked_again: BTreeSet::new(),
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
    /// Who this node is, told of its own accord; or, in an answer, to who speaks as `asker`. Strangers hear no incarnation.
    pub(super) fn claim(&self, asker: Option<Option<Incarnation>>) -> Claim {
        let lineage = self.lineage();
        let take_over = |old: Incarnation, reign: &Reign| {
            let (node_id, hostname) = match (self.setup.role, &self.setup.binding) {
                (Role::Receiver, Some(binding)) => (binding.node_id, binding.hostname.clone()),
                _ => (self.setup.identity.node_id, self.setup.hostname.clone()),
            };
            TakeOver::of(node_id, hostname, old, reign)
        };
        let (incarnation, take_over) = match asker {
            None => {
                let last = lineage.last_take_over();
                (lineage.current(), last.map(|(old, reign)| take_over(old, reign)))
            }
            Some(asker) => {
                let known = asker.filter(|asker| lineage.reigns().iter().any(|reign| reign.incarnation == *asker));
                let next = known.and_then(|old| Some((old, lineage.successor(&old)?)));
                let current = known.and_then(|_| lineage.current());
                (current, next.map(|(old, reign)| take_over(old, reign)))
            }
        };
        Claim {
            role: self.setup.role,
            hostname: self.setup.hostname.clone(),
            node_id: self.setup.identity.node_id,
            incarnation,
            take_over,
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

    /// A link to an address broke before the answer came: somebody is there, who was perhaps beginning anew, and is asked once more.
    pub(super) fn on_question_broken(&mut self, address: String) {
        let open = matches!(&self.place.asking, Some((until, open)) if self.now < *until && open.contains(&address));
        if !open || !self.place.asked_again.insert(address.clone()) {
            return self.on_question_over(&address);
        }
        let purpose = DialPurpose::Question { address };
        self.out.push(Action::Dial { purpose });
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

    /// The peer's certificate must carry the name it claims, unless it is one that both nodes share.
    pub(super) fn check_name(&self, conn: ConnId, claimed: &Hostname) -> Result<(), Refusal> {
        match self.links.get(&conn).map(|link| &link.peer) {
            Some(peer) if !peer.may_be(claimed) => Err(refuse::certificate_name(claimed, &peer.names)),
            _ => Ok(()),
        }
    }

    /// Someone says that this provider's place was taken: by its own key, or by a certificate with its own name, it is. Answers who took it.
    pub(super) fn believe(&mut self, take_over: TakeOver, told: ConnId) -> Result<Incarnation, Refusal> {
        let peer = self.links.get(&told).map(|link| link.peer.clone()).unwrap_or_default();
        let proven = self.setup.node_key.signed(&take_over) || peer.proves(&self.setup.hostname);
        #[cfg(feature = "planted-faults")]
        let proven = proven || crate::planted::active(crate::planted::Fault::TakeOverNotProven);
        if !proven {
            return Err(refuse::unproven(&take_over, &peer.address));
        }
        let by = take_over.new;
        self.fence(
            Fenced {
                take_over,
                told_by: peer.address,
            },
            told,
        );
        Ok(by)
    }

    /// What a claim says of this node's place. `Err`: it says something that is not believed, or that cannot be.
    fn hear(&mut self, conn: ConnId, claim: &Claim) -> Result<(), Refusal> {
        let Some(take_over) = claim.take_over.as_ref().filter(|_| self.setup.role == Role::Provider) else {
            return Ok(());
        };
        let own = &self.setup.identity;
        match judge_take_over(&own.node_id, &self.setup.hostname, &own.lineage, take_over) {
            ClaimVerdict::Unmoved => Ok(()),
            ClaimVerdict::Taken(take_over) => self.believe(take_over, conn).map(|_| ()),
            ClaimVerdict::Forked(refusal) => Err(refusal),
        }
    }

    /// Someone asks whether its place was taken (it may be our successor that asks), or tells that it took ours.
    pub(super) fn on_claim(&mut self, conn: ConnId, payload: &[u8]) {
        let claim = match Claim::decode(payload) {
            Ok(claim) => claim,
            Err(error) => return self.refuse(conn, refuse::malformed("the claim", &error)),
        };
        if let Some(link) = self.links.get_mut(&conn) {
            link.claimed = Some(claim.hostname.clone());
        }
        let heard = self
            .check_name(conn, &claim.hostname)
            .and_then(|()| self.hear(conn, &claim));
        match heard {
            Ok(()) => self.answer_claim(conn, claim.incarnation),
            Err(refusal) => self.refuse(conn, refusal),
        }
    }

    /// The answer says `fenced` only once the file is durable: whoever hears it may rely on it.
    fn answer_claim(&mut self, conn: ConnId, asker: Option<Incarnation>) {
        #[cfg(feature = "planted-faults")]
        let durable = self.place.fence_durable || crate::planted::active(crate::planted::Fault::FenceNotDurable);
        #[cfg(not(feature = "planted-faults"))]
        let durable = self.place.fence_durable;
        if self.place.is_fenced() && !durable {
            return self.set_stage(conn, Stage::Fencing(asker));
        }
        self.out.push(Action::Send {
            conn,
            frame: Frame::node(Kind::Answer, self.claim(Some(asker)).encode()),
        });
        self.close(conn, None, false);
    }

    /// The answer to our question.
    pub(super) fn on_answer(&mut self, conn: ConnId, payload: &[u8]) {
        let address = self.dialled_address(conn);
        let claim = Claim::decode(payload).map_err(|error| refuse::malformed("the answer", &error));
        match claim.and_then(|claim| self.hear(conn, &claim)) {
            Ok(()) => self.close(conn, None, false),
            Err(refusal) => self.refuse(conn, refusal),
        }
        self.on_question_over(&address);
    }

    /// The predecessor's answer to our notice.
    pub(super) fn on_notice_answer(&mut self, conn: ConnId, payload: &[u8]) {
        let address = self.dialled_address(conn);
        let claim = Claim::decode(payload).map_err(|error| refuse::malformed("the answer", &error));
        let heard = claim.and_then(|claim| self.hear(conn, &claim).map(|()| claim));
        self.close(conn, heard.as_ref().err().cloned(), heard.is_err());
        let Ok(claim) = heard else {
            return self.on_notice_failed(&address);
        };
        if self.place.is_fenced() {
            return;
        }
        // Fenced, or a standby of this very incarnation that stands there now: nothing is left to tell.
        let own = self.setup.identity.lineage.current();
        if claim.fenced || (claim.role == Role::Receiver && claim.incarnation == own) {
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
    fn fence(&mut self, fenced: Fenced, told: ConnId) {
        if self.place.is_fenced() {
            return;
        }
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::FenceIgnored) {
            return;
        }
        let by = fenced.by();
        self.place.making = false;
        self.place.asking = None;
        self.place.fenced = Some(fenced.clone());
        self.out.push(Action::Fence { fenced: fenced.clone() });
        self.dismiss_followers(&refuse::fenced(&by));
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
        let waiting: Vec<_> = self
            .links
            .iter()
            .filter_map(|(conn, link)| match link.stage {
                Stage::Fencing(asker) => Some((*conn, asker)),
                _ => None,
            })
            .collect();
        for (conn, asker) in waiting {
            self.answer_claim(conn, asker);
        }
    }
}
