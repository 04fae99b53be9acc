//! What the running node answers its operator.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cvp_core::config::{PairRole, Value as ConfigValue};
use cvp_core::types::Refusal;
use serde_json::{Value, json};

use super::node::Node;
use super::settings;
use super::verify::{self, Wanted};
use crate::ipc::{Failure, Operator, Progress, QueuesStatus, Request, wrong_role};
use crate::promotion::{self, Flags};
use crate::rpc::ConfigChange;

impl Operator for Node {
    /// In the middle of an upgrade the configuration may name the new role already: until its end the node answers as the receiver it
    /// was, so that the operator can go on with it.
    fn role(&self) -> PairRole {
        match promotion::standing(&self.files) {
            Ok(standing) if standing.unfinished => PairRole::Receiver,
            _ => self.config().role(),
        }
    }

    fn answer(
        self: Arc<Self>,
        request: Request,
        progress: Progress,
    ) -> Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>> {
        Box::pin(async move {
            match request {
                Request::Status => encode(&self.status().await),
                Request::Enable => self.set_enabled(true).await,
                Request::Disable => self.set_enabled(false).await,
                Request::NamespaceList => {
                    let names = self.chains.names();
                    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
                    Ok(json!({"namespaces": names}))
                }
                Request::NamespaceStart {
                    name,
                    must_replicate,
                    anew,
                    as_copied,
                } => self.start_namespace(&name, must_replicate, (anew, as_copied)).await,
                Request::NamespaceStop { name, must_replicate } => {
                    self.stop_namespace(&name, must_replicate, progress).await
                }
                Request::NamespaceDestroy {
                    name,
                    yes,
                    must_replicate,
                } => self.destroy_namespace(&name, yes, must_replicate).await,
                Request::Verify { namespace, from, to } => {
                    let wanted = Wanted { namespace, from, to };
                    blocking(move || verify::verify_running(&self.root, &self.chains, &wanted, &progress)).await
                }
                Request::Upgrade {
                    dry_run,
                    allow_missing_keys,
                    target_is_down,
                    begin_anew,
                } => {
                    let flags = Flags {
                        dry_run,
                        allow_missing_keys,
                        target_is_down,
                        begin_anew,
                    };
                    self.upgrade(flags, progress).await
                }
                Request::ConfigGet { file, key } => blocking(move || settings::get(&self.root, &file, &key)).await,
                Request::ConfigList { file } => blocking(move || settings::list(&self.root, file.as_deref())).await,
                Request::ConfigSet {
                    file,
                    key,
                    value,
                    must_replicate,
                } => {
                    let change = ConfigChange {
                        file,
                        key,
                        value: ConfigValue::from_input(&value),
                        must_replicate,
                        by: "the operator".to_owned(),
                    };
                    self.set_config(change).await
                }
                Request::MqList => encode(&self.list_queues()),
                Request::MqStatus => encode(&QueuesStatus { mq: self.view_queues() }),
                Request::PluginList => Ok(self.fleet.list()),
                Request::PluginReset { id } => self.fleet.reset(&id),
            }
        })
    }
}

impl Node {
    /// Sets `cvp.enable`: on disk first, then in the running pair.
    async fn set_enabled(self: &Arc<Self>, enabled: bool) -> Result<Value, Failure> {
        let _one_at_a_time = self.changing.lock().await;
        if self.config().dynamic.cvp.enable == enabled {
            let word = if enabled { "enabled" } else { "disabled" };
            return Err(Failure::refused(
                if enabled { "already-enabled" } else { "already-disabled" },
                format!("cvp is {word} already"),
                "nothing was changed",
            ));
        }
        let node = Arc::clone(self);
        blocking(move || {
            node.root
                .edit("dynamic.toml", "cvp.enable", ConfigValue::Flag(enabled))?;
            node.change_config(|config| config.dynamic.cvp.enable = enabled);
            Ok(())
        })
        .await?;
        if let Some(replication) = self.replication() {
            replication.set_enabled(enabled).await;
        }
        tracing::info!(enabled, "cvp switched by the operator");
        Ok(json!({"enabled": enabled}))
    }

    /// Promotion, or its preflight.
    async fn upgrade(self: &Arc<Self>, flags: Flags, progress: Progress) -> Result<Value, Failure> {
        let Ok(_one_at_a_time) = self.changing.try_lock() else {
            let what = "another change of this node is under way";
            return Err(Failure::refused("busy", what, "wait for it"));
        };
        let tell = move |line| {
            if let Ok(line) = encode(&line) {
                progress.tell(line);
            }
        };
        let failed = |refusal: Refusal| Failure::from_refusal(&refusal);
        let standing = promotion::standing(&self.files).map_err(failed)?;
        let answer = match (self.role(), standing.held.is_empty()) {
            (PairRole::Receiver, _) => self.ground().upgrade(flags, tell).await?,
            (PairRole::Provider, false) => self.ground().upgrade_held(flags, tell).await?,
            (PairRole::Provider, true) => {
                return Err(wrong_role("upgrade", PairRole::Provider, PairRole::Receiver));
            }
        };
        encode(&answer)
    }
}

/// Runs disk work off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Failure::failed("internal", error.to_string(), "see the node's log")),
    }
}

pub(super) fn encode<T: serde::Serialize>(value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::failed("internal", error.to_string(), "report it"))
}
