//! Moments of a promotion at which a test may crash the node: `<step>:before`, `<step>` (its effect is done, the journal does not say so
//! yet), `<step>:after`.

use cvp_core::promotion::Step;

use crate::crash_point::CrashPoint;

/// Before the step's effect.
pub(super) fn before(crash: &CrashPoint, step: Step) {
    crash.at(&format!("{}:before", step.id()));
}

/// After the effect, before the journal says so.
pub(super) fn between(crash: &CrashPoint, step: Step) {
    crash.at(step.id());
}

/// After the journal's entry is durable.
pub(super) fn after(crash: &CrashPoint, step: Step) {
    crash.at(&format!("{}:after", step.id()));
}
