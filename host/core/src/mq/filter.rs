//! Which logs of contracts a queue wants: by contract and by topics.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Refused, shown};
use crate::chain::{Address, Log};
use crate::types::{Malformed, Reader, Writer};

/// Most contracts of a filter.
pub(super) const ADDRESSES_MAX: usize = 256;
/// Positions of topics that a log has.
const POSITIONS_MAX: usize = 4;
/// Most alternatives at one position.
const ALTERNATIVES_MAX: usize = 64;

/// Contracts and topics wanted. Empty everywhere takes every log.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    /// Contracts, any of them; empty for all.
    pub addresses: BTreeSet<Address>,
    /// By position: any of these topics; empty for all. A log must match at every position.
    pub topics: Vec<BTreeSet<[u8; 32]>>,
}

impl Filter {
    /// Reads `addresses` and `topics` as clients spell them: hex, `0x` or not; `null` or an empty list takes all.
    pub(super) fn from_json(addresses: Option<&Value>, topics: Option<&Value>) -> Result<Self, Refused> {
        let addresses = list(addresses, "addresses", ADDRESSES_MAX)?;
        let addresses: Result<BTreeSet<Address>, Refused> = addresses
            .iter()
            .map(|value| hex_bytes(value, "an address").map(Address))
            .collect();
        let topics = list(topics, "topics", POSITIONS_MAX)?;
        let topics: Result<Vec<_>, Refused> = topics.iter().map(alternatives).collect();
        Ok(Self {
            addresses: addresses?,
            topics: topics?,
        })
    }

    /// Whether a queue wants `log`.
    pub fn takes(&self, log: &Log) -> bool {
        let address = self.addresses.is_empty() || self.addresses.contains(&log.address);
        address
            && self.topics.iter().enumerate().all(|(position, wanted)| {
                wanted.is_empty() || log.topics.get(position).is_some_and(|topic| wanted.contains(topic))
            })
    }

    /// Bytes of the encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.into_bytes()
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u32(self.addresses.len() as u32);
        self.addresses.iter().for_each(|address| out.raw(&address.0));
        out.u32(self.topics.len() as u32);
        for wanted in &self.topics {
            out.u32(wanted.len() as u32);
            wanted.iter().for_each(|topic| out.raw(topic));
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = input.count(ADDRESSES_MAX, 20)?;
        let addresses = (0..count)
            .map(|_| input.array().map(Address))
            .collect::<Result<_, _>>()?;
        let positions = input.count(POSITIONS_MAX, 4)?;
        let mut topics = Vec::with_capacity(positions);
        for _ in 0..positions {
            let count = input.count(ALTERNATIVES_MAX, 32)?;
            topics.push((0..count).map(|_| input.array()).collect::<Result<_, _>>()?);
        }
        Ok(Self { addresses, topics })
    }
}

/// A list, or none for null and absent ones.
pub(super) fn list<'a>(value: Option<&'a Value>, name: &str, max: usize) -> Result<&'a [Value], Refused> {
    match value {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) if items.len() <= max => Ok(items),
        Some(Value::Array(items)) => Err(Refused::params(format!(
            "{name} has {} entries, at most {max} are taken",
            items.len()
        ))),
        Some(_) => Err(Refused::params(format!("{name} must be a list"))),
    }
}

/// What is taken at one position: a topic, a list of them, or null for any.
fn alternatives(value: &Value) -> Result<BTreeSet<[u8; 32]>, Refused> {
    match value {
        Value::Null => Ok(BTreeSet::new()),
        Value::String(_) => Ok(BTreeSet::from([hex_bytes(value, "a topic")?])),
        _ => {
            let items = list(Some(value), "a position of topics", ALTERNATIVES_MAX)?;
            // One "any" among the alternatives takes any.
            if items.iter().any(Value::is_null) {
                return Ok(BTreeSet::new());
            }
            items.iter().map(|item| hex_bytes(item, "a topic")).collect()
        }
    }
}

fn hex_bytes<const N: usize>(value: &Value, what: &str) -> Result<[u8; N], Refused> {
    let text = value.as_str().unwrap_or_default();
    let digits = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .unwrap_or(text);
    let mut out = [0; N];
    match hex::decode_to_slice(digits, &mut out) {
        Ok(()) => Ok(out),
        Err(_) => Err(Refused::params(format!(
            "{} is not {what}: {} hex digits",
            shown(&value.to_string()),
            2 * N
        ))),
    }
}
