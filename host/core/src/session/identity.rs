//! What a node keeps about itself and its peer: the contents of `identity`, `binding`, `last-receiver` and `last-held` of `system/cvp`.
//! The host wraps them with magic, version and checksum and writes them atomically (`node::durable`).

use crate::types::{Digest, Hostname, Malformed, Namespace, NodeId, Position, Reader, Writer};

use super::{Lineage, NAMESPACES_MAX};

/// Who a node is. A receiver has a node-id of its own and an empty lineage; at an upgrade it takes over its provider's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// 128 random bits of the first start.
    pub node_id: NodeId,
    /// The incarnations that spoke under this hostname, this node's own last.
    pub lineage: Lineage,
}

/// A namespace of a binding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoundNamespace {
    /// Its name.
    pub namespace: Namespace,
    /// Hash of its record 0.
    pub genesis: Digest,
}

/// Which provider a receiver's data belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The provider's node-id.
    pub node_id: NodeId,
    /// The provider's hostname.
    pub hostname: Hostname,
    /// The provider's lineage as last heard: a provider with a lower or another one is refused, and an upgrade goes on from it.
    pub lineage: Lineage,
    /// The namespaces copied so far.
    pub namespaces: Vec<BoundNamespace>,
}

/// The receiver a provider served last: whom it asks at a start whether its place was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastReceiver {
    /// Its node-id.
    pub node_id: NodeId,
    /// Its hostname.
    pub hostname: Hostname,
    /// `IP:PORT` where it listens; empty if it did not say.
    pub address: String,
}

/// A namespace of which a receiver acknowledged blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldNamespace {
    /// Its name.
    pub namespace: Namespace,
    /// Hash of its record 0.
    pub genesis: Digest,
    /// The last record acknowledged.
    pub at: Position,
}

/// What the last receiver had acknowledged when that was last noted: it may hold more by now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastHeld {
    /// The receiver's node-id.
    pub node_id: NodeId,
    /// Each namespace that was ever heard of; at most [`NAMESPACES_MAX`].
    pub namespaces: Vec<HeldNamespace>,
}

impl Identity {
    /// File content.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.node_id(&self.node_id);
        self.lineage.write(&mut out);
        out.into_bytes()
    }

    /// Reads [`Identity::encode`]'s bytes.
    pub fn decode(bytes: &[u8]) -> Result<Identity, Malformed> {
        let mut input = Reader::new(bytes);
        let identity = Identity {
            node_id: input.node_id()?,
            lineage: Lineage::read(&mut input)?,
        };
        input.finish()?;
        Ok(identity)
    }
}

impl Binding {
    /// The genesis hash bound for a namespace, if it was copied before.
    pub fn genesis(&self, namespace: &Namespace) -> Option<Digest> {
        self.namespaces
            .iter()
            .find(|bound| bound.namespace == *namespace)
            .map(|bound| bound.genesis)
    }

    /// Appends the wire form.
    pub fn write(&self, out: &mut Writer) {
        out.node_id(&self.node_id);
        out.hostname(&self.hostname);
        self.lineage.write(out);
        out.u32(self.namespaces.len() as u32);
        for bound in &self.namespaces {
            out.namespace(&bound.namespace);
            out.digest(&bound.genesis);
        }
    }

    /// Reads the wire form.
    pub fn read(input: &mut Reader<'_>) -> Result<Binding, Malformed> {
        let (node_id, hostname, lineage) = (input.node_id()?, input.hostname()?, Lineage::read(input)?);
        let count = input.count(NAMESPACES_MAX, 37)?;
        let namespaces = (0..count)
            .map(|_| {
                Ok(BoundNamespace {
                    namespace: input.namespace()?,
                    genesis: input.digest()?,
                })
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        Ok(Binding {
            node_id,
            hostname,
            lineage,
            namespaces,
        })
    }

    /// File content.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.into_bytes()
    }

    /// Reads [`Binding::encode`]'s bytes.
    pub fn decode(bytes: &[u8]) -> Result<Binding, Malformed> {
        let mut input = Reader::new(bytes);
        let binding = Binding::read(&mut input)?;
        input.finish()?;
        Ok(binding)
    }
}

impl LastReceiver {
    /// File content.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.node_id(&self.node_id);
        out.hostname(&self.hostname);
        out.text(&self.address);
        out.into_bytes()
    }

    /// Reads [`LastReceiver::encode`]'s bytes.
    pub fn decode(bytes: &[u8]) -> Result<LastReceiver, Malformed> {
        let mut input = Reader::new(bytes);
        let (node_id, hostname) = (input.node_id()?, input.hostname()?);
        let address = input.text(super::hello::ADDRESS_BYTES_MAX)?.to_owned();
        input.finish()?;
        Ok(LastReceiver {
            node_id,
            hostname,
            address,
        })
    }
}

impl LastHeld {
    /// File content.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.node_id(&self.node_id);
        out.u32(self.namespaces.len() as u32);
        for held in &self.namespaces {
            out.namespace(&held.namespace);
            out.digest(&held.genesis);
            out.u64(held.at.height);
            out.digest(&held.at.hash);
        }
        out.into_bytes()
    }

    /// Reads [`LastHeld::encode`]'s bytes.
    pub fn decode(bytes: &[u8]) -> Result<LastHeld, Malformed> {
        let mut input = Reader::new(bytes);
        let node_id = input.node_id()?;
        let count = input.count(NAMESPACES_MAX, 77)?;
        let namespaces = (0..count)
            .map(|_| {
                Ok(HeldNamespace {
                    namespace: input.namespace()?,
                    genesis: input.digest()?,
                    at: Position {
                        height: input.u64()?,
                        hash: input.digest()?,
                    },
                })
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        input.finish()?;
        Ok(LastHeld { node_id, namespaces })
    }
}
