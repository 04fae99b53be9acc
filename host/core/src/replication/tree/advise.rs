//! What config-sync strategies are told of the tree, and what becomes of what they say. Each namespace's strategy sees the files of its own;
//! `global` sees those of the whole node as well. The copy is swapped in once every namespace's strategy has asked for what differs and
//! agreed to what goes.

use std::collections::{BTreeMap, BTreeSet};

use crate::replication::api::Action;
use crate::replication::control_file::ControlFile;
use crate::replication::desk::Desk;
use crate::replication::lane::Lane;
use crate::replication::pair::Pair;
use crate::replication::strong::Ticket;
use crate::replication::work::ChangeWork;
use crate::session::StrategyId;
use crate::strategy::scrutiny::ConfigGround;
use crate::types::strategy::config_sync::{Action as Advice, Edit, Event as Told, FileEntry, KIND, View};
use crate::types::strategy::{Fault, Role};
use crate::types::{Digest, Millis};

use super::inventory::{FILES_MAX, Inventory, TreeFile};
use super::paths::{CERTIFICATES, CONFIGURATION};

/// Time between two ticks.
const TICK_MS: Millis = 1_000;

/// The namespace that owns what belongs to the whole node.
pub(super) const GLOBAL: &str = "global";

/// Most keys that a strategy may keep for the receiver.
const KEPT_MAX: usize = 1_024;

/// A key that keeps the receiver's own value at an upgrade.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptKey {
    /// Path in the tree.
    pub file: String,
    /// Dotted key; a table's name stands for all below it.
    pub key: String,
}

/// A call that is under way.
#[derive(Clone, Debug)]
struct Calling {
    since: Millis,
    view: View,
    /// The edits it asks about.
    edits: Vec<(u64, Ticket)>,
    opened: bool,
}

/// A namespace's config-sync strategy.
#[derive(Clone, Debug)]
pub(in crate::replication) struct FileAdvisor {
    pub(in crate::replication) desk: Desk,
    calling: Option<Calling>,
    /// Files of its own moved in an inventory, or what it asked for is under way, or staged.
    pub(in crate::replication) owes_inventories: bool,
    /// It was told last that nobody knows what the other end has.
    told_nothing: bool,
    edits: Vec<(Ticket, Edit)>,
    edits_seen: u64,
    requested: Vec<String>,
    deletes: BTreeSet<String>,
    kept: Vec<KeptKey>,
    refusal: Option<String>,
}

impl FileAdvisor {
    pub(in crate::replication) fn new(desk: Desk, kept: Vec<KeptKey>) -> FileAdvisor {
        FileAdvisor {
            desk,
            calling: None,
            owes_inventories: false,
            told_nothing: false,
            edits: Vec::new(),
            edits_seen: 0,
            requested: Vec::new(),
            deletes: BTreeSet::new(),
            kept,
            refusal: None,
        }
    }

    pub(in crate::replication) fn attach(&mut self, theirs: &[StrategyId]) {
        self.desk.attach(theirs);
    }

    pub(in crate::replication) fn detach(&mut self) {
        self.desk.detach();
        self.refusal = None;
    }

    /// Since when it has not answered.
    pub(in crate::replication) fn calling_since(&self) -> Option<Millis> {
        self.calling.as_ref().map(|call| call.since)
    }

    /// Why it refuses the copy.
    pub(in crate::replication) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }
}

/// What all strategies of a receiver said of the copy.
#[derive(Debug, Default)]
pub(in crate::replication) struct FileAdvice {
    /// In this order.
    pub(in crate::replication) requested: Vec<String>,
    pub(in crate::replication) deletes: BTreeSet<String>,
}

/// The directory of `path` that has a namespace's name, if it lies in one.
pub(super) fn directory(path: &str) -> Option<&str> {
    let below = [CONFIGURATION, CERTIFICATES]
        .iter()
        .find_map(|tree| path.strip_prefix(tree)?.strip_prefix('/'));
    Some(below?.split_once('/')?.0)
}

