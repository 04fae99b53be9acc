//! What `cvp upgrade` answers, as the operator's page lays it down; the command and the node share it.

use std::collections::BTreeMap;
use std::fmt;

use cvp_core::promotion::{Check, StepReport, StepState, Verdict};
use serde::{Deserialize, Serialize};

/// The whole answer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UpgradeView {
    /// The preflight.
    pub checks: Vec<CheckView>,
    /// Steps performed; none in a dry run or after a refusal.
    pub steps: Vec<StepView>,
    /// What serves now; absent unless the promotion is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<ServingView>,
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
    /// `done`, `resumed` or `failed`.
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
                let mark = if step.state == "failed" { "FAIL" } else { "ok" };
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
