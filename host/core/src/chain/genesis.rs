//! Record 0: what a chain begins with. The same content gives the same bytes on every node, so its hash names the chain.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use bytes::Bytes;
use ruint::aliases::U256;

use super::state::{self, ADMIN, CONTRACT_MANAGER};
use super::{Address, execute::Changes};
use crate::record::{Accumulator, Delta, Draft, Local, encode, namespace_digest};
use crate::types::{Digest, Hostname, Incarnation, Malformed, Namespace, Writer};

/// What a genesis says, as `ns_genesis.toml` has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Genesis {
    /// Certificate mode: `None` for SOLO.
    pub ca_mode: String,
    /// Trusted CA certificates, PEM.
    pub root_ca: Vec<String>,
    /// Account to balance: decimal text from 1 to 2^256-1. Funded accounts administer chain and contracts.
    pub alloc: BTreeMap<[u8; 20], String>,
    /// First nodes: hostname and certificate, PEM.
    pub nodes: Vec<(String, String)>,
}

/// Encodes record 0 of `namespace`. Fails on a balance that is no number below 2^256, or when the balances add up to more.
pub fn genesis(namespace: &Namespace, content: &Genesis) -> Result<Bytes, Malformed> {
    let delta = Delta(changes(content)?);
    let mut accumulator = Accumulator::new();
    for (key, value) in &delta.0 {
        if let Some(value) = value {
            accumulator.add(key, value);
        }
    }
    let proposer = Hostname::new("genesis").map_err(|e| Malformed::new(e.to_string()))?;
    let draft = Draft {
        namespace: namespace_digest(namespace),
        height: 0,
        parent: Digest::ZERO,
        time: 0,
        incarnation: Incarnation { number: 0, id: [0; 16] },
        proposer,
        second_root: None,
        valid: 0,
        invalid: 0,
        valid_total: 0,
        invalid_total: 0,
        transactions: Vec::new(),
        receipts: Vec::new(),
        delta,
        local: Local {
            write_time: 0,
            average_time_ms: 0,
        },
    };
    encode(&draft, accumulator.digest())
}

fn changes(content: &Genesis) -> Result<Changes, Malformed> {
    let mut changes = Changes::new();
    let mut sum = U256::ZERO;
    let mut accounts = Vec::with_capacity(content.alloc.len() * 20);
    for (account, text) in &content.alloc {
        let wrong = || Malformed::new(format!("balance {text:?} of {}", Address(*account).to_hex()));
        let decimal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let balance = decimal
            .then(|| U256::from_str(text).ok())
            .flatten()
            .filter(|b| !b.is_zero());
        let balance = balance.ok_or_else(wrong)?;
        // Sums stay below 2^256, so that no transfer can ever overflow a balance.
        sum = sum
            .checked_add(balance)
            .ok_or_else(|| Malformed::new("the balances add up to more than 2^256"))?;
        let account = Address(*account);
        changes.insert(state::balance_key(account), state::balance_value(balance));
        changes.insert(
            state::roles_key(account),
            Some(format!("{ADMIN},{CONTRACT_MANAGER}").into_bytes()),
        );
        accounts.extend_from_slice(&account.0);
    }
    if !accounts.is_empty() {
        changes.insert(state::accounts_key(ADMIN), Some(accounts.clone()));
        changes.insert(state::accounts_key(CONTRACT_MANAGER), Some(accounts));
    }
    changes.insert(state::genesis_key(), Some(described(content)));
    Ok(changes)
}

/// What has no key of its own yet still enters the hash: nodes that disagree about it must not pair.
fn described(content: &Genesis) -> Vec<u8> {
    let mut out = Writer::new();
    out.text(&content.ca_mode);
    out.u32(content.root_ca.len() as u32);
    content.root_ca.iter().for_each(|pem| out.text(pem));
    out.u32(content.nodes.len() as u32);
    for (hostname, certificate) in &content.nodes {
        out.text(hostname);
        out.text(certificate);
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{check_genesis, parse};

    fn content(balance: &str) -> Genesis {
        Genesis {
            ca_mode: "None".into(),
            alloc: BTreeMap::from([([7; 20], balance.to_owned())]),
            ..Genesis::default()
        }
    }

    #[test]
    fn the_same_content_is_the_same_record() {
        let global = Namespace::new("global").expect("a name");
        let first = genesis(&global, &content("1000")).expect("good");
        assert_eq!(first, genesis(&global, &content("1000")).expect("good"));
        check_genesis(&namespace_digest(&global), first.clone()).expect("it checks");
        let hash = |bytes: &Bytes| parse(bytes).expect("it parses").hash();
        assert_ne!(hash(&first), hash(&genesis(&global, &content("1001")).expect("good")));
        let other = genesis(&Namespace::new("ns1").expect("a name"), &content("1000")).expect("good");
        assert_ne!(hash(&first), hash(&other), "another namespace is another chain");
    }

    #[test]
    fn a_balance_is_a_positive_decimal_below_the_limit() {
        let global = Namespace::new("global").expect("a name");
        let largest = U256::MAX.to_string();
        assert!(genesis(&global, &content(&largest)).is_ok());
        for wrong in ["", "0", "-1", "0x10", "1e9", &format!("{largest}0")] {
            assert!(genesis(&global, &content(wrong)).is_err(), "{wrong}");
        }
    }
}