/// The namespace whose strategy decides on `path`.
fn owner<'a>(path: &'a str, lanes: &[Lane]) -> &'a str {
    match directory(path) {
        Some(name) if lanes.iter().any(|lane| lane.setup.namespace.as_str() == name) => name,
        _ => GLOBAL,
    }
}

impl Pair {
    fn files_of(&self, inventory: &Inventory, namespace: &str) -> Vec<FileEntry> {
        let entry = |file: &TreeFile| FileEntry {
            path: file.path.clone(),
            size: file.bytes,
            digest: file.digest.0,
        };
        if namespace != GLOBAL {
            let trees = [CERTIFICATES, CONFIGURATION].iter();
            return trees
                .flat_map(|tree| inventory.below(&format!("{tree}/{namespace}/")))
                .map(entry)
                .collect();
        }
        let names: BTreeSet<&str> = self.lanes.iter().map(|lane| lane.setup.namespace.as_str()).collect();
        let is_others = |path: &str| directory(path).is_some_and(|name| name != GLOBAL && names.contains(name));
        let files = inventory.files.iter().filter(|file| !is_others(&file.path));
        files.map(entry).collect()
    }

    fn file_view(&self, lane: &Lane) -> Option<View> {
        let role = self.setup.role;
        let (local, peer) = self.inventories();
        let local = local?;
        let namespace = lane.setup.namespace.as_str();
        let mut view = View {
            now: self.now,
            local: self.files_of(local, namespace),
            peer: peer.map(|peer| self.files_of(peer, namespace)),
            requested: lane.files.requested.clone(),
            ..View::new(role, namespace)
        };
        if role == Role::Receiver {
            self.show_fetched(&mut view, &lane.files.deletes);
        }
        Some(view)
    }

    /// What was fetched waits for the rest, so that the copy is swapped as a whole: to a strategy it is there, and no longer under way; and what
    /// it agreed may go is gone. One that bounds what is under way would otherwise wait for ever, and both together may be more than a tree has.
    fn show_fetched(&self, view: &mut View, deletes: &BTreeSet<String>) {
        let requested = std::mem::take(&mut view.requested);
        let (fetched, under_way) = self.taker.fetched(requested);
        let theirs = view.peer.iter().flatten();
        let fetched: Vec<FileEntry> = theirs.filter(|file| fetched.contains(&file.path)).cloned().collect();
        let shown = |path: &str| self.taker.theirs().is_none_or(|theirs| theirs.file(path).is_some());
        let goes = |path: &str| deletes.contains(path) && !shown(path);
        let local = std::mem::take(&mut view.local).into_iter();
        let local = local.filter(|file| !goes(&file.path));
        let mut local: BTreeMap<String, FileEntry> = local.map(|file| (file.path.clone(), file)).collect();
        for file in fetched {
            if local.len() < FILES_MAX || local.contains_key(&file.path) {
                local.insert(file.path.clone(), file);
            }
        }
        view.local = local.into_values().collect();
        view.requested = under_way.into_iter().collect();
    }

    /// A content is staged, or could not be: whoever asked for a file with it is owed a word.
    pub(in crate::replication) fn tell_staged(&mut self, digest: Digest) {
        let Some(theirs) = self.taker.theirs() else { return };
        let has_it = |path: &String| theirs.file(path).is_some_and(|file| file.digest == digest);
        for lane in &mut self.lanes {
            lane.files.owes_inventories |= lane.files.requested.iter().any(has_it);
        }
    }

    /// The copy, or what the provider shows, is another now: what went, and what is shown again, is decided on anew.
    pub(in crate::replication) fn forget_decided(&mut self) {
        let (local, theirs) = (self.taker.local(), self.taker.theirs());
        for FileAdvisor { deletes, requested, .. } in self.lanes.iter_mut().map(|lane| &mut lane.files) {
            deletes.retain(|path| local.is_none_or(|local| local.file(path).is_some()));
            if let Some(theirs) = theirs {
                deletes.retain(|path| theirs.file(path).is_none());
                requested.retain(|path| theirs.file(path).is_some());
            }
        }
    }

    /// What the provider has is known after it was not: who decided on nothing meanwhile, or did not hear of what came, is owed a look, though no
    /// file of its own moved.
    pub(in crate::replication) fn owe_unheard(&mut self) {
        for files in self.lanes.iter_mut().map(|lane| &mut lane.files) {
            files.owes_inventories |= files.told_nothing || !files.requested.is_empty();
        }
    }

