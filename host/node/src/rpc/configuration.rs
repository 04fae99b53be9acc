//! `node_getConfig` and `node_setConfig`: for callers with a client certificate, what `cvp config get|list|set` are for the operator.
//!
//! Owns the parameters and the codes. What a change does and what may be shown is decided by who implements [`Configuration`]: assembly.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use cvp_core::config::Value as ConfigValue;
use serde_json::Value;

use super::envelope::{Outcome, json};
use super::error::{
    BAD_PARAMS, INTERNAL, NO_CERTIFICATE, NO_PERMISSION, NOT_FOUND, RpcError, STRONG_FAILED, STRONG_UNDECIDED,
};
use super::https::Caller;
use super::params::Params;
use crate::failure::{Exit, Failure};

/// Changes the configuration; everything else here reads it.
pub const SET: &str = "node_setConfig";
const GET: &str = "node_getConfig";

/// What the node answers.
pub type Answer = Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>>;

/// One value to be changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// File below `configuration/`.
    pub file: String,
    /// Dotted key.
    pub key: String,
    /// The new value.
    pub value: ConfigValue,
    /// Fail rather than change this node alone.
    pub must_replicate: bool,
    /// Who asks: the name in its certificate.
    pub by: String,
}

/// The configuration of the node behind this surface.
pub trait Configuration: Send + Sync + 'static {
    /// One value, the values of one file, or all.
    fn read(self: Arc<Self>, file: Option<String>, key: Option<String>) -> Answer;

    /// Changes one value, on both nodes where it matters.
    fn change(self: Arc<Self>, change: Change) -> Answer;
}

/// Whether `method` is one of these.
pub fn is_ours(method: &str) -> bool {
    method == GET || method == SET
}

/// Answers one of the two methods.
pub async fn answer(method: &str, params: &Params, caller: &Caller, node: Option<Arc<dyn Configuration>>) -> Outcome {
    let by = caller
        .operator(SystemTime::now())
        .map_err(|why| RpcError::new(NO_CERTIFICATE, format!("{method} needs a client certificate: {why}")))?;
    let node = node.ok_or_else(|| RpcError::internal("this node is starting; try again in a moment"))?;
    let answered = if method == SET {
        node.change(wish(params, by)?).await
    } else {
        let (file, key) = place(params)?;
        node.read(file, key).await
    };
    json(&answered.map_err(|failure| refused(&failure))?)
}

/// `[]`, `[file]`, `[file, key]`, or an object with these members.
fn place(params: &Params) -> Result<(Option<String>, Option<String>), RpcError> {
    let text = |index: usize, name: &str| match params.get(index) {
        None => Ok(None),
        Some(_) => params.text(index, name).map(|text| Some(text.to_owned())),
    };
    let (file, key) = if params.get(0).is_some_and(Value::is_object) {
        let fields = params.fields(0)?;
        (
            fields.text("file")?.map(str::to_owned),
            fields.text("key")?.map(str::to_owned),
        )
    } else {
        (text(0, "file")?, text(1, "key")?)
    };
    if file.is_none() && key.is_some() {
        return Err(RpcError::params("a key needs its file, such as dynamic.toml"));
    }
    Ok((file, key))
}

/// `[file, key, value, mustReplicate]`, or an object with these members.
fn wish(params: &Params, by: String) -> Result<Change, RpcError> {
    if params.get(0).is_some_and(Value::is_object) {
        let fields = params.fields(0)?;
        let text = |name: &str| {
            let text = fields.text(name)?.map(str::to_owned);
            text.ok_or_else(|| RpcError::params(format!("missing member {name}")))
        };
        return Ok(Change {
            file: text("file")?,
            key: text("key")?,
            value: value(fields.required("value")?)?,
            must_replicate: fields.flag("mustReplicate")?,
            by,
        });
    }
    Ok(Change {
        file: params.text(0, "file")?.to_owned(),
        key: params.text(1, "key")?.to_owned(),
        value: value(params.required(2, "value")?)?,
        must_replicate: params.flag(3)?,
        by,
    })
}

