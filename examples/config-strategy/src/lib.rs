//! A third party's config-sync strategy: it copies TOML files alone, deletes nothing, and holds every change strong.
//!
//! With the setting `mode` it misbehaves instead, so that one component serves every test of the limits: `loop`, `trap`, `unweighed` (does
//! not answer an edit), `nonsense` (asks for a file that is not there), `crowd` (too many paths in one action), `far` (a path too long),
//! `many` (too many actions).

use cvp_sdk::config_sync::{Action, ConfigSync, Event, KIND, PATH_BYTES_MAX, PATHS_MAX, View};
use cvp_sdk::settings::Settings;
use cvp_sdk::{ACTIONS_MAX, Descriptor, Fault, Problem, Role};

const MODES: [&str; 8] = [
    "careful",
    "loop",
    "trap",
    "unweighed",
    "nonsense",
    "crowd",
    "far",
    "many",
];

/// Copies TOML files, or misbehaves as its settings say.
pub struct Careful {
    mode: String,
    role: Role,
}

fn read(settings: &str) -> Result<String, Vec<Problem>> {
    let mut it = Settings::parse(settings);
    let mode = it.text("mode", "careful");
    if !MODES.contains(&mode.as_str()) {
        it.problem("mode", format!("must be one of {}", MODES.join(", ")));
    }
    it.finish().map(|()| mode)
}

fn forever() -> ! {
    let mut rounds = 0_u64;
    loop {
        rounds = std::hint::black_box(rounds.wrapping_add(1));
    }
}

/// The TOML files that differ and are not under way: all there is to know is in the view.
fn missing(view: &View) -> Option<Action> {
    let paths: Vec<String> = view
        .peer
        .iter()
        .flatten()
        .filter(|file| file.path.ends_with(".toml") && !view.local.contains(file))
        .filter(|file| !view.requested.contains(&file.path))
        .map(|file| file.path.clone())
        .take(PATHS_MAX)
        .collect();
    (!paths.is_empty()).then_some(Action::Request(paths))
}

impl ConfigSync for Careful {
    fn describe() -> Descriptor {
        Descriptor {
            id: "careful".into(),
            kind: KIND.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            settings_schema: r#"{"type":"object","properties":{"mode":{"type":"string","default":"careful"}}}"#.into(),
            extra: Vec::new(),
        }
    }

    fn check_settings(settings: &str) -> Result<(), Vec<Problem>> {
        read(settings).map(|_| ())
    }

    fn open(role: Role, _namespace: &str, settings: &str) -> Result<Self, Fault> {
        let mode = read(settings).map_err(|p| Fault::new("bad-settings", format!("{p:?}")))?;
        Ok(Self { mode, role })
    }

    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
        match self.mode.as_str() {
            "loop" => forever(),
            "trap" => panic!("the example strategy was told to trap"),
            "unweighed" => return Ok(Vec::new()),
            "nonsense" => return Ok(vec![Action::Request(vec!["../key.priv".into()])]),
            "crowd" => return Ok(vec![Action::Request(vec!["a".into(); PATHS_MAX + 1])]),
            "far" => return Ok(vec![Action::Delete(vec!["a".repeat(PATH_BYTES_MAX + 1)])]),
            "many" => return Ok(vec![Action::Refuse(String::new()); ACTIONS_MAX + 1]),
            _ => {}
        }
        let answer = |event| match event {
            Event::Edit(edit) => Some(Action::Weigh {
                edit: edit.id,
                strong: true,
            }),
            Event::Opened { view, .. } | Event::Inventories(view) if self.role == Role::Receiver => missing(&view),
            _ => None,
        };
        Ok(events.into_iter().filter_map(answer).collect())
    }
}

cvp_sdk::export_config_sync!(Careful);
