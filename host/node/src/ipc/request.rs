//! What an operator can ask of a running node, and in which role it answers.

use cvp_core::config::PairRole;
use cvp_core::types::{Height, Namespace};
use serde::{Deserialize, Serialize};

use super::Failure;

/// One request over the socket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// The [`super::StatusView`].
    Status,
    /// Accept a standby from now on.
    Enable,
    /// Drop the standby and refuse new ones.
    Disable,
    /// Promotion, or its preflight.
    Upgrade {
        /// Only list the preflight.
        dry_run: bool,
        /// Go on without the provider's keys.
        allow_missing_keys: bool,
        /// The operator says that a silent target is down.
        target_is_down: bool,
        /// A chain of which nothing was copied yet begins anew.
        #[serde(default)]
        begin_anew: bool,
    },
    /// Names of the running namespaces.
    NamespaceList,
    /// Runs a namespace from now on, on both nodes.
    NamespaceStart {
        /// Its name.
        name: String,
        /// Fail rather than change this node alone.
        must_replicate: bool,
        /// Its chain begins anew, though a lost node may have another.
        #[serde(default)]
        anew: bool,
        /// It goes on from the copy, though a lost node may have more.
        #[serde(default)]
        as_copied: bool,
    },
    /// Ends a namespace, on both nodes; `global` ends the node.
    NamespaceStop {
        /// Its name.
        name: String,
        /// Fail rather than change this node alone.
        must_replicate: bool,
    },
    /// Forgets a stopped namespace and puts its data away.
    NamespaceDestroy {
        /// Its name.
        name: String,
        /// Remove its data for good.
        yes: bool,
        /// Fail rather than change this node alone.
        must_replicate: bool,
    },
    /// The strategies and where they come from.
    PluginList,
    /// Ends the quarantine of a plugin.
    PluginReset {
        /// Its id.
        id: String,
    },
    /// The message queues.
    MqList,
    /// The message queues of each namespace together.
    MqStatus,
    /// One value of the configuration.
    ConfigGet {
        /// File below `configuration/`.
        file: String,
        /// Dotted key.
        key: String,
    },
    /// Change one value, on both nodes where it matters.
    ConfigSet {
        /// File below `configuration/`.
        file: String,
        /// Dotted key.
        key: String,
        /// The new value, as typed.
        value: String,
        /// Fail rather than change this node alone.
        must_replicate: bool,
    },
    /// Every value of the configuration.
    ConfigList {
        /// One file; all when absent.
        file: Option<String>,
    },
    /// Recompute hashes and state.
    Verify {
        /// One namespace; all when absent.
        namespace: Option<Namespace>,
        /// First height; the first of the history when absent.
        from: Option<Height>,
        /// Last height; the tip when absent.
        to: Option<Height>,
    },
}

/// The roles that answer a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowed {
    /// Either end of the pair.
    Both,
    /// Only this one.
    Only(PairRole),
}

impl Request {
    /// The one allow-list: which role answers what.
    pub fn allowed(&self) -> Allowed {
        match self {
            Request::Status
            | Request::Verify { .. }
            | Request::NamespaceList
            | Request::ConfigGet { .. }
            | Request::ConfigList { .. }
            | Request::MqList
            | Request::MqStatus
            | Request::PluginList
            | Request::PluginReset { .. }
            // A provider tries again what its own upgrade held.
            | Request::Upgrade { .. } => Allowed::Both,
            Request::Enable
            | Request::Disable
            | Request::NamespaceStart { .. }
            | Request::NamespaceStop { .. }
            | Request::NamespaceDestroy { .. }
            | Request::ConfigSet { .. } => Allowed::Only(PairRole::Provider),
        }
    }

    /// As an operator types it.
    pub fn spelling(&self) -> &'static str {
        match self {
            Request::Status => "status",
            Request::Enable => "enable",
            Request::Disable => "disable",
            Request::Upgrade { .. } => "upgrade",
            Request::NamespaceList => "namespace list",
            Request::NamespaceStart { .. } => "namespace start",
            Request::NamespaceStop { .. } => "namespace stop",
            Request::NamespaceDestroy { .. } => "namespace destroy",
            Request::ConfigGet { .. } => "config get",
            Request::ConfigSet { .. } => "config set",
            Request::ConfigList { .. } => "config list",
            Request::MqList => "mq list",
            Request::MqStatus => "mq status",
            Request::PluginList => "plugin list",
            Request::PluginReset { .. } => "plugin reset",
            Request::Verify { .. } => "verify",
        }
    }

    /// Refuses a request that `role` does not answer.
    pub fn check(&self, role: PairRole) -> Result<(), Failure> {
        match self.allowed() {
            Allowed::Only(wanted) if wanted != role => Err(wrong_role(self.spelling(), role, wanted)),
            _ => Ok(()),
        }
    }
}

/// A command that a node of this role does not answer.
pub fn wrong_role(spelling: &str, role: PairRole, wanted: PairRole) -> Failure {
    Failure::refused(
        "wrong-role",
        format!("`cvp {spelling}` is not available on a {role}"),
        format!("run it on the {wanted}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_answers_its_own() {
        let upgrade = Request::Upgrade {
            dry_run: true,
            allow_missing_keys: false,
            target_is_down: false,
            begin_anew: false,
        };
        assert!(upgrade.check(PairRole::Receiver).is_ok());
        // What is there to upgrade on a provider, the node knows.
        assert!(upgrade.check(PairRole::Provider).is_ok());
        assert_eq!(Request::Disable.check(PairRole::Receiver).unwrap_err().exit.code(), 4);
        assert!(Request::Enable.check(PairRole::Receiver).is_err());
        assert!(Request::Status.check(PairRole::Receiver).is_ok());
    }

    #[test]
    fn requests_are_tagged_lines() {
        let text = serde_json::to_string(&Request::NamespaceList).unwrap();
        assert_eq!(text, r#"{"command":"namespace-list"}"#);
    }
}
