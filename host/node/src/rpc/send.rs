//! Sends: every method that carries a signed transaction. Method and type are not tied: a TRANSFER may come through any of them.

use super::Context;
use super::envelope::{Outcome, json};
use super::error::RpcError;
use super::params::Params;
use super::shape;

/// Methods that take a transaction and answer its hash.
const METHODS: [&str; 4] = [
    "tx_sendTransaction",
    "contract_invokeContract",
    "contract_deployContract",
    "contract_maintainContract",
];

/// Whether `method` is a send.
pub fn is_send(method: &str) -> bool {
    METHODS.contains(&method)
}

/// Hands the transaction to the chain and answers its hash.
pub async fn answer(params: &Params, context: &Context) -> Outcome {
    let transaction = params.required(0, "transaction")?;
    let hash = context
        .chain
        .submit(transaction)
        .await
        .map_err(|error| RpcError::new(error.code, error.message))?;
    json(&shape::bytes(&hash))
}