    /// Calls a namespace's strategy if it is owed something and is free.
    pub(in crate::replication) fn pump_files(&mut self, index: usize) {
        let Some(lane) = self.lanes.get(index) else { return };
        let files = &lane.files;
        if self.session.is_none() || files.calling.is_some() || self.now < files.desk.quiet_until {
            return;
        }
        let tick = self.now.saturating_sub(files.desk.ticked_at) >= TICK_MS;
        let changed = files.owes_inventories;
        let opened = files.desk.owes_opened;
        if !(opened || changed || tick || !files.edits.is_empty() || files.desk.is_waited_for()) {
            return;
        }
        // Before the first look there is nothing to tell.
        if self.inventories().0.is_none() {
            return;
        }
        if opened && let Some(lane) = self.lanes.get_mut(index) {
            // What an instance before it said is forgotten with it: nothing is under way for the one that is told now.
            self.taker.on_advice();
            lane.files.requested.clear();
            lane.files.deletes.clear();
            lane.files.refusal = None;
        }
        let Some(lane) = self.lanes.get(index) else { return };
        let Some(view) = self.file_view(lane) else { return };
        let mut events = Vec::new();
        if opened {
            events.push(Told::Opened {
                view: view.clone(),
                stored: lane.files.desk.stored.clone(),
            });
        } else if changed {
            events.push(Told::Inventories(view.clone()));
        } else if tick {
            events.push(Told::Tick(self.now));
        }
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let files = &mut lane.files;
        let (messages, answers) = files.desk.take_waiting();
        events.extend(messages.into_iter().map(Told::Message));
        events.extend(answers.into_iter().map(Told::Fault));
        let mut edits = Vec::new();
        for (ticket, edit) in files.edits.drain(..) {
            edits.push((edit.id, ticket));
            events.push(Told::Edit(edit));
        }
        (files.desk.owes_opened, files.owes_inventories) = (false, false);
        files.desk.called_at = now;
        if tick {
            files.desk.ticked_at = now;
        }
        if opened || changed {
            files.told_nothing = view.peer.is_none();
        }
        files.calling = Some(Calling {
            since: now,
            view,
            edits,
            opened,
        });
        self.out.push(Action::ConfigStrategy {
            ns: lane.setup.namespace.clone(),
            events,
        });
    }

    /// A strategy answered.
    pub(in crate::replication) fn on_file_advice(&mut self, index: usize, result: Result<Vec<Advice>, Fault>) {
        let (now, attached) = (self.now, self.session.is_some());
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(call) = lane.files.calling.take() else { return };
        let edits: Vec<u64> = call.edits.iter().map(|(id, _)| *id).collect();
        let ground = ConfigGround {
            view: &call.view,
            edits: &edits,
        };
        let checked = result.and_then(|actions| {
            ground.check(&actions).map(|()| actions).inspect_err(|fault| {
                lane.files.desk.refused += 1;
                let ns = lane.setup.namespace.clone();
                self.out.push(Action::StrategyFault {
                    ns,
                    kind: KIND,
                    fault: fault.clone(),
                });
            })
        });
        let Ok(actions) = checked else {
            lane.files.desk.on_fault(attached, now);
            // Whoever waits is not kept waiting: what the host insists on stands.
            let waiting = call.edits.into_iter();
            self.out
                .extend(waiting.map(|(_, ticket)| Action::Change(ChangeWork::Weighed(ticket, false))));
            return;
        };
        lane.files.desk.fault_streak = 0;
        if call.opened || !actions.is_empty() {
            self.taker.on_advice();
        }
        let before = lane.files.kept.clone();
        if call.opened {
            lane.files.kept.clear();
        }
        for action in actions {
            self.take_file_advice(index, &call, action);
        }
        let Some(lane) = self.lanes.get_mut(index) else { return };
        // A session that ended meanwhile has told nothing of the other end.
        if lane.files.kept != before && attached {
            let (ns, keys) = (lane.setup.namespace.clone(), lane.files.kept.clone());
            let token = self.next_token();
            let what = ControlFile::KeptLocal { ns, keys };
            self.out.push(Action::Persist { token, what });
        }
    }

