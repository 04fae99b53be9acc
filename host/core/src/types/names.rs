//! Validated names and fixed-size identities.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name of a namespace or host, bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// A name that cannot be a namespace or hostname.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not valid: 1 to 64 letters, digits, '_', '-' or '.', beginning with a letter or digit")]
pub struct MalformedName {
    /// `namespace` or `hostname`.
    pub what: &'static str,
    /// What was given (cut to 80 characters).
    pub name: String,
}

fn check(what: &'static str, name: &str) -> Result<(), MalformedName> {
    let first = name.bytes().next();
    let ok = name.len() <= NAME_BYTES_MAX
        && first.is_some_and(|b| b.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if ok {
        Ok(())
    } else {
        Err(MalformedName {
            what,
            name: name.chars().take(80).collect(),
        })
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks and wraps `name`.
            pub fn new(name: &str) -> Result<Self, MalformedName> {
                check($what, name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = MalformedName;
            fn try_from(name: String) -> Result<Self, MalformedName> {
                Self::new(&name)
            }
        }

        impl std::str::FromStr for $name {
            type Err = MalformedName;
            fn from_str(name: &str) -> Result<Self, MalformedName> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// Name of a namespace (partition); cheap to clone.
    Namespace,
    "namespace"
);
name_type!(
    /// Hostname of a node, as its peers and its configuration know it; cheap to clone.
    Hostname,
    "hostname"
);

/// A 32-byte BLAKE3 digest (of a record header, a part, or a state accumulator).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// All zero: the parent of a genesis record, the digest of an absent part.
    pub const ZERO: Digest = Digest([0; 32]);

    /// BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// First 8 hex digits, for log lines.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// 128 random bits of a provider's first start; taken over at an upgrade.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 16]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who speaks under a hostname: the number grows with each promotion, the random id tells two promotions to the same number apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation {
    /// 1 at a provider's first start; plus one at each promotion.
    pub number: u64,
    /// 128 random bits drawn when the incarnation began.
    pub id: [u8; 16],
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, hex::encode(self.id))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, hex::encode(&self.id[..4]))
    }
}

/// A place in a chain: height and the record hash (digest of the header) there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Position {
    /// Height of the record.
    pub height: u64,
    /// Hash of the record's header.
    pub hash: Digest,
}

/// What a node is in one namespace (`self.type` of ns_dynamic.toml; case-insensitive there).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Validating peer: makes blocks.
    Vp,
    /// Non-validating peer: follows a provider.
    Nvp,
    /// Hot standby of a VP or NVP.
    Cvp,
}

impl NodeRole {
    /// As configuration, status and RPC spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeRole::Vp => "vp",
            NodeRole::Nvp => "nvp",
            NodeRole::Cvp => "cvp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        for good in ["global", "ns1", "node-1.org_2", "0a"] {
            assert!(Namespace::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "..", "a/b", "-a", "a b", "ä", long.as_str()] {
            assert!(Hostname::new(bad).is_err(), "{bad}");
        }
    }
}
