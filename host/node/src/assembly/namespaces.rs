//! `namespace start`, `stop` and `destroy`: the operator's commands of a provider. The entry in `dynamic.toml` changes on both nodes or on
//! neither; then the chain is opened or closed here, and the machine goes on with the new list, so that the standby dials again and follows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cvp_core::config::{self, GLOBAL, NsConfig};
use cvp_core::promotion::Beginning;
use cvp_core::replication::Outcome;
use cvp_core::types::Namespace;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chains::bad_files;
use super::life::await_making;
use super::node::{Node, strategy_role};
use super::operator::{blocking, encode};
use super::queues::at_rest;
use super::settings::FileEdit;
use super::{stopped, uncopied};
use crate::config::{Root, read_tree, remove_tree};
use crate::durable;
use crate::ipc::{Failure, Progress};
use crate::namespace::Chain;
use crate::promotion;
use crate::replication::strategies::KINDS;

/// The files that a namespace needs below `configuration/<namespace>/`.
pub(super) const FILES: [&str; 3] = ["ns_static.toml", "ns_dynamic.toml", "ns_genesis.toml"];

/// The file that lists the namespaces.
pub(super) const LIST: &str = "dynamic.toml";

/// Queries under way hold a closed chain's files at most so long.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);

/// A standby that was attached is waited for at most so long after a namespace started or stopped.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// How far a standby is with its provider's list of namespaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Standby {
    /// No session.
    Away,
    /// It runs others than the provider.
    Attached,
    /// Both run the same.
    Aligned,
}

/// Code of the machine's reason that the two ends run other namespaces.
const NAMESPACES_DIFFER: &str = "namespaces-differ";

/// What became of a namespace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Switched {
    /// Its name.
    pub namespace: String,
    /// It runs now.
    pub running: bool,
    /// `replicated`, `local` or `unchanged`: where its entry in `dynamic.toml` is.
    pub answer: String,
    /// It is on both disks.
    pub replicated: bool,
    /// What became of the data of one that was destroyed: where it lies now, or `removed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// `dynamic.toml` before and after.
pub(super) struct Edited {
    before: String,
    after: String,
}

fn named(name: &str) -> Result<Namespace, Failure> {
    Namespace::new(name).map_err(|error| Failure::refused("bad-name", error.to_string(), "name a namespace"))
}

fn not_there(name: &Namespace) -> Failure {
    Failure::refused("no-namespace", format!("namespace [{name}] not exists"), "")
}

fn list_text(root: &Root) -> Result<String, Failure> {
    let text = read_tree(&root.configuration())?.remove(LIST);
    text.ok_or_else(|| Failure::failed("no-file", format!("there is no configuration/{LIST}"), "restore it"))
}

fn edited(root: &Root, edit: impl FnOnce(&str) -> Result<String, config::EditError>) -> Result<Edited, Failure> {
    let before = list_text(root)?;
    let after = edit(&before).map_err(|error| {
        let what = format!("configuration/{LIST}: {error}");
        Failure::failed("bad-configuration", what, "nothing was changed; correct it")
    })?;
    Ok(Edited { before, after })
}

/// The list with this namespace, and what the namespace would run with. Writes nothing.
pub(super) fn draft_start(root: &Root, name: &Namespace) -> Result<(Edited, NsConfig), Failure> {
    let directory = root.configuration().join(name.as_str());
    let missing: Vec<&str> = FILES
        .into_iter()
        .filter(|file| !directory.join(file).is_file())
        .collect();
    if !missing.is_empty() {
        return Err(Failure::refused(
            "namespace-files",
            format!("configuration/{name}/ lacks {}", missing.join(", ")),
            "put them there (configuration/global/ is an example), then start it again",
        ));
    }
    let list = edited(root, |text| config::put_namespace(text, name.as_str(), true))?;
    let mut files = read_tree(&root.configuration())?;
    files.insert(LIST.to_owned(), list.after.clone());
    let mut loaded = config::load(&files).map_err(|problems| Failure::from_refusal(&bad_files(&problems)))?;
    match loaded.config.namespaces.remove(name) {
        Some(ns) => Ok((list, ns)),
        None => {
            let problems = loaded.held.remove(name).unwrap_or_default();
            Err(Failure::from_refusal(&bad_files(&problems)))
        }
    }
}

/// Queues that one line names.
const QUEUES_SHOWN: usize = 8;

