//! What a client registers a queue for, as any of the SDKs spells it, checked and typed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Filter, Refused, shown};
use crate::types::{Height, Malformed, Reader, Writer};

/// Longest name of a queue, bytes.
pub(super) const NAME_BYTES_MAX: usize = 200;
/// Longest `from`, bytes.
const FROM_BYTES_MAX: usize = 128;
/// Most routing keys in one call.
const KEYS_MAX: usize = 16;

/// What a queue can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoutingKey {
    /// `MQException`: something of the node that a consumer must know.
    Exception = 0,
    /// `MQBlock`: every block.
    Block = 1,
    /// `MQLog`: what contracts logged.
    Log = 2,
}

impl RoutingKey {
    /// As messages and registrations spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            RoutingKey::Exception => "MQException",
            RoutingKey::Block => "MQBlock",
            RoutingKey::Log => "MQLog",
        }
    }

    fn parse(text: &str) -> Result<Self, Refused> {
        match text {
            "MQException" => Ok(RoutingKey::Exception),
            "MQBlock" => Ok(RoutingKey::Block),
            "MQLog" => Ok(RoutingKey::Log),
            "SignedMQBlock" | "SignedMQLog" | "SignedMQException" | "SignedMQFileInfo" | "SignedMQCheckpoint"
            | "SignedMQHvm" => Err(Refused::params(format!(
                "routing key {text} wants signed events, and this node has no certificate that signs them; register for {} instead",
                &text["Signed".len()..]
            ))),
            "MQFileInfo" | "MQCheckpoint" | "MQHvm" => Err(Refused::params(format!(
                "routing key {text}: this node makes no such events"
            ))),
            other => Err(Refused::params(format!(
                "routing key {:?} is not known: MQBlock, MQLog and MQException are",
                shown(other)
            ))),
        }
    }

    fn from_number(number: u8) -> Result<Self, Malformed> {
        [RoutingKey::Exception, RoutingKey::Block, RoutingKey::Log]
            .into_iter()
            .find(|key| *key as u8 == number)
            .ok_or_else(|| Malformed::new(format!("routing key {number}")))
    }
}

/// A queue's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Name of the queue.
    pub queue: String,
    /// What it is told.
    pub keys: BTreeSet<RoutingKey>,
    /// Who registered, as said; not checked (the platform reserves the signature).
    pub from: String,
    /// Blocks come with their transactions.
    pub verbose: bool,
    /// First height; none for the next block.
    pub from_block: Option<Height>,
    /// Last height; none for no end.
    pub to_block: Option<Height>,
    /// Which logs.
    pub filter: Filter,
    /// Only blocks that the standby holds too, while one is attached.
    pub delay: bool,
}

impl Registration {
    /// Reads the object of `mq_register`; names of members in any case.
    ///
    /// # Errors
    /// [`super::code::INVALID_PARAMS`], naming the member.
    pub fn from_json(value: &Value) -> Result<Self, Refused> {
        let Value::Object(members) = value else {
            return Err(Refused::params("the registration must be an object"));
        };
        let get = |name: &str| {
            let exact = members.get(name);
            let found = exact.or_else(|| {
                let found = members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value)
            });
            found.filter(|value| !value.is_null())
        };
        let registration = Self {
            queue: queue_name(get("queueName"))?,
            keys: keys(get("routingKeys"))?,
            from: short_text(get("from"), "from")?,
            verbose: flag(get("isVerbose"), "isVerbose")?,
            from_block: height(get("fromBlock"), "fromBlock")?,
            to_block: height(get("toBlock"), "toBlock")?,
            filter: Filter::from_json(get("addresses"), get("topics"))?,
            delay: flag(get("delay"), "delay")?,
        };
        check_no_key(&registration.queue)?;
        if let (Some(from), Some(to)) = (registration.from_block, registration.to_block)
            && from > to
        {
            return Err(Refused::params(format!("fromBlock {from} is above toBlock {to}")));
        }
        Ok(registration)
    }

    /// Bytes of the encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.into_bytes()
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.text(&self.queue);
        out.u32(self.keys.len() as u32);
        self.keys.iter().for_each(|key| out.u8(*key as u8));
        out.text(&self.from);
        out.flag(self.verbose);
        out.flag(self.delay);
        out.option(self.from_block.as_ref(), |out, height| out.u64(*height));
        out.option(self.to_block.as_ref(), |out, height| out.u64(*height));
        self.filter.write(out);
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let queue = input.text(NAME_BYTES_MAX)?.to_owned();
        check_name(&queue).map_err(|refused| Malformed::new(refused.message))?;
        let count = input.count(KEYS_MAX, 1)?;
        let keys = (0..count)
            .map(|_| RoutingKey::from_number(input.u8()?))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            queue,
            keys,
            from: input.text(FROM_BYTES_MAX)?.to_owned(),
            verbose: input.flag()?,
            delay: input.flag()?,
            from_block: input.option(Reader::u64)?,
            to_block: input.option(Reader::u64)?,
            filter: Filter::read(input)?,
        })
    }
}

