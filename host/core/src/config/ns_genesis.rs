//! `<namespace>/ns_genesis.toml`: read at the first start only; the same on every node of a chain.

use std::collections::BTreeMap;

use toml::Value;

use super::keys::Keys;
use crate::types::Hostname;

/// Comment that marks the genesis which `init` writes for development; its keys are public, so `status` warns of it.
pub const DEVELOPMENT_MARK: &str = "# development-genesis";

/// One `[[genesis.nodes]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenesisNode {
    /// `genesisNode`.
    pub hostname: Hostname,
    /// `certContent`, PEM; may be empty.
    pub certificate: String,
}

/// The keys of `ns_genesis.toml`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NsGenesis {
    /// `genesis.ca_mode`: Center, Distributed or None.
    pub ca_mode: String,
    /// `genesis.root_ca`, PEM.
    pub root_ca: Vec<String>,
    /// `[genesis.alloc]`: address to balance (decimal text up to 2^256-1).
    pub alloc: BTreeMap<[u8; 20], String>,
    /// `[[genesis.nodes]]`.
    pub nodes: Vec<GenesisNode>,
    /// The file is the development genesis that `init` writes.
    pub development: bool,
}

impl NsGenesis {
    pub(super) fn read(keys: &mut Keys, text: &str) -> Self {
        let ca_mode = keys.text("genesis.ca_mode", "None");
        if !ca_mode.eq_ignore_ascii_case("none") {
            keys.problem(
                "genesis.ca_mode",
                format!("{ca_mode:?} is not supported by a SOLO chain"),
                "write \"None\"",
            );
        }
        Self {
            ca_mode,
            root_ca: keys.texts("genesis.root_ca"),
            alloc: read_alloc(keys),
            nodes: read_nodes(keys),
            development: text.lines().any(|l| l.trim() == DEVELOPMENT_MARK),
        }
    }
}

fn read_alloc(keys: &mut Keys) -> BTreeMap<[u8; 20], String> {
    let mut out = BTreeMap::new();
    let table = match keys.raw("genesis.alloc") {
        None => return out,
        Some(Value::Table(table)) => table,
        Some(_) => {
            let help = "write [genesis.alloc] with \"0x<40 hex>\" = \"<balance>\"";
            keys.problem("genesis.alloc", "is not a table", help);
            return out;
        }
    };
    for (account, balance) in table {
        let key = format!("genesis.alloc.{account}");
        let Some(address) = read_address(&account) else {
            keys.problem(
                &key,
                format!("{account:?} is no account"),
                "write 40 hex digits, with or without 0x",
            );
            continue;
        };
        let balance = match balance {
            Value::String(text) => text,
            Value::Integer(number) => number.to_string(),
            other => other.to_string(),
        };
        if !is_balance(&balance) {
            keys.problem(
                &key,
                format!("{balance:?} is no balance"),
                "write a decimal number in quotes, at least 1 and below 2^256",
            );
        } else if out.insert(address, balance).is_some() {
            keys.problem(&key, "stands there twice", "remove one of them");
        }
    }
    out
}

fn read_address(text: &str) -> Option<[u8; 20]> {
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(text);
    let mut out = [0; 20];
    hex::decode_to_slice(digits, &mut out).ok()?;
    Some(out)
}

/// A decimal of at least 1 that fits 256 bits.
fn is_balance(text: &str) -> bool {
    const MOST: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    let digits = text.trim_start_matches('0');
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() < MOST.len() || (digits.len() == MOST.len() && digits <= MOST))
}

fn read_nodes(keys: &mut Keys) -> Vec<GenesisNode> {
    let mut out = Vec::new();
    for table in keys.tables("genesis.nodes") {
        let text = |key: &str| table.get(key).and_then(|v| v.as_str()).unwrap_or("");
        match Hostname::new(text("genesisNode")) {
            Ok(hostname) => out.push(GenesisNode {
                hostname,
                certificate: text("certContent").to_owned(),
            }),
            Err(error) => {
                let help = "write genesisNode = \"<hostname>\"";
                keys.problem("genesis.nodes", error.to_string(), help);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_in_every_spelling() {
        let text = "# development-genesis\n[genesis]\nca_mode = \"None\"\n[genesis.alloc]\n\
            \"0x16318E532609d4b2e5345ff1cb0a9f0d5f5a5b52\" = \"1000000000\"\n\
            \"52ca039c10121c19b785b953c4f1169fcc126ab7\" = 7\n\
            [[genesis.nodes]]\ngenesisNode = \"node1\"\ncertContent = \"\"\n";
        let mut keys = Keys::parse("global/ns_genesis.toml", text);
        let genesis = NsGenesis::read(&mut keys, text);
        assert!(keys.finish().0.is_empty());
        assert_eq!(genesis.alloc.len(), 2);
        assert!(genesis.development);
        assert_eq!(genesis.nodes[0].hostname.as_str(), "node1");
    }

    #[test]
    fn balances_are_bounded() {
        assert!(is_balance("1") && is_balance("0012"));
        for bad in ["", "0", "-1", "1.5", "1e9", &"9".repeat(78)] {
            assert!(!is_balance(bad), "{bad}");
        }
    }
}
