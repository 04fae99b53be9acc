//! The actor behind a handle: one loop that takes a command, decides which component may run, and calls it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use cvp_core::config::StrategyChoice;
use cvp_core::replication::StrategyRun;
use cvp_core::session::StrategyId;
use cvp_core::strategy::Strategy as _;
use cvp_core::strategy::judge::{Judge, Standing};
use cvp_core::strategy::trace::{Call, Opening};
use cvp_core::types::strategy::{Fault, Role};
use cvp_core::types::{Millis, Namespace};
use cvp_strategy::{Component, Instance, Plugin, Stamp};

use super::kinds::Hosted;
use super::recording::{Recorder, Recording};
use super::{Counters, Strategies, StrategyState, id_of, settings_json};

/// How often files are looked at and restarts are tried while no call comes.
const TICK: Duration = Duration::from_secs(1);

/// A component that faults this soon after it replaced another is rolled back.
const EARLY_MS: Millis = 60_000;

pub enum Command<K: Hosted> {
    Handle {
        events: Vec<K::Event>,
        reply: oneshot::Sender<Result<Vec<K::Action>, Fault>>,
    },
    Refuse(Fault),
    UseDefault(bool),
    LeftFor(StrategyId),
    Reset,
}

/// The component the configuration names, when it could be loaded.
struct Loaded<K: Hosted> {
    component: Component<K>,
    since: Millis,
    /// What it replaced, until it has proved itself.
    previous: Option<Component<K>>,
}

struct Running<K: Hosted> {
    instance: Instance<K>,
    embedded: bool,
    trace: Option<Recording>,
}

pub struct Actor<K: Hosted> {
    shared: Strategies,
    namespace: Namespace,
    role: Role,
    choice: StrategyChoice,
    counters: Arc<Counters>,
    state: watch::Sender<StrategyState>,
    begun: Instant,
    judge: Judge,
    loaded: Option<Loaded<K>>,
    problem: String,
    stamp: Stamp,
    forced_default: bool,
    running: Option<Running<K>>,
    /// The embedded default faulted: no fresh instance of it before this time.
    default_not_before: Millis,
    view: Option<K::View>,
    stored: Vec<u8>,
    recorder: Option<Recorder>,
}

impl<K: Hosted> Actor<K> {
    pub fn new(
        shared: Strategies,
        namespace: &Namespace,
        role: Role,
        choice: &StrategyChoice,
        recorder: Option<Recorder>,
        counters: Arc<Counters>,
    ) -> (Self, watch::Receiver<StrategyState>) {
        let (state, watched) = watch::channel(StrategyState {
            running: shared.embedded::<K>(),
            offered: shared.embedded::<K>(),
            configured: choice.id.clone(),
            run: StrategyRun::Running,
            faults: 0,
            problem: String::new(),
        });
        let mut actor = Self {
            shared,
            namespace: namespace.clone(),
            role,
            choice: choice.clone(),
            counters,
            state,
            begun: Instant::now(),
            judge: Judge::new(),
            loaded: None,
            problem: String::new(),
            stamp: Stamp::default(),
            forced_default: false,
            running: None,
            default_not_before: 0,
            view: None,
            stored: Vec::new(),
            recorder,
        };
        actor.load();
        actor.publish();
        (actor, watched)
    }

