//! The list of incarnations that spoke under one hostname, and how two such lists stand to each other.

use crate::types::{Digest, Height, Incarnation, Malformed, Namespace, Reader, Writer};

use super::SIGNATURE_BYTES_MAX;

/// Most incarnations a lineage may hold: a promotion a day for three years.
pub const REIGNS_MAX: usize = 1024;

/// Where an incarnation began in one namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// The namespace.
    pub namespace: Namespace,
    /// Height of the first block of this incarnation (the take-over block).
    pub first: Height,
    /// Hash of the record below it: the last durable one of the incarnation before.
    pub parent: Digest,
}

/// One incarnation and where it began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reign {
    /// Who spoke.
    pub incarnation: Incarnation,
    /// Its first height in each namespace that existed then; empty for the first incarnation.
    pub starts: Vec<Start>,
    /// Of the [`super::TakeOver`] it began with, with the node key; empty for the first incarnation, and where there was no key.
    pub signature: Vec<u8>,
}

/// Every incarnation of a hostname, oldest first, numbers growing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage {
    reigns: Vec<Reign>,
}

/// Two lineages that cannot both be true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineageFork {
    /// Ours at the place where they part.
    pub ours: Incarnation,
    /// Theirs.
    pub theirs: Incarnation,
    /// Lowest height from which the two may hold different blocks; 0 when not known.
    pub height: Height,
}

/// How our lineage stands to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Equal.
    Same,
    /// Ours goes on where theirs ends: the other is behind.
    Ahead,
    /// Theirs goes on where ours ends: our place was taken, or we have not heard yet.
    Behind,
    /// They part.
    Forked(LineageFork),
}

impl Lineage {
    /// The lineage of a provider at its first start.
    pub fn begin(incarnation: Incarnation) -> Lineage {
        Lineage {
            reigns: vec![Reign {
                incarnation,
                starts: Vec::new(),
                signature: Vec::new(),
            }],
        }
    }

    /// This lineage and one more incarnation.
    ///
    /// # Errors
    /// The number does not grow, or the list is full.
    pub fn extended(
        &self,
        incarnation: Incarnation,
        starts: Vec<Start>,
        signature: Vec<u8>,
    ) -> Result<Lineage, Malformed> {
        let mut reigns = self.reigns.clone();
        reigns.push(Reign {
            incarnation,
            starts,
            signature,
        });
        Lineage::new(reigns)
    }

    /// This lineage, and where its last incarnation begins in further namespaces; what it says already stays.
    pub fn with_starts(&self, further: Vec<Start>) -> Lineage {
        let mut reigns = self.reigns.clone();
        if let Some(last) = reigns.last_mut() {
            for start in further {
                if !last.starts.iter().any(|known| known.namespace == start.namespace) {
                    last.starts.push(start);
                }
            }
        }
        Lineage { reigns }
    }

    fn new(reigns: Vec<Reign>) -> Result<Lineage, Malformed> {
        if reigns.len() > REIGNS_MAX {
            return Err(Malformed::new(format!("more than {REIGNS_MAX} incarnations")));
        }
        if !reigns.is_sorted_by(|a, b| a.incarnation.number < b.incarnation.number) {
            return Err(Malformed::new("incarnation numbers do not grow"));
        }
        Ok(Lineage { reigns })
    }

    /// The last incarnation; none for a node that never was a provider.
    pub fn current(&self) -> Option<Incarnation> {
        self.reigns.last().map(|reign| reign.incarnation)
    }

    /// All of it, oldest first.
    pub fn reigns(&self) -> &[Reign] {
        &self.reigns
    }

    /// The reign that followed `incarnation`; none when it is the last, or never was.
    pub fn successor(&self, incarnation: &Incarnation) -> Option<&Reign> {
        let at = self.reigns.iter().position(|reign| reign.incarnation == *incarnation)?;
        self.reigns.get(at + 1)
    }

