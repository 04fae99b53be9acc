//! Message queues of a node under test: switched on in its configuration, registered and read as a client does.

use std::io::Write as _;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::node::Node;
use crate::rpc::Rpc;

/// Switches the service on in `namespace` of a node that does not run; `more` is further TOML.
pub fn enable(node: &Node, namespace: &str, more: &str) -> Result<()> {
    let file = node.root().join(format!("configuration/{namespace}/ns_static.toml"));
    let mut file = std::fs::File::options().append(true).open(&file)?;
    Ok(write!(file, "\n[[service]]\nservice_name = \"MQ\"\n{more}\n")?)
}

/// Registers `queue` for `MQBlock` from block `from` on; answers the exchange's name.
pub fn register(rpc: &Rpc, queue: &str, from: u64) -> Result<String> {
    let params = json!([{"queueName": queue, "routingKeys": ["MQBlock"], "from": "0x1", "signature": "",
        "isVerbose": false, "fromBlock": from.to_string(), "toBlock": "", "addresses": [], "topics": [], "delay": false}]);
    let answer = inner(&rpc.call("mq_register", params)?)?;
    let exchanger = answer["exchangerName"].as_str();
    Ok(exchanger
        .with_context(|| format!("no exchange in {answer}"))?
        .to_owned())
}

/// The object inside a result that is a string of JSON.
pub fn inner(result: &Value) -> Result<Value> {
    let text = result
        .as_str()
        .with_context(|| format!("{result} is no string of JSON"))?;
    Ok(serde_json::from_str(text)?)
}
