//! The frame: the unit the two ends of a link exchange. A fixed header, then a payload.
//!
//! Owns the header's bytes, the kinds, the bound of each kind and the checksum of plain links (docs/formats/frames.md). Every length is
//! checked before anything is allocated. Does not read sockets and does not know what a payload means.

mod header;
mod reader;

use bytes::Bytes;

use crate::types::{Digest, Namespace};

pub use header::{FrameHeader, HEADER_BYTES, MAGIC};
pub use reader::{FrameReader, Parsed};

/// Largest payload of a records frame: one record of the largest size, and slack for the end of a smaller run before it.
pub const RECORDS_PAYLOAD_BYTES_MAX: usize = (64 << 20) + (64 << 10);

/// What the host aims at for one records frame when records are small: large enough that the cost of a frame vanishes, small enough that
/// a heartbeat behind it waits for milliseconds only.
pub const RECORDS_PAYLOAD_BYTES_TARGET: usize = 2 << 20;

/// Largest payload of an unknown kind that says it may be skipped.
pub const OPTIONAL_PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Flag: a node that does not know the kind skips the frame instead of closing the link.
pub const FLAG_OPTIONAL: u8 = 1;

/// Flag: the checksum field holds a checksum (plain links; TLS has its own).
pub const FLAG_CHECKSUM: u8 = 2;

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// First frame of a session, from the dialling receiver; answered by the provider's own.
    Hello,
    /// The receiver's yes to the provider's hello: streaming begins.
    Verdict,
    /// Why the link is closed: a refusal.
    Goodbye,
    /// Each end's heights, hashes and reasons.
    Heartbeat,
    /// The receiver's wish: a span and the bytes that may be under way.
    Fetch,
    /// Encoded records, back to back, as they are stored.
    Records,
    /// What is durable at the receiver.
    Ack,
    /// One namespace's stream stops, with the reason; the session goes on.
    Halt,
    /// A message between the two halves of a strategy.
    StrategyMessage,
    /// A strategy changed on one end.
    StrategyState,
    /// Who are you, and is my place taken: one claim, on a link of its own.
    Question,
    /// The answer to a question or a notice: the own claim.
    Answer,
    /// A promoted node tells its predecessor's address that the place is taken.
    Notice,
    /// Strong change: stage this.
    Prepare,
    /// Strong change: staged durably.
    Prepared,
    /// Strong change: it is committed at the provider.
    Commit,
    /// Strong change: drop what is staged.
    Abort,
    /// Strong change: dropped durably.
    Aborted,
    /// A piece of a state snapshot.
    SnapshotChunk,
    /// What the provider's tree of configuration and certificates holds.
    Inventory,
    /// The receiver asks for a file of it.
    FileRequest,
    /// A file of it.
    File,
    /// The receiver's copy is this tree, or what keeps it from being.
    TreeHeld,
    /// Strong change: what the receiver holds staged, its first word in a session.
    Staged,
    /// How one namespace's index is at the sender.
    IndexState,
    /// A follower passes a client's transaction on to the node that makes the blocks.
    PassOn,
    /// What that node says to it.
    Passed,
    /// A namespace's message queues, as the provider has them.
    Queues,
    /// How far each of them was told.
    Cursors,
    /// A namespace's message queues, as the receiver holds them.
    QueuesKept,
    /// How far each of a namespace's message queues was told, as the receiver's disk has it.
    CursorsKept,
    /// What the provider keeps of a namespace, and could hand over.
    SnapshotOffer,
    /// The receiver wants a snapshot, or goes on with one.
    SnapshotFetch,
    /// So much of a snapshot is durable at the receiver; or it stands on it.
    SnapshotAck,
    /// What the snapshot that comes consists of.
    SnapshotManifest,
    /// The receiver wants older records.
    HistoryFetch,
    /// Older records.
    History,
    /// The receiver wants the headers between a snapshot and the provider's tip.
    HeadersFetch,
    /// Headers.
    Headers,
    /// A kind of a later release.
    Unknown(u8),
}