    /// How the last incarnation took its place: whose it was, and its reign.
    pub fn last_take_over(&self) -> Option<(Incarnation, &Reign)> {
        match self.reigns.as_slice() {
            [.., old, last] => Some((old.incarnation, last)),
            _ => None,
        }
    }

    /// Compares by incarnation, then names the height where a fork began.
    pub fn stand_to(&self, theirs: &Lineage) -> Standing {
        let shared = self
            .reigns
            .iter()
            .zip(&theirs.reigns)
            .take_while(|(a, b)| a.incarnation == b.incarnation)
            .count();
        let (ours, others) = (self.reigns.get(shared), theirs.reigns.get(shared));
        match (ours, others) {
            (None, None) => Standing::Same,
            (Some(_), None) => Standing::Ahead,
            (None, Some(_)) => Standing::Behind,
            (Some(ours), Some(others)) => Standing::Forked(LineageFork {
                ours: ours.incarnation,
                theirs: others.incarnation,
                height: ours
                    .starts
                    .iter()
                    .chain(&others.starts)
                    .map(|start| start.first)
                    .min()
                    .unwrap_or(0),
            }),
        }
    }

    /// Appends the wire form.
    pub fn write(&self, out: &mut Writer) {
        out.u32(self.reigns.len() as u32);
        for reign in &self.reigns {
            out.incarnation(&reign.incarnation);
            out.u32(reign.starts.len() as u32);
            for start in &reign.starts {
                out.namespace(&start.namespace);
                out.u64(start.first);
                out.digest(&start.parent);
            }
            out.bytes(&reign.signature);
        }
    }

    /// Reads the wire form.
    pub fn read(input: &mut Reader<'_>) -> Result<Lineage, Malformed> {
        let count = input.count(REIGNS_MAX, 32)?;
        let mut reigns = Vec::with_capacity(count);
        for _ in 0..count {
            let incarnation = input.incarnation()?;
            let starts = input.count(super::NAMESPACES_MAX, 45)?;
            let starts = (0..starts)
                .map(|_| {
                    Ok(Start {
                        namespace: input.namespace()?,
                        first: input.u64()?,
                        parent: input.digest()?,
                    })
                })
                .collect::<Result<Vec<_>, Malformed>>()?;
            let signature = input.bytes(SIGNATURE_BYTES_MAX)?.to_vec();
            reigns.push(Reign {
                incarnation,
                starts,
                signature,
            });
        }
        Lineage::new(reigns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incarnation(number: u64, id: u8) -> Incarnation {
        Incarnation { number, id: [id; 16] }
    }

    fn start(first: Height) -> Vec<Start> {
        let Ok(namespace) = Namespace::new("global") else {
            return Vec::new();
        };
        vec![Start {
            namespace,
            first,
            parent: Digest::ZERO,
        }]
    }

    #[test]
    fn standings() {
        let one = Lineage::begin(incarnation(1, 1));
        let two = one.extended(incarnation(2, 2), start(11), vec![9; 70]).unwrap();
        let other = one.extended(incarnation(2, 3), start(9), Vec::new()).unwrap();
        assert_eq!(one.stand_to(&one), Standing::Same);
        assert_eq!(one.stand_to(&two), Standing::Behind);
        assert_eq!(two.stand_to(&one), Standing::Ahead);
        assert!(matches!(
            two.stand_to(&other),
            Standing::Forked(LineageFork { height: 9, .. })
        ));
        assert!(two.extended(incarnation(2, 9), Vec::new(), Vec::new()).is_err());
    }

    #[test]
    fn a_lineage_is_read_back() {
        let two = Lineage::begin(incarnation(1, 1))
            .extended(incarnation(4, 2), start(11), vec![9; 70])
            .unwrap();
        let mut out = Writer::new();
        two.write(&mut out);
        let bytes = out.into_bytes();
        assert_eq!(Lineage::read(&mut Reader::new(&bytes)).unwrap(), two);
        for cut in 0..bytes.len() {
            assert!(Lineage::read(&mut Reader::new(&bytes[..cut])).is_err());
        }
    }
}
