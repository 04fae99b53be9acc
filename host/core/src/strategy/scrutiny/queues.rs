//! The check of what an mq-sync strategy says. A call is taken whole or not at all.

use std::collections::BTreeSet;

use super::{gauge, shown, size, text};
use crate::types::strategy::mq_sync::{Action, QUEUES_MAX, View, WARNINGS_MAX};
use crate::types::strategy::{self, Fault, Role};

/// What holds when the answer of one call is checked.
#[derive(Clone, Copy, Debug)]
pub struct QueueGround<'a> {
    /// The end the strategy works for.
    pub role: Role,
    /// The view that the call told, or the last one told before it.
    pub view: Option<&'a View>,
    /// The call itself told it: then it asks for what is missing.
    pub told: bool,
    /// Ids of the changes that the call asked about.
    pub changes: &'a [u64],
}

impl QueueGround<'_> {
    /// Everything one call answered.
    ///
    /// # Errors
    /// The first action that cannot be, with what would be allowed; a change that was asked about and not decided; or a queue of the
    /// provider's that a receiver would be without.
    pub fn check(&self, actions: &[Action]) -> Result<(), Fault> {
        if actions.len() > strategy::ACTIONS_MAX {
            let text = format!("{} actions, at most {} a call", actions.len(), strategy::ACTIONS_MAX);
            return Err(Fault::new("too-many-actions", text));
        }
        let mut named = BTreeSet::new();
        for action in actions {
            self.check_one(action, &mut named)?;
        }
        let warnings = actions.iter().filter(|it| matches!(it, Action::Warn(_))).count();
        if warnings > WARNINGS_MAX {
            let text = format!("{warnings} warnings, at most {WARNINGS_MAX}");
            return Err(Fault::new("bad-count", text));
        }
        self.all_decided(actions)?;
        self.none_left_out(&named)
    }

    fn check_one<'a>(&self, action: &'a Action, named: &mut BTreeSet<&'a str>) -> Result<(), Fault> {
        match action {
            Action::Replicate(change) => self.decides("replicate", *change),
            Action::Hold(change) => self.decides("hold", *change),
            Action::Refuse { change, reason } => {
                self.decides("refuse", *change)?;
                text("refuse", reason)
            }
            Action::Apply(names) => self.names("apply", names, named),
            Action::Drop(names) => self.names("drop", names, named),
            Action::Warn(warning) => text("warn", warning),
            Action::Store(bytes) => size("store-too-long", bytes, strategy::STORE_BYTES_MAX),
            Action::Send(bytes) => size("message-too-long", bytes, strategy::SEND_BYTES_MAX),
            Action::Log(_, line) => text("log", line),
            Action::Metric(name, _) => gauge(name),
            Action::Other(..) => Ok(()),
        }
    }

    fn only(&self, wanted: Role, what: &str) -> Result<(), Fault> {
        if self.role == wanted {
            return Ok(());
        }
        Err(Fault::new("wrong-role", format!("{what} is the {}'s", wanted.as_str())))
    }

    fn decides(&self, what: &str, change: u64) -> Result<(), Fault> {
        self.only(Role::Provider, what)?;
        if self.changes.contains(&change) {
            return Ok(());
        }
        let text = format!("{what} of change {change}, which was not asked about");
        Err(Fault::new("unknown-change", text))
    }

    /// Each name once, and of a queue that can be applied (the provider has it) or dropped (this end has it, and the provider has not).
    fn names<'a>(&self, what: &str, names: &'a [String], named: &mut BTreeSet<&'a str>) -> Result<(), Fault> {
        self.only(Role::Receiver, what)?;
        if names.is_empty() || names.len() > QUEUES_MAX {
            let text = format!("{what} of {} queues; 1 to {QUEUES_MAX} allowed", names.len());
            return Err(Fault::new("bad-count", text));
        }
        let peer = self.view.and_then(|view| view.peer.as_ref());
        let local = self.view.and_then(|view| view.local.as_ref());
        for name in names {
            let (here, there) = (
                local.is_some_and(|it| it.get(name).is_some()),
                peer.map(|it| it.get(name).is_some()),
            );
            let known = match (what, there) {
                ("apply", Some(there)) => there,
                (_, Some(true)) => {
                    let text = format!("{what} names {:?}, which the provider has", shown(name));
                    return Err(Fault::new("queue-of-provider", text));
                }
                (_, Some(false)) => here,
                (_, None) => false,
            };
            if !known {
                let text = format!("{what} names {:?}, which the view does not show there", shown(name));
                return Err(Fault::new("unknown-queue", text));
            }
            if !named.insert(name) {
                return Err(Fault::new("named-twice", format!("{:?} is named twice", shown(name))));
            }
        }
        Ok(())
    }

    /// Each change of the call once: a client waits for the answer.
    fn all_decided(&self, actions: &[Action]) -> Result<(), Fault> {
        for asked in self.changes {
            let decides = |action: &&Action| match action {
                Action::Replicate(change) | Action::Hold(change) | Action::Refuse { change, .. } => change == asked,
                _ => false,
            };
            let answers = actions.iter().filter(decides).count();
            if answers != 1 {
                let text = format!("change {asked} was decided {answers} times, once is wanted");
                return Err(Fault::new("change-not-decided", text));
            }
        }
        Ok(())
    }

    /// The floor: what the provider has, the receiver has.
    fn none_left_out(&self, named: &BTreeSet<&str>) -> Result<(), Fault> {
        let Some(view) = self.view.filter(|_| self.told && self.role == Role::Receiver) else {
            return Ok(());
        };
        match view.missing().find(|queue| !named.contains(queue.name.as_str())) {
            None => Ok(()),
            Some(queue) => {
                let text = format!("the provider has queue {:?}, and it is not applied", shown(&queue.name));
                Err(Fault::new("queue-left-out", text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::strategy::Level;
    use crate::types::strategy::mq_sync::{Inventory, Queue};

    fn inventory(queues: &[(&str, u64)]) -> Option<Inventory> {
        Some(Inventory {
            queues: queues
                .iter()
                .map(|(name, number)| Queue::new(*name, *number, 1))
                .collect(),
            ..Inventory::default()
        })
    }

    /// The receiver holds `old` and `same`, the provider `new` and `same`.
    fn view() -> View {
        View {
            local: inventory(&[("old", 1), ("same", 2)]),
            peer: inventory(&[("new", 3), ("same", 2)]),
            ..View::new(Role::Receiver, "global")
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn apply(queues: &[&str]) -> Action {
        Action::Apply(names(queues))
    }

    fn drops(queues: &[&str]) -> Action {
        Action::Drop(names(queues))
    }

    fn refuse(change: u64) -> Action {
        Action::Refuse {
            change,
            reason: "no".into(),
        }
    }

    fn received(actions: &[Action]) -> Result<(), String> {
        let view = view();
        let ground = QueueGround {
            role: Role::Receiver,
            view: Some(&view),
            told: true,
            changes: &[],
        };
        ground.check(actions).map_err(|fault| fault.code)
    }

    fn provided(changes: &[u64], actions: &[Action]) -> Result<(), String> {
        let ground = QueueGround {
            role: Role::Provider,
            view: None,
            told: false,
            changes,
        };
        ground.check(actions).map_err(|fault| fault.code)
    }

    #[test]
    fn a_receiver_applies_all_that_the_provider_has_and_drops_what_it_lacks() {
        for said in [
            vec![apply(&["new"])],
            vec![apply(&["new", "same"]), drops(&["old"])],
            vec![drops(&["old"]), apply(&["new"]), Action::Warn("look".into())],
        ] {
            assert_eq!(received(&said), Ok(()), "{said:?}");
        }
        for (code, said) in [
            ("queue-left-out", vec![]),
            ("queue-left-out", vec![apply(&["same"]), drops(&["old"])]),
            ("queue-of-provider", vec![apply(&["new"]), drops(&["same"])]),
            ("queue-of-provider", vec![drops(&["new"])]),
            ("unknown-queue", vec![apply(&["new", "old"])]),
            ("unknown-queue", vec![apply(&["new"]), drops(&["nowhere"])]),
            ("named-twice", vec![apply(&["new", "new"])]),
            ("named-twice", vec![apply(&["new"]), apply(&["new"])]),
            ("bad-count", vec![apply(&[])]),
            ("bad-count", vec![Action::Drop(vec!["old".into(); QUEUES_MAX + 1])]),
            ("wrong-role", vec![apply(&["new"]), Action::Replicate(1)]),
        ] {
            assert_eq!(received(&said).unwrap_err(), code, "{said:?}");
        }
    }

    #[test]
    fn a_call_that_told_no_view_need_not_align() {
        let view = view();
        let ground = QueueGround {
            role: Role::Receiver,
            view: Some(&view),
            told: false,
            changes: &[],
        };
        for said in [vec![], vec![apply(&["new"])], vec![drops(&["old"])]] {
            assert_eq!(ground.check(&said), Ok(()));
        }
        assert_eq!(ground.check(&[drops(&["same"])]).unwrap_err().code, "queue-of-provider");
    }

    #[test]
    fn without_a_view_or_a_peer_no_queue_can_be_named() {
        let alone = View { peer: None, ..view() };
        for view in [None, Some(&alone)] {
            let ground = QueueGround {
                role: Role::Receiver,
                view,
                told: true,
                changes: &[],
            };
            assert_eq!(ground.check(&[]), Ok(()));
            for said in [apply(&["same"]), drops(&["old"])] {
                assert_eq!(ground.check(&[said]).unwrap_err().code, "unknown-queue");
            }
        }
    }

    #[test]
    fn each_change_is_decided_once_by_the_provider() {
        assert_eq!(
            provided(&[7, 8, 9], &[Action::Hold(8), refuse(7), Action::Replicate(9)]),
            Ok(())
        );
        assert_eq!(provided(&[], &[]), Ok(()));
        for (code, said) in [
            ("change-not-decided", vec![]),
            ("change-not-decided", vec![Action::Replicate(7), refuse(7)]),
            ("change-not-decided", vec![Action::Hold(7), Action::Hold(7)]),
            ("unknown-change", vec![Action::Replicate(7), Action::Replicate(8)]),
            ("unknown-change", vec![Action::Replicate(7), refuse(6)]),
            ("wrong-role", vec![Action::Replicate(7), apply(&["new"])]),
            ("wrong-role", vec![Action::Replicate(7), drops(&["old"])]),
        ] {
            assert_eq!(provided(&[7], &said).unwrap_err(), code, "{said:?}");
        }
    }

    #[test]
    fn each_kind_of_nonsense_is_refused_by_its_name() {
        let long = || "x".repeat(strategy::TEXT_BYTES_MAX + 1);
        let reason = Action::Refuse {
            change: 7,
            reason: long(),
        };
        assert_eq!(provided(&[7], &[reason]).unwrap_err(), "text-too-long");
        for (code, action) in [
            ("text-too-long", Action::Warn(long())),
            ("text-too-long", Action::Log(Level::Warn, long())),
            ("store-too-long", Action::Store(vec![0; strategy::STORE_BYTES_MAX + 1])),
            ("message-too-long", Action::Send(vec![0; strategy::SEND_BYTES_MAX + 1])),
            ("bad-name", Action::Metric("Queues".into(), 1)),
        ] {
            assert_eq!(
                provided(&[], std::slice::from_ref(&action)).unwrap_err(),
                code,
                "{action:?}"
            );
        }
        let crowd = [const { Action::Warn(String::new()) }; WARNINGS_MAX + 1];
        assert_eq!(provided(&[], &crowd).unwrap_err(), "bad-count");
        let many = vec![Action::Metric("a".into(), 1); strategy::ACTIONS_MAX + 1];
        assert_eq!(provided(&[], &many).unwrap_err(), "too-many-actions");
        assert_eq!(provided(&[], &[Action::Other("later".into(), Vec::new())]), Ok(()));
    }
}
