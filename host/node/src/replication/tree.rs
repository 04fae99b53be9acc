//! The one thread that reads and writes trees for the machine, in order: scans, files for the other end, the swap of a copy, and strong
//! changes. So a change and a swap never cross.

use std::path::{Path, PathBuf};
use std::sync::mpsc as std_mpsc;
use std::thread::{Builder, JoinHandle};

use cvp_core::replication::{
    CONFIG_CHANGE, Change, ChangeEvent, ChangeId, ChangeWork, Event, FileChange, Inventory, NOT_UNDONE, QueueWork,
    TreeEvent, TreeFile, TreeWork, file_digest,
};
use cvp_core::types::Refusal;
use cvp_core::types::strategy::Role;
use tokio::sync::{mpsc, oneshot};
use toml::Table;

use super::driver::Inbound;
use super::files::{ControlFiles, FileError};
use super::queues::{QueueDisk, finish_queues, queue_change};
use crate::config::{Copy, Known, Places, Root};
use crate::crash_point::CrashPoint;
use crate::durable;
use crate::mq::QueueSet;
use crate::namespace::ChainSet;

/// What the thread does.
pub(super) enum Work {
    Tree(TreeWork),
    Change(ChangeWork),
    Queues(QueueWork),
    /// Nothing: whoever waits for it knows that the work before it is done.
    Mark(oneshot::Sender<()>),
}

/// Work, and the machine that asked for it.
struct Job {
    epoch: u64,
    role: Role,
    work: Work,
}

/// The thread's handle; what was asked for before it is dropped is still done.
pub(super) struct TreeWorker {
    jobs: Option<std_mpsc::Sender<Job>>,
    own: Places,
    copy: Places,
    thread: Option<JoinHandle<()>>,
}

impl TreeWorker {
    /// Starts the thread; it answers into `answers`.
    pub(super) fn start(
        root: Root,
        files: ControlFiles,
        (chains, set): (ChainSet, QueueSet),
        answers: mpsc::Sender<Inbound>,
    ) -> std::io::Result<TreeWorker> {
        // The machine has a bounded number of works under way: the queue needs no bound of its own.
        let (jobs, arrived) = std_mpsc::channel::<Job>();
        let (own, copy) = (Places::own(&root), Places::copy(&root));
        let mut disk = Disk {
            copy: Copy::new(&root),
            own: own.clone(),
            known: Known::default(),
            queues: QueueDisk {
                root,
                chains,
                set,
                files: files.clone(),
                crash: CrashPoint::from_environment(),
            },
            files,
            crash: CrashPoint::from_environment(),
            unfinished: None,
        };
        let thread = Builder::new().name("tree".into()).spawn(move || {
            for job in arrived {
                if let Some(event) = disk.work(job.role, job.work) {
                    let _ = answers.blocking_send(Inbound::Core(job.epoch, event));
                }
                // What nobody waits for.
                if let Err(refusal) = disk.finish() {
                    tracing::error!(
                        "make a configuration change durable in its own file: {refusal}; the next start writes it again"
                    );
                }
            }
        })?;
        Ok(TreeWorker {
            jobs: Some(jobs),
            own,
            copy,
            thread: Some(thread),
        })
    }

    /// Where the tree lies that concerns the pair: a provider's own, a receiver's copy of it.
    pub(super) fn places(&self, role: Role) -> &Places {
        match role {
            Role::Provider => &self.own,
            Role::Receiver => &self.copy,
        }
    }

    /// Queues work; never waits.
    pub(super) fn push(&self, epoch: u64, role: Role, work: Work) {
        if let Some(jobs) = &self.jobs
            && jobs.send(Job { epoch, role, work }).is_err()
        {
            tracing::error!("the thread of the configuration's copy has ended: start the node again");
        }
    }

    /// Answers when the work asked for before is done.
    pub(super) fn flushed(&self) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        self.push(0, Role::Provider, Work::Mark(done));
        flushed
    }
}

impl Drop for TreeWorker {
    fn drop(&mut self) {
        self.jobs = None;
        // It ends with its queue; whoever drops this may not wait for a disk.
        drop(self.thread.take());
    }
}

