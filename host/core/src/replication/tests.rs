//! Two machines back to back: their frames cross at once, their stores hold numbers, and the tests answer for the strategies.

mod align;
mod archive;
mod bootstrap;
mod calls;
mod followers;
mod index;
mod place;
mod queues;
mod rates;
mod report;
mod room;
mod shown;
mod strategies;
mod tree;

use std::collections::VecDeque;

use bytes::Bytes;

use super::*;
use crate::session::{Identity, Lineage, NodeKey, SessionKind, StrategyId};
use crate::types::strategy::chain_sync::{Action as Advice, Event as Told, Fetch, KIND};
use crate::types::strategy::{Fault, Role};
use crate::types::{Digest, Height, Hostname, Incarnation, Millis, Namespace, NodeId, NodeRole, Position, Refusal};

const CONN: ConnId = 1;

type Answer = Result<Vec<Advice>, Fault>;

fn namespace() -> Namespace {
    Namespace::new("global").unwrap()
}

fn at(height: Height) -> Position {
    Position {
        height,
        hash: Digest::of(&height.to_le_bytes()),
    }
}

fn strategy(version: &str) -> StrategyId {
    StrategyId {
        kind: KIND.into(),
        id: "mine".into(),
        version: version.into(),
        sha256: [0; 32],
    }
}

fn setup(role: Role) -> Setup {
    let provider = role == Role::Provider;
    let first = Incarnation { number: 1, id: [1; 16] };
    Setup {
        role,
        kind: SessionKind::Standby,
        hostname: Hostname::new(if provider { "node1" } else { "cvp" }).unwrap(),
        identity: Identity {
            node_id: NodeId([1 + u8::from(provider); 16]),
            lineage: if provider {
                Lineage::begin(first)
            } else {
                Lineage::default()
            },
        },
        binding: None,
        fenced: None,
        last_receiver: None,
        last_held: None,
        program: "test".into(),
        enabled: true,
        tls: true,
        node_key: NodeKey::default(),
        listen: ":1".into(),
        self_section: Vec::new(),
        namespaces: vec![NamespaceSetup {
            namespace: namespace(),
            role: if provider { NodeRole::Vp } else { NodeRole::Cvp },
            genesis: at(0).hash,
            durable: at(0),
            applied: 0,
            history_from: 0,
            keep_blocks: 0,
            backfill: true,
            staged: None,
            chain_sync: StrategySetup {
                id: strategy("1"),
                stored: Vec::new(),
            },
            config_sync: StrategySetup {
                id: tree::strategy(),
                stored: Vec::new(),
            },
            index_check: StrategySetup {
                id: index::strategy(),
                stored: Vec::new(),
            },
            mq_sync: StrategySetup {
                id: queues::strategy(),
                stored: Vec::new(),
            },
            index_enabled: false,
            kept_local: Vec::new(),
        }],
        ask: Vec::new(),
        notify: Vec::new(),
        copy: Inventory::default(),
        changes: ChangesSetup::default(),
        limits: Limits::default(),
        seed: 1,
    }
}

/// Both ends. The receiver's strategy is the closure; the provider's says nothing.
struct Ends<S> {
    pairs: [Pair; 2],
    now: Millis,
    queue: VecDeque<(usize, Event)>,
    tip: Height,
    appended: Height,
    /// Records of each run that the receiver took.
    runs: Vec<u64>,
    strategy: S,
    /// Why the store of each end does no work now.
    failing: [Option<Refusal>; 2],
    /// The provider's host says only in the next tick that a run was read and queued.
    late_words: Option<Vec<Event>>,
    /// What the receiver's strategy was told, a list a call.
    told: Vec<Vec<Told>>,
    faults: Vec<Fault>,
    /// What each end's host was told last of the embedded default.
    defaulted: [bool; 2],
    /// The provider's tree and its copy.
    trees: [MemoryTree; 2],
    /// What whoever asked was told of the weight of edits.
    weighed: Vec<(Ticket, bool)>,
    /// The config-sync strategies say nothing.
    silent_files: bool,
    /// What clients were answered of their changes.
    answers: Vec<(Ticket, Outcome)>,
    /// The index-check strategy of each end.
    index_says: [index::Says; 2],
    /// Whether links may be closed; each end's last reason.
    may_close: bool,
    closed: [Option<Refusal>; 2],
    /// What each end's host was told of the other end's change.
    left_for: [Option<StrategyId>; 2],
    /// What the receiver's host was asked to start and to stop.
    aligned: Vec<(Vec<Namespace>, Vec<Namespace>)>,
    /// What the provider's pool says to every transaction of a follower.
    pool: Option<Passed>,
    /// What the follower's clients were told.
    passed: Vec<(Token, Passed)>,
    /// What each end's disk holds of queues, how often the provider's was looked at, and what the receiver's was asked to keep.
    queues: [Option<(crate::mq::Registry, crate::mq::Cursors)>; 2],
    looks: usize,
    kept: Vec<QueueWork>,
    /// The mq-sync strategy of each end; whether the receiver's answers now, and what it said meanwhile.
    queue_says: [queues::Says; 2],
    queue_waits: Option<Vec<Event>>,
    /// A change of queues that the receiver holds staged.
    staged: Option<Change>,
    /// What the two stores hold as a whole.
    archives: archive::Archives,
}

