//! One follower, served: a task with a machine of its own, a thread that reads the ledgers for it, and the link that the pair's task handed
//! over. It reads the chains' watches and their logs, no more; whatever the follower does or leaves undone, this task alone waits for it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cvp_core::frame::Frame;
use cvp_core::replication::{Action, ConnId, Event, Pair, PairStatus, Passed, PeerTls, Setup};
use cvp_core::types::{Micros, Millis, Namespace, Refusal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::asks::hashes;
use super::driver::{Inbound, log};
use super::worker::{Job, Reader, Wanted};
use crate::link::Connection;
use crate::namespace::ChainSet;

/// How often the machine hears of time alone.
const TICK: Duration = Duration::from_millis(50);
/// Frames, tips and answers that may wait for the machine; beyond it the link is not read.
const INBOUND_MAX: usize = 64;
/// How old a status that is shown may be.
const STATUS_MS: Millis = 500;

/// Where the frames of an accepted link go once it was handed over.
pub(super) type Route = Arc<OnceLock<mpsc::Sender<Inbound>>>;

/// A status, the time it is of on its machine's clock, and when that was.
type Published = (PairStatus, Millis, Instant);

/// The followers of one driver.
#[derive(Default)]
pub(super) struct Served(HashMap<ConnId, Handle>);

struct Handle {
    status: watch::Receiver<Option<Published>>,
    /// Dropped: the link ends without a word.
    dismiss: oneshot::Sender<Refusal>,
}

/// What the pair's task hands over.
pub(super) struct Handed {
    pub(super) conn: ConnId,
    pub(super) peer: PeerTls,
    pub(super) hello: Frame,
    pub(super) setup: Setup,
    pub(super) connection: Connection,
    pub(super) route: Route,
}

impl Served {
    /// Serves a follower until its session ends; then `gone` is told.
    pub(super) fn begin(&mut self, handed: Handed, chains: ChainSet, gone: impl Future<Output = ()> + Send + 'static) {
        let conn = handed.conn;
        let (inbound, arrived) = mpsc::channel(INBOUND_MAX);
        let reader = match Reader::start(chains.clone(), inbound.clone()) {
            Ok(reader) => reader,
            Err(error) => {
                tracing::error!(%error, "no thread for a follower");
                handed.connection.close();
                tokio::spawn(gone);
                return;
            }
        };
        let _ = handed.route.set(inbound.clone());
        let (publish, status) = watch::channel(None);
        let (dismiss, dismissed) = oneshot::channel();
        let serving = Serving {
            conn,
            pair: Pair::new(handed.setup),
            connection: Some(handed.connection),
            chains,
            reader,
            begun: Instant::now(),
            inbound,
            publish,
            followed: Vec::new(),
        };
        let (peer, hello) = (handed.peer, handed.hello);
        tokio::spawn(async move {
            serving.drive(peer, hello, arrived, dismissed).await;
            gone.await;
        });
        self.0.insert(conn, Handle { status, dismiss });
    }

    /// Ends the session of one, which hears why.
    pub(super) fn dismiss(&mut self, conn: ConnId, refusal: Refusal) {
        if let Some(handle) = self.0.remove(&conn) {
            let _ = handle.dismiss.send(refusal);
        }
    }

    /// One has ended.
    pub(super) fn gone(&mut self, conn: ConnId) {
        self.0.remove(&conn);
    }

    /// Ends all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Each as it was shown last, with the time that it is of by now.
    pub(super) fn statuses(&self) -> Vec<(PairStatus, Millis)> {
        let shown = self.0.values().filter_map(|handle| handle.status.borrow().clone());
        let aged = shown.map(|(status, now, at)| (status, now + millis(at)));
        aged.filter(|(status, _)| status.peer.is_some()).collect()
    }
}

fn millis(since: Instant) -> Millis {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

struct Serving {
    conn: ConnId,
    pair: Pair,
    /// None: it was closed.
    connection: Option<Connection>,
    chains: ChainSet,
    reader: Reader,
    begun: Instant,
    inbound: mpsc::Sender<Inbound>,
    publish: watch::Sender<Option<Published>>,
    followed: Vec<JoinHandle<()>>,
}

impl Serving {
    fn micros(&self) -> Micros {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    async fn drive(
        mut self,
        peer: PeerTls,
        hello: Frame,
        mut arrived: mpsc::Receiver<Inbound>,
        mut dismissed: oneshot::Receiver<Refusal>,
    ) {
        let conn = self.conn;
        for chain in self.chains.all() {
            let tips = super::follow_tips(chain, 0, self.inbound.clone());
            self.followed.push(tokio::spawn(tips));
        }
        self.feed(Event::Accepted { conn, peer });
        self.feed(Event::Frame { conn, frame: hello });
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut shown, mut left) = (0, 0);
        while self.connection.is_some() {
            tokio::select! {
                Some(Inbound::Core(_, event)) = arrived.recv() => self.feed(event),
                refusal = &mut dismissed => {
                    self.end(refusal.ok());
                }
                _ = ticks.tick() => {
                    if let Some(now) = self.connection.as_ref().and_then(Connection::waits) {
                        self.feed(Event::Leaving(conn, std::mem::replace(&mut left, now) != now));
                    }
                    self.feed(Event::Tick);
                }
            }
            let now = self.micros() / 1000;
            if shown == 0 || now >= shown + STATUS_MS {
                shown = now.max(1);
                self.publish
                    .send_replace(Some((self.pair.status(now), now, Instant::now())));
            }
        }
    }

    /// Ends the link; with a refusal the follower hears it.
    fn end(&mut self, refusal: Option<Refusal>) {
        if let Some(connection) = self.connection.take() {
            if let Some(refusal) = refusal {
                let _ = connection.send(Pair::dismiss(&refusal));
            }
            connection.close();
        }
    }

    fn feed(&mut self, event: Event) {
        if matches!(event, Event::Closed { .. }) {
            self.connection = None;
            return;
        }
        let ready = self.pair.step(self.micros(), event);
        for action in ready.now {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { frame, .. } => {
                let sent = self.connection.as_ref().map(|connection| connection.send(frame));
                if let Some(Err(error)) = sent {
                    tracing::info!(code = %error.refusal().code, "a follower is left: {error}");
                    self.connection = None;
                }
            }
            Action::Close { refusal, .. } => {
                if let Some(refusal) = refusal {
                    tracing::info!(code = %refusal.code, "the session of a follower ends: {refusal}");
                }
                self.end(None);
            }
            Action::Read {
                conn,
                ns,
                stream,
                first,
                last,
                bytes_max,
            } => {
                let Some(link) = self.connection.as_ref().map(Connection::sender) else {
                    return;
                };
                let wanted = Wanted {
                    conn,
                    link,
                    stream,
                    first,
                    last,
                    bytes_max,
                };
                self.reader.queue(ns, Job::Read(wanted));
            }
            Action::Probe { ns, bytes } => self.reader.queue(ns, Job::Probe(bytes)),
            Action::LookUp { conn, wanted } => {
                let (chains, answers) = (self.chains.clone(), self.inbound.clone());
                tokio::task::spawn_blocking(move || {
                    let found = hashes(&chains, wanted);
                    let _ = answers.blocking_send(Inbound::Core(0, Event::Found { conn, found }));
                });
            }
            Action::Submit {
                number,
                ns,
                transaction,
            } => self.submit(number, &ns, transaction),
            Action::Log { level, ns, text } => log(level, ns.as_ref(), &text),
            // A machine of this kind asks for nothing else.
            _ => {}
        }
    }

    /// Into the pool, as if a client had sent it here.
    fn submit(&self, number: u64, ns: &Namespace, transaction: bytes::Bytes) {
        let (chain, answers) = (self.chains.get(ns.as_str()), self.inbound.clone());
        tokio::spawn(async move {
            let taken = match (chain, serde_json::from_slice::<serde_json::Value>(&transaction)) {
                (Some(chain), Ok(transaction)) => chain
                    .submit(&transaction)
                    .await
                    .map_err(|error| (error.code, error.message)),
                (None, _) => Err((-32010, "the namespace does not run".to_owned())),
                (_, Err(error)) => Err((-32602, format!("the transaction is no JSON: {error}"))),
            };
            let answer = match taken {
                Ok(hash) => Passed::Taken(hash),
                Err((code, message)) => Passed::Refused { code, message },
            };
            let _ = answers
                .send(Inbound::Core(0, Event::Submitted { number, answer }))
                .await;
        });
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.followed.drain(..).for_each(|task| task.abort());
    }
}
