//! A third party's index-check strategy: it refuses a pair whose standby has an index backend that does not answer, where the default warns.
//!
//! With the setting `mode` it misbehaves instead, so that one component serves every test of the limits: `silent` (no verdict), `both` (two
//! verdicts), `crowd` (too many warnings), `trap`, `yes` (accepts whatever it is shown).

use cvp_sdk::index_check::{Action, Event, IndexCheck, KIND, Side, UNHEALTHY, View, WARNINGS_MAX};
use cvp_sdk::settings::Settings;
use cvp_sdk::{Descriptor, Fault, Problem, Role};

const MODES: [&str; 6] = ["strict", "silent", "both", "crowd", "trap", "yes"];

/// Refuses an unhealthy standby, or misbehaves as its settings say.
pub struct Strict {
    mode: String,
}

fn read(settings: &str) -> Result<String, Vec<Problem>> {
    let mut it = Settings::parse(settings);
    let mode = it.text("mode", "strict");
    if !MODES.contains(&mode.as_str()) {
        it.problem("mode", format!("must be one of {}", MODES.join(", ")));
    }
    it.finish().map(|()| mode)
}

fn standby(view: &View) -> &Side {
    match view.role {
        Role::Provider => &view.peer,
        Role::Receiver => &view.local,
    }
}

impl IndexCheck for Strict {
    fn describe() -> Descriptor {
        Descriptor {
            id: "strict".into(),
            kind: KIND.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            settings_schema: r#"{"type":"object","properties":{"mode":{"type":"string","default":"strict"}}}"#.into(),
            extra: Vec::new(),
        }
    }

    fn check_settings(settings: &str) -> Result<(), Vec<Problem>> {
        read(settings).map(|_| ())
    }

    fn open(_role: Role, _namespace: &str, settings: &str) -> Result<Self, Fault> {
        let mode = read(settings).map_err(|p| Fault::new("bad-settings", format!("{p:?}")))?;
        Ok(Self { mode })
    }

    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
        let view = events.iter().rev().find_map(|event| match event {
            Event::Opened { view, .. } | Event::State(view) => Some(view),
            _ => None,
        });
        let Some(view) = view else { return Ok(Vec::new()) };
        Ok(match self.mode.as_str() {
            "silent" => Vec::new(),
            "both" => vec![Action::Accept, Action::Refuse("and no".into())],
            "crowd" => {
                let warnings = vec![Action::Warn("crowd".into()); WARNINGS_MAX + 1];
                std::iter::once(Action::Accept).chain(warnings).collect()
            }
            "trap" => panic!("the example strategy was told to trap"),
            "yes" => vec![Action::Accept],
            _ if standby(view).backend == UNHEALTHY => {
                let problem = &standby(view).problem;
                vec![Action::Refuse(format!(
                    "the standby's index backend does not answer ({problem})"
                ))]
            }
            _ => vec![Action::Accept],
        })
    }
}

cvp_sdk::export_index_check!(Strict);
