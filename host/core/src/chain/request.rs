//! The parameter object of a sent transaction, as any of the SDKs spells it, checked and typed. Member names are matched without case.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use super::{Address, Kind, code};

/// Longest payload, bytes. The HTTP body is bounded before; this bounds what other doors may bring.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;
/// Longest evidence text, bytes.
pub const EXTRA_BYTES_MAX: usize = 8 << 20;
/// Most index ids of a transaction.
pub const EXTRA_IDS_MAX: usize = 30;
/// Longest index id of text, characters.
pub const EXTRA_ID_CHARS_MAX: usize = 1024;
/// Longest signature with its public key, bytes.
pub const SIGNATURE_BYTES_MAX: usize = 512;
/// Longest contract name or version, bytes.
pub const SHORT_TEXT_BYTES_MAX: usize = 256;

/// Parameters that are no transaction. Answered with code -32602.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid params: {message}")]
pub struct BadRequest {
    /// JSON-RPC code.
    pub code: i64,
    /// Which member, and what it must be.
    pub message: String,
}

impl BadRequest {
    fn new(message: impl Into<String>) -> Self {
        Self {
            code: code::INVALID_PARAMS,
            message: message.into(),
        }
    }
}

/// An id that clients can search transactions by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtraId {
    /// A number (`extraIdInt64`).
    Number(i64),
    /// A text (`extraIdString`).
    Text(String),
}

/// Gas members, where the client sent any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gas {
    /// Price a unit.
    pub price: u64,
    /// Limit of units.
    pub limit: u64,
    /// Nanoseconds since 1970 after which the transaction is void; 0 means never.
    pub expiration: u64,
}

/// Who pays in the sender's place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Participant {
    /// Address bytes of the initiator.
    pub initiator: Vec<u8>,
    /// Address bytes of those who keep the result back.
    pub withholding: Vec<Vec<u8>>,
}

/// A transaction as sent, not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Sender.
    pub from: Address,
    /// Receiver; none for a deployment.
    pub to: Option<Address>,
    /// Value moved.
    pub value: u64,
    /// Contract code or call; empty for a transfer.
    pub payload: Vec<u8>,
    /// When the client made it, nanoseconds since 1970.
    pub timestamp: u64,
    /// Any number: makes the text unique.
    pub nonce: u64,
    /// Operation on a contract, 0 for none.
    pub opcode: u32,
    /// Evidence text.
    pub extra: String,
    /// Index ids: numbers, then texts.
    pub extra_ids: Vec<ExtraId>,
    /// Kind.
    pub kind: Kind,
    /// Version the client says it signed with.
    pub version: Option<String>,
    /// Whether the version came as `txVersion`, as the Go SDK spells it.
    pub go_shape: bool,
    /// Contract name, else empty.
    pub cname: String,
    /// Gas members; none from clients that know none.
    pub gas: Option<Gas>,
    /// Participant, seldom.
    pub participant: Option<Participant>,
    /// Flag, public key where the kind has one, signature.
    pub signature: Vec<u8>,
}

/// Members by lower-case name.
struct Members<'a>(Vec<(String, &'a Value)>);

impl<'a> Members<'a> {
    fn new(object: &'a Map<String, Value>) -> Self {
        Self(object.iter().map(|(k, v)| (k.to_ascii_lowercase(), v)).collect())
    }

