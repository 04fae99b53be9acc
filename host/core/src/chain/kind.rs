//! What machine a transaction is for (`type` on the wire, `vmtype` in the signed text).

/// Kinds in the platform's numbering (it enters the transaction hash).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Ethereum virtual machine; without payload a value transfer.
    Evm = 0,
    /// Java virtual machine (old).
    Jvm = 1,
    /// Java virtual machine.
    Hvm = 2,
    /// Built-in contracts.
    Bvm = 3,
    /// Plain value transfer.
    Transfer = 4,
    /// SQL on the chain.
    KvSql = 5,
    /// WASM contracts of the platform.
    Fvm = 6,
}

const NAMES: [(Kind, &str); 7] = [
    (Kind::Evm, "EVM"),
    (Kind::Jvm, "JVM"),
    (Kind::Hvm, "HVM"),
    (Kind::Bvm, "BVM"),
    (Kind::Transfer, "TRANSFER"),
    (Kind::KvSql, "KVSQL"),
    (Kind::Fvm, "FVM"),
];

impl Kind {
    /// The name in signed texts and answers.
    pub fn as_str(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// The kind of a name, whatever its case.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, n)| n.eq_ignore_ascii_case(name))
            .map(|(k, _)| *k)
    }

    /// The kind of a number in an encoded transaction.
    pub fn from_number(number: u8) -> Option<Self> {
        NAMES.get(usize::from(number)).map(|(k, _)| *k)
    }
}
