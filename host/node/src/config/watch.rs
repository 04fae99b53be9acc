//! Watching a tree, a node's own or a standby's copy: whoever edits a file of it by hand is noticed within a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cvp_core::replication::is_temporary;
use notify::event::{CreateKind, ModifyKind, RemoveKind};
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::scan::Places;

/// Several writes of one editor are one change.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches until it is dropped.
pub struct Watch {
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    /// Calls `touched` after each change below the tree of `places`; in a task of the running runtime.
    ///
    /// A directory of the tree that is replaced by another of its name is watched as the one before: its parents are watched as well, and
    /// after each change whatever is there then.
    ///
    /// # Errors
    /// The system gave no watch (a limit of inotify, usually).
    pub fn start<F>(places: Places, touched: impl Fn() -> F + Send + 'static) -> notify::Result<Watch>
    where
        F: Future<Output = ()> + Send,
    {
        let (noticed, mut changes) = mpsc::channel::<()>(1);
        let of_tree = places.clone();
        let directories = Arc::new(AtomicBool::new(false));
        let moved = Arc::clone(&directories);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is no change; an overflow of the queue may hide one.
            let is_change = event.as_ref().map_or(true, |event| {
                let paths = &event.paths;
                !matches!(event.kind, EventKind::Access(_))
                    && (paths.is_empty() || paths.iter().any(|p| of_tree.holds(p)))
            });
            if is_change {
                if !event.is_ok_and(|event| is_of_files(&event)) {
                    moved.store(true, Ordering::Release);
                }
                let _ = noticed.try_send(());
            }
        })?;
        // A copy may not be there yet: what is above it sees it come.
        for place in places.watched().into_iter().filter(|place| place.is_dir()) {
            watcher.watch(&place, RecursiveMode::Recursive)?;
        }
        for parent in places.parents() {
            watcher.watch(&parent, RecursiveMode::NonRecursive)?;
        }
        let task = tokio::spawn(async move {
            while changes.recv().await.is_some() {
                tokio::time::sleep(SETTLE).await;
                let _ = changes.try_recv();
                // What went away meanwhile is found again when it is there. Where files alone changed, all is watched: of a hundred namespaces
                // that is a walk through hundreds of directories.
                if directories.swap(false, Ordering::AcqRel) {
                    for place in places.watched() {
                        let _ = watcher.watch(&place, RecursiveMode::Recursive);
                    }
                    for parent in places.parents() {
                        let _ = watcher.watch(&parent, RecursiveMode::NonRecursive);
                    }
                }
                touched().await;
            }
        });
        Ok(Watch { task })
    }
}

