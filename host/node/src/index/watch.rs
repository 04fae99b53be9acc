//! The look that goes on: backends again and again, and the switch in the configuration whenever its file changes. One task a node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cvp_core::config::{self, BackendHosts, INDEX_SWITCH, IndexSettings};
use cvp_core::session::{BackendHealth, IndexState};
use cvp_core::types::Namespace;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::probe;
use crate::config::Root;

/// How often files are looked at, and backends that are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a backend that answers is looked at.
const HEALTHY_EVERY: Duration = Duration::from_secs(5);

/// The same of one that does not.
const UNHEALTHY_EVERY: Duration = Duration::from_secs(2);

/// Largest file that is read for its switch, bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A namespace that runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    /// Its name.
    pub namespace: Namespace,
    /// The settings it runs with.
    pub running: IndexSettings,
}

/// What is known of one.
struct Known {
    watched: Watched,
    file: PathBuf,
    stamp: Option<(SystemTime, u64)>,
    configured: bool,
    told: Option<IndexState>,
}

/// A backend; namespaces that share one are looked at once.
struct Seen {
    hosts: BackendHosts,
    health: BackendHealth,
    due: Instant,
}

/// Tells each namespace's state at the beginning and whenever it changes, until `tell` answers false.
pub async fn watch<F: Future<Output = bool>>(
    root: Root,
    watched: Vec<Watched>,
    tell: impl Fn(Namespace, IndexState) -> F,
) {
    let mut known: Vec<Known> = watched
        .into_iter()
        .map(|watched| Known {
            file: root
                .configuration()
                .join(watched.namespace.as_str())
                .join("ns_static.toml"),
            stamp: None,
            configured: watched.running.enable,
            told: None,
            watched,
        })
        .collect();
    let mut backends = BTreeMap::new();
    for Known { watched, .. } in &known {
        if watched.running.enable {
            let hosts = watched.running.backend.clone();
            backends.entry(hosts.to_string()).or_insert(Seen {
                hosts,
                health: BackendHealth::Unknown,
                due: Instant::now(),
            });
        }
    }
    loop {
        // A disk that stands still holds up this task, and nobody else.
        let looked = tokio::task::spawn_blocking(move || {
            known.iter_mut().for_each(look);
            known
        });
        known = match looked.await {
            Ok(known) => known,
            Err(error) => return tracing::error!(%error, "look at the switch of the data index"),
        };
        look_at(&mut backends).await;
        for it in &mut known {
            let running = &it.watched.running;
            let backend = match backends.get(&running.backend.to_string()) {
                Some(seen) if running.enable => seen.health.clone(),
                _ => BackendHealth::Off,
            };
            let state = IndexState {
                configured: it.configured,
                backend,
            };
            if it.told.as_ref() == Some(&state) {
                continue;
            }
            log(it, &state);
            it.told = Some(state.clone());
            if !tell(it.watched.namespace.clone(), state).await {
                return;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The switch in the file, if the file is another one since the last look. One that cannot be read says nothing.
fn look(it: &mut Known) {
    let Ok(found) = std::fs::metadata(&it.file) else { return };
    let stamp = found.modified().ok().map(|at| (at, found.len()));
    if found.len() > FILE_BYTES_MAX || (stamp.is_some() && stamp == it.stamp) {
        return;
    }
    it.stamp = stamp;
    let Ok(text) = std::fs::read_to_string(&it.file) else {
        return;
    };
    match config::get(&text, INDEX_SWITCH) {
        Ok(Some(value)) => it.configured = value.parse().unwrap_or(it.configured),
        Ok(None) => it.configured = false,
        Err(_) => {}
    }
}

async fn look_at(backends: &mut BTreeMap<String, Seen>) {
    let now = Instant::now();
    let mut looks = JoinSet::new();
    for (name, seen) in backends.iter().filter(|(_, seen)| seen.due <= now) {
        let (name, hosts) = (name.clone(), seen.hosts.clone());
        looks.spawn(async move { (name, probe(&hosts).await) });
    }
    while let Some(done) = looks.join_next().await {
        let Ok((name, found)) = done else { continue };
        if let Some(seen) = backends.get_mut(&name) {
            let (health, pause) = match found {
                Ok(()) => (BackendHealth::Healthy, HEALTHY_EVERY),
                Err(why) => (BackendHealth::unhealthy(&why), UNHEALTHY_EVERY),
            };
            seen.health = health;
            seen.due = Instant::now() + pause;
        }
    }
}

/// What the operator finds in the log: once a change, not once a look.
fn log(it: &Known, state: &IndexState) {
    let namespace = &it.watched.namespace;
    let before = it.told.as_ref().map(|told| &told.backend);
    match &state.backend {
        BackendHealth::Unhealthy(why) if before != Some(&state.backend) => {
            tracing::warn!(%namespace, "the index backend does not answer ({why}); it is looked at again");
        }
        BackendHealth::Healthy if before.is_some_and(|before| *before != BackendHealth::Healthy) => {
            tracing::info!(%namespace, "the index backend answers again");
        }
        _ => {}
    }
    let before = it
        .told
        .as_ref()
        .map_or(it.watched.running.enable, |told| told.configured);
    if state.configured != before {
        let (next, running) = (state.configured, it.watched.running.enable);
        tracing::info!(%namespace, "{INDEX_SWITCH} is {next} in the configuration, and {running} until the next start");
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn watched(name: &str, enable: bool, backend: &BackendHosts) -> Watched {
        Watched {
            namespace: Namespace::new(name).unwrap(),
            running: IndexSettings {
                enable,
                backend: backend.clone(),
            },
        }
    }

    async fn next(told: &mut mpsc::Receiver<(Namespace, IndexState)>, name: &str) -> IndexState {
        let wait = async {
            loop {
                let (namespace, state) = told.recv().await.unwrap();
                if namespace.as_str() == name {
                    return state;
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.expect("nothing was told")
    }

    #[tokio::test]
    async fn a_backend_that_comes_and_a_switch_that_changes_are_told_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("configuration/ns1/ns_static.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let write = |enable: bool| {
            std::fs::write(&file, format!("[database.indexdb.layer1]\nenable = {enable}\n")).unwrap();
        };
        write(true);
        let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = place.local_addr().unwrap();
        drop(place);
        let hosts = BackendHosts::parse(&format!("mongodb://me:secret@{address}")).unwrap();
        let (send, mut told) = mpsc::channel(16);
        let all = vec![watched("ns1", true, &hosts), watched("ns2", false, &hosts)];
        let task = tokio::spawn(watch(Root::new(dir.path()), all, move |namespace, state| {
            let send = send.clone();
            async move { send.send((namespace, state)).await.is_ok() }
        }));
        let state = |backend| IndexState {
            configured: true,
            backend,
        };
        let down = BackendHealth::Unhealthy(format!("{address}: connection refused"));
        assert_eq!(next(&mut told, "ns1").await, state(down));
        assert_eq!(next(&mut told, "ns2").await, IndexState::unseen(false));
        let _listener = std::net::TcpListener::bind(address).unwrap();
        assert_eq!(next(&mut told, "ns1").await, state(BackendHealth::Healthy));
        write(false);
        let mut changed = state(BackendHealth::Healthy);
        changed.configured = false;
        assert_eq!(next(&mut told, "ns1").await, changed);
        task.abort();
    }
}
