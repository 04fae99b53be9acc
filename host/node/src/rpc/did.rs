//! `did_getChainID`: the text that SetChainID wrote.

use cvp_core::chain::state;

use super::Context;
use super::envelope::{Outcome, json};
use super::error::{DID, RpcError};

/// Answers `method` (without its prefix), or None if the family has no such method.
pub fn answer(method: &str, context: &Context) -> Option<Outcome> {
    (method == "getChainID").then(|| chain_id(context))
}

fn chain_id(context: &Context) -> Outcome {
    match context.view().state(&state::chain_id_key())? {
        Some(text) => json(&String::from_utf8_lossy(&text)),
        None => Err(RpcError::new(DID, "the chain id is not set")),
    }
}
