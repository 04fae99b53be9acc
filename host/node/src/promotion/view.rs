//! What `cvp upgrade` answers, as the operator's page lays it down; the command and the node share it.

use std::collections::BTreeMap;
use std::fmt;

use cvp_core::promotion::{Check, StepReport, StepState, Verdict};
use serde::{Deserialize, Serialize};

/// The whole answer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct UpgradeView {
    /// The preflight.
    pub checks: Vec<CheckView>,
    /// Steps performed; in a dry run those that would be; none after a refusal.
    pub steps: Vec<StepView>,
    /// What serves now; absent unless the promotion is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<ServingView>,
    /// Namespaces that could not be taken over, each with its reason; absent where there are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, String>,
    /// How long the preflight's network probes took; absent where no take-over block followed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_milliseconds: Option<f64>,
    /// From the end of the probes until the take-over blocks were durable and applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckView {
    /// Stable id.
    pub id: String,
    /// `pass`, `warn` or `fail`.
    pub verdict: String,
    /// What was found.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepView {
    /// Stable id.
    pub id: String,
    /// `done`, `resumed` or `failed`; in a dry run `planned`.
    pub state: String,
    /// What the step does, or why it failed.
    #[serde(default)]
    pub message: String,
}

/// What the promoted node serves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServingView {
    /// Under which name.
    pub hostname: String,
    /// Each namespace.
    pub namespaces: BTreeMap<String, HeightView>,
}

/// Where a namespace stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeightView {
    /// Height of its last durable block.
    pub height: u64,
}

/// One line of progress.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeLine {
    /// A check was judged.
    Check(CheckView),
    /// A step has ended.
    Step(StepView),
}

impl UpgradeView {
    /// The answer where nothing was done.
    pub(super) fn refusal(checks: &[Check]) -> Self {
        Self {
            checks: checks.iter().map(CheckView::from).collect(),
            ..Self::default()
        }
    }

    /// Whether a check refuses the promotion.
    pub fn refused(&self) -> bool {
        self.checks.iter().any(|check| check.verdict == Verdict::Fail.as_str())
    }

    /// The step that failed, if one did.
    pub fn failed_step(&self) -> Option<&StepView> {
        self.steps.iter().find(|step| step.state == "failed")
    }

    /// Every line, as the progress tells them.
    pub fn lines(&self) -> impl Iterator<Item = UpgradeLine> + '_ {
        let checks = self.checks.iter().cloned().map(UpgradeLine::Check);
        checks.chain(self.steps.iter().cloned().map(UpgradeLine::Step))
    }
}

impl From<&Check> for CheckView {
    fn from(check: &Check) -> Self {
        Self {
            id: check.id.to_owned(),
            verdict: check.verdict.as_str().to_owned(),
            message: check.message.clone(),
            help: check.hint.clone(),
        }
    }
}

impl StepView {
    /// A step of a rehearsal: where it did not fail, it waits to be done.
    pub(super) fn planned(report: &StepReport) -> Self {
        let view = Self::from(report);
        match report.state {
            StepState::Failed(_) => view,
            StepState::Done | StepState::Resumed => Self {
                state: "planned".to_owned(),
                ..view
            },
        }
    }
}

impl From<&StepReport> for StepView {
    fn from(report: &StepReport) -> Self {
        let message = match &report.state {
            StepState::Failed(refusal) => refusal.to_string(),
            _ => report.step.describe().to_owned(),
        };
        Self {
            id: report.step.id().to_owned(),
            state: report.state.as_str().to_owned(),
            message,
        }
    }
}

impl fmt::Display for UpgradeLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpgradeLine::Check(check) => {
                write!(f, "{:<4}  {:<19} {}", check.verdict, check.id, check.message)?;
                if check.help.is_empty() {
                    Ok(())
                } else {
                    write!(f, "\n{:26}-> {}", "", check.help)
                }
            }
            UpgradeLine::Step(step) => {
                let mark = match step.state.as_str() {
                    "failed" => "FAIL",
                    "planned" => "plan",
                    _ => "ok",
                };
                write!(f, "{mark:<4}  {:<19} {}", step.id, step.message)?;
                if step.state == "resumed" {
                    write!(f, " (resumed)")
                } else {
                    Ok(())
                }
            }
        }
    }
}
