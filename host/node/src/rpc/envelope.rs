//! The flat envelope: a body becomes calls, answers become text. Knows no method.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::{BAD_JSON, RpcError};

/// Requests in one array, at most; the body cap bounds their bytes.
pub const BATCH_CALLS_MAX: usize = 1_000;
/// Longest id echoed, bytes.
const ID_BYTES_MAX: usize = 256;
/// The namespace of a request that names none.
const DEFAULT_NAMESPACE: &str = "global";

/// One request.
#[derive(Debug)]
pub struct Call {
    /// Name of the namespace, not checked yet.
    pub namespace: String,
    /// Method, not checked yet.
    pub method: String,
    /// Positional parameters.
    pub params: Vec<Value>,
    /// The id's own text, echoed byte for byte.
    pub id: Option<Box<RawValue>>,
}

/// A request that could not be read, with what is known for its answer.
#[derive(Debug)]
pub struct Unreadable {
    /// The id, when it could be read.
    pub id: Option<Box<RawValue>>,
    /// Why.
    pub error: RpcError,
}

/// A body: one request, or an array of them answered in order.
#[derive(Debug)]
pub enum Body {
    /// One object.
    One(Result<Call, Unreadable>),
    /// An array.
    Many(Vec<Result<Call, Unreadable>>),
}

/// Reads a body. Never fails: what cannot be read becomes an [`Unreadable`].
pub fn parse(bytes: &[u8]) -> Body {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Body::One(Err(unreadable(RpcError::request("EOF"))));
    }
    let whole: &RawValue = match serde_json::from_slice(bytes) {
        Ok(whole) => whole,
        Err(error) => return Body::One(Err(unreadable(bad_json(&error)))),
    };
    if !whole.get().starts_with('[') {
        return Body::One(parse_call(whole));
    }
    let calls: Vec<&RawValue> = match serde_json::from_str(whole.get()) {
        Ok(calls) => calls,
        Err(error) => return Body::One(Err(unreadable(bad_json(&error)))),
    };
    match calls.len() {
        0 => Body::One(Err(unreadable(RpcError::request("empty batch")))),
        count if count > BATCH_CALLS_MAX => Body::One(Err(unreadable(RpcError::request(format!(
            "batch of {count} requests, at most {BATCH_CALLS_MAX} are taken"
        ))))),
        _ => Body::Many(calls.into_iter().map(parse_call).collect()),
    }
}

fn unreadable(error: RpcError) -> Unreadable {
    Unreadable { id: None, error }
}

fn bad_json(error: &serde_json::Error) -> RpcError {
    RpcError::new(BAD_JSON, format!("invalid JSON: {error}"))
}

fn parse_call(raw: &RawValue) -> Result<Call, Unreadable> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| unreadable(RpcError::request("a request must be a JSON object")))?;
    // Member names in any case, as the platform's own decoder takes them; an exact spelling wins.
    let member = |name: &str| {
        members.get(name).or_else(|| {
            let found = members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value)
        })
    };
    let id = match member("id") {
        None => None,
        Some(id) if is_plain_id(id.get()) => Some((*id).to_owned()),
        Some(_) => {
            return Err(unreadable(RpcError::request("id must be a number or a short string")));
        }
    };
    let fail = |error| Unreadable { id: id.clone(), error };
    let text = |name: &str| -> Result<Option<String>, Unreadable> {
        let Some(value) = member(name) else {
            return Ok(None);
        };
        serde_json::from_str::<Option<String>>(value.get())
            .map_err(|_| fail(RpcError::request(format!("{name} must be a string"))))
    };
    let method = text("method")?.ok_or_else(|| fail(RpcError::request("method is missing")))?;
    let namespace = text("namespace")?
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let params = match member("params") {
        None => Vec::new(),
        Some(params) => match serde_json::from_str::<Value>(params.get()) {
            Ok(Value::Null) => Vec::new(),
            Ok(Value::Array(params)) => params,
            Ok(single @ Value::Object(_)) => vec![single],
            Ok(_) => return Err(fail(RpcError::params("params must be an array"))),
            Err(error) => return Err(fail(RpcError::params(format!("params: {error}")))),
        },
    };
    Ok(Call {
        namespace,
        method,
        params,
        id,
    })
}

fn is_plain_id(raw: &str) -> bool {
    raw.len() <= ID_BYTES_MAX
        && (raw == "null" || raw.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit()))
}