/// The trees and files that the thread works on.
struct Disk {
    copy: Copy,
    own: Places,
    /// Of the tree that the role looks at.
    known: Known,
    queues: QueueDisk,
    files: ControlFiles,
    crash: CrashPoint,
    /// A change that is committed and to be seen, whose own file is not durable yet.
    unfinished: Option<(ChangeId, PathBuf)>,
}

fn refused(error: FileError) -> Refusal {
    error.refusal()
}

impl Disk {
    fn work(&mut self, role: Role, work: Work) -> Option<Event> {
        match work {
            Work::Tree(work) => self.tree(role, work).map(Event::Tree),
            Work::Change(work) => self.change(work).map(Event::Change),
            Work::Queues(work) => self.queues.work(work).map(Event::Queues),
            Work::Mark(done) => {
                let _ = done.send(());
                None
            }
        }
    }

    fn tree(&mut self, role: Role, work: TreeWork) -> Option<TreeEvent> {
        Some(match work {
            TreeWork::Forget => {
                if let Err(refusal) = self.copy.forget() {
                    tracing::warn!("remove what was staged of the copy: {refusal}");
                }
                return None;
            }
            TreeWork::Note { told } => {
                if let Err(error) = self.files.write_told(told.as_ref()) {
                    tracing::warn!("keep what the provider told last of its files: {error}");
                }
                return None;
            }
            TreeWork::Scan { generation, whole } => TreeEvent::Scanned {
                generation,
                inventory: match role {
                    Role::Provider => self.own.scan_again(&mut self.known, whole),
                    Role::Receiver => self.copy.places().scan_again(&mut self.known, whole),
                },
            },
            TreeWork::ReadFile {
                conn,
                version,
                path,
                digest,
            } => TreeEvent::FileRead {
                conn,
                version,
                content: self.own.read(&path, &digest),
                path,
            },
            TreeWork::StageFile { digest, content } => TreeEvent::FileStaged {
                result: self.copy.stage(&digest, &content),
                digest,
            },
            TreeWork::Swap { inventory } => TreeEvent::Swapped {
                result: self.swap(&inventory),
                inventory,
            },
        })
    }

    /// While the copy is being changed its record says nothing: what a crash leaves is nobody's edit.
    fn swap(&self, inventory: &Inventory) -> Result<(), Refusal> {
        self.files.write_copy(None).map_err(refused)?;
        self.copy.swap(inventory)?;
        self.files.write_copy(Some(inventory)).map_err(refused)
    }

    fn change(&mut self, work: ChangeWork) -> Option<ChangeEvent> {
        match work {
            ChangeWork::Commit { change, replicated } => Some(ChangeEvent::Committed(self.commit(&change, replicated))),
            ChangeWork::Stage(change) => Some(self.stage(&change)),
            ChangeWork::Apply(id) => Some(ChangeEvent::Settled(self.apply_staged(&id))),
            ChangeWork::Drop(id) => {
                let dropped = match self.files.staged() {
                    Ok(Some(staged)) if staged.id == id => self.files.remove_staged(),
                    Ok(_) => Ok(()),
                    Err(error) => Err(error),
                };
                Some(ChangeEvent::Settled(dropped.map(|()| None).map_err(refused)))
            }
            ChangeWork::Answer(..) | ChangeWork::Weighed(..) => None,
        }
    }

