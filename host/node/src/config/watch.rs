//! Watching a node's own tree: whoever edits a file of it by hand is noticed within a moment.

use std::path::PathBuf;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Several writes of one editor are one change.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches until it is dropped.
pub struct Watch {
    _watcher: RecommendedWatcher,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    /// Calls `touched` after each change below `places`; in a task of the running runtime.
    ///
    /// # Errors
    /// The system gave no watch (a limit of inotify, usually).
    pub fn start<F>(places: &[PathBuf], touched: impl Fn() -> F + Send + 'static) -> notify::Result<Watch>
    where
        F: Future<Output = ()> + Send,
    {
        let (noticed, mut changes) = mpsc::channel::<()>(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is no change; an overflow of the queue may hide one.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                let _ = noticed.try_send(());
            }
        })?;
        for place in places {
            watcher.watch(place, RecursiveMode::Recursive)?;
        }
        let task = tokio::spawn(async move {
            while changes.recv().await.is_some() {
                tokio::time::sleep(SETTLE).await;
                let _ = changes.try_recv();
                touched().await;
            }
        });
        Ok(Watch {
            _watcher: watcher,
            task,
        })
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

    #[tokio::test(flavor = "multi_thread")]
    async fn an_edit_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("global")).unwrap();
        let (tell, mut told) = mpsc::channel(8);
        let watch = Watch::start(&[directory.path().to_owned()], move || {
            let tell = tell.clone();
            async move {
                let _ = tell.send(()).await;
            }
        })
        .unwrap();
        std::fs::write(directory.path().join("global/ns_static.toml"), "a = 1").unwrap();
        tokio::time::timeout(Duration::from_secs(10), told.recv())
            .await
            .unwrap()
            .unwrap();
        drop(watch);
    }
}
