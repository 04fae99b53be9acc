//! What must hold of strong changes: no answer lies, at the moment it is given or ever after.

use std::collections::{BTreeMap, BTreeSet};

use cvp_core::frame::{Frame, Kind};
use cvp_core::replication::{Change, ChangeId, ChangeWork, ConnId, FileChange, Inventory, Outcome, Ticket, TreeFile};
use cvp_core::types::{Millis, Reader};

use super::copies::State;
use super::operator::slot;
use super::{Job, own_tree};
use crate::disk::Disk;
use crate::world::{A, B, C, World};

/// How long a receiver is waited for that was asked to drop a change.
const ABORT_MS: Millis = 1_000;

/// A session is there again so long after it was ended on purpose, at most.
const SESSION_MS: Millis = 6_000;

/// A change that somebody asked for; its ticket is its place in the list, from 1 on.
pub struct Wish {
    pub node: usize,
    epoch: u64,
    asked: Millis,
    /// Asked for while a session streamed.
    with_session: bool,
    must_replicate: bool,
    pub file: TreeFile,
    /// When the receiver was asked to hold it.
    prepared: Option<Millis>,
    /// When it was asked to drop it.
    aborted: Option<Millis>,
    outcome: Option<Outcome>,
    /// Which of the provider's states was the first with it, and when.
    pub committed: Option<(usize, Millis)>,
    staged_at: BTreeSet<usize>,
    /// An upgrade took it over.
    rolled: bool,
}

/// Who gave a change its number, and the number.
type Given = (usize, [u8; 16], u64);

/// What the checkers know of trees and changes.
pub struct Trees {
    /// The states that each node's own tree ever had.
    pub states: Vec<Vec<State>>,
    pub wishes: Vec<Wish>,
    /// Each node's copy, looked at after each write.
    pub copies: Vec<Inventory>,
    /// Paths that somebody changed in a copy, and nothing replaced since; and when their node looked at them.
    pub edited: Vec<BTreeMap<String, Option<Millis>>>,
    /// Changes that were written into each copy.
    pub applied: Vec<Vec<Ticket>>,
    /// On which link each change was sent to be staged.
    prepared_on: BTreeMap<Given, (ConnId, Option<Ticket>)>,
    /// When another standby than its own last attached to A.
    other_served: Option<Millis>,
    /// When nodes went on with other lists of namespaces: their sessions ended.
    pub renewed: Vec<Millis>,
}

impl Trees {
    pub fn new(nodes: usize) -> Trees {
        Trees {
            states: (0..nodes).map(|_| Vec::new()).collect(),
            wishes: Vec::new(),
            copies: vec![Inventory::default(); nodes],
            edited: vec![BTreeMap::new(); nodes],
            applied: vec![Vec::new(); nodes],
            prepared_on: BTreeMap::new(),
            other_served: None,
            renewed: Vec::new(),
        }
    }

    pub fn wish(&mut self, ticket: Ticket) -> Option<&mut Wish> {
        self.wishes.get_mut((ticket as usize).checked_sub(1)?)
    }

    /// The wish whose content a file is.
    fn ticket_of(&self, change: &FileChange) -> Option<Ticket> {
        let digest = change.digest();
        let at = self.wishes.iter().position(|wish| wish.file.digest == digest)?;
        Some(at as Ticket + 1)
    }

    pub fn ticket(&self, change: &Change) -> Option<Ticket> {
        self.ticket_of(&FileChange::decode(&change.body).ok()?)
    }
}

impl World {
    /// An operator has asked `node`.
    pub fn note_asked(&mut self, node: usize, file: TreeFile, must_replicate: bool) -> Ticket {
        self.trees.wishes.push(Wish {
            node,
            epoch: self.nodes[node].epoch,
            asked: self.now,
            with_session: self.session_since(node).is_some(),
            must_replicate,
            file,
            prepared: None,
            aborted: None,
            outcome: None,
            committed: None,
            staged_at: BTreeSet::new(),
            rolled: false,
        });
        self.trees.wishes.len() as Ticket
    }

