//! `mq_*`: registering queues and acknowledging events. The results of the platform's calls are JSON inside a string, as its SDKs take them
//! apart; the node's own `mq_ack` answers an object.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use cvp_core::mq::{EventId, Refused, Registration};

use super::Context;
use super::envelope::{Outcome, json as result};
use super::error::{NO_METHOD, RpcError, STRONG_FAILED, STRONG_UNDECIDED};
use super::params::Params;
use crate::mq::{QueueSet, Queues, QueuesError};

/// Whether `method` is of this family.
pub fn is_queues(method: &str) -> bool {
    method.starts_with("mq_")
}

/// Answers `method`.
pub async fn answer(method: &str, params: &Params, context: &Context, set: &QueueSet) -> Outcome {
    if method == "mq_getAllQueueNames" {
        return names(context, set);
    }
    let queues = || opened(method, context, set);
    match method {
        "mq_register" => register(params, &queues()?).await,
        "mq_unRegister" => unregister(params, &queues()?).await,
        "mq_getExchangerName" => result(&queues()?.registry().exchanger()),
        "mq_deleteExchanger" => {
            let name = params.text(0, "exchanger")?;
            queues()?.delete_exchanger(name).await.map_err(failed)?;
            text(&Done::WELL)
        }
        "mq_informNormal" => inform(params, &queues()?).await,
        "mq_ack" => acknowledge(params, &embedded(method, context, set)?).await,
        _ => Err(RpcError::method(method)),
    }
}

/// The queues of the call's namespace, for the call `method`.
pub fn opened(method: &str, context: &Context, set: &QueueSet) -> Result<Arc<Queues>, RpcError> {
    let namespace = context.chain.namespace();
    match set.get(namespace) {
        Some(Ok(queues)) => Ok(queues),
        Some(Err(refusal)) => Err(RpcError::internal(refusal.text)),
        None => Err(RpcError::new(
            NO_METHOD,
            format!(
                "The method {method} does not exist/is not available: namespace {namespace} runs without message queues (set [[service]] service_name = \"MQ\" in its ns_static.toml)"
            ),
        )),
    }
}

/// As [`opened`], for what only queues have that are consumed from the node itself.
pub fn embedded(method: &str, context: &Context, set: &QueueSet) -> Result<Arc<Queues>, RpcError> {
    let queues = opened(method, context, set)?;
    match queues.rabbit() {
        None => Ok(queues),
        Some(_) => Err(RpcError::new(
            NO_METHOD,
            format!(
                "The method {method} does not exist/is not available: a broker carries the messages of this namespace"
            ),
        )),
    }
}

#[derive(Serialize)]
struct Done<'a> {
    success: bool,
    error: Option<&'a str>,
}

impl Done<'_> {
    const WELL: Self = Done {
        success: true,
        error: None,
    };
}

/// An object as a string of JSON.
fn text<T: Serialize>(value: &T) -> Outcome {
    let text = serde_json::to_string(value).map_err(|error| RpcError::internal(error.to_string()))?;
    result(&text)
}

fn names(context: &Context, set: &QueueSet) -> Outcome {
    match set.get(context.chain.namespace()) {
        None => {
            if let Some(refusal) = set.bad_copies().get(context.chain.namespace()) {
                return Err(RpcError::internal(refusal.text.clone()));
            }
            let copies = set.copies();
            let copy = copies.get(context.chain.namespace());
            result(
                &copy
                    .map(|(registry, _)| registry.queues().keys().collect::<Vec<_>>())
                    .unwrap_or_default(),
            )
        }
        Some(Err(refusal)) => Err(RpcError::internal(refusal.text)),
        Some(Ok(queues)) => result(&queues.registry().queues().keys().collect::<Vec<_>>()),
    }
}

async fn register(params: &Params, queues: &Arc<Queues>) -> Outcome {
    let registration = Registration::from_json(params.required(0, "registration")?).map_err(refused)?;
    let (queue, exchanger) = queues.register(registration).await.map_err(failed)?;
    text(&json!({"queueName": queue, "exchangerName": exchanger}))
}

async fn unregister(params: &Params, queues: &Arc<Queues>) -> Outcome {
    let (queue, exchanger) = (params.text(0, "queue")?, params.text(1, "exchanger")?);
    let count = queues.unregister(queue, exchanger).await.map_err(failed)?;
    text(&json!({"count": count, "success": true, "error": null}))
}

/// The broker is well: connects now where it is not. A node that is consumed from itself needs no such word. An address other than the
/// configured one is a mistake that must show.
async fn inform(params: &Params, queues: &Arc<Queues>) -> Outcome {
    let url = match params.get(0) {
        None => "",
        Some(Value::String(url)) => url,
        Some(_) => return Err(RpcError::params("the address of a broker must be a text")),
    };
    let known = url.is_empty() || queues.rabbit().is_some_and(|rabbit| rabbit.is_at(url));
    if !known {
        return Err(RpcError::params(
            "that is not the broker of mq.rabbit.url: pass \"\" for the configured one",
        ));
    }
    match queues.rabbit() {
        None => text(&Done::WELL),
        Some(rabbit) => match rabbit.inform().await {
            Ok(()) => text(&Done::WELL),
            Err(why) => text(&Done {
                success: false,
                error: Some(&why),
            }),
        },
    }
}

async fn acknowledge(params: &Params, queues: &Arc<Queues>) -> Outcome {
    let queue = params.text(0, "queue")?;
    let id = match params.required(1, "id")? {
        Value::String(id) => id.clone(),
        Value::Number(height) => height.to_string(),
        _ => return Err(RpcError::params("the id of an event is a text or a height")),
    };
    let event: EventId = id.parse().map_err(|malformed| refused(Refused::from(malformed)))?;
    let done = queues.acknowledge(queue, event).await.map_err(failed)?;
    let mut answer = json!({"queueName": queue, "cursor": done.cursor.to_string()});
    if done.lost {
        let note =
            format!("a standby took over below event {event}: what came before that counts, and the rest is told anew");
        answer["note"] = Value::String(note);
    }
    result(&answer)
}

fn refused(refused: Refused) -> RpcError {
    RpcError::new(refused.code, refused.message)
}

fn failed(error: QueuesError) -> RpcError {
    match error {
        QueuesError::Refused(it) => refused(it),
        QueuesError::NotMade(refusal) => RpcError::new(
            STRONG_FAILED,
            format!("{}: {}; nothing was changed on either node", refusal.code, refusal.text),
        ),
        QueuesError::Undecided(refusal) => RpcError::new(STRONG_UNDECIDED, refusal.to_string()),
        QueuesError::Disk(what) => {
            tracing::error!("a call of message queues failed: {what}");
            RpcError::internal("the disk of this node failed; see its log")
        }
    }
}
