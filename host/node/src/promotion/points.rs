//! Injected crashes for tests: `CVP_TEST_CRASH_AT=<step>[:before|:after]` aborts the process at a step of a promotion. Read once a
//! promotion, and said loudly: no operator sets it by accident without being told.

use cvp_core::promotion::Step;

/// Where to crash.
#[derive(Clone, Debug, Default)]
pub(super) struct CrashPoint(Option<String>);

impl CrashPoint {
    /// From the environment.
    pub(super) fn from_environment() -> CrashPoint {
        let point = std::env::var("CVP_TEST_CRASH_AT")
            .ok()
            .filter(|point| !point.is_empty());
        if let Some(point) = &point {
            tracing::warn!(%point, "CVP_TEST_CRASH_AT is set: this node will abort in the middle of an upgrade");
        }
        CrashPoint(point)
    }

    /// Before the step's effect (`<step>:before`).
    pub(super) fn before(&self, step: Step) {
        self.at(step, ":before");
    }

    /// After the effect, before the journal says so (`<step>`).
    pub(super) fn between(&self, step: Step) {
        self.at(step, "");
    }

    /// After the journal's entry is durable (`<step>:after`).
    pub(super) fn after(&self, step: Step) {
        self.at(step, ":after");
    }

    fn at(&self, step: Step, when: &str) {
        let hit = self
            .0
            .as_ref()
            .is_some_and(|point| point.strip_prefix(step.id()) == Some(when));
        if hit {
            tracing::error!(step = step.id(), when, "abort on request of CVP_TEST_CRASH_AT");
            std::process::abort();
        }
    }
}
