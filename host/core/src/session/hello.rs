//! The hello: everything one end says of itself before anything is agreed.

use crate::types::{Digest, Height, Hostname, Malformed, Namespace, NodeId, NodeRole, Position, Reader, Writer};

use super::{Binding, IndexOffer, Lineage};

/// Protocol spoken, major and minor. Majors must be equal; the lower minor of the two is spoken.
pub const PROTOCOL: (u16, u16) = (2, 0);

/// Most namespaces of a node.
pub const NAMESPACES_MAX: usize = 1024;

/// Most followers that a node serves at a time.
pub const FOLLOWERS_MAX: usize = 16;

/// Longest address text, bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// What a follower is told in the place of `[self]`: where the provider's standby listens, which takes its place one day.
pub const STANDBY_KEY: &str = "standby";

const FEATURES_MAX: usize = 64;
const STRATEGIES_MAX: usize = 8;
/// Three keys a namespace, and those of the node.
const SELF_KEYS_MAX: usize = 4 * NAMESPACES_MAX;
const TEXT_BYTES_MAX: usize = 1024;

/// What the dialling end wants to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionKind {
    /// The one bound standby.
    Standby,
    /// A node of the chain that makes no blocks: chain data and transactions alone, up to [`FOLLOWERS_MAX`] at a time.
    Follower,
}

/// Which strategy an end would run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StrategyId {
    /// `chain-sync`, ...
    pub kind: String,
    /// Its id; `default` is the embedded one.
    pub id: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
}

/// One namespace as an end has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceOffer {
    /// Its name.
    pub namespace: Namespace,
    /// The node's role in it.
    pub role: NodeRole,
    /// Hash of record 0.
    pub genesis: Digest,
    /// Durable tip.
    pub tip: Position,
    /// Provider's reply only: its own hash at the height of the receiver's tip; none when it has no record there.
    pub at_peer_tip: Option<Digest>,
    /// Oldest height kept.
    pub history_from: Height,
    /// The strategies this end would run.
    pub strategies: Vec<StrategyId>,
    /// Its data index; none from a release that does not tell.
    pub index: Option<IndexOffer>,
}

/// A hello. The receiver's opens the session; the provider answers with its own when it accepts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Protocol spoken.
    pub protocol: (u16, u16),
    /// Program version, for messages.
    pub program: String,
    /// Optional abilities.
    pub features: Vec<String>,
    /// Record formats that can be read, ascending.
    pub record_formats: Vec<u16>,
    /// What the dialling end wants to be.
    pub kind: SessionKind,
    /// Its hostname.
    pub hostname: Hostname,
    /// Its node-id.
    pub node_id: NodeId,
    /// Its incarnations; empty for a receiver.
    pub lineage: Lineage,
    /// The receiver's binding; none for a fresh one and for providers. A follower's is what it heard of this provider before, and binds no
    /// namespace.
    pub binding: Option<Binding>,
    /// Whether its configuration wants TLS on the link.
    pub tls: bool,
    /// Random; the provider's reply and the verdict repeat the receiver's, so frames of an older session cannot be taken for this one's.
    pub nonce: [u8; 16],
    /// `IP:PORT` or `PORT` where it listens; empty if nowhere.
    pub listen: String,
    /// The namespaces it runs.
    pub namespaces: Vec<NamespaceOffer>,
    /// The provider's `[self]` section, as (key, value as TOML text); to a follower [`STANDBY_KEY`] alone.
    pub self_section: Vec<(String, String)>,
}

fn role_code(role: NodeRole) -> u8 {
    match role {
        NodeRole::Vp => 0,
        NodeRole::Nvp => 1,
        NodeRole::Cvp => 2,
    }
}

pub(crate) fn write_position(out: &mut Writer, position: &Position) {
    out.u64(position.height);
    out.digest(&position.hash);
}

pub(crate) fn read_position(input: &mut Reader<'_>) -> Result<Position, Malformed> {
    Ok(Position {
        height: input.u64()?,
        hash: input.digest()?,
    })
}

impl StrategyId {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.text(&self.kind);
        out.text(&self.id);
        out.text(&self.version);
        out.raw(&self.sha256);
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<StrategyId, Malformed> {
        Ok(StrategyId {
            kind: input.text(64)?.to_owned(),
            id: input.text(64)?.to_owned(),
            version: input.text(64)?.to_owned(),
            sha256: input.array()?,
        })
    }
}

