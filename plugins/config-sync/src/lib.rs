//! The default config-sync strategy: the receiver's copy becomes what the provider has; a table says which changes are strong.
//!
//! Receiver: deletes what the provider has not, requests what differs, small things first, and names the keys that stay its own. Provider:
//! weighs each edit by patterns. Keeps nothing that the next view would not tell it again.

mod pattern;
mod receiver;
mod settings;

use cvp_sdk::config_sync::{Action, ConfigSync, Edit, Event, KIND};
use cvp_sdk::{Descriptor, Fault, Problem, Role};

use receiver::Receiver;
pub use settings::Options;

/// The default strategy of kind config-sync.
#[derive(Debug)]
pub struct Default {
    options: Options,
    side: Side,
}

#[derive(Debug)]
enum Side {
    Provider,
    Receiver(Box<Receiver>),
}

impl ConfigSync for Default {
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
            Role::Provider => Side::Provider,
            Role::Receiver => Side::Receiver(Box::default()),
        };
        Ok(Self { options, side })
    }

    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
        Ok(match &mut self.side {
            Side::Provider => events
                .iter()
                .filter_map(|event| weighed(&self.options, event))
                .collect(),
            Side::Receiver(receiver) => receiver.handle(&self.options, events),
        })
    }
}

fn weighed(options: &Options, event: &Event) -> Option<Action> {
    let Event::Edit(edit) = event else {
        return None;
    };
    Some(Action::Weigh {
        edit: edit.id,
        strong: is_strong(options, edit),
    })
}

/// The operator's patterns before the table's; where both sides of one name a change, strong wins among the operator's and weak in the table.
fn is_strong(options: &Options, edit: &Edit) -> bool {
    let touched = |it: &pattern::Pattern| it.touches(&edit.file, &edit.key);
    let covered = |it: &pattern::Pattern| it.covers(&edit.file, &edit.key);
    if options.strong.iter().any(touched) {
        return true;
    }
    if options.weak.iter().any(covered) || settings::weak_table().any(|it| covered(&it)) {
        return false;
    }
    settings::strong_table().any(|it| touched(&it))
}

cvp_sdk::export_config_sync!(Default);

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(settings: &str, file: &str, key: &str) -> bool {
        let mut it = Default::open(Role::Provider, "global", settings).unwrap();
        let edit = Edit {
            id: 7,
            file: file.into(),
            key: key.into(),
            old: None,
            new: Some([1; 32]),
        };
        match it.handle(vec![Event::Edit(edit)]).unwrap()[..] {
            [Action::Weigh { edit: 7, strong }] => strong,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_table_tells_strong_from_weak() {
        for (file, key) in [
            ("dynamic.toml", "namespace"),
            ("dynamic.toml", "namespace[0].start"),
            ("dynamic.toml", "self"),
            ("dynamic.toml", "cvp.strong_timeout"),
            ("dynamic.toml", "cvp.max_rate"),
            ("dynamic.toml", "cvp.retain_bytes"),
            ("dynamic.toml", "log.module.cvp"),
            ("ns1/ns_dynamic.toml", "consensus.algo"),
            ("system.toml", "p2p.enableTLS"),
            ("global/ns_dynamic.toml", "nodes"),
            ("global/ns_dynamic.toml", "self.type"),
            ("global/ns_dynamic.toml", "log.module.execmgr"),
            ("ns1/ns_static.toml", "strategy.chain-sync.id"),
            ("ns1/ns_static.toml", "strategy.config-sync.settings.strong"),
            ("ns1/ns_static.toml", "database.indexdb.layer1.enable"),
            ("ns1/ns_genesis.toml", "genesis.ca_mode"),
            // A file as a whole may hold any of them.
            ("dynamic.toml", ""),
            ("certificates/ns1/CA/root.ca", ""),
            ("configuration/dynamic.toml", "cvp.max_rate"),
            ("configuration/ns1/ns_dynamic.toml", "self.hostname"),
            // A table holds what stands below it.
            ("dynamic.toml", "cvp"),
        ] {
            assert!(weight("{}", file, key), "{file}:{key}");
        }
        for (file, key) in [
            ("dynamic.toml", "cvp.heartbeat"),
            ("dynamic.toml", "cvp.heartbeat_misses"),
            ("dynamic.toml", "cvp.enable"),
            ("dynamic.toml", "cvp.remote"),
            ("dynamic.toml", "port.jsonrpc"),
            ("system.toml", "http.request.read_timeout"),
            ("ns1/ns_static.toml", "sync.backfill"),
            ("ns1/ns_static.toml", "ledger.keep_blocks"),
            ("notes.txt", ""),
            ("configuration/dynamic.toml", "cvp.enable"),
        ] {
            assert!(!weight("{}", file, key), "{file}:{key}");
        }
    }

    #[test]
    fn the_operators_patterns_come_before_the_table() {
        let weak = r#"{"weak":["dynamic.toml:cvp.max_rate","*:log.*"]}"#;
        assert!(!weight(weak, "dynamic.toml", "cvp.max_rate"));
        assert!(!weight(weak, "ns1/ns_dynamic.toml", "log.module.api"));
        assert!(weight(weak, "dynamic.toml", "cvp.retain_bytes"));
        // What is weak in a part does not make the whole weak.
        assert!(weight(weak, "dynamic.toml", "cvp"));
        assert!(weight(weak, "dynamic.toml", ""));
        assert!(!weight(r#"{"weak":["dynamic.toml"]}"#, "dynamic.toml", ""));
        let strong = r#"{"strong":["dynamic.toml:cvp.heartbeat","*.txt"],"weak":["*"]}"#;
        assert!(weight(strong, "dynamic.toml", "cvp.heartbeat"));
        assert!(weight(strong, "notes.txt", ""));
        assert!(!weight(strong, "dynamic.toml", "cvp.heartbeat_misses"));
    }

    #[test]
    fn a_provider_weighs_each_edit_and_says_nothing_else() {
        let mut it = Default::open(Role::Provider, "global", "").unwrap();
        let mut view = cvp_sdk::config_sync::View::new(Role::Provider, "global");
        view.peer = Some(Vec::new());
        let edit = |id| {
            Event::Edit(Edit {
                id,
                file: "dynamic.toml".into(),
                key: "cvp.max_rate".into(),
                old: None,
                new: None,
            })
        };
        let opened = Event::Opened {
            view,
            stored: Vec::new(),
        };
        let answer = it.handle(vec![opened, edit(1), Event::Tick(5), edit(2)]).unwrap();
        let weigh = |edit| Action::Weigh { edit, strong: true };
        assert_eq!(answer, [weigh(1), weigh(2)]);
    }
}
