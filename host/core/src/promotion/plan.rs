//! What a promotion will do, fixed before its first effect, so that a resumed one does the same.

use std::collections::BTreeSet;

use crate::session::{Binding, SIGNATURE_BYTES_MAX, TakeOver};
use crate::types::{Hostname, Incarnation, Malformed, Namespace, NodeId, NodeRole, Position, Reader, Refusal, Writer};

/// Most namespaces of one node.
const NAMESPACES_MAX: usize = 1024;
/// Most addresses of the old provider.
const ADDRESSES_MAX: usize = 64;
/// Longest `"<hostname> <host:port>"`, bytes.
const ADDRESS_BYTES_MAX: usize = 512;
/// Longest reason of a held namespace, bytes.
const REASON_BYTES_MAX: usize = 512;

/// One namespace at the moment of the take-over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedNamespace {
    /// Its name.
    pub name: Namespace,
    /// What the provider was there, and what this node becomes.
    pub role: NodeRole,
    /// Last block that is durable here: the take-over block is its child.
    pub durable: Position,
}

/// A namespace of the provider that cannot be taken over now. It does not run until a later promotion takes it over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldNamespace {
    /// Its name.
    pub name: Namespace,
    /// What the provider was there, and what this node becomes once it can.
    pub role: NodeRole,
    /// Why not, in words.
    pub reason: String,
}

impl HeldNamespace {
    /// With as much of the reason as a journal keeps.
    pub fn new(name: Namespace, role: NodeRole, reason: impl Into<String>) -> HeldNamespace {
        HeldNamespace {
            name,
            role,
            reason: shortened(reason.into()),
        }
    }

    /// Appends the journal form.
    pub(super) fn write(&self, out: &mut Writer) {
        out.namespace(&self.name);
        out.u8(role_code(self.role));
        out.text(&self.reason);
    }

    /// Reads the journal form.
    pub(super) fn read(input: &mut Reader<'_>) -> Result<HeldNamespace, Malformed> {
        Ok(HeldNamespace {
            name: input.namespace()?,
            role: role_from_code(input.u8()?)?,
            reason: input.text(REASON_BYTES_MAX)?.to_owned(),
        })
    }
}

/// Everything a promotion needs, written with the journal's first entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The provider's node-id, taken over.
    pub node_id: NodeId,
    /// The provider's hostname, taken over.
    pub hostname: Hostname,
    /// Hostname this node had as a receiver.
    pub own_hostname: Hostname,
    /// Incarnation that the provider spoke under.
    pub old: Incarnation,
    /// Incarnation drawn for this promotion.
    pub new: Incarnation,
    /// Entries of `cvp.remote` before it is emptied (`"node1 10.0.0.1:50011"`): where the take-over notice goes.
    pub old_addresses: Vec<String>,
    /// The provider's namespaces that are taken over.
    pub namespaces: Vec<PlannedNamespace>,
    /// Those that cannot be.
    pub held: Vec<HeldNamespace>,
    /// It takes over what an earlier promotion to the same incarnation had to hold; the node serves already.
    pub late: bool,
    /// What the provider's list names and was never copied: nothing of it begins here before the operator has decided.
    pub uncopied: BTreeSet<Namespace>,
    /// Of the take-over, with the provider's node key; empty when this node has none.
    pub signature: Vec<u8>,
}

impl Plan {
    /// The plan of a receiver with this binding and these namespaces, to be signed by who has the key; what was never copied is added by who
    /// knows the provider's list. `id` is drawn at random.
    ///
    /// # Errors
    /// The provider never told its incarnation.
    pub fn draft(
        binding: &Binding,
        own_hostname: Hostname,
        old_addresses: Vec<String>,
        namespaces: Vec<PlannedNamespace>,
        held: Vec<HeldNamespace>,
        id: [u8; 16],
    ) -> Result<Plan, Refusal> {
        let old = binding.lineage.current().ok_or_else(|| {
            Refusal::new(
                "no-incarnation",
                "the provider never told its incarnation",
                "let this node attach once more",
            )
        })?;
        Ok(Plan {
            node_id: binding.node_id,
            hostname: binding.hostname.clone(),
            own_hostname,
            old,
            new: Incarnation {
                number: old.number + 1,
                id,
            },
            old_addresses,
            namespaces,
            held,
            late: false,
            uncopied: BTreeSet::new(),
            signature: Vec::new(),
        })
    }

    /// The plan that takes over `namespaces` of what the promotion of this plan held, and holds the rest on.
    pub fn late(&self, namespaces: Vec<PlannedNamespace>, held: Vec<HeldNamespace>) -> Plan {
        Plan {
            namespaces,
            held,
            late: true,
            ..self.clone()
        }
    }

    /// Appends the journal form.
    pub(super) fn write(&self, out: &mut Writer) {
        out.node_id(&self.node_id);
        out.hostname(&self.hostname);
        out.hostname(&self.own_hostname);
        out.incarnation(&self.old);
        out.incarnation(&self.new);
        out.u32(self.old_addresses.len() as u32);
        for address in &self.old_addresses {
            out.text(address);
        }
        out.u32(self.namespaces.len() as u32);
        for namespace in &self.namespaces {
            out.namespace(&namespace.name);
            out.u8(role_code(namespace.role));
            out.u64(namespace.durable.height);
            out.digest(&namespace.durable.hash);
        }
        out.bytes(&self.signature);
        out.u32(self.held.len() as u32);
        for held in &self.held {
            held.write(out);
        }
        out.flag(self.late);
        out.u32(self.uncopied.len() as u32);
        for name in &self.uncopied {
            out.namespace(name);
        }
    }