    pub fn session_since(&self, node: usize) -> Option<Millis> {
        let status = self.nodes[node].pair.as_ref()?.status(self.now);
        status.peer.map(|peer| peer.since)
    }

    /// A frame of a strong change leaves a node.
    pub fn note_change_frame(&mut self, node: usize, conn: ConnId, frame: &Frame) {
        let settled = match frame.kind {
            Kind::Prepare => {
                let Ok(change) = Change::decode(&frame.payload) else {
                    return;
                };
                self.note_queue_numbered(node, &change);
                let key = (node, change.id.incarnation, change.id.sequence);
                let (now, ticket) = (self.now, self.trees.ticket(&change));
                self.trees.prepared_on.insert(key, (conn, ticket));
                if let Some(wish) = ticket.and_then(|ticket| self.trees.wish(ticket)) {
                    wish.prepared = Some(now);
                }
                return;
            }
            Kind::Commit => &mut self.counts.settled_by_commit,
            Kind::Abort => &mut self.counts.settled_by_abort,
            _ => return,
        };
        let Ok(id) = ChangeId::read(&mut Reader::new(&frame.payload)) else {
            return;
        };
        // Of an earlier session: the handshake settles it.
        let on = self
            .trees
            .prepared_on
            .get(&(node, id.incarnation, id.sequence))
            .copied();
        let Some((_, ticket)) = on.filter(|(on, _)| *on == conn) else {
            *settled += 1;
            return;
        };
        let now = self.now;
        let wish = ticket.and_then(|ticket| self.trees.wish(ticket));
        if let Some(wish) = wish.filter(|_| frame.kind == Kind::Abort) {
            wish.aborted = Some(now);
        }
    }

    /// A provider without a session changes itself alone; with one it never does.
    pub fn check_asked(&mut self, node: usize, job: &Job) {
        let Job::Change(ChangeWork::Commit { change, replicated }) = job else {
            return;
        };
        if !replicated {
            self.note_queue_numbered(node, change);
        }
        if self.nodes[node].disk.fenced.is_some() {
            let text = format!(
                "{} begins change {} although it is fenced",
                self.nodes[node].name, change.id
            );
            return self.fail(text);
        }
        if !replicated && self.session_since(node).is_some() {
            let text = format!(
                "{} changes itself alone ({}) although it has a session",
                self.nodes[node].name, change.id
            );
            self.fail(text);
        }
    }

    pub fn note_staged(&mut self, node: usize, change: &Change) {
        let name = self.nodes[node].name;
        let ticket = self.trees.ticket(change);
        let Some(wish) = ticket.and_then(|ticket| self.trees.wish(ticket)) else {
            return;
        };
        wish.staged_at.insert(node);
        if let Some(Outcome::Failed(why)) = &wish.outcome {
            let text = format!("{name} stages a change that was answered as failed: {why}");
            self.fail(text);
        }
    }

    /// A commit counts: the file is written.
    pub fn note_committed(&mut self, node: usize, change: &Change) {
        let (now, name) = (self.now, self.nodes[node].name);
        let state = self.trees.states[node].len().saturating_sub(1);
        let ticket = self.trees.ticket(change);
        let Some(wish) = ticket.and_then(|ticket| self.trees.wish(ticket)) else {
            return;
        };
        wish.committed = Some((state, now));
        if let Some(Outcome::Failed(why) | Outcome::Undecided(why)) = &wish.outcome {
            let text = format!("{name} commits a change that was answered as not applied here: {why}");
            self.fail(text);
        }
    }

