//! `contract_get*`: what can be said of contracts by a node that runs none yet. Sends are in `send`.

use super::Context;
use super::envelope::{Outcome, json};
use super::error::RpcError;
use super::params::{self, Params};

/// Answers `method` (without its prefix), or None if the family has no such method.
pub fn answer(method: &str, params: &Params, _context: &Context) -> Option<Outcome> {
    Some(match method {
        "getContractCountByAddr" => address(params).and_then(|_| json(&"0x0")),
        "getDeployedList" => address(params).and_then(|_| json(&[(); 0])),
        "getStatus" => address(params).and_then(|_| json(&"non-contract")),
        "getCode" => address(params).and_then(|_| json(&"0x")),
        "getCreator" | "getCreateTime" => {
            address(params).and_then(|address| none(&format!("0x{}", hex::encode(address))))
        }
        "getStatusByCName" => params.text(0, "contract name").and_then(|_| json(&"non-contract")),
        "getCreatorByCName" | "getCreateTimeByCName" => params.text(0, "contract name").and_then(none),
        _ => return None,
    })
}

fn address(params: &Params) -> Result<[u8; 20], RpcError> {
    params::bytes(params.required(0, "address")?, "address")
}

fn none(name: &str) -> Outcome {
    let shown: String = name.chars().take(80).collect();
    Err(RpcError::not_found(format!("Not found contract {shown}")))
}