impl Kind {
    /// Byte on the wire.
    pub fn code(self) -> u8 {
        match self {
            Kind::Hello => 1,
            Kind::Verdict => 2,
            Kind::Goodbye => 3,
            Kind::Heartbeat => 4,
            Kind::Fetch => 5,
            Kind::Records => 6,
            Kind::Ack => 7,
            Kind::Halt => 8,
            Kind::StrategyMessage => 9,
            Kind::StrategyState => 10,
            Kind::Question => 11,
            Kind::Answer => 12,
            Kind::Notice => 13,
            Kind::Prepare => 14,
            Kind::Prepared => 15,
            Kind::Commit => 16,
            Kind::Abort => 17,
            Kind::Aborted => 18,
            Kind::SnapshotChunk => 19,
            Kind::Inventory => 20,
            Kind::FileRequest => 21,
            Kind::File => 22,
            Kind::TreeHeld => 23,
            Kind::Staged => 24,
            Kind::IndexState => 25,
            Kind::PassOn => 26,
            Kind::Passed => 27,
            Kind::Queues => 28,
            Kind::Cursors => 29,
            Kind::QueuesKept => 34,
            Kind::CursorsKept => 40,
            Kind::SnapshotOffer => 30,
            Kind::SnapshotFetch => 31,
            Kind::SnapshotAck => 32,
            Kind::SnapshotManifest => 33,
            Kind::HistoryFetch => 36,
            Kind::History => 37,
            Kind::HeadersFetch => 38,
            Kind::Headers => 39,
            Kind::Unknown(code) => code,
        }
    }

    /// From the byte on the wire.
    pub fn from_code(code: u8) -> Kind {
        const KNOWN: [Kind; 25] = [
            Kind::Hello,
            Kind::Verdict,
            Kind::Goodbye,
            Kind::Heartbeat,
            Kind::Fetch,
            Kind::Records,
            Kind::Ack,
            Kind::Halt,
            Kind::StrategyMessage,
            Kind::StrategyState,
            Kind::Question,
            Kind::Answer,
            Kind::Notice,
            Kind::Prepare,
            Kind::Prepared,
            Kind::Commit,
            Kind::Abort,
            Kind::Aborted,
            Kind::SnapshotChunk,
            Kind::Inventory,
            Kind::FileRequest,
            Kind::File,
            Kind::TreeHeld,
            Kind::Staged,
            Kind::IndexState,
        ];
        match code {
            26 => return Kind::PassOn,
            27 => return Kind::Passed,
            28 => return Kind::Queues,
            29 => return Kind::Cursors,
            34 => return Kind::QueuesKept,
            40 => return Kind::CursorsKept,
            30 => return Kind::SnapshotOffer,
            31 => return Kind::SnapshotFetch,
            32 => return Kind::SnapshotAck,
            33 => return Kind::SnapshotManifest,
            36 => return Kind::HistoryFetch,
            37 => return Kind::History,
            38 => return Kind::HeadersFetch,
            39 => return Kind::Headers,
            _ => {}
        }
        usize::from(code)
            .checked_sub(1)
            .and_then(|index| KNOWN.get(index).copied())
            .unwrap_or(Kind::Unknown(code))
    }

    /// Largest payload a reader accepts, bytes. A provider takes no records and no snapshots, so nothing large can reach it.
    pub fn payload_bytes_max(self, reader: Side) -> usize {
        match (self, reader) {
            (Kind::Records | Kind::History, Side::Receiver) => RECORDS_PAYLOAD_BYTES_MAX,
            (Kind::SnapshotManifest, Side::Receiver) => RECORDS_PAYLOAD_BYTES_MAX + (8 << 20),
            (Kind::SnapshotChunk, Side::Receiver) => 4 << 20,
            (Kind::Inventory | Kind::File, Side::Receiver) => (4 << 20) + (64 << 10),
            (Kind::Queues | Kind::Headers, Side::Receiver) => 1 << 20,
            (Kind::Cursors, Side::Receiver) | (Kind::CursorsKept, Side::Provider) => 64 << 10,
            (
                Kind::Records
                | Kind::History
                | Kind::Headers
                | Kind::SnapshotManifest
                | Kind::SnapshotOffer
                | Kind::SnapshotChunk
                | Kind::Inventory
                | Kind::File
                | Kind::Passed
                | Kind::Queues
                | Kind::Cursors,
                Side::Provider,
            ) => 0,
            (Kind::QueuesKept, Side::Provider) => 1 << 20,
            (Kind::PassOn | Kind::QueuesKept | Kind::CursorsKept, Side::Receiver) => 0,
            (Kind::Hello, _) => 4 << 20,
            (Kind::StrategyMessage | Kind::Prepare | Kind::PassOn, _) => (1 << 20) + 1024,
            (Kind::Heartbeat, _) => 1 << 20,
            (Kind::StrategyState | Kind::Verdict, _) => 64 << 10,
            (Kind::Unknown(_), _) => OPTIONAL_PAYLOAD_BYTES_MAX,
            (
                Kind::Goodbye
                | Kind::Question
                | Kind::Answer
                | Kind::Notice
                | Kind::Fetch
                | Kind::Ack
                | Kind::Halt
                | Kind::Prepared
                | Kind::Commit
                | Kind::Abort
                | Kind::Aborted
                | Kind::FileRequest
                | Kind::TreeHeld
                | Kind::Staged
                | Kind::IndexState
                | Kind::SnapshotOffer
                | Kind::SnapshotFetch
                | Kind::SnapshotAck
                | Kind::HistoryFetch
                | Kind::HeadersFetch
                | Kind::Passed,
                _,
            ) => 4 << 10,
        }
    }
}