    /// Until the last handle is gone.
    pub fn run(mut self, queue: &Receiver<Command<K>>) {
        let mut looked = Instant::now();
        loop {
            match queue.recv_timeout(TICK) {
                Ok(Command::Handle { events, reply }) => {
                    let answer = self.handle(events);
                    // A caller that went away does not need its answer.
                    let _ = reply.send(answer);
                }
                Ok(Command::Refuse(fault)) => self.on_refused(&fault),
                Ok(Command::UseDefault(embedded)) => {
                    self.forced_default = embedded;
                    self.publish();
                }
                Ok(Command::LeftFor(theirs)) => self.on_left_for(&theirs),
                Ok(Command::Reset) => {
                    self.judge.reset();
                    self.load();
                    self.publish();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                self.look();
            }
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn directory(&self) -> PathBuf {
        self.shared.plugins.join(&self.choice.id)
    }

    /// Restarts what is due and reloads what changed on disk.
    fn look(&mut self) {
        if self.judge.restart_due(self.now()) {
            self.publish();
        }
        if self.choice.id != "default" && Stamp::of(&self.directory()) != self.stamp {
            self.load();
            self.publish();
        }
    }

    /// Loads the configured component beside the one that runs; it takes over only when it opens and answers `opened` without a fault.
    fn load(&mut self) {
        if self.choice.id == "default" {
            self.check_default_settings();
            return;
        }
        self.stamp = Stamp::of(&self.directory());
        match self.try_load() {
            Ok(component) => {
                // After a reset it is the same file, and a quarantined one is none to go back to.
                let worthy = self.judge.standing() != Standing::Quarantined;
                let old = self.loaded.take().map(|old| old.component);
                let previous = old.filter(|old| worthy && old.sha256() != component.sha256());
                tracing::info!(namespace = %self.namespace, id = %self.choice.id,
                    version = %component.descriptor().version, "load strategy");
                self.loaded = Some(Loaded {
                    component,
                    since: self.now(),
                    previous,
                });
                self.problem.clear();
                self.judge.reset();
                self.running = None;
            }
            Err(fault) => {
                tracing::warn!(namespace = %self.namespace, id = %self.choice.id, %fault, "load strategy");
                self.problem = fault.to_string();
            }
        }
    }

    fn check_default_settings(&mut self) {
        let settings = settings_json(&self.choice.settings);
        let checked = settings.and_then(|settings| problems_of(K::default_of(&self.shared), &settings));
        self.problem = match checked {
            Ok(()) => String::new(),
            Err(fault) => {
                tracing::warn!(namespace = %self.namespace, %fault, "read the settings of the default strategy");
                fault.to_string()
            }
        };
    }

    fn try_load(&self) -> Result<Component<K>, Fault> {
        let failed = |e: cvp_strategy::LoadError| Fault::new(e.code(), e.to_string());
        let plugin = Plugin::open(&self.directory()).map_err(failed)?;
        let component = self.shared.runtime.load_plugin::<K>(&plugin).map_err(failed)?;
        let settings = settings_json(&self.choice.settings)?;
        problems_of(&component, &settings)?;
        if let Some(view) = &self.view {
            let mut shadow = component.open(self.role, self.namespace.as_str(), &settings)?;
            shadow.handle(vec![self.opened(view.clone())])?;
        }
        Ok(component)
    }

    fn opened(&self, view: K::View) -> K::Event {
        K::opened(view, self.stored.clone())
    }

    fn embedded_runs(&self) -> bool {
        self.forced_default || self.loaded.is_none() || self.judge.standing() != Standing::Running
    }

    fn handle(&mut self, events: Vec<K::Event>) -> Result<Vec<K::Action>, Fault> {
        if self.judge.restart_due(self.now()) {
            self.publish();
        }
        self.remember(&events);
        let embedded = self.embedded_runs();
        let answer = self.call(embedded, events);
        match &answer {
            Ok(actions) => {
                if let Some(bytes) = actions.iter().rev().find_map(K::stores) {
                    self.stored.clone_from(bytes);
                }
            }
            Err(fault) => self.on_fault(embedded, fault),
        }
        answer
    }

    fn remember(&mut self, events: &[K::Event]) {
        for event in events {
            K::remember(event, &mut self.view, &mut self.stored);
        }
    }

    fn call(&mut self, embedded: bool, mut events: Vec<K::Event>) -> Result<Vec<K::Action>, Fault> {
        let mut running = match self.running.take() {
            Some(running) if running.embedded == embedded => running,
            _ => {
                let fresh = self.open(embedded)?;
                // A fresh instance knows nothing: it is opened with the latest view, whatever it is told next.
                if !events.first().is_some_and(K::is_opened)
                    && let Some(view) = self.view.clone()
                {
                    events.insert(0, self.opened(view));
                }
                fresh
            }
        };
        let told = running.trace.is_some().then(|| events.clone());
        let begun = Instant::now();
        let answer = running.instance.handle(events);
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        self.counters.nanos.fetch_add(nanos, Ordering::Relaxed);
        if let Some(events) = told {
            self.record(&mut running, events, &answer);
        }
        if answer.is_ok() {
            self.running = Some(running);
        }
        answer
    }

    fn open(&self, embedded: bool) -> Result<Running<K>, Fault> {
        if embedded && self.now() < self.default_not_before {
            return Err(Fault::new(
                "restarting",
                "the embedded strategy starts again in a moment",
            ));
        }
        let component = match &self.loaded {
            Some(loaded) if !embedded => &loaded.component,
            _ => K::default_of(&self.shared),
        };
        // Settings of another strategy, or bad ones, mean nothing to the default.
        let own = !embedded || (self.choice.id == "default" && self.problem.is_empty());
        let settings = if own {
            settings_json(&self.choice.settings)?
        } else {
            "{}".to_owned()
        };
        let instance = component.open(self.role, self.namespace.as_str(), &settings)?;
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        let trace = self.open_trace(component, settings);
        Ok(Running {
            instance,
            embedded,
            trace,
        })
    }

    fn open_trace(&self, component: &Component<K>, settings: String) -> Option<Recording> {
        let recorder = self.recorder.as_ref()?;
        let opening = Opening {
            kind: component.descriptor().kind.clone(),
            role: self.role,
            namespace: self.namespace.to_string(),
            settings,
            id: component.descriptor().id.clone(),
            version: component.descriptor().version.clone(),
            sha256: component.sha256(),
        };
        recorder
            .open(&opening)
            .inspect_err(|error| tracing::warn!(namespace = %self.namespace, %error, "open a trace file"))
            .ok()
    }

    fn record(&self, running: &mut Running<K>, events: Vec<K::Event>, answer: &Result<Vec<K::Action>, Fault>) {
        let Some(trace) = &mut running.trace else { return };
        let call = Call::<K> {
            events,
            answer: answer.clone(),
        };
        match trace.add(&call) {
            Ok(true) => return,
            Ok(false) => {
                tracing::info!(namespace = %self.namespace, "end a strategy's trace: it has its share of strategy.trace")
            }
            Err(error) => tracing::warn!(namespace = %self.namespace, %error, "write a strategy's trace"),
        }
        running.trace = None;
    }

    /// The instance that answered last is the one that is kept; one that was replaced since is gone already.
    fn on_refused(&mut self, fault: &Fault) {
        if let Some(answered) = self.running.take() {
            self.on_fault(answered.embedded, fault);
        }
    }

    fn on_fault(&mut self, embedded: bool, fault: &Fault) {
        self.running = None;
        let now = self.now();
        if embedded {
            if fault.code != "restarting" {
                self.default_not_before = now + 1_000;
                tracing::warn!(namespace = %self.namespace, %fault, "run the embedded strategy");
            }
            return;
        }
        if !self.roll_back(&format!("the new file faulted and was rolled back: {fault}"), |_| true) {
            self.problem = fault.to_string();
            let standing = self.judge.on_fault(now).as_str();
            tracing::warn!(namespace = %self.namespace, id = %self.choice.id, %fault, standing, "run strategy");
        }
        self.publish();
    }

    /// Both ends change together: where a new file was rolled back, it is on both.
    fn on_left_for(&mut self, theirs: &StrategyId) {
        if self.roll_back(
            "the new file was rolled back, for it was on the other end",
            |previous| id_of(previous) == *theirs,
        ) {
            self.publish();
        }
    }

    /// Goes back to what the new file replaced, if that was a short while ago and is what is `wanted`.
    fn roll_back(&mut self, problem: &str, wanted: impl Fn(&Component<K>) -> bool) -> bool {
        let now = self.now();
        let Some(loaded) = self.loaded.as_mut().filter(|it| now < it.since + EARLY_MS) else {
            return false;
        };
        let Some(previous) = loaded.previous.take_if(|previous| wanted(previous)) else {
            return false;
        };
        tracing::warn!(namespace = %self.namespace, id = %self.choice.id, problem,
            version = %previous.descriptor().version, "roll back to the strategy before");
        loaded.component = previous;
        self.problem = problem.to_owned();
        self.running = None;
        true
    }

    fn publish(&self) {
        let component = match &self.loaded {
            Some(loaded) if !self.embedded_runs() => &loaded.component,
            _ => K::default_of(&self.shared),
        };
        let unloaded = self.choice.id != "default" && self.loaded.is_none();
        let next = StrategyState {
            running: id_of(component),
            offered: id_of(
                self.loaded
                    .as_ref()
                    .map_or(K::default_of(&self.shared), |loaded| &loaded.component),
            ),
            configured: self.choice.id.clone(),
            run: match self.judge.standing() {
                _ if unloaded => StrategyRun::Quarantined,
                Standing::Running => StrategyRun::Running,
                Standing::Restarting { .. } => StrategyRun::Restarting,
                Standing::Quarantined => StrategyRun::Quarantined,
            },
            faults: self.judge.faults(),
            problem: self.problem.clone(),
        };
        self.state.send_if_modified(|state| {
            let changed = *state != next;
            *state = next;
            changed
        });
    }
}

fn problems_of<K: Hosted>(component: &Component<K>, settings: &str) -> Result<(), Fault> {
    let problems = component
        .check_settings(settings)
        .map_err(|e| Fault::new(e.code(), e.to_string()))?;
    if problems.is_empty() {
        return Ok(());
    }
    let text: Vec<_> = problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect();
    Err(Fault::new("bad-settings", text.join("; ")))
}
