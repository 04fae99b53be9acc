//! JSON-RPC over HTTP: one file a method family, each only rendering what the applied chain holds.
//!
//! Owns the envelope, the parameters' spellings, the shapes of answers and the limits of the HTTP side. Owns no rule of the chain: sends
//! go to [`Chain::submit`](crate::namespace::Chain::submit), queries read the ledger through a [`view`]. A receiver answers what
//! [`allowed`] lists. A panic in a method is an answer with code -32000, never a dropped connection.

mod allowed;
mod batch;
mod body;
mod configuration;
mod envelope;
mod error;
mod events;
mod flow;
mod https;
mod page;
mod params;
mod server;
mod shape;
mod socket;
mod view;

mod account;
mod block;
mod contract;
mod did;
mod mq;
mod node;
mod send;
mod tx;
mod tx_range;
mod version;

#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use cvp_core::config::FlowControl;
use cvp_core::types::{Hostname, Namespace, NodeRole};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tracing::error;

pub use allowed::receiver_answers;
pub use configuration::{Answer as ConfigAnswer, Change as ConfigChange, Configuration};
pub use https::{Caller, Https, HttpsFiles};
pub use server::{HttpOptions, RpcServer};

use self::envelope::{Body, Call, Outcome, Unreadable, render};
use self::error::RpcError;
use self::flow::Buckets;
use self::params::Params;
use self::view::ChainView;
use crate::mq::QueueSet;
use crate::namespace::{Chain, ChainSet, ChainState};
use crate::telemetry::counters;

/// Queries reading the disk at once; more wait in their connections.
const QUERIES_MAX: usize = 64;

/// What this node is, as its answers say. Replaced whole when the role changes.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// Own hostname; the provider's after an upgrade.
    pub hostname: Hostname,
    /// Address shown in `node_getNodes`.
    pub ip: String,
    /// Port of the pair's link, shown in `node_getNodes`.
    pub p2p_port: u16,
    /// This node's role in each namespace.
    pub roles: BTreeMap<Namespace, NodeRole>,
    /// The nodes whose blocks it follows, where another node makes them: hostname, IP and port, in order.
    pub vps: BTreeMap<Namespace, Vec<(Hostname, String, u16)>>,
    /// A receiver answers only what [`receiver_answers`] lists.
    pub receiver: bool,
}

/// The JSON-RPC surface of one node, whatever it is served over.
pub struct Rpc {
    chains: ChainSet,
    queues: QueueSet,
    facts: ArcSwap<NodeFacts>,
    buckets: Buckets,
    queries: Arc<Semaphore>,
    configuration: OnceLock<Weak<dyn Configuration>>,
    streams: Arc<Semaphore>,
}

/// What one call works on.
struct Context {
    chain: Arc<Chain>,
    facts: Arc<NodeFacts>,
}

impl Context {
    fn view(&self) -> ChainView<'_> {
        ChainView::of(self.chain.ledger().as_ref())
    }

    fn makes_blocks(&self) -> bool {
        matches!(self.chain.state(), ChainState::Making { .. })
    }

    /// Whether `host` is this node or the maker of the latest block (the node a standby stands by).
    fn knows_host(&self, host: &str) -> Result<bool, RpcError> {
        if self.facts.hostname.as_str() == host {
            return Ok(true);
        }
        let view = self.view();
        Ok(view.block(view.latest)?.header.proposer.as_str() == host)
    }
}

impl Rpc {
    /// Serves the chains in `chains` and the message queues in `queues`.
    pub fn new(chains: ChainSet, queues: QueueSet, facts: NodeFacts) -> Arc<Self> {
        Arc::new(Self {
            chains,
            queues,
            facts: ArcSwap::from_pointee(facts),
            buckets: Buckets::default(),
            queries: Arc::new(Semaphore::new(QUERIES_MAX)),
            configuration: OnceLock::new(),
            streams: Arc::new(Semaphore::new(events::STREAMS_MAX)),
        })
    }

    /// Who reads and changes the configuration: said once, before anything is served.
    pub fn set_configuration(&self, node: Weak<dyn Configuration>) {
        // A second one would be the same node.
        let _ = self.configuration.set(node);
    }

    /// The node became something else (an upgrade): calls that begin from now on see it.
    pub fn set_facts(&self, facts: NodeFacts) {
        self.facts.store(Arc::new(facts));
    }

    /// Limits of the namespaces, from now on; before, and for those left out, there is none.
    pub fn set_flow_control(&self, keys: &BTreeMap<Namespace, FlowControl>) {
        self.buckets.set(keys);
    }

