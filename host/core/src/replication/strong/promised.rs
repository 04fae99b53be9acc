//! What receivers hold staged that this node had replaced by others: the last change that each of them was promised.

use crate::types::{Malformed, NodeId, Reader, Writer};

use super::ChangeId;

/// Receivers that are remembered; of more the oldest is forgotten.
const RECEIVERS_MAX: usize = 8;

/// The last change that was committed while each of the earlier receivers was the standby: it may be staged there still when that one comes
/// back, and its client was told that it holds it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Promised(Vec<(NodeId, ChangeId)>);

impl Promised {
    /// Another receiver takes the place of `before`, to which `committed` was promised last.
    pub fn keep(&mut self, before: NodeId, committed: ChangeId) {
        self.0.retain(|(receiver, _)| *receiver != before);
        self.0.push((before, committed));
        let over = self.0.len().saturating_sub(RECEIVERS_MAX);
        self.0.drain(..over);
    }

    /// What was promised to a receiver before another took its place.
    pub fn to(&self, receiver: &NodeId) -> Option<ChangeId> {
        let (_, id) = self.0.iter().find(|(known, _)| known == receiver)?;
        Some(*id)
    }

    /// Content of `system/cvp/promised`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u32(self.0.len() as u32);
        for (receiver, id) in &self.0 {
            out.node_id(receiver);
            id.write(&mut out);
        }
        out.into_bytes()
    }

    /// Reads [`Promised::encode`]'s bytes.
    ///
    /// # Errors
    /// They are not that.
    pub fn decode(bytes: &[u8]) -> Result<Promised, Malformed> {
        let mut input = Reader::new(bytes);
        let count = input.count(RECEIVERS_MAX, 40)?;
        let known = (0..count).map(|_| Ok((input.node_id()?, ChangeId::read(&mut input)?)));
        let known = known.collect::<Result<_, Malformed>>()?;
        input.finish()?;
        Ok(Promised(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_receiver_is_known_and_comes_back() {
        let id = |sequence: u64| ChangeId {
            incarnation: [1; 16],
            sequence,
        };
        let receiver = |number: u8| NodeId([number; 16]);
        let mut promised = Promised::default();
        promised.keep(receiver(1), id(1));
        promised.keep(receiver(2), id(2));
        promised.keep(receiver(1), id(3));
        assert_eq!(promised.to(&receiver(1)), Some(id(3)));
        assert_eq!(promised.to(&receiver(2)), Some(id(2)));
        assert_eq!(promised.to(&receiver(3)), None);
        for number in 3..=9 {
            promised.keep(receiver(number), id(number.into()));
        }
        assert_eq!(promised.to(&receiver(2)), None, "the oldest");
        let bytes = promised.encode();
        assert_eq!(Promised::decode(&bytes).unwrap(), promised);
        assert!(Promised::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
