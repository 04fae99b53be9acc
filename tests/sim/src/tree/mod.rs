//! A node's tree of configuration and certificates on its virtual disk, and the one thread that works on it: one work after the other, in
//! the order asked for. What a crash finds under way is lost or done whole; a commit may also be recorded and not yet written, a copy
//! written and not yet recorded.

mod advice;
mod check;
mod copies;
mod operator;

use bytes::Bytes;
use cvp_core::mq::QUEUE_CHANGE;
use cvp_core::planted::{self, Fault};
use cvp_core::replication::{
    CONFIG_CHANGE, CONFIGURATION, Change, ChangeEvent, ChangeWork, Event, FileChange, MemoryTree, QueueEvent,
    QueueWork, TreeEvent, TreeWork, file_digest,
};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Millis, Refusal};

use crate::configuration::Files;
use crate::disk::Disk;
use crate::queues::queue_change;
use crate::world::{C, Ev, World};

pub use check::Trees;

/// A work on a disk that is not slow takes at most so long.
const WORK_MS: Millis = 30;

/// What the thread does.
#[derive(Clone, Debug)]
pub enum Job {
    Tree(TreeWork),
    Change(ChangeWork),
    Queues(QueueWork),
}

/// The own files below `configuration/` and the certificates as one tree.
fn own_tree(disk: &Disk) -> MemoryTree {
    let mut tree = MemoryTree::default();
    tree.files = disk.certificates.clone();
    for (name, text) in &disk.configuration {
        tree.files.insert(
            format!("{CONFIGURATION}/{name}"),
            Bytes::from(text.clone().into_bytes()),
        );
    }
    tree
}

/// A file of an own tree, written or removed.
fn put_own(disk: &mut Disk, path: &str, content: Option<&Bytes>) {
    let prefix = format!("{CONFIGURATION}/");
    let text = content.map(|content| String::from_utf8_lossy(content).into_owned());
    match (path.strip_prefix(&prefix), text, content) {
        (Some(name), Some(text), _) => drop(disk.configuration.insert(name.to_owned(), text)),
        (Some(name), None, _) => drop(disk.configuration.remove(name)),
        (None, _, Some(content)) => drop(disk.certificates.insert(path.to_owned(), content.clone())),
        (None, _, None) => drop(disk.certificates.remove(path)),
    }
}

/// What is in the provider's copy below `configuration/`.
pub fn copied_configuration(disk: &Disk) -> Result<Files, String> {
    let prefix = format!("{CONFIGURATION}/");
    let files = disk.copy.files.iter();
    files
        .filter_map(|(path, content)| Some((path.strip_prefix(&prefix)?, content)))
        .map(|(name, content)| match std::str::from_utf8(content) {
            Ok(text) => Ok((name.to_owned(), text.to_owned())),
            Err(_) => Err(format!("{name} is not UTF-8")),
        })
        .collect()
}

fn read_change(change: &Change) -> Result<FileChange, Refusal> {
    if change.kind != CONFIG_CHANGE {
        return Err(Refusal::new("unknown-change", change.kind.clone(), ""));
    }
    FileChange::decode(&change.body).map_err(|error| Refusal::new("bad-change", error.to_string(), ""))
}

impl World {
    /// Queues work.
    pub fn queue_job(&mut self, node: usize, job: Job) {
        self.check_asked(node, &job);
        self.nodes[node].jobs.push_back(job);
        if self.nodes[node].jobs.len() == 1 {
            self.next_job(node);
        }
    }

    fn next_job(&mut self, node: usize) {
        let epoch = self.nodes[node].epoch;
        let delay = self.disk_delay(node, WORK_MS);
        let percent = match self.nodes[node].jobs.front() {
            _ if self.now >= self.chaos_until || node == C => 0,
            Some(Job::Change(ChangeWork::Commit { .. })) => 10,
            Some(Job::Change(ChangeWork::Apply(_)) | Job::Tree(TreeWork::Swap { .. })) => 3,
            _ => 0,
        };
        if self.random.chance(percent) {
            // Power fails in the middle of it.
            self.later(delay / 2, Ev::Crash { node, epoch });
            let pause = self.random.range(20, 2_000);
            self.later(delay + pause, Ev::Restart { node });
        }
        self.later(delay, Ev::Job { node, epoch });
    }

