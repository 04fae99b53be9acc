//! The message queues of the running namespaces: opened, kept and closed as the chains and the node's role change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cvp_core::config::{self, Broker, BrokerUrl, NodeConfig, PairRole};
use cvp_core::mq::{Left, Missing, QUEUE_CHANGE, QueueChange, QueueEdit};
use cvp_core::replication::{BrokerState, Outcome};
use cvp_core::types::{Height, Incarnation, Namespace, Refusal};

use super::node::Node;
use crate::config::Root;
use crate::ipc::{LeftView, MissingView, QueueList, QueueView, QueuesView, UnreadableView};
use crate::mq::{
    AtRest, BadCopies, Commit, Committing, Copies, Opened, QueueFileError, QueueRow, Queues, QueuesError, Rabbit,
    Reign, Surroundings,
};
use crate::namespace::Chain;
use crate::replication::{Wish, queue_files};

/// Cursors that move are told to the standby together.
const CURSORS_GATHER: Duration = Duration::from_millis(500);

/// What a standby says of the broker: the provider's configuration counts, before and after an upgrade.
const PROVIDERS: &str = "provider's";

/// Queues that wait for the standby gather for so long.
const AWAITED_GATHER: Duration = Duration::from_millis(5);

impl Node {
    /// Brings the queues in line with the chains that run and with the node's role. One namespace whose queues cannot be opened costs it
    /// its queues alone.
    pub(super) async fn refresh_queues(&self) {
        let (config, before) = (self.config(), self.queues.all());
        let mut opened = Opened::new();
        let mut fresh = Vec::new();
        for chain in self.chains.all() {
            let namespace = chain.namespace().clone();
            if config.role() != PairRole::Provider || broker_of(&config, &namespace).is_none() {
                continue;
            }
            match before.get(&namespace) {
                Some(Ok(queues)) if Arc::ptr_eq(queues.chain(), &chain) => {
                    opened.insert(namespace, Ok(Arc::clone(queues)));
                }
                _ => fresh.push(chain),
            }
        }
        let kept = |queues: &Arc<Queues>| {
            let now = opened.get(queues.namespace());
            now.is_some_and(|now| now.as_ref().is_ok_and(|now| Arc::ptr_eq(now, queues)))
        };
        let gone: Vec<Arc<Queues>> = before.values().flatten().filter(|it| !kept(it)).cloned().collect();
        for queues in gone {
            queues.close().await;
        }
        // Before the first one takes what is another one's.
        self.keep_names(&opened).await;
        for chain in fresh {
            let namespace = chain.namespace().clone();
            let queues = self.open_queues(&config, chain).await;
            if let Err(refusal) = &queues {
                tracing::error!(%namespace, "{refusal}");
            }
            opened.insert(namespace, queues);
        }
        self.keep_names(&opened).await;
        self.queues.replace(opened, config.role() == PairRole::Provider);
        self.queues_moved.notify_one();
        match config.role() {
            PairRole::Provider => self.queues.replace_copies(Copies::new(), BadCopies::new()),
            PairRole::Receiver => self.refresh_copies().await,
        }
    }

    async fn open_queues(&self, config: &NodeConfig, chain: Arc<Chain>) -> Result<Arc<Queues>, Refusal> {
        let namespace = chain.namespace().clone();
        let lineage = self.lineage(&namespace)?;
        let no_identity = || Refusal::new("no-identity", "this node has no identity yet", "start it again");
        let around = Surroundings {
            hostname: config.dynamic.hostname.clone(),
            broker: broker_of(config, &namespace).cloned().unwrap_or(Broker::Embedded),
            commit: self.queue_commit(),
            moved: Arc::clone(&self.queues_moved),
            incarnation: lineage.last().ok_or_else(no_identity)?.incarnation,
            lineage,
            names: self.queues.names(),
            standby: self.queues.watch_standby(),
            awaited: Arc::clone(&self.queues_awaited),
        };
        let (files, tasks) = (queue_files(&self.root, &namespace), self.tasks.clone());
        let opening = tokio::task::spawn_blocking(move || Queues::open(chain, files, around, &tasks));
        let internal =
            |error: tokio::task::JoinError| Refusal::new("internal", error.to_string(), "see the node's log");
        opening.await.map_err(internal)?
    }

