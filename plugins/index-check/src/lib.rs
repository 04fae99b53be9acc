//! The default index-check strategy: two nodes with one switch are a pair; a backend that does not answer, and a switch that changes with the
//! next start, are warnings. Both ends see both, so both say the same.
//!
//! Keeps nothing: every view holds all that it needs.

use cvp_sdk::index_check::{Action, Event, IndexCheck, KIND, Side, UNHEALTHY, View};
use cvp_sdk::settings::Settings;
use cvp_sdk::{Descriptor, Fault, Problem, Role};

/// JSON Schema of its settings: there are none.
const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"properties":{}}"#;

/// The switch, as a namespace's `ns_static.toml` has it.
const SWITCH: &str = "database.indexdb.layer1.enable";

/// The default strategy of kind index-check.
#[derive(Debug)]
pub struct Default;

impl IndexCheck for Default {
    fn describe() -> Descriptor {
        Descriptor {
            id: "default".into(),
            kind: KIND.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            settings_schema: SCHEMA.into(),
            extra: Vec::new(),
        }
    }

    fn check_settings(settings: &str) -> Result<(), Vec<Problem>> {
        Settings::parse(settings).finish()
    }

    fn open(_role: Role, _namespace: &str, settings: &str) -> Result<Self, Fault> {
        Self::check_settings(settings).map_err(|problems| {
            let text: Vec<_> = problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect();
            Fault::new("bad-settings", text.join("; "))
        })?;
        Ok(Self)
    }

    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
        // One verdict a call: of the latest view.
        let view = events.iter().rev().find_map(|event| match event {
            Event::Opened { view, .. } | Event::State(view) => Some(view),
            _ => None,
        });
        Ok(view.map_or_else(Vec::new, verdict))
    }
}

/// Each end with its name, the provider first.
fn ends(view: &View) -> [(&'static str, &Side); 2] {
    match view.role {
        Role::Provider => [("provider", &view.local), ("receiver", &view.peer)],
        Role::Receiver => [("provider", &view.peer), ("receiver", &view.local)],
    }
}

fn verdict(view: &View) -> Vec<Action> {
    let ends = ends(view);
    let [(_, provider), (_, receiver)] = ends;
    if provider.enabled != receiver.enabled {
        let reason = format!(
            "{SWITCH} is {} on the provider and {} on the receiver",
            provider.enabled, receiver.enabled
        );
        return vec![Action::Refuse(reason)];
    }
    let unhealthy = ends.into_iter().filter(|(_, side)| side.backend == UNHEALTHY);
    let warnings = unhealthy.map(|(end, side)| {
        Action::Warn(format!(
            "the index backend of the {end} does not answer ({}): it is looked at again; what that end was to index meanwhile is to be indexed anew",
            side.problem
        ))
    });
    std::iter::once(Action::Accept)
        .chain(warnings)
        .chain(changing(provider, receiver))
        .collect()
}

/// The switch of an end is another one after its next start.
fn changing(provider: &Side, receiver: &Side) -> Option<Action> {
    let changes = |side: &Side| side.configured != side.enabled;
    let text = match (changes(provider), changes(receiver)) {
        (false, false) => return None,
        (true, true) => format!(
            "{SWITCH} is {} on both nodes after their next start: between the two starts they are no pair",
            provider.configured
        ),
        (at_provider, _) => {
            let (end, other, next) = if at_provider {
                ("provider", "receiver", provider.configured)
            } else {
                ("receiver", "provider", receiver.configured)
            };
            format!(
                "{SWITCH} is {next} on the {end} after its next start, and then the two are no pair: set it on the {other}, too, and start both anew"
            )
        }
    };
    Some(Action::Warn(text))
}

cvp_sdk::export_index_check!(Default);

#[cfg(test)]
mod tests {
    use cvp_sdk::index_check::HEALTHY;

    use super::*;

    fn view(role: Role, enabled: bool) -> View {
        View {
            local: Side::new(enabled),
            peer: Side::new(enabled),
            ..View::new(role, "global")
        }
    }

    fn unhealthy(problem: &str) -> Side {
        Side {
            backend: UNHEALTHY.into(),
            problem: problem.into(),
            ..Side::new(true)
        }
    }

    fn said(view: &View) -> Vec<Action> {
        let mut it = Default::open(view.role, "global", "{}").unwrap();
        let opened = Event::Opened {
            view: view.clone(),
            stored: Vec::new(),
        };
        let answer = it.handle(vec![opened]).unwrap();
        assert_eq!(it.handle(vec![Event::State(view.clone())]).unwrap(), answer);
        answer
    }

    #[test]
    fn one_switch_is_accepted_and_two_are_refused_with_both() {
        for role in [Role::Provider, Role::Receiver] {
            assert_eq!(said(&view(role, false)), [Action::Accept]);
            assert_eq!(said(&view(role, true)), [Action::Accept]);
        }
        let mut differ = view(Role::Receiver, true);
        differ.peer = Side::new(false);
        let reason = "database.indexdb.layer1.enable is false on the provider and true on the receiver";
        assert_eq!(said(&differ), [Action::Refuse(reason.into())]);
    }

    #[test]
    fn a_backend_that_does_not_answer_is_a_warning_that_both_ends_give_alike() {
        let mut here = view(Role::Receiver, true);
        here.local = unhealthy("10.0.0.1:27017: connection refused");
        here.peer.backend = HEALTHY.into();
        let mut there = view(Role::Provider, true);
        (there.local, there.peer) = (here.peer.clone(), here.local.clone());
        let answer = said(&here);
        assert_eq!(answer, said(&there));
        let [Action::Accept, Action::Warn(text)] = &answer[..] else {
            panic!("{answer:?}");
        };
        assert!(text.contains("backend of the receiver") && text.contains("10.0.0.1:27017: connection refused"));
        here.peer = unhealthy("elsewhere");
        assert_eq!(said(&here).len(), 3);
        here.local.backend = HEALTHY.into();
        here.peer.backend = "of-a-later-release".into();
        assert_eq!(said(&here), [Action::Accept]);
    }

    #[test]
    fn a_switch_that_waits_for_a_start_is_named_with_the_node() {
        let words = |provider: bool, receiver: bool| {
            let mut view = view(Role::Provider, false);
            (view.local.configured, view.peer.configured) = (provider, receiver);
            said(&view)
        };
        assert_eq!(words(false, false), [Action::Accept]);
        for (at, text) in [
            ((true, false), "true on the provider after its next start"),
            ((false, true), "true on the receiver after its next start"),
            ((true, true), "true on both nodes after their next start"),
        ] {
            let answer = words(at.0, at.1);
            assert!(
                matches!(&answer[..], [Action::Accept, Action::Warn(said)] if said.contains(text)),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn nothing_else_is_answered_and_there_are_no_settings() {
        let mut it = Default::open(Role::Provider, "global", "").unwrap();
        let events = vec![
            Event::Tick(1),
            Event::Message(vec![1]),
            Event::Fault(Fault::new("a", "b")),
            Event::Other("of-a-later-release".into(), Vec::new()),
        ];
        assert_eq!(it.handle(events).unwrap(), []);
        assert!(Default::check_settings(r#"{"colour":"red"}"#).is_err());
        assert!(Default::open(Role::Provider, "global", "nonsense").is_err());
    }
}
