//! Refusals of the JSON-RPC surface: the platform's codes, each with the text clients match on.

use std::borrow::Cow;

use cvp_core::types::Height;

/// A negative answer: `code` and `message` of the flat envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct RpcError {
    /// One of the platform's codes; never 0.
    pub code: i64,
    /// What is wrong, with the values in question.
    pub message: Cow<'static, str>,
}

/// Not JSON.
pub const BAD_JSON: i64 = -32700;
/// JSON, but no request.
pub const BAD_REQUEST: i64 = -32600;
/// No such method.
pub const NO_METHOD: i64 = -32601;
/// Parameters that are missing, of the wrong kind or out of range.
pub const BAD_PARAMS: i64 = -32602;
/// A fault of this node.
pub const INTERNAL: i64 = -32000;
/// What was asked for does not exist.
pub const NOT_FOUND: i64 = -32001;
/// More than this node takes at a time.
pub const BUSY: i64 = -32006;
/// The caller may not do that.
pub const NO_PERMISSION: i64 = -32008;
/// No account of that address.
pub const NO_ACCOUNT: i64 = -32009;
/// No namespace of that name runs here.
pub const NO_NAMESPACE: i64 = -32010;
/// The chain has no block beside genesis.
pub const NO_BLOCK: i64 = -32011;
/// No chain id was set.
pub const DID: i64 = -32022;
/// A CVP does not answer this method.
pub const CVP_CLOSED: i64 = -32023;
/// More calls than the namespace takes.
pub const QPS_LIMIT: i64 = -32026;
/// A strong change failed: it is on neither node.
pub const STRONG_FAILED: i64 = -32605;
/// A strong change is undecided.
pub const STRONG_UNDECIDED: i64 = -32606;
/// The call needs a client's certificate.
pub const NO_CERTIFICATE: i64 = -32098;
/// The client was too slow to send its request.
pub const HTTP_TIMEOUT: i64 = -32096;

impl RpcError {
    /// A refusal with any of the platform's codes.
    pub fn new(code: i64, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// -32600.
    pub fn request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(BAD_REQUEST, message)
    }

    /// -32601 with the platform's text.
    pub fn method(name: &str) -> Self {
        let shown: String = name.chars().take(128).collect();
        Self::new(NO_METHOD, format!("The method {shown} does not exist/is not available"))
    }

    /// -32602.
    pub fn params(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(BAD_PARAMS, message)
    }

    /// -32602 with the platform's text for a height above the tip.
    pub fn out_of_range(height: Height, latest: Height) -> Self {
        Self::params(format!(
            "block number {height} is out of range, and now latest block number is {latest}"
        ))
    }

    /// -32001.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(NOT_FOUND, message)
    }

    /// -32010.
    pub fn namespace(name: &str) -> Self {
        let shown: String = name.chars().take(64).collect();
        Self::new(NO_NAMESPACE, format!("namespace [{shown}] not exists"))
    }

    /// -32023.
    pub fn cvp_closed(method: &str) -> Self {
        Self::new(CVP_CLOSED, format!("CVP does not support this method: {method}"))
    }

    /// -32000. The cause is logged where it happened; clients get one line.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(INTERNAL, message)
    }
}