    /// The first entry of B's promotion is durable: what is staged rolls forward.
    pub fn note_rolled_forward(&mut self) {
        let staged = self.nodes[B].disk.copy.staged.clone();
        let ticket = staged.and_then(|change| self.trees.ticket(&change));
        let Some(wish) = ticket.and_then(|ticket| self.trees.wish(ticket)) else {
            return;
        };
        wish.rolled = true;
        if let Some(Outcome::Failed(why)) = &wish.outcome {
            let text = format!("b takes a change over that was answered as failed: {why}");
            return self.fail(text);
        }
        self.counts.rolled_forward += 1;
    }

    pub fn note_served(&mut self, node: usize) {
        if node == C {
            self.trees.other_served = Some(self.now);
        }
    }

    /// The promise is judged at the moment it is given.
    pub fn check_answer(&mut self, node: usize, ticket: Ticket, outcome: Outcome) {
        let (now, name, epoch) = (self.now, self.nodes[node].name, self.nodes[node].epoch);
        let since = self.session_since(node);
        let under_way = self.is_under_way(ticket);
        let here = self
            .trees
            .wish(ticket)
            .map(|wish| (wish.file.path.clone(), wish.file.digest));
        let here = here.is_some_and(|(path, digest)| {
            let file = own_tree(&self.nodes[node].disk).inventory();
            file.file(&path).is_some_and(|file| file.digest == digest)
        });
        let there = (0..self.nodes.len()).any(|other| other != node && self.holds(other, ticket));
        let Some(wish) = self.trees.wish(ticket) else { return };
        let lost = |prepared: Millis| since.is_none_or(|since| since > prepared);
        let silent = |aborted: Millis| now >= aborted + ABORT_MS;
        let wrong = match &outcome {
            _ if wish.outcome.is_some() => Some("twice"),
            _ if (wish.node, wish.epoch) != (node, epoch) => Some("by another machine"),
            Outcome::Replicated if !here => Some("and is not durable at the provider"),
            Outcome::Replicated if !there => Some("and is not durable at the receiver"),
            Outcome::Local if !here => Some("and is not durable"),
            Outcome::Local if wish.with_session => Some("although there was a session when it was asked for"),
            Outcome::Local if wish.must_replicate => Some("although it must be replicated"),
            Outcome::Failed(_) if wish.committed.is_some() || wish.rolled => Some("and is applied"),
            Outcome::Failed(_) if under_way => Some("and may still be applied"),
            Outcome::Undecided(_) if wish.committed.is_some() => Some("and is applied"),
            Outcome::Undecided(_) if !(wish.prepared.is_some_and(lost) || wish.aborted.is_some_and(silent)) => {
                Some("without a time-out or a lost session")
            }
            _ => None,
        };
        wish.outcome = Some(outcome.clone());
        match outcome {
            Outcome::Replicated => self.counts.replicated += 1,
            Outcome::Local => self.counts.local += 1,
            Outcome::Failed(_) => self.counts.failed += 1,
            Outcome::Undecided(_) => self.counts.undecided += 1,
        }
        if let Some(wrong) = wrong {
            self.fail(format!("{name} answers change {ticket} as {outcome:?} {wrong}"));
        }
    }

    /// Durable at a receiver, or at one that took the provider's place since.
    fn holds(&self, node: usize, ticket: Ticket) -> bool {
        let disk = &self.nodes[node].disk;
        let Some(wish) = self.trees.wishes.get(ticket as usize - 1) else {
            return false;
        };
        let staged = disk.copy.staged.as_ref();
        let in_own = || {
            let own = own_tree(disk);
            own.files.get(&wish.file.path).is_some_and(|text| slot(text) == ticket)
        };
        staged.is_some_and(|change| self.trees.ticket(change) == Some(ticket))
            || disk
                .copy
                .files
                .get(&wish.file.path)
                .is_some_and(|text| slot(text) == ticket)
            || (node == B && self.promoted && in_own())
    }