/// Which end reads: it decides which kinds may be large.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Side {
    /// The online node, or a node asked or noticed on a link of its own.
    Provider,
    /// The standby, on the link it dialled.
    Receiver,
}

/// The first 8 bytes of a namespace's digest, little-endian; 0 for frames that belong to the whole node. Two namespaces of one node with
/// the same tag are refused when the machine is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, Default)]
pub struct NamespaceTag(pub u64);

impl NamespaceTag {
    /// The whole node.
    pub const NODE: NamespaceTag = NamespaceTag(0);

    /// Tag of a namespace.
    pub fn of(namespace: &Namespace) -> NamespaceTag {
        let mut text = b"cvp namespace v1".to_vec();
        text.extend_from_slice(namespace.as_str().as_bytes());
        let digest = Digest::of(&text);
        let mut first = [0; 8];
        first.copy_from_slice(&digest.0[..8]);
        NamespaceTag(u64::from_le_bytes(first))
    }
}

/// One frame. The payload is shared, never copied: what was read from a socket goes to the ledger as it is, and the reverse.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it is for.
    pub kind: Kind,
    /// `FLAG_OPTIONAL` or 0; the checksum flag is the link's business.
    pub flags: u8,
    /// Which namespace it belongs to.
    pub namespace: NamespaceTag,
    /// Records: the number of the fetch they answer. Other kinds: 0.
    pub stream: u32,
    /// The bytes behind the header.
    pub payload: Bytes,
}

impl Frame {
    /// A frame of the whole node.
    pub fn node(kind: Kind, payload: Vec<u8>) -> Frame {
        Frame::of(kind, NamespaceTag::NODE, 0, payload.into())
    }

    /// A frame of one namespace.
    pub fn of(kind: Kind, namespace: NamespaceTag, stream: u32, payload: Bytes) -> Frame {
        Frame {
            kind,
            flags: 0,
            namespace,
            stream,
            payload,
        }
    }

    /// The header's bytes, to be written before the payload; with a checksum over both on a plain link.
    pub fn encode_header(&self, checksum: bool) -> [u8; HEADER_BYTES] {
        FrameHeader::of(self).encode(checksum.then_some(&self.payload))
    }
}

/// Why bytes are no frame. The link is closed: after it the stream cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first two bytes are not ours.
    #[error("not a frame of ours (first bytes {found:02x?}); {hint}", hint = if found[0] == 0x16 { "the peer speaks TLS on a plain port: enableTLS must be the same on both nodes" } else { "the peer is no cvp node, or the stream is corrupt" })]
    Magic {
        /// What stood there.
        found: [u8; 2],
    },
    /// A length beyond the bound of its kind.
    #[error("frame {kind:?} of {length} bytes, at most {max} allowed")]
    TooLong {
        /// The kind.
        kind: Kind,
        /// What the header says.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// An unknown kind without the optional flag.
    #[error("unknown frame kind {0}, and it is not optional: the peer is of another release")]
    UnknownKind(u8),
    /// Flags this release does not know, or a reserved field that is not zero.
    #[error("frame header with {0} that this release does not know")]
    Reserved(&'static str),
    /// A plain link without checksum, or a checksum on a TLS link.
    #[error("frame {0}: enableTLS must be the same on both nodes")]
    ChecksumState(&'static str),
    /// The checksum does not match.
    #[error("frame {0:?} is damaged: its checksum does not match")]
    Checksum(Kind),
}