    /// Does what was checked.
    fn take_file_advice(&mut self, index: usize, call: &Calling, action: Advice) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let (ns, files) = (lane.setup.namespace.clone(), &mut lane.files);
        match action {
            Advice::Request(paths) => {
                for path in paths {
                    if !files.requested.contains(&path) {
                        // What is under way is another now.
                        files.owes_inventories |= self.taker.differs(&path);
                        files.requested.push(path);
                    }
                }
            }
            Advice::Delete(paths) => {
                let before = files.deletes.len();
                // What the provider shows again by now does not go.
                let shown = |path: &String| self.taker.theirs().is_some_and(|theirs| theirs.file(path).is_some());
                files.deletes.extend(paths.into_iter().filter(|path| !shown(path)));
                files.owes_inventories |= files.deletes.len() > before;
            }
            Advice::Weigh { edit, strong } => {
                let ticket = call.edits.iter().find(|(id, _)| *id == edit).map(|(_, ticket)| *ticket);
                self.out
                    .extend(ticket.map(|ticket| Action::Change(ChangeWork::Weighed(ticket, strong))));
            }
            Advice::KeepLocal { file, key } => {
                let kept = KeptKey { file, key };
                if files.kept.len() < KEPT_MAX && !files.kept.contains(&kept) {
                    files.kept.push(kept);
                }
            }
            Advice::Refuse(reason) => files.refusal = Some(reason),
            Advice::Store(bytes) => {
                files.desk.stored.clone_from(&bytes);
                let token = self.next_token();
                let what = ControlFile::Stored { ns, kind: KIND, bytes };
                self.out.push(Action::Persist { token, what });
            }
            Advice::Send(bytes) => self.send_to_half(index, KIND, &bytes),
            Advice::Log(level, text) => {
                let lines = files.desk.lines(level, text, now);
                self.log_lines(&ns, lines);
            }
            Advice::Metric(name, value) => {
                if files.desk.may_gauge(&name) {
                    self.out.push(Action::Metric { ns, name, value });
                }
            }
            Advice::Other(name, _) => files.desk.answer_unknown(&name),
        }
    }

    /// Provider: asks how much a change by command weighs. Without a session nobody asks: it can be local only.
    pub(in crate::replication) fn on_weigh(&mut self, ticket: Ticket, mut edit: Edit) {
        let name = owner(&edit.file, &self.lanes).to_owned();
        let index = self.lanes.iter().position(|lane| lane.setup.namespace.as_str() == name);
        let asked = index
            .filter(|_| self.session.is_some())
            .and_then(|index| self.lanes.get_mut(index));
        let Some(lane) = asked else {
            return self.out.push(Action::Change(ChangeWork::Weighed(ticket, false)));
        };
        lane.files.edits_seen += 1;
        edit.id = lane.files.edits_seen;
        lane.files.edits.push((ticket, edit));
    }

    /// The session is over: nobody weighs any more.
    pub(in crate::replication) fn release_edits(&mut self) {
        for lane in &mut self.lanes {
            let waiting = lane.files.edits.drain(..);
            self.out
                .extend(waiting.map(|(ticket, _)| Action::Change(ChangeWork::Weighed(ticket, false))));
        }
    }

    /// What all of them said, pruned to what still differs; none while one refuses the copy.
    pub(in crate::replication) fn file_advice(&mut self) -> Option<FileAdvice> {
        if self.lanes.iter().any(|lane| lane.files.refusal.is_some()) {
            return None;
        }
        let mut advice = FileAdvice::default();
        for lane in &mut self.lanes {
            let taker = &self.taker;
            // While the provider's tree is not known, nobody can say what came: what was asked for is not asked for again.
            if taker.theirs().is_some() {
                lane.files.requested.retain(|path| taker.differs(path));
            }
            advice.requested.extend(lane.files.requested.iter().cloned());
            advice.deletes.extend(lane.files.deletes.iter().cloned());
        }
        Some(advice)
    }
}
