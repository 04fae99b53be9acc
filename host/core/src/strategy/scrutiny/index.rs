//! The check of what an index-check strategy says. A call is taken whole or not at all.

use super::{gauge, size, text};
use crate::types::strategy::index_check::{Action, WARNINGS_MAX};
use crate::types::strategy::{self, Fault};

/// What holds when the answer of one call is checked.
#[derive(Clone, Copy, Debug)]
pub struct IndexGround {
    /// The call told a view: then it asks for a verdict.
    pub told: bool,
}

impl IndexGround {
    /// Everything one call answered.
    ///
    /// # Errors
    /// The first action that cannot be, with what would be allowed; or a view without a verdict.
    pub fn check(&self, actions: &[Action]) -> Result<(), Fault> {
        if actions.len() > strategy::ACTIONS_MAX {
            let text = format!("{} actions, at most {} a call", actions.len(), strategy::ACTIONS_MAX);
            return Err(Fault::new("too-many-actions", text));
        }
        actions.iter().try_for_each(check_one)?;
        let count = |wanted: fn(&Action) -> bool| actions.iter().filter(|action| wanted(action)).count();
        let accepts = count(|action| matches!(action, Action::Accept));
        let verdicts = accepts + count(|action| matches!(action, Action::Refuse(_)));
        if self.told && verdicts != 1 {
            let text = format!("{verdicts} verdicts on a view, one is wanted: accept or refuse");
            return Err(Fault::new("one-verdict", text));
        }
        if !self.told && (accepts > 0 || verdicts > 1) {
            return Err(Fault::new("one-verdict", "accept without a view, or refuse twice"));
        }
        let warnings = count(|action| matches!(action, Action::Warn(_)));
        if warnings > WARNINGS_MAX {
            let text = format!("{warnings} warnings, at most {WARNINGS_MAX}");
            return Err(Fault::new("bad-count", text));
        }
        Ok(())
    }
}

fn check_one(action: &Action) -> Result<(), Fault> {
    match action {
        Action::Accept | Action::Other(..) => Ok(()),
        Action::Refuse(reason) => text("refuse", reason),
        Action::Warn(warning) => text("warn", warning),
        Action::Store(bytes) => size("store-too-long", bytes, strategy::STORE_BYTES_MAX),
        Action::Send(bytes) => size("message-too-long", bytes, strategy::SEND_BYTES_MAX),
        Action::Log(_, line) => text("log", line),
        Action::Metric(name, _) => gauge(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::strategy::Level;

    fn refused(told: bool, actions: &[Action]) -> String {
        IndexGround { told }.check(actions).unwrap_err().code
    }

    #[test]
    fn a_view_has_one_verdict_and_a_call_without_one_may_only_refuse() {
        let no = || Action::Refuse("no".into());
        let warn = || Action::Warn("look".into());
        for (told, actions) in [
            (true, vec![Action::Accept]),
            (true, vec![warn(), no()]),
            (true, [vec![Action::Accept], vec![warn(); WARNINGS_MAX]].concat()),
            (false, vec![]),
            (false, vec![no()]),
            (false, vec![warn(), Action::Log(Level::Info, "line".into())]),
            (false, vec![Action::Other("of-a-later-release".into(), Vec::new())]),
        ] {
            assert_eq!(IndexGround { told }.check(&actions), Ok(()), "{actions:?}");
        }
        for (told, actions) in [
            (true, vec![]),
            (true, vec![warn()]),
            (true, vec![Action::Accept, no()]),
            (true, vec![Action::Accept, Action::Accept]),
            (false, vec![Action::Accept]),
            (false, vec![no(), no()]),
        ] {
            assert_eq!(refused(told, &actions), "one-verdict", "{actions:?}");
        }
    }

    #[test]
    fn each_kind_of_nonsense_is_refused_by_its_name() {
        let long = || "x".repeat(strategy::TEXT_BYTES_MAX + 1);
        for (code, action) in [
            ("text-too-long", Action::Refuse(long())),
            ("text-too-long", Action::Warn(long())),
            ("text-too-long", Action::Log(Level::Warn, long())),
            ("store-too-long", Action::Store(vec![0; strategy::STORE_BYTES_MAX + 1])),
            ("message-too-long", Action::Send(vec![0; strategy::SEND_BYTES_MAX + 1])),
            ("bad-name", Action::Metric("Backend".into(), 1)),
        ] {
            assert_eq!(refused(false, std::slice::from_ref(&action)), code, "{action:?}");
        }
        assert_eq!(
            refused(false, &[const { Action::Warn(String::new()) }; WARNINGS_MAX + 1]),
            "bad-count"
        );
        let many = vec![Action::Metric("a".into(), 1); strategy::ACTIONS_MAX + 1];
        assert_eq!(refused(false, &many), "too-many-actions");
    }
}