/// Whether no directory came, went, moved or was opened to us. A name that is no file's by now may have been a directory's; one that a file has
/// while it is being written was not.
fn is_of_files(event: &notify::Event) -> bool {
    // A link to a directory comes as a file does.
    if event.paths.iter().any(|path| path.is_dir()) {
        return false;
    }
    match event.kind {
        EventKind::Create(CreateKind::File)
        | EventKind::Remove(RemoveKind::File)
        | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => !event.need_rescan(),
        EventKind::Modify(ModifyKind::Name(_)) => event.paths.iter().all(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(is_temporary) || path.is_file()
        }),
        _ => false,
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Root, exchange};

    fn watch_into(places: Places) -> (Watch, mpsc::Receiver<()>) {
        let (tell, told) = mpsc::channel(8);
        let watch = Watch::start(places, move || {
            let tell = tell.clone();
            async move {
                let _ = tell.send(()).await;
            }
        });
        (watch.unwrap(), told)
    }

    async fn noticed(told: &mut mpsc::Receiver<()>) {
        let waited = tokio::time::timeout(Duration::from_secs(10), told.recv()).await;
        waited.unwrap().unwrap();
        // Of one edit, more than one may be told.
        while tokio::time::timeout(3 * SETTLE, told.recv()).await.is_ok() {}
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_edit_is_noticed_in_what_is_there_now() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let configuration = root.configuration();
        let certificates = directory.path().join("namespaces/ns1/certs");
        std::fs::create_dir_all(configuration.join("global")).unwrap();
        std::fs::create_dir_all(directory.path().join("namespaces/ns1/data")).unwrap();
        let (watch, mut told) = watch_into(Places::own(&root));
        std::fs::write(configuration.join("global/ns_static.toml"), "a = 1").unwrap();
        noticed(&mut told).await;
        // The tree is moved aside, and another takes its place.
        let aside = directory.path().join("aside");
        std::fs::rename(&configuration, &aside).unwrap();
        std::fs::create_dir_all(configuration.join("global")).unwrap();
        noticed(&mut told).await;
        std::fs::write(configuration.join("global/ns_static.toml"), "a = 2").unwrap();
        noticed(&mut told).await;
        // Certificates that were not there.
        std::fs::create_dir(&certificates).unwrap();
        noticed(&mut told).await;
        std::fs::write(certificates.join("root.ca"), "a").unwrap();
        noticed(&mut told).await;
        // A namespace that was not there.
        std::fs::create_dir_all(directory.path().join("namespaces/ns2/certs")).unwrap();
        noticed(&mut told).await;
        std::fs::write(directory.path().join("namespaces/ns2/certs/root.ca"), "a").unwrap();
        noticed(&mut told).await;
        // One that lies on another disk.
        let elsewhere = directory.path().join("elsewhere");
        std::fs::create_dir_all(elsewhere.join("certs")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, directory.path().join("namespaces/ns3")).unwrap();
        noticed(&mut told).await;
        std::fs::write(elsewhere.join("certs/root.ca"), "a").unwrap();
        noticed(&mut told).await;
        // What is no part of the tree is none of its business.
        std::fs::write(directory.path().join("namespaces/ns1/data/x"), "a").unwrap();
        std::fs::write(directory.path().join("hpc_1.ipc"), "a").unwrap();
        assert!(tokio::time::timeout(5 * SETTLE, told.recv()).await.is_err());
        drop(watch);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_that_comes_later_is_watched_from_then_on() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let copy = root.system().join("configuration_vp");
        std::fs::create_dir_all(root.system()).unwrap();
        std::fs::create_dir_all(directory.path().join("namespaces/global")).unwrap();
        let (_watch, mut told) = watch_into(Places::copy(&root));
        // Beside it lie files that have nothing to do with it.
        std::fs::write(root.system().join("staged"), "a").unwrap();
        assert!(tokio::time::timeout(5 * SETTLE, told.recv()).await.is_err());
        std::fs::create_dir_all(directory.path().join("building/global")).unwrap();
        std::fs::rename(directory.path().join("building"), &copy).unwrap();
        noticed(&mut told).await;
        std::fs::write(copy.join("global/ns_static.toml"), "by hand").unwrap();
        noticed(&mut told).await;
        // Another one takes its place at once, as a swap does it.
        std::fs::create_dir_all(directory.path().join("building/global")).unwrap();
        exchange(&directory.path().join("building"), &copy).unwrap();
        noticed(&mut told).await;
        for edit in ["written", "written again"] {
            std::fs::write(copy.join("global/ns_static.toml"), edit).unwrap();
            noticed(&mut told).await;
        }
        // A file that takes another's place is one change, and all is watched behind it.
        for edit in ["replaced", "replaced again"] {
            crate::durable::replace(&copy.join("global/ns_static.toml"), edit.as_bytes(), 0o644).unwrap();
            noticed(&mut told).await;
        }
        let certificates = directory.path().join("namespaces/global/system/cvp");
        std::fs::create_dir_all(&certificates).unwrap();
        noticed(&mut told).await;
        std::fs::write(certificates.join("root.ca"), "by hand").unwrap();
        noticed(&mut told).await;
    }
}
