//! A third party's mq-sync strategy: it refuses queues by name, and holds what it lets in until the broker is reachable.
//!
//! Its settings: `refused`, names of queues. With the setting `mode` it misbehaves instead, so that one component serves every test of the
//! limits: `silent` (decides nothing), `both` (two decisions on one change), `deaf` (takes nothing of the provider's), `robber` (drops what the
//! provider has), `crowd` (too many warnings), `trap`.

use cvp_sdk::mq_sync::{Action, Change, Event, KIND, MqSync, UNREACHABLE, View, WARNINGS_MAX};
use cvp_sdk::settings::Settings;
use cvp_sdk::{Descriptor, Fault, Problem, Role};

const MODES: [&str; 7] = ["doorman", "silent", "both", "deaf", "robber", "crowd", "trap"];

/// Names that may be refused, at most.
const REFUSED_MAX: usize = 64;

/// Refuses by name, or misbehaves as its settings say.
pub struct Doorman {
    mode: String,
    refused: Vec<String>,
}

fn read(settings: &str) -> Result<Doorman, Vec<Problem>> {
    let mut it = Settings::parse(settings);
    let (mode, refused) = (it.text("mode", "doorman"), it.texts("refused", REFUSED_MAX));
    if !MODES.contains(&mode.as_str()) {
        it.problem("mode", format!("must be one of {}", MODES.join(", ")));
    }
    it.finish().map(|()| Doorman { mode, refused })
}

impl Doorman {
    fn decide(&self, change: &Change, comes: bool) -> Vec<Action> {
        let id = change.id;
        match self.mode.as_str() {
            "silent" => Vec::new(),
            "both" => vec![Action::Replicate(id), Action::Hold(id)],
            "trap" => panic!("the example strategy was told to trap"),
            _ if comes && self.refused.contains(&change.queue.name) => {
                let reason = format!("queue {} is on the doorman's list", change.queue.name);
                vec![Action::Refuse { change: id, reason }]
            }
            _ if comes && change.broker == UNREACHABLE => vec![Action::Hold(id)],
            _ => vec![Action::Replicate(id)],
        }
    }

    fn align(&self, view: &View) -> Vec<Action> {
        let names = |queues: Vec<&str>| queues.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let missing = names(view.missing().map(|queue| queue.name.as_str()).collect());
        let extra = match self.mode.as_str() {
            "robber" => names(
                view.peer
                    .iter()
                    .flat_map(|it| &it.queues)
                    .map(|it| it.name.as_str())
                    .collect(),
            ),
            _ => names(view.extra_queues().map(|queue| queue.name.as_str()).collect()),
        };
        let mut said = Vec::new();
        if !missing.is_empty() && self.mode != "deaf" {
            said.push(Action::Apply(missing));
        }
        if !extra.is_empty() {
            said.push(Action::Drop(extra));
        }
        said
    }
}

impl MqSync for Doorman {
    fn describe() -> Descriptor {
        Descriptor {
            id: "doorman".into(),
            kind: KIND.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            settings_schema: r#"{"type":"object","properties":{"mode":{"type":"string","default":"doorman"},"refused":{"type":"array","items":{"type":"string"},"maxItems":64}}}"#.into(),
            extra: Vec::new(),
        }
    }

    fn check_settings(settings: &str) -> Result<(), Vec<Problem>> {
        read(settings).map(|_| ())
    }

    fn open(_role: Role, _namespace: &str, settings: &str) -> Result<Self, Fault> {
        read(settings).map_err(|p| Fault::new("bad-settings", format!("{p:?}")))
    }

    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
        let view = events.iter().rev().find_map(|event| match event {
            Event::Opened { view, .. } | Event::Inventories(view) | Event::Broker(view) => Some(view),
            _ => None,
        });
        let mut said = Vec::new();
        if let Some(view) = view {
            if view.role == Role::Receiver {
                said.extend(self.align(view));
            }
            if self.mode == "crowd" {
                said.extend(vec![Action::Warn("crowd".into()); WARNINGS_MAX + 1]);
            }
        }
        for event in &events {
            match event {
                Event::Registered(change) => said.extend(self.decide(change, true)),
                Event::Unregistered(change) => said.extend(self.decide(change, false)),
                _ => {}
            }
        }
        Ok(said)
    }
}

cvp_sdk::export_mq_sync!(Doorman);