    /// Answers one body of `caller`: a request or an array of them. Never fails and never panics.
    pub async fn answer(self: &Arc<Self>, body: Bytes, caller: &Arc<Caller>) -> String {
        match envelope::parse(&body) {
            Body::One(call) => {
                let (namespace, id, outcome) = self.begin(call, caller).finish().await;
                render(namespace.as_deref(), id.as_deref(), &outcome)
            }
            Body::Many(calls) => batch::answer(self, calls, caller).await,
        }
    }

    /// Starts a call on a task of its own, so that a panic in it is caught and a batch runs side by side.
    fn begin(self: &Arc<Self>, call: Result<Call, Unreadable>, caller: &Arc<Caller>) -> Running {
        match call {
            Err(unreadable) => Running {
                namespace: None,
                id: unreadable.id,
                task: Err(unreadable.error),
            },
            Ok(call) => {
                let (rpc, caller) = (Arc::clone(self), Arc::clone(caller));
                let (namespace, id) = (Some(call.namespace.clone()), call.id.clone());
                let task = tokio::spawn(async move { rpc.call(call, &caller).await });
                Running {
                    namespace,
                    id,
                    task: Ok(task),
                }
            }
        }
    }

    async fn call(&self, call: Call, caller: &Caller) -> Outcome {
        let begun = Instant::now();
        let outcome = self.dispatch(call, caller).await;
        let code = outcome.as_ref().err().map_or(0, |error| error.code);
        counters::answered(code, begun.elapsed().as_secs_f64());
        outcome
    }

    async fn dispatch(&self, call: Call, caller: &Caller) -> Outcome {
        let facts = self.facts.load_full();
        if facts.receiver && !receiver_answers(&call.method) {
            return Err(RpcError::cvp_closed(&call.method.chars().take(64).collect::<String>()));
        }
        if configuration::is_ours(&call.method) {
            let node = self.configuration.get().and_then(Weak::upgrade);
            return configuration::answer(&call.method, &Params::new(call.params), caller, node).await;
        }
        let chain = self
            .chains
            .get(&call.namespace)
            .ok_or_else(|| RpcError::namespace(&call.namespace))?;
        self.buckets.take(&call.namespace)?;
        let context = Context { chain, facts };
        let params = Params::new(call.params);
        if send::is_send(&call.method) {
            return send::answer(&params, &context).await;
        }
        if mq::is_queues(&call.method) {
            return mq::answer(&call.method, &params, &context, &self.queues).await;
        }
        let slot = Arc::clone(&self.queries).acquire_owned().await;
        let query = tokio::task::spawn_blocking(move || {
            let outcome = query(&call.method, &params, &context);
            drop(slot);
            outcome
        });
        query.await.unwrap_or_else(|join| Err(panicked(&join)))
    }
}

/// A query, on a blocking thread.
fn query(method: &str, params: &Params, context: &Context) -> Outcome {
    let answered = match method.split_once('_') {
        Some(("block", name)) => block::answer(name, params, context),
        Some(("tx", name)) => tx::answer(name, params, context),
        Some(("account", name)) => account::answer(name, params, context),
        Some(("contract", name)) => contract::answer(name, params, context),
        Some(("node", name)) => node::answer(name, context),
        Some(("version", name)) => version::answer(name, params, context),
        Some(("did", name)) => did::answer(name, context),
        _ => None,
    };
    answered.unwrap_or_else(|| Err(RpcError::method(method)))
}

fn panicked(join: &tokio::task::JoinError) -> RpcError {
    error!(%join, "a JSON-RPC method panicked");
    RpcError::internal("internal error of this node; see its log")
}

/// A call under way and what its answer needs.
struct Running {
    namespace: Option<String>,
    id: Option<Box<RawValue>>,
    task: Result<tokio::task::JoinHandle<Outcome>, RpcError>,
}

impl Running {
    /// A call that is not begun.
    fn refused(call: Call, error: RpcError) -> Self {
        Self {
            namespace: Some(call.namespace),
            id: call.id,
            task: Err(error),
        }
    }

    /// Namespace and id as the answer repeats them, and the outcome.
    async fn finish(self) -> (Option<String>, Option<Box<RawValue>>, Outcome) {
        let outcome = match self.task {
            Ok(task) => task.await.unwrap_or_else(|join| Err(panicked(&join))),
            Err(error) => Err(error),
        };
        (self.namespace, self.id, outcome)
    }
}