    /// The work under way is done; the next one begins.
    pub fn work(&mut self, node: usize) {
        let Some(job) = self.nodes[node].jobs.pop_front() else {
            return;
        };
        if !self.nodes[node].jobs.is_empty() {
            self.next_job(node);
        }
        let event = match self.now < self.chaos_until && self.random.chance(2) {
            true => self.fail_job(node, job),
            false => self.do_job(node, job),
        };
        if let Some(event) = event {
            self.step(node, event);
        }
    }

    /// The disk fails: nothing of the work is done.
    fn fail_job(&mut self, node: usize, job: Job) -> Option<Event> {
        let failed = || Refusal::new("disk-failed", "planted", "");
        let event = match job {
            Job::Tree(TreeWork::StageFile { digest, .. }) => Event::Tree(TreeEvent::FileStaged {
                digest,
                result: Err(failed()),
            }),
            Job::Tree(TreeWork::Swap { inventory }) => Event::Tree(TreeEvent::Swapped {
                inventory,
                result: Err(failed()),
            }),
            Job::Change(ChangeWork::Commit { .. }) => Event::Change(ChangeEvent::Committed(Err(failed()))),
            Job::Change(ChangeWork::Stage(_)) => Event::Change(ChangeEvent::Staged(Err(failed()))),
            Job::Queues(QueueWork::KeepRegistry(..) | QueueWork::KeepCursors(..)) => {
                self.restart_soon(node);
                Event::Queues(QueueEvent::Failed(failed()))
            }
            Job::Change(ChangeWork::Apply(_) | ChangeWork::Drop(_)) => {
                self.restart_soon(node);
                Event::Change(ChangeEvent::Settled(Err(failed())))
            }
            job => return self.do_job(node, job),
        };
        self.counts.works_failed += 1;
        Some(event)
    }

    /// It takes no session any more: the operator sees it, and restarts the node.
    fn restart_soon(&mut self, node: usize) {
        let (delay, epoch) = (self.random.range(500, 4_000), self.nodes[node].epoch);
        self.later(delay, Ev::Crash { node, epoch });
        if node != C {
            self.later(delay + 50, Ev::Restart { node });
        }
    }

    /// The machine stops in the ordinary way: what it asked for is done, and nobody is told.
    pub fn finish_jobs(&mut self, node: usize) {
        for job in std::mem::take(&mut self.nodes[node].jobs) {
            let _ = self.do_job(node, job);
        }
    }

    /// The process dies.
    pub fn crash_jobs(&mut self, node: usize) {
        let Some(job) = std::mem::take(&mut self.nodes[node].jobs).into_iter().next() else {
            return;
        };
        match (job, self.random.range(0, 2)) {
            (_, 0) => {}
            (
                Job::Change(ChangeWork::Commit {
                    change,
                    replicated: true,
                }),
                1,
            ) => {
                let may = match queue_change(&change) {
                    Some(wanted) => self.may_commit_queues(node, &wanted),
                    None => self.may_commit(node, &change).map(|_| ()),
                };
                if may.is_ok() {
                    let disk = &mut self.nodes[node].disk;
                    (disk.copy.committed, disk.unwritten) = (Some(change.id), Some(change));
                }
            }
            (job, half) => {
                let staged = self.nodes[node].disk.copy.staged.clone();
                let writes = matches!(
                    &job,
                    Job::Tree(TreeWork::Swap { .. }) | Job::Change(ChangeWork::Apply(_))
                );
                let of_queues = matches!(&job, Job::Change(ChangeWork::Apply(_)))
                    && staged.as_ref().and_then(queue_change).is_some();
                let _ = self.do_job(node, job);
                if half == 1 && of_queues {
                    // Written, and still staged.
                    self.nodes[node].disk.copy.staged = staged;
                } else if half == 1 && writes {
                    self.leave_unrecorded(node, staged);
                }
            }
        }
    }

    /// The copy is written, and nothing says so yet: it counts as it is, and is no whole one before it is written again.
    fn leave_unrecorded(&mut self, node: usize, staged: Option<Change>) {
        self.counts.unrecorded += 1;
        let disk = &mut self.nodes[node].disk;
        disk.copied = false;
        disk.copy.staged = staged;
        disk.copy.written = disk.copy.inventory();
    }

    fn do_job(&mut self, node: usize, job: Job) -> Option<Event> {
        match job {
            Job::Tree(work) => self.tree_work(node, work).map(Event::Tree),
            Job::Change(work) => self.change_work(node, work).map(Event::Change),
            Job::Queues(work) => self.queue_work(node, work).map(Event::Queues),
        }
    }

