//! A take-over: one incarnation that followed another under one hostname, and how a node that is told so knows that it is true.
//!
//! The statement is signed with the node key of that hostname (`key.priv` of namespace `global`), which the operator gave the standby as a
//! backup: whoever it names as the old provider checks it with its own key. It says nothing secret, so it may be shown and repeated.

use std::fmt;
use std::sync::Arc;

use crate::types::{Hostname, Incarnation, Malformed, NodeId, Reader, Writer};

use super::Reign;

/// What is signed begins so; the digit is the version of the statement.
const DOMAIN: &[u8] = b"cvp take-over 1";

/// Longest signature, bytes: RSA with 8,192 bits.
pub const SIGNATURE_BYTES_MAX: usize = 1024;

/// One incarnation in the place of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakeOver {
    /// The node-id that both speak for.
    pub node_id: NodeId,
    /// The hostname that both speak under.
    pub hostname: Hostname,
    /// Whose place was taken.
    pub old: Incarnation,
    /// Who took it.
    pub new: Incarnation,
    /// Of [`TakeOver::statement`], with the node key; empty when the promoted node had none.
    pub signature: Vec<u8>,
}

impl TakeOver {
    /// The take-over that `reign` began with.
    pub fn of(node_id: NodeId, hostname: Hostname, old: Incarnation, reign: &Reign) -> TakeOver {
        TakeOver {
            node_id,
            hostname,
            old,
            new: reign.incarnation,
            signature: reign.signature.clone(),
        }
    }

    /// What the signature is of.
    pub fn statement(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(DOMAIN);
        out.node_id(&self.node_id);
        out.hostname(&self.hostname);
        out.incarnation(&self.old);
        out.incarnation(&self.new);
        out.into_bytes()
    }

    /// Appends the wire form.
    pub fn write(&self, out: &mut Writer) {
        out.node_id(&self.node_id);
        out.hostname(&self.hostname);
        out.incarnation(&self.old);
        out.incarnation(&self.new);
        out.bytes(&self.signature);
    }

    /// Reads the wire form.
    pub fn read(input: &mut Reader<'_>) -> Result<TakeOver, Malformed> {
        Ok(TakeOver {
            node_id: input.node_id()?,
            hostname: input.hostname()?,
            old: input.incarnation()?,
            new: input.incarnation()?,
            signature: input.bytes(SIGNATURE_BYTES_MAX)?.to_vec(),
        })
    }
}

/// Checks (statement, signature).
type Check = dyn Fn(&[u8], &[u8]) -> bool + Send + Sync;

/// The public half of this node's own key. The host knows its kind; here it only says yes or no.
#[derive(Clone, Default)]
pub struct NodeKey(Option<Arc<Check>>);

impl NodeKey {
    /// A key that is here; `check` is given a statement and a signature.
    pub fn new(check: impl Fn(&[u8], &[u8]) -> bool + Send + Sync + 'static) -> NodeKey {
        NodeKey(Some(Arc::new(check)))
    }

    /// Whether the take-over was signed with this key; without a key never.
    pub fn signed(&self, take_over: &TakeOver) -> bool {
        let check = self.0.as_ref().filter(|_| !take_over.signature.is_empty());
        check.is_some_and(|check| check(&take_over.statement(), &take_over.signature))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "NodeKey" } else { "no NodeKey" })
    }
}

impl PartialEq for NodeKey {
    fn eq(&self, other: &NodeKey) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for NodeKey {}