    /// What namespaces that are not opened, do not run, or whose queues failed have at brokers stays theirs.
    async fn keep_names(&self, opened: &Opened) {
        let delivers: BTreeSet<Namespace> = opened.values().flatten().map(|it| it.namespace().clone()).collect();
        let (root, running, own) = (self.root.clone(), delivers.clone(), self.own_incarnation());
        let read = tokio::task::spawn_blocking(move || resting(&root, own, |name| running.contains(name)));
        match read.await {
            Ok(resting) => self.queues.names().rest(|name| delivers.contains(name), &resting),
            Err(error) => tracing::error!(%error, "the names of queues at brokers"),
        }
    }

    /// Under which incarnations the node's queues were told so far, oldest first, and where each began in a namespace.
    fn lineage(&self, namespace: &Namespace) -> Result<Vec<Reign>, Refusal> {
        let identity = self.files.identity().map_err(|error| error.refusal())?;
        let lineage = identity.map(|identity| identity.lineage).unwrap_or_default();
        let reign = |reign: &cvp_core::session::Reign| {
            let start = reign.starts.iter().find(|start| start.namespace == *namespace);
            Reign {
                incarnation: reign.incarnation,
                first: start.map(|start| start.first),
            }
        };
        Ok(lineage.reigns().iter().map(reign).collect())
    }

    /// Under which incarnation the node speaks; none where that cannot be read.
    pub(super) fn own_incarnation(&self) -> Option<Incarnation> {
        let identity = self.files.identity().ok().flatten()?;
        identity.lineage.reigns().last().map(|reign| reign.incarnation)
    }

    /// Makes changes of registries as strong changes.
    fn queue_commit(&self) -> Commit {
        let replication = self.replication();
        Arc::new(
            move |change: QueueChange, edit: Option<QueueEdit>, note: String| -> Committing {
                let replication = replication.clone();
                Box::pin(async move {
                    let wish = Wish {
                        kind: QUEUE_CHANGE,
                        body: change.encode().into(),
                        note,
                        must_replicate: false,
                        queue: edit.map(|edit| (change.namespace.clone(), edit)),
                    };
                    let outcome = match replication {
                        Some(replication) => replication.propose(wish).await,
                        None => None,
                    };
                    match outcome {
                        Some(Outcome::Replicated | Outcome::Local) => Ok(()),
                        Some(Outcome::Failed(refusal)) => Err(QueuesError::NotMade(refusal)),
                        Some(Outcome::Undecided(refusal)) => Err(QueuesError::Undecided(refusal)),
                        None => Err(QueuesError::Undecided(Refusal::new(
                            "strong-undecided",
                            "the node stopped before the change had ended",
                            "start it, and look with `cvp mq list`",
                        ))),
                    }
                })
            },
        )
    }

    /// A receiver shows what it holds of its provider's queues.
    async fn refresh_copies(&self) {
        let (root, chains) = (self.root.clone(), self.chains.clone());
        let read = tokio::task::spawn_blocking(move || {
            let (mut copies, mut bad) = (Copies::new(), BadCopies::new());
            for namespace in chains.names() {
                match queue_files(&root, &namespace).read() {
                    Ok((Some(registry), cursors)) => {
                        copies.insert(namespace, (registry, cursors));
                    }
                    Ok((None, _)) => {}
                    Err(error) => {
                        tracing::error!(%namespace, "the copy of the queues cannot be read: {error}");
                        bad.insert(namespace.clone(), unreadable_copy(&namespace, &error));
                    }
                }
            }
            (copies, bad)
        });
        if let Ok((copies, bad)) = read.await {
            self.queues.replace_copies(copies, bad);
        }
    }

    /// Tells the pair of cursors that moved and of brokers that come and go, a while after the first of them.
    pub(super) async fn follow_cursors(self: Arc<Self>) {
        tokio::join!(self.tell_moved(), self.tell_awaited());
    }

    /// At once, where a queue waits for the standby.
    async fn tell_awaited(&self) {
        loop {
            self.queues_awaited.notified().await;
            if let Some(replication) = self.replication() {
                replication.queues_awaited().await;
            }
            tokio::time::sleep(AWAITED_GATHER).await;
        }
    }

    async fn tell_moved(&self) {
        loop {
            self.queues_moved.notified().await;
            if let Some(replication) = self.replication() {
                replication.set_brokers(self.brokers()).await;
                replication.queues_moved().await;
            }
            tokio::time::sleep(CURSORS_GATHER).await;
        }
    }

