//! The default chain-sync strategy: fetch from the durable tip on, keep the disk of the receiver busy but never drowned.
//!
//! Receiver: one stream from the own durable height plus one into the live tail; a window sized by what the disk took lately; pause while
//! the disk hangs or the backlog grows; fetch again after a stall. Provider: throttle to the operator's limit. Keeps nothing that the next
//! view would not tell it again.

mod receiver;
mod settings;

use cvp_sdk::chain_sync::{Action, ChainSync, Event, KIND, View};
use cvp_sdk::{Descriptor, Fault, Problem, Role};

use receiver::Receiver;
pub use settings::Options;

/// The default strategy of kind chain-sync.
#[derive(Debug)]
pub struct Default {
    options: Options,
    side: Side,
}

#[derive(Debug)]
enum Side {
    Provider { throttle: Option<u64> },
    Receiver(Receiver),
}

impl ChainSync for Default {
    fn describe() -> Descriptor {
        Descriptor {
            id: "default".into(),
            kind: KIND.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            settings_schema: settings::SCHEMA.into(),
            extra: Vec::new(),
        }
    }

    fn check_settings(settings: &str) -> Result<(), Vec<Problem>> {
        Options::parse(settings).map(|_| ())
    }

    fn open(role: Role, _namespace: &str, settings: &str) -> Result<Self, Fault> {
        let options = Options::parse(settings).map_err(|problems| {
            let text: Vec<_> = problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect();
            Fault::new("bad-settings", text.join("; "))
        })?;
        let side = match role {
            Role::Provider => Side::Provider { throttle: None },
            Role::Receiver => Side::Receiver(Receiver::new(&options)),
        };
        Ok(Self { options, side })
    }

    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
        let mut actions = Vec::new();
        for event in events {
            match &mut self.side {
                Side::Provider { throttle } => match event {
                    Event::Opened { view, .. } => {
                        *throttle = None;
                        limit_rate(&self.options, throttle, &view, &mut actions);
                    }
                    Event::Progress(view) | Event::Stall { view, .. } | Event::Tick(view) => {
                        limit_rate(&self.options, throttle, &view, &mut actions);
                    }
                    Event::Message(_) | Event::Fault(_) | Event::Other(..) => {}
                },
                Side::Receiver(receiver) => receiver.on_event(&self.options, event, &mut actions),
            }
        }
        Ok(actions)
    }
}

/// The lower of the operator's limit and the setting, said once and again whenever it changes.
fn limit_rate(options: &Options, throttle: &mut Option<u64>, view: &View, actions: &mut Vec<Action>) {
    let rate = match (options.max_rate, view.max_rate) {
        (0, rate) | (rate, 0) => rate,
        (a, b) => a.min(b),
    };
    // Nothing said yet means no limit.
    if throttle.unwrap_or(0) != rate {
        actions.push(Action::Throttle(rate));
    }
    *throttle = Some(rate);
}

cvp_sdk::export_chain_sync!(Default);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_by_name() {
        assert_eq!(Default::check_settings("{}"), Ok(()));
        assert_eq!(Default::check_settings(r#"{"window_bytes_max": 4194304}"#), Ok(()));
        let problems = Default::check_settings(r#"{"window_bytes_max": 1, "colour": "red"}"#);
        let paths: Vec<_> = problems.unwrap_err().into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["window_bytes_max", "colour"]);
        let turned = r#"{"window_bytes_min": 8388608, "window_bytes_max": 4194304}"#;
        assert!(Default::check_settings(turned).is_err());
        assert!(Default::open(Role::Receiver, "global", turned).is_err());
    }

    #[test]
    fn the_provider_says_its_limit_when_it_changes() {
        let mut it = Default::open(Role::Provider, "global", r#"{"max_rate": 5000}"#).unwrap();
        let mut view = View::new(Role::Provider, "global");
        let opened = Event::Opened {
            view: view.clone(),
            stored: Vec::new(),
        };
        assert_eq!(it.handle(vec![opened]).unwrap(), [Action::Throttle(5000)]);
        assert_eq!(it.handle(vec![Event::Tick(view.clone())]).unwrap(), []);
        view.max_rate = 1000;
        assert_eq!(
            it.handle(vec![Event::Tick(view.clone())]).unwrap(),
            [Action::Throttle(1000)]
        );
        view.max_rate = 0;
        assert_eq!(it.handle(vec![Event::Tick(view)]).unwrap(), [Action::Throttle(5000)]);
    }

    #[test]
    fn a_provider_without_limit_says_nothing() {
        let mut it = Default::open(Role::Provider, "global", "").unwrap();
        let view = View::new(Role::Provider, "global");
        let events = vec![
            Event::Opened {
                view: view.clone(),
                stored: Vec::new(),
            },
            Event::Tick(view),
        ];
        assert_eq!(it.handle(events).unwrap(), []);
    }
}