    /// The member of any of `names` (lower case) that is present and not null.
    fn get(&self, names: &[&str]) -> Option<&'a Value> {
        let found = self.0.iter().find(|(k, v)| names.contains(&k.as_str()) && !v.is_null());
        found.map(|(_, v)| *v)
    }

    fn text(&self, names: &[&str]) -> Result<&'a str, BadRequest> {
        match self.get(names) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(BadRequest::new(format!("{} must be a string", names[0]))),
        }
    }

    fn number(&self, names: &[&str]) -> Result<Option<u64>, BadRequest> {
        let Some(value) = self.get(names) else {
            return Ok(None);
        };
        let parsed = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            },
            _ => None,
        };
        let wrong = || BadRequest::new(format!("{} must be a whole number from 0 to 2^64-1", names[0]));
        parsed.map(Some).ok_or_else(wrong)
    }

    fn bytes(&self, names: &[&str], max: usize) -> Result<Vec<u8>, BadRequest> {
        let text = self.text(names)?;
        let digits = text
            .strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))
            .unwrap_or(text);
        if digits.len() / 2 > max {
            return Err(BadRequest::new(format!("{} is longer than {max} bytes", names[0])));
        }
        if digits == "0" {
            return Ok(Vec::new());
        }
        hex::decode(digits).map_err(|_| BadRequest::new(format!("{} must be hex digits, two a byte", names[0])))
    }

    fn address(&self, name: &str) -> Result<Option<Address>, BadRequest> {
        let bytes = self.bytes(&[name], 64)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let wrong = |_| BadRequest::new(format!("{name} must be an address of 40 hex digits"));
        bytes.try_into().map(Address).map(Some).map_err(wrong)
    }
}

impl Request {
    /// Reads the one parameter object of tx_sendTransaction and its relatives.
    pub fn from_json(params: &Value) -> Result<Self, BadRequest> {
        let object = params
            .as_object()
            .ok_or_else(|| BadRequest::new("a transaction object is expected"))?;
        let members = Members::new(object);
        no_simulation(&members)?;
        let from = members
            .address("from")?
            .ok_or_else(|| BadRequest::new("from is missing"))?;
        let name = members.text(&["type", "vmtype"])?;
        let kind = if name.is_empty() {
            Some(Kind::Evm)
        } else {
            Kind::from_name(name)
        };
        let go = members.get(&["txversion"]).is_some();
        let version = members.text(&["version", "txversion"])?;
        let request = Self {
            from,
            to: members.address("to")?,
            value: members.number(&["value"])?.unwrap_or(0),
            payload: members.bytes(&["payload"], PAYLOAD_BYTES_MAX)?,
            timestamp: members
                .number(&["timestamp"])?
                .ok_or_else(|| BadRequest::new("timestamp is missing"))?,
            nonce: members
                .number(&["nonce"])?
                .ok_or_else(|| BadRequest::new("nonce is missing"))?,
            opcode: opcode(&members)?,
            extra: short(members.text(&["extra", "optionextra"])?, "extra", EXTRA_BYTES_MAX)?,
            extra_ids: extra_ids(&members)?,
            kind: kind.ok_or_else(|| BadRequest::new(format!("type {name:?} is not known")))?,
            version: if version.is_empty() {
                None
            } else {
                Some(version_text(version)?)
            },
            go_shape: go,
            cname: contract_name(members.text(&["cname"])?)?,
            gas: gas(&members)?,
            participant: participant(&members)?,
            signature: members.bytes(&["signature"], SIGNATURE_BYTES_MAX)?,
        };
        if request.signature.is_empty() {
            return Err(BadRequest::new("signature is missing"));
        }
        Ok(request)
    }

    /// The list of index ids as compact JSON; empty where there are none.
    pub fn extra_ids_json(&self) -> String {
        if self.extra_ids.is_empty() {
            return String::new();
        }
        let items: Vec<Value> = self
            .extra_ids
            .iter()
            .map(|id| match id {
                ExtraId::Number(number) => Value::from(*number),
                ExtraId::Text(text) => Value::from(text.as_str()),
            })
            .collect();
        Value::Array(items).to_string()
    }
}

/// A client that asks for a trial run must never get the real thing.
fn no_simulation(members: &Members<'_>) -> Result<(), BadRequest> {
    match members.get(&["simulate"]) {
        None | Some(Value::Bool(false)) => Ok(()),
        Some(Value::Bool(true)) => Err(BadRequest::new("simulation is not supported yet")),
        Some(_) => Err(BadRequest::new("simulate must be true or false")),
    }
}