/// A JSON value as the configuration knows it: text stays text, whatever it looks like.
fn value(value: &Value) -> Result<ConfigValue, RpcError> {
    let refused = || RpcError::params("value must be true or false, a whole number, text, or an array of one of these");
    match value {
        Value::Bool(flag) => Ok(ConfigValue::Flag(*flag)),
        Value::Number(number) => number.as_i64().map(ConfigValue::Number).ok_or_else(refused),
        Value::String(text) => Ok(ConfigValue::Text(text.clone())),
        Value::Array(items) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            if let Some(texts) = texts.collect::<Option<Vec<_>>>() {
                return Ok(ConfigValue::Texts(texts));
            }
            let plain = items.iter().all(|item| item.is_boolean() || item.as_i64().is_some());
            plain
                .then(|| ConfigValue::Toml(Value::from(items.clone()).to_string()))
                .ok_or_else(refused)
        }
        Value::Null | Value::Object(_) => Err(refused()),
    }
}

/// The codes of a change that was not made, or of which nobody knows.
fn refused(failure: &Failure) -> RpcError {
    let code = match (failure.exit, failure.code.as_str()) {
        (Exit::Undecided, _) => STRONG_UNDECIDED,
        (_, "no-file" | "no-key") => NOT_FOUND,
        (_, "bad-key" | "bad-value" | "too-large") => BAD_PARAMS,
        (_, "identity-key" | "use-enable" | "genesis-file" | "private-key") => NO_PERMISSION,
        (_, "disk" | "damaged" | "locked" | "internal") => INTERNAL,
        _ => STRONG_FAILED,
    };
    RpcError::new(code, format!("{}: {failure}", failure.code))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_keeps_its_json_type() {
        let of = |json: Value| value(&json).ok();
        assert_eq!(of(json!(true)), Some(ConfigValue::Flag(true)));
        assert_eq!(of(json!(7)), Some(ConfigValue::Number(7)));
        assert_eq!(of(json!("7")), Some(ConfigValue::Text("7".into())));
        assert_eq!(of(json!(["a"])), Some(ConfigValue::Texts(vec!["a".into()])));
        assert_eq!(of(json!([1, 2])), Some(ConfigValue::Toml("[1,2]".into())));
        for bad in [
            json!(null),
            json!({}),
            json!(1.5),
            json!(u64::MAX),
            json!([1, "a"]),
            json!([["a"]]),
        ] {
            assert_eq!(of(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn parameters_are_positions_or_members() {
        let change = |params: Value| wish(&Params::new(params.as_array().unwrap().clone()), "me".into());
        let listed = change(json!(["dynamic.toml", "cvp.max_rate", 5, true])).unwrap();
        let named = json!([{"File": "dynamic.toml", "key": "cvp.max_rate", "value": 5, "mustReplicate": true}]);
        assert_eq!(listed, change(named).unwrap());
        assert!(listed.must_replicate && listed.by == "me");
        assert!(change(json!(["dynamic.toml", "cvp.max_rate"])).is_err());
        let read = |params: Value| place(&Params::new(params.as_array().unwrap().clone()));
        assert_eq!(read(json!([])).unwrap(), (None, None));
        assert_eq!(read(json!([{"file": "a"}])).unwrap(), (Some("a".into()), None));
        assert!(read(json!([null, "cvp.max_rate"])).is_err());
    }

    #[test]
    fn every_end_of_a_change_has_a_code_of_its_own() {
        let code = |failure: Failure| refused(&failure).code;
        assert_eq!(code(Failure::failed("timeout", "", "")), -32605);
        assert_eq!(code(Failure::new(Exit::Undecided, "strong-undecided", "", "")), -32606);
        assert_eq!(code(Failure::failed("bad-value", "", "")), -32602);
        assert_eq!(code(Failure::refused("identity-key", "", "")), -32008);
        assert_eq!(code(Failure::failed("no-file", "", "")), -32001);
        assert_eq!(code(Failure::failed("disk", "", "")), -32000);
    }
}
