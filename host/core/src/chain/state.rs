//! The state: typed keys, and what stands behind each.
//!
//! A key is kind (1 byte) ++ address (20 bytes, zero for the chain's own) ++ slot. A new kind of value gets a new kind byte.

use ruint::aliases::U256;

use super::Address;

const BALANCE: u8 = 1;
const ROLE: u8 = 2;
const CHAIN: u8 = 3;

/// Reads state values by key.
pub trait StateView {
    /// What went wrong in the store.
    type Error;
    /// The value of `key`, or none.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;
}

fn key(kind: u8, address: Address, slot: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(21 + slot.len());
    key.push(kind);
    key.extend_from_slice(&address.0);
    key.extend_from_slice(slot);
    key
}

/// Key of an account's balance: 32 bytes big-endian.
pub fn balance_key(account: Address) -> Vec<u8> {
    key(BALANCE, account, &[])
}

/// Key of an account's roles: texts, separated by commas.
pub fn roles_key(account: Address) -> Vec<u8> {
    key(ROLE, account, &[])
}

/// Key of the accounts that have `role`: their addresses, 20 bytes each, ascending.
pub fn accounts_key(role: &str) -> Vec<u8> {
    key(ROLE, Address::default(), role.as_bytes())
}

/// Key of the chain id: text.
pub fn chain_id_key() -> Vec<u8> {
    key(CHAIN, Address::default(), b"chain-id")
}

/// Key of what genesis says beyond balances and roles.
pub fn genesis_key() -> Vec<u8> {
    key(CHAIN, Address::default(), b"genesis")
}

/// Key of the take-over that began incarnation `number`.
pub fn takeover_key(number: u64) -> Vec<u8> {
    let slot = [b"takeover/".as_slice(), &number.to_be_bytes()].concat();
    key(CHAIN, Address::default(), &slot)
}

/// Role of accounts that genesis funds.
pub const ADMIN: &str = "admin";
/// Second role of accounts that genesis funds.
pub const CONTRACT_MANAGER: &str = "contractManager";

/// Balance out of its value bytes; an absent one is 0.
pub fn balance(value: Option<&[u8]>) -> U256 {
    value.and_then(U256::try_from_be_slice).unwrap_or(U256::ZERO)
}

/// Value bytes of a balance; none for 0, so that an empty account leaves no key.
pub fn balance_value(balance: U256) -> Option<Vec<u8>> {
    (!balance.is_zero()).then(|| balance.to_be_bytes::<32>().to_vec())
}