/// What a method answers: JSON ready to send, or a refusal.
pub type Outcome = Result<Box<RawValue>, RpcError>;

#[derive(Serialize)]
struct Answer<'a> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    code: i64,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
}

/// The text of one answer.
pub fn render(namespace: Option<&str>, id: Option<&RawValue>, outcome: &Outcome) -> String {
    let answer = match outcome {
        Ok(result) => Answer {
            jsonrpc: "2.0",
            namespace,
            id,
            code: 0,
            message: "SUCCESS",
            result: Some(result),
        },
        Err(error) => Answer {
            jsonrpc: "2.0",
            namespace,
            id,
            code: error.code,
            message: &error.message,
            result: None,
        },
    };
    // Plain strings, numbers and checked JSON always serialise; the constant keeps the line free of a panic.
    serde_json::to_string(&answer)
        .unwrap_or_else(|_| r#"{"jsonrpc":"2.0","code":-32000,"message":"answer cannot be written"}"#.to_owned())
}

/// A family's result as JSON.
pub fn json<T: Serialize>(value: &T) -> Outcome {
    serde_json::value::to_raw_value(value)
        .map_err(|error| RpcError::internal(format!("answer cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Call, Unreadable> {
        match parse(text.as_bytes()) {
            Body::One(one) => one,
            Body::Many(many) => panic!("{many:?}"),
        }
    }

    #[test]
    fn a_request_is_read_with_defaults_and_its_id_kept_exactly() {
        let call = one(r#" {"jsonrpc":"2.0","Method":"tx_x","id":9007199254740993} "#).unwrap();
        assert_eq!((call.namespace.as_str(), call.method.as_str()), ("global", "tx_x"));
        assert!(call.params.is_empty());
        assert_eq!(call.id.unwrap().get(), "9007199254740993");
        let call = one(r#"{"namespace":"","method":"m","params":null,"id":"a\u0041"}"#).unwrap();
        assert_eq!(call.namespace, "global");
        assert_eq!(call.id.unwrap().get(), r#""a\u0041""#);
    }

    #[test]
    fn numbers_of_64_bits_arrive_exactly() {
        let call = one(r#"{"method":"m","params":[{"nonce":9223372036854775807}]}"#).unwrap();
        assert_eq!(call.params[0]["nonce"].as_i64(), Some(i64::MAX));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_code() {
        for (text, code) in [
            ("", -32600),
            (" \n", -32600),
            ("{", -32700),
            ("\u{1}", -32700),
            ("7", -32600),
            ("[]", -32600),
            (r#"{"method":7}"#, -32600),
            (r#"{"id":1}"#, -32600),
            (r#"{"method":"m","id":{}}"#, -32600),
            (r#"{"method":"m","params":7}"#, -32602),
        ] {
            assert_eq!(one(text).unwrap_err().error.code, code, "{text}");
        }
        assert_eq!(one("").unwrap_err().error.message, "EOF");
        let deep = format!(r#"{{"method":"m","params":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(one(&deep).unwrap_err().error.code, -32602);
    }

    #[test]
    fn a_batch_keeps_its_order_and_is_bounded() {
        let Body::Many(calls) = parse(br#"[{"method":"a","id":1},7,{"method":"b","id":2}]"#) else {
            panic!("no batch");
        };
        assert_eq!(calls[0].as_ref().unwrap().method, "a");
        assert_eq!(calls[1].as_ref().unwrap_err().error.code, -32600);
        assert_eq!(calls[2].as_ref().unwrap().method, "b");
        let many = format!("[{}]", vec!["{}"; BATCH_CALLS_MAX + 1].join(","));
        assert_eq!(one(&many).unwrap_err().error.code, -32600);
    }

    #[test]
    fn an_answer_has_the_members_in_the_platforms_order() {
        let id = serde_json::value::to_raw_value(&1).unwrap();
        let good = render(Some("global"), Some(&id), &json(&"0x1"));
        assert_eq!(
            good,
            r#"{"jsonrpc":"2.0","namespace":"global","id":1,"code":0,"message":"SUCCESS","result":"0x1"}"#
        );
        let bad = render(None, None, &Err(RpcError::request("EOF")));
        assert_eq!(bad, r#"{"jsonrpc":"2.0","code":-32600,"message":"EOF"}"#);
    }
}