const PROVIDER: usize = 0;
const RECEIVER: usize = 1;

impl<S: FnMut(&[Told]) -> Answer> Ends<S> {
    /// Both are at genesis, and have not met.
    fn apart(setups: [Setup; 2], strategy: S) -> Self {
        let history = setups.each_ref().map(|setup| setup.namespaces[0].history_from);
        Self {
            pairs: setups.map(Pair::new),
            now: 0,
            queue: VecDeque::new(),
            tip: 0,
            appended: 0,
            runs: Vec::new(),
            strategy,
            failing: [None, None],
            late_words: None,
            told: Vec::new(),
            faults: Vec::new(),
            defaulted: [false; 2],
            trees: [tree::provider_tree(), MemoryTree::default()],
            answers: Vec::new(),
            weighed: Vec::new(),
            silent_files: false,
            index_says: [index::accept; 2],
            may_close: false,
            closed: [None, None],
            left_for: [None, None],
            aligned: Vec::new(),
            pool: None,
            passed: Vec::new(),
            queues: [None, None],
            looks: 0,
            kept: Vec::new(),
            queue_says: [queues::follow; 2],
            queue_waits: None,
            staged: None,
            archives: archive::Archives::at(history),
        }
    }

    /// A session streams; both are at genesis.
    fn attached(strategy: S) -> Self {
        let mut ends = Self::apart([setup(Role::Provider), setup(Role::Receiver)], strategy);
        ends.run(0);
        assert!(ends.status(RECEIVER).peer.is_some(), "{:?}", ends.status(RECEIVER));
        ends
    }

    fn status(&self, end: usize) -> PairStatus {
        self.pairs[end].status(self.now)
    }

    fn strategy_status(&self) -> StrategyStatus {
        self.status(RECEIVER).namespaces[0].strategies[0].clone()
    }

    /// The provider's chain is `height` long from now on.
    fn grow(&mut self, height: Height) {
        self.tip = height;
        let event = Event::LocalTip {
            ns: namespace(),
            durable: at(height),
            applied: height,
        };
        self.queue.push_back((PROVIDER, event));
    }

    /// Time passes for both in ticks of 50 ms, and everything that follows from it.
    fn run(&mut self, millis: Millis) {
        let until = self.now + millis;
        loop {
            let words = self.late_words.as_mut().map_or_else(Vec::new, std::mem::take);
            self.queue.extend(words.into_iter().map(|word| (PROVIDER, word)));
            self.queue.extend([(PROVIDER, Event::Tick), (RECEIVER, Event::Tick)]);
            let mut steps = 0;
            while let Some((end, event)) = self.queue.pop_front() {
                steps += 1;
                assert!(steps < 1_000, "the machines spin at {} ms", self.now);
                let ready = self.pairs[end].step(self.now * 1000, event);
                self.pairs[end].invariants().unwrap();
                for action in ready.now {
                    self.act(end, action);
                }
            }
            if self.now >= until {
                return;
            }
            self.now += 50;
        }
    }