impl Node {
    pub(super) async fn start_namespace(
        self: &Arc<Self>,
        name: &str,
        must_replicate: bool,
        (anew, as_copied): (bool, bool),
    ) -> Result<Value, Failure> {
        let _one_at_a_time = self.changing.lock().await;
        let name = named(name)?;
        if self.chains.get(name.as_str()).is_some() {
            return Err(Failure::refused("namespace-exists", "namespace exist", ""));
        }
        // Another upgrade takes it over, and says so in the lineage.
        let standing = promotion::standing(&self.files).map_err(|refusal| Failure::from_refusal(&refusal))?;
        if let Some(held) = standing.held.iter().find(|held| held.name == name) {
            let refusal = promotion::not_taken_over(held);
            return Err(Failure::refused(&refusal.code, refusal.text, refusal.hint));
        }
        let (root, files, of) = (self.root.clone(), self.files.clone(), name.clone());
        let draft = move || {
            let (list, ns) = draft_start(&root, &of)?;
            let beginning = uncopied::may_start(&root, &standing.uncopied, (&of, &ns), anew)?;
            stopped::may_start(&root, (&files, &standing.predecessor), (&of, &ns), as_copied)?;
            Ok((list, ns, beginning))
        };
        let (list, ns, beginning) = blocking(draft).await?;
        // First whether it can run here: nobody is told of one that cannot.
        let (opener, of, with) = (self.opener.clone(), name.clone(), ns.clone());
        let among = self.chains.names().len() + 1;
        let chain = match blocking(move || opener.open(&of, &with, among)).await {
            Ok(chain) => chain,
            Err(failure) => {
                self.hold_again(&name, &failure).await;
                return Err(failure);
            }
        };
        let note = format!("{LIST} namespace {name} start = true");
        let standby = self.standby().await;
        let answer = self.change_list(&list, note, must_replicate).await;
        let begun = match answer {
            Ok(answer) => self
                .settle(&name, beginning)
                .and_then(|()| stopped::settle(&self.files, &name))
                .map(|()| answer),
            failed => failed,
        };
        let answer = match begun {
            Ok(answer) => answer,
            Err(failure) => {
                close_down(chain).await;
                return Err(failure);
            }
        };
        self.chains.insert(chain);
        self.held.lock().remove(&name);
        self.change_config(|config| {
            config.namespaces.insert(name.clone(), ns.clone());
        });
        self.go_on(Vec::new()).await?;
        await_making(self).await;
        self.await_standby(standby).await;
        tracing::info!(namespace = %name, answer, "namespace started by the operator");
        encode(&switched(&name, true, answer))
    }

    pub(super) async fn stop_namespace(
        self: &Arc<Self>,
        name: &str,
        must_replicate: bool,
        progress: Progress,
    ) -> Result<Value, Failure> {
        let _one_at_a_time = self.changing.lock().await;
        let name = named(name)?;
        if name.as_str() == GLOBAL {
            return self.stop_node(&name, progress);
        }
        let held = self.held.lock().contains_key(&name);
        if self.chains.get(name.as_str()).is_none() && !held {
            let what = format!("namespace \"{name}\" is not running");
            return Err(Failure::refused("not-running", what, ""));
        }
        let (root, of) = (self.root.clone(), name.clone());
        let draft = move || edited(&root, |text| config::put_namespace(text, of.as_str(), false));
        let list = blocking(draft).await?;
        let note = format!("{LIST} namespace {name} start = false");
        let standby = self.standby().await;
        let answer = self.change_list(&list, note, must_replicate).await?;
        self.held.lock().remove(&name);
        let gone = self.take_out(&name);
        self.go_on(gone.into_iter().collect()).await?;
        self.await_standby(standby).await;
        tracing::info!(namespace = %name, answer, "namespace stopped by the operator");
        encode(&switched(&name, false, answer))
    }

    /// A node always runs `global`: it ends with it, and starts with it again.
    fn stop_node(self: &Arc<Self>, name: &Namespace, progress: Progress) -> Result<Value, Failure> {
        tracing::info!("namespace global is stopped by the operator: the node stops with it");
        let node = Arc::clone(self);
        tokio::spawn(async move {
            progress.answered().await;
            node.stopping.notify_one();
        });
        encode(&switched(name, false, "unchanged"))
    }