    fn tree_work(&mut self, node: usize, work: TreeWork) -> Option<TreeEvent> {
        let machine = &mut self.nodes[node];
        if machine.role == Role::Provider {
            let mut own = own_tree(&machine.disk);
            let looks = matches!(work, TreeWork::Scan { .. }) && self.now < self.chaos_until;
            if looks && self.random.chance(2) {
                // Its disk is not mounted at this moment.
                let below = format!("{CONFIGURATION}/");
                own.files.retain(|path, _| !path.starts_with(&below));
                self.counts.trees_gone += 1;
            }
            return own.work(work);
        }
        let event = machine.disk.copy.work(work);
        if matches!(event, Some(TreeEvent::Scanned { .. })) {
            let unseen = self.trees.edited[node].values_mut();
            unseen.for_each(|seen| *seen = seen.or(Some(self.now)));
        }
        if matches!(event, Some(TreeEvent::Swapped { result: Ok(()), .. })) {
            machine.disk.copied = true;
            self.counts.swaps += 1;
            self.note_swapped(node);
        }
        event
    }

    fn change_work(&mut self, node: usize, work: ChangeWork) -> Option<ChangeEvent> {
        let copy = &mut self.nodes[node].disk.copy;
        match work {
            ChangeWork::Stage(change) if change.kind == QUEUE_CHANGE => {
                let wanted = queue_change(&change)?;
                Some(self.stage_queues(node, change, &wanted))
            }
            ChangeWork::Apply(id)
                if copy
                    .staged
                    .as_ref()
                    .is_some_and(|staged| staged.id == id && staged.kind == QUEUE_CHANGE) =>
            {
                let change = copy.staged.clone()?;
                let wanted = queue_change(&change)?;
                Some(self.apply_queues(node, &change, wanted))
            }
            ChangeWork::Commit { change, replicated } => {
                Some(ChangeEvent::Committed(self.commit_change(node, &change, replicated)))
            }
            ChangeWork::Stage(change) => {
                let event = copy.change(ChangeWork::Stage(change.clone()));
                if matches!(event, Some(ChangeEvent::Staged(Ok(())))) {
                    self.note_staged(node, &change);
                }
                event
            }
            ChangeWork::Apply(id) => {
                let change = copy.staged.clone().filter(|staged| staged.id == id);
                let event = copy.change(ChangeWork::Apply(id));
                self.nodes[node].disk.copied = true;
                if let Some(change) = change {
                    self.note_applied(node, &change);
                }
                event
            }
            work => copy.change(work),
        }
    }

    /// Whether the file still is what whoever asked saw.
    fn may_commit(&self, node: usize, change: &Change) -> Result<FileChange, Refusal> {
        let file = read_change(change)?;
        let own = own_tree(&self.nodes[node].disk);
        let there = own.files.get(&file.path).map(|content| file_digest(content));
        if there != file.old {
            return Err(Refusal::new("changed-meanwhile", file.path, ""));
        }
        Ok(file)
    }

    fn commit_change(&mut self, node: usize, change: &Change, replicated: bool) -> Result<(), Refusal> {
        if let Some(wanted) = queue_change(change) {
            self.commit_queues(node, change, wanted)?;
            if replicated {
                self.nodes[node].disk.copy.committed = Some(change.id);
            }
            return Ok(());
        }
        let file = self.may_commit(node, change)?;
        if replicated {
            self.nodes[node].disk.copy.committed = Some(change.id);
        }
        self.write_own(node, &file.path, Some(&file.content));
        self.note_committed(node, change);
        Ok(())
    }

    /// At a start, before anything is read: a change that was committed and perhaps not written is written.
    pub fn finish_commit(&mut self, node: usize) {
        let Some(change) = self.nodes[node].disk.unwritten.take() else {
            return;
        };
        if planted::active(Fault::CommitNotFinished) {
            return;
        }
        if let Some(wanted) = queue_change(&change) {
            self.counts.finished += 1;
            self.write_registry(node, &wanted.namespace, wanted.registry);
            self.note_queue_committed(node, &change);
        }
        if let Ok(file) = read_change(&change) {
            self.counts.finished += 1;
            self.write_own(node, &file.path, Some(&file.content));
            self.note_committed(node, &change);
        }
    }

    /// A file of a node's own tree changes durably: by its own hand or by an operator's.
    fn write_own(&mut self, node: usize, path: &str, content: Option<&Bytes>) {
        let machine = &mut self.nodes[node];
        put_own(&mut machine.disk, path, content);
        // Where a promotion ends is compared with this later: what came after it belongs to both.
        for expected in &mut machine.expected {
            put_own(&mut expected.disk, path, content);
        }
        self.note_own(node);
    }
}