    fn act(&mut self, end: usize, action: Action) {
        let Some(action) = self.act_on_queues(end, action) else {
            return;
        };
        let other = 1 - end;
        let ns = namespace();
        let mut answer = |event| self.queue.push_back((end, event));
        match action {
            Action::Dial { purpose } => {
                let peer = PeerTls {
                    address: "10.0.0.1:1".into(),
                    tls: true,
                    dialled: Some("node1".into()),
                    names: vec!["node1".into(), "node2".into(), "cvp".into()],
                    ..PeerTls::default()
                };
                let accepted = PeerTls {
                    dialled: None,
                    ..peer.clone()
                };
                answer(Event::Dialed {
                    conn: CONN,
                    purpose,
                    peer,
                });
                let event = Event::Accepted {
                    conn: CONN,
                    peer: accepted,
                };
                self.queue.push_front((other, event));
            }
            Action::Send { conn, frame } => self.queue.push_back((other, Event::Frame { conn, frame })),
            Action::Close { refusal, .. } if self.may_close => {
                self.closed[end] = refusal.or(self.closed[end].take());
            }
            Action::Close { conn, refusal } => panic!("end {end} closed link {conn}: {refusal:?}"),
            Action::LookUp { conn, wanted } => {
                let found = wanted.into_iter().map(|(ns, height)| (ns, Some(at(height).hash)));
                answer(Event::Found {
                    conn,
                    found: found.collect(),
                });
            }
            Action::Persist { token, .. } => answer(Event::Persisted(token)),
            Action::Probe { bytes, .. } if self.failing[end].is_none() && self.archives.has_room(bytes) => {
                let appended = at(if end == PROVIDER { self.tip } else { self.appended });
                answer(Event::StoreRecovered { ns, appended });
            }
            Action::Read { .. } | Action::Ingest { .. } if self.failing[end].is_some() => {
                let refusal = self.failing[end].clone().unwrap();
                answer(Event::StoreFailed { ns, refusal });
            }
            Action::Read {
                conn,
                stream,
                first,
                last,
                ..
            } => {
                let run = Bytes::from(last.to_le_bytes().to_vec());
                let bytes = run.len() as u64;
                let last = at(last);
                let done = Event::ReadDone {
                    conn,
                    ns,
                    stream,
                    first,
                    last,
                    bytes,
                };
                match &mut self.late_words {
                    Some(words) => words.push(done),
                    None => answer(done),
                }
                let tag = crate::frame::NamespaceTag::of(&namespace());
                let frame = crate::frame::Frame::of(crate::frame::Kind::Records, tag, stream, run);
                self.queue.push_back((other, Event::Frame { conn, frame }));
            }
            Action::Archive { work, .. } => self.archive(end, work),
            Action::Ingest { bytes, .. } => {
                let last = u64::from_le_bytes(bytes.as_ref().try_into().unwrap());
                self.runs.push(last - self.appended);
                self.appended = last;
                answer(Event::Ingested {
                    ns,
                    tip: at(last),
                    bytes: 8,
                    micros: 1,
                });
            }
            Action::Sync { .. } => {
                let durable = at(self.appended);
                answer(Event::Synced {
                    ns,
                    durable,
                    applied: durable.height,
                    micros: 1,
                });
            }
            Action::Strategy { events, .. } if end == PROVIDER => {
                drop(events);
                answer(Event::Strategy {
                    ns,
                    result: Ok(Vec::new()),
                });
            }
            Action::Strategy { events, .. } => {
                let result = (self.strategy)(&events);
                self.queue.push_back((end, Event::Strategy { ns, result }));
                self.told.push(events);
            }
            Action::StrategyFault { fault, kind, .. } => {
                assert!(end == RECEIVER || kind != KIND);
                self.faults.push(fault);
            }
            Action::UseDefault { embedded, .. } => self.defaulted[end] = embedded,
            Action::Align { missing, extra } => self.aligned.push((missing, extra)),
            Action::Submit { number, .. } => {
                let answer = self.pool.clone();
                self.queue
                    .extend(answer.map(|answer| (end, Event::Submitted { number, answer })));
            }
            Action::PassedOn { ticket, answer } => self.passed.push((ticket, answer)),
            Action::StrategyLeft { theirs, .. } => self.left_for[end] = Some(theirs),
            Action::ConfigStrategy { ns, events } => {
                let result = Ok(if self.silent_files {
                    Vec::new()
                } else {
                    tree::mirror(&events)
                });
                self.queue.push_back((end, Event::ConfigStrategy { ns, result }));
            }
            Action::IndexStrategy { ns, events } => {
                let result = (self.index_says[end])(&events);
                self.queue.push_back((end, Event::IndexStrategy { ns, result }));
            }
            Action::Tree(work) => {
                let event = self.trees[end].work(work);
                self.queue.extend(event.map(|event| (end, Event::Tree(event))));
            }
            Action::Change(ChangeWork::Answer(ticket, outcome)) => self.answers.push((ticket, outcome)),
            Action::Change(ChangeWork::Weighed(ticket, strong)) => self.weighed.push((ticket, strong)),
            Action::Change(work) => {
                let event = self.trees[end].change(work);
                self.queue.extend(event.map(|event| (end, Event::Change(event))));
            }
            _ => {}
        }
    }
}

