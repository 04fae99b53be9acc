//! Promotion of a receiver: what the preflight makes of a plain view, which steps follow, and the journal that makes them survive a
//! crash at any byte.
//!
//! Owns the check ids and verdicts of `cvp upgrade`, the order of the steps and the bytes of `system/cvp/promotion.journal`. Probes,
//! files and roles are changed by the node, through [`Sink`]: the dry run is this very code with [`DryRun`] in its place.

mod edits;
mod effects;
mod journal;
mod plan;
mod preflight;
mod run;
mod step;
mod target;
mod uncopied;

pub use edits::{ConfigEdit, configuration_edits, standby_edits};
pub use effects::{promoted_identity, takeover_changes};
pub use journal::{Append, Entry, JOURNAL_BYTES, Journal, JournalError};
pub use plan::{HeldNamespace, Plan, PlannedNamespace};
pub use preflight::{
    Check, CopyState, IndexView, KeyState, NamespaceView, PortState, PortView, PreflightView, StrategyView,
    TlsNameView, Verdict, allowed, preflight, preflight_of_held,
};
pub use run::{DryRun, Sink, StepReport, StepState, advance, begin, promote, resume};
pub use step::{Step, next_step};
pub use target::{PROBE_MS_MAX, ProbeAnswer, TargetProbe};
pub use uncopied::{Beginning, Found, Uncopied, uncopied};