fn short(text: &str, name: &str, max: usize) -> Result<String, BadRequest> {
    if text.len() > max {
        return Err(BadRequest::new(format!("{name} is longer than {max} bytes")));
    }
    Ok(text.to_owned())
}

/// The signed text carries version and contract name as they are, so neither may spell the members behind it: a name that ends in
/// `&price=..&expirationTimestamp=..` would make the text of a transaction that expires into the text of one that does not.
fn version_text(text: &str) -> Result<String, BadRequest> {
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(BadRequest::new("version must be numbers with points between"));
    }
    short(text, "version", SHORT_TEXT_BYTES_MAX)
}

fn contract_name(text: &str) -> Result<String, BadRequest> {
    if text.contains(['&', '=']) {
        return Err(BadRequest::new("cname must not contain & or ="));
    }
    short(text, "cname", SHORT_TEXT_BYTES_MAX)
}

fn opcode(members: &Members<'_>) -> Result<u32, BadRequest> {
    let number = members.number(&["opcode"])?.unwrap_or(0);
    u32::try_from(number)
        .ok()
        .filter(|code| *code <= 1000)
        .ok_or_else(|| BadRequest::new("opCode must be a number up to 1000"))
}

fn gas(members: &Members<'_>) -> Result<Option<Gas>, BadRequest> {
    let (price, limit, expiration) = (
        members.number(&["gasprice"])?,
        members.number(&["gaslimit"])?,
        members.number(&["expirationtimestamp"])?,
    );
    if price.is_none() && limit.is_none() && expiration.is_none() {
        return Ok(None);
    }
    Ok(Some(Gas {
        price: price.unwrap_or(0),
        limit: limit.unwrap_or(0),
        expiration: expiration.unwrap_or(0),
    }))
}

/// `extraIdInt64` and `extraIdString`, or the Java SDK's one mixed list `extraIds`.
fn extra_ids(members: &Members<'_>) -> Result<Vec<ExtraId>, BadRequest> {
    let mut ids = Vec::new();
    for name in ["extraidint64", "extraidstring", "extraids", "extraid"] {
        let Some(value) = members.get(&[name]) else {
            continue;
        };
        let list = value
            .as_array()
            .ok_or_else(|| BadRequest::new(format!("{name} must be a list")))?;
        for item in list {
            ids.push(match (item.as_i64(), item.as_str()) {
                (Some(number), _) => ExtraId::Number(number),
                (None, Some(text)) if text.chars().count() <= EXTRA_ID_CHARS_MAX => ExtraId::Text(text.to_owned()),
                _ => {
                    let message =
                        format!("{name} holds 64-bit numbers or texts of up to {EXTRA_ID_CHARS_MAX} characters");
                    return Err(BadRequest::new(message));
                }
            });
        }
    }
    if ids.len() > EXTRA_IDS_MAX {
        return Err(BadRequest::new(format!("more than {EXTRA_IDS_MAX} extra ids")));
    }
    Ok(ids)
}

fn participant(members: &Members<'_>) -> Result<Option<Participant>, BadRequest> {
    let Some(Value::Object(object)) = members.get(&["participant"]) else {
        return Ok(None);
    };
    let inner = Members::new(object);
    let decode = |text: &str| {
        let bytes = BASE64.decode(text).ok().filter(|bytes| bytes.len() <= 64);
        bytes.ok_or_else(|| BadRequest::new("participant holds base64 addresses"))
    };
    let initiator = decode(inner.text(&["initiator"])?)?;
    let list = inner.get(&["withholding"]).and_then(Value::as_array);
    let mut withholding = Vec::new();
    for item in list.into_iter().flatten().take(EXTRA_IDS_MAX) {
        withholding.push(decode(item.as_str().unwrap_or_default())?);
    }
    let empty = initiator.is_empty() && withholding.is_empty();
    Ok((!empty).then_some(Participant { initiator, withholding }))
}