    /// Somewhere it is staged, or work that would stage or commit it waits.
    fn is_under_way(&self, ticket: Ticket) -> bool {
        let is = |change: &Change| self.trees.ticket(change) == Some(ticket);
        self.nodes.iter().any(|machine| {
            let waits = machine.jobs.iter().any(|job| match job {
                Job::Change(ChangeWork::Stage(change) | ChangeWork::Commit { change, .. }) => is(change),
                _ => false,
            });
            waits
                || machine.disk.copy.staged.as_ref().is_some_and(&is)
                || machine.disk.unwritten.as_ref().is_some_and(is)
        })
    }

    /// After B's promotion: what A answered as replicated by B is there, or a later change of the same file.
    pub fn check_not_lost(&self) -> Result<(), String> {
        let own = own_tree(&self.nodes[B].disk);
        for (path, content) in &own.files {
            if self.trees.edited[B].contains_key(path) {
                continue;
            }
            let promised = self.trees.wishes.iter().enumerate().filter(|(_, wish)| {
                let by_another = |at: Millis| self.trees.other_served.is_some_and(|served| served >= at);
                let counts = wish.committed.is_some_and(|(_, at)| !by_another(at));
                let at_b = wish.node == A && wish.staged_at.contains(&B);
                let promised = wish.rolled || (at_b && counts && wish.outcome == Some(Outcome::Replicated));
                wish.file.path == *path && promised
            });
            // What is staged is the youngest.
            let Some((at, last)) = promised.max_by_key(|(_, wish)| (wish.rolled, wish.committed)) else {
                continue;
            };
            let found = slot(content) as usize;
            let there = found.checked_sub(1).and_then(|found| self.trees.wishes.get(found));
            let younger = |wish: &Wish| wish.rolled || (!last.rolled && wish.committed >= last.committed);
            let kept = there.is_some_and(|wish| wish.node == B || younger(wish));
            if !kept {
                let ticket = at + 1;
                return Err(format!(
                    "{path} of b has change {found}, and change {ticket}, staged or answered as replicated, is lost"
                ));
            }
        }
        Ok(())
    }

    /// At the end: everybody who waits was answered, and nothing that failed is anywhere.
    pub fn check_changes_end(&self) -> Result<(), String> {
        for (at, wish) in self.trees.wishes.iter().enumerate() {
            let ticket = at + 1;
            let waits = wish.outcome.is_none() && self.alive(wish.node, wish.epoch);
            if waits && wish.asked + 12_000 < self.now {
                return Err(format!(
                    "{} never answered change {ticket}, asked for at {} ms",
                    self.nodes[wish.node].name, wish.asked
                ));
            }
            let renewed = |at: &Millis| at.abs_diff(wish.asked) < SESSION_MS;
            let settled = wish.asked > self.chaos_until + 20_000 && !self.trees.renewed.iter().any(renewed);
            let outcome = wish.outcome.as_ref();
            let replaced = |outcome: &Outcome| matches!(outcome, Outcome::Failed(why) if why.code != "no-receiver");
            if settled && outcome.is_some_and(|outcome| *outcome != Outcome::Replicated && !replaced(outcome)) {
                return Err(format!("change {ticket} ends as {outcome:?} although all is well"));
            }
        }
        for node in [A, B] {
            let trees = [own_tree(&self.nodes[node].disk), self.nodes[node].disk.copy.clone()];
            for (path, content) in trees.iter().flat_map(|tree| &tree.files) {
                let found = (slot(content) as usize).checked_sub(1);
                let Some((found, wish)) = found.and_then(|found| Some((found, self.trees.wishes.get(found)?))) else {
                    continue;
                };
                let failed = matches!(wish.outcome, Some(Outcome::Failed(_)));
                if failed || (wish.committed.is_none() && !wish.rolled) {
                    let name = self.nodes[node].name;
                    let ticket = found + 1;
                    return Err(format!(
                        "{path} at {name} has change {ticket}, which is {:?}",
                        wish.outcome
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Nothing of a change is left on its way.
pub fn is_settled(disk: &Disk) -> bool {
    disk.copy.staged.is_none() && disk.unwritten.is_none()
}
