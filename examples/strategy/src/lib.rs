//! A third party's chain-sync strategy that only says pause: proof that the host has no span logic of its own.
//!
//! With the setting `mode` it misbehaves instead, so that one component serves every test of the limits: `loop`, `trap`, `allocate`,
//! `silent` (neither fetches nor pauses), `nonsense` (a fetch that cannot be), `many` (too many actions), `large` (an oversize store),
//! `fault`, `open-loop` (already when it is opened).

use cvp_sdk::chain_sync::{Action, ChainSync, Event, Fetch, KIND};
use cvp_sdk::settings::Settings;
use cvp_sdk::{ACTIONS_MAX, Descriptor, Fault, Problem, Role, STORE_BYTES_MAX};

const MODES: [&str; 10] = [
    "pause",
    "silent",
    "loop",
    "trap",
    "allocate",
    "nonsense",
    "many",
    "large",
    "fault",
    "open-loop",
];

/// As the manifest beside the component must say it.
const VERSION: &str = if cfg!(any(feature = "second", feature = "broken")) {
    "0.2.0"
} else {
    env!("CARGO_PKG_VERSION")
};

/// Says pause, or misbehaves as its settings say.
pub struct Pauser {
    mode: String,
}

fn read(settings: &str) -> Result<String, Vec<Problem>> {
    let mut it = Settings::parse(settings);
    let mode = it.text("mode", "pause");
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

impl ChainSync for Pauser {
    fn describe() -> Descriptor {
        Descriptor {
            id: "pauser".into(),
            kind: KIND.into(),
            version: VERSION.into(),
            settings_schema: r#"{"type":"object","properties":{"mode":{"type":"string","default":"pause"}}}"#.into(),
            extra: Vec::new(),
        }
    }

    fn check_settings(settings: &str) -> Result<(), Vec<Problem>> {
        read(settings).map(|_| ())
    }

    fn open(_role: Role, _namespace: &str, settings: &str) -> Result<Self, Fault> {
        let mode = read(settings).map_err(|p| Fault::new("bad-settings", format!("{p:?}")))?;
        if mode == "open-loop" {
            forever();
        }
        Ok(Self { mode })
    }

    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
        let receives = events.iter().any(|event| match event {
            Event::Opened { view, .. } | Event::Progress(view) => view.role == Role::Receiver,
            _ => false,
        });
        assert!(
            !cfg!(feature = "broken") || !events.iter().any(|event| matches!(event, Event::Tick(_))),
            "broken on purpose"
        );
        match self.mode.as_str() {
            "loop" => forever(),
            "trap" => panic!("the example strategy was told to trap"),
            "allocate" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            "silent" => Ok(Vec::new()),
            "nonsense" => Ok(vec![Action::Fetch(Fetch {
                first: u64::MAX,
                last: 0,
                bytes_in_flight: u64::MAX,
            })]),
            "many" => Ok(vec![Action::Window(1); ACTIONS_MAX + 1]),
            "large" => Ok(vec![Action::Store(vec![0; STORE_BYTES_MAX + 1])]),
            "fault" => Err(Fault::new("told-so", "the settings say fault")),
            _ if receives => Ok(vec![Action::Pause("this strategy only pauses".into())]),
            _ => Ok(Vec::new()),
        }
    }
}

cvp_sdk::export_chain_sync!(Pauser);
