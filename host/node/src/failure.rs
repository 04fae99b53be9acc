//! How a command ends: its exit code, and what a failed one says.

use std::fmt;

use cvp_core::types::Refusal;
use serde::{Deserialize, Serialize};

/// Exit codes of `cvp`; scripts depend on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// Done; for `status`: normal.
    Done,
    /// Failed, or something bad was found.
    Failed,
    /// Wrong usage.
    Usage,
    /// No node answers at that root.
    NoNode,
    /// Refused in this role or state; nothing changed.
    Refused,
    /// `status`: abnormal.
    Abnormal,
    /// `upgrade --dry-run`: a check failed.
    CheckFailed,
    /// A strong change is undecided.
    Undecided,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NoNode => 3,
            Exit::Refused => 4,
            Exit::Abnormal => 5,
            Exit::CheckFailed => 6,
            Exit::Undecided => 7,
        }
    }
}

/// Why a command did not do what it was asked: shown to the operator, and sent over the socket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Kebab-case code; scripts match it.
    pub code: String,
    /// What is wrong, with the values.
    pub message: String,
    /// What to do.
    pub help: String,
    /// The exit code it leads to.
    pub exit: Exit,
}

impl Failure {
    /// A failure with every member given.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            help: help.into(),
            exit,
        }
    }

    /// It went wrong (exit code 1).
    pub fn failed(code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, message, help)
    }

    /// Refused in this role or state, nothing changed (exit code 4).
    pub fn refused(code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Refused, code, message, help)
    }

    /// Wrong usage (exit code 2).
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message, help)
    }

    /// A reasoned no of the core, as a refused command.
    pub fn from_refusal(refusal: &Refusal) -> Self {
        Self::refused(&refusal.code, refusal.text.clone(), refusal.hint.clone())
    }

    /// As a status and the machine know it.
    pub fn to_refusal(&self) -> Refusal {
        Refusal {
            code: self.code.clone().into(),
            text: self.message.clone(),
            hint: self.help.clone(),
        }
    }

    /// The object that `--json` prints.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": {"code": self.code, "message": self.message, "help": self.help}
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<crate::durable::DurableError> for Failure {
    fn from(error: crate::durable::DurableError) -> Self {
        use crate::durable::DurableError as E;
        let (exit, code, help) = match &error {
            E::Disk { .. } => (
                Exit::Failed,
                "disk",
                "check the disk, its free space and the permissions",
            ),
            E::Damaged { .. } => (Exit::Failed, "damaged", "restore the file; do not remove it"),
            E::Locked { .. } => (
                Exit::Refused,
                "locked",
                "stop the node that runs on this root directory",
            ),
        };
        Self::new(exit, code, error.to_string(), help)
    }
}
