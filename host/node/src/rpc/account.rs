//! `account_get*`: balances, roles, status.

use cvp_core::chain::{Address, state};

use super::Context;
use super::envelope::{Outcome, json};
use super::error::{NO_ACCOUNT, RpcError};
use super::params::{self, Params};
use super::view::ChainView;

/// Answers `method` (without its prefix), or None if the family has no such method.
pub fn answer(method: &str, params: &Params, context: &Context) -> Option<Outcome> {
    let view = &context.view();
    Some(match method {
        "getBalance" => address(params).and_then(|account| balance(view, account)),
        "getRoles" => address(params).and_then(|account| json(&roles(view, account)?)),
        "getAccountsByRole" => accounts_by_role(view, params),
        "getStatus" => address(params).and_then(|account| status(view, account)),
        _ => return None,
    })
}

fn address(params: &Params) -> Result<Address, RpcError> {
    params::bytes(params.required(0, "address")?, "address").map(Address)
}

fn balance(view: &ChainView<'_>, account: Address) -> Outcome {
    let value = view.state(&state::balance_key(account))?;
    json(&format!("0x{:x}", state::balance(value.as_deref())))
}

fn roles(view: &ChainView<'_>, account: Address) -> Result<Vec<String>, RpcError> {
    let value = view.state(&state::roles_key(account))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&value);
    Ok(text
        .split(',')
        .filter(|role| !role.is_empty())
        .map(str::to_owned)
        .collect())
}

fn accounts_by_role(view: &ChainView<'_>, params: &Params) -> Outcome {
    let role = params.text(0, "role")?;
    if role.is_empty() || role.len() > 64 {
        return Err(RpcError::params("role must have 1 to 64 characters"));
    }
    let value = view.state(&state::accounts_key(role))?.unwrap_or_default();
    let accounts: Vec<String> = value
        .as_chunks::<20>()
        .0
        .iter()
        .map(|account| Address(*account).to_hex())
        .collect();
    json(&accounts)
}

/// `normal` for an account that the state knows by balance or role.
fn status(view: &ChainView<'_>, account: Address) -> Outcome {
    let known = view.state(&state::balance_key(account))?.is_some() || !roles(view, account)?.is_empty();
    if known {
        json(&"normal")
    } else {
        Err(RpcError::new(
            NO_ACCOUNT,
            format!("account {} does not exist", account.to_hex()),
        ))
    }
}