fn view_of(event: &Told) -> Option<&crate::types::strategy::chain_sync::View> {
    match event {
        Told::Opened { view, .. } | Told::Progress(view) | Told::Tick(view) | Told::Stall { view, .. } => Some(view),
        _ => None,
    }
}

/// The live tail from the view's height on, unless it is under way.
fn fetch_all(events: &[Told]) -> Answer {
    let fetch = |view: &crate::types::strategy::chain_sync::View| {
        Advice::Fetch(Fetch {
            first: view.local.height + 1,
            last: u64::MAX,
            bytes_in_flight: 1000,
        })
    };
    let views = events.iter().filter_map(view_of).filter(|view| view.fetch.is_none());
    Ok(views.map(fetch).take(1).collect())
}

fn is_opened(events: &[Told]) -> bool {
    matches!(events.first(), Some(Told::Opened { .. }))
}

/// The store of `end` fails with `code` while blocks flow; afterwards it works. Answers what the receiver holds of 9 blocks.
fn after_a_failure(end: usize, code: &'static str) -> Height {
    let mut ends = Ends::attached(fetch_all);
    ends.grow(3);
    ends.run(100);
    ends.failing[end] = Some(Refusal::new(code, "planted", ""));
    ends.grow(9);
    ends.run(4_000);
    let (status, shown) = (ends.status(end), |reason: &Refusal| reason.code.ends_with(code));
    assert!(status.reasons.iter().any(shown), "{status:?}");
    assert_eq!(ends.appended, 3);
    ends.failing[end] = None;
    ends.run(20_000);
    let status = ends.status(RECEIVER);
    assert_eq!(status.normal, status.namespaces[0].durable == 9, "{status:?}");
    status.namespaces[0].durable
}

#[test]
fn a_store_that_lacked_room_goes_on_and_one_whose_disk_failed_does_not() {
    for end in [PROVIDER, RECEIVER] {
        for code in ["disk-full", "worker-overrun", "history-missing"] {
            assert_eq!(after_a_failure(end, code), 9, "{code} at {end}");
        }
        for code in ["disk-failed", "ledger-damaged", "not-running"] {
            assert_eq!(after_a_failure(end, code), 3, "{code} at {end}");
        }
    }
}

#[test]
fn blocks_flow_and_the_time_to_their_ack_is_measured() {
    let mut ends = Ends::attached(fetch_all);
    assert_eq!(ends.status(PROVIDER).namespaces[0].ack_micros, None);
    ends.grow(9);
    ends.run(100);
    let status = ends.status(PROVIDER);
    assert_eq!(status.namespaces[0].durable, 9, "{status:?}");
    assert!(status.namespaces[0].ack_micros.is_some(), "{status:?}");
    assert_eq!(ends.status(RECEIVER).namespaces[0].ack_micros, None);
    assert_eq!(ends.faults, []);
}

#[test]
fn an_ack_or_a_fetch_that_overtakes_the_word_of_the_read_waits_for_it() {
    // One block a fetch, so that the next fetch too comes before the word.
    let mut ends = Ends::attached(|events: &[Told]| {
        Ok(fetch_all(events)?
            .into_iter()
            .map(|said| match said {
                Advice::Fetch(fetch) => Advice::Fetch(Fetch {
                    last: fetch.first,
                    ..fetch
                }),
                said => said,
            })
            .collect())
    });
    ends.late_words = Some(Vec::new());
    ends.grow(3);
    ends.run(2_000);
    assert_eq!(ends.status(RECEIVER).namespaces[0].durable, 3);
    assert_eq!(ends.status(PROVIDER).namespaces[0].durable, 3);
    assert_eq!(ends.faults, []);
}
