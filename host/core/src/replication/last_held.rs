//! What the standby was last known to hold, noted on a provider's disk: at the end of a session, and now and then in one. After a restart it
//! is the floor that the status shows of a standby that is away and that old records are kept for. The handshake does not read it.

use crate::session::{HeldNamespace, LastHeld, NAMESPACES_MAX};
use crate::types::strategy::Role;
use crate::types::{Millis, NodeId};

use super::api::{Action, Token};
use super::control_file::ControlFile;
use super::lane::Lane;
use super::pair::Pair;
use super::setup::Setup;

/// While a session lives it is noted so often: a provider that dies knows no less.
const NOTE_MS: Millis = 10_000;

/// What is on the disk, or on its way there.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    what: Option<LastHeld>,
    at: Millis,
    token: Option<Token>,
}

impl Noted {
    /// As a start finds it. What is noted of another node than the last receiver says nothing.
    pub fn read(setup: &Setup) -> Noted {
        let standby = setup.last_receiver.as_ref().map(|last| last.node_id);
        let noted = setup.last_held.as_ref();
        Noted {
            what: noted.filter(|noted| Some(noted.node_id) == standby).cloned(),
            ..Noted::default()
        }
    }

    /// Tells a lane. What is of another chain, or above what this node holds, says nothing.
    pub fn recall(&self, lane: &mut Lane) {
        let mut noted = self.what.iter().flat_map(|what| &what.namespaces);
        let of = noted.find(|held| held.namespace == lane.setup.namespace);
        let fits = of.filter(|held| held.genesis == lane.setup.genesis && held.at.height <= lane.local.height);
        if let Some(held) = fits {
            (lane.peer_seen, lane.seen_before) = (Some(held.at), true);
        }
    }

    /// It was this that could not be written; then it is tried again in its time.
    pub fn failed(&mut self, token: Token) -> bool {
        let ours = self.token == Some(token);
        if ours {
            (self.what, self.token) = (None, None);
        }
        ours
    }
}

impl Pair {
    /// What the standby holds, as far as this provider knows, also of namespaces that do not run now.
    fn known_held(&self) -> Option<LastHeld> {
        let node_id = self.setup.last_receiver.as_ref()?.node_id;
        let mut namespaces: Vec<HeldNamespace> = self
            .lanes
            .iter()
            .filter_map(|lane| {
                Some(HeldNamespace {
                    namespace: lane.setup.namespace.clone(),
                    genesis: lane.setup.genesis,
                    at: lane.peer_seen?,
                })
            })
            .collect();
        let running = |held: &&HeldNamespace| self.lanes.iter().all(|lane| lane.setup.namespace != held.namespace);
        let noted = self.noted.what.iter().filter(|noted| noted.node_id == node_id);
        let others = noted.flat_map(|noted| &noted.namespaces).filter(running);
        namespaces.extend(others.cloned());
        namespaces.truncate(NAMESPACES_MAX);
        Some(LastHeld { node_id, namespaces })
    }

    /// What is not noted yet, for a host that ends the machine.
    pub fn unnoted(&self) -> Option<ControlFile> {
        if self.setup.role != Role::Provider || !self.is_standby() {
            return None;
        }
        let known = self.known_held().filter(|known| !known.namespaces.is_empty())?;
        (self.noted.what.as_ref() != Some(&known)).then_some(ControlFile::LastHeld(known))
    }

    /// Notes it, if it is not.
    pub(super) fn note_held(&mut self) {
        self.noted.at = self.now;
        let Some(ControlFile::LastHeld(known)) = self.unnoted() else {
            return;
        };
        let token = self.next_token();
        (self.noted.what, self.noted.token) = (Some(known.clone()), Some(token));
        let what = ControlFile::LastHeld(known);
        self.out.push(Action::Persist { token, what });
    }

    pub(super) fn settle_noted(&mut self) {
        let due = self.noted.what.is_none() || self.now.saturating_sub(self.noted.at) >= NOTE_MS;
        if due && self.session.is_some() {
            self.note_held();
        }
    }

    /// Another node stands by from here on: what the one before held says nothing of it.
    pub(super) fn forget_other(&mut self, standby: NodeId) {
        let before = self.setup.last_receiver.as_ref().map(|last| last.node_id);
        if before.is_none_or(|before| before == standby) {
            return;
        }
        self.noted = Noted::default();
        for lane in &mut self.lanes {
            (lane.peer_seen, lane.seen_before) = (None, false);
        }
    }

    /// A machine in the place of `before` knows what that one heard.
    pub(super) fn remember_held(&mut self, before: &Pair) {
        if self.setup.role != Role::Provider {
            return;
        }
        self.noted = before.noted.clone();
        for lane in &mut self.lanes {
            let mut others = before.lanes.iter();
            let same = others.find(|other| {
                other.setup.namespace == lane.setup.namespace && other.setup.genesis == lane.setup.genesis
            });
            match same {
                Some(same) => {
                    (lane.peer_seen, lane.seen_before) = (same.peer_seen, same.seen_before);
                    lane.marks = same.marks.clone();
                }
                None => self.noted.recall(lane),
            }
        }
    }
}