    /// The node that this plan takes over from, in words: its address where one is known.
    pub fn predecessor(&self) -> String {
        if self.old_addresses.is_empty() {
            return self.hostname.to_string();
        }
        self.old_addresses.join(", ")
    }

    /// What the old provider is told, and what the signature is of.
    pub fn take_over(&self) -> TakeOver {
        TakeOver {
            node_id: self.node_id,
            hostname: self.hostname.clone(),
            old: self.old,
            new: self.new,
            signature: self.signature.clone(),
        }
    }

    /// Reads the journal form.
    pub(super) fn read(input: &mut Reader<'_>) -> Result<Plan, Malformed> {
        let node_id = input.node_id()?;
        let hostname = input.hostname()?;
        let own_hostname = input.hostname()?;
        let old = input.incarnation()?;
        let new = input.incarnation()?;
        let count = input.count(ADDRESSES_MAX, 4)?;
        let old_addresses = (0..count)
            .map(|_| input.text(ADDRESS_BYTES_MAX).map(str::to_owned))
            .collect::<Result<_, _>>()?;
        let count = input.count(NAMESPACES_MAX, 46)?;
        let namespaces = (0..count)
            .map(|_| {
                Ok(PlannedNamespace {
                    name: input.namespace()?,
                    role: role_from_code(input.u8()?)?,
                    durable: Position {
                        height: input.u64()?,
                        hash: input.digest()?,
                    },
                })
            })
            .collect::<Result<_, Malformed>>()?;
        let signature = input.bytes(SIGNATURE_BYTES_MAX)?.to_vec();
        // A plan of before namespaces could be held ends here.
        let (mut held, mut late) = (Vec::new(), false);
        if input.remaining() > 0 {
            let count = input.count(NAMESPACES_MAX, 9)?;
            held = (0..count)
                .map(|_| HeldNamespace::read(input))
                .collect::<Result<_, _>>()?;
            late = input.flag()?;
        }
        // And one of before it was remembered what was never copied, here.
        let mut uncopied = BTreeSet::new();
        if input.remaining() > 0 {
            let count = input.count(NAMESPACES_MAX, 5)?;
            uncopied = (0..count).map(|_| input.namespace()).collect::<Result<_, _>>()?;
        }
        Ok(Plan {
            node_id,
            hostname,
            own_hostname,
            old,
            new,
            old_addresses,
            namespaces,
            held,
            late,
            uncopied,
            signature,
        })
    }

    /// The rule that does not hold, if any: bounds of the journal form, and the new incarnation follows the old one.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        if self.new.number <= self.old.number {
            return Err(Malformed::new("the new incarnation does not follow the old one"));
        }
        if self.namespaces.len() + self.held.len() > NAMESPACES_MAX || self.old_addresses.len() > ADDRESSES_MAX {
            return Err(Malformed::new("too many namespaces or addresses"));
        }
        if self.uncopied.len() > NAMESPACES_MAX {
            return Err(Malformed::new("too many namespaces that were never copied"));
        }
        if self.signature.len() > SIGNATURE_BYTES_MAX {
            return Err(Malformed::new("the signature is too long"));
        }
        if self.held.iter().any(|held| held.reason.len() > REASON_BYTES_MAX) {
            return Err(Malformed::new("the reason of a held namespace is too long"));
        }
        if self.old_addresses.iter().any(|a| a.len() > ADDRESS_BYTES_MAX) {
            return Err(Malformed::new("an address is too long"));
        }
        Ok(())
    }
}

/// `text`, cut behind a word, with the sign that it was cut, where it is longer than a journal keeps.
fn shortened(mut text: String) -> String {
    const MORE: &str = " …";
    if text.len() <= REASON_BYTES_MAX {
        return text;
    }
    let end = text.floor_char_boundary(REASON_BYTES_MAX - MORE.len());
    // A word that is most of it is cut in itself.
    let word = text[..end].rfind(' ').filter(|word| *word >= end / 2);
    let end = word.unwrap_or(end);
    text.truncate(end);
    text.push_str(MORE);
    text
}

fn role_code(role: NodeRole) -> u8 {
    match role {
        NodeRole::Vp => 1,
        NodeRole::Nvp => 2,
        NodeRole::Cvp => 3,
    }
}

fn role_from_code(code: u8) -> Result<NodeRole, Malformed> {
    match code {
        1 => Ok(NodeRole::Vp),
        2 => Ok(NodeRole::Nvp),
        3 => Ok(NodeRole::Cvp),
        other => Err(Malformed::new(format!("role byte {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_behind_a_word_and_says_so() {
        let held = |reason: &str| HeldNamespace::new(Namespace::new("ns1").unwrap(), NodeRole::Vp, reason).reason;
        assert_eq!(held("its disk failed"), "its disk failed");
        let whole = "x".repeat(REASON_BYTES_MAX);
        assert_eq!(held(&whole), whole);
        let words = held(&"Größe ".repeat(200));
        assert!(words.ends_with("Größe …") && words.len() <= REASON_BYTES_MAX, "{words}");
        let one = held(&format!("bad: {}", "ö".repeat(600)));
        assert!(one.ends_with("ö …") && one.len() > REASON_BYTES_MAX - 8, "{one}");
        for reason in [words, one] {
            let held = HeldNamespace::new(Namespace::new("ns1").unwrap(), NodeRole::Vp, reason);
            let mut out = Writer::new();
            held.write(&mut out);
            let bytes = out.into_bytes();
            assert_eq!(HeldNamespace::read(&mut Reader::new(&bytes)).unwrap(), held);
        }
    }
}
