//! The claim: who a node is, on a link of its own. Asked by a provider before its first block after a start (question, answer), and told
//! by a promoted node to its predecessor's address (notice, answer).
//!
//! A claim needs no signature of its own: it travels over the mutually authenticated link of the pair, and its proof is the lineage: only
//! a node that held the predecessor's lineage can go on from its random incarnation ids. (On plain links the operator has chosen to trust
//! the network; the ids are secrets of 128 bits there, too.)

use crate::types::strategy::Role;
use crate::types::{Hostname, Incarnation, Malformed, NodeId, Reader, Refusal, Writer};

use super::refuse;
use super::{Lineage, Standing};

/// Who a node says it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// What it is now.
    pub role: Role,
    /// The hostname it speaks under.
    pub hostname: Hostname,
    /// Its node-id.
    pub node_id: NodeId,
    /// A provider's lineage; a receiver's is that of the provider it is bound to, as last heard.
    pub lineage: Lineage,
    /// Whether it is fenced.
    pub fenced: bool,
}

/// Content of `system/cvp/fenced`: why this node makes no more blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fenced {
    /// The incarnation that took the place.
    pub by: Incarnation,
    /// The lineage it proved it with.
    pub lineage: Lineage,
    /// Address of who said so, for the operator.
    pub told_by: String,
}

/// What a provider makes of another node's claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing against this node: the same lineage, one that is behind, or another node altogether.
    Unmoved,
    /// Our place was taken by a later incarnation.
    Taken(Incarnation),
    /// Two nodes were promoted from one: refused and logged with the height; the operator decides.
    Forked(Refusal),
}

/// Judges a claim (or the lineage a receiver heard) against our own lineage. Claims of other nodes (another first incarnation, another
/// node-id) say nothing about us.
pub fn judge_claim(node_id: &NodeId, hostname: &Hostname, ours: &Lineage, claim: &Claim) -> Verdict {
    if claim.role == Role::Provider && (claim.node_id != *node_id || claim.hostname != *hostname) {
        return Verdict::Unmoved;
    }
    judge_lineage(ours, &claim.lineage)
}

/// Judges the lineage someone heard under our name.
pub(crate) fn judge_lineage(ours: &Lineage, heard: &Lineage) -> Verdict {
    match ours.stand_to(heard) {
        Standing::Same | Standing::Ahead => Verdict::Unmoved,
        Standing::Behind => heard.current().map_or(Verdict::Unmoved, Verdict::Taken),
        Standing::Forked(fork) => {
            let related = ours.reigns().first().map(|r| r.incarnation) == heard.reigns().first().map(|r| r.incarnation);
            if related {
                Verdict::Forked(refuse::forked(&fork))
            } else {
                Verdict::Unmoved
            }
        }
    }
}

impl Claim {
    /// Payload of the frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(match self.role {
            Role::Provider => 0,
            Role::Receiver => 1,
        });
        out.hostname(&self.hostname);
        out.node_id(&self.node_id);
        self.lineage.write(&mut out);
        out.flag(self.fenced);
        out.into_bytes()
    }

    /// Reads a payload; bytes behind the last known field are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Claim, Malformed> {
        let mut input = Reader::new(bytes);
        let role = match input.u8()? {
            0 => Role::Provider,
            1 => Role::Receiver,
            other => return Err(Malformed::new(format!("role {other}"))),
        };
        Ok(Claim {
            role,
            hostname: input.hostname()?,
            node_id: input.node_id()?,
            lineage: Lineage::read(&mut input)?,
            fenced: input.flag()?,
        })
    }
}

impl Fenced {
    /// File content.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.incarnation(&self.by);
        self.lineage.write(&mut out);
        out.text(&self.told_by);
        out.into_bytes()
    }

    /// Reads [`Fenced::encode`]'s bytes.
    pub fn decode(bytes: &[u8]) -> Result<Fenced, Malformed> {
        let mut input = Reader::new(bytes);
        let fenced = Fenced {
            by: input.incarnation()?,
            lineage: Lineage::read(&mut input)?,
            told_by: input.text(1024)?.to_owned(),
        };
        input.finish()?;
        Ok(fenced)
    }
}
