//! The claim: who a node is, on a link of its own. Asked by a provider before its first block after a start (question, answer), and told
//! by a promoted node to its predecessor's address (notice, answer).
//!
//! A claim that takes a place carries the [`TakeOver`], which is signed. Nobody learns a lineage from a claim: who asks under an incarnation
//! that is not known here hears no more than that.

use crate::types::strategy::Role;
use crate::types::{Hostname, Incarnation, Malformed, NodeId, Reader, Refusal, Writer};

use super::{Lineage, LineageFork, Standing, TakeOver, refuse};

/// Who a node says it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// What it is now.
    pub role: Role,
    /// The hostname it speaks under.
    pub hostname: Hostname,
    /// Its node-id.
    pub node_id: NodeId,
    /// The incarnation it speaks as; a receiver's is its provider's, as last heard. In an answer only to who knows it already.
    pub incarnation: Option<Incarnation>,
    /// How that incarnation took its place; in an answer, how the asker's place was taken.
    pub take_over: Option<TakeOver>,
    /// Whether it is fenced.
    pub fenced: bool,
}

/// Content of `system/cvp/fenced`: why this node makes no more blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fenced {
    /// The take-over, as it was proven.
    pub take_over: TakeOver,
    /// Address of who said so, for the operator.
    pub told_by: String,
}

/// What a provider makes of another node's claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing against this node: a take-over that it knows, or of another node altogether.
    Unmoved,
    /// Our place was taken, if that is proven.
    Taken(TakeOver),
    /// Two nodes were promoted from one: refused and logged with the height; the operator decides.
    Forked(Refusal),
}

/// Judges what a provider is told of a take-over. One of another node (another node-id, another name, an incarnation that never spoke
/// here) says nothing about this one.
pub fn judge_take_over(node_id: &NodeId, hostname: &Hostname, ours: &Lineage, heard: &TakeOver) -> Verdict {
    let known = ours.reigns().iter().any(|reign| reign.incarnation == heard.old);
    if heard.node_id != *node_id || heard.hostname != *hostname || !known {
        return Verdict::Unmoved;
    }
    match ours.successor(&heard.old) {
        None => Verdict::Taken(heard.clone()),
        Some(next) if next.incarnation == heard.new => Verdict::Unmoved,
        Some(next) => Verdict::Forked(refuse::forked(&LineageFork {
            ours: next.incarnation,
            theirs: heard.new,
            height: next.starts.iter().map(|start| start.first).min().unwrap_or(0),
        })),
    }
}

/// Judges the lineage that a standby heard under our node-id and name.
pub(crate) fn judge_lineage(node_id: &NodeId, hostname: &Hostname, ours: &Lineage, heard: &Lineage) -> Verdict {
    match ours.stand_to(heard) {
        Standing::Same | Standing::Ahead => Verdict::Unmoved,
        Standing::Behind => {
            let old = ours.current();
            let next = old.and_then(|old| Some((old, heard.successor(&old)?)));
            next.map_or(Verdict::Unmoved, |(old, reign)| {
                Verdict::Taken(TakeOver::of(*node_id, hostname.clone(), old, reign))
            })
        }
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
        out.option(self.incarnation.as_ref(), Writer::incarnation);
        out.option(self.take_over.as_ref(), |out, take_over| take_over.write(out));
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
            incarnation: input.option(Reader::incarnation)?,
            take_over: input.option(TakeOver::read)?,
            fenced: input.flag()?,
        })
    }
}

impl Fenced {
    /// The incarnation that took the place.
    pub fn by(&self) -> Incarnation {
        self.take_over.new
    }