impl NamespaceOffer {
    fn write(&self, out: &mut Writer) {
        out.namespace(&self.namespace);
        out.u8(role_code(self.role));
        out.digest(&self.genesis);
        write_position(out, &self.tip);
        out.option(self.at_peer_tip.as_ref(), Writer::digest);
        out.u64(self.history_from);
        out.u32(self.strategies.len() as u32);
        for strategy in &self.strategies {
            strategy.write(out);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<NamespaceOffer, Malformed> {
        let namespace = input.namespace()?;
        let role = match input.u8()? {
            0 => NodeRole::Vp,
            1 => NodeRole::Nvp,
            2 => NodeRole::Cvp,
            other => return Err(Malformed::new(format!("role {other}"))),
        };
        let (genesis, tip) = (input.digest()?, read_position(input)?);
        let at_peer_tip = input.option(Reader::digest)?;
        let history_from = input.u64()?;
        let count = input.count(STRATEGIES_MAX, 44)?;
        let strategies = (0..count).map(|_| StrategyId::read(input)).collect::<Result<_, _>>()?;
        Ok(NamespaceOffer {
            namespace,
            role,
            genesis,
            tip,
            at_peer_tip,
            history_from,
            strategies,
            index: None,
        })
    }
}

impl Hello {
    /// Payload of the frame. The protocol version stands first and stays first in every release.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u16(self.protocol.0);
        out.u16(self.protocol.1);
        out.text(&self.program);
        out.u32(self.features.len() as u32);
        self.features.iter().for_each(|feature| out.text(feature));
        out.u32(self.record_formats.len() as u32);
        self.record_formats.iter().for_each(|format| out.u16(*format));
        out.u8(match self.kind {
            SessionKind::Standby => 0,
            SessionKind::Follower => 1,
        });
        out.hostname(&self.hostname);
        out.node_id(&self.node_id);
        self.lineage.write(&mut out);
        out.option(self.binding.as_ref(), |out, binding| binding.write(out));
        out.flag(self.tls);
        out.raw(&self.nonce);
        out.text(&self.listen);
        out.u32(self.namespaces.len() as u32);
        self.namespaces.iter().for_each(|offer| offer.write(&mut out));
        out.u32(self.self_section.len() as u32);
        for (key, value) in &self.self_section {
            out.text(key);
            out.text(value);
        }
        // Behind what earlier releases read: of each namespace, in their order.
        for offer in &self.namespaces {
            out.option(offer.index.as_ref(), |out, index| index.write(out));
        }
        out.into_bytes()
    }

    /// Reads a payload. Bytes behind the last known field are of a later minor version, and ignored.
    ///
    /// # Errors
    /// The bytes are no hello of this major version; the caller looks at [`Hello::peek_protocol`] first.
    pub fn decode(bytes: &[u8]) -> Result<Hello, Malformed> {
        let mut input = Reader::new(bytes);
        let input = &mut input;
        let protocol = (input.u16()?, input.u16()?);
        let program = input.text(64)?.to_owned();
        let count = input.count(FEATURES_MAX, 4)?;
        let features = (0..count)
            .map(|_| Ok(input.text(64)?.to_owned()))
            .collect::<Result<_, Malformed>>()?;
        let count = input.count(FEATURES_MAX, 2)?;
        let record_formats = (0..count).map(|_| input.u16()).collect::<Result<_, _>>()?;
        let kind = match input.u8()? {
            0 => SessionKind::Standby,
            1 => SessionKind::Follower,
            other => return Err(Malformed::new(format!("session kind {other}"))),
        };
        let (hostname, node_id, lineage) = (input.hostname()?, input.node_id()?, Lineage::read(input)?);
        let binding = input.option(Binding::read)?;
        let (tls, nonce) = (input.flag()?, input.array()?);
        let listen = input.text(ADDRESS_BYTES_MAX)?.to_owned();
        let count = input.count(NAMESPACES_MAX, 90)?;
        let mut namespaces = (0..count)
            .map(|_| NamespaceOffer::read(input))
            .collect::<Result<Vec<_>, _>>()?;
        let count = input.count(SELF_KEYS_MAX, 8)?;
        let self_section = (0..count)
            .map(|_| {
                Ok((
                    input.text(TEXT_BYTES_MAX)?.to_owned(),
                    input.text(TEXT_BYTES_MAX)?.to_owned(),
                ))
            })
            .collect::<Result<_, Malformed>>()?;
        // The end of a hello of an earlier release.
        if input.remaining() > 0 {
            for offer in &mut namespaces {
                offer.index = input.option(IndexOffer::read)?;
            }
        }
        Ok(Hello {
            protocol,
            program,
            features,
            record_formats,
            kind,
            hostname,
            node_id,
            lineage,
            binding,
            tls,
            nonce,
            listen,
            namespaces,
            self_section,
        })
    }

    /// The protocol version of any hello, also of a major version that this release cannot read.
    pub fn peek_protocol(bytes: &[u8]) -> Result<(u16, u16), Malformed> {
        let mut input = Reader::new(bytes);
        Ok((input.u16()?, input.u16()?))
    }

    /// The offer for a namespace.
    pub fn offer(&self, namespace: &Namespace) -> Option<&NamespaceOffer> {
        self.namespaces.iter().find(|offer| offer.namespace == *namespace)
    }
}