    /// How the broker of each namespace with queues is reached.
    fn brokers(&self) -> Vec<(Namespace, BrokerState)> {
        let state = |queues: &Queues| match queues.rabbit().map(Rabbit::state) {
            None => BrokerState::Embedded,
            Some(broker) if broker.connected => BrokerState::Reachable,
            Some(_) => BrokerState::Unreachable,
        };
        let all = self.queues.all();
        let opened = all.values().flatten();
        opened
            .map(|queues| (queues.namespace().clone(), state(queues)))
            .collect()
    }

    /// The answer of `mq list`.
    pub(super) fn list_queues(&self) -> QueueList {
        let all = self.queues.all();
        let rows = all.values().flatten().flat_map(|queues| {
            let (namespace, next) = (queues.namespace().to_string(), next_height(queues));
            queues.rows().into_iter().map(move |row| view_of(&namespace, next, row))
        });
        let copies = self.queues.copies();
        let copied = copies.iter().flat_map(|(namespace, (registry, cursors))| {
            let next = self.chains.get(namespace.as_str()).map_or(0, |chain| next_of(&chain));
            registry.queues().values().map(move |queue| {
                let cursor = cursors.of(queue);
                let row = QueueRow {
                    queue: queue.clone(),
                    cursor,
                };
                view_of(namespace.as_str(), next, row)
            })
        });
        let (bad, queues) = (self.queues.bad_copies(), rows.chain(copied).collect());
        let unopened = all
            .iter()
            .filter_map(|(namespace, opened)| Some((namespace, opened.as_ref().err()?)));
        let unreadable = unopened.chain(bad.iter()).map(|(namespace, refusal)| UnreadableView {
            namespace: namespace.to_string(),
            message: refusal.text.clone(),
            help: refusal.hint.clone(),
        });
        QueueList {
            queues,
            unreadable: unreadable.collect(),
        }
    }

    /// The queues of each namespace together.
    pub(super) fn view_queues(&self) -> Vec<QueuesView> {
        let (config, all) = (self.config(), self.queues.all());
        let view = |(namespace, opened): (&Namespace, &Result<Arc<Queues>, Refusal>)| {
            let broker = broker_of(&config, namespace).map_or("embedded", Broker::as_str);
            let view = QueuesView {
                namespace: namespace.to_string(),
                broker: broker.to_owned(),
                ..QueuesView::default()
            };
            match opened {
                Ok(queues) => view_together(view, queues),
                Err(refusal) => QueuesView {
                    state: "failed".to_owned(),
                    problem: Some(refusal.to_string()),
                    ..view
                },
            }
        };
        let copies = self.queues.copies();
        let copied = copies.iter().map(|(namespace, (registry, cursors))| {
            let chain = self.chains.get(namespace.as_str());
            let (from, next) = chain.map_or((0, 0), |chain| (chain.ledger().history_from(), next_of(&chain)));
            let rows = registry.queues().values().map(|queue| QueueRow {
                queue: queue.clone(),
                cursor: cursors.of(queue),
            });
            QueuesView {
                namespace: namespace.to_string(),
                broker: PROVIDERS.to_owned(),
                state: "standby".to_owned(),
                behind: rows.map(|row| behind(&row, next)).max().unwrap_or_default(),
                exchanger: Some(registry.exchanger().to_owned()),
                queues: registry.queues().len(),
                missing: cursors.missing(registry, from).into_iter().map(missing_view).collect(),
                ..QueuesView::default()
            }
        });
        let bad = self.queues.bad_copies();
        let unreadable = bad.iter().map(|(namespace, refusal)| QueuesView {
            namespace: namespace.to_string(),
            broker: PROVIDERS.to_owned(),
            state: "failed".to_owned(),
            problem: Some(refusal.to_string()),
            ..QueuesView::default()
        });
        all.iter().map(view).chain(copied).chain(unreadable).collect()
    }

    /// Ends every stream and writes what moved: the node stops.
    pub(super) async fn close_queues(&self) {
        let before = self.queues.all();
        self.queues.replace(Opened::new(), false);
        for queues in before.values().flatten() {
            queues.close().await;
        }
    }
}

/// What every namespace of this root that has queues at a broker, but for those that deliver (`delivers`), has there by its files.
fn resting(root: &Root, own: Option<Incarnation>, delivers: impl Fn(&Namespace) -> bool) -> Vec<AtRest> {
    let entries = std::fs::read_dir(root.namespaces()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| Namespace::new(entry.file_name().to_str()?).ok());
    names
        .filter(|name| !delivers(name))
        .filter_map(|name| at_rest(root, &name, own))
        .collect()
}