    pub(super) async fn destroy_namespace(
        self: &Arc<Self>,
        name: &str,
        yes: bool,
        must_replicate: bool,
    ) -> Result<Value, Failure> {
        let _one_at_a_time = self.changing.lock().await;
        let name = named(name)?;
        if self.chains.get(name.as_str()).is_some() || self.held.lock().contains_key(&name) {
            return Err(Failure::refused("namespace-running", "namespace has not stopped", ""));
        }
        let data = self.root.namespace(&name).join("data");
        self.nothing_at_broker(&name).await?;
        let (root, of) = (self.root.clone(), name.clone());
        let draft = move || edited(&root, |text| config::remove_namespace(text, of.as_str()));
        let list = blocking(draft).await?;
        if list.before == list.after && !data.exists() {
            return Err(not_there(&name));
        }
        let note = format!("{LIST} namespace {name} removed");
        let answer = self.change_list(&list, note, must_replicate).await?;
        let files = self.files.clone();
        let of = name.clone();
        let put_away = blocking(move || {
            for kind in KINDS {
                let removed = files.remove_stored(&of, kind);
                removed.map_err(|error| Failure::from_refusal(&error.refusal()))?;
            }
            put_away(&data, yes)
        });
        let data = put_away.await?;
        self.queues.names().let_go(&name);
        promotion::release(&self.files, &name).map_err(|refusal| Failure::from_refusal(&refusal))?;
        stopped::settle(&self.files, &name)?;
        tracing::info!(namespace = %name, answer, data = data.as_deref(), "namespace destroyed by the operator");
        encode(&Switched {
            data,
            ..switched(&name, false, answer)
        })
    }

    /// Queues that a namespace leaves at its broker nobody could unregister any more, and the next who took their name there would go on
    /// behind what lies in them.
    async fn nothing_at_broker(&self, name: &Namespace) -> Result<(), Failure> {
        let (root, of, own) = (self.root.clone(), name.clone(), self.own_incarnation());
        let Some(rest) = blocking(move || Ok(at_rest(&root, &of, own))).await? else {
            return Ok(());
        };
        if rest.broker.is_none() {
            // What it left at one may stay there: so the operator says.
            return Ok(());
        }
        let what = match rest.names.as_deref() {
            Some([]) => return Ok(()),
            Some(names) => {
                let names: BTreeSet<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
                let shown: Vec<&str> = names.iter().take(QUEUES_SHOWN).copied().collect();
                let more = if names.len() > shown.len() { ", ..." } else { "" };
                format!("has {} queues at its broker ({}{more})", names.len(), shown.join(", "))
            }
            None => "may have queues at its broker, and its files (data/mq) cannot be read".to_owned(),
        };
        Err(Failure::refused(
            "queues-at-broker",
            format!("namespace {name} {what}"),
            "start it while the broker is there and unregister those that are registered, the others go by themselves; or, where they may stay there for good, set mq.broker.type = \"embedded\" in its \
             ns_static.toml, destroy it then, and remove them at the broker before the names are used again",
        ))
    }

    /// From here on its chain is this node's, where it was never copied. Before this, the next start of the node holds it.
    fn settle(&self, name: &Namespace, beginning: Beginning) -> Result<(), Failure> {
        match beginning {
            Beginning::Plain => Ok(()),
            Beginning::Settled => {
                promotion::release(&self.files, name).map_err(|refusal| Failure::from_refusal(&refusal))
            }
        }
    }

