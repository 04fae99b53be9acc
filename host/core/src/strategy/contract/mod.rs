//! The contract suite: what every strategy of a kind must do, native or WASM, ours or a third party's. Used by tests only. One file a kind.

mod chain_sync;
mod config_sync;
mod index_check;
mod mq_sync;

use super::{Boxed, Kind};
use crate::types::strategy::{ACTIONS_MAX, Fault, Role};

/// What the suite knows of one kind.
pub trait Suite: Kind {
    /// A session as a node would tell it, call by call.
    fn script(role: Role) -> Vec<Vec<Self::Event>>;

    /// An event that no strategy knows.
    fn unknown() -> Self::Event;

    /// Whether this may be the answer of one call; the broken rule is the error.
    fn judge(role: Role, events: &[Self::Event], actions: &[Self::Action]) -> Result<(), String>;
}

/// A session of kind `K` as a node would tell it, call by call.
pub fn script<K: Suite>(role: Role) -> Vec<Vec<K::Event>> {
    K::script(role)
}

/// Runs the suite over strategies that `open` makes with default settings; the first broken rule is the error.
pub fn check<K: Suite>(open: &mut dyn FnMut(Role) -> Result<Boxed<K>, Fault>) -> Result<(), String> {
    for role in [Role::Receiver, Role::Provider] {
        let mut first = open(role).map_err(|e| e.to_string())?;
        let mut second = open(role).map_err(|e| e.to_string())?;
        for (number, events) in K::script(role).into_iter().enumerate() {
            let place = |broken: &dyn std::fmt::Display| format!("{} call {number}: {broken}", role.as_str());
            let actions = first.handle(events.clone()).map_err(|fault| place(&fault))?;
            let again = second.handle(events.clone()).map_err(|fault| place(&fault))?;
            if actions != again {
                let text = format!("the same events gave {actions:?}, then {again:?}");
                return Err(place(&text));
            }
            if actions.len() > ACTIONS_MAX {
                return Err(place(&format!("{} actions in one answer", actions.len())));
            }
            K::judge(role, &events, &actions).map_err(|broken| place(&broken))?;
        }
        let mut fresh = open(role).map_err(|e| e.to_string())?;
        let actions = fresh.handle(vec![K::unknown()]).map_err(|fault| fault.to_string())?;
        if !actions.is_empty() {
            return Err(format!("an unknown event was answered with {actions:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{ChainSync, ConfigSync, IndexCheck, MqSync, Strategy};
    use super::*;
    use crate::types::strategy::chain_sync::{Action, Event};
    use crate::types::strategy::{config_sync, index_check, mq_sync};

    /// Answers each call with how many calls of any instance came before: not a function of its events.
    struct Moody(&'static std::sync::atomic::AtomicU64);

    impl Strategy for Moody {
        type Event = Event;
        type Action = Action;

        fn handle(&mut self, _events: Vec<Event>) -> Result<Vec<Action>, Fault> {
            let calls = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(vec![Action::VerifyEvery(calls)])
        }
    }

    #[test]
    fn a_strategy_that_is_no_function_of_its_events_is_seen() {
        static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let broken = check::<ChainSync>(&mut |_| Ok(Box::new(Moody(&CALLS)))).unwrap_err();
        assert!(broken.contains("the same events"), "{broken}");
    }

    /// Says nothing, whatever it is told.
    struct Silent;

    impl Strategy for Silent {
        type Event = config_sync::Event;
        type Action = config_sync::Action;

        fn handle(&mut self, _events: Vec<Self::Event>) -> Result<Vec<Self::Action>, Fault> {
            Ok(Vec::new())
        }
    }

    /// The same, of kind index-check.
    struct Mute;

    impl Strategy for Mute {
        type Event = index_check::Event;
        type Action = index_check::Action;

        fn handle(&mut self, _events: Vec<Self::Event>) -> Result<Vec<Self::Action>, Fault> {
            Ok(Vec::new())
        }
    }

    /// The same, of kind mq-sync.
    struct Idle;

    impl Strategy for Idle {
        type Event = mq_sync::Event;
        type Action = mq_sync::Action;

        fn handle(&mut self, _events: Vec<Self::Event>) -> Result<Vec<Self::Action>, Fault> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn an_mq_sync_that_leaves_a_queue_of_the_provider_out_is_seen() {
        let broken = check::<MqSync>(&mut |_| Ok(Box::new(Idle))).unwrap_err();
        assert!(
            broken.contains("receiver") && broken.contains("queue-left-out"),
            "{broken}"
        );
    }

    #[test]
    fn an_index_check_without_a_verdict_is_seen() {
        let broken = check::<IndexCheck>(&mut |_| Ok(Box::new(Mute))).unwrap_err();
        assert!(broken.contains("one-verdict"), "{broken}");
    }

    #[test]
    fn a_config_sync_that_does_not_weigh_an_edit_is_seen() {
        let broken = check::<ConfigSync>(&mut |_| Ok(Box::new(Silent))).unwrap_err();
        assert!(broken.contains("provider") && broken.contains("edit"), "{broken}");
    }
}