/// What a namespace has at a broker by its files, on a node that speaks under `own`; none where it has no queues.
pub(super) fn at_rest(root: &Root, name: &Namespace, own: Option<Incarnation>) -> Option<AtRest> {
    let files = queue_files(root, name);
    if !files.are_there() {
        return None;
    }
    let path = root.configuration().join(name.as_str()).join("ns_static.toml");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let value = |key: &str| {
        let found = config::get(&text, key).ok().flatten()?;
        Some(found.trim_matches(['"', '\'']).to_owned())
    };
    let rabbit = value("mq.broker.type").is_some_and(|it| it.eq_ignore_ascii_case("rabbit"));
    let url = value("mq.rabbit.url").filter(|_| rabbit);
    let (names, unstruck) = files.names(own).ok().unzip();
    Some(AtRest {
        namespace: name.clone(),
        broker: url.map(BrokerUrl::new),
        names,
        unstruck: unstruck.unwrap_or_default(),
    })
}

fn broker_of<'a>(config: &'a NodeConfig, namespace: &Namespace) -> Option<&'a Broker> {
    let ns = config.namespaces.get(namespace)?;
    Some(&ns.fixed.queues.as_ref()?.broker)
}

/// The rest of a view: what the queues themselves say.
fn view_together(view: QueuesView, queues: &Queues) -> QueuesView {
    let (rows, next) = (queues.rows(), next_height(queues));
    let (mut state, mut problem) = ("serving", None);
    let mut left_now = false;
    if let Some(broker) = queues.rabbit().map(Rabbit::state) {
        left_now = !broker.left.is_empty();
        state = match (broker.connected, &broker.blocked) {
            (false, _) => "unreachable",
            (true, Some(_)) => "blocked",
            (true, None) => "connected",
        };
        let problems = [broker.problem.clone(), broker.block(), broker.refusals()];
        problem = problems.into_iter().flatten().next();
    }
    if let Some(failure) = queues.failure() {
        (state, problem) = ("failed", Some(failure));
    }
    QueuesView {
        state: state.to_owned(),
        exchanger: Some(queues.registry().exchanger().to_owned()),
        queues: rows.len(),
        behind: rows.iter().map(|row| behind(row, next)).max().unwrap_or_default(),
        problem,
        missing: queues.missing().into_iter().map(missing_view).collect(),
        left: queues.left().into_iter().map(left_view).collect(),
        left_now,
        ..view
    }
}

fn unreadable_copy(namespace: &Namespace, error: &QueueFileError) -> Refusal {
    Refusal::new(
        "queues-failed",
        format!("the copy of the message queues of {namespace} cannot be read: {error}"),
        "let this node attach to its provider once: it writes the copy anew; an upgrade before that goes on without these queues",
    )
}

fn missing_view(missing: Missing) -> MissingView {
    MissingView {
        queue: missing.queue,
        from: missing.first,
        to: missing.last,
    }
}

fn left_view(left: Left) -> LeftView {
    LeftView {
        queue: left.queue.map(|(_, name)| name),
        exchanger: left.exchanger,
        place: left.place.to_string(),
    }
}

/// Height of the block to come.
fn next_height(queues: &Queues) -> Height {
    next_of(queues.chain())
}

fn next_of(chain: &Chain) -> Height {
    chain.tips().applied.height.saturating_add(1)
}

/// Blocks that a queue is still to be told.
fn behind(row: &QueueRow, next: Height) -> u64 {
    let end = row
        .queue
        .registration
        .to_block
        .map_or(next, |last| next.min(last.saturating_add(1)));
    end.saturating_sub(row.cursor.next)
}

fn view_of(namespace: &str, next: Height, row: QueueRow) -> QueueView {
    let wanted = &row.queue.registration;
    QueueView {
        namespace: namespace.to_owned(),
        queue: wanted.queue.clone(),
        keys: wanted.keys.iter().map(|key| key.as_str().to_owned()).collect(),
        from_block: row.queue.first,
        to_block: wanted.to_block,
        verbose: wanted.verbose,
        delay: wanted.delay,
        addresses: wanted.filter.addresses.len(),
        from: wanted.from.clone(),
        cursor: row.cursor.to_string(),
        behind: behind(&row, next),
        finished: row.queue.is_finished(row.cursor),
    }
}