    /// Changes `dynamic.toml` on both nodes, where it changes.
    async fn change_list(&self, list: &Edited, note: String, must_replicate: bool) -> Result<&'static str, Failure> {
        if list.before == list.after {
            return Ok("unchanged");
        }
        let edit = FileEdit {
            file: LIST,
            before: &list.before,
            after: &list.after,
        };
        Ok(match self.propose(&edit, note, must_replicate).await? {
            Outcome::Replicated => "replicated",
            _ => "local",
        })
    }

    /// How far the standby is with the list of namespaces.
    async fn standby(&self) -> Standby {
        let status = match self.replication() {
            Some(replication) => replication.status().await,
            None => None,
        };
        let Some((status, _)) = status.filter(|(status, _)| status.peer.is_some()) else {
            return Standby::Away;
        };
        if status.reasons.iter().any(|reason| reason.code == NAMESPACES_DIFFER) {
            Standby::Attached
        } else {
            Standby::Aligned
        }
    }

    /// The session ended for this node's own sake, and ends once more when the standby has aligned itself: what the operator changes next is
    /// to be on both nodes. Waits until the standby is as far as it was, as long as a strong change waits, [`BACK_WITHIN`] at most.
    async fn await_standby(&self, before: Standby) {
        let back = async {
            while self.standby().await < before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let within = Duration::from_millis(self.config().dynamic.cvp.strong_timeout_ms).min(BACK_WITHIN);
        if tokio::time::timeout(within, back).await.is_err() {
            tracing::info!("the standby is not back yet: what is changed until it is may be on this node alone");
        }
    }

    /// Takes a chain out of everything that begins from now on.
    pub(super) fn take_out(&self, name: &Namespace) -> Option<Arc<Chain>> {
        self.change_config(|config| {
            config.namespaces.remove(name);
        });
        self.chains.remove(name.as_str())
    }

    /// A namespace that was held, and that a start could not help.
    async fn hold_again(&self, name: &Namespace, failure: &Failure) {
        let known = {
            let mut held = self.held.lock();
            held.get_mut(name).map(|refusal| *refusal = failure.to_refusal())
        };
        if let (Some(()), Some(replication)) = (known, self.replication()) {
            replication.set_held(self.held_list()).await;
        }
    }

    /// Goes on in the same role with the chains there are; `gone` are closed. The session ends, and a standby dials again.
    pub(super) async fn go_on(self: &Arc<Self>, gone: Vec<Arc<Chain>>) -> Result<(), Failure> {
        let Some(replication) = self.replication() else {
            return Ok(());
        };
        // Whoever writes a chain that goes has ended before it; what stays is followed again once the new machine allows it.
        self.following.stop().await;
        replication.quiesce().await;
        // Before the chains are closed: queues read them.
        self.refresh_queues().await;
        for chain in gone {
            close_down(chain).await;
        }
        let node = Arc::clone(self);
        let work = move || {
            let config = node.config();
            node.fleet
                .keep(&config, strategy_role(config.role()), &node.chains.names())?;
            let (setup, _) = node.setup(&config).map_err(|refusal| Failure::from_refusal(&refusal))?;
            Ok((config, setup))
        };
        let (config, setup) = blocking(work).await?;
        replication.become_role(setup, self.fleet.handles()).await;
        replication.set_held(self.held_list()).await;
        self.follow_config(&config);
        Ok(())
    }
}

fn switched(name: &Namespace, running: bool, answer: &str) -> Switched {
    Switched {
        namespace: name.to_string(),
        running,
        answer: answer.to_owned(),
        replicated: answer == "replicated",
        data: None,
    }
}

/// Closes a chain that nothing begins to use any more, and waits until its files are free for the next who opens them.
pub(super) async fn close_down(chain: Arc<Chain>) {
    let name = chain.namespace().clone();
    let left = Arc::downgrade(&chain);
    let closed = tokio::task::spawn_blocking(move || chain.close()).await;
    if let Err(error) = closed {
        tracing::error!(namespace = %name, %error, "close the namespace");
    }
    let free = async {
        while left.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(RELEASED_WITHIN, free).await.is_err() {
        tracing::warn!(namespace = %name, "a query still holds the files of the closed namespace");
    }
}

/// Moves the data of a destroyed namespace aside, or removes it for good; says which.
fn put_away(data: &Path, for_good: bool) -> Result<Option<String>, Failure> {
    if !data.exists() {
        return Ok(None);
    }
    let aside = aside(data);
    let failed = |error: std::io::Error| {
        let what = format!("cannot move {} to {}: {error}", data.display(), aside.display());
        Failure::failed("disk", what, "the namespace is destroyed; move its data away by hand")
    };
    std::fs::rename(data, &aside).map_err(failed)?;
    if let Some(parent) = data.parent() {
        durable::sync_directory(parent)?;
    }
    if for_good {
        remove_tree(&aside).map_err(|refusal| Failure::from_refusal(&refusal))?;
        return Ok(Some("removed".to_owned()));
    }
    Ok(Some(aside.display().to_string()))
}

/// A name beside the data that nothing has.
fn aside(data: &Path) -> PathBuf {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut number = since.as_secs();
    loop {
        let path = data.with_file_name(format!("data.destroyed-{number}"));
        if !path.exists() {
            return path;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_moved_aside_or_removed_and_never_over_older() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        assert_eq!(put_away(&data, false).unwrap(), None);
        let mut kept = Vec::new();
        for _ in 0..2 {
            std::fs::create_dir(&data).unwrap();
            kept.push(put_away(&data, false).unwrap().unwrap());
        }
        assert!(kept[0] != kept[1] && kept.iter().all(|path| Path::new(path).is_dir()));
        std::fs::create_dir(&data).unwrap();
        assert_eq!(put_away(&data, true).unwrap().as_deref(), Some("removed"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