    /// File content.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.take_over.write(&mut out);
        out.text(&self.told_by);
        out.into_bytes()
    }

    /// Reads [`Fenced::encode`]'s bytes.
    pub fn decode(bytes: &[u8]) -> Result<Fenced, Malformed> {
        let mut input = Reader::new(bytes);
        let fenced = Fenced {
            take_over: TakeOver::read(&mut input)?,
            told_by: input.text(1024)?.to_owned(),
        };
        input.finish()?;
        Ok(fenced)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NodeKey, Start};
    use super::*;

    fn incarnation(number: u64, id: u8) -> Incarnation {
        Incarnation { number, id: [id; 16] }
    }

    fn hostname(name: &str) -> Hostname {
        Hostname::new(name).unwrap()
    }

    fn take_over(old: Incarnation, new: Incarnation) -> TakeOver {
        TakeOver {
            node_id: NodeId([1; 16]),
            hostname: hostname("node1"),
            old,
            new,
            signature: vec![7; 70],
        }
    }

    #[test]
    fn a_take_over_is_judged_by_what_this_node_was() {
        let (one, two, three) = (incarnation(1, 1), incarnation(2, 2), incarnation(3, 3));
        let starts = Vec::<Start>::new();
        let ours = Lineage::begin(one).extended(two, starts, Vec::new()).unwrap();
        let judge = |heard: &TakeOver| judge_take_over(&NodeId([1; 16]), &hostname("node1"), &ours, heard);
        assert!(matches!(judge(&take_over(two, three)), Verdict::Taken(_)));
        assert_eq!(judge(&take_over(one, two)), Verdict::Unmoved);
        assert!(matches!(judge(&take_over(one, incarnation(2, 9))), Verdict::Forked(_)));
        // Incarnations, node-ids and names of others.
        assert_eq!(judge(&take_over(incarnation(2, 9), three)), Verdict::Unmoved);
        let mut other = take_over(two, three);
        other.node_id = NodeId([2; 16]);
        assert_eq!(judge(&other), Verdict::Unmoved);
        let mut other = take_over(two, three);
        other.hostname = hostname("node2");
        assert_eq!(judge(&other), Verdict::Unmoved);
    }

    #[test]
    fn a_lineage_that_a_standby_heard_carries_the_proof() {
        let (one, two) = (incarnation(1, 1), incarnation(2, 2));
        let ours = Lineage::begin(one);
        let heard = ours.extended(two, Vec::new(), vec![7; 70]).unwrap();
        let taken = judge_lineage(&NodeId([1; 16]), &hostname("node1"), &ours, &heard);
        assert_eq!(taken, Verdict::Taken(take_over(one, two)));
    }

    #[test]
    fn no_signature_is_no_proof_and_every_byte_of_the_statement_counts() {
        let sign = |statement: &[u8]| crate::types::Digest::of(statement).0.to_vec();
        let key = NodeKey::new(move |statement, signature| signature == sign(statement));
        let mut good = take_over(incarnation(1, 1), incarnation(2, 2));
        good.signature = sign(&good.statement());
        assert!(key.signed(&good) && !NodeKey::default().signed(&good));
        let changes: [fn(&mut TakeOver); 5] = [
            |it| it.node_id.0[0] ^= 1,
            |it| it.hostname = hostname("node2"),
            |it| it.old.number += 1,
            |it| it.new.id[3] ^= 1,
            |it| it.signature.clear(),
        ];
        for change in changes {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(!key.signed(&bad), "{bad:?}");
        }
    }

    #[test]
    fn claims_and_fences_are_read_back_and_may_be_cut_nowhere() {
        let claim = Claim {
            role: Role::Provider,
            hostname: hostname("node1"),
            node_id: NodeId([1; 16]),
            incarnation: Some(incarnation(2, 2)),
            take_over: Some(take_over(incarnation(1, 1), incarnation(2, 2))),
            fenced: true,
        };
        let bytes = claim.encode();
        assert_eq!(Claim::decode(&bytes).unwrap(), claim);
        assert!((0..bytes.len()).all(|cut| Claim::decode(&bytes[..cut]).is_err()));
        let fenced = Fenced {
            take_over: take_over(incarnation(1, 1), incarnation(2, 2)),
            told_by: "10.0.0.2:50015".into(),
        };
        let bytes = fenced.encode();
        assert_eq!(Fenced::decode(&bytes).unwrap(), fenced);
        assert!((0..bytes.len()).all(|cut| Fenced::decode(&bytes[..cut]).is_err()));
    }
}