    /// From the moment that a replicated change stands in `committed` it counts: a start finishes what a crash interrupts. So the client is
    /// answered when it stands there and in its own file for everybody to see; that this file is durable is seen to behind the answer.
    fn commit(&mut self, change: &Change, replicated: bool) -> Result<(), Refusal> {
        if let Some(wanted) = queue_change(change) {
            // The one before counts as long as it stands in `committed`.
            self.finish()?;
            return self.queues.commit(change, &wanted?, replicated);
        }
        let file = read_change(change)?;
        let path = self.own.file(&file.path);
        let path = path.ok_or_else(|| Refusal::new("bad-path", file.path.clone(), ""))?;
        let there = std::fs::read(&path).ok().map(|content| file_digest(&content));
        if there != file.old {
            return Err(Refusal::new(
                "changed-meanwhile",
                format!("{} was changed by somebody else meanwhile", file.path),
                "look at it, and set the key again",
            ));
        }
        // The one before counts as long as it stands in `committed`.
        self.finish()?;
        self.crash.at("change:before-commit");
        if !replicated {
            return write_own(&self.own, &file).map_err(|refusal| self.unless_written(&file, refusal));
        }
        let before = self.files.committed().map_err(refused)?;
        let written = self.files.write_committed(&change.id, Some(change)).map_err(refused);
        self.crash.at("change:committed");
        if let Err(refusal) = written.and_then(|()| own_file(&self.own, &file, durable::place)) {
            // It does not count after all: a start must not finish it.
            let undone = match &before {
                Some((id, _)) => self.files.write_committed(id, None),
                None => self.files.remove_committed(),
            };
            return Err(match undone {
                Ok(()) => self.unless_written(&file, refusal),
                Err(_) => not_undone(&refusal),
            });
        }
        self.unfinished = Some((change.id, path));
        self.crash.at("change:before-answer");
        Ok(())
    }

    /// Makes the file of the last commit durable; then a start has nothing to finish.
    fn finish(&mut self) -> Result<(), Refusal> {
        let Some((id, path)) = &self.unfinished else {
            return Ok(());
        };
        self.crash.at("change:answered");
        durable::settle(path).map_err(own_failed)?;
        self.crash.at("change:written");
        self.files.write_committed(id, None).map_err(refused)?;
        self.unfinished = None;
        Ok(())
    }

    /// What could not be made durable may be there all the same.
    fn unless_written(&self, file: &FileChange, refusal: Refusal) -> Refusal {
        let there = self.own.read(&file.path, &file.digest()).is_ok();
        if there { not_undone(&refusal) } else { refusal }
    }

    /// What is refused must not be staged: an upgrade would roll it forward. A disk that cannot promise that takes no more changes.
    fn stage(&self, change: &Change) -> ChangeEvent {
        let checked = match queue_change(change) {
            Some(wanted) => wanted.and_then(|wanted| self.queues.check(&wanted)),
            None => read_change(change).and_then(|file| self.copy.check(&file)),
        };
        if let Err(refusal) = checked {
            return ChangeEvent::Staged(Err(refusal));
        }
        self.crash.at("change:before-stage");
        let written = self.files.write_staged(change);
        self.crash.at("change:staged");
        match (
            &written,
            written
                .as_ref()
                .map_or_else(|_| self.files.remove_staged(), |()| Ok(())),
        ) {
            (Ok(()), _) => ChangeEvent::Staged(Ok(())),
            (Err(error), Ok(())) => ChangeEvent::Staged(Err(error.refusal())),
            (Err(_), Err(error)) => ChangeEvent::Settled(Err(error.refusal())),
        }
    }

    /// Writes what is staged to its place; the copy of the tree where it changed.
    fn apply_staged(&self, id: &ChangeId) -> Result<Option<Inventory>, Refusal> {
        let staged = self.files.staged().map_err(refused)?.filter(|staged| staged.id == *id);
        match staged.as_ref().and_then(queue_change) {
            None => self.apply(id).map(Some),
            Some(wanted) => {
                self.queues.apply(wanted?)?;
                self.files.remove_staged().map_err(refused)?;
                Ok(None)
            }
        }
    }

    /// Writes what is staged into the copy; the copy that comes of it, as far as it is ours: what somebody else did to it, the next look
    /// finds.
    fn apply(&self, id: &ChangeId) -> Result<Inventory, Refusal> {
        let mut copy = self.files.copy().map_err(refused)?;
        if let Some(change) = self.files.staged().map_err(refused)?.filter(|staged| staged.id == *id) {
            let file = read_change(&change)?;
            self.crash.at("change:before-apply");
            self.files.write_copy(None).map_err(refused)?;
            self.copy.put(&file)?;
            self.crash.at("change:applied");
            // A copy that a failure left in the middle of a swap is not whole for one file's sake.
            if let Some(copy) = &mut copy {
                copy.put(TreeFile {
                    bytes: file.content.len() as u64,
                    digest: file.digest(),
                    path: file.path,
                });
                self.files.write_copy(Some(copy)).map_err(refused)?;
            }
        }
        let copy = copy.unwrap_or_else(|| self.copy.places().scan());
        self.files.remove_staged().map_err(refused)?;
        Ok(copy)
    }
}

