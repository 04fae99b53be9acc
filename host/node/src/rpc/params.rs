//! Parameters as clients spell them: names in any case, quantities as numbers, decimal or hex strings.

use serde_json::{Map, Value};

use cvp_core::types::Height;

use super::error::RpcError;

/// Positional parameters of one call.
pub struct Params(Vec<Value>);

impl Params {
    /// Wraps what the envelope carried.
    pub fn new(params: Vec<Value>) -> Self {
        Self(params)
    }

    /// The parameter at `index`, if there and not null.
    pub fn get(&self, index: usize) -> Option<&Value> {
        self.0.get(index).filter(|value| !value.is_null())
    }

    /// The parameter at `index`; `name` is for the message.
    pub fn required(&self, index: usize, name: &str) -> Result<&Value, RpcError> {
        self.get(index)
            .ok_or_else(|| RpcError::params(format!("missing value for required argument {index} ({name})")))
    }

    /// A string.
    pub fn text(&self, index: usize, name: &str) -> Result<&str, RpcError> {
        self.required(index, name)?
            .as_str()
            .ok_or_else(|| RpcError::params(format!("{name} must be a string")))
    }

    /// A flag; absent is `false`.
    pub fn flag(&self, index: usize) -> Result<bool, RpcError> {
        self.get(index).map_or(Ok(false), |value| flag(value, "the flag"))
    }

    /// The object at `index`.
    pub fn fields(&self, index: usize) -> Result<Fields<'_>, RpcError> {
        match self.required(index, "object")? {
            Value::Object(members) => Ok(Fields(members)),
            _ => Err(RpcError::params(format!("argument {index} must be an object"))),
        }
    }
}

/// Members of an object parameter, found in any case.
#[derive(Clone, Copy)]
pub struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The member, if there and not null.
    pub fn get(self, name: &str) -> Option<&'a Value> {
        let exact = self.0.get(name);
        let found = exact.or_else(|| {
            let found = self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value)
        });
        found.filter(|value| !value.is_null())
    }

    /// The member.
    pub fn required(self, name: &str) -> Result<&'a Value, RpcError> {
        self.get(name)
            .ok_or_else(|| RpcError::params(format!("missing member {name}")))
    }

    /// A flag; absent is `false`.
    pub fn flag(self, name: &str) -> Result<bool, RpcError> {
        self.get(name).map_or(Ok(false), |value| flag(value, name))
    }

    /// A quantity.
    pub fn quantity(self, name: &str) -> Result<u64, RpcError> {
        quantity(self.required(name)?, name)
    }

    /// A quantity, if there and not an empty string.
    pub fn quantity_or(self, name: &str, absent: u64) -> Result<u64, RpcError> {
        match self.get(name) {
            None => Ok(absent),
            Some(Value::String(text)) if text.is_empty() => Ok(absent),
            Some(value) => quantity(value, name),
        }
    }

    /// A non-empty string, if there.
    pub fn text(self, name: &str) -> Result<Option<&'a str>, RpcError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(RpcError::params(format!("{name} must be a string"))),
        }
    }

    /// An array of at most `max` items.
    pub fn list(self, name: &str, max: usize) -> Result<&'a [Value], RpcError> {
        match self.required(name)? {
            Value::Array(items) if items.len() <= max => Ok(items),
            Value::Array(items) => Err(RpcError::params(format!(
                "{name} has {} entries, at most {max} are taken",
                items.len()
            ))),
            _ => Err(RpcError::params(format!("{name} must be an array"))),
        }
    }

    /// An object member, if there.
    pub fn fields(self, name: &str) -> Result<Option<Fields<'a>>, RpcError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Fields(members))),
            Some(_) => Err(RpcError::params(format!("{name} must be an object"))),
        }
    }
}

fn flag(value: &Value, name: &str) -> Result<bool, RpcError> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.is_empty() || text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(RpcError::params(format!("{name} must be true or false"))),
    }
}

/// A number, or a string of decimal digits or of 0x and hex digits.
pub fn quantity(value: &Value, name: &str) -> Result<u64, RpcError> {
    let parsed = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(digits, 16).ok(),
            Some(_) => None,
            None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            None => None,
        },
        _ => None,
    };
    parsed.ok_or_else(|| {
        let shown: String = value.to_string().chars().take(80).collect();
        RpcError::params(format!("{name} {shown} is not a valid number"))
    })
}

/// A block number: a quantity up to `latest`, or the word `latest`.
pub fn height(value: &Value, latest: Height) -> Result<Height, RpcError> {
    if value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("latest")) {
        return Ok(latest);
    }
    let height = quantity(value, "block number")?;
    if height > latest {
        return Err(RpcError::out_of_range(height, latest));
    }
    Ok(height)
}

/// `N` bytes in hex, 0x optional, any case.
pub fn bytes<const N: usize>(value: &Value, name: &str) -> Result<[u8; N], RpcError> {
    let bad = || {
        let shown: String = value.to_string().chars().take(80).collect();
        RpcError::params(format!("{name} {shown} is not {N} bytes of hex"))
    };
    let text = value.as_str().ok_or_else(bad)?;
    let digits = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .unwrap_or(text);
    let mut out = [0; N];
    hex::decode_to_slice(digits, &mut out).map_err(|_| bad())?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_quantity_comes_as_number_decimal_or_hex() {
        for good in [json!(17), json!("17"), json!("0x11"), json!("0X11")] {
            assert_eq!(quantity(&good, "n").unwrap(), 17);
        }
        for bad in [
            json!(-1),
            json!(1.5),
            json!("x"),
            json!("+1"),
            json!("0x+1"),
            json!([]),
            json!("99999999999999999999"),
        ] {
            assert_eq!(quantity(&bad, "n").unwrap_err().code, -32602, "{bad}");
        }
    }

    #[test]
    fn a_height_is_bounded_by_the_tip_and_latest_is_the_tip() {
        assert_eq!(height(&json!("latest"), 9).unwrap(), 9);
        assert_eq!(height(&json!("0x9"), 9).unwrap(), 9);
        assert_eq!(
            height(&json!(1), 0).unwrap_err().message,
            "block number 1 is out of range, and now latest block number is 0"
        );
    }

    #[test]
    fn members_are_found_in_any_case_and_the_exact_one_wins() {
        let params = Params::new(vec![json!({"PageSize": 3, "isplain": true, "IsPlain": false})]);
        let fields = params.fields(0).unwrap();
        assert_eq!(fields.quantity("pagesize").unwrap(), 3);
        assert!(fields.flag("isplain").unwrap());
        assert!(fields.quantity("from").is_err());
    }
}
