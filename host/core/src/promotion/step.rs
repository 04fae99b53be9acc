//! The steps of a promotion and the only order they may come in.

use super::journal::Journal;

/// One step. Each is idempotent: a crash after its effect and before its journal entry does it again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Step {
    /// The new incarnation is drawn and on disk, in the journal's first entry: from here on the old provider is refused.
    Fence,
    /// Node-id, hostname and the list of incarnations are written; the binding goes.
    Identity,
    /// The node's own files say hostname, role and `provider`.
    Configuration,
    /// Every namespace changes from follower to its new role, its stores open all the while.
    Roles,
    /// The take-over block of every namespace that makes blocks is durable.
    Takeover,
    /// Clients and a fresh receiver are let in.
    Serve,
    /// Nothing is left to do; a restart finds an ordinary provider.
    Done,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Step; 7] = [
        Step::Fence,
        Step::Identity,
        Step::Configuration,
        Step::Roles,
        Step::Takeover,
        Step::Serve,
        Step::Done,
    ];

    /// As JSON, the journal's messages and injection points name it.
    pub fn id(self) -> &'static str {
        match self {
            Step::Fence => "fence",
            Step::Identity => "identity",
            Step::Configuration => "configuration",
            Step::Roles => "roles",
            Step::Takeover => "takeover",
            Step::Serve => "serve",
            Step::Done => "done",
        }
    }

    /// What an operator reads while the step runs.
    pub fn describe(self) -> &'static str {
        match self {
            Step::Fence => "Draw a new incarnation and refuse the old provider",
            Step::Identity => "Take over node-id and hostname",
            Step::Configuration => "Rewrite the configuration",
            Step::Roles => "Change the role of each namespace",
            Step::Takeover => "Make the take-over blocks",
            Step::Serve => "Serve clients and accept a new receiver",
            Step::Done => "Finish the journal",
        }
    }

    /// The byte that stands for the step in the journal.
    pub(super) fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The step a journal byte stands for.
    pub(super) fn from_code(code: u8) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.code() == code)
    }

    /// The step that follows; `None` after [`Step::Done`].
    pub fn following(self) -> Option<Step> {
        Step::from_code(self.code() + 1)
    }

    /// Whether `to` may be finished when `finished` was the last one finished. A promotion begins with [`Step::Fence`] when nothing
    /// is under way, and no step is left out.
    pub fn valid_transition(finished: Option<Step>, to: Step) -> bool {
        match finished {
            None | Some(Step::Done) => to == Step::Fence,
            Some(step) => step.following() == Some(to),
        }
    }
}

/// The step to perform next; `None` when no promotion is under way (none begun, or the last one done).
pub fn next_step(journal: &Journal) -> Option<Step> {
    journal.finished().and_then(Step::following)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_a_line_that_may_begin_again() {
        for (from_index, from) in Step::ALL.iter().enumerate() {
            for (to_index, to) in Step::ALL.iter().enumerate() {
                let wanted = to_index == from_index + 1 || (*from == Step::Done && *to == Step::Fence);
                assert_eq!(Step::valid_transition(Some(*from), *to), wanted, "{from:?} {to:?}");
            }
        }
        assert!(Step::valid_transition(None, Step::Fence));
        assert!(!Step::valid_transition(None, Step::Identity));
    }

    #[test]
    fn codes_and_steps_correspond() {
        for step in Step::ALL {
            assert_eq!(Step::from_code(step.code()), Some(step));
        }
        assert_eq!(Step::from_code(0), None);
        assert_eq!(Step::from_code(8), None);
    }
}