fn queue_name(value: Option<&Value>) -> Result<String, Refused> {
    let name = value.and_then(Value::as_str);
    let name = name.ok_or_else(|| Refused::params("queueName must be a text"))?;
    check_name(name)?;
    Ok(name.to_owned())
}

/// A new queue is bound by its name: one that is a routing key would get the messages of all others.
fn check_no_key(name: &str) -> Result<(), Refused> {
    let plain = name.strip_prefix("Signed").unwrap_or(name);
    if ["MQBlock", "MQLog", "MQException", "MQFileInfo", "MQCheckpoint"].contains(&plain) {
        return Err(Refused::params(format!(
            "queueName {:?} is a routing key: give the queue a name of its own",
            shown(name)
        )));
    }
    Ok(())
}

/// A name must stand in a path, in a broker and in a line of a table.
fn check_name(name: &str) -> Result<(), Refused> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':' | b'@');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
        return Err(Refused::params(format!(
            "queueName {:?} ({} bytes): 1 to {NAME_BYTES_MAX} letters, digits, '_', '-', '.', ':' or '@' are taken",
            shown(name),
            name.len()
        )));
    }
    let first = name.as_bytes().first().copied();
    if !first.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') || name.starts_with("amq.") {
        return Err(Refused::params(format!(
            "queueName {:?} must begin with a letter, a digit or '_', and not with \"amq.\", which brokers reserve",
            shown(name)
        )));
    }
    Ok(())
}

fn keys(value: Option<&Value>) -> Result<BTreeSet<RoutingKey>, Refused> {
    let items = super::filter::list(value, "routingKeys", KEYS_MAX)?;
    if items.is_empty() {
        return Err(Refused::params("routingKeys must name at least one key"));
    }
    let key = |item: &Value| match item.as_str() {
        Some(text) => RoutingKey::parse(text),
        None => Err(Refused::params("a routing key must be a text")),
    };
    items.iter().map(key).collect()
}

fn short_text(value: Option<&Value>, name: &str) -> Result<String, Refused> {
    match value {
        None => Ok(String::new()),
        Some(Value::String(text)) if text.len() <= FROM_BYTES_MAX => Ok(text.clone()),
        Some(_) => Err(Refused::params(format!(
            "{name} must be a text of at most {FROM_BYTES_MAX} bytes"
        ))),
    }
}

fn flag(value: Option<&Value>, name: &str) -> Result<bool, Refused> {
    match value {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text.is_empty() || text.eq_ignore_ascii_case("false") => Ok(false),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(_) => Err(Refused::params(format!("{name} must be true or false"))),
    }
}

/// A height as a number, decimal or `0x` hex; empty and `latest` stand for none.
fn height(value: Option<&Value>, name: &str) -> Result<Option<Height>, Refused> {
    let read = match value {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() || text.eq_ignore_ascii_case("latest") => return Ok(None),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(digits, 16).ok(),
            None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        },
        Some(_) => None,
    };
    // Heights of other parties fit 63 bits; above, something else was meant.
    let read = read.filter(|height| i64::try_from(*height).is_ok());
    read.map(Some).ok_or_else(|| {
        let given = value.map(ToString::to_string).unwrap_or_default();
        Refused::params(format!("{name} {} is no height", shown(&given)))
    })
}