fn not_undone(refusal: &Refusal) -> Refusal {
    Refusal::new(
        NOT_UNDONE,
        format!(
            "the disk failed in the middle: {}; the next start may find the change made",
            refusal.text
        ),
        "check the disk, start the node again, and look with `cvp config get`",
    )
}

fn read_change(change: &Change) -> Result<FileChange, Refusal> {
    if change.kind != CONFIG_CHANGE {
        return Err(Refusal::new(
            "unknown-change",
            format!("this release does not know changes of kind {}", change.kind),
            "upgrade the standby first",
        ));
    }
    FileChange::decode(&change.body)
        .map_err(|error| Refusal::new("bad-change", error.to_string(), "report it with both logs"))
}

/// Writes a change into a node's own tree, durably.
fn write_own(own: &Places, change: &FileChange) -> Result<(), Refusal> {
    own_file(own, change, durable::replace)
}

/// Writes a change into a node's own tree; the permission bits of the file stay.
fn own_file(
    own: &Places,
    change: &FileChange,
    write: impl FnOnce(&Path, &[u8], u32) -> Result<(), durable::DurableError>,
) -> Result<(), Refusal> {
    use std::os::unix::fs::PermissionsExt;
    let path = own.file(&change.path);
    let path = path.ok_or_else(|| Refusal::new("bad-path", change.path.clone(), ""))?;
    let mode = std::fs::metadata(&path).map_or(0o644, |meta| meta.permissions().mode() & 0o777);
    write(&path, &change.content, mode).map_err(own_failed)
}

fn own_failed(error: durable::DurableError) -> Refusal {
    Refusal::new("disk-failed", error.to_string(), "check the disk and the permissions")
}

/// What a start did about a change that a crash interrupted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finished {
    /// A change of message queues was written.
    Queues,
    /// The file at this path was written.
    File(String),
    /// Somebody edited the file at this path meanwhile: it stays as it is.
    Edited(String),
}

impl Finished {
    /// Says it in the log, which begins after it.
    pub fn log(&self) {
        match self {
            Finished::Queues => tracing::info!("a change of message queues that a crash interrupted is finished"),
            Finished::File(path) => tracing::info!("a change of {path} that a crash interrupted is finished"),
            Finished::Edited(path) => tracing::warn!(
                "{path} was edited by hand after the last change by command, which a crash interrupted: the edit stays; see that it holds that change"
            ),
        }
    }
}

/// At a provider's start, before its configuration is read: a change that was committed and perhaps not written is written, unless somebody
/// edited its file since.
///
/// # Errors
/// The file of the commit is damaged, or the change cannot be written.
pub fn finish_commit(root: &Root, files: &ControlFiles) -> Result<Option<Finished>, Refusal> {
    let Some((id, Some(change))) = files.committed().map_err(refused)? else {
        return Ok(None);
    };
    let finished = if finish_queues(root, &change)? {
        Finished::Queues
    } else {
        let (file, own) = (read_change(&change)?, Places::own(root));
        if is_edited(&own, &file) {
            Finished::Edited(file.path)
        } else {
            write_own(&own, &file)?;
            Finished::File(file.path)
        }
    };
    files.write_committed(&id, None).map_err(refused)?;
    Ok(Some(finished))
}

/// Somebody wrote into the file while the node did not run: it is neither what the change found nor what it wrote, and whole.
fn is_edited(own: &Places, change: &FileChange) -> bool {
    let text = own
        .file(&change.path)
        .and_then(|path| std::fs::read_to_string(path).ok());
    // What a power failure tore is empty, or no TOML.
    let Some(text) = text.filter(|text| text.parse::<Table>().is_ok_and(|table| !table.is_empty())) else {
        return false;
    };
    let digest = file_digest(text.as_bytes());
    digest != change.digest() && Some(digest) != change.old
}
